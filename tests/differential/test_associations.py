"""SCTP through a Service: both dataplanes say the same of every packet."""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.dataplane.base import NODE_TUN
from pylb.dataplane.base import Packet as Datagram
from pylb.plan.tables import Timeouts
from pylb.wire.sctp import HEARTBEAT
from tests.conformance.sctp_walk import Packet, random_association
from tests.conformance.tcp_walk import CLIENT, SERVER, VIP
from tests.differential.test_sequences import STEPS, examples
from tests.differential.twins import Twins
from tests.unit.dataplane.damage import mend, patched
from tests.unit.dataplane.net import POD_A, POD_B, SECOND, backend, frontend
from tests.unit.dataplane.net import VIP as SERVICE
from tests.unit.dataplane.net import plan as plan_of

SCTP = 132
TINY = Timeouts(*(3 + i for i in range(len(fields(Timeouts)))))
_HERE = {CLIENT: POD_A, SERVER: POD_B, VIP: SERVICE}


def here(raw: bytes) -> bytes:
    """The walk's packet between the plan's pods: SCTP's checksum knows no addresses."""
    for at in (12, 16):
        address = int.from_bytes(raw[at : at + 4], "big")
        raw = patched(raw, at, _HERE[address].to_bytes(4, "big"))
    return mend(raw, transport=False)


@examples(500)
@given(st.integers(0, (1 << 32) - 1), st.sampled_from((Timeouts(), TINY)), st.booleans())
def test_one_association(seed: int, timeouts: Timeouts, gone: bool) -> None:
    """Plausible and odd packets; sometimes the backend goes half way."""
    twins, rng = Twins(4), Random(seed)
    service = frontend(SERVICE, 80, [backend(POD_B)], protocol=SCTP, scheduler="lc")
    before = replace(plan_of(service), timeouts=timeouts)
    twins.load(before)
    packets = random_association(rng, STEPS)
    for index, packet in enumerate(packets):
        if rng.random() < 0.1:
            twins.now += rng.choice((1, SECOND, 3 * SECOND, 5 * SECOND))
        if gone and index == STEPS // 2:
            twins.load(replace(plan_of(frontend(SERVICE, 80, [], protocol=SCTP)), addresses={}))
        twins.process(Datagram(NODE_TUN, here(packet.build(40000))))
    twins.end()


@pytest.mark.parametrize("length", [16, 20, 1400, 20000, 65512])
def test_a_checksum_of_any_length_is_mended_alike(length: int) -> None:
    twins = Twins(4)
    twins.load(plan_of(frontend(SERVICE, 80, [backend(POD_B)], protocol=SCTP)))
    packet = Packet(True, (HEARTBEAT,), size=length - 16)
    assert twins.process(Datagram(NODE_TUN, here(packet.build(40000)))).sent
    twins.end()
