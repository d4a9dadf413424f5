"""Thousands of Services of every kind on one cluster, three endpoints each.

``python -m pylb.bench.mixed --services 10000 > mixed.yaml`` writes them for `pylb lab up`.
Which kinds there are, `KINDS` says; they come in turn.  Schedulers come in turn too, at
another beat, so that in the end every kind has had each; Maglev, whose tables are large,
is for one Service of seventy.

Pods are in groups of three, on nodes next to each other; a Service selects one group.
Node ports and health check ports are enough for 10 000 Services, not for many more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any

import yaml

Body = dict[str, Any]

GROUP = 3
"""Pods of a group, and endpoints of a Service."""
ZONES = ("east", "west")
POD_PORTS = {"http": (8080, "TCP"), "metrics": (9090, "TCP"), "dns": (5353, "UDP")}
CLUSTER_IPS = IPv4Address("10.100.0.0")
"""Given ones begin here; others are allocated from 10.96.0.1 on."""
POOL = "198.18.0.0/17"
BALANCERS = IPv4Address("198.18.128.0")
"""Given load balancer addresses, but the first few, which are of the underlay."""
UNDERLAY_BALANCERS = IPv4Address("192.168.50.200")
IN_UNDERLAY = 40
EXTERNAL_IPS = IPv4Address("198.19.0.0")
REDIRECTED = IPv4Address("169.254.20.1")
"""Addresses that no Service has, of the redirection policies that match addresses."""
FIRST_GIVEN_NODE_PORT = 32267
SCHEDULERS = ("random", "rr", "wrr", "lc", "wlc", "sh", "mh")
MAGLEV_EVERY = 10
"""Of the Services whose turn it is to have Maglev."""
UNREADY_GROUPS = 16
"""One of so many groups has a pod that is not ready."""


def bodies(
    services: int,
    nodes: int = 2,
    groups: int = 4,
    image: str = "echoserver",
    kinds: Sequence[str] = (),
) -> Iterator[Body]:
    """The cluster and its Services, of ``kinds`` (default: all).

    At most 180 nodes; a node's podCIDR has room for 252 pods.
    """
    yield {
        "apiVersion": "pylb.io/v1alpha1",
        "kind": "Lab",
        "metadata": {"name": "lab"},
        "spec": {
            "underlay": {"subnet": "192.168.50.0/24"},
            "addressPools": [{"name": "mixed", "addresses": [POOL]}],
        },
    }
    yield from (_node(number) for number in range(1, nodes + 1))
    yield from (_pod(number, nodes, image) for number in range(GROUP * groups))
    turns = tuple(kinds) or tuple(KINDS)
    for number in range(services):
        kind = KINDS[turns[number % len(turns)]]
        yield from kind(number, group_of(number, groups), nodes)


def group_of(number: int, groups: int) -> int:
    """The group of a Service: at a beat of its own, so that every kind has every group."""
    return (number + number // len(KINDS)) % groups


def manifest(*args: Any, **more: Any) -> str:
    """What `bodies` gives for the same arguments, as YAML."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump_all(bodies(*args, **more), Dumper=dumper, sort_keys=False))


def pod_address(number: int, nodes: int) -> str:
    """The address of a pod; consecutive ones are on nodes next to each other."""
    return f"10.244.{1 + number % nodes}.{2 + number // nodes}"


def _node(number: int) -> Body:
    zone = ZONES[number % len(ZONES)]
    address = str(IPv4Address("192.168.50.10") + number)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"node{number}",
            "labels": {"topology.kubernetes.io/zone": zone},
        },
        "spec": {"podCIDR": f"10.244.{number}.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def _pod(number: int, nodes: int, image: str) -> Body:
    group = number // GROUP
    ports = [
        {"name": name, "containerPort": port, "protocol": protocol}
        for name, (port, protocol) in POD_PORTS.items()
    ]
    status: Body = {"podIP": pod_address(number, nodes)}
    if group % UNREADY_GROUPS == 1 and number % GROUP == 2:
        status["conditions"] = [{"type": "Ready", "status": "False"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{number}",
            "labels": {"group": f"g{group}", "app": f"pod-{number}"},
            "annotations": {"pylb.io/weight": str(1 + number % 3)},
        },
        "spec": {
            "nodeName": f"node{1 + number % nodes}",
            "containers": [{"name": "main", "image": image, "ports": ports}],
        },
        "status": status,
    }


def _port(name: str, port: int, target: int | str, protocol: str = "TCP") -> Body:
    return {"name": name, "port": port, "targetPort": target, "protocol": protocol}


HTTP = _port("http", 80, "http")
DNS = _port("dns", 53, "dns", "UDP")


def _service(kind: str, number: int, group: int, *ports: Body, **spec: Any) -> Body:
    scheduler = SCHEDULERS[number % len(SCHEDULERS)]
    if scheduler == "mh" and number // len(SCHEDULERS) % MAGLEV_EVERY:
        scheduler = "rr"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"{kind}-{number}",
            "annotations": {"pylb.io/scheduler": scheduler},
        },
        "spec": {"selector": {"group": f"g{group}"}, "ports": list(ports or (HTTP,)), **spec},
    }


def _plain(kind: str, *ports: Body, **spec: Any) -> Callable[[int, int, int], Iterator[Body]]:
    """A kind whose Services differ in nothing but name, scheduler and group."""

    def make(number: int, group: int, nodes: int) -> Iterator[Body]:
        yield _service(kind, number, group, *ports, **spec)

    return make


def _given_cluster_ip(number: int, group: int, nodes: int) -> Iterator[Body]:
    yield _service("given", number, group, clusterIP=str(CLUSTER_IPS + number))


def _node_port_local(number: int, group: int, nodes: int) -> Iterator[Body]:
    port = {**HTTP, "nodePort": FIRST_GIVEN_NODE_PORT + number // len(KINDS)}
    yield _service(
        "node-port-local", number, group, port, type="NodePort", externalTrafficPolicy="Local"
    )


def _given_balancer(number: int, group: int, nodes: int) -> Iterator[Body]:
    turn = number // len(KINDS)
    address = UNDERLAY_BALANCERS + turn if turn < IN_UNDERLAY else BALANCERS + number
    body = _service(
        "balancer-given",
        number,
        group,
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        allocateLoadBalancerNodePorts=False,
    )
    yield {**body, "status": {"loadBalancer": {"ingress": [{"ip": str(address)}]}}}


def _external(kind: str, policy: str) -> Callable[[int, int, int], Iterator[Body]]:
    def make(number: int, group: int, nodes: int) -> Iterator[Body]:
        address = str(EXTERNAL_IPS + number)
        spec = {"externalIPs": [address], "externalTrafficPolicy": policy}
        yield _service(kind, number, group, HTTP, DNS, **spec)

    return make


def endpoint_slice(number: int, group: int, nodes: int, count: int = GROUP) -> Body:
    """The given endpoints of the Service ``slice-NUMBER``: the first ``count`` of its group.

    The first is meant for one zone, the second drains, or in every other group is not ready.
    """
    conditions: tuple[Body, ...] = (
        {"ready": True},
        {"ready": False, "serving": group % 2 == 0, "terminating": group % 2 == 0},
        {"ready": True},
    )
    endpoints: list[Body] = [
        {"addresses": [pod_address(GROUP * group + i, nodes)], "conditions": conditions[i]}
        for i in range(count)
    ]
    for endpoint in endpoints:
        endpoint["hints"] = {"forZones": [{"name": zone} for zone in ZONES]}
    endpoints[0]["hints"] = {"forZones": [{"name": ZONES[0]}]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"slice-{number}-1",
            "labels": {"kubernetes.io/service-name": f"slice-{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def fewer(services: Iterable[tuple[str, str]], nodes: int, groups: int) -> Body:
    """The endpoints of one of the ``services`` of `bodies`, less the last one of its group.

    It is the first whose endpoints are given and whose group is even, so that both that are
    left serve.  Services are (namespace, name).
    """
    kinds = (name.rpartition("-") for _, name in services)
    numbers = (int(number) for kind, _, number in kinds if kind == "slice")
    of = ((number, group_of(number, groups)) for number in numbers)
    number, group = next((number, group) for number, group in of if group % 2 == 0)
    return endpoint_slice(number, group, nodes, count=GROUP - 1)


def _with_slice(number: int, group: int, nodes: int) -> Iterator[Body]:
    body = _service("slice", number, group)
    del body["spec"]["selector"]
    yield body
    yield endpoint_slice(number, group, nodes)


def _with_endpoints(number: int, group: int, nodes: int) -> Iterator[Body]:
    body = _service("endpoints", number, group)
    del body["spec"]["selector"]
    yield body
    addresses = [{"ip": pod_address(GROUP * group + i, nodes)} for i in range(GROUP)]
    subset = {
        "addresses": addresses[1:],
        "notReadyAddresses": addresses[:1],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }
    yield {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": f"endpoints-{number}"},
        "subsets": [subset],
    }


def _redirected(number: int, group: int, nodes: int) -> Iterator[Body]:
    """By turns a Service that is redirected, and one beside whom an address is."""
    yield _service("redirected", number, group)
    turn = number // len(KINDS)
    if turn % 2:
        frontend: Body = {
            "addressMatcher": {
                "ip": str(REDIRECTED + turn),
                "toPorts": [{"port": "80", "protocol": "TCP"}],
            }
        }
    else:
        frontend = {
            "serviceMatcher": {"serviceName": f"redirected-{number}", "namespace": "default"}
        }
    yield {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLocalRedirectPolicy",
        "metadata": {"name": f"redirect-{number}", "namespace": "default"},
        "spec": {
            "redirectFrontend": frontend,
            "redirectBackend": {
                "localEndpointSelector": {"matchLabels": {"group": f"g{group}"}},
                "toPorts": [{"port": "8080", "protocol": "TCP"}],
            },
            "skipRedirectFromBackend": turn % 3 == 0,
        },
    }


KINDS: dict[str, Callable[[int, int, int], Iterator[Body]]] = {
    "given": _given_cluster_ip,
    "udp": _plain("udp", DNS),
    "ports": _plain(
        "ports",
        HTTP,
        _port("metrics", 9090, 9090),
        _port("dns", 53, 5353, "UDP"),
        _port("dns-tcp", 53, "http"),
    ),
    "node-port": _plain("node-port", type="NodePort"),
    "node-port-local": _node_port_local,
    "balancer": _plain(
        "balancer",
        type="LoadBalancer",
        allocateLoadBalancerNodePorts=False,
        loadBalancerSourceRanges=["192.168.50.0/24", "10.244.0.0/16", "203.0.113.0/25"],
    ),
    "balancer-given": _given_balancer,
    "balancer-local": _plain(
        "balancer-local", DNS, type="LoadBalancer", externalTrafficPolicy="Local"
    ),
    "external": _external("external", "Cluster"),
    "external-local": _external("external-local", "Local"),
    "internal-local": _plain("internal-local", internalTrafficPolicy="Local"),
    "affinity": _plain("affinity", sessionAffinity="ClientIP"),
    "affinity-short": _plain(
        "affinity-short",
        HTTP,
        DNS,
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
    ),
    "headless": _plain("headless", clusterIP="None"),
    "sctp": _plain("sctp", HTTP, _port("sctp", 9999, 9999, "SCTP")),
    "not-ready": _plain("not-ready", publishNotReadyAddresses=True),
    "same-zone": _plain("same-zone", trafficDistribution="PreferSameZone"),
    "slice": _with_slice,
    "endpoints": _with_endpoints,
    "redirected": _redirected,
}
"""What makes the objects of a Service from its number, its group and how many nodes there are."""


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(prog="python -m pylb.bench.mixed", description=__doc__)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--groups", type=int, default=4, help="of three pods each")
    args = parser.parse_args()
    sys.stdout.write(manifest(args.services, args.nodes, args.groups))


if __name__ == "__main__":
    main()
