"""Which destinations of a plan the kernel must hand to the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pylb.plan.tables import Delta, Frontend, FrontendKey, FrontendKind, Plan, Prefix
from pylb.plan.virtual import is_virtual, machines

_LOOPBACK = Prefix(127 << 24, 8)


class Targets(NamedTuple):
    """Virtual addresses, and the ports of real ones.

    ``vips`` begins with the service CIDR; VIPs outside it follow as /32.
    ``ports`` are frontends at an address that somebody else uses too (an
    externalIP that is an InternalIP, a redirected address): only those ports may
    be captured.  ``announced`` are the VIPs that this node answers ARP for.
    """

    vips: tuple[Prefix, ...]
    ports: tuple[FrontendKey, ...]
    announced: tuple[int, ...] = ()


def targets(plan: Plan) -> Targets:
    """The destinations of ``plan``, each sorted."""
    real = machines(plan)
    addresses: set[int] = set()
    ports: set[FrontendKey] = set()
    announced: set[int] = set()
    for key in _unusual(plan, plan.frontends):
        frontend = plan.frontends[key]
        if is_virtual(plan, frontend, real):
            addresses.add(key.address)
            if frontend.announced:
                announced.add(key.address)
        else:
            ports.add(key)
    vips = (plan.service_cidr, *(Prefix(address, 32) for address in sorted(addresses)))
    return Targets(vips, tuple(sorted(ports)), tuple(sorted(announced)))


def _unusual(plan: Plan, keys: Iterable[FrontendKey]) -> Iterable[FrontendKey]:
    """Frontends that neither the service CIDR nor the NodePort range covers."""
    first, last = plan.node_ports
    for key in keys:
        if key.address in plan.service_cidr or key.address in _LOOPBACK:
            continue
        frontend = plan.frontends.get(key)
        is_node_port = frontend is not None and frontend.kind is FrontendKind.NODE_PORT
        if (is_node_port or key.address == plan.node_ip) and first <= key.port <= last:
            continue
        yield key


def affects(plan: Plan, delta: Delta) -> bool:
    """True when plumbing for ``plan`` may have to change with ``delta``.

    Frontends inside the service CIDR and the NodePort range come and go without.
    """
    if delta.replace is not None or delta.peers:
        return True
    changed = (
        key
        for key, frontend in delta.frontends.items()
        if _captured(frontend) != _captured(plan.frontends.get(key))
    )
    return any(True for _ in _unusual(plan, changed))


def _captured(frontend: Frontend | None) -> object:
    """What of a frontend decides how it is captured."""
    if frontend is None:
        return None
    return frontend.kind is FrontendKind.LOCAL_REDIRECT, frontend.announced
