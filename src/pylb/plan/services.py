"""One Service's frontends and backends as one node sees them.

Which endpoints a packet may go to is kube-proxy's rule (pkg/proxy, topology.go):
the ready ones, or without any those that terminate but still serve; of all
nodes, where hints allow only those meant for this node or its zone, or with a
policy Local this node's alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pylb.plan.announce import announcer
from pylb.plan.tables import (
    Backend,
    BackendState,
    Frontend,
    FrontendKey,
    FrontendKind,
    Others,
    Prefix,
)
from pylb.policy.model import (
    Endpoint,
    EndpointPort,
    Key,
    LocalRedirect,
    Node,
    Policy,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)

LOOPBACK = 0x7F000001


class _At(NamedTuple):
    """A backend's place: what backends are ordered by."""

    address: int
    port: int


@dataclass(frozen=True, slots=True)
class _Choices:
    """A Service port's backends and which of them, by index, take new flows.

    ``cluster`` for policy Cluster, ``local`` for Local; ``redirect`` instead of
    either while a local redirection is in force, else None.
    """

    backends: tuple[Backend, ...]
    cluster: tuple[int, ...]
    local: tuple[int, ...]
    redirect: tuple[int, ...] | None = None
    spared: bool = False


def compile_service(policy: Policy, key: Key, own: Node) -> dict[FrontendKey, Frontend]:
    """The frontends of one Service on node ``own``, in the order of its ports.

    A headless Service, and one of type ExternalName, has none.
    """
    service = policy.services[key]
    made: dict[FrontendKey, Frontend] = {}
    if service.cluster_ip is None or service.type is ServiceType.EXTERNAL_NAME:
        return made
    for port in service.ports:
        choices = _choices(policy, service, port, own)
        for frontend in _of_port(policy, service, port, own, choices):
            # An address may stand twice, as externalIP and from the pool.
            made.setdefault(frontend.key, frontend)
    return made


def compile_redirect(
    redirect: LocalRedirect, own: Node, scheduler: str
) -> dict[FrontendKey, Frontend]:
    """The frontends of a redirected address: none while this node has no backend for it."""
    made: dict[FrontendKey, Frontend] = {}
    assert redirect.address is not None
    for port in redirect.ports:
        at = _redirected_to(redirect, port, own, alone=len(redirect.ports) == 1)
        if not at:
            continue
        backends = tuple(Backend(*each, weight, True) for each, weight in sorted(at.items()))
        frontend = Frontend(
            FrontendKey(int(redirect.address), port.port, port.protocol.number),
            FrontendKind.LOCAL_REDIRECT,
            redirect_name(redirect.key) + (f":{port.name}" if port.name else ""),
            scheduler,
            backends,
            tuple(range(len(backends))),
            others=Others.PASSING if redirect.skips_backends else Others.NOBODY,
        )
        made[frontend.key] = frontend
    return made


def redirect_name(key: Key) -> str:
    """What owns the frontends of a redirected address; no Service has a dot in its name."""
    return "/".join(key) + ".local-redirect"


def backend_counts(frontends: Iterable[Frontend]) -> dict[int, int]:
    """How often each address is a backend: once for each Service port that has it.

    A port's frontends (ClusterIP, NodePort, loopback) share their backends, so
    each name counts once.
    """
    counts: dict[int, int] = {}
    seen: set[tuple[str, int]] = set()
    for frontend in frontends:
        port = (frontend.service, frontend.key.protocol)
        if port in seen:
            continue
        seen.add(port)
        for backend in frontend.backends:
            counts[backend.address] = counts.get(backend.address, 0) + 1
    return counts


def _of_port(
    policy: Policy, service: Service, port: ServicePort, own: Node, choices: _Choices
) -> Iterator[Frontend]:
    """ClusterIP first, then the ways in from outside."""
    protocol = port.protocol.number

    def frontend(kind: FrontendKind, address: int, number: int) -> Frontend:
        return Frontend(
            FrontendKey(address, number, protocol),
            kind,
            "/".join(service.key) + (f":{port.name}" if port.name else ""),
            service.scheduler or policy.lab.scheduler,
            choices.backends,
            choices.cluster,
            affinity=service.affinity,
        )

    assert service.cluster_ip is not None
    made = frontend(FrontendKind.CLUSTER_IP, int(service.cluster_ip), port.port)
    yield _inside(made, service, choices)
    if service.has_node_ports and port.node_port:
        for address in (int(own.internal_ip), LOOPBACK):
            made = frontend(FrontendKind.NODE_PORT, address, port.node_port)
            yield _outside(made, service, choices)
    takers = policy.takers.get(service.key, ())
    for kind, addresses in (
        (FrontendKind.LOAD_BALANCER, service.load_balancer_ips),
        (FrontendKind.EXTERNAL_IP, service.external_ips),
    ):
        for given in addresses:
            made = _outside(frontend(kind, int(given), port.port), service, choices)
            if kind is FrontendKind.LOAD_BALANCER:
                ranges = service.source_ranges
                sources = tuple(Prefix(int(r.network_address), r.prefixlen) for r in ranges)
                made = made._replace(sources=sources)
            answers = given in policy.lab.underlay and announcer(given, takers) == own.name
            yield made._replace(announced=answers)


def _inside(frontend: Frontend, service: Service, choices: _Choices) -> Frontend:
    """What asks the cluster IP: internalTrafficPolicy, and a redirection before it."""
    chosen, elsewhere = choices.cluster, False
    if service.internal_traffic_policy is TrafficPolicy.LOCAL:
        chosen = choices.local
        elsewhere = not chosen and bool(choices.cluster)
    if choices.redirect is None:
        return frontend._replace(active=chosen, elsewhere=elsewhere)
    return frontend._replace(
        kind=FrontendKind.LOCAL_REDIRECT,
        active=choices.redirect,
        others=Others.BACKENDS if choices.spared else Others.NOBODY,
        other=chosen if choices.spared else (),
    )


def _outside(frontend: Frontend, service: Service, choices: _Choices) -> Frontend:
    """What asks an address that is meant for outside: externalTrafficPolicy.

    The policy is for packets that come from outside: with Local, whoever asks
    inside gets any endpoint.
    """
    if service.external_traffic_policy is TrafficPolicy.CLUSTER:
        return frontend
    return frontend._replace(
        active=choices.local,
        local_only=True,
        others=Others.INSIDE,
        other=choices.cluster,
        elsewhere=not choices.local and bool(choices.cluster),
    )


def _choices(policy: Policy, service: Service, port: ServicePort, own: Node) -> _Choices:
    """The backends of a Service port by (address, port), and who gets which."""
    found = _endpoints(policy, service.key, port)
    redirect = policy.redirected.get(service.key)
    to: dict[_At, int] = {}
    if redirect is not None:
        to = _redirection_of(redirect, service, port, own)
    order = sorted(found.keys() | to.keys())
    low, high = int(own.pod_cidr.network_address), int(own.pod_cidr.broadcast_address)
    backends = []
    for at in order:
        endpoint = found.get(at)
        weight = endpoint.weight if endpoint is not None else to[at]
        ready = at in to or (endpoint is not None and _rank(endpoint) == _READY)
        state = BackendState.ACTIVE if ready else BackendState.DRAINING
        backends.append(Backend(*at, weight, low <= at.address <= high, state))
    ranks = [_rank(found[at]) if at in found else _NOT_READY for at in order]
    meant = _meant_for(own, [found.get(at) for at in order])
    local = [i for i, at in enumerate(order) if at in found and found[at].is_on(own)]
    return _Choices(
        tuple(backends),
        _fittest(ranks, range(len(order)), meant),
        _fittest(ranks, local, None),
        tuple(i for i, at in enumerate(order) if at in to) if to else None,
        redirect is not None and redirect.skips_backends,
    )


def _endpoints(policy: Policy, key: Key, port: ServicePort) -> dict[_At, Endpoint]:
    """A Service port's endpoints by their place, the fittest where slices repeat one."""
    found: dict[_At, Endpoint] = {}
    for each in policy.slices.get(key, ()):
        for endpoint_port in each.ports:
            if endpoint_port.name != port.name or endpoint_port.protocol is not port.protocol:
                continue
            for endpoint in each.endpoints:
                at = _At(int(endpoint.address), endpoint_port.port)
                if at not in found or _rank(endpoint) > _rank(found[at]):
                    found[at] = endpoint
    return found


_READY, _SERVES_WHILE_TERMINATING, _NOT_READY = 2, 1, 0


def _rank(endpoint: Endpoint) -> int:
    """How fit an endpoint is.  Weight 0 is IPVS's way to let one run dry."""
    if not endpoint.weight:
        return _NOT_READY
    if endpoint.ready:
        return _READY
    if endpoint.serving and endpoint.terminating:
        return _SERVES_WHILE_TERMINATING
    return _NOT_READY


def _fittest(ranks: list[int], among: Iterable[int], meant: set[int] | None) -> tuple[int, ...]:
    """The ready ones, ``meant`` ones alone where that is a set; or those that still serve.

    The fallback is each policy's own matter: a ready endpoint on another node is
    no help to Local (KEP-1669).
    """
    listed = list(among)
    ready = tuple(i for i in listed if ranks[i] == _READY and (meant is None or i in meant))
    return ready or tuple(i for i in listed if ranks[i] == _SERVES_WHILE_TERMINATING)


def _meant_for(own: Node, endpoints: list[Endpoint | None]) -> set[int] | None:
    """The ready endpoints that hints give to this node; None where hints do not count.

    They count only if every ready endpoint has one and some are for this node,
    or else for its zone.
    """
    ready = [(i, e) for i, e in enumerate(endpoints) if e is not None and _rank(e) == _READY]
    if ready and all(e.for_nodes for _, e in ready):
        own_ones = {i for i, e in ready if own.name in e.for_nodes}
        if own_ones:
            return own_ones
    if ready and all(e.for_zones for _, e in ready):
        of_zone = {i for i, e in ready if own.zone in e.for_zones}
        if of_zone:
            return of_zone
    return None


def _redirection_of(
    redirect: LocalRedirect, service: Service, port: ServicePort, own: Node
) -> dict[_At, int]:
    """Where a Service port's packets are redirected to on this node, by weight."""
    wanted = redirect.ports
    if wanted:
        named = [p for p in wanted if (p.port, p.protocol) == (port.port, port.protocol)]
        if not named:
            return {}
        return _redirected_to(redirect, named[0], own, alone=len(wanted) == 1)
    asked = EndpointPort(port.port, port.protocol, port.name.lower())
    return _redirected_to(redirect, asked, own, alone=len(service.ports) == 1)


def _redirected_to(
    redirect: LocalRedirect, port: EndpointPort, own: Node, *, alone: bool
) -> dict[_At, int]:
    target = redirect.target(port, alone=alone)
    if target is None:
        return {}
    return {
        _At(int(endpoint.address), target.port): endpoint.weight
        for endpoint in redirect.endpoints
        if _rank(endpoint) == _READY and endpoint.address in own.pod_cidr
    }
