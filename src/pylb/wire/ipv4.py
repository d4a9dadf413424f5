"""Building IPv4 packets (RFC 791)."""

from __future__ import annotations

import struct

from pylb.wire.checksum import checksum
from pylb.wire.errors import WireError

MINIMUM_HEADER = 20
MAXIMUM_TOTAL = 65535

# Where the header's fields begin, in bytes.
TOS, TOTAL_LENGTH, IDENT, FLAGS_FRAGMENT = 1, 2, 4, 6
TTL, PROTOCOL, CHECKSUM, SRC, DST = 8, 9, 10, 12, 16

DONT_FRAGMENT, MORE_FRAGMENTS, OFFSET_MASK = 0x4000, 0x2000, 0x1FFF

_HEADER = struct.Struct(">BBHHHBBHII")


def build(
    src: int,
    dst: int,
    protocol: int,
    payload: bytes,
    ttl: int = 64,
    ident: int = 0,
    flags_fragment: int = 0,
    tos: int = 0,
) -> bytes:
    """An IPv4 packet without options.

    ``flags_fragment`` is the 16-bit word of flags and offset (in units of 8
    bytes): 0x4000 is Don't Fragment.  Raises `WireError` when the payload is
    longer than 65515 bytes.
    """
    total = MINIMUM_HEADER + len(payload)
    if total > MAXIMUM_TOTAL:
        raise WireError(
            f"IPv4 payload: expected at most {MAXIMUM_TOTAL - MINIMUM_HEADER} bytes, "
            f"got {len(payload)}"
        )
    fields = (0x45, tos, total, ident, flags_fragment, ttl, protocol)
    header = _HEADER.pack(*fields, 0, src, dst)
    return _HEADER.pack(*fields, checksum(header), src, dst) + payload


def header_length(packet: bytes) -> int:
    """Bytes of the header that ``packet`` begins with, 20 to 60.

    Raises `WireError` unless a whole IPv4 header is there.
    """
    if len(packet) < MINIMUM_HEADER:
        raise WireError(f"IPv4: expected a header of 20 bytes, got {len(packet)}")
    version, length = packet[0] >> 4, (packet[0] & 0x0F) * 4
    if version != 4:
        raise WireError(f"IPv4: expected version 4, got {version}")
    if not MINIMUM_HEADER <= length <= len(packet):
        raise WireError(
            f"IPv4 header length: expected 20 to {min(60, len(packet))} bytes, got {length}"
        )
    return length
