"""The cost of a plan: 10 000 Services of three endpoints each, and one endpoint among them.

Run with ``python -m pytest bench/micro/test_plan.py``; the targets are 250 ms for
`compile` of the whole and a millisecond for one endpoint's `update` and `apply`.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pylb.plan.compile import apply, compile, update, validate, validate_delta
from pylb.plan.tables import Delta, Plan
from pylb.policy.model import (
    Change,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LabSpec,
    Node,
    Pod,
    Policy,
    Service,
    ServicePort,
)

SERVICES, ENDPOINTS, NODES, PODS = 10_000, 3, 100, 20_000
OWN = "node1"


def cluster() -> Policy:
    """100 nodes of 200 pods; Service i has the pods 3i, 3i+1 and 3i+2, around."""
    lab = LabSpec(
        IPv4Network("192.168.50.0/24"), IPv4Address("192.168.50.254"), IPv4Address("192.168.50.253")
    )
    nodes = {}
    for i in range(1, NODES + 1):
        ip = IPv4Address("192.168.50.0") + i
        subnet = IPv4Network(f"10.244.{i}.0/24")
        nodes[f"node{i}"] = Node(f"node{i}", ip, subnet, vtep_mac=b"\x02\x50" + ip.packed)
    pods = []
    for i in range(PODS):
        node = nodes[f"node{1 + i % NODES}"]
        address = node.pod_cidr.network_address + 2 + i // NODES
        pods.append(Pod("default", f"pod{i}", node.name, address))
    services, slices = {}, {}
    for i in range(SERVICES):
        key = ("default", f"svc{i}")
        vip = IPv4Address("10.96.0.1") + i
        services[key] = Service(*key, cluster_ip=vip, ports=(ServicePort(80, name="http"),))
        endpoints = tuple(Endpoint(pods[(ENDPOINTS * i + j) % PODS].ip) for j in range(ENDPOINTS))
        port = (EndpointPort(8080, name="http"),)
        slices[key] = (EndpointSlice("default", f"svc{i}-1", f"svc{i}", port, endpoints, True),)
    return Policy(lab, nodes, {pod.key: pod for pod in pods}, services, slices)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return cluster()


@pytest.fixture(scope="module")
def plan(policy: Policy) -> Plan:
    return compile(policy, OWN)


@pytest.fixture(scope="module")
def change(policy: Policy) -> Change:
    """One endpoint of one Service goes."""
    key = ("default", "svc5000")
    (old,) = policy.slices[key]
    fewer = (replace(old, endpoints=old.endpoints[1:]),)
    return Change(replace(policy, slices={**policy.slices, key: fewer}), services=frozenset([key]))


def test_compile_the_whole(benchmark: BenchmarkFixture, policy: Policy) -> None:
    made = benchmark(compile, policy, OWN)
    assert len(made.frontends) == SERVICES


def test_validate_the_whole(benchmark: BenchmarkFixture, plan: Plan) -> None:
    benchmark(validate, plan)


def test_update_one_endpoint(benchmark: BenchmarkFixture, plan: Plan, change: Change) -> None:
    delta = benchmark(update, plan, change)
    assert len(delta.frontends) == 1


def test_apply_one_endpoint(benchmark: BenchmarkFixture, plan: Plan, change: Change) -> None:
    made = benchmark(apply, plan, update(plan, change))
    assert len(made.frontends) == SERVICES


def test_update_validate_and_apply_one_endpoint(
    benchmark: BenchmarkFixture, plan: Plan, change: Change
) -> None:
    def whole() -> Delta:
        delta = update(plan, change)
        validate_delta(plan, delta)
        apply(plan, delta)
        return delta

    assert len(benchmark(whole).frontends) == 1
