"""Policies whose objects agree with each other, and the change from one to another.

Everything comes from a small universe of names and addresses, so that two
policies drawn apart share most of it: addresses move between Services, pods
between nodes, endpoints come, drain and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, TypeVar

from hypothesis import strategies as st

from pylb.plan.validate import SCHEDULERS
from pylb.policy.model import (
    ZONE,
    Change,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    LabSpec,
    LocalRedirect,
    Node,
    Overlay,
    Pod,
    Policy,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)

K = TypeVar("K")

OWN = "node1"
_NODES = ("node1", "node2", "node3", "node4")
_PODS: tuple[Key, ...] = tuple(("default", f"pod{i}") for i in range(6))
_SERVICES: tuple[Key, ...] = (
    *(("default", f"svc{i}") for i in range(4)),
    ("other", "svc0"),
)
_PORT_SETS = (
    (),
    (("", 80, Protocol.TCP),),
    (("dns", 53, Protocol.UDP), ("dns-tcp", 53, Protocol.TCP)),
    (("http", 80, Protocol.TCP), ("alt", 8080, Protocol.TCP)),
)
_ELSEWHERE = (IPv4Address("192.0.2.7"), IPv4Address("10.244.9.9"))

_HINTS = (((), ()), ((), ()), (("a",), ()), (("b",), ("node1",)), (("a", "b"), ("node2",)))
_RANGES = ((), (), (IPv4Network("192.168.50.0/24"),), (IPv4Network("10.0.0.0/8"),) * 2)

LAB = LabSpec(
    underlay=IPv4Network("192.168.50.0/24"),
    router_ip=IPv4Address("192.168.50.254"),
    client_ip=IPv4Address("192.168.50.253"),
)
labs = st.builds(
    replace,
    st.just(LAB),
    mtu=st.sampled_from((1500, 1400)),
    overlay=st.sampled_from(Overlay),
    scheduler=st.sampled_from(("random", "rr")),
    masquerade=st.booleans(),
)


def node(index: int, moved: bool = False) -> Node:
    """Node number ``index``; ``moved`` gives it another address and subnet."""
    ip = IPv4Address(f"192.168.50.{10 + index + 100 * moved}")
    return Node(
        name=f"node{index}",
        internal_ip=ip,
        pod_cidr=IPv4Network(f"10.244.{index + 100 * moved}.0/24"),
        labels={ZONE: "ab"[index % 2]},
        vtep_mac=b"\x02\x50" + ip.packed,
    )


@st.composite
def _endpoints(draw: st.DrawFn, addresses: list[IPv4Address]) -> tuple[Endpoint, ...]:
    chosen = draw(st.lists(st.sampled_from(addresses), max_size=4))
    zones, hinted = draw(st.sampled_from(_HINTS))
    return tuple(
        Endpoint(
            address,
            draw(st.booleans()),
            draw(st.booleans()),
            draw(st.booleans()),
            for_zones=zones,
            for_nodes=hinted,
            weight=draw(st.sampled_from((1, 1, 0, 2, 65535))),
        )
        for address in chosen
    )


@st.composite
def _redirects(
    draw: st.DrawFn, services: Mapping[Key, Service], pods: Mapping[Key, Pod]
) -> tuple[dict[Key, LocalRedirect], dict[Key, LocalRedirect]]:
    """Redirections of addresses by their own key, and of Services by the Service's."""
    addresses, of_services = {}, {}
    endpoints = tuple(Endpoint(pod.ip, draw(st.booleans()), node=pod.node) for pod in pods.values())
    for number in range(draw(st.integers(0, 2))):
        made = LocalRedirect(
            "default",
            f"redirect{number}",
            address=IPv4Address("10.10.10.10") + number,
            ports=(EndpointPort(8080),),
            targets=(EndpointPort(80),),
            endpoints=endpoints,
            skips_backends=draw(st.booleans()),
        )
        addresses[made.key] = made
    for key in sorted(services):
        if draw(st.integers(0, 4)) == 0:
            of_services[key] = LocalRedirect(
                key[0],
                "of-service",
                service=key,
                targets=(EndpointPort(8080), EndpointPort(8081, name="http")),
                endpoints=endpoints,
                skips_backends=draw(st.booleans()),
            )
    return addresses, of_services


@st.composite
def policies(draw: st.DrawFn, lab: st.SearchStrategy[LabSpec] = labs) -> Policy:
    nodes = {OWN: node(1, draw(st.integers(0, 9)) == 0)}
    for index in range(2, len(_NODES) + 1):
        if draw(st.booleans()):
            nodes[f"node{index}"] = node(index, draw(st.booleans()))
    order = draw(st.permutations(range(len(_PODS))))
    pods = {}
    for key, offset in zip(_PODS, order, strict=True):
        if draw(st.booleans()):
            on = nodes[draw(st.sampled_from(sorted(nodes)))]
            pods[key] = Pod(*key, on.name, on.pod_cidr.network_address + 2 + offset)
    addresses = [*_ELSEWHERE, *(pod.ip for pod in pods.values())]

    services: dict[Key, Service] = {}
    slices, takers = {}, {}
    order = draw(st.permutations(range(len(_SERVICES))))
    for key, slot in zip(_SERVICES, order, strict=True):
        if not draw(st.booleans()):
            continue
        ports = draw(st.sampled_from(_PORT_SETS))
        kind = draw(st.sampled_from(ServiceType))
        headless = kind is ServiceType.CLUSTER_IP and draw(st.booleans())
        has_node_port = kind in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)
        services[key] = Service(
            *key,
            type=kind,
            cluster_ip=None if headless else IPv4Address("10.96.0.10") + slot,
            ports=tuple(
                ServicePort(port, protocol, name, port, (30000 + 10 * slot + i) * has_node_port)
                for i, (name, port, protocol) in enumerate(ports)
            ),
            external_traffic_policy=draw(st.sampled_from(TrafficPolicy)),
            scheduler=draw(st.sampled_from(("", *sorted(SCHEDULERS)))),
            internal_traffic_policy=draw(st.sampled_from(TrafficPolicy)),
            affinity=draw(st.sampled_from((0, 0, 60, 10800))),
            load_balancer_ips=(IPv4Address("192.168.50.200") + slot,)
            if kind is ServiceType.LOAD_BALANCER
            else (),
            external_ips=(IPv4Address("198.51.100.1") + slot,) if draw(st.booleans()) else (),
            source_ranges=draw(st.sampled_from(_RANGES)),
        )
        if services[key].reached_from_outside:
            takers[key] = tuple(sorted(draw(st.sets(st.sampled_from(sorted(nodes))))))
        slices[key] = tuple(
            EndpointSlice(
                key[0],
                f"{key[1]}-{i}",
                key[1],
                tuple(EndpointPort(port + i, protocol, name) for name, port, protocol in ports),
                draw(_endpoints(addresses)),
                computed=True,
            )
            for i in range(draw(st.integers(0, 2)))
        )
    redirects, redirected = draw(_redirects(services, pods))
    return Policy(draw(lab), nodes, pods, services, slices, takers, redirects, redirected)


def difference(old: Policy, new: Policy) -> Change:
    """The smallest change that leads from ``old`` to ``new``."""
    return Change(
        policy=new,
        nodes=_differing(old.nodes, new.nodes),
        pods=_differing(old.pods, new.pods),
        services=_differing(old.services, new.services)
        | _differing(old.slices, new.slices)
        | _differing(old.takers, new.takers)
        | _differing(old.redirected, new.redirected),
        lab=old.lab != new.lab,
        redirects=_differing(old.redirects, new.redirects),
    )


@st.composite
def changes(draw: st.DrawFn, old: Policy, new: Policy) -> Change:
    """A change from ``old`` to ``new`` that may also name what stayed the same."""
    exact = difference(old, new)
    return replace(
        exact,
        pods=exact.pods | draw(st.frozensets(st.sampled_from(_PODS), max_size=2)),
        services=exact.services | draw(st.frozensets(st.sampled_from(_SERVICES), max_size=2)),
        nodes=exact.nodes | draw(st.frozensets(st.sampled_from(_NODES[1:]), max_size=1)),
    )


def _differing(old: Mapping[K, Any], new: Mapping[K, Any]) -> frozenset[K]:
    return frozenset(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))


def shuffled(policy: Policy, draw: Any) -> Policy:
    """The same policy with every mapping in another order."""

    def mixed(mapping: Mapping[K, Any]) -> dict[K, Any]:
        return dict(draw(st.permutations(list(mapping.items()))))

    return replace(
        policy,
        nodes=mixed(policy.nodes),
        pods=mixed(policy.pods),
        services=mixed(policy.services),
        slices=mixed(policy.slices),
        takers=mixed(policy.takers),
        redirects=mixed(policy.redirects),
        redirected=mixed(policy.redirected),
    )
