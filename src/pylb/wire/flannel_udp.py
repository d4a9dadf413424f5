"""flannel's UDP backend: the bare inner IP packet is the UDP payload."""

from __future__ import annotations

from pylb.wire.errors import WireError


def encode(packet: bytes) -> bytes:
    """The UDP payload that carries an IP packet: the packet."""
    return packet


def decode(payload: bytes) -> bytes:
    """The IP packet in a UDP payload; raises `WireError` when there is none."""
    if not payload:
        raise WireError("flannel-UDP: expected an IP packet, got an empty datagram")
    return payload
