"""Plans to test with, small and written out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pylb.plan.tables import (
    Frontend,
    FrontendKey,
    FrontendKind,
    OverlayTable,
    Peer,
    Plan,
    Prefix,
)


def ip(text: str) -> int:
    return int(IPv4Address(text))


def prefix(text: str) -> Prefix:
    network = IPv4Network(text)
    return Prefix(int(network.network_address), network.prefixlen)


def peer(number: int) -> Peer:
    address = ip(f"192.168.7.{number}")
    mac = b"\x02\x50" + address.to_bytes(4, "big")
    return Peer(f"node{number}", address, prefix(f"10.244.{number}.0/24"), mac)


def frontend(
    address: str, port: int, kind: FrontendKind = FrontendKind.CLUSTER_IP, protocol: int = 6
) -> Frontend:
    key = FrontendKey(ip(address), port, protocol)
    return Frontend(key, kind, "default/web", "random", (), ())


def plan(*frontends: Frontend, **changes: Any) -> Plan:
    """The plan of node1: 192.168.7.1, pods 10.244.1.0/24, one peer, node2."""
    own = peer(1)
    fields: dict[str, Any] = {
        "node": "node1",
        "node_ip": own.address,
        "bridge_ip": ip("10.244.1.1"),
        "tunnel_ip": ip("10.244.1.0"),
        "pod_cidr": own.subnet,
        "underlay": prefix("192.168.7.0/24"),
        "underlay_mtu": 1500,
        "overlay": OverlayTable("vxlan", 8472, 1, own.mac, 1450),
        "masquerade": True,
        "service_cidr": prefix("10.96.0.0/12"),
        "peers": {"node2": peer(2)},
        "frontends": {each.key: each for each in frontends},
    }
    return Plan(**(fields | changes))
