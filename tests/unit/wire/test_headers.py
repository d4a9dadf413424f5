"""What the builders build, read back by dpkt, which shares no code with them."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.wire import icmp, ipv4, pure, sctp, tcp, udp
from pylb.wire.checksum import checksum, pseudo_sum
from pylb.wire.errors import WireError

A, B = int(IPv4Address("10.244.1.2")), int(IPv4Address("10.244.2.3"))

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
flags = st.integers(0, 0xFF)
payloads = st.binary(max_size=120)


def read(packet: bytes) -> dpkt.ip.IP:
    """The packet as dpkt sees it, once its own checksum and its payload's are right."""
    assert checksum(packet[:20]) == 0
    ip = dpkt.ip.IP(packet)
    assert ip.len == len(packet)
    body = packet[20:]
    if ip.p == 1:
        assert checksum(body) == 0
    elif ip.p in (6, 17):
        src, dst = int.from_bytes(ip.src, "big"), int.from_bytes(ip.dst, "big")
        assert checksum(body, pseudo_sum(src, dst, ip.p, len(body))) == 0
    return ip


def addresses(ip: dpkt.ip.IP) -> tuple[int, int]:
    return int.from_bytes(ip.src, "big"), int.from_bytes(ip.dst, "big")


class TestIPv4:
    @given(u32, u32, st.sampled_from([2, 47, 99, 255]), payloads, u8, u16, u8)
    def test_fields(
        self, src: int, dst: int, protocol: int, payload: bytes, ttl: int, ident: int, tos: int
    ) -> None:
        packet = ipv4.build(src, dst, protocol, payload, ttl, ident, ipv4.DONT_FRAGMENT, tos)
        ip = read(packet)
        assert addresses(ip) == (src, dst)
        assert (ip.v, ip.hl, ip.p, ip.ttl, ip.id, ip.tos) == (4, 5, protocol, ttl, ident, tos)
        assert (bool(ip.df), bool(ip.mf), ip.offset) == (True, False, 0)
        assert packet[20:] == payload

    def test_fragments_say_where_they_belong(self) -> None:
        ip = read(ipv4.build(A, B, 99, bytes(8), flags_fragment=ipv4.MORE_FRAGMENTS | 185))
        assert (bool(ip.mf), ip.offset) == (True, 185)

    def test_offsets_are_where_the_fields_are(self) -> None:
        packet = ipv4.build(A, B, 99, b"", ttl=7, ident=0x1234, flags_fragment=0x4000, tos=0xB8)
        assert packet[ipv4.TOS] == 0xB8
        assert packet[ipv4.TOTAL_LENGTH : ipv4.IDENT] == b"\x00\x14"
        assert packet[ipv4.IDENT : ipv4.FLAGS_FRAGMENT] == b"\x12\x34"
        assert packet[ipv4.FLAGS_FRAGMENT : ipv4.TTL] == b"\x40\x00"
        assert (packet[ipv4.TTL], packet[ipv4.PROTOCOL]) == (7, 99)
        assert packet[ipv4.CHECKSUM : ipv4.SRC] == bytes.fromhex(f"{dpkt.ip.IP(packet).sum:04x}")
        assert packet[ipv4.SRC : ipv4.DST] == A.to_bytes(4, "big")
        assert packet[ipv4.DST :] == B.to_bytes(4, "big")

    def test_largest_packet(self) -> None:
        assert len(ipv4.build(A, B, 99, bytes(65515))) == 65535
        with pytest.raises(WireError, match="at most 65515 bytes, got 65516"):
            ipv4.build(A, B, 99, bytes(65516))

    @pytest.mark.parametrize(
        ("packet", "said"),
        [
            (b"", "header of 20 bytes, got 0"),
            (b"\x45" + bytes(18), "header of 20 bytes, got 19"),
            (b"\x65" + bytes(19), "version 4, got 6"),
            (b"\x44" + bytes(19), "expected 20 to 20 bytes, got 16"),
            (b"\x46" + bytes(19), "expected 20 to 20 bytes, got 24"),
            (b"\x44" + bytes(99), "expected 20 to 60 bytes, got 16"),
        ],
    )
    def test_header_length_says_what_is_wrong(self, packet: bytes, said: str) -> None:
        with pytest.raises(WireError, match=said):
            ipv4.header_length(packet)

    @given(st.binary(max_size=64))
    def test_header_length_of_anything(self, data: bytes) -> None:
        try:
            length = ipv4.header_length(data)
        except WireError:
            return
        assert 20 <= length <= min(60, len(data))


class TestICMP:
    @given(u16, u16, payloads, st.booleans())
    def test_echo(self, ident: int, seq: int, payload: bytes, reply: bool) -> None:
        ip = read(icmp.echo(A, B, ident, seq, payload, reply=reply))
        assert addresses(ip) == (A, B)
        assert (ip.data.type, ip.data.code) == (0 if reply else 8, 0)
        assert (ip.data.data.id, ip.data.data.seq) == (ident, seq)
        assert ip.data.data.data == payload

    def test_error_quotes_the_original(self) -> None:
        original = udp.build(A, B, 5000, 53, b"question")
        ip = read(icmp.error(icmp.UNREACHABLE, 3, 0, original, B, A))
        assert addresses(ip) == (B, A)
        assert (ip.data.type, ip.data.code, ip.tos) == (3, 3, 0xC0)
        assert bytes(ip.data)[4:8] == bytes(4)
        assert bytes(ip.data)[8:] == original

    def test_error_carries_the_next_hops_mtu(self) -> None:
        ip = read(icmp.error(icmp.UNREACHABLE, 4, 1450, udp.build(A, B, 1, 2), B, A))
        assert bytes(ip.data)[4:8] == b"\x00\x00\x05\xaa"

    @pytest.mark.parametrize(("size", "total"), [(500, 556), (519, 575), (520, 576), (1400, 576)])
    def test_error_fits_into_576_bytes(self, size: int, total: int) -> None:
        original = udp.build(A, B, 1, 2, bytes(size))
        packet = icmp.error(icmp.TIME_EXCEEDED, 0, 0, original, B, A)
        assert len(packet) == total
        read(packet)
        assert packet[28:] == original[: total - 28]

    @given(st.binary(max_size=700))
    def test_error_about_anything(self, original: bytes) -> None:
        read(icmp.error(icmp.TIME_EXCEEDED, 0, 0, original, B, A))


class TestUDP:
    @given(u32, u32, u16, u16, payloads)
    def test_fields(self, src: int, dst: int, sport: int, dport: int, payload: bytes) -> None:
        ip = read(udp.build(src, dst, sport, dport, payload, ttl=9, ident=77))
        assert addresses(ip) == (src, dst)
        assert (ip.ttl, ip.id, ip.data.sport, ip.data.dport) == (9, 77, sport, dport)
        assert (ip.data.ulen, ip.data.data) == (8 + len(payload), payload)
        assert ip.data.sum != 0

    def test_checksum_that_comes_out_as_zero_is_written_as_ones(self) -> None:
        # Source and destination port make the rest of the sum up to 0xffff.
        rest = pseudo_sum(A, B, 17, 8) + 8
        missing = 0xFFFF - ((rest & 0xFFFF) + (rest >> 16))
        packet = udp.build(A, B, missing, 0)
        assert packet[26:28] == b"\xff\xff"
        read(packet)

    def test_longest_payload(self) -> None:
        assert len(udp.build(A, B, 1, 2, bytes(65507))) == 65535
        with pytest.raises(WireError, match="at most 65507 bytes, got 65508"):
            udp.build(A, B, 1, 2, bytes(65508))


class TestTCP:
    @given(u16, u16, u32, u32, flags, u16, payloads)
    def test_fields(
        self, sport: int, dport: int, seq: int, ack: int, bits: int, window: int, payload: bytes
    ) -> None:
        ip = read(tcp.build(A, B, sport, dport, seq, ack, bits, window, payload=payload))
        assert addresses(ip) == (A, B)
        segment = ip.data
        assert (segment.sport, segment.dport) == (sport, dport)
        assert (segment.seq, segment.ack, segment.flags) == (seq, ack, bits)
        assert (segment.win, segment.data) == (window, payload)
        assert ip.df

    def test_sequence_numbers_wrap(self) -> None:
        segment = read(tcp.build(A, B, 1, 2, (1 << 32) + 5, -1, tcp.ACK, 0)).data
        assert (segment.seq, segment.ack) == (5, 0xFFFFFFFF)

    @given(st.binary(max_size=40))
    def test_options_are_padded(self, options: bytes) -> None:
        segment = read(tcp.build(A, B, 1, 2, 3, 4, tcp.SYN, 5, options, b"data")).data
        assert segment.off * 4 == 20 + len(segment.opts)
        assert segment.opts.rstrip(b"\0") == options.rstrip(b"\0")
        assert segment.data == b"data"

    def test_too_many_options(self) -> None:
        with pytest.raises(WireError, match="at most 40 bytes, got 44"):
            tcp.build(A, B, 1, 2, 3, 4, tcp.SYN, 5, bytes(41))

    def test_largest_segment(self) -> None:
        assert len(tcp.build(A, B, 1, 2, 3, 4, tcp.ACK, 5, b"", bytes(65495))) == 65535
        with pytest.raises(WireError, match="at most 65515 bytes, got 65516"):
            tcp.build(A, B, 1, 2, 3, 4, tcp.ACK, 5, b"", bytes(65496))


class TestReset:
    """RFC 9293 section 3.10.7.1, the answer to a segment to a closed port."""

    @pytest.mark.parametrize(
        ("bits", "payload", "seq", "ack", "answer"),
        [
            # Without ACK: sequence number 0, acknowledges everything that came.
            (tcp.SYN, b"", 0, 101, tcp.RST | tcp.ACK),
            (tcp.SYN, b"fast open", 0, 110, tcp.RST | tcp.ACK),
            (tcp.SYN | tcp.FIN, b"x", 0, 103, tcp.RST | tcp.ACK),
            (0, b"data", 0, 104, tcp.RST | tcp.ACK),
            # With ACK: the sequence number that the other side waits for.
            (tcp.ACK, b"data", 900, 0, tcp.RST),
            (tcp.SYN | tcp.ACK, b"", 900, 0, tcp.RST),
            (tcp.FIN | tcp.ACK, b"", 900, 0, tcp.RST),
        ],
    )
    def test_answer(self, bits: int, payload: bytes, seq: int, ack: int, answer: int) -> None:
        reset = tcp.reset_for(tcp.build(A, B, 40000, 80, 100, 900, bits, 5, payload=payload))
        assert reset is not None
        ip = read(reset)
        assert addresses(ip) == (B, A)
        assert (ip.data.sport, ip.data.dport) == (80, 40000)
        assert (ip.data.seq, ip.data.ack, ip.data.flags) == (seq, ack, answer)
        assert (ip.data.win, ip.data.data) == (0, b"")

    def test_options_do_not_count(self) -> None:
        syn = tcp.build(A, B, 1, 2, 100, 0, tcp.SYN, 5, bytes.fromhex("020405b4"))
        assert read(tcp.reset_for(syn) or b"").data.ack == 101

    def test_link_padding_does_not_count(self) -> None:
        syn = tcp.build(A, B, 1, 2, 100, 0, tcp.SYN, 5)
        assert tcp.reset_for(syn + bytes(6)) == tcp.reset_for(syn)

    def test_acknowledgement_wraps(self) -> None:
        syn = tcp.build(A, B, 1, 2, 0xFFFFFFFF, 0, tcp.SYN, 5)
        assert read(tcp.reset_for(syn) or b"").data.ack == 0

    @pytest.mark.parametrize("bits", [tcp.RST, tcp.RST | tcp.ACK])
    def test_reset_is_not_answered(self, bits: int) -> None:
        assert tcp.reset_for(tcp.build(A, B, 1, 2, 3, 4, bits, 0)) is None

    @pytest.mark.parametrize(
        ("packet", "said"),
        [
            (b"", "IPv4: expected a header of 20 bytes, got 0"),
            (udp.build(A, B, 1, 2), "expected protocol 6, got 17"),
            (tcp.build(A, B, 1, 2, 3, 4, 0, 0)[:39], "expected a header of 20 bytes, got 19"),
            (ipv4.build(A, B, 6, bytes(20)), "data offset: expected 20 to 20 bytes, got 0"),
            (ipv4.build(A, B, 6, bytes(12) + b"\x60" + bytes(7)), "expected 20 to 20 bytes"),
        ],
    )
    def test_what_is_no_segment(self, packet: bytes, said: str) -> None:
        with pytest.raises(WireError, match=said):
            tcp.reset_for(packet)

    @given(st.binary(max_size=80), st.booleans())
    def test_anything(self, data: bytes, plausible: bool) -> None:
        packet = ipv4.build(A, B, 6, data) if plausible else data
        try:
            reset = tcp.reset_for(packet)
        except WireError:
            return
        if reset is not None:
            read(reset)


class TestSCTP:
    @given(u16, u16, u32, st.lists(st.tuples(u8, u8, payloads), max_size=4))
    def test_fields(
        self, sport: int, dport: int, tag: int, chunks: list[tuple[int, int, bytes]]
    ) -> None:
        body = b"".join(sctp.chunk(*each) for each in chunks)
        packet = sctp.build(A, B, sport, dport, tag, body)
        ip, raw = read(packet), packet[20:]
        assert (addresses(ip), ip.p, bool(ip.df)) == ((A, B), 132, True)
        assert struct.unpack_from(">HHI", raw) == (sport, dport, tag)
        crc = pure.crc32c(raw[:8] + bytes(4) + raw[12:])
        assert raw[8:12] == crc.to_bytes(4, "little")
        assert raw[12:] == body
        at = 0
        for kind, flags, value in chunks:
            length = int.from_bytes(body[at + 2 : at + 4], "big")
            assert (body[at], body[at + 1], body[at + 4 : at + length]) == (kind, flags, value)
            at += -(-length // 4) * 4
        assert at == len(body)

    def test_an_init_tells_its_tag(self) -> None:
        for ack in (False, True):
            made = sctp.init(0x01020304, ack)
            assert made[:8] == bytes((1 + ack, 0, 0, 20, 1, 2, 3, 4))

    def test_an_abort_may_reflect_the_tag(self) -> None:
        assert sctp.abort(A, B, 1, 2, 9)[20 + 12 :] == b"\6\0\0\4"
        assert sctp.abort(A, B, 1, 2, 9, reflected=True)[20 + 12 :] == b"\6\1\0\4"

    def test_what_does_not_fit(self) -> None:
        with pytest.raises(WireError, match="65531"):
            sctp.chunk(0, 0, bytes(65532))
        with pytest.raises(WireError, match="65503"):
            sctp.build(A, B, 1, 2, 3, bytes(65504))
        assert len(sctp.build(A, B, 1, 2, 3, bytes(65503))) == 65535
