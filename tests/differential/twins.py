"""Two dataplanes that are told the same, and must say the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pylb.dataplane.base import (
    ALL_FLOWS,
    Dropped,
    Event,
    FlowFilter,
    FlowView,
    Output,
    Packet,
)
from pylb.dataplane.native.datapath import NativeDataplane
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.plan.tables import Delta, Plan
from tests.dataplanes import AnyDataplane

SECRET = bytes(range(100, 116))
_END = 1 << 52
"""Nanoseconds; no flow lives so long."""


class Twins:
    """The Python dataplane and its twin; what they answer is compared at each call.

    ``now`` only rises.  ``told`` is every call in short, which a failure shows.
    """

    def __init__(self, max_flows: int = 64, every_flow: bool = True) -> None:
        """``every_flow``: all flows are compared after each call, not only when asked for."""
        self.reference = PythonDataplane(SECRET, max_flows)
        self.twin = NativeDataplane(SECRET, max_flows)
        self._every_flow = every_flow
        self.now = 0
        self.told: list[str] = []

    def load(self, plan: Plan) -> None:
        self._same(f"load {len(plan.frontends)} frontends", lambda d: d.load(plan, self.now))

    def change(self, delta: Delta) -> None:
        self._same(f"change {delta}", lambda d: d.change(delta, self.now))

    def process(self, *batch: Packet) -> Output:
        told = ", ".join(f"{packet.port} {packet.data.hex()}" for packet in batch)
        return self._same(f"process {told}", lambda d: d.process(batch, self.now))

    def advance(self, to: int) -> Output:
        """Let time pass until ``to``, which may be now."""
        assert to >= self.now
        self._deadline_is_no_later_than_a_death()
        self.now = to
        out = self._same("advance", lambda d: d.advance(self.now))
        for dataplane in self.both:
            at = dataplane.next_deadline()
            assert at is None or at > self.now, self._why("next deadline", "later than now", at)
        return out

    def end(self) -> None:
        """Outlive everything: then nothing is left that could expire."""
        self.advance(_END)
        assert not self.deadlines()
        assert [d.next_deadline() for d in self.both] == [None, None]
        assert not self.flows()

    def delete(self, where: FlowFilter) -> Output:
        counts = []

        def delete(dataplane: AnyDataplane) -> Output:
            count, out = dataplane.delete(where, self.now)
            counts.append(count)
            return out

        out = self._same(f"delete {where}", delete)
        assert counts[0] == counts[1], self._why("deleted", *counts)
        return out

    def flows(self, where: FlowFilter = ALL_FLOWS) -> list[FlowView]:
        """The flows now, held to be the same."""
        ours, theirs = (list(d.flows(self.now, where)) for d in self.both)
        if ours != theirs:
            raise AssertionError(self._why("flows", ours, theirs))
        return ours

    @property
    def both(self) -> tuple[AnyDataplane, AnyDataplane]:
        return self.reference, self.twin

    def _same(self, what: str, call: Callable[[AnyDataplane], Output]) -> Output:
        self.told.append(f"{self.now}: {what}")
        ours, theirs = (call(d) for d in self.both)
        self._same_list("sent", ours.sent, theirs.sent)
        self._same_list("dropped", ours.dropped, theirs.dropped)
        self._same_list("events", ours.events, theirs.events)
        counted, twin_counted = (list(d.counters().items()) for d in self.both)
        if counted != twin_counted:
            only = [c for c in counted if c not in twin_counted]
            others = [c for c in twin_counted if c not in counted]
            raise AssertionError(self._why("counters", only, others))
        if self._every_flow:
            self.flows()
        assert self.reference.generation == self.twin.generation
        return ours

    def _same_list(self, name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> None:
        if list(ours) != list(theirs):
            raise AssertionError(self._why(name, ours, theirs))

    def deadlines(self) -> list[int]:
        """When flows and fragments die, those included that are dead and not yet told of."""
        table, fragments = self.reference._table, self.reference._reassembler
        flows = (*table._flows.values(), *table._expired)
        queues = fragments._queues.values()
        return sorted([*(f.deadline for f in flows), *(q.deadline for q in queues)])

    def _deadline_is_no_later_than_a_death(self) -> None:
        """Either may be too early, for neither looks at a flow that lives on before it must."""
        first = min(self.deadlines(), default=None)
        for dataplane in self.both:
            at = dataplane.next_deadline()
            late = first is not None and (at is None or at > max(first, self.now))
            assert not late, self._why("next deadline", first, at)

    def _why(self, what: str, ours: Any, theirs: Any) -> str:
        history = "\n".join(self.told)
        return f"{what} differ\n  reference: {said(ours)}\n  twin: {said(theirs)}\n{history}"


def said(value: Any) -> str:
    """A value for a failure's text: packets in hex."""
    if isinstance(value, Dropped):
        return f"{value.reason.name} of {said(value.packet)}"
    if isinstance(value, Packet):
        return f"{value.port} {value.data.hex()}"
    if isinstance(value, Event):
        return f"{value.kind.name} at {value.at}: {value.flow}"
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return "[" + "".join(f"\n    {said(each)}" for each in value) + "]"
    return str(value)
