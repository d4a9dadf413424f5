"""A v1 Service as its manifest has it, checked as Kubernetes' own validation checks it.

Source of the rules: pkg/apis/core/validation (ValidateService) and the service
registry; the words are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from pylb.policy.assign import NODE_PORTS
from pylb.policy.fields import METADATA, UNASSIGNED, Reader, is_dns_subdomain, metadata, show
from pylb.policy.model import (
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficDistribution,
    TrafficPolicy,
)
from pylb.policy.objects import RawObject
from pylb.policy.pools import ADDRESSES

SCHEDULER = "pylb.io/scheduler"
TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
SCHEDULERS = ("random", "rr", "wrr", "lc", "wlc", "sh", "mh")
PROTOCOLS = tuple(p.value for p in Protocol)
AFFINITY = 10800
"""Seconds: Kubernetes' default for ClientIP."""
LONGEST_AFFINITY = 86400
_KUBELET = 10250
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SVC_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def read_service(raw: RawObject, top: Reader) -> tuple[Service, ...]:
    """Read one; its problems and warnings are noted."""
    labels, annotations, about = metadata(top)
    about.done(*METADATA)
    if is_dns_subdomain(raw.name) and not _DNS_1035.fullmatch(raw.name):
        expected = "a DNS label that begins with a letter (a-z, 0-9, -; at most 63)"
        about.wrong("name", f"expected {expected}, got {show(raw.name)}")
    spec = top.under("spec")
    kind = ServiceType(spec.choice("type", tuple(t.value for t in ServiceType), "ClusterIP"))
    with_node_port = kind in (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)
    cluster_ip = _cluster_ip(spec, kind)
    ports = tuple(_port(entry, kind, with_node_port) for entry in spec.each("ports"))
    _check_ports(spec, ports, needed=cluster_ip is not None)
    external_ips = _external_ips(spec)
    external, health = _external_policy(spec, kind, with_node_port or bool(external_ips))
    if external_ips and cluster_ip is None:
        message = "is not acted on: a Service without a cluster IP has no addresses"
        spec.notes.warn(spec.at("externalIPs"), message)
        external_ips = ()
    internal = TrafficPolicy(spec.choice("internalTrafficPolicy", ("Cluster", "Local"), "Cluster"))
    affinity = _affinity(spec, kind)
    at, balancer_ips = _load_balancer_ips(spec, top.under("status"), about, annotations, kind)
    made = Service(
        namespace=raw.namespace,
        name=raw.name,
        type=kind,
        cluster_ip=cluster_ip,
        ports=ports,
        selector=spec.labels("selector") or None,
        labels=labels,
        annotations=annotations,
        external_traffic_policy=external,
        scheduler=_scheduler(about, annotations),
        internal_traffic_policy=internal,
        affinity=affinity,
        load_balancer_ips=balancer_ips,
        load_balancer_at=at,
        external_ips=external_ips,
        source_ranges=_source_ranges(spec, about, annotations, kind),
        allocates_node_ports=_allocates(spec, kind),
        health_check_node_port=health,
        publish_not_ready=spec.flag("publishNotReadyAddresses"),
        traffic_distribution=_distribution(spec),
    )
    _check_families(spec)
    _warn(spec, about, annotations, kind)
    spec.done()
    top.done("status")
    return (made,)


def read_protocol(entry: Reader) -> Protocol:
    """The ``protocol`` of a port."""
    return Protocol(entry.choice("protocol", PROTOCOLS, "TCP"))


def _cluster_ip(spec: Reader, kind: ServiceType) -> IPv4Address | None:
    """The given one; None for a headless Service and an ExternalName, else UNASSIGNED."""
    given, listed = spec.text("clusterIP"), spec.texts("clusterIPs")
    if listed and given and listed[0] != given:
        spec.wrong("clusterIPs", f"its first entry must be clusterIP, {given}")
    if len(listed) > 1:
        spec.wrong("clusterIPs", f"expected one, for the cluster has only IPv4, got {len(listed)}")
    given = given or (listed[0] if listed else "")
    if kind is ServiceType.EXTERNAL_NAME:
        if given:
            spec.wrong("clusterIP", "may not be set for a Service of type ExternalName")
        name = spec.text("externalName", required=True)
        if name and not is_dns_subdomain(name.removesuffix(".")):
            spec.wrong("externalName", f"expected a DNS name, got {show(name)}")
        return None
    if "externalName" in spec:
        spec.wrong("externalName", f"may not be set for a Service of type {kind.value}")
        spec.raw("externalName")
    if given == "None":
        if kind is not ServiceType.CLUSTER_IP:
            spec.wrong("clusterIP", f"may not be None for a Service of type {kind.value}")
        return None
    return spec.as_address("clusterIP", given) if given else UNASSIGNED


def _check_families(spec: Reader) -> None:
    """``ipFamilies`` and ``ipFamilyPolicy`` as a cluster that has only IPv4 takes them."""
    families = spec.texts("ipFamilies")
    if families not in ((), ("IPv4",)):
        got = ", ".join(families)
        spec.wrong("ipFamilies", f"expected IPv4, for the cluster has no other, got {got}")
    policies = ("SingleStack", "PreferDualStack", "RequireDualStack")
    if spec.choice("ipFamilyPolicy", policies, "SingleStack") == "RequireDualStack":
        spec.wrong("ipFamilyPolicy", "may not be RequireDualStack: the cluster has only IPv4")


def _port(entry: Reader, kind: ServiceType, with_node_port: bool) -> ServicePort:
    port = entry.port("port", required=True)
    protocol = read_protocol(entry)
    target = entry.raw("targetPort")
    target_port: int | str = port
    if isinstance(target, str) and target:
        target_port = target
        named = len(target) <= 15 and re.search("[a-z]", target) and "--" not in target
        if not named or not _SVC_NAME.fullmatch(target):
            entry.wrong(
                "targetPort",
                "expected a port number, or a name of at most 15 of a-z, 0-9 and - with a "
                f"letter in it, got {show(target)}",
            )
    elif target not in (None, "") and not _is_zero(target):
        target_port = entry.port("targetPort")
    node_port = _node_port(entry, "nodePort")
    if node_port and not with_node_port:
        entry.wrong("nodePort", "may only be set for a Service of type NodePort or LoadBalancer")
    if port == _KUBELET and kind is ServiceType.LOAD_BALANCER:
        entry.wrong("port", f"{port} may not be exposed: it is the kubelet's")
    name = entry.name("name")
    entry.done("appProtocol")
    return ServicePort(port, protocol, name, target_port, node_port)


def _is_zero(value: object) -> bool:
    """Whether a port is left open: what Kubernetes' own types have where nothing is given."""
    return value == 0 and not isinstance(value, bool)


def _node_port(reader: Reader, key: str) -> int:
    """A port of the nodes; 0 when absent, left open or wrong."""
    return 0 if _is_zero(reader.raw(key)) else reader.number(key, *NODE_PORTS)


def _check_ports(spec: Reader, ports: tuple[ServicePort, ...], *, needed: bool) -> None:
    if not ports and needed:
        spec.wrong("ports", "expected at least one port")
    names: set[str] = set()
    numbers: set[tuple[int, Protocol]] = set()
    for i, port in enumerate(ports):
        if len(ports) > 1 and not port.name:
            spec.wrong(f"ports[{i}].name", "is required when a Service has several ports")
        if port.name and port.name in names:
            spec.wrong(f"ports[{i}].name", f"{port.name!r} is there twice")
        if port.port and (port.port, port.protocol) in numbers:
            message = f"{port.port}/{port.protocol.value} is there twice"
            spec.wrong(f"ports[{i}].port", message)
        names.add(port.name)
        numbers.add((port.port, port.protocol))


def _external_ips(spec: Reader) -> tuple[IPv4Address, ...]:
    found: dict[IPv4Address, None] = {}
    for i, text in enumerate(spec.texts("externalIPs")):
        at = f"externalIPs[{i}]"
        address = spec.as_address(at, text)
        if address != UNASSIGNED and _usable(spec, at, address):
            found[address] = None
    return tuple(found)


def _usable(spec: Reader, at: str, address: IPv4Address) -> bool:
    """An address that may be a Service's; notes why not."""
    why = (
        "loopback"
        if address.is_loopback
        else "multicast"
        if address.is_multicast
        else "link-local"
        if address.is_link_local
        else ""
    )
    if why:
        spec.wrong(at, f"may not be {why}: {address}")
    return not why


def _external_policy(spec: Reader, kind: ServiceType, reached: bool) -> tuple[TrafficPolicy, int]:
    """``externalTrafficPolicy`` and ``healthCheckNodePort``, which goes with Local."""
    policy = TrafficPolicy(spec.choice("externalTrafficPolicy", ("Cluster", "Local"), "Cluster"))
    if spec.raw("externalTrafficPolicy") not in (None, "") and not reached:
        message = f"may not be set for a Service of type {kind.value}"
        if kind is ServiceType.CLUSTER_IP:
            message += " without externalIPs"
        spec.wrong("externalTrafficPolicy", message)
    health = _node_port(spec, "healthCheckNodePort")
    checked = kind is ServiceType.LOAD_BALANCER and policy is TrafficPolicy.LOCAL
    if health and not checked:
        spec.wrong(
            "healthCheckNodePort",
            "may only be set for a Service of type LoadBalancer with externalTrafficPolicy Local",
        )
    return policy, health


def _affinity(spec: Reader, kind: ServiceType) -> int:
    """Seconds that a client stays with its endpoint; 0 for no affinity."""
    wanted = spec.choice("sessionAffinity", ("None", "ClientIP"), "None") == "ClientIP"
    config = spec.under("sessionAffinityConfig")
    if not wanted:
        if "sessionAffinityConfig" in spec:
            # Kubernetes' defaults take it out before its validation could forbid it.
            message = "is not acted on: sessionAffinity is None"
            spec.notes.warn(spec.at("sessionAffinityConfig"), message)
            config.done("clientIP")
        return 0
    if kind is ServiceType.EXTERNAL_NAME:
        spec.wrong("sessionAffinity", "may not be ClientIP for a Service of type ExternalName")
    client = config.under("clientIP")
    seconds = client.number("timeoutSeconds", 1, LONGEST_AFFINITY, default=AFFINITY)
    client.done()
    config.done()
    return seconds


def _allocates(spec: Reader, kind: ServiceType) -> bool:
    given = spec.flag("allocateLoadBalancerNodePorts", True)
    if "allocateLoadBalancerNodePorts" in spec and kind is not ServiceType.LOAD_BALANCER:
        message = "may only be set for a Service of type LoadBalancer"
        spec.wrong("allocateLoadBalancerNodePorts", message)
    return given


def _source_ranges(
    spec: Reader, about: Reader, annotations: Mapping[str, str], kind: ServiceType
) -> tuple[IPv4Network, ...]:
    reader, key = spec, "loadBalancerSourceRanges"
    texts = spec.texts(key)
    if not texts and annotations.get(SOURCE_RANGES):
        reader, key = about, f'annotations["{SOURCE_RANGES}"]'
        texts = tuple(annotations[SOURCE_RANGES].split(","))
    if texts and kind is not ServiceType.LOAD_BALANCER:
        reader.wrong(key, "may only be set for a Service of type LoadBalancer")
    found = set()
    for i, text in enumerate(texts):
        at = f"{key}[{i}]" if reader is spec else key
        if ":" in text:
            reader.notes.warn(reader.at(at), "is not acted on: only IPv4 prefixes are")
            continue
        try:
            # Kubernetes takes host bits too, and cuts them off; but neither a bare address nor
            # a netmask is a prefix to it.
            if not text.rpartition("/")[2].strip().isdecimal():
                raise ValueError
            found.add(IPv4Network(text.strip(), strict=False))
        except ValueError:
            reader.wrong(at, f"expected an IPv4 prefix such as 10.0.0.0/8, got {show(text)}")
    return tuple(sorted(found))


def _load_balancer_ips(
    spec: Reader, status: Reader, about: Reader, annotations: Mapping[str, str], kind: ServiceType
) -> tuple[str, tuple[IPv4Address, ...]]:
    """The field that gives a load balancer its addresses, and these; () to have one from a pool.

    It is the status, else what is asked for in the spec, else in an annotation.
    """
    ingress = _ingress(status.under("loadBalancer"))
    asked = spec.address("loadBalancerIP")
    if kind is not ServiceType.LOAD_BALANCER:
        if "loadBalancerIP" in spec:
            message = "is not acted on: only a Service of type LoadBalancer has one"
            spec.notes.warn(spec.at("loadBalancerIP"), message)
        return "", ()
    name = next((n for n in ADDRESSES if annotations.get(n)), "")
    annotation = f'annotations["{name}"]'
    if ingress:
        return "status.loadBalancer", ingress
    if asked != UNASSIGNED:
        if name:
            about.notes.warn(about.at(annotation), "is not acted on: spec.loadBalancerIP is set")
        return "spec.loadBalancerIP", (asked,) if _usable(spec, "loadBalancerIP", asked) else ()
    if name:
        return about.at(annotation), _annotated(about, annotation, annotations[name])
    return "", ()


def _ingress(balancer: Reader) -> tuple[IPv4Address, ...]:
    found: dict[IPv4Address, None] = {}
    for entry in balancer.each("ingress"):
        address = entry.address("ip")
        mode = entry.choice("ipMode", ("VIP", "Proxy"), "VIP")
        if "hostname" in entry:
            entry.notes.warn(entry.at("hostname"), "is not acted on: only addresses are")
        # In mode Proxy packets come with a node's or a pod's address, never with this one.
        if address != UNASSIGNED and mode == "VIP" and _usable(entry, "ip", address):
            found[address] = None
    return tuple(found)


def _annotated(about: Reader, at: str, value: str) -> tuple[IPv4Address, ...]:
    """MetalLB's list of addresses, of which those of IPv6 are passed over."""
    texts = [text.strip() for text in value.split(",")]
    found = [about.as_address(at, text) for text in texts if ":" not in text]
    usable = (a for a in found if a != UNASSIGNED and _usable(about, at, a))
    return tuple(dict.fromkeys(usable))


def _distribution(spec: Reader) -> TrafficDistribution:
    given = spec.text("trafficDistribution")
    if given and given not in _DISTRIBUTIONS:
        expected = ", ".join(_DISTRIBUTIONS)
        spec.wrong("trafficDistribution", f"expected one of {expected}, got {given!r}")
        return TrafficDistribution.ANY
    return TrafficDistribution("PreferSameZone" if given == "PreferClose" else given)


def _scheduler(about: Reader, annotations: Mapping[str, str]) -> str:
    scheduler = annotations.get(SCHEDULER, "")
    if scheduler and scheduler not in SCHEDULERS:
        expected = ", ".join(SCHEDULERS)
        message = f"expected one of {expected}, got {scheduler!r}"
        about.wrong(f'annotations["{SCHEDULER}"]', message)
    return scheduler


def _warn(spec: Reader, about: Reader, annotations: Mapping[str, str], kind: ServiceType) -> None:
    """Of what Kubernetes has and pylb has not."""
    if spec.text("loadBalancerClass"):
        if kind is not ServiceType.LOAD_BALANCER:
            message = "may only be set for a Service of type LoadBalancer"
            spec.wrong("loadBalancerClass", message)
        else:
            message = "is not acted on: addresses are given or from a pool, whatever the class"
            spec.notes.warn(spec.at("loadBalancerClass"), message)
    mode = annotations.get(TOPOLOGY_MODE, "")
    if mode.lower() == "auto":
        about.notes.warn(
            about.at(f'annotations["{TOPOLOGY_MODE}"]'),
            "is not acted on: it weighs zones by their CPUs; give hints in EndpointSlices, or "
            "spec.trafficDistribution",
        )
