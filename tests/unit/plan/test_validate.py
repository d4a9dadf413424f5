"""Every way in which a plan or a delta can be wrong is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pylb.plan.compile import compile, validate, validate_delta
from pylb.plan.tables import (
    Backend,
    Delta,
    Frontend,
    FrontendKey,
    FrontendKind,
    Peer,
    Plan,
    PlanError,
    Prefix,
    Timeouts,
)
from pylb.policy.model import Endpoint, ServiceType
from tests.dataplanes import DATAPLANES
from tests.unit.plan.test_compile import LOCAL, REMOTE, ip, policy, service, slice_of

PLAN = compile(
    policy(service(ServiceType.NODE_PORT), slice_of(Endpoint(LOCAL), Endpoint(REMOTE))), "node1"
)
KEY = FrontendKey(ip("10.96.0.10"), 80, 6)
GOOD = PLAN.frontends[KEY]
PEER = PLAN.peers["node2"]
SUBNET = Prefix(ip("10.244.9.0"), 24)


def with_frontend(**fields: Any) -> Plan:
    frontend = GOOD._replace(**fields)
    return replace(PLAN, frontends={**PLAN.frontends, KEY: frontend})


def at(key: FrontendKey) -> Plan:
    frontend = GOOD._replace(key=key)
    return replace(PLAN, frontends={**PLAN.frontends, key: frontend})


def with_peer(name: str = "node2", **fields: Any) -> Plan:
    return replace(PLAN, peers={**PLAN.peers, name: PEER._replace(**fields)})


def balanced_by_maglev(count: int) -> Plan:
    """Frontends with as many different tables."""
    made = {}
    for i in range(count):
        key = KEY._replace(port=1000 + i)
        made[key] = GOOD._replace(
            key=key, scheduler="mh", backends=(Backend(1000 + i, 80),), active=(0,)
        )
    return replace(PLAN, frontends=made, services={})


WRONG: list[tuple[str, Plan, str]] = [
    ("podCIDR", replace(PLAN, pod_cidr=Prefix(ip("10.244.1.1"), 24)), "podCIDR.*host bits"),
    ("underlay", replace(PLAN, underlay=Prefix(0, 33)), "underlay"),
    ("huge prefix", replace(PLAN, underlay=Prefix(1 << 40, 24)), "underlay"),
    ("node_ip", replace(PLAN, node_ip=0), "node_ip"),
    ("tunnel_ip", replace(PLAN, tunnel_ip=ip("10.1.1.1")), "tunnel_ip.*podCIDR"),
    ("bridge_ip", replace(PLAN, bridge_ip=ip("10.1.1.1")), "bridge_ip.*podCIDR"),
    ("node_ports", replace(PLAN, node_ports=(30000, 65536)), "node_ports"),
    ("node_ports order", replace(PLAN, node_ports=(2, 1)), "node_ports"),
    ("masquerade_ports", replace(PLAN, masquerade_ports=(0, 5)), "masquerade_ports"),
    ("ranges overlap", replace(PLAN, masquerade_ports=(32767, 40000)), "apart from node_ports"),
    ("overlay kind", replace(PLAN, overlay=PLAN.overlay._replace(kind="gre")), "overlay.*gre"),
    ("overlay port", replace(PLAN, overlay=PLAN.overlay._replace(port=0)), "overlay port"),
    ("VNI", replace(PLAN, overlay=PLAN.overlay._replace(vni=1 << 24)), "VNI"),
    ("overlay MTU", replace(PLAN, overlay=PLAN.overlay._replace(mtu=1501)), "overlay MTU"),
    ("small MTU", replace(PLAN, overlay=PLAN.overlay._replace(mtu=67)), "overlay MTU"),
    ("underlay MTU", replace(PLAN, underlay_mtu=70000), "underlay MTU"),
    ("own MAC", replace(PLAN, overlay=PLAN.overlay._replace(mac=b"")), "overlay MAC"),
    ("timeout", replace(PLAN, timeouts=Timeouts(udp=0)), "timeouts: udp"),
    ("peer name", with_peer(name="other"), "peer other.*node2"),
    ("peer address", with_peer(address=0), "peer node2: address"),
    ("peer's is ours", with_peer(address=PLAN.node_ip), "peer node2.*node1"),
    ("peer subnet", with_peer(subnet=Prefix(1, 24)), "peer node2: subnet"),
    ("subnets", with_peer(subnet=PLAN.pod_cidr), "subnets apart"),
    ("nested subnets", with_peer(subnet=Prefix(ip("10.244.0.0"), 16)), "subnets apart"),
    ("peer MAC", with_peer(mac=b"12345"), "peer node2: MAC"),
    ("pod", replace(PLAN, pods={ip("10.244.2.9"): "default/x"}), "10.244.2.9.*podCIDR"),
    ("cluster pod", replace(PLAN, cluster_pods={"default/x": 0}), "default/x"),
    ("another key", with_frontend(key=FrontendKey(1, 1, 6)), "another key"),
    ("address", at(FrontendKey(1 << 32, 80, 6)), "expected an IPv4 address"),
    ("port", at(FrontendKey(ip("10.96.0.10"), 0, 6)), "port from 1"),
    ("protocol", at(FrontendKey(ip("10.96.0.10"), 80, 256)), "protocol"),
    ("scheduler", with_frontend(scheduler="best"), "scheduler.*best"),
    ("active", with_frontend(active=(0, 2)), "active"),
    ("negative active", with_frontend(active=(-1,)), "active"),
    ("active twice", with_frontend(active=(1, 1)), "active"),
    ("other", with_frontend(other=(2,)), "other"),
    ("affinity", with_frontend(affinity=86401), "affinity"),
    ("negative affinity", with_frontend(affinity=-1), "affinity"),
    ("source", with_frontend(sources=(Prefix(1, 24),)), "sources.*host bits"),
    ("sources", with_frontend(sources=(Prefix(0, 0),) * 256), "at most 255 sources"),
    (
        "weight 0",
        with_frontend(scheduler="sh", backends=(GOOD.backends[0]._replace(weight=0),), active=(0,)),
        "weight of 1 or more",
    ),
    ("Maglev size", replace(PLAN, maglev_size=65536), "maglev size"),
    ("large Maglev size", replace(PLAN, maglev_size=16777259), "maglev size"),
    ("Maglev tables", balanced_by_maglev(1024), "1024 Maglev tables of 65537 slots need 128 MiB"),
    ("backend port", with_frontend(backends=(Backend(1, 65536),), active=()), "backend"),
    ("backend address", with_frontend(backends=(Backend(0, 80),), active=()), "backend"),
    ("weight", with_frontend(backends=(Backend(1, 80, -1),), active=()), "weight"),
    ("duplicate backend", with_frontend(backends=(GOOD.backends[0],) * 2), "once, in order"),
    ("order", with_frontend(backends=GOOD.backends[::-1]), "once, in order"),
    (
        "too many",
        with_frontend(backends=tuple(Backend(i + 1, 80) for i in range(65536)), active=()),
        "at most 65535",
    ),
    ("service", replace(PLAN, services={"default/web": (FrontendKey(1, 1, 6),)}), "default/web"),
    ("count", replace(PLAN, addresses={ip("10.244.1.2"): 0}), "10.244.1.2.*1 or more"),
]


@pytest.mark.parametrize(("plan", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_plan_is_refused_and_the_loaded_one_stays(plan: Plan, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        validate(plan)
    for made in DATAPLANES.values():
        dataplane = made(bytes(16), 8)
        dataplane.load(PLAN, 0)
        with pytest.raises(PlanError, match=says):
            dataplane.change(Delta(replace=plan), 0)
        assert dataplane.generation == 1


def test_there_is_room_for_a_thousand_maglev_tables_and_shared_ones_count_once() -> None:
    full = balanced_by_maglev(1023)
    validate(full)
    shared = {k._replace(port=k.port + 5000): f for k, f in full.frontends.items()}
    shared = {k: f._replace(key=k) for k, f in shared.items()}
    validate(replace(full, frontends={**full.frontends, **shared}))
    more = Delta(frontends={KEY: GOOD._replace(scheduler="mh")})
    with pytest.raises(PlanError, match="1024 Maglev tables"):
        validate_delta(full, more)
    validate_delta(full, Delta(frontends={KEY: GOOD._replace(scheduler="rr")}))


GONE = FrontendKey(ip("10.96.9.9"), 80, 6)
NEW = Frontend(GONE, FrontendKind.CLUSTER_IP, "default/new", "rr", (), ())
WRONG_DELTAS: list[tuple[str, Delta, str]] = [
    ("peer gone", Delta(peers={"node9": None}), "peer node9: to be removed"),
    ("peer", Delta(peers={"node9": PEER._replace(name="node9", mac=b"")}), "node9: MAC"),
    ("peers overlap", Delta(peers={"node9": PEER._replace(name="node9", address=1)}), "apart"),
    ("pod gone", Delta(pods={ip("10.244.1.9"): None}), "10.244.1.9: to be removed"),
    ("pod", Delta(pods={ip("10.9.9.9"): "default/x"}), "10.9.9.9.*podCIDR"),
    ("cluster pod gone", Delta(cluster_pods={"default/x": None}), "default/x: to be removed"),
    ("cluster pod", Delta(cluster_pods={"default/x": 0}), "default/x"),
    ("frontend gone", Delta(frontends={GONE: None}), "10.96.9.9:80/6: to be removed"),
    ("frontend", Delta(frontends={GONE: NEW._replace(scheduler="")}), "scheduler"),
    ("orphan", Delta(frontends={KEY: None}), "service default/web has it"),
    ("service gone", Delta(services={"default/x": None}), "default/x: to be removed"),
    ("its frontend", Delta(services={"default/x": (GONE,)}), "10.96.9.9:80/6 is not"),
    ("count", Delta(addresses={1: -1}), "0 or more"),
    ("address", Delta(addresses={1 << 32: 1}), "addresses"),
    ("node", Delta(replace=replace(PLAN, node="node2")), "expected one of node node1"),
]


@pytest.mark.parametrize(
    ("delta", "says"), [w[1:] for w in WRONG_DELTAS], ids=[w[0] for w in WRONG_DELTAS]
)
def test_a_wrong_delta_is_refused_and_the_loaded_plan_stays(delta: Delta, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        validate_delta(PLAN, delta)
    for made in DATAPLANES.values():
        dataplane = made(bytes(16), 8)
        dataplane.load(PLAN, 0)
        with pytest.raises(PlanError, match=says):
            dataplane.change(delta, 0)
        assert dataplane.generation == 1


def test_a_good_delta_passes() -> None:
    validate_delta(
        PLAN,
        Delta(
            peers={"node2": None, "node9": Peer("node9", 9, SUBNET, bytes(6))},
            frontends={GONE: NEW},
            services={"default/new": (GONE,)},
            addresses={ip("10.244.1.2"): 0},
        ),
    )
