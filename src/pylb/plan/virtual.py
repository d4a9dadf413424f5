"""Which frontends have an address that is nobody's: a virtual one.

A packet to a virtual address is answered or dropped here, whatever its port, and
never written back.  Not so where the address is also a machine's: that of a node
(a NodePort, an externalIP that is an InternalIP), or one that is only redirected
while some local pod serves it, and otherwise reached as before.
"""

from __future__ import annotations

from collections.abc import Collection

from pylb.plan.tables import Frontend, FrontendKind, Plan

_LOOPBACK = 0x7F


def machines(plan: Plan) -> frozenset[int]:
    """The nodes' own addresses but for 127/8."""
    peers = (peer.address for peer in plan.peers.values())
    return frozenset((plan.node_ip, plan.bridge_ip, *peers))


def is_virtual(plan: Plan, frontend: Frontend, real: Collection[int]) -> bool:
    """True for a frontend at a virtual address; ``real`` is `machines` of the plan."""
    address = frontend.key.address
    if address >> 24 == _LOOPBACK or address in real:
        return False
    return frontend.kind is not FrontendKind.LOCAL_REDIRECT or address in plan.service_cidr
