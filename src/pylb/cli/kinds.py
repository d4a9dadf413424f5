"""The kinds of object that the command line names, in all their spellings."""

from __future__ import annotations

from collections.abc import Sequence
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

    @property
    def full_plural(self) -> str:
        """The plural with the group, as errors name a kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NODE = Kind("Node", "nodes", ("no",), namespaced=False)
POD = Kind("Pod", "pods", ("po",))
SERVICE = Kind("Service", "services", ("svc",))
ENDPOINT_SLICE = Kind("EndpointSlice", "endpointslices", ("eps",), group="discovery.k8s.io")

ENDPOINTS = Kind("Endpoints", "endpoints", ("ep",))
DEPLOYMENT = Kind("Deployment", "deployments", ("deploy",), group="apps")
REPLICA_SET = Kind("ReplicaSet", "replicasets", ("rs",), group="apps")
LOCAL_REDIRECT = Kind(
    "CiliumLocalRedirectPolicy", "ciliumlocalredirectpolicies", ("clrp",), group="cilium.io"
)
ADDRESS_POOL = Kind("IPAddressPool", "ipaddresspools", group="metallb.io")
LAB = Kind("Lab", "labs", namespaced=False, group="pylb.io")

KINDS = (
    NODE,
    POD,
    SERVICE,
    ENDPOINT_SLICE,
    ENDPOINTS,
    DEPLOYMENT,
    REPLICA_SET,
    LOCAL_REDIRECT,
    ADDRESS_POOL,
    LAB,
)
"""What is acted on, and so may be asked for and deleted by name."""

ALL = (POD, SERVICE, DEPLOYMENT, REPLICA_SET)
"""What ``all`` means to kubectl."""

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


def one(word: str) -> Kind:
    """The kind that a word means; raises `CliError` with status 2."""
    found = spelled(word)
    if len(found) != 1:
        raise CliError(f"{word!r}: expected one kind of object", status=2)
    return found[0]


def wanted(kind: str, names: Sequence[str]) -> list[tuple[Kind, list[str]]]:
    """What a command line asks for: ``KIND [NAME...]``, ``KIND,KIND`` or ``KIND/NAME...``.

    No names mean every object of the kind.  Raises `CliError` with status 2.
    """
    if "/" not in kind:
        if any("/" in name for name in names):
            raise CliError("expected KIND/NAME everywhere or nowhere", status=2)
        found = spelled(kind)
        if names and len(found) > 1:
            raise CliError("a NAME needs one KIND, or stands after it as KIND/NAME", status=2)
        return [(each, list(names)) for each in found]
    grouped: dict[Kind, list[str]] = {}
    for each in (kind, *names):
        word, slash, name = each.partition("/")
        if not slash or not name:
            raise CliError("expected KIND/NAME everywhere or nowhere", status=2)
        grouped.setdefault(one(word), []).append(name)
    return list(grouped.items())


def _one(word: str) -> Kind:
    lower = word.lower()
    for kind in KINDS:
        names = (kind.name.lower(), kind.plural, kind.resource, kind.full_plural, *kind.short)
        if lower in names:
            return kind
    raise CliError(f"{word!r} is no kind of object: expected one of {WORDS}", status=2)
