"""GRO: what is put together comes apart as it was, and nothing else is put together."""

from __future__ import annotations

import re
import struct
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylb.wire import pure, sctp
from pylb.wire.virtio_net import GSO_NONE, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, Header, encode
from tests.unit.native.probe import (
    CSRC,
    LONGEST_RUN,
    PARTIAL,
    RUNS,
    SLICES,
    Ask,
    Given,
    Held,
    cut,
    gro,
    read,
)
from tests.unit.native.streams import (
    IP_MAX,
    ODDITIES,
    TCP,
    UDP,
    Facts,
    Packet,
    Sender,
    Step,
    expected_runs,
    long_stream,
    packets,
    senders,
    steps,
)


def check(
    ask: Ask, stream: list[Packet], tcp: bool = True, udp: bool = True, collide: bool = False
) -> list[Held]:
    """All that is held of ``stream`` together; gives what became of it."""
    came = gro(ask, [packet.given for packet in stream], tcp, udp, collide)
    expected = expected_runs(stream, tcp, udp, collide)
    assert [[held.segments for held in batch] for batch in came] == [
        [len(run) for run in batch] for batch in expected
    ]
    for batch, runs in zip(came, expected, strict=True):
        for held, run in zip(batch, runs, strict=True):
            if len(run) == 1:
                assert held.gso_size == 0
                assert held.whole == run[0].given.data[: len(run[0].wire)]
            else:
                assert held.packets == [packet.wire for packet in run]
                super_packet(ask, held)
    in_order(stream, [held for batch in came for held in batch])
    return [held for batch in came for held in batch]


def super_packet(ask: Ask, held: Held) -> None:
    """Its headers are those of one large packet, and the TUN is told how to cut it."""
    data, total = held.whole, len(held.whole)
    assert total <= IP_MAX
    assert struct.unpack_from(">H", data, 2) == (total,)
    assert pure.ones_sum(data[:20]) == 0xFFFF
    protocol = data[9]
    check_at = 16 if protocol == TCP else 6
    headers = 20 + ((data[32] >> 4) * 4 if protocol == TCP else 8)
    src, dst = struct.unpack_from(">II", data, 12)
    (field,) = struct.unpack_from(">H", data, 20 + check_at)
    assert field == pure.pseudo_sum(src, dst, protocol, total - 20)
    if protocol == UDP:
        assert struct.unpack_from(">H", data, 24) == (total - 20,)
    gso_type = GSO_TCPV4 if protocol == TCP else GSO_UDP_L4
    size = len(held.cut[0]) - headers
    assert held.header == (NEEDS_CSUM, gso_type, headers, size, 20, check_at)
    assert held.segments == len(held.cut) <= LONGEST_RUN
    # What is written to one TUN is what another reads.
    again = read(ask, data, encode(held.header))
    assert isinstance(again, Held)
    assert again[:5] == held[:5]
    assert len(again.cut) == len(held.cut)
    fixed = held.cut[0][4:6] == held.cut[1][4:6]
    for ours, theirs in zip(held.cut, again.cut, strict=True):
        # A TUN has no way to say that identifications stay.
        assert (ours[:4], ours[6:10], ours[12:]) == (theirs[:4], theirs[6:10], theirs[12:])
        assert fixed or ours == theirs


def in_order(stream: list[Packet], came: list[Held]) -> None:
    """No packet of a flow overtakes another."""
    sent: dict[tuple[int, ...], list[bytes]] = defaultdict(list)
    got: dict[tuple[int, ...], list[bytes]] = defaultdict(list)
    for packet in stream:
        if pure.ones_sum(packet.wire[: (packet.wire[0] & 15) * 4]) == 0xFFFF:
            sent[Facts.of(packet).flow].append(on_the_wire(packet.wire))
    for held in came:
        for data in held.packets:
            flow = Facts.of(Packet(Given(data), data)).flow
            got[flow].append(on_the_wire(data))
    assert got == sent


def on_the_wire(packet: bytes) -> bytes:
    """``packet`` without its transport checksum, which may be still to be made."""
    start = (packet[0] & 15) * 4
    if struct.unpack_from(">H", packet, 6)[0] & 0x3FFF:
        return packet
    at = start + (16 if packet[9] == TCP else 6)
    return packet[:at] + packet[at + 2 :]


@given(steps, st.integers(0, 63), st.integers(0, 63), st.tuples(*[st.booleans()] * 3))
def test_what_is_put_together_comes_apart_as_it_was(
    ask: Ask, script: list[Step], fixed: int, df: int, how: tuple[bool, bool, bool]
) -> None:
    check(ask, packets(script, senders(fixed, df)), *how)


@pytest.mark.parametrize("odd", sorted(ODDITIES))
def test_each_oddity_among_plain_packets(ask: Ask, odd: str) -> None:
    scripts = [
        [
            Step(flow, 100, times=before),
            Step(flow, size, odd, sticky, times),
            Step(flow, 100, times=2),
        ]
        for flow in (0, 1, 3)
        for before in (0, 1, 2)
        for size in (100, 99, 0)
        for sticky in (False, True)
        for times in (1, 2)
    ]
    for script in scripts:
        for fixed, df in ((0, 0), (0, 63), (63, 63)):
            check(ask, packets(script, senders(fixed, df)))


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_long_streams(ask: Ask, seed: int, collide: bool) -> None:
    check(ask, packets(long_stream(seed), senders(seed, seed >> 6)), collide=collide)


def test_bulk_tcp_becomes_runs_of_64_kilobytes(ask: Ask) -> None:
    stream = packets([Step(0, 1398, times=100)], senders())
    assert [held.segments for held in check(ask, stream)] == [46, 46, 8]


def test_small_packets_become_runs_of_64(ask: Ask) -> None:
    for flow in (0, 3):
        stream = packets([Step(flow, 64, times=130)], senders())
        assert [held.segments for held in check(ask, stream)] == [64, 64, 2]


def test_a_run_of_exactly_65535_bytes(ask: Ask) -> None:
    """One byte more would not fit into the length field."""
    for size, expected in ((65495, [2]), (65496, [1, 1])):
        odd = [Step(0, size - 40), Step(0, 40)]
        stream = packets(odd, senders())
        assert [held.segments for held in check(ask, stream)] == expected


def test_interleaved_flows_are_each_put_together(ask: Ask) -> None:
    stream = packets([Step(flow, 100) for _ in range(10) for flow in range(6)], senders())
    assert [held.segments for held in check(ask, stream)] == [10] * 6
    assert {held.segments for held in check(ask, stream, collide=True)} == {1}
    # But for the addresses, each could follow the other.
    stream = packets([Step(flow, 100) for flow in (3, 4, 3, 4)], senders(63, 63))
    assert {held.segments for held in check(ask, stream, collide=True)} == {1}


def test_a_batch_full_of_runs(ask: Ask) -> None:
    flows = [Sender(TCP, number) for number in range(RUNS + 1)]
    stream = packets([Step(flow, 10) for flow in range(RUNS + 1)], flows)
    check(ask, stream)
    came = gro(ask, [packet.given for packet in stream])
    assert [len(batch) for batch in came] == [RUNS, 1]


def test_a_batch_full_of_slices(ask: Ask) -> None:
    stream = packets([Step(0, 10, times=SLICES + 100)], senders())
    check(ask, stream)
    came = gro(ask, [packet.given for packet in stream])
    assert sum(held.segments - 1 for held in came[0]) == SLICES
    assert len(came) == 2


def test_a_super_packet_of_the_tun_stays_as_it_is(ask: Ask) -> None:
    """Also between packets of its flow that could be joined."""
    before, large, after = packets(
        # The one behind has the identification that would follow.
        [Step(0, 100), Step(0, 5000), Step(0, 100, "id skips")],
        senders(),
    )
    data = large.wire[:36] + struct.pack(">H", 0) + large.wire[38:]
    told = Given(data, Header(NEEDS_CSUM, GSO_TCPV4, 40, 1448, 20, 16))
    came = gro(ask, [before.given, told, after.given])
    assert [[held.segments for held in batch] for batch in came] == [[1, 4, 1]]
    assert came[0][1].csum == PARTIAL
    assert came[0][0].header.gso_type == GSO_NONE


def test_a_udp_checksum_that_comes_out_as_zero_is_written_as_all_ones(ask: Ask) -> None:
    stream = []
    for wire in (packet.wire for packet in packets([Step(3, 100, times=3)], senders())):
        # The checksum, added to a word that it covers, makes it 0.
        word = pure.ones_sum(wire[40:42] + wire[26:28])
        changed = wire[:26] + b"\xff\xff" + wire[28:40] + struct.pack(">H", word) + wire[42:]
        stream.append(Packet(Given(changed), changed))
    assert [held.segments for held in check(ask, stream)] == [3]


def test_sctp_is_never_put_together(ask: Ask) -> None:
    """However alike its packets are: they pass as they came, checksum and all."""
    stream = [
        sctp.build(0x0AF40102, 0x0AF40203, 40000, 80, 7, sctp.chunk(sctp.DATA, 3, bytes(100)))
        for _ in range(4)
    ]
    (batch,) = gro(ask, [Given(raw) for raw in stream])
    assert [held.segments for held in batch] == [1] * 4
    assert [held.whole for held in batch] == stream
    assert all(held.header == Header() for held in batch)


@given(
    st.sampled_from([0, 1, 3]),
    st.integers(1, 400),
    st.integers(0, 400),
    st.lists(st.integers(200, 900), max_size=6),
)
def test_a_payload_in_pieces_is_cut_as_one_that_lies_together(
    ask: Ask, flow: int, gso_size: int, here: int, pieces: list[int]
) -> None:
    """Also where a segment spans several, or begins at an odd byte of one."""
    (packet,) = packets([Step(flow, here + sum(pieces), "psh")], senders())
    headers = len(packet.wire) - here - sum(pieces)
    whole = cut(ask, packet.wire, gso_size, len(packet.wire), [])
    assert cut(ask, packet.wire, gso_size, headers + here, pieces) == whole
    assert b"".join(part[headers:] for part in whole) == packet.wire[headers:]
    for part in whole:
        facts = Facts.of(Packet(Given(part), part))
        assert facts.payload == gso_size or part is whole[-1]
        assert facts.seq is None or facts.last == (part is whole[-1])
        assert not facts._replace(last=False).alone, "a checksum is wrong"


def test_the_limits_are_those_of_the_header() -> None:
    text = (CSRC / "gro.h").read_text(encoding="utf-8")
    defined = dict(re.findall(r"^#define\s+(\w+)\s+(\d+)", text, re.M))
    assert (defined["RUNS"], defined["SLICES"], defined["LONGEST_RUN"]) == (
        str(RUNS),
        str(SLICES),
        str(LONGEST_RUN),
    )
