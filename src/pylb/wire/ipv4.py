"""Building IPv4 packets (RFC 791)."""

from __future__ import annotations

import struct

from pylb.wire.checksum import checksum

MINIMUM_HEADER = 20
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
    bytes): 0x4000 is Don't Fragment.  The payload is at most 65515 bytes.
    """
    total = MINIMUM_HEADER + len(payload)
    fields = (0x45, tos, total, ident, flags_fragment, ttl, protocol)
    header = _HEADER.pack(*fields, 0, src, dst)
    return _HEADER.pack(*fields, checksum(header), src, dst) + payload
