"""Random plans of one node from a small universe, and the deltas between them.

Two plans that are drawn apart share most of it: backends come, drain and go, Services
change their name, a node appears or leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from pylb.plan.tables import (
    Backend,
    BackendState,
    Delta,
    Frontend,
    FrontendKey,
    FrontendKind,
    Others,
    OverlayTable,
    Peer,
    Plan,
    Timeouts,
)
from pylb.plan.validate import WEIGHING
from tests.unit.dataplane.net import (
    BRIDGE,
    INTERNET,
    LOOPBACK,
    MAC,
    NODE,
    PEER,
    PEER_MAC,
    POD_A,
    POD_B,
    POD_REMOTE,
    TCP,
    TUNNEL,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    ip,
    prefix,
)

K = TypeVar("K")
V = TypeVar("V")

PODS = prefix("10.244.1.0/24")
PEER2, POD_REMOTE2 = ip("192.168.50.13"), ip("10.244.3.18")
LB_VIP, REDIRECT = ip("192.168.50.200"), ip("169.254.20.10")
NODE_PORT, OVERHEAD = 30080, {"vxlan": 50, "udp": 28, "host-gw": 0}

PEERS = (
    Peer("node2", PEER, prefix("10.244.2.0/24"), PEER_MAC),
    Peer("node3", PEER2, prefix("10.244.3.16/28"), bytes.fromhex("0250c0a8320d")),
)
BACKENDS = tuple(
    sorted(
        (address, port)
        for address in (POD_A, POD_B, POD_REMOTE, POD_REMOTE2, INTERNET)
        for port in (80, 8080)
    )
)
Kind = FrontendKind
FRONTENDS: tuple[tuple[FrontendKey, FrontendKind], ...] = (
    (FrontendKey(VIP, 80, TCP), Kind.CLUSTER_IP),
    (FrontendKey(VIP, 8080, TCP), Kind.CLUSTER_IP),
    (FrontendKey(VIP_EMPTY, 80, TCP), Kind.CLUSTER_IP),
    (FrontendKey(VIP_UDP, 53, UDP), Kind.CLUSTER_IP),
    (FrontendKey(VIP_UDP, 53, TCP), Kind.CLUSTER_IP),
    (FrontendKey(NODE, NODE_PORT, TCP), Kind.NODE_PORT),
    (FrontendKey(NODE, NODE_PORT, UDP), Kind.NODE_PORT),
    (FrontendKey(LOOPBACK, NODE_PORT, TCP), Kind.NODE_PORT),
    (FrontendKey(LB_VIP, 80, TCP), Kind.LOAD_BALANCER),
    (FrontendKey(LB_VIP, 53, UDP), Kind.EXTERNAL_IP),
    (FrontendKey(REDIRECT, 53, UDP), Kind.LOCAL_REDIRECT),
    # Neither has ports, so no packet ever is for it; but its address is a VIP.
    (FrontendKey(VIP, 9, 132), Kind.CLUSTER_IP),
)


SCHEDULERS = ("random", "rr", "wrr", "lc", "wlc", "sh", "mh")
SOURCES = tuple(
    prefix(p) for p in ("10.244.1.0/24", "10.244.1.2/32", "192.168.0.0/16", "0.0.0.0/0")
)
WEIGHTS = (1, 1, 1, 2, 3, 6, 1000, 65535)


def random_frontend(rng: Random, key: FrontendKey, kind: FrontendKind) -> Frontend:
    """Also one that no policy compiles to: whoever may have what, with every scheduler."""
    scheduler = rng.choice(SCHEDULERS)
    backends = tuple(
        Backend(
            *each,
            weight=rng.choice(WEIGHTS if scheduler in WEIGHING else (0, 1, 2)),
            local=each[0] in PODS,
            state=rng.choice((*[BackendState.ACTIVE] * 3, BackendState.DRAINING)),
        )
        for each in sorted(rng.sample(BACKENDS, rng.choice((0, 1, 1, 2, 2, 3, 4))))
    )
    active = tuple(i for i, b in enumerate(backends) if b.state is BackendState.ACTIVE)
    others = rng.choice((*[Others.NOBODY] * 4, Others.INSIDE, Others.BACKENDS, Others.PASSING))
    inside = others in (Others.INSIDE, Others.BACKENDS)
    return Frontend(
        key,
        kind,
        f"default/svc{rng.randrange(3)}:p{key.port}",
        scheduler,
        backends,
        active,
        local_only=rng.random() < 0.25,
        others=others,
        other=tuple(i for i in range(len(backends)) if rng.random() < 0.6) if inside else (),
        elsewhere=rng.random() < 0.3,
        affinity=rng.choice((0, 0, 0, 1, 5, 10800)),
        sources=tuple(rng.sample(SOURCES, rng.choice((0, 0, 0, 0, 0, 1, 2)))),
        announced=rng.random() < 0.1,
    )


def plan_of(base: Plan, chosen: list[Frontend], peers: tuple[Peer, ...], gone: set[int]) -> Plan:
    """``base`` with these frontends and peers; ``gone`` pods and endpoints have no address."""
    services: dict[str, tuple[FrontendKey, ...]] = {}
    addresses = dict.fromkeys((POD_A, POD_B), 1)
    for each in chosen:
        owner = each.service.partition(":")[0]
        services[owner] = (*services.get(owner, ()), each.key)
        for backend in each.backends:
            addresses[backend.address] = addresses.get(backend.address, 0) + 1
    return replace(
        base,
        peers={peer.name: peer for peer in peers},
        frontends={each.key: each for each in chosen},
        services=services,
        addresses={a: n for a, n in addresses.items() if a not in gone},
    )


def random_node(rng: Random) -> Plan:
    """The node itself: overlay, MTU, masquerade and its ports, timeouts."""
    overlay = rng.choice(("vxlan", "vxlan", "udp", "host-gw"))
    widest = 1500 - OVERHEAD[overlay]
    timeouts = Timeouts()
    if rng.random() < 0.3:
        # Small and often the same: ties between the queues of victims.
        timeouts = Timeouts(*(rng.randrange(1, 5) for _ in range(16)))
    return Plan(
        node="node1",
        node_ip=NODE,
        bridge_ip=BRIDGE,
        tunnel_ip=TUNNEL,
        pod_cidr=PODS,
        underlay=prefix("192.168.50.0/24"),
        underlay_mtu=1500,
        overlay=OverlayTable(
            overlay,
            8472,
            rng.choice((1, 1, 0, 0xFFFFFF)),
            MAC,
            rng.choice((widest, widest, widest, 576, 68)),
        ),
        masquerade=rng.random() < 0.8,
        service_cidr=prefix("10.96.0.0/12"),
        masquerade_ports=rng.choice(((61000, 65534), (61000, 61000), (61000, 61002))),
        timeouts=timeouts,
        maglev_size=rng.choice((2, 7, 251, 251)),
        pods={POD_A: "default/a", POD_B: "default/b"},
    )


def some(rng: Random, of: Sequence[V]) -> list[V]:
    """Most of them, in any order."""
    return rng.sample(of, rng.choice((len(of), len(of), rng.randrange(len(of) + 1))))


def random_plan(rng: Random) -> Plan:
    return plan_of(
        random_node(rng),
        [random_frontend(rng, *each) for each in some(rng, FRONTENDS)],
        tuple(some(rng, PEERS)),
        set(rng.sample((POD_B, POD_REMOTE, INTERNET), rng.random() < 0.1)),
    )


def random_next(rng: Random, before: Plan) -> Plan:
    """A plan of the same node that follows on ``before``: a little of it is another."""
    if rng.random() < 0.1:
        return random_plan(rng)
    kept = dict(before.frontends)
    for key, kind in rng.choices(FRONTENDS, k=rng.randrange(5)):
        if rng.random() < 0.7:
            kept[key] = random_frontend(rng, key, kind)
        else:
            kept.pop(key, None)
    peers = tuple(before.peers.values())
    if rng.random() < 0.2:
        peers = tuple(some(rng, PEERS))
    gone = set(rng.sample((POD_A, POD_B, POD_REMOTE, POD_REMOTE2), rng.choice((0, 0, 1, 2))))
    return plan_of(before, list(kept.values()), peers, gone)


def difference(old: Plan, new: Plan) -> Delta:
    """The smallest delta that leads from ``old`` to ``new``."""
    tables = ("peers", "pods", "cluster_pods", "frontends", "services")
    bare: dict[str, Any] = {name: {} for name in (*tables, "addresses")}
    if replace(old, **bare) != replace(new, **bare):
        return Delta(replace=new)
    changed = {name: _changed(getattr(old, name), getattr(new, name)) for name in tables}
    counts = _changed(old.addresses, new.addresses)
    return Delta(**changed, addresses={address: n or 0 for address, n in counts.items()})


def _changed(old: Mapping[K, V], new: Mapping[K, V]) -> dict[K, V | None]:
    gone: dict[K, V | None] = {key: None for key in old if key not in new}
    return gone | {key: value for key, value in new.items() if old.get(key) != value}
