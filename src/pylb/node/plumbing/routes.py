"""Routes: the TUN as default route of the daemon's tables, and guards in the main table.

A guard is an ``unreachable`` route.  It is reached only by packets that no rule
captured (the TUN is down) or that came back from the daemon untranslated: they
end there, neither looping nor leaving the node with a pod's or a VIP's address.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.plumbing import names as n
from pylb.node.plumbing.targets import Targets
from pylb.plan.tables import Plan, Prefix

_UNICAST, _UNREACHABLE = 1, 7
_EVERYWHERE = Prefix(0, 0)
_LOOPBACK = 0x7F000001
_RTNH_F_ONLINK = 4


class Route(NamedTuple):
    """One IPv4 route; ``kind`` is RTN_*, ``oif`` an interface index, 0 none of them.

    ``onlink``: the gateway is reached although no route leads to it.
    """

    table: int
    dst: Prefix
    kind: int = _UNREACHABLE
    oif: int = 0
    source: int = 0
    gateway: int = 0
    onlink: bool = False

    def __str__(self) -> str:
        words = ["unreachable"] if self.kind == _UNREACHABLE else []
        words += [str(self.dst)]
        words += ["via", str(IPv4Address(self.gateway))] if self.gateway else []
        words += ["oif", str(self.oif)] if self.oif else []
        words += ["onlink"] if self.onlink else []
        words += ["src", str(IPv4Address(self.source))] if self.source else []
        return " ".join([*words, "table", str(self.table)])


def desired(plan: Plan, targets: Targets, tun: int, uplink: int) -> list[Route]:
    """Every route that ``plan`` needs; ``tun`` and ``uplink`` are interface indices."""
    routes = [
        Route(n.TABLE_TUN, _EVERYWHERE, _UNICAST, tun, plan.node_ip),
        Route(n.TABLE_TUN_LOOPBACK, _EVERYWHERE, _UNICAST, tun, _LOOPBACK),
        *(Route(n.TABLE_MAIN, prefix) for prefix in targets.vips),
    ]
    for peer in sorted(plan.peers.values()):
        if plan.overlay.kind == "host-gw":
            routes.append(Route(n.TABLE_MAIN, peer.subnet, _UNICAST, uplink, gateway=peer.address))
        else:
            routes.append(Route(n.TABLE_MAIN, peer.subnet))
    return routes


def existing(ipr: IPRoute) -> list[Route]:
    """The routes that plumbing made."""
    return [
        _from_message(message)
        for message in ipr.get_routes(family=socket.AF_INET)
        if message["proto"] == n.PROTOCOL
    ]


def _from_message(message: Any) -> Route:
    def address(attribute: str) -> int:
        value = message.get_attr(attribute)
        return int(IPv4Address(value)) if value else 0

    return Route(
        table=message.get_attr("RTA_TABLE") or message["table"],
        dst=Prefix(address("RTA_DST"), message["dst_len"]),
        kind=message["type"],
        oif=message.get_attr("RTA_OIF") or 0,
        source=address("RTA_PREFSRC"),
        gateway=address("RTA_GATEWAY"),
        onlink=bool(message["flags"] & _RTNH_F_ONLINK),
    )


def apply(ipr: IPRoute, wanted: list[Route]) -> list[str]:
    """Make the routes what ``wanted`` says; gives what was changed."""
    have = existing(ipr)
    present = set(have)
    changes = []
    replaced = set()
    for route in wanted:
        if route not in present:
            _send(ipr, "replace", route)
            replaced.add((route.table, route.dst))
            changes.append(f"added route {route}")
    for route in have:
        # A replaced route of the same table and prefix is gone already.
        if route not in set(wanted) and (route.table, route.dst) not in replaced:
            _remove(ipr, route)
            changes.append(f"removed route {route}")
    return changes


def clean(ipr: IPRoute) -> list[str]:
    """Remove every route that plumbing made."""
    have = existing(ipr)
    for route in have:
        _remove(ipr, route)
    return [f"removed route {route}" for route in have]


def _send(ipr: IPRoute, command: str, route: Route) -> None:
    given: dict[str, Any] = {
        "table": route.table,
        "dst": str(route.dst),
        "proto": n.PROTOCOL,
        "type": route.kind,
    }
    if route.oif:
        given["oif"] = route.oif
    if route.source:
        given["prefsrc"] = str(IPv4Address(route.source))
    if route.gateway:
        given["gateway"] = str(IPv4Address(route.gateway))
    if route.onlink:
        given["flags"] = ["onlink"]
    ipr.route(command, family=socket.AF_INET, **given)


def _remove(ipr: IPRoute, route: Route) -> None:
    try:
        _send(ipr, "del", route)
    except NetlinkError as error:
        if error.code != errno.ESRCH:
            raise
