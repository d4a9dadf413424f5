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

ENDPOINTS = Kind("Endpoints", "endpoints", ("ep",))
DEPLOYMENT = Kind("Deployment", "deployments", ("deploy",), group="apps")
REPLICA_SET = Kind("ReplicaSet", "replicasets", ("rs",), group="apps")
LAB = Kind("Lab", "labs", namespaced=False, group="pylb.io")

KINDS = (NODE, POD, SERVICE, ENDPOINT_SLICE, ENDPOINTS, DEPLOYMENT, REPLICA_SET, LAB)
"""What is acted on, and so may be asked for and deleted by name."""

ALL = (NODE, POD, SERVICE)
"""What ``all`` means; the others are left out, as kubectl leaves out EndpointSlices."""

WORDS = ", ".join((*(kind.plural for kind in KINDS), "all"))
"""Every kind as help and errors list them."""


def named(name: str) -> Kind:
    """The kind whose ``kind:`` is ``name``; one made up for it when pylb has none."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    return Kind(name, f"{name.lower()}s")


def spelled(words: str) -> list[Kind]:
    """The kinds that the user means by ``words``, commas between them; "all" is `ALL`.

    Raises `CliError` with status 2.
    """
    found: list[Kind] = []
    for word in words.split(","):
        some = ALL if word.lower() == "all" else (_one(word),)
        found += [kind for kind in some if kind not in found]
    return found


def _one(word: str) -> Kind:
    lower = word.lower()
    for kind in KINDS:
        if lower in (kind.name.lower(), kind.plural, kind.resource, *kind.short):
            return kind
    raise CliError(f"{word!r} is no kind of object: expected one of {WORDS}", status=2)
