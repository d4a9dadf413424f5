"""Flows of every protocol but TCP, their end, and the bounds of the table."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, EventKind, FlowFilter, Output
from pylb.wire import ipv4
from tests.dataplanes import AnyDataplane
from tests.unit.dataplane.net import (
    INTERNET,
    NODE,
    POD_A,
    POD_B,
    SECOND,
    TCP,
    UDP,
    VIP_UDP,
    backend,
    datagram,
    dataplane,
    frontend,
    only,
    ping,
    prefix,
    segment,
    syn,
    tun,
)


def kinds(out: Output) -> list[tuple[str, int]]:
    return [(e.kind.name, e.flow.timeout) for e in out.events]


def test_udp_becomes_a_stream_after_two_seconds_both_ways() -> None:
    dp = dataplane(frontend(VIP_UDP, 53, [backend(POD_B, 53)], protocol=UDP))
    ask = tun(datagram(POD_A, 5000, VIP_UDP, 53))
    answer = tun(datagram(POD_B, 53, POD_A, 5000))
    assert kinds(dp.process([ask], 0)) == [("NEW", 30)]
    assert kinds(dp.process([answer], SECOND)) == [("UPDATE", 30)]
    assert kinds(dp.process([ask], 2 * SECOND)) == []
    assert kinds(dp.process([ask], 2 * SECOND + 1)) == [("UPDATE", 120)]
    (flow,) = dp.flows(3 * SECOND)
    assert flow.assured
    assert flow.seen_reply


def test_one_way_udp_never_becomes_a_stream() -> None:
    dp = dataplane()
    for second in range(0, 60, 10):
        dp.process([tun(datagram(POD_A, 5000, POD_B, 53))], second * SECOND)
    (flow,) = dp.flows(50 * SECOND)
    assert (flow.timeout, flow.seen_reply, flow.assured) == (30, False, False)


def test_ping_is_never_assured() -> None:
    dp = dataplane()
    for second in range(10):
        dp.process([tun(ping(POD_A, POD_B))], second * SECOND)
        dp.process([tun(ping(POD_B, POD_A, reply=True))], second * SECOND)
    (flow,) = dp.flows(9 * SECOND)
    assert (flow.timeout, flow.seen_reply, flow.assured) == (30, True, False)


def test_an_unsolicited_ping_reply_makes_no_entry() -> None:
    dp = dataplane()
    out = dp.process([tun(ping(POD_A, POD_B, reply=True))], 0)
    assert len(out.sent) == 1, "pod to pod needs no translation: passed on"
    assert not list(dp.flows(0))
    out = dp.process([tun(ping(POD_A, INTERNET, reply=True))], 0)
    assert [d.reason for d in out.dropped] == [DropReason.INVALID_STATE]


@pytest.mark.parametrize(
    ("protocol", "payload", "timeouts"),
    [
        (99, b"whatever", (600, 600)),
        (47, b"\0\0\x08\0rest", (30, 180)),
        (33, bytes(12), (600, 600)),
    ],
    ids=["generic", "gre", "dccp"],
)
def test_other_protocols(protocol: int, payload: bytes, timeouts: tuple[int, int]) -> None:
    dp = dataplane()
    there = tun(ipv4.build(POD_A, INTERNET, protocol, payload))
    back = tun(ipv4.build(INTERNET, NODE, protocol, payload))
    assert kinds(dp.process([there], 0)) == [("NEW", timeouts[0])]
    dp.process([back], 0)
    only(dp.process([there], 0))
    (flow,) = dp.flows(0)
    assert flow.timeout == timeouts[1]
    assert flow.reply.dst == NODE


def test_a_portless_protocol_has_one_masquerade_mapping_per_destination() -> None:
    dp = dataplane()
    only(dp.process([tun(ipv4.build(POD_A, INTERNET, 99, b"x"))], 0))
    out = dp.process([tun(ipv4.build(POD_B, INTERNET, 99, b"x"))], 0)
    assert [d.reason for d in out.dropped] == [DropReason.SNAT_EXHAUSTED]


def test_a_flow_is_dead_at_its_deadline_and_not_before() -> None:
    dp = dataplane()
    dp.process([tun(datagram(POD_A, 5000, POD_B, 53))], 0)
    assert dp.next_deadline() == 30 * SECOND
    assert dp.advance(30 * SECOND - 1).events == []
    assert kinds(dp.advance(30 * SECOND)) == [("DESTROY", 0)]
    assert dp.next_deadline() is None


def test_destroy_events_come_by_deadline_then_creation() -> None:
    dp = dataplane()
    dp.process([tun(syn(POD_A, 1, POD_B, 80))], 0)
    for port in (5002, 5001, 5003):
        dp.process([tun(datagram(POD_A, port, POD_B, 53))], 0)
    dp.process([tun(datagram(POD_A, 5002, POD_B, 53))], SECOND)
    gone = [e.flow.original.sport for e in dp.advance(1000 * SECOND).events]
    assert gone == [5001, 5003, 5002, 1]


def test_a_dead_flow_that_is_asked_for_is_new_again_and_its_end_is_told_later() -> None:
    dp = dataplane()
    dp.process([tun(datagram(POD_A, 5000, POD_B, 53))], 0)
    out = dp.process([tun(datagram(POD_A, 5000, POD_B, 53))], 31 * SECOND)
    assert [e.kind for e in out.events] == [EventKind.NEW]
    out = dp.advance(31 * SECOND)
    assert [e.kind for e in out.events] == [EventKind.DESTROY]
    assert len(list(dp.flows(31 * SECOND))) == 1


def test_a_timeout_that_shrinks_is_obeyed() -> None:
    """An established connection's five days become ten seconds after its reset."""
    dp = dataplane()
    for flags, seq, ack, back in ((2, 1, 0, 0), (0x12, 9, 2, 1), (0x10, 2, 10, 0), (4, 10, 0, 1)):
        ends = (POD_B, 80, POD_A, 1) if back else (POD_A, 1, POD_B, 80)
        dp.process([tun(segment(*ends, flags, seq, ack))], 0)
    assert next(dp.flows(0)).state == "CLOSE"
    assert kinds(dp.advance(10 * SECOND)) == [("DESTROY", 0)]


def test_a_full_table_evicts_the_unassured_flow_that_was_not_renewed_for_the_longest() -> None:
    dp = dataplane(max_flows=3)
    for port in (1, 2, 3):
        dp.process([tun(datagram(POD_A, port, POD_B, 53))], port)
    dp.process([tun(datagram(POD_A, 1, POD_B, 53))], 4)
    out = dp.process([tun(datagram(POD_A, 4, POD_B, 53))], 5)
    assert [(e.kind.name, e.flow.original.sport) for e in out.events] == [
        ("DESTROY", 2),
        ("NEW", 4),
    ]
    assert dp.counters()["early_drop"] == 1
    assert [f.original.sport for f in dp.flows(5)] == [1, 3, 4]


def victims(dp: AnyDataplane, now: int) -> list[int]:
    """Source ports of the flows in the order in which new ones evict them."""
    gone = []
    for port in range(9000, 9000 + len(list(dp.flows(now)))):
        out = dp.process([tun(syn(POD_B, port, POD_A, 99))], now)
        gone += [e.flow.original.sport for e in out.events if e.kind is EventKind.DESTROY]
    return gone


def test_a_packet_that_renews_nothing_does_not_keep_its_flow() -> None:
    """A SYN that comes again without an answer (RFC 9293) is no sign of life."""
    dp = dataplane(max_flows=3)
    for now, raw in enumerate(
        (
            syn(POD_A, 1, POD_B, 80),
            syn(POD_A, 2, POD_B, 80),
            syn(POD_A, 3, POD_B, 80),
            syn(POD_A, 1, POD_B, 80),
        )
    ):
        dp.process([tun(raw)], now)
    assert victims(dp, 9) == [1, 2, 3]


def test_whatever_their_timeouts_the_oldest_renewal_goes_first() -> None:
    """600, 120 and 30 seconds: not the one that has the least left."""
    dp = dataplane(max_flows=4)
    generic = ipv4.build(POD_A, POD_B, 99, b"x")
    for now, raw in enumerate((datagram(POD_A, 1, POD_B, 53), generic, syn(POD_A, 3, POD_B, 80))):
        dp.process([tun(raw)], now)
    dp.process([tun(datagram(POD_A, 1, POD_B, 53))], 5)
    # Renewed at the same time as the first: of these two the shorter timeout goes first.
    dp.process([tun(syn(POD_A, 4, POD_B, 80))], 5)
    assert victims(dp, 9) == [0, 3, 1, 4]


def test_dead_flows_keep_their_room_until_their_end_is_told() -> None:
    dp = dataplane(max_flows=3)
    for port in (1, 2):
        dp.process([tun(datagram(POD_A, port, POD_B, 53))], port)
    # Noticed to be dead, and new again: two records of one flow.
    out = dp.process([tun(datagram(POD_A, 2, POD_B, 53))], 40 * SECOND)
    assert kinds(out) == [("NEW", 30)]
    assert dp.counters()["flows"] == 2
    out = dp.process([tun(datagram(POD_A, 4, POD_B, 53))], 40 * SECOND)
    assert [(e.kind.name, e.flow.original.sport) for e in out.events] == [
        ("DESTROY", 1),
        ("DESTROY", 2),
        ("NEW", 4),
    ]
    assert dp.counters()["early_drop"] == 0
    assert dp.advance(40 * SECOND).events == []


def test_a_table_full_of_assured_flows_refuses_new_ones_by_name() -> None:
    dp = dataplane(max_flows=1)
    for flags, seq, ack, back in ((2, 1, 0, 0), (0x12, 9, 2, 1), (0x10, 2, 10, 0)):
        ends = (POD_B, 80, POD_A, 1) if back else (POD_A, 1, POD_B, 80)
        dp.process([tun(segment(*ends, flags, seq, ack))], 0)
    out = dp.process([tun(syn(POD_A, 2, POD_B, 80))], 0)
    assert [d.reason for d in out.dropped] == [DropReason.TABLE_FULL]
    assert dp.counters()["drop_table_full"] == 1
    # Dead flows make room, whatever they were.
    out = dp.process([tun(syn(POD_A, 2, POD_B, 80))], 432001 * SECOND)
    assert len(out.sent) == 1


def test_delete_takes_what_matches_and_nothing_else() -> None:
    dp = dataplane()
    dp.process([tun(datagram(POD_A, 1, POD_B, 53)), tun(syn(POD_A, 1, POD_B, 80))], 0)
    count, out = dp.delete(FlowFilter(protocol=UDP, src=prefix("10.244.1.2/32")), 0)
    assert count == 1
    assert [e.kind for e in out.events] == [EventKind.DESTROY]
    assert [f.original.protocol for f in dp.flows(0)] == [TCP]


def test_counters_name_every_drop_from_the_start() -> None:
    counters = dataplane().counters()
    assert {f"drop_{reason.value}" for reason in DropReason} <= set(counters)
    assert all(counters[f"drop_{reason.value}"] == 0 for reason in DropReason)
