"""Packets as the simulated machines read them.

Decoding is the first invariant: every packet on every hop must be whole and have
right checksums.  Nothing here is shared with the dataplane but the checksum's
arithmetic.  Addresses and ports are integers in host order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from pylb.wire.checksum import checksum, crc32c, pseudo_sum

ICMP, TCP, UDP, GRE, SCTP = 1, 6, 17, 47, 132
WITH_PORTS = (TCP, UDP, SCTP)
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
ERRORS = (UNREACHABLE, 4, 5, TIME_EXCEEDED, 12)
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000


@dataclass(frozen=True, slots=True)
class Decoded:
    """An IPv4 packet's fields; ``data`` is what is behind the last header.

    ``sport`` and ``dport`` are 0 without ports; for ICMP ``kind`` and ``code``
    are set, and ``ident`` and ``seq`` (for an error: the second 32 bits' halves).
    Of SCTP ``seq`` is the verification tag.
    """

    raw: bytes
    src: int
    dst: int
    protocol: int
    ttl: int
    word: int
    payload: bytes
    data: bytes = b""
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    options: bytes = b""
    kind: int = 0
    code: int = 0
    ident: int = 0

    @property
    def is_fragment(self) -> bool:
        return bool(self.word & 0x3FFF)

    @property
    def is_error(self) -> bool:
        return self.protocol == ICMP and not self.is_fragment and self.kind in ERRORS

    def __str__(self) -> str:
        ends = f"{quad(self.src)}:{self.sport} > {quad(self.dst)}:{self.dport}"
        return f"{ends} proto {self.protocol} ttl {self.ttl} len {len(self.raw)}"


def quad(address: int) -> str:
    return str(IPv4Address(address))


def ip(text: str) -> int:
    return int(IPv4Address(text))


def decode(raw: bytes) -> Decoded:
    """Read a packet; an AssertionError says what is wrong with it."""
    assert len(raw) >= 20, f"IPv4: {len(raw)} bytes"
    first, _, total, _, word, ttl, protocol, _, src, dst = struct.unpack_from(">BBHHHBBHII", raw)
    header = (first & 15) * 4
    name = f"{quad(src)} > {quad(dst)} protocol {protocol}"
    assert first >> 4 == 4, name
    assert 20 <= header <= len(raw), name
    assert total == len(raw), f"{name}: total length {total} of {len(raw)} bytes"
    assert checksum(raw[:header]) == 0, f"{name}: IPv4 checksum"
    assert ttl > 0, f"{name}: TTL 0"
    body = raw[header:]
    base = (raw, src, dst, protocol, ttl, word, body)
    if word & 0x3FFF:
        return Decoded(*base)
    if protocol == TCP:
        assert checksum(body, pseudo_sum(src, dst, TCP, len(body))) == 0, f"{name}: TCP checksum"
        sport, dport, seq, ack, offset, flags, window = struct.unpack_from(">HHIIBBH", body)
        end = (offset >> 4) * 4
        return Decoded(
            *base, body[end:], sport, dport, seq, ack, flags, window, options=body[20:end]
        )
    if protocol == UDP:
        sport, dport, length, check = struct.unpack_from(">HHHH", body)
        assert length == len(body), f"{name}: UDP length {length} of {len(body)}"
        if check:
            sums = checksum(body, pseudo_sum(src, dst, UDP, length))
            assert sums == 0, f"{name}: UDP checksum"
        return Decoded(*base, body[8:], sport, dport)
    if protocol == SCTP:
        sport, dport, tag = struct.unpack_from(">HHI", body)
        whole = crc32c(body[:8] + bytes(4) + body[12:])
        assert body[8:12] == whole.to_bytes(4, "little"), f"{name}: SCTP checksum"
        return Decoded(*base, body[12:], sport, dport, seq=tag)
    if protocol == ICMP:
        assert checksum(body) == 0, f"{name}: ICMP checksum"
        kind, code, _, ident, seq = struct.unpack_from(">BBHHH", body)
        if kind in ERRORS:
            quoted = (body[8] & 15) * 4
            assert checksum(body[8 : 8 + quoted]) == 0, f"{name}: checksum of the quoted header"
        return Decoded(*base, body[8:], seq=seq, kind=kind, code=code, ident=ident)
    return Decoded(*base, body)


@dataclass(frozen=True, slots=True)
class Quoted:
    """The packet that an ICMP error is about, as far as it is quoted."""

    src: int
    dst: int
    protocol: int
    sport: int
    dport: int
    """For ICMP the identifier is ``sport``, and ``dport`` is 0."""


def quoted(error: Decoded) -> Quoted:
    inner = error.data
    protocol, src, dst = inner[9], *struct.unpack_from(">II", inner, 12)
    at = (inner[0] & 15) * 4
    if protocol == ICMP:
        return Quoted(src, dst, protocol, struct.unpack_from(">H", inner, at + 4)[0], 0)
    return Quoted(src, dst, protocol, *struct.unpack_from(">HH", inner, at))


def forwarded(raw: bytes) -> bytes | None:
    """The packet with its TTL one less, as a router writes it; None when it was 1."""
    if raw[8] <= 1:
        return None
    data = bytearray(raw)
    data[8] -= 1
    return _rechecked(data)


def with_ttl(raw: bytes, ttl: int) -> bytes:
    data = bytearray(raw)
    data[8] = ttl
    return _rechecked(data)


def _rechecked(data: bytearray) -> bytes:
    header = (data[0] & 15) * 4
    data[10:12] = b"\0\0"
    struct.pack_into(">H", data, 10, checksum(data[:header]))
    return bytes(data)


def fragments(raw: bytes, mtu: int) -> list[bytes]:
    """The packet in pieces of at most ``mtu`` bytes (RFC 791 section 3.2)."""
    if len(raw) <= mtu:
        return [raw]
    header = (raw[0] & 15) * 4
    word = struct.unpack_from(">H", raw, 6)[0]
    body, step = raw[header:], (mtu - header) & ~7
    pieces = []
    for at in range(0, len(body), step):
        part = body[at : at + step]
        last = at + step >= len(body) and not word & MORE_FRAGMENTS
        data = bytearray(raw[:header] + part)
        flags = (word & 0x1FFF) + (at >> 3) | (0 if last else MORE_FRAGMENTS)
        struct.pack_into(">H", data, 2, len(data))
        struct.pack_into(">H", data, 6, flags)
        pieces.append(_rechecked(data))
    return pieces


class Reassembly:
    """Puts a host's fragments together; duplicates do no harm."""

    def __init__(self) -> None:
        self._parts: dict[tuple[bytes, bytes, int], dict[int, Decoded]] = {}

    def add(self, packet: Decoded) -> bytes | None:
        """The whole packet once its last missing piece has come."""
        key = (packet.raw[4:6], packet.raw[12:20], packet.protocol)
        parts = self._parts.setdefault(key, {})
        parts[(packet.word & 0x1FFF) * 8] = packet
        body = b""
        for at in sorted(parts):
            if at != len(body):
                return None
            body += parts[at].payload
            if not parts[at].word & MORE_FRAGMENTS:
                break
        else:
            return None
        del self._parts[key]
        data = bytearray(parts[0].raw[: len(parts[0].raw) - len(parts[0].payload)] + body)
        struct.pack_into(">H", data, 2, len(data))
        struct.pack_into(">H", data, 6, 0)
        return _rechecked(data)
