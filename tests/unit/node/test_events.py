"""Listeners: order, filters, bounds, the calendar."""

from __future__ import annotations

import asyncio

from pylb.dataplane.base import Event, EventKind, FlowFilter, FlowTuple, FlowView
from pylb.node.events import Broadcaster, Listener


def event(number: int, protocol: int = 6, kind: EventKind = EventKind.NEW, at: int = 0) -> Event:
    original = FlowTuple(1, 2, protocol, number, 80)
    reply = FlowTuple(2, 1, protocol, 80, number)
    flow = FlowView(number, original, reply, 0, "", False, False, (1, 0), (40, 0))
    return Event(kind, flow, at)


async def everything(listener: Listener) -> list[Event | int]:
    listener.close()
    return [item async for item in listener]


def ids(items: list[Event | int]) -> list[int | str]:
    return [f"lost {item}" if isinstance(item, int) else item.flow.id for item in items]


def test_every_listener_gets_what_it_asked_for() -> None:
    async def main() -> None:
        events = Broadcaster()
        all_of_it = events.subscribe()
        udp = events.subscribe(FlowFilter(protocol=17))
        ends = events.subscribe(kinds=frozenset({EventKind.DESTROY}))
        events.publish([event(1), event(2, 17), event(3, kind=EventKind.DESTROY)])
        assert ids(await everything(all_of_it)) == [1, 2, 3]
        assert ids(await everything(udp)) == [2]
        assert ids(await everything(ends)) == [3]

    asyncio.run(main())


def test_a_slow_listener_is_told_how_many_it_lost_and_where() -> None:
    async def main() -> None:
        events = Broadcaster()
        slow = events.subscribe(size=2)
        quick = events.subscribe()
        events.publish([event(number) for number in range(1, 6)])
        items = aiter(slow)
        got: list[Event | int] = [await anext(items)]
        events.publish([event(6)])
        got += [await anext(items), await anext(items)]
        events.publish([event(7)])
        slow.close()
        got += [item async for item in items]
        assert ids(got)[:3] == [1, 2, "lost 3"]
        assert ids(got)[3:] == [6, 7]
        assert ids(await everything(quick)) == [1, 2, 3, 4, 5, 6, 7]

    asyncio.run(main())


def test_losses_after_the_last_event_are_told_too() -> None:
    async def main() -> None:
        events = Broadcaster()
        slow = events.subscribe(size=1)
        events.publish([event(1), event(2)])
        assert ids(await everything(slow)) == [1, "lost 1"]

    asyncio.run(main())


def test_a_waiting_listener_wakes() -> None:
    async def main() -> None:
        events = Broadcaster()
        items = aiter(events.subscribe())
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)
        assert not waiting.done()
        events.publish([event(1)])
        assert ids([await waiting]) == [1]
        events.close()
        assert [item async for item in items] == []

    asyncio.run(main())


def test_times_move_to_the_calendar_and_a_closed_listener_gets_nothing() -> None:
    async def main() -> None:
        events = Broadcaster(clock=lambda: 1_000, wall_clock=lambda: 1_700_000_000_000_000_000)
        listener, gone = events.subscribe(), events.subscribe()
        gone.close()
        events.publish([event(1, at=400)])
        [dated] = await everything(listener)
        assert isinstance(dated, Event)
        assert dated.at == 1_699_999_999_999_999_400
        assert await everything(gone) == []

    asyncio.run(main())
