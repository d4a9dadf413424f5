"""The virtio-net header that a TUN with IFF_VNET_HDR puts before each packet.

Virtio 1.2 section 5.1.6, without ``num_buffers``: 10 bytes, in the host's order
as Linux's TUN has it by default.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pylb.wire.errors import WireError

NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 3, 4, 5
GSO_ECN = 0x80

_HEADER = struct.Struct("=BBHHHH")
SIZE = _HEADER.size


class Header(NamedTuple):
    """The header's fields; offsets and sizes are bytes.

    With NEEDS_CSUM the checksum at ``csum_start + csum_offset`` holds only the
    pseudo-header's sum, not complemented.
    """

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0


def encode(header: Header) -> bytes:
    """The header's 10 bytes."""
    return _HEADER.pack(*header)


def decode(data: bytes) -> Header:
    """Read the header that ``data`` begins with; raises `WireError` when it is cut off."""
    if len(data) < SIZE:
        raise WireError(f"virtio-net header: expected {SIZE} bytes, got {len(data)}")
    return Header(*_HEADER.unpack_from(data))
