"""Building ICMP messages (RFC 792, RFC 1812 section 4.3)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import checksum

PROTOCOL = 1
ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
_ERROR_LIMIT = 576


def message(kind: int, code: int, rest: int, body: bytes) -> bytes:
    """An ICMP message with its checksum; ``rest`` is the header's second 32 bits."""
    bare = struct.pack(">BBHI", kind, code, 0, rest) + body
    return struct.pack(">BBHI", kind, code, checksum(bare), rest) + body


def echo(
    src: int,
    dst: int,
    ident: int,
    seq: int,
    payload: bytes = b"",
    *,
    reply: bool = False,
    ttl: int = 64,
) -> bytes:
    """A whole IPv4 packet with an echo request, or its reply."""
    kind = ECHO_REPLY if reply else ECHO
    return ipv4.build(src, dst, PROTOCOL, message(kind, 0, ident << 16 | seq, payload), ttl)


def error(kind: int, code: int, rest: int, original: bytes, src: int, dst: int) -> bytes:
    """A whole IPv4 packet with an ICMP error about ``original``, an IPv4 packet.

    It quotes as much as fits into 576 bytes (RFC 1812 section 4.3.2.3).  ``rest``
    is 0 but for fragmentation needed, where it holds the next hop's MTU (RFC 1191).
    The type of service is 0xC0, Internetwork Control (RFC 1812 section 4.3.2.5).
    """
    quoted = original[: _ERROR_LIMIT - ipv4.MINIMUM_HEADER - 8]
    return ipv4.build(src, dst, PROTOCOL, message(kind, code, rest, quoted), tos=0xC0)
