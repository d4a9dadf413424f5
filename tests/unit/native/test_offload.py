"""What the TUN says of a packet: believed only where it can be true, and said back alike."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylb.dataplane.base import DropReason
from pylb.wire import pure
from pylb.wire.virtio_net import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Header,
    encode,
)
from tests.unit.native.probe import COMPLETE, PARTIAL, VERIFIED, Ask, Held, Refusal, read
from tests.unit.native.streams import MF, TCP, UDP, Step, packets, senders

BAD_OFFLOAD = list(DropReason).index(DropReason.BAD_OFFLOAD)
ICMP, GRE, SCTP = 1, 47, 132
SRC, DST = 0x0AF40102, 0x0AF40203


def build(protocol: int, payload: bytes, frag: int = 0, options: int = 0) -> bytes:
    """An IPv4 packet with ``options`` words of options and nothing checked behind them."""
    total = 20 + 4 * options + len(payload)
    header = struct.pack(
        ">BBHHHBBHII", 0x45 + options, 0, total, 7, frag, 64, protocol, 0, SRC, DST
    )
    header += b"\x01" * (4 * options)
    check = struct.pack(">H", pure.checksum(header))
    return header[:10] + check + header[12:] + payload


def tcp(payload: int, words: int = 0) -> bytes:
    """A TCP header with ``words`` words of options, and that much payload."""
    header = struct.pack(">HHIIBBHHH", 40000, 80, 5, 6, 0x50 + 0x10 * words, 0x18, 500, 0, 0)
    return header + b"\x01" * 4 * words + bytes(n & 0xFF for n in range(payload))


def udp(payload: int) -> bytes:
    return struct.pack(">HHHH", 40000, 80, 8 + payload, 0) + bytes(n & 0xFF for n in range(payload))


PACKETS = [
    build(TCP, tcp(0)),
    build(TCP, tcp(1)),
    build(TCP, tcp(300, 3)),
    build(TCP, tcp(300, 10), options=10),
    build(TCP, tcp(100), frag=MF),
    build(TCP, tcp(100)[:64], frag=5),
    build(UDP, udp(0)),
    build(UDP, udp(301)),
    build(UDP, udp(50) + bytes(20), options=2),
    build(UDP, udp(100), frag=MF),
    build(ICMP, b"\x08\0\0\0\0\1\0\1" + bytes(30)),
    build(GRE, b"\x30\1\x88\x0b\0\4\0\7" + bytes(30)),
    build(GRE, b"\0\0\x08\0" + build(TCP, tcp(60))),
    build(SCTP, bytes(40)),
    build(4, build(TCP, tcp(60))),
    build(99, b""),
]


def parsed_bytes(packet: bytes) -> int:
    """How many bytes a dataplane has read addresses, ports and lengths from."""
    start = (packet[0] & 15) * 4
    if struct.unpack_from(">H", packet, 6)[0] & 0x3FFF:
        return start
    if packet[9] == TCP:
        return start + (packet[start + 12] >> 4) * 4
    if packet[9] == SCTP:
        return start + 12
    return start + (8 if packet[9] in (UDP, ICMP, GRE) else 0)


def expected(packet: bytes, header: Header) -> str:
    """ "complete", "verified", "partial", "made", or "bad", from the specification (5.1.6).

    The checksum that is to be made is TCP's or UDP's own; or, in a packet that is no
    super-packet, it lies whole within the packet and behind all that was read of it: a
    tunnel's inner one.  A super-packet is TCP or UDP with its own checksum to be made.
    """
    fragment = struct.unpack_from(">H", packet, 6)[0] & 0x3FFF
    ports = packet[9] in (TCP, UDP) and not fragment
    start = (packet[0] & 15) * 4
    gso = header.gso_type & ~GSO_ECN
    own = ports and (header.csum_start, header.csum_offset) == (
        start,
        16 if packet[9] == TCP else 6,
    )
    if gso != GSO_NONE:
        kind = {TCP: GSO_TCPV4, UDP: GSO_UDP_L4}.get(packet[9])
        good = header.flags & NEEDS_CSUM and own and gso == kind and header.gso_size
        return "partial" if good else "bad"
    if header.flags & NEEDS_CSUM:
        if own:
            return "partial"
        inside = header.csum_start + header.csum_offset + 2 <= len(packet)
        return "made" if inside and header.csum_start >= parsed_bytes(packet) else "bad"
    return "verified" if header.flags & DATA_VALID and ports else "complete"


def judge(ask: Ask, packet: bytes, header: Header) -> None:
    """Compare what is made of ``packet`` with what is expected."""
    came = read(ask, packet, encode(header))
    what = expected(packet, header)
    if what == "bad":
        assert came == Refusal(True, BAD_OFFLOAD)
        return
    assert isinstance(came, Held)
    state = {"partial": PARTIAL, "verified": VERIFIED}.get(what, COMPLETE)
    assert came.csum == state
    payload = len(packet) - parsed_bytes(packet)
    if header.gso_type & ~GSO_ECN and payload > header.gso_size:
        assert came.gso_size == header.gso_size
        assert came.segments == -(-payload // header.gso_size) == len(came.cut)
        assert b"".join(cut[parsed_bytes(packet) :] for cut in came.cut) == packet[-payload:]
    else:
        assert (came.gso_size, came.segments, came.cut) == (0, 1, [])
    changed = packet
    if what == "made":
        at = header.csum_start + header.csum_offset
        check = pure.checksum(packet[header.csum_start :])
        changed = packet[:at] + struct.pack(">H", check) + packet[at + 2 :]
    assert came.whole == changed


_starts = st.one_of(st.integers(0, 140), st.integers(0, 0xFFFF), st.sampled_from([20, 24, 28, 60]))
_headers = st.builds(
    Header,
    flags=st.one_of(st.sampled_from([0, NEEDS_CSUM, DATA_VALID, 3]), st.integers(0, 255)),
    gso_type=st.one_of(
        st.sampled_from([0, 0, GSO_TCPV4, GSO_UDP_L4, GSO_TCPV4 | GSO_ECN, GSO_UDP, GSO_TCPV6]),
        st.integers(0, 255),
    ),
    hdr_len=st.integers(0, 0xFFFF),
    gso_size=st.one_of(st.integers(0, 400), st.integers(0, 0xFFFF)),
    csum_start=_starts,
    csum_offset=st.one_of(st.sampled_from([6, 16]), st.integers(0, 60), st.integers(0, 0xFFFF)),
)


@given(st.sampled_from(PACKETS), _headers)
@example(PACKETS[0], Header(NEEDS_CSUM, GSO_NONE, csum_start=0, csum_offset=12))
@example(PACKETS[0], Header(NEEDS_CSUM, GSO_NONE, csum_start=20, csum_offset=2))
@example(PACKETS[0], Header(NEEDS_CSUM, GSO_NONE, csum_start=0xFFFF, csum_offset=0xFFFF))
@example(PACKETS[2], Header(NEEDS_CSUM, GSO_TCPV4, gso_size=0, csum_start=20, csum_offset=16))
@example(PACKETS[2], Header(0, GSO_TCPV4, gso_size=10, csum_start=20, csum_offset=16))
@example(PACKETS[2], Header(NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 0, 100, 20, 16))
@example(PACKETS[7], Header(NEEDS_CSUM, GSO_UDP_L4, 0, 100, 20, 6))
@example(PACKETS[7], Header(NEEDS_CSUM, GSO_UDP, 0, 100, 20, 6))
@example(PACKETS[14], Header(NEEDS_CSUM, GSO_NONE, csum_start=40, csum_offset=16))
def test_only_what_can_be_is_believed(ask: Ask, packet: bytes, header: Header) -> None:
    judge(ask, packet, header)


@pytest.mark.parametrize("packet", PACKETS, ids=range(len(PACKETS)))
def test_every_place_of_a_checksum(ask: Ask, packet: bytes) -> None:
    """Up to one byte behind the end, with and without segmentation."""
    for start in {*range(0, len(packet) + 2, 4), 20, 60, len(packet) - 2, len(packet) - 1}:
        for offset in (0, 6, 16, len(packet) - start - 2, len(packet) - start - 1):
            if start < 0 or offset < 0:
                continue
            for gso in (GSO_NONE, GSO_TCPV4, GSO_UDP_L4):
                judge(ask, packet, Header(NEEDS_CSUM, gso, 0, 40, start, offset))


@given(st.binary(max_size=200), _headers)
@example(b"", Header())
def test_bytes_of_no_meaning(ask: Ask, data: bytes, header: Header) -> None:
    """Nothing is expected but that the sanitizers have nothing to say."""
    read(ask, data, encode(header))


@given(st.sampled_from(PACKETS), st.data(), _headers)
def test_packets_cut_off_or_with_bytes_changed(
    ask: Ask, packet: bytes, data: st.DataObject, header: Header
) -> None:
    at = data.draw(st.integers(0, len(packet) - 1))
    if data.draw(st.booleans()):
        packet = packet[:at]
    else:
        packet = packet[:at] + bytes([data.draw(st.integers(0, 255))]) + packet[at + 1 :]
        if at < 20 and len(packet) >= 20:
            bare = packet[:10] + b"\0\0" + packet[12:]
            check = pure.checksum(bare[: max((packet[0] & 15) * 4, 20)])
            packet = packet[:10] + struct.pack(">H", check) + packet[12:]
    read(ask, packet, encode(header))


@given(
    st.sampled_from([0, 1, 3]),
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
)
def test_what_is_read_is_written_back(
    ask: Ask, flow: int, size: int, gso_size: int, hint: int, flags: int
) -> None:
    """The length of the headers is a hint, of which the truth is written; DATA_VALID is not."""
    (packet,) = packets([Step(flow, size)], senders())
    kind, at = (GSO_TCPV4, 16) if flow < 3 else (GSO_UDP_L4, 6)
    header = Header(flags | NEEDS_CSUM, kind, hint, gso_size, 20, at)
    came = read(ask, packet.wire, encode(header))
    assert isinstance(came, Held)
    if size > gso_size:
        truth = len(packet.wire) - size
        assert came.header == Header(NEEDS_CSUM, kind, truth, gso_size, 20, at)
        again = read(ask, came.whole, encode(came.header))
        assert again == came
    else:
        assert came.header == Header(NEEDS_CSUM, csum_start=20, csum_offset=at)


def test_the_largest_packet_in_the_smallest_segments(ask: Ask) -> None:
    packet = build(TCP, tcp(65535 - 40))
    came = read(ask, packet, encode(Header(NEEDS_CSUM, GSO_TCPV4, 40, 1, 20, 16)))
    assert isinstance(came, Held)
    assert came.segments == len(came.cut) == 65495
