"""Conntrack events from the kernel for whoever listens; while nobody does, it is not asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pylb.dataplane.base import ALL_FLOWS, Event, EventKind, FlowFilter, FlowView
from pylb.node.events import QUEUE, Broadcaster, Listener
from pylb.node.kernel.netfilter import Events
from pylb.node.logs import Log

log = Log(__name__)


class KernelEvents(Broadcaster):
    """A `Broadcaster` with the kernel at its other end.

    A kernel that tells events spends time on each, so the socket is there only
    while there is a listener.  ``explain`` adds what the kernel does not know.
    """

    def __init__(self, explain: Callable[[FlowView], FlowView]) -> None:
        super().__init__()
        self._explain = explain
        self._source: Events | None = None
        self.overruns = 0
        """How often the kernel had to throw events away."""

    def subscribe(
        self,
        where: FlowFilter = ALL_FLOWS,
        kinds: frozenset[EventKind] = frozenset(EventKind),
        size: int = QUEUE,
    ) -> Listener:
        """See `Broadcaster.subscribe`; raises `NodeError` when the kernel cannot be asked."""
        if self._source is None:
            self._source = Events()
            asyncio.get_running_loop().add_reader(self._source.fileno(), self._readable)
        return super().subscribe(where, kinds, size)

    def _readable(self) -> None:
        source = self._source
        if source is None:
            return
        if not self.listeners:
            self._stop()
            return
        before = source.overruns
        told = source.read()
        if source.overruns > before:
            self.overruns += source.overruns - before
            log.warning("conntrack events were lost: they come faster than they can be read")
        now = time.monotonic_ns()
        self.publish([Event(kind, self._explain(flow), now) for kind, flow in told])

    def _stop(self) -> None:
        if self._source is not None:
            asyncio.get_running_loop().remove_reader(self._source.fileno())
            self._source.close()
            self._source = None

    def close(self) -> None:
        """See `Broadcaster.close`."""
        super().close()
        self._stop()
