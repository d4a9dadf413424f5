"""The policy that the simulations run: three nodes, four pods, whatever Services a test needs.

node1: a b    node2: c d    node3: no pods    client, internet: outside
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from pylb.policy.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    OutsideHost,
    Pod,
    Policy,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from pylb.policy.takers import takers
from tests.sim.packets import ip
from tests.unit.plan.strategies import LAB, node

PODS = {
    "a": ("node1", "10.244.1.2"),
    "b": ("node1", "10.244.1.3"),
    "c": ("node2", "10.244.2.2"),
    "d": ("node2", "10.244.2.3"),
}
A, B, C, D = (ip(address) for _, address in PODS.values())
NODE1, NODE2, NODE3 = (ip(f"192.168.50.{i}") for i in (11, 12, 13))
TUNNEL1, TUNNEL2, TUNNEL3 = (ip(f"10.244.{i}.0") for i in (1, 2, 3))
CLIENT, INTERNET, LOOPBACK = ip("192.168.50.253"), ip("203.0.113.80"), ip("127.0.0.1")
VIP, VIP2 = ip("10.96.0.10"), ip("10.96.0.20")
LB_IP, EXTERNAL_IP = ip("192.0.2.10"), ip("198.51.100.7")
NODE_PORT = 30080
MASQUERADE_PORTS = range(61000, 65535)


def web(
    *to: str,
    name: str = "web",
    vip: int = VIP,
    port: int = 80,
    target: int = 8080,
    protocol: Protocol = Protocol.TCP,
    node_port: int = 0,
    local: bool = False,
    scheduler: str = "rr",
    balancer: int = 0,
    **more: Any,
) -> Service:
    """A Service of the pods in ``to``; see `policy` for how they become endpoints.

    ``balancer`` is a LoadBalancer address; ``more`` are fields of the Service.
    """
    kind = ServiceType.NODE_PORT if node_port else ServiceType.CLUSTER_IP
    return Service(
        "default",
        name,
        type=ServiceType.LOAD_BALANCER if balancer else kind,
        cluster_ip=IPv4Address(vip),
        ports=(ServicePort(port, protocol, "", target, node_port),),
        external_traffic_policy=TrafficPolicy.LOCAL if local else TrafficPolicy.CLUSTER,
        scheduler=scheduler,
        annotations={"pods": ",".join(to)},
        load_balancer_ips=(IPv4Address(balancer),) if balancer else (),
        **more,
    )


def policy(*services: Service, pods: Iterable[str] = PODS, **lab: Any) -> Policy:
    """The standard cluster with these Services; ``lab`` sets fields of the LabSpec."""
    outside = (OutsideHost("internet", IPv4Address(INTERNET)),)
    made = Policy(
        lab=replace(LAB, outside=outside, **lab),
        nodes={f"node{i}": node(i) for i in (1, 2, 3)},
        pods={
            ("default", name): Pod("default", name, PODS[name][0], IPv4Address(PODS[name][1]))
            for name in pods
        },
    )
    for service in services:
        endpoints = [
            Endpoint(IPv4Address(PODS[pod][1]))
            for pod in service.annotations["pods"].split(",")
            if pod
        ]
        made = with_endpoints(with_service(made, service), service.key, *endpoints)
    return made


def with_service(before: Policy, service: Service) -> Policy:
    return replace(before, services={**before.services, service.key: service})


def with_endpoints(before: Policy, key: Key, *endpoints: Endpoint) -> Policy:
    """The policy with these endpoints, and no others, behind a Service."""
    (port,) = before.services[key].ports
    assert isinstance(port.target_port, int)
    ports = (EndpointPort(port.target_port, port.protocol),)
    made = EndpointSlice(key[0], f"{key[1]}-1", key[1], ports, endpoints, computed=True)
    taking = takers(before.services[key], (made,), before.nodes)
    return replace(
        before,
        slices={**before.slices, key: (made,)},
        takers={**before.takers, key: taking},
    )


def draining(pod: str) -> Endpoint:
    """The endpoint of a pod that terminates but still serves."""
    return Endpoint(IPv4Address(PODS[pod][1]), ready=False, serving=True, terminating=True)


def ready(pod: str) -> Endpoint:
    return Endpoint(IPv4Address(PODS[pod][1]))


def without_pods(before: Policy, *names: str) -> Policy:
    gone = {("default", name) for name in names}
    return replace(before, pods={k: pod for k, pod in before.pods.items() if k not in gone})
