"""Our SCTP tracker against the kernel's, packet by packet, translated bytes included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import fields

import pytest

from pylb.plan.tables import Timeouts
from pylb.wire.sctp import (
    ABORT,
    COOKIE_ACK,
    COOKIE_ECHO,
    DATA,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_ACK,
    INIT,
    INIT_ACK,
    REFLECTED,
    SACK,
    SHUTDOWN,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
)
from tests.conformance.sctp_walk import (
    CLIENT_TAG,
    SERVER_TAG,
    TIMEOUTS,
    WRONG,
    Association,
    Packet,
    random_association,
)
from tests.conformance.test_tcp_oracle import COUNT, SEED
from tests.dataplanes import DATAPLANES
from tests.kernel_facts.kernel import Kernel

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def patient(kernel: Kernel) -> Iterator[Kernel]:
    """The kernel with other timeouts for SCTP meanwhile."""

    def set_to(timeouts: Timeouts) -> None:
        for each in fields(timeouts):
            if each.name.startswith("sctp_"):
                name = f"net.netfilter.nf_conntrack_sctp_timeout_{each.name[5:]}"
                kernel.run("sysctl", "-qw", f"{name}={getattr(timeouts, each.name)}")

    set_to(TIMEOUTS)
    yield kernel
    set_to(Timeouts())


def c(*kinds: int, **more: int) -> Packet:
    return Packet(True, kinds, **more)  # type: ignore[arg-type]


def s(*kinds: int, **more: int) -> Packet:
    return Packet(False, kinds, **more)  # type: ignore[arg-type]


OPEN = (c(INIT), s(INIT_ACK), c(COOKIE_ECHO), s(COOKIE_ACK))

WALKS = {
    "open, data, close by the client": (
        *OPEN, c(DATA, size=100), s(SACK, size=12), s(SACK, DATA, size=9), c(SHUTDOWN),
        s(SHUTDOWN_ACK), c(SHUTDOWN_COMPLETE),
    ),
    "close by the server": (*OPEN, s(SHUTDOWN), c(SHUTDOWN_ACK), s(SHUTDOWN_COMPLETE)),
    "data with the cookies": (c(INIT), s(INIT_ACK), c(COOKIE_ECHO, DATA), s(COOKIE_ACK, SACK)),
    "refused": (c(INIT), s(ABORT)),
    "aborted by the client": (*OPEN, c(ABORT)),
    "aborted by the server, reflecting": (*OPEN, s(ABORT, flags=REFLECTED, tag=SERVER_TAG)),
    "aborted by somebody else": (*OPEN, s(ABORT, tag=WRONG), s(ABORT, flags=REFLECTED)),
    "data with a wrong tag": (*OPEN, c(DATA, tag=WRONG), s(DATA, tag=SERVER_TAG), c(DATA)),
    "a cookie with a wrong tag": (c(INIT), s(INIT_ACK), c(COOKIE_ECHO, tag=WRONG)),
    "an INIT with a tag": (c(INIT, tag=5),),
    "an INIT that is cut off": (c(INIT, cut=8),),
    "an INIT with company": (c(INIT, DATA),),
    "retransmitted INIT": (c(INIT), c(INIT), s(INIT_ACK), c(INIT)),
    "INITs from both": (c(INIT), s(INIT), c(INIT_ACK), s(INIT_ACK, told=WRONG), s(INIT_ACK)),
    "restarted by the client": (*OPEN, c(INIT, told=7), s(INIT_ACK, tag=7), c(COOKIE_ECHO)),
    "INIT ACK before INIT": (c(INIT_ACK),),
    "first a HEARTBEAT": (
        c(HEARTBEAT, size=20), s(HEARTBEAT_ACK, size=20), c(DATA), s(DATA), c(DATA, tag=WRONG),
    ),
    "first a HEARTBEAT, and then an INIT": (c(HEARTBEAT), c(INIT)),
    "first a HEARTBEAT, and DATA as answer": (c(HEARTBEAT), s(DATA)),
    "a HEARTBEAT with a wrong tag heals": (
        *OPEN, c(HEARTBEAT, tag=WRONG), s(HEARTBEAT_ACK, tag=7), s(DATA, tag=7), c(HEARTBEAT),
        c(HEARTBEAT, tag=1), c(HEARTBEAT_ACK, tag=2),
    ),
    "a HEARTBEAT with a wrong tag among others": (
        *OPEN, c(HEARTBEAT, DATA, tag=WRONG), c(HEARTBEAT, HEARTBEAT, tag=WRONG),
    ),
    "first a HEARTBEAT ACK": (c(HEARTBEAT_ACK), s(DATA, tag=SERVER_TAG), s(DATA, tag=0)),
    "first a HEARTBEAT ACK, answered": (c(HEARTBEAT_ACK), s(HEARTBEAT_ACK)),
    "first DATA": (c(DATA),),
    "first a SHUTDOWN": (c(SHUTDOWN),),
    "first a SHUTDOWN ACK": (c(SHUTDOWN_ACK), s(SHUTDOWN_COMPLETE, flags=REFLECTED, tag=WRONG)),
    "first an ABORT": (c(ABORT),),
    "first a COOKIE ECHO": (c(COOKIE_ECHO, tag=0), c(COOKIE_ECHO)),
    "stale cookie": (c(INIT), s(INIT_ACK), c(COOKIE_ECHO), s(ERROR, size=8)),
    "lost in the middle of a packet": (*OPEN, c(SHUTDOWN, ABORT, flags=REFLECTED), s(DATA)),
    "a chunk of no length": (*OPEN, Packet(True, (DATA,), raw=bytes(4)), c(DATA)),
    "no chunk": (*OPEN, c(), c(DATA)),
    "a tail that is no chunk": (*OPEN, Packet(True, (DATA,), raw=b"\6\0\0"), c(DATA)),
    "first a wrong checksum": (c(INIT, crc=1),),
    "wrong checksums": (*OPEN, c(DATA, crc=1 << 31), s(DATA, crc=256), c(DATA)),
    "a server that is the first with its tag": (c(INIT, told=0), s(INIT_ACK, tag=0), s(DATA)),
    "the tag that the client told": (c(INIT), s(INIT_ACK, tag=CLIENT_TAG, told=SERVER_TAG)),
}  # fmt: skip


@pytest.mark.parametrize("name", DATAPLANES)
@pytest.mark.parametrize("packets", WALKS.values(), ids=WALKS)
def test_a_walk(patient: Kernel, port: int, packets: tuple[Packet, ...], name: str) -> None:
    """All of it is sent: it would end early where no flow is left, or a new one would begin."""
    association = Association(patient, port, name)
    association.send(*packets)
    assert len(association.history) == len(packets)


@pytest.mark.parametrize("name", DATAPLANES)
@pytest.mark.parametrize(
    "walk", ["open, data, close by the client", "close by the server", "first a HEARTBEAT"]
)
def test_the_events_are_the_kernels(patient: Kernel, port: int, walk: str, name: str) -> None:
    association = Association(patient, port, name)
    association.send(*WALKS[walk])
    ours = [(e.kind, e.flow.state, e.flow.assured, e.flow.seen_reply) for e in association.events]
    assert len(ours) >= 2
    theirs = [patient.event(port) for _ in ours]
    assert ours == [(e.kind, e.flow.state, e.flow.assured, e.flow.seen_reply) for e in theirs]


@pytest.mark.parametrize("name", DATAPLANES)
@pytest.mark.parametrize("number", range(COUNT))
def test_a_random_walk(patient: Kernel, port: int, number: int, name: str) -> None:
    """``PYLB_SEED`` chooses other walks, ``PYLB_WALKS`` how many; a failure tells its steps."""
    rng = random.Random(f"{SEED}/{number}")
    Association(patient, port, name).send(*random_association(rng, 14))
