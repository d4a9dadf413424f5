"""Which destinations of a plan the kernel must hand to the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pylb.plan.tables import Delta, FrontendKey, FrontendKind, Plan, Prefix

_LOOPBACK = Prefix(127 << 24, 8)


class Targets(NamedTuple):
    """Virtual addresses, and the ports of real ones.

    ``vips`` begins with the service CIDR; VIPs outside it follow as /32.
    ``ports`` are frontends at an address that a node also uses itself (an
    externalIP that is an InternalIP): only those ports may be captured.
    """

    vips: tuple[Prefix, ...]
    ports: tuple[FrontendKey, ...]


def targets(plan: Plan) -> Targets:
    """The destinations of ``plan``, each sorted."""
    real = {plan.node_ip, *(peer.address for peer in plan.peers.values())}
    addresses: set[int] = set()
    ports: set[FrontendKey] = set()
    for key in _unusual(plan, plan.frontends):
        if key.address in real:
            ports.add(key)
        else:
            addresses.add(key.address)
    vips = (plan.service_cidr, *(Prefix(address, 32) for address in sorted(addresses)))
    return Targets(vips, tuple(sorted(ports)))


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
        if (frontend is None) is (key in plan.frontends)
    )
    return any(True for _ in _unusual(plan, changed))
