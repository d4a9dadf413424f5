"""What a trace says of a flow is what the dataplane then does with it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from pylb.dataplane.base import DropReason, EventKind, FlowTuple, OverlayPort
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.dataplane.python.nat import Client
from pylb.observe import trace
from pylb.observe.trace import address_of, cluster_ip_of, describe, enters_at, explain
from pylb.plan.tables import Frontend, FrontendKind, Others, Plan, Prefix
from pylb.wire import udp
from tests.unit.dataplane.net import (
    CLIENT,
    INTERNET,
    NODE,
    PEER,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECRET,
    TCP,
    TUNNEL,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    backend,
    frontend,
    ip,
    plan,
    tun,
)

PUBLIC, PUBLIC_LOCAL, RANGED = ip("198.51.100.10"), ip("198.51.100.11"), ip("198.51.100.12")
BALANCER = FrontendKind.LOAD_BALANCER
BOTH = [backend(POD_A), backend(POD_REMOTE)]
LOCAL = frontend(PUBLIC_LOCAL, 80, BOTH, UDP, BALANCER, local_only=True)._replace(
    active=(0,), others=Others.INSIDE, other=(0, 1)
)
PLAN = plan(
    frontend(VIP, 80, BOTH, UDP),
    frontend(VIP_EMPTY, 80, [], UDP, service="default/empty"),
    frontend(PUBLIC, 80, BOTH, UDP, BALANCER),
    LOCAL,
    frontend(RANGED, 80, BOTH, UDP, BALANCER)._replace(sources=(Prefix(ip("10.0.0.0"), 8),)),
    frontend(NODE, 30080, BOTH, UDP, FrontendKind.NODE_PORT),
)


def to(src: int, dst: int, dport: int = 80, protocol: int = UDP) -> FlowTuple:
    return FlowTuple(src, dst, protocol, 40000, dport)


def seen(of: trace.Trace) -> list[tuple[int, str, int]]:
    """Backend, node and source address of each target."""
    return [(t.backend.address, t.node, t.source) for t in of.targets]


@pytest.mark.parametrize(
    ("flow", "sets", "masquerade", "targets"),
    [
        (
            to(INTERNET, PUBLIC),
            ("KUBE-LOAD-BALANCER",),
            "yes",
            [(POD_A, "node1", NODE), (POD_REMOTE, "node2", TUNNEL)],
        ),
        (
            to(INTERNET, PUBLIC_LOCAL),
            ("KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL"),
            "no",
            [(POD_A, "node1", INTERNET)],
        ),
        (
            to(POD_B, PUBLIC_LOCAL),
            ("KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL"),
            "no",
            [(POD_A, "node1", POD_B), (POD_REMOTE, "node2", POD_B)],
        ),
        (
            to(NODE, VIP),
            ("KUBE-CLUSTER-IP",),
            "yes",
            [(POD_A, "node1", TUNNEL), (POD_REMOTE, "node2", TUNNEL)],
        ),
        (
            to(POD_A, VIP),
            ("KUBE-LOOP-BACK", "KUBE-CLUSTER-IP"),
            "some",
            [(POD_A, "node1", TUNNEL), (POD_REMOTE, "node2", POD_A)],
        ),
        (
            to(POD_A, RANGED),
            (
                "KUBE-LOOP-BACK",
                "KUBE-LOAD-BALANCER",
                "KUBE-LOAD-BALANCER-FW",
                "KUBE-LOAD-BALANCER-SOURCE-CIDR",
            ),
            "yes",
            [(POD_A, "node1", TUNNEL), (POD_REMOTE, "node2", TUNNEL)],
        ),
        (
            to(CLIENT, NODE, 30080),
            ("KUBE-NODE-PORT-UDP",),
            "yes",
            [(POD_A, "node1", NODE), (POD_REMOTE, "node2", TUNNEL)],
        ),
    ],
)
def test_a_balanced_flow(
    flow: FlowTuple, sets: tuple[str, ...], masquerade: str, targets: list[tuple[int, str, int]]
) -> None:
    found = explain(PLAN, flow)
    assert (found.verdict, found.reason) == (trace.BALANCED, None)
    assert (found.sets, found.masquerade, seen(found)) == (sets, masquerade, targets)
    assert found.frontend is not None
    assert found.frontend.key[:2] == (flow.dst, flow.dport)


@pytest.mark.parametrize(
    ("src", "dst", "port"),
    [
        *((src, dst, 80) for src in (INTERNET, NODE, POD_A, POD_B) for dst in (VIP, PUBLIC)),
        *((src, PUBLIC_LOCAL, 80) for src in (INTERNET, NODE, POD_A, POD_B)),
        (CLIENT, NODE, 30080),
    ],
)
def test_every_target_is_one_that_the_dataplane_gives_and_there_is_no_other(
    src: int, dst: int, port: int
) -> None:
    dataplane = PythonDataplane(SECRET)
    dataplane.load(PLAN, 0)
    given = set()
    for sport in range(40000, 40008):  # rr gives each in turn
        out = dataplane.process([tun(udp.build(src, dst, sport, port))], 0)
        (event,) = [each for each in out.events if each.kind is EventKind.NEW]
        (sent,) = out.sent
        node = (
            "node2" if sent.port == OverlayPort(PEER, getattr(sent.port, "spread", 0)) else "node1"
        )
        given.add((event.flow.reply.src, node, event.flow.reply.dst))
    assert given == set(seen(explain(PLAN, to(src, dst, port))))


@pytest.mark.parametrize(
    ("flow", "verdict", "reason"),
    [
        (to(POD_A, VIP, 81), trace.REJECTED, DropReason.NO_SUCH_FRONTEND),
        (to(POD_A, VIP_EMPTY), trace.REJECTED, DropReason.NO_ENDPOINT),
        (to(POD_A, VIP_UDP), trace.DROPPED, DropReason.UNALLOCATED_VIP),
        (to(CLIENT, RANGED), trace.DROPPED, DropReason.SOURCE_RANGE),
        (to(VIP, PUBLIC), trace.DROPPED, DropReason.BAD_ADDRESS),
        (to(CLIENT, NODE, 22, TCP), trace.UNTRACKED, None),
    ],
)
def test_a_flow_that_does_not_come_to_be(
    flow: FlowTuple, verdict: str, reason: DropReason | None
) -> None:
    found = explain(PLAN, flow)
    assert (found.verdict, found.reason, found.masquerade) == (verdict, reason, "")
    assert found.targets == ()


def test_local_without_an_endpoint_here_drops_what_comes_from_outside() -> None:
    elsewhere: Frontend = LOCAL._replace(active=(), elsewhere=True)
    without: Plan = plan(elsewhere)
    found = explain(without, to(INTERNET, PUBLIC_LOCAL))
    assert (found.verdict, found.reason) == (trace.DROPPED, DropReason.NO_LOCAL_ENDPOINT)
    assert found.sets == ("KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL")
    assert [t.node for t in explain(without, to(POD_B, PUBLIC_LOCAL)).targets] == ["node1", "node2"]


@pytest.mark.parametrize(
    ("src", "dst", "source", "masquerade"),
    [
        (POD_A, INTERNET, NODE, "yes"),
        (POD_A, POD_REMOTE, POD_A, "no"),
        (NODE, POD_REMOTE, TUNNEL, "yes"),
    ],
)
def test_a_flow_without_a_frontend(src: int, dst: int, source: int, masquerade: str) -> None:
    found = explain(PLAN, to(src, dst, 80, TCP))
    assert found.verdict == trace.TRACKED
    assert (found.frontend, found.source, found.masquerade) == (None, source, masquerade)


def test_who_is_spared_by_a_redirection_has_no_frontend() -> None:
    address = ip("10.10.10.10")
    spared = frontend(address, 8080, [backend(POD_A)], UDP, FrontendKind.LOCAL_REDIRECT)
    given = plan(spared._replace(others=Others.PASSING))
    assert explain(given, to(POD_A, address, 8080)).frontend is None
    assert seen(explain(given, to(POD_B, address, 8080))) == [(POD_A, "node1", POD_B)]


def test_a_backend_outside_the_cluster_is_on_no_node() -> None:
    given = plan(frontend(VIP, 80, [backend(INTERNET)], UDP))
    assert seen(explain(given, to(POD_A, VIP))) == [(INTERNET, "", NODE)]


def test_only_protocols_with_ports_are_traced() -> None:
    with pytest.raises(ValueError, match="protocol: expected 6, 17 or 132, got 1"):
        explain(PLAN, to(POD_A, VIP, protocol=1))


def test_names_and_the_node_where_a_flow_enters() -> None:
    given = replace(PLAN, cluster_pods={"default/a": POD_A, "shop/cart": POD_REMOTE})
    names = ["a", "shop/cart", "cart", "node1", "node2"]
    assert [address_of(given, n) for n in names] == [POD_A, POD_REMOTE, None, NODE, PEER]
    assert [cluster_ip_of(given, n) for n in ("empty", "default/empty", "x")] == [
        VIP_EMPTY,
        VIP_EMPTY,
        None,
    ]
    entered = [(POD_B, VIP), (POD_REMOTE, VIP), (PEER, VIP), (CLIENT, NODE), (CLIENT, VIP)]
    assert [enters_at(PLAN, *each) for each in entered] == [
        *("node1", "node2", "node2", "node1"),
        None,
    ]
    assert enters_at(replace(PLAN, peers={}), CLIENT, VIP) == "node1"


def test_a_trace_as_json() -> None:
    found = describe(explain(PLAN, to(INTERNET, PUBLIC)))
    assert found["client"] == Client.OUTSIDE.name.lower()
    assert found["frontend"]["kind"] == "LOAD_BALANCER"
    assert found["backends"][1] == {
        "address": str(IPv4Address(POD_REMOTE)),
        "port": 8080,
        "node": "node2",
        "source": str(IPv4Address(TUNNEL)),
    }
    assert describe(explain(PLAN, to(POD_A, VIP, 81)))["reason"] == "no_such_frontend"


def test_an_association_begins_with_an_init() -> None:
    sctp = plan(frontend(VIP, 80, BOTH, 132))
    assert len(explain(sctp, to(POD_A, VIP, protocol=132)).targets) == len(BOTH)
