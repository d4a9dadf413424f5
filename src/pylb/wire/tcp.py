"""Building TCP segments (RFC 9293)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import checksum, pseudo_sum
from pylb.wire.errors import WireError

PROTOCOL = 6
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_HEADER = struct.Struct(">HHIIBBHHH")
_MAXIMUM_OPTIONS = 40


def build(
    src: int,
    dst: int,
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    payload: bytes = b"",
    ttl: int = 64,
) -> bytes:
    """A whole IPv4 packet with a TCP segment and its checksum.

    ``options`` is padded with zeros to a multiple of 4 bytes.  Raises `WireError`
    when it is longer than 40, or the packet than 65535.
    """
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    if len(options) > _MAXIMUM_OPTIONS:
        raise WireError(f"TCP options: expected at most 40 bytes, got {len(options)}")
    length = _HEADER.size + len(options) + len(payload)
    if length > ipv4.MAXIMUM_TOTAL - ipv4.MINIMUM_HEADER:
        raise WireError(f"TCP segment: expected at most 65515 bytes, got {length}")
    offset = (_HEADER.size + len(options)) // 4 << 4
    fields = (sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, window)
    bare = _HEADER.pack(*fields, 0, 0) + options + payload
    check = checksum(bare, pseudo_sum(src, dst, PROTOCOL, length))
    body = _HEADER.pack(*fields, check, 0) + options + payload
    return ipv4.build(src, dst, PROTOCOL, body, ttl, 0, ipv4.DONT_FRAGMENT)


def reset_for(packet: bytes) -> bytes | None:
    """The RST that answers a segment to a closed port (RFC 9293 section 3.10.7.1).

    ``packet`` is a whole IPv4 packet; what follows its total length is ignored.
    None if it is a RST itself.  Raises `WireError` if it holds no whole segment.
    """
    start = ipv4.header_length(packet)
    if packet[ipv4.PROTOCOL] != PROTOCOL:
        raise WireError(f"TCP: expected protocol 6, got {packet[ipv4.PROTOCOL]}")
    (total,) = struct.unpack_from(">H", packet, ipv4.TOTAL_LENGTH)
    segment = packet[start : min(total, len(packet))]
    if len(segment) < _HEADER.size:
        raise WireError(f"TCP: expected a header of 20 bytes, got {len(segment)}")
    sport, dport, seq, ack, offset, flags, *_ = _HEADER.unpack_from(segment)
    header = (offset >> 4) * 4
    if not _HEADER.size <= header <= len(segment):
        raise WireError(f"TCP data offset: expected 20 to {len(segment)} bytes, got {header}")
    if flags & RST:
        return None
    src, dst = struct.unpack_from(">II", packet, ipv4.SRC)
    if flags & ACK:
        return build(dst, src, dport, sport, ack, 0, RST, 0)
    occupied = len(segment) - header + bool(flags & SYN) + bool(flags & FIN)
    return build(dst, src, dport, sport, 0, seq + occupied, RST | ACK, 0)
