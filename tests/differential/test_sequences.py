"""Sequences that hypothesis makes: whatever happens, both dataplanes say the same.

A bounded number of examples by default, more with ``PYLB_EXAMPLES=20000``.  Each operation
is one number; a failure is shrunk, its numbers to 0 (nothing happens) where that still
fails, and prints the blob that replays it and all that the dataplanes were told.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from pylb.dataplane.base import NODE_TUN, Packet
from pylb.plan.tables import Timeouts
from pylb.wire import tcp
from tests.conformance.tcp_walk import Side, Step, random_walk
from tests.differential.plans import random_plan
from tests.differential.traffic import ANYTHING, CONVERSATIONS, FAR, Hand, Operation, happen
from tests.differential.twins import Twins
from tests.unit.dataplane.net import POD_A, POD_B, SECOND, VIP, backend, frontend
from tests.unit.dataplane.net import plan as plan_of

EXAMPLES = int(os.environ.get("PYLB_EXAMPLES", "0"))
STEPS = 40
TINY = Timeouts(*range(3, 19))

seeds = st.integers(0, (1 << 32) - 1)
steps = st.lists(seeds, min_size=STEPS, max_size=STEPS)


def examples(count: int) -> settings:
    return settings(max_examples=EXAMPLES or count)


def run(plan: int, max_flows: int, steps: list[int], operations: dict[Operation, int]) -> None:
    hand = Hand(Twins(max_flows), random_plan(Random(plan)))
    for index, seed in enumerate(steps):
        if seed:
            happen(hand, seed * STEPS + index, operations)
    hand.twins.end()


@examples(700)
@given(seeds, st.sampled_from((1, 2, 3, 5, 8, 64)), steps)
def test_anything(plan: int, max_flows: int, steps: list[int]) -> None:
    """Every operation there is, on a table that is often full."""
    run(plan, max_flows, steps, ANYTHING)


@examples(500)
@given(seeds, steps)
def test_conversations_while_plans_change(plan: int, steps: list[int]) -> None:
    run(plan, 1000, steps, CONVERSATIONS)


@examples(700)
@given(seeds, st.sampled_from((Timeouts(), TINY)), steps)
def test_one_tcp_connection(seed: int, timeouts: Timeouts, steps: list[int]) -> None:
    """Segments that mostly are plausible and now and then are not, through a Service."""
    twins = Twins(4)
    twins.load(replace(plan_of(frontend(VIP, 80, [backend(POD_B)])), timeouts=timeouts))
    client, server = Side(0xFFFFFF00 + seed % 512), Side(5000)
    for step in random_walk(Random(seed), 3):
        give(twins, client, server, step)
    for index, each in enumerate(steps):
        if each:
            rng = Random(each * STEPS + index)
            if rng.random() < 0.1:
                twins.now += rng.choice((1, SECOND, 3 * SECOND, 5 * SECOND))
            give(twins, client, server, random_step(rng), rng.random() < 0.1)
    twins.end()


def random_step(rng: Random) -> Step:
    """Most often what a conversation goes on with, now and then far from it."""
    step = random_walk(rng, 4)[-1]
    if rng.random() < 0.1:
        flags = rng.choice((tcp.SYN, tcp.SYN, tcp.RST, tcp.RST | tcp.ACK, tcp.SYN | tcp.ACK))
        return replace(step, flags=flags, length=0)
    if rng.random() < 0.05:
        return replace(step, seq=rng.choice(FAR), ack=rng.choice(FAR))
    return step


def give(twins: Twins, client: Side, server: Side, step: Step, bare: bool = False) -> None:
    """One segment, its numbers relative to where its sender is; ``bare``: a RST's are 0."""
    own, other = (client, server) if step.client else (server, client)
    ends = (POD_A, VIP, 40000, 80) if step.client else (POD_B, POD_A, 8080, 40000)
    seq, ack = own.next + step.seq, own.expects + step.ack if step.flags & tcp.ACK else 0
    if bare and step.flags & tcp.RST:
        seq = 0
    raw = tcp.build(*ends, seq, ack, step.flags, step.window, step.options, bytes(step.length))
    if step.seq == 0 and not step.flags & tcp.RST:
        flags = bool(step.flags & tcp.SYN) + bool(step.flags & tcp.FIN)
        own.next = (own.next + step.length + flags) & 0xFFFFFFFF
        other.expects = own.next
    twins.process(Packet(NODE_TUN, raw))
