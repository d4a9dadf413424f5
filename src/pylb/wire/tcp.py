"""Building TCP segments (RFC 9293)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import checksum, pseudo_sum
from pylb.wire.errors import WireError

PROTOCOL = 6
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_HEADER = struct.Struct(">HHIIBBHHH")
_DONT_FRAGMENT = 0x4000


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

    ``options`` is padded with zeros to a multiple of 4 bytes, at most 40.
    """
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    offset = (_HEADER.size + len(options)) // 4 << 4
    fields = (sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, window)
    bare = _HEADER.pack(*fields, 0, 0) + options + payload
    check = checksum(bare, pseudo_sum(src, dst, PROTOCOL, len(bare)))
    body = _HEADER.pack(*fields, check, 0) + options + payload
    return ipv4.build(src, dst, PROTOCOL, body, ttl, 0, _DONT_FRAGMENT)


def reset_for(packet: bytes) -> bytes | None:
    """The RST that answers a segment to a closed port (RFC 9293 section 3.10.7.1).

    ``packet`` is a whole IPv4 packet.  None if it is a RST itself.  Raises
    `WireError` if it holds no TCP header.
    """
    header = (packet[0] & 0x0F) * 4 if packet else 0
    if header < ipv4.MINIMUM_HEADER or len(packet) < header + _HEADER.size:
        raise WireError("TCP: expected an IPv4 packet with a whole TCP header")
    src, dst = struct.unpack_from(">II", packet, 12)
    sport, dport, seq, ack, offset, flags, *_ = _HEADER.unpack_from(packet, header)
    if flags & RST:
        return None
    if flags & ACK:
        return build(dst, src, dport, sport, ack, 0, RST, 0)
    length = len(packet) - header - (offset >> 4) * 4
    occupied = length + bool(flags & SYN) + bool(flags & FIN)
    return build(dst, src, dport, sport, 0, seq + occupied, RST | ACK, 0)
