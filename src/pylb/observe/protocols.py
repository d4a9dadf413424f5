"""IP protocols by number, and how conntrack-tools names them.

libnetfilter_conntrack knows seven names; every other protocol is "unknown".
"""

from __future__ import annotations

import socket

from pylb.dataplane.python import sctp, tcp

ICMP = 1
TCP = 6
UDP = 17
DCCP = 33
GRE = 47
SCTP = 132
UDPLITE = 136

_NAMES = {
    ICMP: "icmp",
    TCP: "tcp",
    UDP: "udp",
    DCCP: "dccp",
    GRE: "gre",
    SCTP: "sctp",
    UDPLITE: "udplite",
}

WITH_PORTS = frozenset({TCP, UDP, DCCP, SCTP, UDPLITE})
"""Protocols whose tuples are told as sport and dport."""

STATES = {
    TCP: tuple(state.name for state in tcp.State),
    SCTP: tuple(state.name for state in sctp.State),
}
"""States as conntrack prints them, in the kernel's order; other protocols have none."""


def name_of(protocol: int) -> str:
    """conntrack's name of an IANA protocol number."""
    return _NAMES.get(protocol, "unknown")


def number_of(text: str) -> int:
    """The protocol number for a name or a number in digits.

    Raises ValueError when there is no such protocol.
    """
    if text.isascii() and text.isdigit() and int(text) <= 255:
        return int(text)
    for number, name in _NAMES.items():
        if name == text.lower():
            return number
    try:
        return socket.getprotobyname(text)
    except OSError:
        raise ValueError(f"`{text}' unsupported protocol") from None
