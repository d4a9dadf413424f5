"""The kinds of object that the command line names, in all their spellings."""

from __future__ import annotations

from dataclasses import dataclass

from pylb.cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: as manifests, the user and results call it."""

    name: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    group: str = ""

    @property
    def resource(self) -> str:
        """The word before the slash in ``service/web``."""
        word = self.name.lower()
        return f"{word}.{self.group}" if self.group else word


NODE = Kind("Node", "nodes", ("no",), namespaced=False)
POD = Kind("Pod", "pods", ("po",))
SERVICE = Kind("Service", "services", ("svc",))
ENDPOINT_SLICE = Kind("EndpointSlice", "endpointslices", ("eps",), group="discovery.k8s.io")

SHOWN = (NODE, POD, SERVICE, ENDPOINT_SLICE)
"""What `pylb get` knows."""

_OTHERS = (
    Kind("Endpoints", "endpoints", ("ep",)),
    Kind("Deployment", "deployments", ("deploy",), group="apps"),
    Kind("ReplicaSet", "replicasets", ("rs",), group="apps"),
    Kind("Lab", "labs", namespaced=False, group="pylb.io"),
    Kind(
        "CiliumLocalRedirectPolicy",
        "ciliumlocalredirectpolicies",
        ("clrp",),
        group="cilium.io",
    ),
)


def named(name: str) -> Kind:
    """The kind whose ``kind:`` is ``name``; one made up for it when pylb has none."""
    for kind in SHOWN + _OTHERS:
        if kind.name == name:
            return kind
    return Kind(name, f"{name.lower()}s")


def spelled(word: str, among: tuple[Kind, ...] = SHOWN + _OTHERS) -> Kind:
    """The kind that the user means by ``word``; raises `CliError` with status 2."""
    lower = word.lower()
    for kind in among:
        if lower in (kind.name.lower(), kind.plural, kind.resource, *kind.short):
            return kind
    listed = ", ".join(kind.plural for kind in among)
    raise CliError(f"{word!r} is no kind of object: expected one of {listed}", status=2)
