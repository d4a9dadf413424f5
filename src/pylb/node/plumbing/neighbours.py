"""Answering ARP for virtual addresses of the underlay's own subnet.

The kernel answers for them (proxy neighbour entries), because their route leads
to another interface; while the TUN has no carrier there is no route, and so no
answer.  A node that comes to answer for an address tells the link at once, or
others would go on sending to the node before it until their caches expire.  What
is answered for is in the record, because pyroute2 does not list such entries.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.plumbing import links
from pylb.node.plumbing import names as n
from pylb.node.plumbing.record import Record

_NTF_PROXY = 0x08
_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct(">HHBBH6s4s6s4s")
"""RFC 826: hardware and protocol type, their lengths, operation, sender, target."""
_REQUEST = 1


def apply(ipr: IPRoute, uplink: str, announced: Collection[int], notes: Record) -> list[str]:
    """Answer on ``uplink`` for exactly these addresses; gives what was changed."""
    index = links.index_of(ipr, uplink)
    have, wanted = set(notes.announced), set(announced)
    changes = []
    for address in sorted(have - wanted):
        _send(ipr, "del", index, address)
        changes.append(f"stopped answering for {IPv4Address(address)} on {uplink}")
    for address in sorted(wanted):
        # Also where it should be there already: the link may have been another then.
        _send(ipr, "add", index, address)
    fresh = sorted(wanted - have)
    changes += (f"answering for {IPv4Address(address)} on {uplink}" for address in fresh)
    notes.announced = sorted(wanted)
    if fresh:
        _announce(ipr, uplink, index, fresh)
    return changes


def clean(ipr: IPRoute, uplink: str, notes: Record) -> list[str]:
    """Answer for nothing any more."""
    return apply(ipr, uplink, (), notes)


def _send(ipr: IPRoute, command: str, index: int, address: int) -> None:
    given: dict[str, Any] = {
        "family": socket.AF_INET,
        "ifindex": index,
        "dst": str(IPv4Address(address)),
        "flags": _NTF_PROXY,
    }
    if command == "add":
        given["protocol"] = n.PROTOCOL
    try:
        ipr.neigh(command, **given)
    except NetlinkError as error:
        if error.code not in (errno.ENOENT, errno.EEXIST):
            raise


def gratuitous(mac: bytes, address: int) -> bytes:
    """The Ethernet frame that tells a link whose ``address`` is (RFC 5227 section 3)."""
    packed = address.to_bytes(4, "big")
    arp = _ARP.pack(1, 0x0800, 6, 4, _REQUEST, mac, packed, bytes(6), packed)
    return _BROADCAST + mac + struct.pack(">H", _ETH_P_ARP) + arp


def _announce(ipr: IPRoute, uplink: str, index: int, addresses: Iterable[int]) -> None:
    [link] = ipr.link("get", index=index)
    mac = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((uplink, 0))
        for address in addresses:
            raw.send(gratuitous(mac, address))
