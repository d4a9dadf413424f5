"""A node's plan and flows with something for every line of the listings."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from pylb.dataplane.base import FlowTuple, FlowView

NODE = "192.168.50.11"
POD, OTHER_POD = "10.244.1.2", "10.244.2.9"
VIP, PUBLIC, EXTERNAL = "10.96.0.10", "203.0.113.200", "198.51.100.7"


def backend(address: str, port: int, **fields: Any) -> dict[str, Any]:
    local = address.startswith("10.244.1.")
    return {
        "address": address,
        "port": port,
        "weight": 1,
        "local": local,
        "state": "ACTIVE",
        **fields,
    }


def frontend(kind: str, address: str, port: int, **fields: Any) -> dict[str, Any]:
    given = {
        "address": address,
        "port": port,
        "protocol": 6,
        "kind": kind,
        "service": "default/web:http",
        "scheduler": "rr",
        "localOnly": False,
        "backends": [backend(POD, 8080), backend(OTHER_POD, 8080)],
        **fields,
    }
    return {"active": list(range(len(given["backends"]))), **given}


LOCAL = {"service": "shop/cart", "localOnly": True, "backends": [backend("10.244.1.3", 90)]}
UDP = {"service": "kube-system/dns", "protocol": 17, "backends": [backend(OTHER_POD, 53)]}

PLAN: dict[str, Any] = {
    "node": "node1",
    "nodeIP": NODE,
    "serviceCIDR": "10.96.0.0/12",
    "frontends": [
        frontend("NODE_PORT", "127.0.0.1", 30080),
        frontend("NODE_PORT", NODE, 30080),
        frontend("CLUSTER_IP", VIP, 80),
        frontend("CLUSTER_IP", "10.96.0.9", 53, **UDP),
        frontend("NODE_PORT", NODE, 30053, **UDP),
        frontend("CLUSTER_IP", "10.96.0.11", 90, **LOCAL),
        frontend("NODE_PORT", NODE, 30090, **LOCAL),
        frontend("LOAD_BALANCER", PUBLIC, 90, **LOCAL),
        frontend("EXTERNAL_IP", EXTERNAL, 80),
        frontend("EXTERNAL_IP", EXTERNAL, 90, **LOCAL),
        frontend("LOCAL_REDIRECT", "169.254.20.10", 80),
        frontend("NODE_PORT", NODE, 30132, protocol=132, backends=[]),
    ],
}

CART: dict[str, Any] = {
    "metadata": {"name": "cart", "namespace": "shop"},
    "spec": {
        "type": "LoadBalancer",
        "healthCheckNodePort": 32000,
        "loadBalancerSourceRanges": ["10.0.0.0/8", "192.168.50.0/24"],
    },
}


def flow(
    number: int,
    to: tuple[str, int],
    back: tuple[str, int],
    state: str = "ESTABLISHED",
    protocol: int = 6,
    packets: tuple[int, int] = (5, 4),
    octets: tuple[int, int] = (500, 4000),
) -> FlowView:
    client = int(IPv4Address("10.244.1.7"))
    return FlowView(
        id=number,
        original=FlowTuple(client, _int(to[0]), protocol, 40000 + number, to[1]),
        reply=FlowTuple(_int(back[0]), client, protocol, back[1], 40000 + number),
        timeout=431999 if state == "ESTABLISHED" else 65,
        state=state if protocol == 6 else "",
        seen_reply=True,
        assured=True,
        packets=packets,
        bytes=octets,
    )


def _int(address: str) -> int:
    return int(IPv4Address(address))


FLOWS = [
    flow(1, (VIP, 80), (POD, 8080)),
    flow(2, (VIP, 80), (POD, 8080), "TIME_WAIT"),
    flow(3, (VIP, 80), (OTHER_POD, 8080), "SYN_SENT", packets=(1, 0), octets=(60, 0)),
    flow(4, ("10.96.0.9", 53), (OTHER_POD, 53), protocol=17),
    flow(5, (POD, 8080), (POD, 8080)),
]
