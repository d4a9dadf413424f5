"""Why a new flow would be treated as it would: the decisions of one node, one after the other.

Nothing is decided here.  A first packet is put through a Python dataplane that
has just loaded the node's plan, and what a frontend's backends would see is
asked of the functions that the dataplane itself asks.  Which backend a flow
gets depends on what the real dataplane remembers (`rr`'s turn, affinity, loads,
its secret), so a trace has all that it may get; for a flow that exists,
conntrack knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from pylb.dataplane.base import NODE_TUN, DropReason, EventKind, FlowTuple, Output, Packet
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.dataplane.python.frontend import admits, eligible
from pylb.dataplane.python.nat import Client, client_of, source_to_backend
from pylb.dataplane.python.overlay import Peers
from pylb.dataplane.python.tcp import SYN
from pylb.observe import ipsets
from pylb.plan.tables import Backend, Frontend, FrontendKey, Plan
from pylb.wire import sctp, tcp, udp

ANY_PORT = 49152
"""The source port of a trace that names none; no decision depends on it."""

BALANCED = "balanced"
TRACKED = "tracked"
UNTRACKED = "untracked"
REJECTED = "rejected"
DROPPED = "dropped"


class Target(NamedTuple):
    """A backend that a flow may get, where that is, and the source address that it sees.

    ``node`` is "" for a backend outside the cluster.
    """

    backend: Backend
    node: str
    source: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What a node does with the first packet of a flow.

    ``verdict`` is one of the words above: tracked is a flow that no frontend
    balances, untracked the node's own traffic; rejected means that the client is
    told (a RST, an ICMP error), dropped that it is not, and both have a
    ``reason``.  ``sets`` are kube-proxy's ipsets that have the packet.
    ``targets`` are () without a frontend; ``source`` is what a tracked flow's
    source becomes.
    """

    node: str
    original: FlowTuple
    client: Client
    verdict: str
    reason: DropReason | None = None
    frontend: Frontend | None = None
    sets: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    source: int | None = None

    @property
    def masquerade(self) -> str:
        """Does the source change: "yes", "no", "some" (by the backend), "" where no flow begins."""
        if self.verdict not in (BALANCED, TRACKED):
            return ""
        sources = [self.source] if self.source is not None else [t.source for t in self.targets]
        changed = {source != self.original.src for source in sources}
        return "some" if len(changed) == 2 else "yes" if True in changed else "no"


def explain(plan: Plan, original: FlowTuple) -> Trace:
    """Trace a new TCP, UDP or SCTP flow whose first packet comes to a node's TUN."""
    client = client_of(plan, original.src)
    output = _first_packet(plan, original)
    frontend = plan.frontends.get(FrontendKey(original.dst, original.dport, original.protocol))
    choices = None if frontend is None else eligible(plan, frontend, original.src)
    reason = output.dropped[0].reason if output.dropped else None
    if frontend is None or choices is None or reason is DropReason.BAD_ADDRESS:
        opened = [event.flow.reply.dst for event in output.events if event.kind is EventKind.NEW]
        verdict = _refusal(output) or (TRACKED if opened else UNTRACKED)
        source = opened[0] if opened else None
        return Trace(plan.node, original, client, verdict, reason, source=source)
    targets: tuple[Target, ...] = ()
    if admits(frontend, original.src):
        peers = Peers(plan.peers.values())
        targets = tuple(_target(plan, peers, original, frontend, i) for i in choices)
    sets = _sets(plan, original, frontend, targets)
    verdict = _refusal(output) or BALANCED
    return Trace(plan.node, original, client, verdict, reason, frontend, sets, targets)


def _refusal(output: Output) -> str:
    """How the packet was refused, "" when it was not."""
    if not output.dropped:
        return ""
    return REJECTED if output.sent else DROPPED


def _first_packet(plan: Plan, original: FlowTuple) -> Output:
    dataplane = PythonDataplane(bytes(16), 1)
    dataplane.load(plan, 0)
    src, dst, protocol, sport, dport = original
    if protocol == tcp.PROTOCOL:
        data = tcp.build(src, dst, sport, dport, 0, 0, SYN, 65535)
    elif protocol == udp.PROTOCOL:
        data = udp.build(src, dst, sport, dport)
    elif protocol == sctp.PROTOCOL:
        data = sctp.build(src, dst, sport, dport, 0, sctp.init(1))
    else:
        known = f"{tcp.PROTOCOL}, {udp.PROTOCOL} or {sctp.PROTOCOL}"
        raise ValueError(f"protocol: expected {known}, got {protocol}")
    return dataplane.process([Packet(NODE_TUN, data)], 0)


def _target(
    plan: Plan, peers: Peers, original: FlowTuple, frontend: Frontend, index: int
) -> Target:
    backend = frontend.backends[index]
    peer = peers.behind(backend.address)
    node = plan.node if backend.local else peer.name if peer is not None else ""
    source = source_to_backend(plan, original, frontend, backend, bool(node))
    return Target(backend, node, source.address)


def _sets(
    plan: Plan, original: FlowTuple, frontend: Frontend, targets: Sequence[Target]
) -> tuple[str, ...]:
    """The ipsets that decide something about the flow, in kube-proxy's order."""
    # Not the set of every address, nor that of an address that asks itself.
    others = {ipsets.IPVS_IPS, ipsets.LOAD_BALANCER_SOURCE_IP}
    if all(target.backend.address != original.src for target in targets):
        others.add(ipsets.LOOP_BACK)
    if not admits(frontend, original.src):
        others.add(ipsets.LOAD_BALANCER_SOURCE_CIDR)
    alone = replace(plan, frontends={frontend.key: frontend}).to_json()
    return tuple(s.name for s in ipsets.ipsets(alone) if s.members and s.name not in others)


def enters_at(plan: Plan, src: int, dst: int) -> str | None:
    """The node whose daemon gets a flow first, by any node's plan; None: it may be several."""
    nodes = {plan.node: (plan.node_ip, plan.pod_cidr)}
    nodes |= {name: (peer.address, peer.subnet) for name, peer in plan.peers.items()}
    for name, (address, subnet) in nodes.items():
        if src == address or src in subnet:
            return name
    for name, (address, _) in nodes.items():
        if dst == address:
            return name
    return next(iter(nodes)) if len(nodes) == 1 else None


def address_of(plan: Plan, name: str) -> int | None:
    """The address of a pod ("name" or "namespace/name") or of a node, by any node's plan."""
    if name == plan.node:
        return plan.node_ip
    if name in plan.peers:
        return plan.peers[name].address
    return plan.cluster_pods.get(name if "/" in name else f"default/{name}")


def cluster_ip_of(plan: Plan, name: str) -> int | None:
    """The cluster IP of a Service ("name" or "namespace/name")."""
    keys = plan.services.get(name if "/" in name else f"default/{name}")
    return keys[0].address if keys else None


def describe(trace: Trace) -> dict[str, Any]:
    """A trace as JSON-able values; addresses are dotted, what there is not is None."""

    def quad(address: int) -> str:
        return str(IPv4Address(address))

    original, frontend = trace.original, trace.frontend
    return {
        "node": trace.node,
        "client": trace.client.name.lower(),
        "src": quad(original.src),
        "dst": quad(original.dst),
        "protocol": original.protocol,
        "dport": original.dport,
        "verdict": trace.verdict,
        "reason": trace.reason.value if trace.reason is not None else None,
        "frontend": None
        if frontend is None
        else {
            "service": frontend.service,
            "kind": frontend.kind.name,
            "localOnly": frontend.local_only,
            "scheduler": frontend.scheduler,
            "affinity": frontend.affinity,
        },
        "sets": list(trace.sets),
        "masquerade": trace.masquerade,
        "source": None if trace.source is None else quad(trace.source),
        "backends": [
            {
                "address": quad(target.backend.address),
                "port": target.backend.port,
                "node": target.node,
                "source": quad(target.source),
            }
            for target in trace.targets
        ],
    }
