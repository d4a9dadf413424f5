"""Giving out what manifests leave open: nodes, pod and Service addresses, node ports.

Deterministic: by namespace and name, lowest free first, whatever the order of
the files.  Sticky: who has something keeps it as long as it may have it, also
when another object asks for it by name; that other one is found wrong then
(`pylb.policy.validate`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from pylb.policy.errors import Problem
from pylb.policy.fields import UNASSIGNED
from pylb.policy.model import (
    Key,
    LabSpec,
    Node,
    Pod,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
)
from pylb.policy.objects import RawObject
from pylb.policy.pools import AddressPool, pools_for
from pylb.policy.workloads import PodTemplate

NODE_PORTS = (30000, 32767)
_NODE_PORT_RANGE = range(NODE_PORTS[0], NODE_PORTS[1] + 1)
FIRST_POD = 2
"""Addresses of a podCIDR before this are the tunnel end (.0) and the bridge (.1)."""


def place_pods(
    templates: Mapping[Key, tuple[RawObject, PodTemplate]],
    nodes: Mapping[str, Node],
    previous: Mapping[Key, Pod],
    problems: list[Problem],
) -> dict[Key, Pod]:
    """Give every pod a node and an address.

    Pods that may choose go where the fewest of their own Deployment or ReplicaSet
    are, and of such nodes where the fewest pods are at all.
    """
    at: dict[Key, str] = {}
    choosing: dict[Key, list[str]] = {}
    for key in sorted(templates):
        raw, template = templates[key]
        node = template.pod.node
        if node:
            if node in nodes:
                at[key] = node
            else:
                known = ", ".join(sorted(nodes)) or "none"
                message = f"there is no node {node!r} (there are: {known})"
                problems.append(raw.problem("spec.nodeName", message))
            continue
        fitting = [
            name
            for name in sorted(nodes)
            if template.selector.items() <= nodes[name].labels.items()
        ]
        before = previous.get(key)
        if before and before.node in fitting:
            at[key] = before.node
        elif fitting:
            choosing[key] = fitting
        else:
            wanted = ", ".join(f"{k}={v}" for k, v in template.selector.items())
            what = f"no node has the labels {wanted}" if wanted else "there is no node"
            problems.append(raw.problem("spec.nodeSelector", what))
    _choose_nodes(at, choosing, templates)
    placed = {key: replace(templates[key][1].pod, node=at[key]) for key in sorted(at)}
    _give_addresses(placed, templates, nodes, previous, problems)
    return placed


def _choose_nodes(
    at: dict[Key, str],
    choosing: Mapping[Key, list[str]],
    templates: Mapping[Key, tuple[RawObject, PodTemplate]],
) -> None:
    """Put each that is ``choosing`` among its nodes into ``at``, where the others are already."""
    pods = Counter(at.values())
    siblings = Counter((node, templates[key][0].ref) for key, node in at.items())
    for key, fitting in choosing.items():
        owner = templates[key][0].ref
        node = min(fitting, key=lambda n: (siblings[n, owner], pods[n], n))
        at[key] = node
        pods[node] += 1
        siblings[node, owner] += 1


def _give_addresses(
    placed: dict[Key, Pod],
    templates: Mapping[Key, tuple[RawObject, PodTemplate]],
    nodes: Mapping[str, Node],
    previous: Mapping[Key, Pod],
    problems: list[Problem],
) -> None:
    taken = {pod.ip for pod in placed.values() if pod.ip != UNASSIGNED}
    open_keys = [key for key, pod in placed.items() if pod.ip == UNASSIGNED]
    for key in open_keys:
        before = previous.get(key)
        if before and before.ip in nodes[placed[key].node].pod_cidr:
            placed[key] = replace(placed[key], ip=before.ip)
            taken.add(before.ip)
    free = {name: _free(node.pod_cidr, FIRST_POD, taken) for name, node in nodes.items()}
    for key in open_keys:
        if placed[key].ip != UNASSIGNED:
            continue
        node = placed[key].node
        address = next(free[node], None)
        if address is None:
            message = f"podCIDR {nodes[node].pod_cidr} of node {node} has no free address left"
            problems.append(templates[key][0].problem("spec.nodeName", message))
            del placed[key]
            continue
        placed[key] = replace(placed[key], ip=address)


def address_services(
    services: Mapping[Key, tuple[RawObject, Service]],
    lab: LabSpec,
    nodes: Mapping[str, Node],
    previous: Mapping[Key, Service],
    pools: Mapping[str, AddressPool],
    redirected: Collection[IPv4Address],
    problems: list[Problem],
    warnings: list[str],
) -> dict[Key, Service]:
    """Give every Service its cluster IP, node ports and LoadBalancer address.

    No pool gives out an address that is ``redirected``; who has it keeps it.
    """
    addressed = {key: service for key, (_, service) in sorted(services.items())}
    taken: set[IPv4Address] = {s.cluster_ip for s in addressed.values() if s.cluster_ip}
    waiting = [key for key, s in addressed.items() if s.cluster_ip == UNASSIGNED]
    for key in waiting:
        before = previous.get(key)
        kept = before.cluster_ip if before else None
        if kept and kept in lab.service_cidr:
            addressed[key] = replace(addressed[key], cluster_ip=kept)
            taken.add(kept)
    free = _free(lab.service_cidr, 1, taken)
    for key in waiting:
        if addressed[key].cluster_ip != UNASSIGNED:
            continue
        address = next(free, None)
        if address is None:
            message = f"service CIDR {lab.service_cidr} has no free address left"
            problems.append(services[key][0].problem("spec.clusterIP", message))
            del addressed[key]
            continue
        addressed[key] = replace(addressed[key], cluster_ip=address)
    _keep_health_ports(addressed, previous)
    _give_node_ports(addressed, services, previous, problems)
    _give_health_ports(addressed, services, problems)
    machines = {lab.router_ip, lab.client_ip, *(host.ip for host in lab.outside)}
    machines |= {lab.underlay.network_address, lab.underlay.broadcast_address}
    machines |= {node.internal_ip for node in nodes.values()}
    _give_balancer_addresses(addressed, services, previous, pools, machines, redirected, warnings)
    return addressed


def _give_node_ports(
    addressed: dict[Key, Service],
    services: Mapping[Key, tuple[RawObject, Service]],
    previous: Mapping[Key, Service],
    problems: list[Problem],
) -> None:
    having = [key for key, s in addressed.items() if s.has_node_ports]
    # A load balancer that needs none may still have those that it asks for, or had before.
    wanting = [key for key in having if addressed[key].allocates_node_ports]
    taken = _taken_node_ports(addressed)
    for key in having:
        # Whoever has one keeps it, before anything is given out anew.
        before = {(p.port, p.protocol): p.node_port for p in _ports_of(previous.get(key))}
        own = _taken_node_ports({key: addressed[key]})
        kept = []
        for port in addressed[key].ports:
            number = port.node_port or before.get((port.port, port.protocol), 0)
            if not port.node_port and (number, port.protocol.value) in own:
                number = 0
            taken.add((number, port.protocol.value))
            kept.append(replace(port, node_port=number))
        addressed[key] = replace(addressed[key], ports=tuple(kept))
    free = {protocol: _free_node_ports(protocol.value, taken) for protocol in Protocol}
    for key in wanting:
        given = []
        for i, port in enumerate(addressed[key].ports):
            number = port.node_port or next(free[port.protocol], 0)
            taken.add((number, port.protocol.value))
            if not number:
                message = f"no port from {NODE_PORTS[0]} to {NODE_PORTS[1]} is free"
                problems.append(services[key][0].problem(f"spec.ports[{i}].nodePort", message))
            given.append(replace(port, node_port=number))
        addressed[key] = replace(addressed[key], ports=tuple(given))


def _free_node_ports(protocol: str, taken: set[tuple[int, str]]) -> Iterator[int]:
    """The ports that are in nobody's hands by the time they are asked for, lowest first."""
    return (number for number in _NODE_PORT_RANGE if (number, protocol) not in taken)


def _taken_node_ports(services: Mapping[Key, Service]) -> set[tuple[int, str]]:
    """Node ports with their protocols, and health check ports."""
    taken = {
        (port.node_port, port.protocol.value)
        for service in services.values()
        for port in service.ports
        if port.node_port
    }
    checks = {s.health_check_node_port for s in services.values() if s.health_check_node_port}
    return taken | {(number, "TCP") for number in checks}


def _without_health_port(addressed: Mapping[Key, Service]) -> list[Key]:
    return [
        key for key, s in addressed.items() if s.has_health_check and not s.health_check_node_port
    ]


def _keep_health_ports(addressed: dict[Key, Service], previous: Mapping[Key, Service]) -> None:
    """Health check ports that Services had before, before node ports are given out anew."""
    for key in _without_health_port(addressed):
        before = previous[key].health_check_node_port if key in previous else 0
        if before and (before, "TCP") not in _taken_node_ports({key: addressed[key]}):
            addressed[key] = replace(addressed[key], health_check_node_port=before)


def _give_health_ports(
    addressed: dict[Key, Service],
    services: Mapping[Key, tuple[RawObject, Service]],
    problems: list[Problem],
) -> None:
    taken = _taken_node_ports(addressed)
    free = _free_node_ports("TCP", taken)
    for key in _without_health_port(addressed):
        number = next(free, 0)
        taken.add((number, "TCP"))
        if not number:
            message = f"no port from {NODE_PORTS[0]} to {NODE_PORTS[1]} is free"
            problems.append(services[key][0].problem("spec.healthCheckNodePort", message))
        addressed[key] = replace(addressed[key], health_check_node_port=number)


def _give_balancer_addresses(
    addressed: dict[Key, Service],
    services: Mapping[Key, tuple[RawObject, Service]],
    previous: Mapping[Key, Service],
    pools: Mapping[str, AddressPool],
    machines: set[IPv4Address],
    redirected: Collection[IPv4Address],
    warnings: list[str],
) -> None:
    """An address from a pool for each load balancer that was not given one.

    A pool may hold the whole underlay: what is there already is not given out.
    """
    taken = {a for service in addressed.values() for a in service.reached_from_outside}
    taken |= machines
    wanting = {
        key: pools_for(service, pools)
        for key, service in addressed.items()
        if service.type is ServiceType.LOAD_BALANCER and not service.load_balancer_ips
    }
    for key, fitting in wanting.items():
        before = previous[key].load_balancer_ips if key in previous else ()
        elsewhere = machines.union(addressed[key].external_ips)
        kept = tuple(a for a in before if a not in elsewhere and any(a in pool for pool in fitting))
        if kept:
            addressed[key] = replace(addressed[key], load_balancer_ips=kept[:1])
            taken.add(kept[0])
    taken |= set(redirected)
    free = {name: pool.addresses() for name, pool in pools.items()}
    for key, fitting in wanting.items():
        if addressed[key].load_balancer_ips:
            continue
        address = next((a for pool in fitting for a in free[pool.name] if a not in taken), None)
        if address is None:
            message = (
                "has no address: no IPAddressPool has one for it, and neither "
                "status.loadBalancer.ingress nor spec.loadBalancerIP gives one"
            )
            warnings.append(str(services[key][0].problem("status.loadBalancer", message)))
            continue
        taken.add(address)
        addressed[key] = replace(addressed[key], load_balancer_ips=(address,))


def _ports_of(service: Service | None) -> tuple[ServicePort, ...]:
    return service.ports if service else ()


def _free(network: IPv4Network, first: int, taken: set[IPv4Address]) -> Iterator[IPv4Address]:
    """Free addresses from ``first`` on, the broadcast address left out."""
    base = int(network.network_address)
    for offset in range(first, network.num_addresses - 1):
        address = IPv4Address(base + offset)
        if address not in taken:
            yield address
