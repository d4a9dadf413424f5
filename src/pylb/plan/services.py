"""One Service's frontends and backends as one node sees them."""

from __future__ import annotations

from collections.abc import Iterable

from pylb.plan.tables import Backend, BackendState, Frontend, FrontendKey, FrontendKind
from pylb.policy.model import (
    Endpoint,
    Key,
    Node,
    Policy,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)

LOOPBACK = 0x7F000001

_NODE_PORT_TYPES = (ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER)


def compile_service(policy: Policy, key: Key, own: Node) -> dict[FrontendKey, Frontend]:
    """The frontends of one Service on node ``own``, in the order of its ports.

    A headless Service, and one of type ExternalName, has none.
    """
    service = policy.services[key]
    made: dict[FrontendKey, Frontend] = {}
    if service.cluster_ip is None or service.type is ServiceType.EXTERNAL_NAME:
        return made
    for port in service.ports:
        backends, fallback = _backends(policy, key, port, own)
        for frontend in _of_port(policy, service, port, own, backends, fallback):
            made[frontend.key] = frontend
    return made


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
    policy: Policy,
    service: Service,
    port: ServicePort,
    own: Node,
    backends: tuple[Backend, ...],
    fallback: tuple[int, ...],
) -> Iterable[Frontend]:
    name = "/".join(service.key) + (f":{port.name}" if port.name else "")
    scheduler = service.scheduler or policy.lab.scheduler
    protocol = port.protocol.number
    ready = tuple(i for i, b in enumerate(backends) if b.state is BackendState.ACTIVE)
    active = ready or fallback
    assert service.cluster_ip is not None
    yield Frontend(
        FrontendKey(int(service.cluster_ip), port.port, protocol),
        FrontendKind.CLUSTER_IP,
        name,
        scheduler,
        backends,
        active,
    )
    if service.type not in _NODE_PORT_TYPES or not port.node_port:
        return
    local_only = service.external_traffic_policy is TrafficPolicy.LOCAL
    if local_only:
        # The fallback is each node's own matter: a ready endpoint elsewhere is no help here.
        ready = tuple(i for i in ready if backends[i].local)
        active = ready or tuple(i for i in fallback if backends[i].local)
    for address in (int(own.internal_ip), LOOPBACK):
        yield Frontend(
            FrontendKey(address, port.node_port, protocol),
            FrontendKind.NODE_PORT,
            name,
            scheduler,
            backends,
            active,
            local_only,
        )


def _backends(
    policy: Policy, key: Key, port: ServicePort, own: Node
) -> tuple[tuple[Backend, ...], tuple[int, ...]]:
    """The backends of a Service port by (address, port), and the fallback's indices.

    The fallback is what takes new flows while no endpoint is ready: those that
    are terminating but still serve (Kubernetes' ProxyTerminatingEndpoints).
    """
    slices = policy.slices.get(key, ())
    found: dict[tuple[int, int], Endpoint] = {}
    for each in slices:
        for endpoint_port in each.ports:
            if endpoint_port.name != port.name or endpoint_port.protocol is not port.protocol:
                continue
            for endpoint in each.endpoints:
                at = (int(endpoint.address), endpoint_port.port)
                if at not in found or _rank(endpoint) > _rank(found[at]):
                    found[at] = endpoint
    low = int(own.pod_cidr.network_address)
    high = int(own.pod_cidr.broadcast_address)
    backends = []
    fallback = []
    for index, (at, endpoint) in enumerate(sorted(found.items(), key=lambda item: item[0])):
        state = BackendState.ACTIVE if endpoint.ready else BackendState.DRAINING
        backends.append(Backend(*at, 1, low <= at[0] <= high, state))
        if _rank(endpoint) == _SERVES_WHILE_TERMINATING:
            fallback.append(index)
    return tuple(backends), tuple(fallback)


_READY, _SERVES_WHILE_TERMINATING, _NOT_READY = 2, 1, 0


def _rank(endpoint: Endpoint) -> int:
    """How fit an endpoint is; the fittest wins where slices repeat an address."""
    if endpoint.ready:
        return _READY
    if endpoint.serving and endpoint.terminating:
        return _SERVES_WHILE_TERMINATING
    return _NOT_READY
