"""Recorded captures: both dataplanes make the same of them."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import OverlayPort
from pylb.policy.model import Overlay
from tests.differential.captures import path_of, plan_of, read
from tests.differential.twins import Twins

pytestmark = pytest.mark.parametrize("overlay", list(Overlay), ids=lambda each: each.value)


@pytest.mark.parametrize("max_flows", [8, 1024])
def test_a_capture_is_read_alike(overlay: Overlay, max_flows: int) -> None:
    twins = Twins(max_flows, every_flow=False)
    twins.load(plan_of(overlay))
    states, sent = set(), 0
    for at, packet in read(overlay):
        if at > twins.now:
            twins.advance(at)
        out = twins.process(packet)
        states.update(event.flow.state for event in out.events)
        sent += len(out.sent)
    twins.flows()
    assert {"", "SYN_SENT", "ESTABLISHED", "TIME_WAIT"} <= states
    assert sent > 200
    twins.end()


def test_a_capture_is_small_and_has_both_ways_in(overlay: Overlay) -> None:
    assert path_of(overlay).stat().st_size < 150_000
    ports = {type(packet.port) for _, packet in read(overlay)}
    assert (OverlayPort in ports) is (overlay is not Overlay.HOST_GW)
