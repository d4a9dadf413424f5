"""The native dataplane as Python sees it: plans go in, flows, events and counters come out.

The same interface as `PythonDataplane`, and the same behaviour, which the tests in
tests/differential hold to the bit.  `process` and `advance` are for tests, the
simulation and a trace; in a node packets never come up here, for the pump
(csrc/pump.c) runs on `handle`.  C has a lock of its own, so a method may be called
while the pump's thread runs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pylb import _core
from pylb.dataplane.base import (
    ALL_FLOWS,
    NODE_TUN,
    Dropped,
    DropReason,
    Event,
    EventKind,
    FlowFilter,
    FlowTuple,
    FlowView,
    Output,
    OverlayPort,
    Packet,
    Port,
    TunPort,
)
from pylb.dataplane.native.loading import Names, Packed, pack_delta, pack_plan
from pylb.dataplane.python import sctp, tcp
from pylb.plan.apply import apply
from pylb.plan.tables import Delta, FrontendKey, Plan, PlanError
from pylb.plan.validate import validate, validate_delta

_ffi, _lib = _core.ffi, _core.lib

MOST_FLOWS = 0xFFFC00
"""csrc/flow.h: a slot has 24 bits, and some are the timers' own."""
_NEVER = 0xFFFFFFFFFFFFFFFF
_SLICE = 4096
"""Slots of the table that one call looks at: packets wait for so long."""
_EVENTS = 4096
"""As many events as C keeps for whoever takes them."""
_DRAIN_EVERY = 1024

_FLOW = struct.Struct("=5Q8I4H5B3x")
_EVENT = struct.Struct("=QI4x88s")
assert _ffi.sizeof("struct pylb_flow") == _FLOW.size
assert _ffi.sizeof("struct pylb_event") == _EVENT.size

# In the order of the enums of csrc/pylb.h.
_REASONS = tuple(DropReason)
_KINDS = tuple(EventKind)
_STATES = {
    6: tuple(state.name for state in tcp.State),
    132: tuple(state.name for state in sctp.State),
}
_COUNTERS = (
    *("tun_in", "tun_out", "overlay_in", "overlay_out"),
    *("found", "new", "untracked", "invalid", "rejected", "reset"),
)
_DROP_COUNTERS = tuple(f"drop_{reason.value}" for reason in DropReason)
assert len(_COUNTERS) == _lib.PYLB_COUNTS
assert len(_DROP_COUNTERS) == _lib.PYLB_DROPS


class NativeDataplane:
    """A node's dataplane in C; implements `pylb.dataplane.base.Dataplane`.

    ``secret`` (16 bytes) keys everything that looks random; ``max_flows`` bounds
    the connection table, whose memory is taken here.  ``handle`` is the
    ``struct pylb_dataplane *``, alive as long as this is.
    """

    def __init__(self, secret: bytes, max_flows: int = 262144) -> None:
        if len(secret) != 16:
            raise ValueError(f"secret: expected 16 bytes, got {len(secret)}")
        if not 1 <= max_flows <= MOST_FLOWS:
            raise ValueError(f"max_flows: expected 1 to {MOST_FLOWS}, got {max_flows}")
        made = _lib.pylb_new(secret, max_flows)
        if made == _ffi.NULL:
            raise MemoryError(f"no memory for {max_flows} flows")
        self.handle = _ffi.gc(made, _lib.pylb_free)
        self._plan: Plan | None = None
        self._loaded = _ffi.NULL
        self._names = Names()
        self._packet = _ffi.new("struct pylb_packet *")
        self._output = _ffi.new("struct pylb_output *")

    # Plans

    @property
    def generation(self) -> int:
        """How many plans have been loaded; 0 before the first."""
        return int(_lib.pylb_generation(self.handle))

    def load(self, plan: Plan, now: int) -> Output:
        """See `Loadable.load`.  Flows stay; each is held against the plan with its next packet."""
        validate(plan)
        self._swap(plan, pack_plan(plan, self._names))
        self._forget_names(plan)
        return Output()

    def change(self, delta: Delta, now: int) -> Output:
        """See `Loadable.change`."""
        if self._plan is None:
            raise PlanError("a delta was given but no plan is loaded yet: load one first")
        validate_delta(self._plan, delta)
        if delta.replace is not None:
            return self.load(delta.replace, now)
        plan = apply(self._plan, delta)
        self._swap(plan, pack_delta(plan, delta, self._names))
        self._forget_names(plan)
        return Output()

    def _swap(self, plan: Plan, packed: Packed) -> None:
        """Make the plan that follows in C, aside, and obey it from now on."""
        made = _lib.pylb_plan_make(self._loaded, packed.change)
        if made == _ffi.NULL:
            raise MemoryError("no memory for the plan")
        _lib.pylb_plan_free(_lib.pylb_load(self.handle, made))
        self._loaded = made
        self._plan = plan

    def _forget_names(self, plan: Plan) -> None:
        """Once names are many, forget those that neither plan nor flow nor affinity needs."""
        if not self._names.worth_compacting(len(plan.frontends)):
            return
        used = {self._names.number(frontend.service) for frontend in plan.frontends.values()}
        # At 0 nothing is dead yet: flows that nobody has noticed to be over are there too.
        used.update(record[_SERVICE] for record in self._records(0) if record[_BALANCED])
        services = _ffi.new("uint32_t[]", _lib.PYLB_MOST_AFFINE)
        used.update(services[0 : _lib.pylb_affine_services(self.handle, services)])
        self._names.compact(used)

    # Looking

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        """See `Loadable.flows`."""
        views = map(self._view, self._records(now))
        return views if where is ALL_FLOWS else filter(where.matches, views)

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        """See `Loadable.delete`."""
        count = 0
        events: list[Event] = []
        for record in self._records(now):
            if not where.matches(self._view(record)):
                continue
            count += _lib.pylb_destroy(self.handle, record[_SLOT], record[_ID], now)
            if count % _DRAIN_EVERY == 0:
                events += self.take_events()
        events += self.take_events()
        return count, Output(events=events)

    def counters(self) -> Mapping[str, int]:
        """See `Loadable.counters`."""
        counts = _ffi.new("uint64_t[]", _lib.PYLB_COUNTS)
        drops = _ffi.new("uint64_t[]", _lib.PYLB_DROPS)
        table = _ffi.new("uint64_t[3]")
        _lib.pylb_counters(self.handle, counts, drops, table)
        return {
            **dict(zip(_COUNTERS, counts, strict=True)),
            "flows": table[0],
            "max_flows": table[1],
            "early_drop": table[2],
            "generation": self.generation,
            **dict(zip(_DROP_COUNTERS, drops, strict=True)),
        }

    # Events, of the calls below and of the pump

    def want_events(self, wanted: bool) -> int:
        """Record events (at first they are) or not; gives how many were lost so far.

        Lost are those that came when 4096 others had not been taken.
        """
        return int(_lib.pylb_want_events(self.handle, wanted))

    def take_events(self) -> list[Event]:
        """The events since the last call of this, `process` or `advance`, oldest first."""
        events = _ffi.new("struct pylb_event[]", _EVENTS)
        count = _lib.pylb_events(self.handle, events, _EVENTS)
        return self._events(events, count)

    # Time

    def advance(self, now: int) -> Output:
        """See `Dataplane.advance`."""
        out = Output()
        more = True
        while more:
            _lib.pylb_advance(self.handle, now, self._output)
            self._collect(out, None)
            more = self._output.more
        return out

    def next_deadline(self) -> int | None:
        """See `Dataplane.next_deadline`.  May be too early by what the timers are coarse."""
        at = int(_lib.pylb_next_deadline(self.handle))
        return None if at == _NEVER else at

    # Packets

    def process(self, batch: Iterable[Packet], now: int) -> Output:
        """See `Dataplane.process`."""
        out = Output()
        packet = self._packet
        for origin in batch:
            port = origin.port
            if isinstance(port, TunPort):
                packet.kind, packet.port, packet.spread = _lib.PYLB_TUN, port.number, 0
            else:
                packet.kind, packet.port, packet.spread = _lib.PYLB_OVERLAY, *port
            data = _ffi.from_buffer("uint8_t[]", origin.data)
            packet.data, packet.len = data, len(origin.data)
            _lib.pylb_process(self.handle, packet, now, self._output)
            self._collect(out, origin)
        return out

    # From C's records

    def _collect(self, out: Output, origin: Packet | None) -> None:
        """Add what a call produced, before the next one overwrites it."""
        made = self._output
        for i in range(made.n_sent):
            out.sent.append(_packet(made.sent[i]))
        for i in range(made.n_dropped):
            reason, packet = _REASONS[made.dropped[i].reason], made.dropped[i].packet
            if packet.data == _ffi.NULL:
                assert origin is not None
                out.dropped.append(Dropped(reason, origin))
            else:
                out.dropped.append(Dropped(reason, _packet(packet)))
        if made.n_events:
            out.events += self._events(made.events, made.n_events)

    def _records(self, now: int) -> list[tuple[Any, ...]]:
        """Live flows in order of creation, each as `_FLOW` has it."""
        slot = _ffi.new("uint32_t *", 0)
        room = _ffi.new("struct pylb_flow[]", _SLICE)
        records: list[tuple[Any, ...]] = []
        while slot[0] != 0xFFFFFFFF:
            count = _lib.pylb_flows(self.handle, now, slot, room, _SLICE)
            records += _FLOW.iter_unpack(_ffi.buffer(room, count * _FLOW.size))
        # The id comes first, and no two are the same.
        records.sort()
        return records

    def _events(self, events: Any, count: int) -> list[Event]:
        unpacked = _EVENT.iter_unpack(_ffi.buffer(events, count * _EVENT.size))
        return [
            Event(_KINDS[kind], self._view(_FLOW.unpack(flow)), at) for at, kind, flow in unpacked
        ]

    def _view(self, record: tuple[Any, ...]) -> FlowView:
        flow_id, packets, reply_packets, size, reply_size = record[:_SLOT]
        _, timeout, service, generation, src, dst, reply_src, reply_dst = record[_SLOT:_PORTS]
        sport, dport, reply_sport, reply_dport = record[_PORTS:_PROTOCOL]
        protocol, state, seen_reply, assured, balanced = record[_PROTOCOL:]
        return FlowView(
            flow_id,
            FlowTuple(src, dst, protocol, sport, dport),
            FlowTuple(reply_src, reply_dst, protocol, reply_sport, reply_dport),
            timeout,
            _STATES[protocol][state] if protocol in _STATES else "",
            bool(seen_reply),
            bool(assured),
            (packets, reply_packets),
            (size, reply_size),
            self._names[service] if balanced else "",
            FrontendKey(dst, dport, protocol) if balanced else None,
            generation if balanced else 0,
        )


# Where in a record as `_FLOW` unpacks it.
_ID, _SLOT, _SERVICE, _PORTS, _PROTOCOL, _BALANCED = 0, 5, 7, 13, 17, 21


def _packet(packet: Any) -> Packet:
    port: Port
    if packet.kind == _lib.PYLB_OVERLAY:
        port = OverlayPort(packet.port, packet.spread)
    else:
        port = TunPort(packet.port) if packet.port else NODE_TUN
    return Packet(port, bytes(_ffi.buffer(packet.data, packet.len)))
