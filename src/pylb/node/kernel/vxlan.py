"""The kernel's VXLAN device, and what it knows of the peers: neighbours and forwarding entries.

As flannel does it: the route to a peer's pods goes by the peer's tunnel address on
the device; a permanent neighbour entry gives that address the peer's VTEP MAC, and
a forwarding entry gives that MAC the peer's underlay address.  Nothing is learned.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute

from pylb.node.plumbing import links
from pylb.node.plumbing import names as n
from pylb.plan.tables import Peer, Plan

_PERMANENT = 0x80
_IFF_UP = 1


def add_device(ipr: IPRoute, name: str, uplink: int, plan: Plan) -> list[str]:
    """Make the device if it is not there as ``plan`` needs it, not yet up; gives the changes.

    ``uplink`` is an interface index.
    """
    overlay = plan.overlay
    wanted: dict[str, Any] = {
        "vxlan_id": overlay.vni,
        "vxlan_port": overlay.port,
        "vxlan_learning": 0,
        "vxlan_local": _quad(plan.node_ip),
        "vxlan_link": uplink,
    }
    changes = []
    link = links.find(ipr, name)
    if link is not None and not _is(link, overlay.mac, wanted):
        ipr.link("del", index=link["index"])
        changes.append(f"removed {name}")
        link = None
    if link is None:
        ipr.link("add", ifname=name, kind="vxlan", address=overlay.mac.hex(":"), **wanted)
        link = links.find(ipr, name)
        assert link is not None
        ipr.link("set", index=link["index"], ifalias=n.ALIAS)
        changes.append(f"added vxlan {name}")
    return changes


def _is(link: Any, mac: bytes, wanted: dict[str, Any]) -> bool:
    info = link.get_attr("IFLA_LINKINFO")
    if info is None or info.get_attr("IFLA_INFO_KIND") != "vxlan":
        return False
    data = info.get_attr("IFLA_INFO_DATA")
    have = {key: data.get_attr(f"IFLA_{key.upper()}") for key in wanted}
    return have == wanted and link.get_attr("IFLA_ADDRESS") == mac.hex(":")


def set_up(ipr: IPRoute, name: str, plan: Plan) -> list[str]:
    """Give the device its address and MTU, bring it up, tell it the peers; gives the changes."""
    link = links.find(ipr, name)
    assert link is not None
    index = link["index"]
    changes = []
    have, want = links.addresses(ipr, index), {(plan.tunnel_ip, 32)}
    for address, length in sorted(want - have):
        ipr.addr("add", index=index, address=_quad(address), prefixlen=length)
        changes.append(f"added {_quad(address)}/{length} to {name}")
    for address, length in sorted(have - want):
        ipr.addr("delete", index=index, address=_quad(address), prefixlen=length)
        changes.append(f"removed {_quad(address)}/{length} from {name}")
    if link.get_attr("IFLA_MTU") != plan.overlay.mtu:
        ipr.link("set", index=index, mtu=plan.overlay.mtu)
        changes.append(f"set mtu of {name} to {plan.overlay.mtu}")
    if not link["flags"] & _IFF_UP:
        ipr.link("set", index=index, state="up")
        changes.append(f"brought {name} up")
    peers = list(plan.peers.values())
    return changes + _neighbours(ipr, index, peers) + _forwarding(ipr, index, peers)


def _neighbours(ipr: IPRoute, index: int, peers: list[Peer]) -> list[str]:
    want = {_quad(tunnel_ip(peer)): peer.mac.hex(":") for peer in peers}
    have = {
        message.get_attr("NDA_DST"): message.get_attr("NDA_LLADDR")
        for message in ipr.get_neighbours(family=socket.AF_INET, ifindex=index)
        if message["ifindex"] == index and message["state"] & _PERMANENT
    }
    changes = []
    for address in sorted(have.keys() - want.keys()):
        ipr.neigh("del", dst=address, ifindex=index)
        changes.append(f"removed neighbour {address}")
    for address, mac in sorted(want.items()):
        if have.get(address) != mac:
            ipr.neigh("replace", dst=address, lladdr=mac, ifindex=index, state=_PERMANENT)
            changes.append(f"added neighbour {address} {mac}")
    return changes


def _forwarding(ipr: IPRoute, index: int, peers: list[Peer]) -> list[str]:
    want = {(peer.mac.hex(":"), _quad(peer.address)) for peer in peers}
    have = {
        (message.get_attr("NDA_LLADDR"), message.get_attr("NDA_DST"))
        for message in ipr.fdb("dump", ifindex=index)
        if message["ifindex"] == index and message.get_attr("NDA_DST")
    }
    changes = []
    for mac, address in sorted(have - want):
        ipr.fdb("del", ifindex=index, lladdr=mac, dst=address)
        changes.append(f"removed forwarding {mac} {address}")
    for mac, address in sorted(want - have):
        ipr.fdb("append", ifindex=index, lladdr=mac, dst=address)
        changes.append(f"added forwarding {mac} {address}")
    return changes


def tunnel_ip(peer: Peer) -> int:
    """The peer's tunnel address: .0 of its pods' subnet."""
    return peer.subnet.address


def _quad(address: int) -> str:
    return str(IPv4Address(address))
