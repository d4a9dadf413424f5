"""Building UDP datagrams (RFC 768)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import checksum, pseudo_sum, udp_check
from pylb.wire.errors import WireError

PROTOCOL = 17
_HEADER = struct.Struct(">HHHH")


def build(
    src: int, dst: int, sport: int, dport: int, payload: bytes = b"", ttl: int = 64, ident: int = 0
) -> bytes:
    """A whole IPv4 packet with a UDP datagram and its checksum.

    Raises `WireError` when the payload is longer than 65507 bytes.
    """
    length = _HEADER.size + len(payload)
    if length > ipv4.MAXIMUM_TOTAL - ipv4.MINIMUM_HEADER:
        raise WireError(f"UDP payload: expected at most 65507 bytes, got {len(payload)}")
    bare = _HEADER.pack(sport, dport, length, 0) + payload
    check = udp_check(checksum(bare, pseudo_sum(src, dst, PROTOCOL, length)))
    body = _HEADER.pack(sport, dport, length, check) + payload
    return ipv4.build(src, dst, PROTOCOL, body, ttl, ident)
