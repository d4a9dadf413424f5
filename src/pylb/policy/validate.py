"""What must hold between objects: one address, one owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from pylb.policy.errors import Problem
from pylb.policy.model import (
    EndpointPort,
    EndpointSlice,
    Key,
    LabSpec,
    LocalRedirect,
    Node,
    Pod,
    Protocol,
    Service,
    ServiceType,
)
from pylb.policy.objects import RawObject
from pylb.policy.pools import AddressPool

RESERVED_NAMES = ("client", "router")
LONGEST_PREFIX = 30
"""A podCIDR holds the tunnel end, the bridge, a pod and the broadcast address."""


def check_nodes(nodes: Mapping[str, tuple[RawObject, Node]], lab: LabSpec) -> list[Problem]:
    """podCIDRs that overlap nothing, InternalIPs inside the underlay and unique."""
    problems: list[Problem] = []
    by_ip: dict[IPv4Address, str] = {lab.router_ip: "the router", lab.client_ip: "the client"}
    seen: list[Node] = []
    for name in sorted(nodes):
        raw, node = nodes[name]
        cidr = node.pod_cidr
        if cidr.prefixlen > LONGEST_PREFIX:
            message = f"{cidr} is too small: expected a prefix of at most {LONGEST_PREFIX} bits"
            problems.append(raw.problem("spec.podCIDR", message))
        others = [(f"{other.pod_cidr} of Node {other.name}", other.pod_cidr) for other in seen]
        others += [
            (f"the underlay {lab.underlay}", lab.underlay),
            (f"the service CIDR {lab.service_cidr}", lab.service_cidr),
        ]
        for what, network in others:
            if cidr.overlaps(network):
                problems.append(raw.problem("spec.podCIDR", f"{cidr} overlaps {what}"))
        at = "status.addresses"
        if node.internal_ip not in lab.underlay:
            message = f"{node.internal_ip} is outside the underlay {lab.underlay}"
            problems.append(raw.problem(at, message))
        owner = by_ip.setdefault(node.internal_ip, f"Node {name}")
        if owner != f"Node {name}":
            problems.append(raw.problem(at, f"{node.internal_ip} is {owner}'s already"))
        seen.append(node)
    if lab.underlay.overlaps(lab.service_cidr):
        message = f"the service CIDR {lab.service_cidr} overlaps the underlay {lab.underlay}"
        problems.append(Problem("<lab>", 0, "Lab", "spec.serviceCIDR", message))
    return problems


def check_lab(raw: RawObject | None, lab: LabSpec) -> list[Problem]:
    """Router, client and outside hosts where they can be."""
    problems: list[Problem] = []

    def wrong(field: str, message: str) -> None:
        if raw is None:
            problems.append(Problem("<lab>", 0, "Lab", field, message))
        else:
            problems.append(raw.problem(field, message))

    for field, address in (("router", lab.router_ip), ("client", lab.client_ip)):
        if address not in lab.underlay:
            wrong(f"spec.underlay.{field}", f"{address} is outside the underlay {lab.underlay}")
    if lab.router_ip == lab.client_ip:
        wrong("spec.underlay.client", f"{lab.client_ip} is the router's already")
    if lab.mtu - lab.overlay.overhead < 576:
        wrong("spec.underlay.mtu", f"{lab.mtu} leaves pods less than 576 bytes")
    names: set[str] = set(RESERVED_NAMES)
    for i, host in enumerate(lab.outside):
        if host.name in names:
            wrong(f"spec.outsideHosts[{i}].name", f"{host.name!r} is taken already")
        if host.ip in lab.underlay or host.ip in lab.service_cidr:
            wrong(f"spec.outsideHosts[{i}].ip", f"{host.ip} is not outside the cluster")
        names.add(host.name)
    return problems


def check_pods(
    pods: Mapping[Key, Pod],
    raws: Mapping[Key, RawObject],
    nodes: Mapping[str, Node],
    lab: LabSpec,
    previous: Mapping[Key, Pod],
) -> list[Problem]:
    """Addresses inside the node's podCIDR and unique; names that the lab can use.

    Of two with one address it is the pod that did not have it before that is wrong.
    """
    problems: list[Problem] = []
    owners: dict[IPv4Address, Key] = {}
    taken = {**dict.fromkeys(nodes, "a node"), **dict.fromkeys(RESERVED_NAMES, "the lab's own")}
    taken |= {host.name: "an outside host" for host in lab.outside}
    before = {key: pod.ip for key, pod in previous.items()}
    for key in sorted(pods, key=lambda key: (pods[key].ip != before.get(key), key)):
        pod, raw, node = pods[key], raws[key], nodes[pods[key].node]
        cidr = node.pod_cidr
        at = "status.podIP"
        if pod.ip not in cidr:
            message = f"{pod.ip} is outside podCIDR {cidr} of node {node.name}"
            problems.append(raw.problem(at, message))
        elif pod.ip in (node.tunnel_ip, node.bridge_ip, cidr.broadcast_address):
            message = f"{pod.ip} is reserved: .0 is the tunnel end, .1 the bridge"
            problems.append(raw.problem(at, message))
        first = owners.setdefault(pod.ip, key)
        if first != key:
            problems.append(raw.problem(at, f"{pod.ip} is Pod {'/'.join(first)}'s already"))
        lab_name = pod.name if pod.namespace == "default" else f"{pod.namespace}.{pod.name}"
        if lab_name in taken:
            message = f"{pod.name!r} is the name of {taken[lab_name]}"
            problems.append(raw.problem("metadata.name", message))
    return problems


def check_services(
    services: Mapping[Key, Service],
    raws: Mapping[Key, RawObject],
    lab: LabSpec,
    nodes: Mapping[str, Node],
    previous: Mapping[Key, Service],
) -> list[Problem]:
    """Addresses where they can be; each IP, node port and outside address owned once.

    Of two that have the same it is the Service that is new, or changed, that is wrong.
    """
    problems: list[Problem] = []
    by_ip: dict[IPv4Address, Key] = {}
    node_ports: dict[tuple[int, str], Key] = {}
    outside: dict[tuple[IPv4Address, int, str], Key] = {}
    cidr = lab.service_cidr
    for key in sorted(services, key=lambda key: (services[key] != previous.get(key), key)):
        service, raw = services[key], raws[key]
        address = service.cluster_ip
        if address is not None:
            if address not in cidr:
                message = f"{address} is outside the service CIDR {cidr}"
                problems.append(raw.problem("spec.clusterIP", message))
            elif address in (cidr.network_address, cidr.broadcast_address):
                message = f"{address} is the first or last of the service CIDR {cidr}"
                problems.append(raw.problem("spec.clusterIP", message))
            owner = by_ip.setdefault(address, key)
            if owner != key:
                message = f"{address} is Service {'/'.join(owner)}'s already"
                problems.append(raw.problem("spec.clusterIP", message))
        asked = [
            (f"spec.ports[{i}].nodePort", port.node_port, port.protocol.value)
            for i, port in enumerate(service.ports)
        ]
        asked.append(("spec.healthCheckNodePort", service.health_check_node_port, "TCP"))
        for at, number, protocol in asked:
            if number:
                problems += _check_node_port(raw, key, at, (number, protocol), node_ports)
        for at, addresses in (
            (service.load_balancer_at or "status.loadBalancer", service.load_balancer_ips),
            ("spec.externalIPs", service.external_ips),
        ):
            for address in addresses:
                problems += _check_outside(raw, service, at, address, lab, nodes)
                for port in service.ports:
                    spelled = (address, port.port, port.protocol.value)
                    owner = outside.setdefault(spelled, key)
                    if owner != key:
                        message = (
                            f"{address}:{port.port}/{port.protocol.value} is "
                            f"Service {'/'.join(owner)}'s already"
                        )
                        problems.append(raw.problem(at, message))
    at_nodes = {node.internal_ip for node in nodes.values()}
    for (address, number, protocol), key in outside.items():
        owner = node_ports.get((number, protocol), key)
        if address in at_nodes and owner != key:
            message = f"{address}:{number}/{protocol} is Service {'/'.join(owner)}'s node port"
            problems.append(raws[key].problem("spec.externalIPs", message))
    return problems


def check_pools(
    pools: Sequence[tuple[RawObject, str, AddressPool]], lab: LabSpec, nodes: Mapping[str, Node]
) -> list[Problem]:
    """Names used once and ranges apart, as MetalLB demands, and apart from what is inside.

    Each pool comes with its object and the path to it there.
    """
    problems: list[Problem] = []
    names: set[str] = set()
    inside = [(f"the service CIDR {lab.service_cidr}", lab.service_cidr)]
    inside += [(f"podCIDR {n.pod_cidr} of Node {n.name}", n.pod_cidr) for n in nodes.values()]
    seen = [(what, _bounds(network)) for what, network in inside]
    for raw, path, pool in pools:
        if pool.name in names:
            at = "metadata.name" if path == "spec" else f"{path}.name"
            problems.append(raw.problem(at, f"there is a pool {pool.name!r} already"))
        names.add(pool.name)
        for low, high in pool.ranges:
            spelled = f"{IPv4Address(low)}-{IPv4Address(high)}"
            for what, (other_low, other_high) in seen:
                if low <= other_high and other_low <= high:
                    problems.append(raw.problem(f"{path}.addresses", f"{spelled} overlaps {what}"))
            seen.append((f"{spelled} of pool {pool.name!r}", (low, high)))
    return problems


def _bounds(network: IPv4Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _check_node_port(
    raw: RawObject, key: Key, at: str, asked: tuple[int, str], owners: dict[tuple[int, str], Key]
) -> list[Problem]:
    """Nobody else's; a Service may not have one twice either."""
    if asked in owners:
        message = f"{asked[0]} is Service {'/'.join(owners[asked])}'s already"
        return [raw.problem(at, message)]
    owners[asked] = key
    return []


def _check_outside(
    raw: RawObject,
    service: Service,
    at: str,
    address: IPv4Address,
    lab: LabSpec,
    nodes: Mapping[str, Node],
) -> list[Problem]:
    """An address outside the cluster must be nobody's, or a node's (k3s gives those out)."""
    machines = {lab.router_ip: "the router", lab.client_ip: "the client"}
    machines |= {host.ip: f"the outside host {host.name}" for host in lab.outside}
    why = ""
    if address in machines:
        why = f"is {machines[address]}'s"
    elif address in lab.service_cidr:
        why = f"is in the service CIDR {lab.service_cidr}"
    elif address in (lab.underlay.network_address, lab.underlay.broadcast_address):
        why = f"is the first or last of the underlay {lab.underlay}"
    else:
        for node in nodes.values():
            if address in node.pod_cidr:
                why = f"is in podCIDR {node.pod_cidr} of node {node.name}"
    return [raw.problem(at, f"{address} {why}")] if why else []


def check_redirects(
    redirects: Mapping[Key, LocalRedirect],
    raws: Mapping[Key, RawObject],
    services: Mapping[Key, Service],
    nodes: Mapping[str, Node],
    warnings: list[str],
) -> list[Problem]:
    """What is redirected is redirected once; what will not work is a warning."""
    problems: list[Problem] = []
    if not redirects:
        return problems
    taken = {
        (address, port.port, port.protocol): f"Service {'/'.join(service.key)}"
        for service in services.values()
        for address in (service.cluster_ip, *service.reached_from_outside)
        for port in service.ports
        if address is not None
    }
    addresses = {redirect.address for redirect in redirects.values()}
    taken |= {
        (node.internal_ip, port.node_port, port.protocol): f"Service {'/'.join(service.key)}"
        for node in nodes.values()
        if node.internal_ip in addresses
        for service in services.values()
        for port in service.ports
        if port.node_port
    }
    of_service: dict[Key, Key] = {}
    for key, redirect in redirects.items():
        raw, at = raws[key], "spec.redirectFrontend"
        matcher = "serviceMatcher" if redirect.address is None else "addressMatcher"
        for field, message in _unpaired(redirect, services, f"{at}.{matcher}.toPorts"):
            warnings.append(str(raw.problem(field, message)))
        if redirect.address is not None:
            if redirect.address.is_loopback or redirect.address.is_multicast:
                message = f"{redirect.address} cannot be redirected"
                problems.append(raw.problem(f"{at}.addressMatcher.ip", message))
            for port in redirect.ports:
                spelled = (redirect.address, port.port, port.protocol)
                owner = taken.setdefault(spelled, str(raw.ref))
                if owner != str(raw.ref):
                    message = f"{spelled[0]}:{port.port}/{port.protocol.value} is {owner}'s already"
                    problems.append(raw.problem(f"{at}.addressMatcher", message))
            continue
        assert redirect.service is not None
        at = f"{at}.serviceMatcher"
        first = of_service.setdefault(redirect.service, key)
        if first != key:
            message = f"is redirected by CiliumLocalRedirectPolicy {'/'.join(first)} already"
            problems.append(raw.problem(at, message))
        warning = _why_not(redirect, services.get(redirect.service))
        if warning:
            warnings.append(str(raw.problem(at, warning)))
    return problems


def _why_not(redirect: LocalRedirect, service: Service | None) -> str:
    """Why some or all of a Service's ports are not redirected; "" when they are."""
    assert redirect.service is not None
    if service is None:
        return f"there is no Service {'/'.join(redirect.service)}"
    if service.cluster_ip is None:
        return f"Service {'/'.join(redirect.service)} has no cluster IP"
    if service.type is not ServiceType.CLUSTER_IP:
        return f"of a Service of type {service.type.value} only the cluster IP is redirected"
    return ""


def _unpaired(
    redirect: LocalRedirect, services: Mapping[Key, Service], at: str
) -> Iterator[tuple[str, str]]:
    """Ports of a policy that lead nowhere, each with its field; ``at`` is the frontend's."""
    ports = [(f"{at}[{i}]", port) for i, port in enumerate(redirect.ports)]
    first: dict[tuple[int, Protocol], str] = {}
    for field, port in ports:
        before = first.setdefault((port.port, port.protocol), field)
        if before != field:
            yield field, f"{_spelled(port)} is at {before} too: only one of them is in force"
    service = services.get(redirect.service) if redirect.service is not None else None
    if service is not None and service.cluster_ip is not None:
        have = {(port.port, port.protocol) for port in service.ports}
        for field, port in ports:
            if (port.port, port.protocol) not in have:
                yield field, f"the Service has no port {port.port}/{port.protocol.value}"
        if not ports:
            every = (EndpointPort(p.port, p.protocol, p.name.lower()) for p in service.ports)
            ports = [("spec.redirectBackend.toPorts", port) for port in every]
    elif not ports:
        return
    targets = []
    for field, port in ports:
        target = redirect.target(port, alone=len(ports) == 1)
        targets.append(target)
        if target is None:
            message = "is not redirected: no backend port has its name and protocol"
            yield field, f"{_spelled(port)} {message}"
    for i, target in enumerate(redirect.targets):
        if target not in targets:
            field = f"spec.redirectBackend.toPorts[{i}]"
            message = "no redirected port has its name and protocol"
            yield field, f"nothing is redirected to {_spelled(target)}: {message}"


def _spelled(port: EndpointPort) -> str:
    name = f" ({port.name})" if port.name else ""
    return f"{port.port}/{port.protocol.value}{name}"


def check_slice(raw: RawObject, each: EndpointSlice, lab: LabSpec) -> list[Problem]:
    """Endpoints that a packet could be sent to."""
    problems = []
    for endpoint in each.endpoints:
        address = endpoint.address
        why = ""
        if address.is_loopback or address.is_multicast or address.is_unspecified:
            why = "is not the address of an endpoint"
        elif address.is_link_local:
            why = "is link-local"
        elif address in lab.service_cidr:
            why = f"is in the service CIDR {lab.service_cidr}: a Service cannot be an endpoint"
        if why:
            problems.append(raw.problem("endpoints", f"{address} {why}"))
    return problems
