"""Building SCTP packets (RFC 9260)."""

from __future__ import annotations

import struct

from pylb.wire import ipv4
from pylb.wire.checksum import Buffer, crc32c
from pylb.wire.errors import WireError

PROTOCOL = 132
HEADER, CHECKSUM = 12, 8
"""Bytes of the common header, and where in it the checksum begins."""

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT, SHUTDOWN = range(8)
SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = range(8, 12)
SHUTDOWN_COMPLETE = 14
REFLECTED = 0x01
"""The T bit of ABORT and SHUTDOWN COMPLETE: the tag is the receiver's peer's (section 3.3.7)."""


def checksum(body: Buffer) -> int:
    """The CRC32c that is right for a packet of `HEADER` bytes or more, whatever its field says."""
    crc = crc32c(bytes(HEADER - CHECKSUM), crc32c(body[:CHECKSUM]))
    return crc32c(body[HEADER:], crc)


def chunk(kind: int, flags: int = 0, value: bytes = b"") -> bytes:
    """A chunk, padded to 4 bytes (section 3.2).  Raises `WireError` when it is too long."""
    length = 4 + len(value)
    if length > 0xFFFF:
        raise WireError(f"SCTP chunk: expected at most 65531 bytes, got {len(value)}")
    return struct.pack(">BBH", kind, flags, length) + value + bytes(-length % 4)


def init(tag: int, ack: bool = False) -> bytes:
    """An INIT or INIT ACK chunk with an initiate tag and no parameters (section 3.3.2)."""
    value = struct.pack(">IIHHI", tag, 65536, 1, 1, 1)
    return chunk(INIT_ACK if ack else INIT, 0, value)


def build(
    src: int, dst: int, sport: int, dport: int, tag: int, chunks: bytes, ttl: int = 64
) -> bytes:
    """A whole IPv4 packet with an SCTP packet and its checksum; ``tag`` is the receiver's.

    Raises `WireError` when the chunks are longer than 65503 bytes.
    """
    length = HEADER + len(chunks)
    if length > ipv4.MAXIMUM_TOTAL - ipv4.MINIMUM_HEADER:
        raise WireError(f"SCTP chunks: expected at most 65503 bytes, got {len(chunks)}")
    body = bytearray(struct.pack(">HHII", sport, dport, tag, 0) + chunks)
    struct.pack_into("<I", body, CHECKSUM, checksum(body))
    return ipv4.build(src, dst, PROTOCOL, bytes(body), ttl, 0, ipv4.DONT_FRAGMENT)


def abort(
    src: int, dst: int, sport: int, dport: int, tag: int, *, reflected: bool = False
) -> bytes:
    """An ABORT without causes; ``reflected`` sets the T bit (section 8.4, 8.5.1)."""
    flags = REFLECTED if reflected else 0
    return build(src, dst, sport, dport, tag, chunk(ABORT, flags))
