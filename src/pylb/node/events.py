"""Conntrack events for whoever listens: each listener has a bounded queue of its own.

A listener that does not keep up loses events, is told how many, and holds
nobody else up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from pylb.dataplane.base import ALL_FLOWS, Event, EventKind, FlowFilter

QUEUE = 8192
"""Events that wait for a slow listener before it starts to lose them."""


class Listener:
    """One listener's queue: an async iterator of events, and of counts of lost ones.

    Leaving ``async for`` does not unsubscribe; `close` does.
    """

    def __init__(
        self,
        where: FlowFilter,
        kinds: frozenset[EventKind],
        size: int,
        leave: Callable[[Listener], None],
    ) -> None:
        self._where = where
        self._kinds = kinds
        self._size = size
        self._leave = leave
        self._queue: deque[Event | int] = deque()
        self._lost = 0
        self._something = asyncio.Event()
        self._closed = False

    def put(self, event: Event) -> None:
        """Queue ``event`` if it is asked for, or count it as lost."""
        if not self._where.matches(event.flow) or event.kind not in self._kinds:
            return
        if len(self._queue) >= self._size:
            self._lost += 1
            return
        if self._lost:
            self._queue.append(self._lost)
            self._lost = 0
        self._queue.append(event)
        self._something.set()

    def close(self) -> None:
        """Unsubscribe; the iteration ends once the queue is empty."""
        self._closed = True
        self._leave(self)
        self._something.set()

    async def __aiter__(self) -> AsyncIterator[Event | int]:
        """Events in order; an integer is how many were lost at that point."""
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._lost:
                lost, self._lost = self._lost, 0
                yield lost
            elif self._closed:
                return
            else:
                self._something.clear()
                await self._something.wait()


class Broadcaster:
    """Hands events to every listener; without one it costs nothing."""

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        wall_clock: Callable[[], int] = time.time_ns,
        wanted: Callable[[bool], None] = lambda wanted: None,
    ) -> None:
        """``wanted`` is told when there is somebody to listen, and when there is nobody."""
        self._wanted = wanted
        self._clock = clock
        self._wall_clock = wall_clock
        self._listeners: set[Listener] = set()

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._listeners)

    def subscribe(
        self,
        where: FlowFilter = ALL_FLOWS,
        kinds: frozenset[EventKind] = frozenset(EventKind),
        size: int = QUEUE,
    ) -> Listener:
        """A new listener for events of ``kinds`` of the flows that match ``where``."""
        listener = Listener(where, kinds, size, self._leave)
        if not self._listeners:
            self._wanted(True)
        self._listeners.add(listener)
        return listener

    def _leave(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
            if not self._listeners:
                self._wanted(False)

    def publish(self, events: list[Event]) -> None:
        """Queue ``events`` everywhere, their times moved from the clock to the calendar.

        ``at`` becomes nanoseconds since 1970, UTC.
        """
        if not self._listeners:
            return
        shift = self._wall_clock() - self._clock()
        for event in events:
            dated = event._replace(at=event.at + shift)
            for listener in self._listeners:
                listener.put(dated)

    def close(self) -> None:
        """Unsubscribe every listener."""
        for listener in list(self._listeners):
            listener.close()
