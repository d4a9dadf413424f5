"""Our TCP tracker against the kernel's, segment by segment."""

from __future__ import annotations

import os
import random

import pytest

from tests.conformance.tcp_walk import ACK, FIN, PSH, RST, SYN, Step, Walk, random_walk
from tests.dataplanes import DATAPLANES
from tests.kernel_facts.kernel import Kernel

pytestmark = pytest.mark.root

C, S = True, False
OPEN = (Step(C, SYN), Step(S, SYN | ACK), Step(C, ACK))

WALKS = {
    "open and close by the client": (
        *OPEN, Step(C, FIN | ACK), Step(S, ACK), Step(S, FIN | ACK), Step(C, ACK),
    ),
    "close by the server": (
        *OPEN, Step(S, FIN | ACK), Step(C, ACK), Step(C, FIN | ACK), Step(S, ACK),
    ),
    "both close at once": (
        *OPEN, Step(C, FIN | ACK), Step(S, FIN | ACK, ack=-1), Step(C, ACK), Step(S, ACK),
    ),
    "refused": (Step(C, SYN), Step(S, RST | ACK, seq=-5000)),
    "exact reset": (*OPEN, Step(S, RST)),
    "exact reset by the client": (*OPEN, Step(C, RST | ACK)),
    "reset in the window": (*OPEN, Step(S, RST, seq=20)),
    "reset out of the window": (*OPEN, Step(S, RST, seq=100000)),
    "reset below": (*OPEN, Step(S, RST, seq=-100)),
    "data unacknowledged and acknowledged": (
        *OPEN, Step(C, PSH | ACK, length=100), Step(S, ACK), Step(S, PSH | ACK, length=10),
        Step(C, ACK),
    ),
    "data beyond the window": (*OPEN, Step(C, PSH | ACK, seq=5000, length=10)),
    "data already acknowledged": (
        *OPEN, Step(C, ACK, length=100), Step(S, ACK), Step(C, ACK, seq=-100, length=100),
    ),
    "an acknowledgement of what was not sent": (*OPEN, Step(S, ACK, ack=5000)),
    "a late acknowledgement": (*OPEN, Step(C, ACK, length=100), Step(S, ACK, ack=-100)),
    "retransmitted SYN": (Step(C, SYN), Step(C, SYN, seq=-1), Step(S, SYN | ACK), Step(C, ACK)),
    "retransmitted SYN-ACK": (
        Step(C, SYN), Step(S, SYN | ACK), Step(S, SYN | ACK, seq=-1), Step(C, ACK),
    ),
    "simultaneous open": (
        Step(C, SYN), Step(S, SYN), Step(C, SYN | ACK, seq=-1), Step(S, SYN | ACK, seq=-1),
        Step(C, ACK), Step(S, ACK),
    ),
    "midstream": (Step(C, ACK), Step(S, ACK), Step(C, ACK), Step(S, ACK, length=100)),
    "first a FIN": (Step(C, FIN | ACK),),
    "first a RST": (Step(C, RST),),
    "first a SYN-ACK": (Step(C, SYN | ACK),),
    "a new SYN in TIME_WAIT": (
        *OPEN, Step(C, FIN | ACK), Step(S, FIN | ACK), Step(C, ACK), Step(C, SYN, seq=100000),
    ),
    "a SYN amid an open connection, answered": (
        *OPEN, Step(C, SYN, seq=100000), Step(S, ACK), Step(C, RST, seq=0),
    ),
    "a late duplicate of the SYN in TIME_WAIT": (
        *OPEN, Step(C, FIN | ACK), Step(S, FIN | ACK), Step(C, ACK), Step(C, SYN, seq=-2),
    ),
    "a late duplicate of the handshake": (
        *OPEN, Step(C, ACK, length=10), Step(S, ACK), Step(C, SYN, seq=-11),
        Step(S, SYN | ACK, seq=-1, ack=-10), Step(C, ACK, length=10),
    ),
    "zero window": (*OPEN, Step(S, ACK, window=0), Step(C, ACK, length=1), Step(S, ACK, window=0)),
    "three retransmissions": (*OPEN, *(Step(C, ACK, seq=-1, length=1) for _ in range(5))),
}  # fmt: skip


@pytest.mark.parametrize("name", DATAPLANES)
@pytest.mark.parametrize("steps", WALKS.values(), ids=WALKS)
def test_a_walk(kernel: Kernel, port: int, steps: tuple[Step, ...], name: str) -> None:
    walk = Walk(kernel, port, name)
    walk.go(*steps)
    assert len(walk.history) == len(steps)


SEED = int(os.environ.get("PYLB_SEED", "1"))
COUNT = int(os.environ.get("PYLB_WALKS", "25"))


@pytest.mark.parametrize("name", DATAPLANES)
@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_walk(kernel: Kernel, port: int, number: int, name: str) -> None:
    """``PYLB_SEED`` chooses other walks, ``PYLB_WALKS`` how many; a failure tells its steps."""
    rng = random.Random(f"{SEED}/{number}")
    Walk(kernel, port, name).go(*random_walk(rng, 14))
