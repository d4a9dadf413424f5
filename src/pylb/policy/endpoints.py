"""From selectors to endpoints: what Kubernetes' endpoint controllers do.

A pod that a Service selects is an endpoint of it.  The Service's target port may
be a name, which each pod resolves by its own container ports; pods that resolve
a Service's ports alike share an EndpointSlice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from pylb.policy.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Key,
    Node,
    Pod,
    Service,
    TrafficDistribution,
)

WEIGHT = "pylb.io/weight"
"""The annotation of a Pod that says its weight, 0 to 65535; 0 takes no new flows."""


class PodIndex:
    """Pods by label and by address, to find those that a selector matches."""

    def __init__(self, pods: Mapping[Key, Pod]) -> None:
        self._by_label: dict[tuple[str, str, str], list[Pod]] = {}
        self._by_address: dict[IPv4Address, Pod] = {}
        self._by_namespace: dict[str, list[Pod]] = {}
        for key in sorted(pods):
            pod = pods[key]
            self._by_address[pod.ip] = pod
            self._by_namespace.setdefault(pod.namespace, []).append(pod)
            for name, value in pod.labels.items():
                self._by_label.setdefault((pod.namespace, name, value), []).append(pod)

    def at(self, address: IPv4Address) -> Pod | None:
        """The pod that has the address."""
        return self._by_address.get(address)

    def matching(self, namespace: str, selector: Mapping[str, str]) -> Iterator[Pod]:
        """The namespace's pods that have every label of ``selector``, by name; {} means all."""
        candidates = None if selector else self._by_namespace.get(namespace)
        for name, value in selector.items():
            having = self._by_label.get((namespace, name, value), [])
            if candidates is None or len(having) < len(candidates):
                candidates = having
        for pod in candidates or ():
            if selector.items() <= pod.labels.items():
                yield pod


def slices_of(
    service: Service,
    given: Iterable[EndpointSlice],
    pods: PodIndex,
    nodes: Mapping[str, Node],
) -> tuple[EndpointSlice, ...]:
    """Every EndpointSlice of a Service by name: computed from its selector, and given.

    Given endpoints learn the pod and node that have their address; computed ones
    get the hints that the Service's trafficDistribution asks for.
    """
    slices = [_with_pods(each, pods) for each in given]
    if service.selector:
        slices += (_hinted(service, each, nodes) for each in _computed(service, pods))
    return tuple(sorted(slices, key=lambda each: each.name))


def unresolved_names(service: Service, pods: PodIndex) -> list[tuple[int, str]]:
    """Target port names that no selected pod has, though there are pods, with their port's index.

    A pod has a name for one protocol.
    """
    if not service.selector:
        return []
    selected = list(pods.matching(service.namespace, service.selector))
    known = {(p.name, p.protocol) for pod in selected for c in pod.containers for p in c.ports}
    return [
        (i, port.target_port)
        for i, port in enumerate(service.ports)
        if isinstance(port.target_port, str)
        and selected
        and (port.target_port, port.protocol) not in known
    ]


def _with_pods(each: EndpointSlice, pods: PodIndex) -> EndpointSlice:
    endpoints = []
    for endpoint in each.endpoints:
        pod = pods.at(endpoint.address)
        if pod is not None:
            endpoint = replace(endpoint, node=pod.node, pod=pod.key, weight=weight_of(pod))
        endpoints.append(endpoint)
    return replace(each, endpoints=tuple(endpoints))


def _computed(service: Service, pods: PodIndex) -> list[EndpointSlice]:
    assert service.selector
    groups: dict[tuple[EndpointPort, ...], list[Endpoint]] = {}
    for pod in pods.matching(service.namespace, service.selector):
        groups.setdefault(_ports(service, pod), []).append(
            endpoint_of(pod, always_ready=service.publish_not_ready)
        )
    return [
        EndpointSlice(
            service.namespace,
            f"{service.name}-{i}",
            service.name,
            ports,
            tuple(groups[ports]),
            computed=True,
        )
        for i, ports in enumerate(groups)
    ]


def _ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """The Service's ports as this pod has them; one whose name it lacks is left out."""
    found = []
    for port in service.ports:
        target = port.target_port
        if isinstance(target, str):
            target = next(
                (
                    declared.port
                    for container in pod.containers
                    for declared in container.ports
                    if declared.name == target and declared.protocol is port.protocol
                ),
                0,
            )
        if target:
            found.append(EndpointPort(target, port.protocol, port.name))
    return tuple(found)


def _hinted(service: Service, each: EndpointSlice, nodes: Mapping[str, Node]) -> EndpointSlice:
    """Endpoints with the zones and nodes that are to use them: their own (KEP-3015)."""
    wanted = service.traffic_distribution
    if wanted is TrafficDistribution.ANY:
        return each
    endpoints = []
    for endpoint in each.endpoints:
        zone = nodes[endpoint.node].zone if endpoint.node in nodes else ""
        if endpoint.ready:
            own = (endpoint.node,) if wanted is TrafficDistribution.SAME_NODE else ()
            endpoint = replace(endpoint, for_zones=(zone,) if zone else (), for_nodes=own)
        endpoints.append(endpoint)
    return replace(each, endpoints=tuple(endpoints))


def endpoint_of(pod: Pod, *, always_ready: bool = False) -> Endpoint:
    """A pod as an endpoint; ``always_ready`` is what publishNotReadyAddresses makes of it."""
    serving = pod.ready is not False
    ready = always_ready or (serving and not pod.terminating)
    return Endpoint(
        pod.ip, ready, serving, pod.terminating, pod.node, pod.key, weight=weight_of(pod)
    )


def weight_of(pod: Pod) -> int:
    """What its annotation says, 1 without."""
    return int(pod.annotations.get(WEIGHT, 1))
