"""What a lab's namespaces, folders and links are called.

A *place* is anything that a command can be run in: a node, a pod, ``client``,
``router`` or an outside host.  Its namespace is ``LAB-PLACE``; a pod's place is
its name in the namespace ``default``, and ``NAMESPACE.POD`` elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from pylb.control.paths import LabPaths
from pylb.lab.errors import LabError
from pylb.policy.model import Key, Policy

CLIENT = "client"
ROUTER = "router"

_LAB_NAME = re.compile(r"[a-z0-9]([a-z0-9_.]{0,30}[a-z0-9])?")
_LINK_NAME = 15
"""Characters that a link's name may have: Linux's IFNAMSIZ less its NUL."""
_TAKEN_LINKS = frozenset({"lo", "eth0", "cni0", "pylb0", "all", "default"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands run: its name, its namespace's name, its folder and its hostname."""

    name: str
    namespace: str
    folder: Path
    hostname: str


def check_lab_name(lab: str) -> None:
    """Raise `LabError` unless ``lab`` can name a lab."""
    if not _LAB_NAME.fullmatch(lab):
        raise LabError(
            f"lab name {lab!r}: expected 1 to 32 of a-z, 0-9, '_' and '.', "
            "with a letter or digit at both ends"
        )


def pod_place(key: Key) -> str:
    """The place of the pod (namespace, name)."""
    namespace, name = key
    return name if namespace == "default" else f"{namespace}.{name}"


def pod_folder(paths: LabPaths, key: Key) -> Path:
    """The folder of the pod (namespace, name)."""
    return paths.workload(f"{key[0]}.{key[1]}")


def places(lab: str, policy: Policy) -> dict[str, Place]:
    """Every place of a lab by name; raises `LabError` when two have one name."""
    paths = LabPaths(lab)
    found: dict[str, Place] = {}

    def add(name: str, folder: Path, hostname: str, what: str) -> None:
        if name in found:
            raise LabError(f"{what}: the name {name!r} is taken by another part of the lab")
        found[name] = Place(name, f"{lab}-{name}", folder, hostname)

    add(ROUTER, paths.workload(ROUTER), ROUTER, "router")
    add(CLIENT, paths.workload(CLIENT), CLIENT, "client")
    for node in policy.nodes.values():
        add(node.name, paths.node(node.name).root, node.name, f"Node {node.name}")
    for host in policy.lab.outside:
        add(host.name, paths.workload(host.name), host.name, f"Lab: outside host {host.name}")
    for pod in policy.pods.values():
        hostname = (pod.hostname or pod.name)[:63].rstrip("-.")
        what = f"Pod {pod.namespace}/{pod.name}"
        add(pod_place(pod.key), pod_folder(paths, pod.key), hostname, what)
    return found


def spellings(where: str) -> tuple[str, ...]:
    """The places that ``where`` may mean: ``web-1``, ``default/web-1``, ``ns/web``, ``ns.web``."""
    dotted = where.replace("/", ".", 1)
    return tuple(dict.fromkeys((where, dotted, dotted.removeprefix("default."))))


def find(lab: str, where: str, namespaces: Iterable[str]) -> Place:
    """The place that ``where`` means among the namespaces that the lab has.

    Needs no controller: the folders tell the rest.  Raises `LabError`.
    """
    known = sorted(name.removeprefix(f"{lab}-") for name in namespaces)
    for name in spellings(where):
        if name in known:
            folder = _folder(LabPaths(lab), name)
            try:
                hostname = (folder / "hostname").read_text().strip()
            except OSError as error:
                raise LabError(f"{where}: its folder is damaged: {error}") from None
            return Place(name, f"{lab}-{name}", folder, hostname)
    raise LabError(f"lab {lab!r} has no {where!r}: expected one of {', '.join(known)}")


def _folder(paths: LabPaths, name: str) -> Path:
    choices = (paths.node(name).root, paths.workload(f"default.{name}"), paths.workload(name))
    return next((c for c in choices if (c / "hostname").exists()), choices[-1])


def link_name(place: str) -> str:
    """The name of the link that leads to ``place``: the same when it fits and is free.

    Otherwise its first ten characters and four that are keyed by all of it.
    """
    if len(place) <= _LINK_NAME and place not in _TAKEN_LINKS and not place.isdigit():
        return place
    digest = hashlib.blake2s(place.encode(), digest_size=2).hexdigest()
    return f"{place[:10]}~{digest}"


def mac(kind: int, address: IPv4Address) -> str:
    """A locally administered MAC: two bytes that say what it is, then the IPv4 address."""
    return ":".join(f"{byte:02x}" for byte in kind.to_bytes(2, "big") + address.packed)


POD_MAC = 0x0A58
"""A pod's eth0 and a node's cni0, as the CNI plugins name theirs."""
POD_PORT_MAC = 0x0A59
"""The node's end of a pod's link."""
UNDERLAY_MAC = 0x0200
"""The eth0 of a node, the client or an outside host, and the router's bridge."""
UNDERLAY_PORT_MAC = 0x0201
"""The router's end of their links."""
