"""The connection table: flows, both their directions, their state and their end.

A flow is found by its original tuple and by its reply tuple.  The reply tuple is
what an answer looks like before it is translated back, so it alone says how the
flow is translated: a packet in the original direction is rewritten to the
inverse of ``reply``, one in the reply direction to the inverse of ``original``.
Source: Linux ``nf_conntrack_core.c``, ``nf_conntrack_proto_udp.c``, ``_icmp.c``,
``_gre.c``, ``_generic.c``; TCP is in `pylb.dataplane.python.tcp`.

Times are nanoseconds.  A flow is dead when now >= its deadline.  Deadlines sit
in a heap whose entries are let go stale: an entry that comes up too early is put
back with the flow's real deadline, so a packet that renews a timeout costs no
heap operation.

Of a flow that is dead a record stays until its DESTROY is told, and ``max_flows``
bounds them all.  Flows that are not assured stand in one queue for each number of
seconds that a timeout can be, in the order of their last renewals: the head of the
oldest renewal is the next victim, and finding it takes no search.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator

from pylb.dataplane.base import (
    Event,
    EventKind,
    FlowFilter,
    FlowTuple,
    FlowView,
)
from pylb.dataplane.python import tcp
from pylb.dataplane.python.packet import GRE, ICMP, ICMP_REQUESTS, TCP, UDP, Parsed, invert
from pylb.plan.tables import Frontend, Timeouts

ORIGINAL, REPLY = 0, 1
SECOND = 1_000_000_000
_UDP_STREAM_AFTER = 2 * SECOND
_OPEN_LOAD, _CLOSING_LOAD = 256, 1
"""What a flow counts for at its backend, as IPVS has it."""
_OPEN_STATES = frozenset(
    (
        tcp.State.NONE,
        tcp.State.SYN_SENT,
        tcp.State.SYN_SENT2,
        tcp.State.SYN_RECV,
        tcp.State.ESTABLISHED,
    )
)
_HEAP_SLACK = 16
"""Stale entries that the heap of deadlines may hold besides as many as there are flows."""


class Flow:
    """One tracked connection, and why it is translated as it is.

    ``frontend`` is the frontend that balanced it (None when none did),
    ``generation`` the plan generation that it was last held against, and ``load``
    what it counts for at its backend, 0 when nobody looks.
    """

    __slots__ = (
        "alive",
        "assured",
        "backend",
        "bytes",
        "deadline",
        "frontend",
        "generation",
        "id",
        "load",
        "original",
        "packets",
        "queued",
        "reply",
        "rewrite_original",
        "rewrite_reply",
        "seconds",
        "seen_reply",
        "started",
        "tcp",
    )

    def __init__(self, flow_id: int, original: FlowTuple, reply: FlowTuple, now: int) -> None:
        self.id = flow_id
        self.original = original
        self.reply = reply
        forward, backward = invert(reply), invert(original)
        self.rewrite_original = forward if forward != original else None
        self.rewrite_reply = backward if backward != reply else None
        self.started = now
        self.deadline = now
        self.queued = -1
        self.seconds = 0
        self.alive = True
        self.seen_reply = self.assured = False
        self.packets = [0, 0]
        self.bytes = [0, 0]
        self.tcp: tcp.Tracker | None = None
        self.frontend: Frontend | None = None
        self.backend: tuple[int, int] | None = None
        self.generation = 0
        self.load = 0

    @property
    def translated(self) -> bool:
        """Some address or port changes on the way."""
        return self.rewrite_original is not None

    def view(self, now: int) -> FlowView:
        """The flow as it is now."""
        return FlowView(
            id=self.id,
            original=self.original,
            reply=self.reply,
            timeout=max(0, (self.deadline - now) // SECOND),
            state=tcp.state_name(self.tcp.state) if self.tcp else "",
            seen_reply=self.seen_reply,
            assured=self.assured,
            packets=(self.packets[0], self.packets[1]),
            bytes=(self.bytes[0], self.bytes[1]),
            service=self.frontend.service if self.frontend else "",
            frontend=self.frontend.key if self.frontend else None,
            generation=self.generation if self.frontend else 0,
        )


class Table:
    """At most ``max_flows`` records; events of changes are appended to ``events``.

    A record is a live flow or a dead one whose DESTROY is still to be told.
    """

    def __init__(self, max_flows: int) -> None:
        self.max_flows = max_flows
        self.events: list[Event] = []
        self.early_drops = 0
        self._by_tuple: dict[FlowTuple, tuple[Flow, int]] = {}
        self._flows: dict[int, Flow] = {}
        # By seconds of the last renewal: flows by id, the longest not renewed first.
        self._unassured: dict[int, OrderedDict[int, Flow]] = {}
        self._deadlines: list[tuple[int, int, Flow]] = []
        self._expired: list[Flow] = []
        self._loads: dict[tuple[tuple[int, int], int], int] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._flows)

    def lookup(self, key: FlowTuple, now: int) -> tuple[Flow, int] | None:
        """The live flow that has ``key`` as a direction, and which direction."""
        found = self._by_tuple.get(key)
        if found is None:
            return None
        if found[0].deadline <= now:
            self._unlink(found[0])
            self._expired.append(found[0])
            return None
        return found

    def taken(self, key: FlowTuple, now: int) -> Flow | None:
        """The live flow that a new one with direction ``key`` would clash with."""
        found = self.lookup(key, now)
        return found[0] if found else None

    def make_room(self, now: int) -> bool:
        """True when one more flow fits, after evicting the victim if need be.

        Dead flows go first, with their events, then the flow that was not renewed for
        the longest time among those that are not assured (the kernel's early_drop,
        made exact).
        """
        if len(self._flows) + len(self._expired) < self.max_flows:
            return True
        self._collect(now)
        if self._expired:
            self._bury(now)
            return True
        victim = self._victim()
        if victim is None:
            return False
        self.early_drops += 1
        self.destroy(victim, now)
        return True

    def _victim(self) -> Flow | None:
        """Of equally old renewals the one with the fewer seconds; None: all are assured."""
        heads = (next(iter(queue.values())) for queue in self._unassured.values() if queue)
        return min(heads, key=lambda f: (f.deadline - f.seconds * SECOND, f.seconds), default=None)

    def create(self, original: FlowTuple, reply: FlowTuple, now: int) -> Flow:
        """A new flow in the table; the caller has made room and checked for clashes."""
        flow = Flow(self._next_id, original, reply, now)
        self._next_id += 1
        self._flows[flow.id] = flow
        self._by_tuple[reply] = (flow, REPLY)
        self._by_tuple[original] = (flow, ORIGINAL)
        return flow

    def announce(self, kind: EventKind, flow: Flow, now: int) -> None:
        """Append an event."""
        self.events.append(Event(kind, flow.view(now), now))

    def renew(self, flow: Flow, seconds: int, now: int) -> None:
        """Give the flow ``seconds`` from now; it is the most recently renewed of these."""
        if not flow.assured:
            self._leave_queue(flow)
            self._unassured.setdefault(seconds, OrderedDict())[flow.id] = flow
        flow.seconds = seconds
        flow.deadline = deadline = now + seconds * SECOND
        if flow.queued < 0 or deadline < flow.queued:
            flow.queued = deadline
            heapq.heappush(self._deadlines, (deadline, flow.id, flow))
            self._compact()

    def _compact(self) -> None:
        """Keep the heap near the number of flows: what ended early would stay in it for days."""
        if len(self._deadlines) <= 2 * len(self._flows) + _HEAP_SLACK:
            return
        for flow in self._flows.values():
            flow.queued = flow.deadline
        self._deadlines = [(flow.deadline, flow.id, flow) for flow in self._flows.values()]
        heapq.heapify(self._deadlines)

    def assure(self, flow: Flow) -> None:
        """The flow is no longer a candidate for eviction."""
        flow.assured = True
        self._leave_queue(flow)

    def _leave_queue(self, flow: Flow) -> None:
        queue = self._unassured.get(flow.seconds)
        if queue is not None:
            queue.pop(flow.id, None)

    def destroy(self, flow: Flow, now: int) -> None:
        """Remove the flow at once, with its event."""
        if flow.alive:
            self._unlink(flow)
            self.announce(EventKind.DESTROY, flow, now)

    def advance(self, now: int) -> None:
        """Destroy what is dead at ``now``, in order of (deadline, creation)."""
        self._collect(now)
        self._bury(now)

    def _bury(self, now: int) -> None:
        """Tell the end of all that is dead."""
        self._expired.sort(key=lambda flow: (flow.deadline, flow.id))
        for flow in self._expired:
            self.announce(EventKind.DESTROY, flow, now)
        self._expired.clear()

    def next_deadline(self) -> int | None:
        """No flow dies before this; None when the table is empty."""
        if self._expired:
            return self._expired[0].deadline
        return self._deadlines[0][0] if self._deadlines else None

    def flows(self, now: int) -> Iterator[FlowView]:
        """Live flows in order of creation."""
        for flow in list(self._flows.values()):
            if flow.deadline > now:
                yield flow.view(now)

    def delete(self, where: FlowFilter, now: int) -> int:
        """Destroy every live flow that matches; gives how many."""
        doomed = [
            flow
            for flow in self._flows.values()
            if flow.deadline > now and where.matches(flow.view(now))
        ]
        for flow in doomed:
            self.destroy(flow, now)
        return len(doomed)

    # Loads; see `pylb.dataplane.python.balance.Loads`

    def settle(self, now: int) -> None:
        """Stop counting what is dead at ``now``."""
        self._collect(now)

    def load(self, backend: tuple[int, int], protocol: int) -> int:
        """The sum of what the backend's live flows count for."""
        return self._loads.get((backend, protocol), 0)

    def weigh(self, flow: Flow) -> None:
        """Let a balanced flow count for what it is now: open (or without states), or closing."""
        closing = flow.tcp is not None and flow.tcp.state not in _OPEN_STATES
        self._count(flow, _CLOSING_LOAD if closing else _OPEN_LOAD)

    def _count(self, flow: Flow, units: int) -> None:
        assert flow.backend is not None
        key = (flow.backend, flow.original.protocol)
        load = self._loads.get(key, 0) + units - flow.load
        flow.load = units
        if load:
            self._loads[key] = load
        else:
            self._loads.pop(key, None)

    def _collect(self, now: int) -> None:
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            at, _, flow = heapq.heappop(heap)
            if not flow.alive or at != flow.queued:
                continue
            if flow.deadline <= now:
                self._unlink(flow)
                self._expired.append(flow)
            else:
                flow.queued = flow.deadline
                heapq.heappush(heap, (flow.deadline, flow.id, flow))
        self._compact()

    def _unlink(self, flow: Flow) -> None:
        flow.alive = False
        if flow.load:
            self._count(flow, 0)
        del self._flows[flow.id]
        for key in (flow.original, flow.reply):
            found = self._by_tuple.get(key)
            if found is not None and found[0] is flow:
                del self._by_tuple[key]
        self._leave_queue(flow)


def may_open(packet: Parsed) -> bool:
    """True when a packet without a flow may start one."""
    if packet.protocol == TCP:
        return tcp.opens(tcp.parse(packet.data, packet.l4, len(packet.data)))
    if packet.protocol == ICMP:
        return (packet.dport >> 8) in ICMP_REQUESTS
    return True


def track(
    table: Table, flow: Flow, packet: Parsed, direction: int, now: int, times: Timeouts
) -> tcp.Verdict:
    """Let a packet act on its flow: state, timeout, counters and events.

    Gives ACCEPT, IGNORE or INVALID for the packet, or REOPEN when the flow was
    closed and the packet starts a new one (the flow is destroyed then).
    """
    fresh = flow.queued < 0
    changed = False
    if packet.protocol == TCP:
        segment = tcp.parse(packet.data, packet.l4, len(packet.data))
        if flow.tcp is None:
            flow.tcp = tcp.Tracker(segment)
        before = flow.tcp.state
        verdict, assured = flow.tcp.track(segment, direction, flow.seen_reply, flow.assured, times)
        if verdict is tcp.Verdict.REOPEN:
            table.destroy(flow, now)
            return verdict
        if verdict is tcp.Verdict.INVALID:
            bound = flow.tcp.timeout
            if bound and flow.deadline > now + bound * SECOND:
                table.renew(flow, bound, now)
            return verdict
        changed = flow.tcp.state != before
        if changed and flow.load:
            table.weigh(flow)
        if assured:
            table.assure(flow)
            changed = True
        if verdict is tcp.Verdict.ACCEPT:
            table.renew(flow, flow.tcp.timeout, now)
    else:
        verdict = tcp.Verdict.ACCEPT
        seconds = _plain_timeout(flow, packet.protocol, now, times)
        table.renew(flow, seconds, now)
        streams = packet.protocol in (UDP, GRE) and flow.seen_reply
        if streams and not flow.assured and _is_stream(flow, packet.protocol, now):
            table.assure(flow)
            changed = True
    flow.packets[direction] += 1
    flow.bytes[direction] += len(packet.data)
    if direction == REPLY and not flow.seen_reply:
        flow.seen_reply = True
        changed = True
    if verdict is tcp.Verdict.DELETE:
        table.destroy(flow, now)
        return tcp.Verdict.ACCEPT
    if fresh:
        table.announce(EventKind.NEW, flow, now)
    elif changed:
        table.announce(EventKind.UPDATE, flow, now)
    return tcp.Verdict.IGNORE if verdict is tcp.Verdict.IGNORE else tcp.Verdict.ACCEPT


def abort(table: Table, flow: Flow, now: int, times: Timeouts) -> None:
    """A TCP flow was reset from here: it stays, closed, for what its ends have still to say."""
    assert flow.tcp is not None
    if flow.tcp.state == tcp.State.CLOSE:
        return
    flow.tcp.state = tcp.State.CLOSE
    table.renew(flow, times.tcp_close, now)
    if flow.load:
        table.weigh(flow)
    table.announce(EventKind.UPDATE, flow, now)


def _is_stream(flow: Flow, protocol: int, now: int) -> bool:
    return protocol == GRE or now - flow.started > _UDP_STREAM_AFTER


def _plain_timeout(flow: Flow, protocol: int, now: int, times: Timeouts) -> int:
    """Seconds for a protocol without a state machine."""
    if protocol == UDP:
        stream = flow.seen_reply and _is_stream(flow, protocol, now)
        return times.udp_stream if stream else times.udp
    if protocol == ICMP:
        return times.icmp
    if protocol == GRE:
        return times.gre_stream if flow.seen_reply else times.gre
    return times.generic
