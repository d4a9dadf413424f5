"""VXLAN (RFC 7348): an Ethernet frame behind an 8-byte header, in UDP."""

from __future__ import annotations

import struct
from typing import NamedTuple

from pylb.wire.errors import WireError

IPV4 = 0x0800
_VNI_PRESENT = 0x08
_MAXIMUM_VNI = 0xFFFFFF
_HEADER = struct.Struct(">B3xI")
_HEADERS = struct.Struct(">B3xI6s6sH")


class Frame(NamedTuple):
    """A decoded VXLAN payload; ``packet`` is what follows the inner Ethernet header."""

    vni: int
    src_mac: bytes
    dst_mac: bytes
    ethertype: int
    packet: bytes


def encode(packet: bytes, vni: int, src_mac: bytes, dst_mac: bytes) -> bytes:
    """The UDP payload that carries an IPv4 packet.

    Raises `WireError` when ``vni`` has more than 24 bits or a MAC not 6 bytes.
    """
    if not 0 <= vni <= _MAXIMUM_VNI:
        raise WireError(f"VXLAN VNI: expected 0 to {_MAXIMUM_VNI}, got {vni}")
    if len(src_mac) != 6 or len(dst_mac) != 6:
        raise WireError(f"VXLAN MAC: expected 6 bytes, got {len(src_mac)} and {len(dst_mac)}")
    return _HEADERS.pack(_VNI_PRESENT, vni << 8, dst_mac, src_mac, IPV4) + packet


def decode(payload: bytes) -> Frame:
    """Read a UDP payload; raises `WireError`.

    Reserved bits are ignored, as RFC 7348 section 5 asks.
    """
    if len(payload) < _HEADER.size:
        raise WireError(f"VXLAN: expected a header of 8 bytes, got {len(payload)}")
    if not payload[0] & _VNI_PRESENT:
        raise WireError(f"VXLAN: expected the I flag, got flags 0x{payload[0]:02x}")
    if len(payload) < _HEADERS.size:
        raise WireError(
            f"VXLAN: expected an inner Ethernet header of 14 bytes, got {len(payload) - 8}"
        )
    _, vni, dst_mac, src_mac, ethertype = _HEADERS.unpack_from(payload)
    return Frame(vni >> 8, src_mac, dst_mac, ethertype, payload[_HEADERS.size :])
