"""Small policies for the lab's tests."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from pylb.policy.model import LabSpec, Node, OutsideHost, Pod, Policy, Service

NODE1 = Node("node1", IPv4Address("192.168.50.11"), IPv4Network("10.244.1.0/24"))
NODE2 = Node("node2", IPv4Address("192.168.50.12"), IPv4Network("10.244.2.0/24"))
INTERNET = OutsideHost("internet", IPv4Address("203.0.113.80"))


def pod(name: str, namespace: str = "default", **fields: Any) -> Pod:
    """A pod of node1."""
    given = {"node": "node1", "ip": IPv4Address("10.244.1.2"), **fields}
    return Pod(namespace, name, **given)


def policy(
    pods: Iterable[Pod] = (),
    services: Iterable[Service] = (),
    outside: tuple[OutsideHost, ...] = (INTERNET,),
) -> Policy:
    """Two nodes and what is given."""
    lab = LabSpec(
        underlay=IPv4Network("192.168.50.0/24"),
        router_ip=IPv4Address("192.168.50.254"),
        client_ip=IPv4Address("192.168.50.253"),
        outside=outside,
    )
    return Policy(
        lab,
        nodes={"node1": NODE1, "node2": NODE2},
        pods={p.key: p for p in pods},
        services={s.key: s for s in services},
    )
