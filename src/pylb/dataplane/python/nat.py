"""Which source a new flow gets, and finding one that no other flow uses.

The first half is a table (docs/architecture.md has it in words): who asks, for
what, and where the backend is decide the source address and whether the port is
kept.  The second half finds a reply tuple that is free, in an order that is
specified exactly, because the native dataplane must find the same one:

1. Where the port is kept, the flow's own port.
2. Then the ports of the range, one after the other and around, from
   ``low + SipHash-2-4(secret, "s" + original tuple) mod size``.  The first whose
   reply tuple is free is taken.
3. Then the same walk once more, taking the first whose reply tuple belongs to a
   TCP flow in TIME_WAIT; that flow is destroyed.

A kept port that is not free is sought in its class: 1-511, 512-1023 or
1024-65535 (Linux ``nf_nat_core.c``, nf_nat_l4proto_unique_tuple); an ICMP
identifier in 0-65535.
"""

from __future__ import annotations

import enum
from itertools import chain
from typing import NamedTuple

from pylb.dataplane.base import FlowTuple
from pylb.dataplane.python import tcp
from pylb.dataplane.python.balance import tuple_bytes
from pylb.dataplane.python.conntrack import Table
from pylb.dataplane.python.packet import ICMP, TCP, WITH_PORTS, invert
from pylb.plan.tables import Backend, Frontend, FrontendKind, Plan
from pylb.wire.hash import siphash

_LOOPBACK = 0x7F000000


class Client(enum.Enum):
    """Who sent the first packet of a flow."""

    POD = 1
    HOST = 2
    OUTSIDE = 3


class Source(NamedTuple):
    """What a flow's source becomes; ``ports`` is an inclusive range, None: kept when free."""

    address: int
    ports: tuple[int, int] | None = None


def is_own(plan: Plan, address: int) -> bool:
    """The address is the node's itself: InternalIP, bridge or 127/8."""
    return address in (plan.node_ip, plan.bridge_ip) or (address & 0xFF000000) == _LOOPBACK


def client_of(plan: Plan, source: int) -> Client:
    """Where a packet from the node's TUN comes from, by its source address."""
    if is_own(plan, source):
        return Client.HOST
    return Client.POD if source in plan.pod_cidr else Client.OUTSIDE


def source_to_backend(
    plan: Plan, original: FlowTuple, frontend: Frontend, backend: Backend, to_pod: bool
) -> Source:
    """The source of a flow that goes to a backend (DESIGN decision 3).

    ``to_pod``: the backend is a pod, of any node.  One outside the cluster knows
    neither pods nor tunnel ends, so it sees the node, from a port that brings the
    answer back to the daemon.  A process of the node itself, which is a backend by
    the node's own address, would answer the node past the daemon: it sees the
    tunnel's end.
    """
    client = client_of(plan, original.src)
    if is_own(plan, backend.address):
        return Source(plan.tunnel_ip)
    if not to_pod:
        if client is Client.POD and not plan.masquerade:
            return Source(original.src)
        return Source(plan.node_ip, plan.masquerade_ports)
    if client is Client.HOST or backend.address == original.src:
        return Source(plan.tunnel_ip)
    if client is Client.POD and frontend.kind in (
        FrontendKind.CLUSTER_IP,
        FrontendKind.LOCAL_REDIRECT,
    ):
        return Source(original.src)
    if frontend.local_only:
        return Source(original.src)
    return Source(plan.node_ip if backend.local else plan.tunnel_ip)


def source_without_backend(plan: Plan, original: FlowTuple, to_pod: bool) -> Source:
    """The source of a flow that no frontend balances; ``to_pod``: to any node's pod."""
    client = client_of(plan, original.src)
    if client is Client.HOST:
        return Source(plan.tunnel_ip)
    if client is Client.POD and not to_pod and plan.masquerade:
        return Source(plan.node_ip, plan.masquerade_ports)
    return Source(original.src)


def reply_tuple(
    table: Table,
    secret: bytes,
    original: FlowTuple,
    destination: tuple[int, int],
    source: Source,
    now: int,
) -> FlowTuple | None:
    """A free reply tuple for a new flow, None when there is none left.

    ``destination`` is (address, port) after DNAT; the port is ignored for
    protocols without one.
    """
    address, port = destination
    base = FlowTuple(source.address, address, original.protocol, original.sport, original.dport)
    if original.protocol in WITH_PORTS:
        base = base._replace(dport=port)
    if source.ports is None and table.taken(invert(base), now) is None:
        return invert(base)
    if original.protocol not in WITH_PORTS and original.protocol != ICMP:
        wanted = invert(base)
        return wanted if table.taken(wanted, now) is None else None

    low, high = source.ports or _class_of(original)
    size = high - low + 1
    start = siphash(secret, b"s" + tuple_bytes(original)) % size
    for step in chain(range(start, size), range(start)):
        wanted = invert(base._replace(sport=low + step))
        if table.taken(wanted, now) is None:
            return wanted
    if original.protocol != TCP:
        return None
    for step in chain(range(start, size), range(start)):
        wanted = invert(base._replace(sport=low + step))
        holder = table.taken(wanted, now)
        if holder is not None and holder.tcp and holder.tcp.state == tcp.State.TIME_WAIT:
            table.destroy(holder, now)
            return wanted
    return None


def _class_of(original: FlowTuple) -> tuple[int, int]:
    if original.protocol == ICMP:
        return 0, 65535
    if original.sport < 512:
        return 1, 511
    return (512, 1023) if original.sport < 1024 else (1024, 65535)
