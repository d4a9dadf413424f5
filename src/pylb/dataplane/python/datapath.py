"""The Python dataplane: what happens to a packet, readable top to bottom.

A packet's life::

    TUN ────────► parse ─┐                           ┌─► TUN
                         ├► defragment ► track ► translate ► route
    overlay ► decapsulate ┘        │                 └─► encapsulate ► overlay
                                   └ first of its flow: frontend? ► backend ► source

Nothing here reads a clock or a descriptor: see `pylb.dataplane.base`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pylb.dataplane.base import (
    ALL_FLOWS,
    NODE_TUN,
    Dropped,
    DropReason,
    FlowFilter,
    FlowTuple,
    FlowView,
    Output,
    Packet,
    TunPort,
)
from pylb.dataplane.python import icmp, nat, overlay, sctp, tcp
from pylb.dataplane.python.balance import COUNTS_LOAD, Balancer
from pylb.dataplane.python.conntrack import ORIGINAL, Flow, Table, abort, may_open, track
from pylb.dataplane.python.fragments import Reassembler, split
from pylb.dataplane.python.frontend import admits, eligible
from pylb.dataplane.python.loaded import Loaded
from pylb.dataplane.python.packet import (
    DONT_FRAGMENT,
    REDIRECT,
    SCTP,
    TCP,
    UNREACHABLE,
    WITH_PORTS,
    Malformed,
    Parsed,
    invert,
    parse,
)
from pylb.dataplane.python.served import still_right
from pylb.dataplane.python.tcp import Verdict
from pylb.plan.tables import Delta, Frontend, FrontendKey, Plan, PlanError
from pylb.plan.validate import validate, validate_delta
from pylb.wire import icmp as wire_icmp
from pylb.wire import tcp as wire_tcp

_FRAGMENTATION_NEEDED = 4
_TRAFFIC = ("tun_in", "tun_out", "overlay_in", "overlay_out")
_COUNTERS = (*_TRAFFIC, "found", "new", "untracked", "invalid", "rejected", "reset")


class _Job(NamedTuple):
    """A packet on its way.  ``largest`` is its largest fragment's size, 0 if it came whole."""

    origin: Packet
    packet: Parsed
    largest: int

    @property
    def from_tun(self) -> bool:
        return isinstance(self.origin.port, TunPort)


class PythonDataplane:
    """A node's dataplane in Python; implements `pylb.dataplane.base.Dataplane`.

    ``secret`` (16 bytes) keys everything that looks random; ``max_flows`` bounds
    the connection table.
    """

    def __init__(self, secret: bytes, max_flows: int = 262144) -> None:
        if len(secret) != 16:
            raise ValueError(f"secret: expected 16 bytes, got {len(secret)}")
        self._secret = secret
        self._table = Table(max_flows)
        self._balancer = Balancer(secret, self._table)
        self._reassembler = Reassembler()
        self._loaded: Loaded | None = None
        self._counters = dict.fromkeys(_COUNTERS, 0)
        self._drops = dict.fromkeys(DropReason, 0)

    # Plans

    @property
    def generation(self) -> int:
        """How many plans have been loaded; 0 before the first."""
        return self._loaded.generation if self._loaded else 0

    def load(self, plan: Plan, now: int) -> Output:
        """See `Loadable.load`.  Flows stay; each is held against the plan with its next packet."""
        validate(plan)
        self._loaded = Loaded.whole(plan, self.generation + 1)
        self._balancer.maglev_size = plan.maglev_size
        self._balancer.keep_only(plan.frontends)
        return Output()

    def change(self, delta: Delta, now: int) -> Output:
        """See `Loadable.change`."""
        if self._loaded is None:
            raise PlanError("a delta was given but no plan is loaded yet: load one first")
        validate_delta(self._loaded.plan, delta)
        self._loaded = self._loaded.changed(delta)
        if delta.replace is not None:
            self._balancer.maglev_size = delta.replace.maglev_size
            self._balancer.keep_only(delta.replace.frontends)
        for key, frontend in delta.frontends.items():
            if frontend is None:
                self._balancer.forget(key)
        return Output()

    # Looking

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        """See `Loadable.flows`."""
        return (flow for flow in self._table.flows(now) if where.matches(flow))

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        """See `Loadable.delete`."""
        count = self._table.delete(where, now)
        return count, self._with_events(Output())

    def counters(self) -> Mapping[str, int]:
        """See `Loadable.counters`."""
        return {
            **self._counters,
            "flows": len(self._table),
            "max_flows": self._table.max_flows,
            "early_drop": self._table.early_drops,
            "generation": self.generation,
            **{f"drop_{reason.value}": count for reason, count in self._drops.items()},
        }

    # Time

    def advance(self, now: int) -> Output:
        """See `Dataplane.advance`."""
        out = Output()
        for lost in self._reassembler.expire(now):
            self._drop(DropReason.FRAGMENT_TIMEOUT, lost, out)
        self._table.advance(now)
        return self._with_events(out)

    def next_deadline(self) -> int | None:
        """See `Dataplane.next_deadline`."""
        deadlines = (self._table.next_deadline(), self._reassembler.next_deadline())
        return min((d for d in deadlines if d is not None), default=None)

    # Packets

    def process(self, batch: Iterable[Packet], now: int) -> Output:
        """See `Dataplane.process`."""
        out = Output()
        for origin in batch:
            from_tun = isinstance(origin.port, TunPort)
            self._counters["tun_in" if from_tun else "overlay_in"] += 1
            loaded = self._loaded
            if loaded is None:
                self._drop(DropReason.NO_PLAN, origin, out)
                continue
            try:
                if from_tun:
                    packet = parse(origin.data)
                else:
                    packet = overlay.decapsulate(loaded.plan.overlay, loaded.peers, origin)
                self._receive(loaded, origin, packet, now, out)
            except Malformed as malformed:
                for held in malformed.held:
                    self._drop(malformed.reason, held, out)
                self._drop(malformed.reason, origin, out)
        return self._with_events(out)

    def _receive(
        self, loaded: Loaded, origin: Packet, packet: Parsed, now: int, out: Output
    ) -> None:
        if packet.src in loaded.vips or packet.src in loaded.plan.service_cidr:
            # Nobody has a VIP: believed, it would have us answer to it.
            raise Malformed(DropReason.BAD_ADDRESS)
        job = _Job(origin, packet, 0)
        if packet.is_fragment:
            whole = self._reassembler.add(packet, origin, now)
            if whole is None:
                return
            job = _Job(origin, *whole)
        if job.packet.is_icmp_error:
            self._icmp_error(loaded, job, now, out)
            return
        found = self._table.lookup(job.packet.tuple, now)
        if found is None:
            self._first(loaded, job, now, out)
        else:
            self._existing(loaded, job, found[0], found[1], now, out)

    def _existing(
        self, loaded: Loaded, job: _Job, flow: Flow, direction: int, now: int, out: Output
    ) -> None:
        """A packet of a tracked flow: move its state, translate it, send it on."""
        self._counters["found"] += 1
        if flow.generation != loaded.generation and not still_right(
            loaded, flow, direction, job.from_tun
        ):
            if flow.frontend is None or _is_new_connection(job.packet, direction):
                self._table.destroy(flow, now)
                self._first(loaded, job, now, out)
            elif job.packet.protocol == SCTP:
                self._abort(loaded, job, flow, direction, now, out)
            else:
                self._reset(loaded, job, flow, direction, now, out)
            return

        if not job.packet.checksum_ok():
            self._invalid(loaded, job, flow.translated, DropReason.BAD_L4_CHECKSUM, out)
            return
        verdict = track(self._table, flow, job.packet, direction, now, loaded.plan.timeouts)
        if verdict is Verdict.REOPEN:
            self._first(loaded, job, now, out)
        elif verdict is Verdict.INVALID:
            self._invalid(loaded, job, flow.translated, DropReason.INVALID_STATE, out)
        else:
            self._translate(loaded, job, flow, direction, out)

    def _reset(
        self, loaded: Loaded, job: _Job, flow: Flow, direction: int, now: int, out: Output
    ) -> None:
        """The backend of a TCP flow is gone: reset both ends.

        A receiver closes only for exactly the number that it awaits; for one behind it
        does nothing at all, for one ahead it asks (RFC 5961 section 3).  Which one it
        awaits is not known while packets are under way, so there is a reset for each
        that it may be.  The flow stays for a while, closed: who asks, or has missed the
        reset, gets another.
        """
        segment = tcp.parse(job.packet.data, job.packet.l4, len(job.packet.data))
        self._counters["reset"] += 1
        assert flow.tcp is not None
        if segment.kind is not tcp.Kind.RST and segment.flags & wire_tcp.ACK:
            numbers = flow.tcp.awaited(direction, segment.ack)
            self._send_resets(loaded, invert(job.packet.tuple), numbers, out)
        far = invert(flow.reply if direction == ORIGINAL else flow.original)
        self._send_resets(loaded, far, flow.tcp.awaited(1 - direction), out)
        abort(self._table, flow, now, loaded.plan.timeouts)
        self._drop(DropReason.BACKEND_GONE, job.origin, out)

    def _send_resets(
        self, loaded: Loaded, to: FlowTuple, numbers: Iterable[int], out: Output
    ) -> None:
        for number in numbers:
            reset = wire_tcp.build(to.src, to.dst, to.sport, to.dport, number, 0, tcp.RST, 0)
            self._emit(loaded, parse(reset), out)

    def _abort(
        self, loaded: Loaded, job: _Job, flow: Flow, direction: int, now: int, out: Output
    ) -> None:
        """The backend of an association is gone: abort it at both ends.

        Each ABORT shows the tag that its receiver chose, else it would not be believed.
        The flow stays for a while, closed: who has missed the ABORT gets another.
        """
        packet = job.packet
        message = sctp.parse(packet.data, packet.l4)
        self._counters["reset"] += 1
        assert flow.sctp is not None
        far = invert(flow.reply if direction == ORIGINAL else flow.original)
        tags = (flow.sctp.tags[1 - direction], flow.sctp.tags[direction])
        for answer in sctp.aborts(message, packet.tuple, far, tags):
            self._emit(loaded, parse(answer), out)
        abort(self._table, flow, now, loaded.plan.timeouts)
        self._drop(DropReason.BACKEND_GONE, job.origin, out)

    def _first(self, loaded: Loaded, job: _Job, now: int, out: Output) -> None:
        """A packet without a flow: a Service's, a pod's, or none of our business."""
        plan, packet = loaded.plan, job.packet
        src, dst = packet.src, packet.dst
        if job.from_tun:
            frontend = None
            if packet.protocol in WITH_PORTS:
                key = FrontendKey(dst, packet.dport, packet.protocol)
                frontend = plan.frontends.get(key)
            if frontend is not None:
                choices = eligible(plan, frontend, src)
                if choices is not None:
                    self._balance(loaded, job, frontend, choices, now, out)
                    return
            if dst in loaded.vips:
                self._reject(loaded, job, DropReason.NO_SUCH_FRONTEND, out)
                return
            if dst in plan.service_cidr:
                self._drop(DropReason.UNALLOCATED_VIP, job.origin, out)
                return
            if nat.is_own(plan, dst):
                self._untracked(job, out)
                return
        if dst == plan.tunnel_ip:
            self._reject(loaded, job, DropReason.NO_SUCH_FRONTEND, out)
            return
        to_peer = loaded.peers.behind(dst) is not None
        to_pod = to_peer or dst in plan.pod_cidr
        if not job.from_tun:
            if dst not in plan.pod_cidr:
                self._drop(DropReason.NOT_FOR_THIS_NODE, job.origin, out)
                return
            source = nat.Source(src)
        else:
            if nat.is_own(plan, src) and not to_peer:
                self._untracked(job, out)
                return
            if not to_pod and src not in plan.pod_cidr:
                self._untracked(job, out)
                return
            source = nat.source_without_backend(plan, packet.tuple, to_pod)
        self._open(loaded, job, (dst, packet.dport), source, None, now, out)

    def _balance(
        self,
        loaded: Loaded,
        job: _Job,
        frontend: Frontend,
        choices: tuple[int, ...],
        now: int,
        out: Output,
    ) -> None:
        """A first packet to a frontend: choose a backend and the source it will see."""
        if not may_open(job.packet):
            self._invalid(loaded, job, True, DropReason.INVALID_STATE, out)
            return
        original = job.packet.tuple
        if not admits(frontend, original.src):
            self._drop(DropReason.SOURCE_RANGE, job.origin, out)
            return
        backend = self._balancer.choose(frontend, choices, original, now)
        if backend is None:
            if frontend.elsewhere and choices is frontend.active:
                self._drop(DropReason.NO_LOCAL_ENDPOINT, job.origin, out)
            else:
                self._reject(loaded, job, DropReason.NO_ENDPOINT, out)
            return
        to_pod = backend.local or loaded.peers.behind(backend.address) is not None
        source = nat.source_to_backend(loaded.plan, original, frontend, backend, to_pod)
        destination = (backend.address, backend.port)
        self._open(loaded, job, destination, source, frontend, now, out)

    def _open(
        self,
        loaded: Loaded,
        job: _Job,
        destination: tuple[int, int],
        source: nat.Source,
        frontend: Frontend | None,
        now: int,
        out: Output,
    ) -> None:
        """Make the flow and send its first packet on."""
        packet = job.packet
        original = packet.tuple
        translated = frontend is not None or source != nat.Source(original.src)
        if not packet.checksum_ok():
            self._invalid(loaded, job, translated, DropReason.BAD_L4_CHECKSUM, out)
            return
        if not may_open(packet):
            self._invalid(loaded, job, translated, DropReason.INVALID_STATE, out)
            return
        if not self._table.make_room(now):
            self._drop(DropReason.TABLE_FULL, job.origin, out)
            return
        reply = nat.reply_tuple(self._table, self._secret, original, destination, source, now)
        if reply is None:
            self._drop(DropReason.SNAT_EXHAUSTED, job.origin, out)
            return
        flow = self._table.create(original, reply, now)
        flow.generation = loaded.generation
        if frontend is not None:
            flow.frontend = frontend
            flow.backend = destination
            if frontend.scheduler in COUNTS_LOAD:
                self._table.weigh(flow)
        self._counters["new"] += 1
        track(self._table, flow, packet, ORIGINAL, now, loaded.plan.timeouts)
        self._translate(loaded, job, flow, ORIGINAL, out)

    def _icmp_error(self, loaded: Loaded, job: _Job, now: int, out: Output) -> None:
        """An ICMP error: translated with the flow that it is about, or not ours."""
        plan, packet = loaded.plan, job.packet
        related = icmp.related_flow(self._table, packet, now)
        if related is None:
            ours = (
                packet.dst in loaded.vips
                or packet.dst in plan.service_cidr
                or packet.dst == plan.tunnel_ip
                or (
                    packet.src in plan.pod_cidr
                    and packet.dst not in plan.pod_cidr
                    and not nat.is_own(plan, packet.dst)
                    and loaded.peers.behind(packet.dst) is None
                )
            )
            self._invalid(loaded, job, ours, DropReason.INVALID_STATE, out)
            return
        flow, direction, quoted = related
        if not packet.checksum_ok():
            self._invalid(loaded, job, flow.translated, DropReason.BAD_L4_CHECKSUM, out)
            return
        if flow.translated and packet.dport >> 8 == REDIRECT:
            self._invalid(loaded, job, True, DropReason.INVALID_STATE, out)
            return
        icmp.translate_error(packet, flow, direction, quoted)
        if packet.dst in loaded.vips or packet.dst in plan.service_cidr:
            # It quotes a flow but goes to somebody else, who is nobody.
            self._invalid(loaded, job, True, DropReason.INVALID_STATE, out)
            return
        self._send_on(loaded, job, out)

    # Ends of a packet's way

    def _translate(
        self, loaded: Loaded, job: _Job, flow: Flow, direction: int, out: Output
    ) -> None:
        target = flow.rewrite_original if direction == ORIGINAL else flow.rewrite_reply
        if target is not None:
            job.packet.rewrite(target)
        self._send_on(loaded, job, out)

    def _invalid(
        self, loaded: Loaded, job: _Job, ours: bool, reason: DropReason, out: Output
    ) -> None:
        """Not part of any valid flow: dropped if it would need translation, else passed on."""
        self._counters["invalid"] += 1
        if ours:
            self._drop(reason, job.origin, out)
        elif not job.from_tun and job.packet.dst not in loaded.plan.pod_cidr:
            self._drop(DropReason.NOT_FOR_THIS_NODE, job.origin, out)
        else:
            self._send_on(loaded, job, out)

    def _untracked(self, job: _Job, out: Output) -> None:
        """The node's own traffic: back to the TUN as it came."""
        self._counters["untracked"] += 1
        self._to_tun(job.packet, job.largest, True, out)

    def _reject(self, loaded: Loaded, job: _Job, reason: DropReason, out: Output) -> None:
        """Answer as a closed port does; the packet itself is counted as a drop."""
        plan, packet = loaded.plan, job.packet
        source = plan.bridge_ip if packet.src in plan.pod_cidr else plan.node_ip
        if loaded.peers.behind(packet.src) is not None:
            source = plan.tunnel_ip
        answer = icmp.rejection(packet, source)
        if answer is not None:
            self._counters["rejected"] += 1
            self._emit(loaded, parse(answer), out)
        self._drop(reason, job.origin, out)

    def _emit(self, loaded: Loaded, packet: Parsed, out: Output) -> None:
        """Send a packet that was made here."""
        self._route(loaded, packet, 0, False, out)

    def _send_on(self, loaded: Loaded, job: _Job, out: Output) -> None:
        """Send a packet on to where its destination now points."""
        packet, plan = job.packet, loaded.plan
        if (
            job.from_tun
            and packet.is_icmp_error
            and nat.is_own(plan, packet.src)
            and loaded.peers.behind(packet.dst) is not None
        ):
            # The node's own error: a peer believes only what comes from our pods' subnet.
            packet.rewrite(packet.tuple._replace(src=plan.tunnel_ip))
        fits = len(packet.data) <= plan.overlay.mtu or job.largest
        if not fits and packet.fragment & DONT_FRAGMENT and loaded.peers.behind(packet.dst):
            self._too_big(loaded, job, out)
            return
        self._route(loaded, packet, job.largest, job.from_tun, out)

    def _route(
        self, loaded: Loaded, packet: Parsed, largest: int, from_tun: bool, out: Output
    ) -> None:
        peer = loaded.peers.behind(packet.dst)
        if peer is None:
            self._to_tun(packet, largest, from_tun, out)
            return
        table = loaded.plan.overlay
        if table.kind == "host-gw" and from_tun:
            packet.set_ttl(min(packet.ttl + 1, 255))
        size = min(largest or table.mtu, table.mtu)
        pieces = split(packet, size) if len(packet.data) > size else [packet]
        for piece in pieces:
            self._counters["tun_out" if table.kind == "host-gw" else "overlay_out"] += 1
            out.sent.append(overlay.encapsulate(table, peer, piece))

    def _to_tun(self, packet: Parsed, largest: int, from_tun: bool, out: Output) -> None:
        if from_tun:
            # In and out of the TUN are two kernel forwards; the node is to count as one hop.
            packet.set_ttl(min(packet.ttl + 1, 255))
        pieces = split(packet, largest) if 0 < largest < len(packet.data) else [packet]
        for piece in pieces:
            self._counters["tun_out"] += 1
            out.sent.append(Packet(NODE_TUN, bytes(piece.data)))

    def _too_big(self, loaded: Loaded, job: _Job, out: Output) -> None:
        """Tell the sender the MTU behind us (RFC 1191), quoting the packet as it was sent.

        Not about an ICMP error: none is ever sent about one (RFC 1122 section 3.2.2).
        """
        plan = loaded.plan
        if job.from_tun and not job.packet.is_icmp_error:
            sent = job.origin.data
            sender = int.from_bytes(sent[12:16], "big")
            source = plan.bridge_ip if sender in plan.pod_cidr else plan.node_ip
            error = wire_icmp.error(
                UNREACHABLE, _FRAGMENTATION_NEEDED, plan.overlay.mtu, bytes(sent), source, sender
            )
            self._emit(loaded, parse(error), out)
        self._drop(DropReason.TOO_BIG, job.origin, out)

    def _drop(self, reason: DropReason, origin: Packet, out: Output) -> None:
        self._drops[reason] += 1
        out.dropped.append(Dropped(reason, origin))

    def _with_events(self, out: Output) -> Output:
        out.events = self._table.events
        self._table.events = []
        return out


def _is_new_connection(packet: Parsed, direction: int) -> bool:
    """True for all but TCP and SCTP, and for a client's SYN or INIT.

    That may be of a new connection, or of one that the backend never answered.
    """
    if packet.protocol == SCTP:
        return direction == ORIGINAL and sctp.parse(packet.data, packet.l4).begins
    if packet.protocol != TCP:
        return True
    segment = tcp.parse(packet.data, packet.l4, len(packet.data))
    return direction == ORIGINAL and segment.kind is tcp.Kind.SYN
