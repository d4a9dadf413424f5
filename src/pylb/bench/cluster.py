"""The cluster that is measured on: two nodes, and Services for each path.

::

    node1: load (sends), near            node2: far, far-2, far-3
    client on the underlay               outside, behind the router

Pods do nothing by themselves; the load programs are started in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import yaml

Body = dict[str, Any]

BULK, ECHO, HASH, STORM = 5001, 5003, 5004, 5100
"""TCP ports of the load programs' servers; STORM is the first of `MASQUERADED_PORTS`."""
MASQUERADED_PORTS = 16
"""Ports that are asked for in turn where the source port is one of 4 535 (61000 to 65534):
it is unique for each destination, so one port would run out of them within a second."""
SINK, UDP_ECHO = 5005, 5006
"""UDP ports of theirs."""
_NODE_PORT_OFFSET = 25000
"""5001 is node port 30001, and so on."""

NODE1, NODE2 = "192.168.50.11", "192.168.50.12"
OUTSIDE = "203.0.113.80"
PODS = {
    "load": ("node1", "10.244.1.2"),
    "near": ("node1", "10.244.1.3"),
    "far": ("node2", "10.244.2.2"),
    "far-2": ("node2", "10.244.2.3"),
    "far-3": ("node2", "10.244.2.4"),
}
VIPS = {"far": "10.96.0.10", "near": "10.96.0.11", "load": "10.96.0.12"}
PROXY_VIPS = {"far": "198.51.100.10", "near": "198.51.100.11"}
"""Addresses of node1 that a proxy listens on, outside of everything that pylb translates."""
MANY = IPv4Address("10.97.0.0")
"""The first of the Services that there are thousands of."""
FLOWS = IPv4Address("10.98.0.0")
"""The first of the UDP Services that flows are opened to."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a path begins, what is asked there, and which place answers."""

    source: str
    address: str
    server: str
    offset: int = 0

    def port(self, port: int) -> int:
        """The port to ask for a server's port."""
        return port + self.offset


TARGETS = {
    "cluster": Target("load", VIPS["far"], "far"),
    "node": Target("load", VIPS["near"], "near"),
    "hairpin": Target("load", VIPS["load"], "load"),
    "nodeport": Target("client", NODE1, "far", _NODE_PORT_OFFSET),
    "masquerade": Target("load", OUTSIDE, "outside"),
    "overlay": Target("load", PODS["far"][1], "far"),
}
PROXY_TARGETS = {
    "cluster": Target("load", PROXY_VIPS["far"], "far"),
    "node": Target("load", PROXY_VIPS["near"], "near"),
}


def manifest() -> str:
    """The cluster as YAML."""
    return yaml.safe_dump_all(list(bodies()), sort_keys=False)


def bodies() -> Iterator[Body]:
    """The cluster's objects."""
    idle = {"name": "idle", "image": "pause"}
    outside = {"name": "outside", "ip": OUTSIDE, "containers": [idle]}
    yield {
        "apiVersion": "pylb.io/v1alpha1",
        "kind": "Lab",
        "metadata": {"name": "lab"},
        "spec": {"outsideHosts": [outside]},
    }
    for number, address in ((1, NODE1), (2, NODE2)):
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node{number}"},
            "spec": {"podCIDR": f"10.244.{number}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
    for name, (node, address) in PODS.items():
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [idle]},
            "status": {"podIP": address},
        }
    for name, vip in VIPS.items():
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "type": "NodePort" if name == "far" else "ClusterIP",
                "clusterIP": vip,
                "selector": {"app": name},
                "ports": [
                    *(_port(port, "TCP", name) for port in (BULK, STORM, ECHO, HASH)),
                    *(_port(port, "UDP", name) for port in (SINK, UDP_ECHO)),
                ],
            },
        }


def _port(port: int, protocol: str, service: str) -> Body:
    body: Body = {
        "name": f"p{port}",
        "port": port,
        "targetPort": port,
        "protocol": protocol,
    }
    if service == "far":
        body["nodePort"] = port + _NODE_PORT_OFFSET
    return body


def service_name(number: int) -> str:
    """The name of one of many Services."""
    return f"many-{number}"


def service(number: int) -> Body:
    """One of many Services; its endpoints are given and not selected."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service_name(number)},
        "spec": {
            "clusterIP": str(MANY + number),
            "ports": [{"name": "storm", "port": STORM, "targetPort": STORM}],
        },
    }


def endpoints(number: int, count: int = 3) -> Body:
    """The endpoints of one of many Services: the first ``count`` of the far pods."""
    pods = ("far", "far-2", "far-3")[:count]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name(number)}-1",
            "labels": {"kubernetes.io/service-name": service_name(number)},
        },
        "addressType": "IPv4",
        "ports": [{"name": "storm", "port": STORM, "protocol": "TCP"}],
        "endpoints": [{"addresses": [PODS[pod][1]], "conditions": {"ready": True}} for pod in pods],
    }


def many(first: int, last: int) -> list[Body]:
    """The Services from ``first`` up to before ``last``, with three endpoints each."""
    return [body for n in range(first, last) for body in (service(n), endpoints(n))]


def flow_services(count: int) -> list[Body]:
    """UDP Services on consecutive addresses, all with the far pod behind them."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"flows-{number}"},
            "spec": {
                "clusterIP": str(FLOWS + number),
                "selector": {"app": "far"},
                "ports": [{"name": "sink", "port": SINK, "targetPort": SINK, "protocol": "UDP"}],
            },
        }
        for number in range(count)
    ]
