"""Building UDP datagrams (RFC 768)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import checksum, pseudo_sum, udp_check

PROTOCOL = 17
_HEADER = struct.Struct(">HHHH")


def build(
    src: int, dst: int, sport: int, dport: int, payload: bytes = b"", ttl: int = 64, ident: int = 0
) -> bytes:
    """A whole IPv4 packet with a UDP datagram and its checksum."""
    length = _HEADER.size + len(payload)
    bare = _HEADER.pack(sport, dport, length, 0) + payload
    check = udp_check(checksum(bare, pseudo_sum(src, dst, PROTOCOL, length)))
    body = _HEADER.pack(sport, dport, length, check) + payload
    return ipv4.build(src, dst, PROTOCOL, body, ttl, ident)
