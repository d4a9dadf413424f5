"""The links of a node: the uplink that must be there, the TUN, the pods' bridge and its ports."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.errors import NodeError
from pylb.node.plumbing import names as n
from pylb.plan.tables import Plan

TUN_QUEUE = 10000
"""Packets: a TUN gives no backpressure, it drops."""

_IFF_UP = 1


def find(ipr: IPRoute, name: str) -> Any | None:
    """The link called ``name``, or None."""
    try:
        return ipr.link("get", ifname=name)[0]
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            return None
        raise


def index_of(ipr: IPRoute, name: str) -> int:
    """The index of the link called ``name``; raises `NodeError` when there is none."""
    link = find(ipr, name)
    if link is None:
        raise NodeError(f"interface {name} is not in this network namespace")
    return int(link["index"])


def addresses(ipr: IPRoute, index: int) -> set[tuple[int, int]]:
    """The IPv4 addresses of a link as (address, prefix length)."""
    return {
        (int(IPv4Address(message.get_attr("IFA_LOCAL"))), message["prefixlen"])
        for message in ipr.get_addr(family=socket.AF_INET, index=index)
    }


def check_uplink(ipr: IPRoute, uplink: str, node_ip: int) -> int:
    """The uplink's index; raises `NodeError` unless it is there with the node's address."""
    index = index_of(ipr, uplink)
    if node_ip not in {address for address, _ in addresses(ipr, index)}:
        raise NodeError(
            f"interface {uplink} does not have the node's InternalIP {IPv4Address(node_ip)}"
        )
    return index


def set_up_tun(ipr: IPRoute, name: str, mtu: int) -> list[str]:
    """Bring the TUN up with ``mtu`` (bytes) and mark it as made by plumbing; gives the changes.

    Its MTU is that of the pods, not more: a larger one makes the kernel send
    frag-needed with a pod's address inside to whoever is outside.
    """
    link = find(ipr, name)
    if link is None:
        raise NodeError(f"interface {name} is not in this network namespace")
    wanted: dict[str, Any] = {"ifalias": n.ALIAS, "mtu": mtu, "txqlen": TUN_QUEUE}
    return _adjust(ipr, link, wanted)


def set_up_bridge(ipr: IPRoute, name: str, plan: Plan) -> list[str]:
    """Make the pods' bridge if it is not there and give it its address; gives the changes.

    A bridge that plumbing made has exactly the plan's address, one that it found
    has it besides others.  Its MAC is fixed (0a:58 and the address, as CNI does),
    or it would change with every port and pods would hold a stale one.
    """
    changes = []
    link = find(ipr, name)
    if link is None:
        mac = b"\x0a\x58" + plan.bridge_ip.to_bytes(4, "big")
        ipr.link("add", ifname=name, kind="bridge", address=mac.hex(":"))
        link = find(ipr, name)
        assert link is not None
        ipr.link("set", index=link["index"], ifalias=n.ALIAS)
        changes.append(f"added bridge {name}")
    else:
        info = link.get_attr("IFLA_LINKINFO")
        if info is None or info.get_attr("IFLA_INFO_KIND") != "bridge":
            raise NodeError(f"interface {name} is there but is not a bridge")
    ours = link.get_attr("IFLA_IFALIAS") == n.ALIAS or bool(changes)
    index = link["index"]
    address = (plan.bridge_ip, plan.pod_cidr.length)
    have = addresses(ipr, index)
    if address not in have:
        ipr.addr("add", index=index, address=_quad(address), prefixlen=address[1])
        changes.append(f"added {_quad(address)}/{address[1]} to {name}")
    for stale in (have - {address}) if ours else ():
        ipr.addr("delete", index=index, address=_quad(stale), prefixlen=stale[1])
        changes.append(f"removed {_quad(stale)}/{stale[1]} from {name}")
    return changes + _adjust(ipr, link, {"mtu": plan.overlay.mtu})


def _quad(address: tuple[int, int]) -> str:
    return str(IPv4Address(address[0]))


_ATTRIBUTE = {"ifalias": "IFLA_IFALIAS", "mtu": "IFLA_MTU", "txqlen": "IFLA_TXQLEN"}


def _adjust(ipr: IPRoute, link: Any, wanted: dict[str, Any]) -> list[str]:
    """Set what differs from ``wanted``, and bring the link up."""
    name, index = link.get_attr("IFLA_IFNAME"), link["index"]
    changes = []
    different = {
        key: value for key, value in wanted.items() if link.get_attr(_ATTRIBUTE[key]) != value
    }
    if different:
        ipr.link("set", index=index, **different)
        changes += [f"set {key} of {name} to {value}" for key, value in different.items()]
    if not link["flags"] & _IFF_UP:
        ipr.link("set", index=index, state="up")
        changes.append(f"brought {name} up")
    return changes


def remove(ipr: IPRoute, name: str) -> list[str]:
    """Remove the link called ``name`` if plumbing made it; gives the changes."""
    link = find(ipr, name)
    if link is None or link.get_attr("IFLA_IFALIAS") != n.ALIAS:
        return []
    ipr.link("del", index=link["index"])
    return [f"removed {name}"]


def attach_pod_port(ifname: str, bridge: str = "cni0", ipr: IPRoute | None = None) -> None:
    """Make ``ifname`` an isolated port of ``bridge`` and bring it up.

    Isolated ports do not switch to each other, so pods of one node meet through
    the node, where the daemon sees them.  ``ipr`` is a socket in the node's
    namespace, the current one when not given.  Raises `NodeError` when either
    link is not there.
    """
    if ipr is None:
        with IPRoute() as own:
            attach_pod_port(ifname, bridge, own)
        return
    port = index_of(ipr, ifname)
    ipr.link("set", index=port, master=index_of(ipr, bridge), state="up")
    ipr.brport("set", index=port, isolated=1)
