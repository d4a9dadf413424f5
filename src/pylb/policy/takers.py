"""Which nodes take what comes from outside to a Service's addresses.

They answer for an address in the underlay (one of them), or the router has routes by way of
them.  Both are about an address, and Services may share one, on different ports: then their
nodes must be the same, for whoever sends there asks for no port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from pylb.policy.model import EndpointSlice, Key, Node, Service, TrafficPolicy

Slices = Mapping[Key, Iterable[EndpointSlice]]


def takers(
    service: Service, slices: Iterable[EndpointSlice], nodes: Mapping[str, Node]
) -> tuple[str, ...]:
    """The nodes that may take packets to the Service's addresses outside the cluster.

    All, or with policy Local those that have an endpoint that takes new flows: it is ready
    or serves while it terminates, as MetalLB has it, and has a weight.  Without one those
    with an endpoint of any kind: it has established flows, which must not lose their way.
    And all where there is no endpoint at all, for somebody has to refuse.
    """
    if not service.reached_from_outside:
        return ()
    if service.external_traffic_policy is TrafficPolicy.CLUSTER:
        return tuple(sorted(nodes))
    endpoints = [endpoint for each in slices for endpoint in each.endpoints]
    taking = [e for e in endpoints if e.weight and (e.ready or (e.serving and e.terminating))]
    if not endpoints:
        return tuple(sorted(nodes))
    return tuple(
        name
        for name, node in sorted(nodes.items())
        if any(endpoint.is_on(node) for endpoint in taking or endpoints)
    )


def sharers(services: Mapping[Key, Service]) -> dict[Key, tuple[Key, ...]]:
    """For each Service that shares an address with others, these and whom they share with.

    So all of a group have the same value; a Service that shares none has none.
    """
    having: dict[IPv4Address, list[Key]] = {}
    for key, service in services.items():
        for address in service.reached_from_outside:
            having.setdefault(address, []).append(key)
    groups: dict[Key, set[Key]] = {}
    for keys in having.values():
        if len(keys) < 2:
            continue
        joined = set(keys).union(*(groups.get(key, ()) for key in keys))
        groups.update(dict.fromkeys(joined, joined))
    return {key: tuple(sorted(group)) for key, group in groups.items()}


def agreed(
    keys: Iterable[Key],
    services: Mapping[Key, Service],
    slices: Slices,
    nodes: Mapping[str, Node],
    sharing: Mapping[Key, tuple[Key, ...]],
) -> dict[Key, tuple[str, ...]]:
    """The takers of these Services and of those that they share with (``sharing``: `sharers`).

    Of those that share: the nodes that may take packets for all, or where there are none,
    those for any.
    """
    found: dict[Key, tuple[str, ...]] = {}
    for key in keys:
        if key in found or not services[key].reached_from_outside:
            continue
        group = sharing.get(key, (key,))
        each = [set(takers(services[k], slices[k], nodes)) for k in group]
        meant = set.intersection(*each) or set.union(*each)
        found.update(dict.fromkeys(group, tuple(sorted(meant))))
    return found


def at_odds(
    services: Mapping[Key, Service], sharing: Mapping[Key, tuple[Key, ...]]
) -> Iterator[tuple[Key, IPv4Address, Key]]:
    """Services with policy Local that share an address, with that, and one they share it with.

    Not those that all have the policy and the same pods, whose nodes are the same.
    """
    for key, group in sharing.items():
        own = services[key]
        if own.external_traffic_policy is not TrafficPolicy.LOCAL:
            continue
        for other in (services[k] for k in group if k != key):
            common = set(own.reached_from_outside) & set(other.reached_from_outside)
            alike = (
                other.external_traffic_policy is TrafficPolicy.LOCAL
                and own.selector is not None
                and (own.namespace, own.selector) == (other.namespace, other.selector)
            )
            if common and not alike:
                yield key, min(common), other.key
                break
