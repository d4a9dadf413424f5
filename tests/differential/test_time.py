"""Many assured flows whose timeouts rise and fall: each dies at its own nanosecond.

The native dataplane keeps them in a timing wheel, the Python one in a heap.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pylb.dataplane.base import NODE_TUN, Packet
from pylb.wire import tcp, udp
from tests.differential.test_sequences import examples
from tests.differential.twins import Twins
from tests.unit.dataplane.net import POD_A, POD_B, SECOND, plan

TICK = 1 << 24
"""Nanoseconds: the wheel's own measure."""
FLOWS = 40
STEPS = 60
WAITS = (0, 1, 1000, TICK - 1, TICK, TICK + 1, 255 * TICK, 256 * TICK, 1 << 32, 1 << 38)
SECONDS = (1, 5, 9, 29, 60, 119, 299, 3600, 100_000)

seeds = st.integers(0, (1 << 32) - 1)


class Flows:
    """Connections from one pod to another; even ones are UDP."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.sent = [1000] * FLOWS

    def open(self, which: int) -> None:
        """Until it is assured."""
        if which % 2 == 0:
            self.datagrams(which)
            self.twins.now += 2 * SECOND + 1
            self.datagrams(which)
            return
        self.sent[which] = 1001
        self.segment(which, True, tcp.SYN, 1000, 0)
        self.segment(which, False, tcp.SYN | tcp.ACK, 5000, 1001)
        self.segment(which, True, tcp.ACK, 1001, 5001)

    def datagrams(self, which: int) -> None:
        for ends in ((POD_A, POD_B, which + 1, 53), (POD_B, POD_A, 53, which + 1)):
            self.twins.process(Packet(NODE_TUN, udp.build(*ends, b"x")))

    def segment(
        self, which: int, there: bool, flags: int, seq: int, ack: int, size: int = 0
    ) -> None:
        ends = (POD_A, POD_B, which + 1, 80) if there else (POD_B, POD_A, 80, which + 1)
        raw = tcp.build(*ends, seq, ack, flags, 65535, b"", bytes(size))
        self.twins.process(Packet(NODE_TUN, raw))

    def touch(self, which: int, rng: Random) -> None:
        """Something that gives it another timeout, longer or shorter."""
        if which % 2 == 0:
            self.datagrams(which)
            return
        kind = rng.random()
        if kind < 0.4:
            # Unacknowledged: five minutes instead of five days.
            self.segment(which, True, tcp.ACK, self.sent[which], 5001, 1)
            self.sent[which] += 1
        elif kind < 0.8:
            self.segment(which, False, tcp.ACK, 5001, self.sent[which])
        elif kind < 0.9:
            # In the window, but not exactly what is due: ten seconds.
            self.segment(which, False, tcp.RST, 5003, 0)
        else:
            self.segment(which, True, tcp.FIN | tcp.ACK, self.sent[which], 5001)


@examples(150)
@given(st.lists(seeds, min_size=STEPS, max_size=STEPS))
def test_each_dies_at_its_own_nanosecond(steps: list[int]) -> None:
    twins = Twins(FLOWS + 1, every_flow=False)
    twins.load(plan())
    flows = Flows(twins)
    for index, seed in enumerate(steps):
        if not seed:
            continue
        rng = Random(seed * STEPS + index)
        kind = rng.random()
        if kind < 0.25:
            for which in rng.sample(range(FLOWS), rng.randrange(1, 6)):
                flows.open(which)
                twins.now += rng.choice((0, 1, 7, 1000))
        elif kind < 0.6:
            for which in rng.sample(range(FLOWS), rng.randrange(1, 9)):
                flows.touch(which, rng)
                twins.now += rng.choice((0, 1, 1_000_000))
        elif kind < 0.7:
            twins.advance(twins.now + rng.choice(WAITS))
        elif kind < 0.75:
            twins.advance(twins.now + rng.choice(SECONDS) * SECOND)
        else:
            follow(twins, rng.randrange(1, 12))
    twins.flows()
    follow(twins, 200)
    twins.end()


def follow(twins: Twins, times: int) -> None:
    """As a pump does: wake up when the dataplane asks for it, and no later."""
    for _ in range(times):
        at = twins.twin.next_deadline()
        if at is None:
            return
        twins.advance(max(at, twins.now))


def test_waking_up_is_worth_it() -> None:
    """An idle node with many flows must not be woken up for each of them, again and again."""
    twins = Twins(FLOWS + 1, every_flow=False)
    twins.load(plan())
    flows = Flows(twins)
    for which in range(FLOWS):
        flows.open(which)
    awake = 0
    while (at := twins.twin.next_deadline()) is not None:
        awake += 1
        twins.advance(max(at, twins.now))
    assert not twins.flows()
    assert awake < 4 * FLOWS
    twins.end()
