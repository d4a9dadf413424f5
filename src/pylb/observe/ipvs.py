"""A node's frontends and their flows as ipvsadm(8) lists virtual and real servers.

Frontends come from a plan as JSON (`Plan.to_json`), connections are the flows
that are tracked at the moment.  Layouts are those of ipvsadm 1.31: column widths,
the order of servers and the blanks at the ends of lines too.

Two things are not IPVS's.  ``random`` is a scheduler that it has not.  And counts
of ``--stats`` are of flows that are still tracked: they do not go back to when
the service was made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from pylb.dataplane.base import FlowView

SIZE = 4096
"""Buckets of the kernel's connection table unless its module is told otherwise."""

_BANNER = f"IP Virtual Server version 1.2.1 (size={SIZE})"
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}
_ACTIVE = frozenset(("ESTABLISHED", "SYN_SENT", "SYN_SENT2", "SYN_RECV"))
"""TCP states that count as active: tcp_state_active_table of ip_vs_proto_tcp.c."""


class Counts(NamedTuple):
    """Connections, and packets and bytes to the server and back; or each of them a second."""

    conns: int = 0
    in_packets: int = 0
    out_packets: int = 0
    in_bytes: int = 0
    out_bytes: int = 0

    def __add__(self, other: object) -> Counts:
        """Both together."""
        if not isinstance(other, Counts):
            return NotImplemented
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def per(self, seconds: float) -> Counts:
        """Each of them a second, rounded."""
        return Counts(*(round(count / seconds) for count in self))


_NOTHING = Counts()


class Sample(NamedTuple):
    """A flow and what is counted of it."""

    flow: FlowView
    counts: Counts


@dataclass(slots=True)
class RealServer:
    """A backend of a virtual server.  ``weight`` 0 takes no new connections."""

    address: int
    port: int
    weight: int
    active: int = 0
    inactive: int = 0
    counts: Counts = _NOTHING

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "address": _socket(self.address, self.port),
            "forward": "Masq",
            "weight": self.weight,
            "activeConn": self.active,
            "inActConn": self.inactive,
            "counts": self.counts._asdict(),
        }


@dataclass(slots=True)
class VirtualServer:
    """A frontend.  ``persistent`` is the seconds for which a client keeps its server, or 0."""

    protocol: int
    address: int
    port: int
    scheduler: str
    persistent: int = 0
    servers: list[RealServer] = field(default_factory=list)

    @property
    def at(self) -> str:
        """Its address and port."""
        return _socket(self.address, self.port)

    @property
    def counts(self) -> Counts:
        """Those of its servers."""
        return sum((server.counts for server in self.servers), _NOTHING)

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "protocol": _PROTOCOLS.get(self.protocol, str(self.protocol)),
            "address": self.at,
            "scheduler": self.scheduler,
            "persistent": self.persistent,
            "servers": [server.to_json() for server in self.servers],
            "counts": self.counts._asdict(),
        }


def totals(flows: Iterable[FlowView]) -> list[Sample]:
    """Flows, each with all that it has counted."""
    return [Sample(flow, _counts(flow)) for flow in flows]


def between(before: Iterable[FlowView], after: Iterable[FlowView]) -> list[Sample]:
    """The flows of ``after``, each with what it has counted since ``before``."""
    old = {(flow.id, flow.original): flow for flow in before}
    samples = []
    for flow in after:
        was = old.get((flow.id, flow.original))
        counts = _counts(flow)
        if was is not None:
            counts = Counts(*(a - b for a, b in zip(counts, _counts(was), strict=True)))
        samples.append(Sample(flow, counts))
    return samples


def _counts(flow: FlowView) -> Counts:
    return Counts(1, *flow.packets, *flow.bytes)


def virtual_servers(
    plan: Mapping[str, Any], samples: Iterable[Sample], seconds: float = 1
) -> list[VirtualServer]:
    """The frontends of a plan with what ``seconds`` have counted, in ipvsadm's order.

    A backend that takes no new flows is listed, with weight 0, while it has some.
    """
    by_frontend: dict[tuple[int, int, int], dict[tuple[int, int], list[Sample]]] = {}
    for sample in samples:
        to, back = sample.flow.original, sample.flow.reply
        found = by_frontend.setdefault((to.protocol, to.dst, to.dport), {})
        found.setdefault((back.src, back.sport), []).append(sample)
    servers = []
    for frontend in plan["frontends"]:
        key = (frontend["protocol"], int(IPv4Address(frontend["address"])), frontend["port"])
        server = VirtualServer(*key, frontend["scheduler"], frontend.get("affinity", 0))
        flows = by_frontend.get(key, {})
        for index, backend in enumerate(frontend["backends"]):
            at = (int(IPv4Address(backend["address"])), backend["port"])
            weight = backend.get("weight", 1) if index in frontend["active"] else 0
            if weight or at in flows:
                server.servers.append(_real_server(*at, weight, flows.get(at, []), seconds))
        server.servers.sort(key=lambda s: (s.address, s.port))
        servers.append(server)
    return sorted(servers, key=lambda s: (s.protocol, s.address, s.port))


def _real_server(
    address: int, port: int, weight: int, samples: list[Sample], seconds: float
) -> RealServer:
    active = sum(sample.flow.state in _ACTIVE for sample in samples)
    counts = sum((sample.counts for sample in samples), _NOTHING)
    return RealServer(address, port, weight, active, len(samples) - active, counts.per(seconds))


def listing(servers: Sequence[VirtualServer]) -> str:
    """``ipvsadm -ln``."""
    lines = [
        _BANNER,
        "Prot LocalAddress:Port Scheduler Flags",
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn",
    ]
    for virtual in servers:
        flags = f" persistent {virtual.persistent}" if virtual.persistent else ""
        lines.append(f"{_name(virtual)} {virtual.scheduler}{flags}")
        lines += [
            f"  -> {_socket(s.address, s.port):<28} {'Masq':<7} {s.weight:<6} "
            f"{s.active:<10} {s.inactive:<10}"
            for s in virtual.servers
        ]
    return "\n".join(lines)


STATS = ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes")
RATE = ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS")


def counters(servers: Sequence[VirtualServer], titles: Sequence[str], *, exact: bool) -> str:
    """``ipvsadm -ln --stats`` or ``--rate``, by their titles; ``exact``: no K, M and G."""
    lines = [
        _BANNER,
        f"{'Prot LocalAddress:Port':<33}" + "".join(f" {title:>8}" for title in titles),
        "  -> RemoteAddress:Port",
    ]
    for virtual in servers:
        lines.append(f"{_name(virtual):<33}" + _numbers(virtual.counts, exact))
        lines += [
            f"  -> {_socket(s.address, s.port):<28}" + _numbers(s.counts, exact)
            for s in virtual.servers
        ]
    return "\n".join(lines)


def connections(servers: Sequence[VirtualServer], samples: Iterable[Sample]) -> str:
    """``ipvsadm -lnc``: the connections of these servers, a line each."""
    known = {(s.protocol, s.address, s.port) for s in servers}
    lines = [
        "IPVS connection entries",
        f"pro expire {'state':<11} {'source':<18} {'virtual':<18} destination",
    ]
    for flow, _ in samples:
        to, back = flow.original, flow.reply
        if (to.protocol, to.dst, to.dport) not in known:
            continue
        protocol = _PROTOCOLS.get(to.protocol, str(to.protocol))
        minutes, seconds = divmod(flow.timeout, 60)
        lines.append(
            f"{protocol:<3} {f'{minutes:02}:{seconds:02}':<6} {flow.state or protocol:<11} "
            f"{_socket(to.src, to.sport):<18} {_socket(to.dst, to.dport):<18} "
            f"{_socket(back.src, back.sport)}"
        )
    return "\n".join(lines)


def _name(virtual: VirtualServer) -> str:
    protocol = _PROTOCOLS.get(virtual.protocol, str(virtual.protocol))
    return f"{protocol:<4} {virtual.at}"


def _socket(address: int, port: int) -> str:
    return f"{IPv4Address(address)}:{port}"


def _numbers(counts: Counts, exact: bool) -> str:
    return "".join(_number(count, exact) for count in counts)


_SHORTENED = ((10**8, 1, ""), (10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G"))
"""Numbers below the first are divided by the second and marked with the third."""


def _number(number: int, exact: bool) -> str:
    """A number as ipvsadm prints it: a blank, and at least eight characters."""
    if exact:
        return f" {number:>8}"
    for limit, divisor, unit in _SHORTENED:
        if number < limit:
            return f" {f'{number // divisor}{unit}':>8}"
    return f" {f'{number // 10**12}T':>8}"
