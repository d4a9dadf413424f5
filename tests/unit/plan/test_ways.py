"""The frontends of every kind of address, and who may choose which endpoints."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from pylb.plan.announce import announcer
from pylb.plan.compile import compile
from pylb.plan.tables import BackendState, Frontend, FrontendKind, Others, Plan, Prefix
from pylb.plan.virtual import is_virtual, machines
from pylb.policy.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LocalRedirect,
    Policy,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from tests.unit.plan.test_compile import (
    ELSEWHERE,
    KEY,
    LOCAL,
    NODES,
    REMOTE,
    VIP,
    chosen,
    ip,
    policy,
    service,
    slice_of,
    terminating,
)

LB, EXTERNAL = IPv4Address("192.168.50.200"), IPv4Address("198.51.100.7")
BALANCER = ServiceType.LOAD_BALANCER
POLICY_LOCAL = TrafficPolicy.LOCAL


def made(of: Policy, on: str = "node1") -> dict[tuple[str, int], Frontend]:
    plan = compile(of, on)
    return {(str(IPv4Address(k.address)), k.port): f for k, f in plan.frontends.items()}


def balancer(**more: object) -> Service:
    fields = {"load_balancer_ips": (LB,), "external_ips": (EXTERNAL,), **more}
    return service(BALANCER, **fields)


def at(of: Policy, address: IPv4Address, port: int = 80, on: str = "node1") -> Frontend:
    return made(of, on)[(str(address), port)]


def test_every_kind_of_address_is_a_frontend() -> None:
    of = policy(balancer(), slice_of(Endpoint(REMOTE)))
    assert {k: f.kind for k, f in made(of).items()} == {
        ("10.96.0.10", 80): FrontendKind.CLUSTER_IP,
        ("192.168.50.11", 30080): FrontendKind.NODE_PORT,
        ("127.0.0.1", 30080): FrontendKind.NODE_PORT,
        ("192.168.50.200", 80): FrontendKind.LOAD_BALANCER,
        ("198.51.100.7", 80): FrontendKind.EXTERNAL_IP,
    }


def test_a_balancer_without_node_ports_has_none() -> None:
    of = balancer(ports=(ServicePort(80, name="http", target_port=8080),))
    assert {port for _, port in made(policy(of))} == {80}


def test_source_ranges_are_the_balancers_addresses_alone() -> None:
    ranges = (IPv4Network("10.0.0.0/8"),)
    found = made(policy(balancer(source_ranges=ranges)))
    with_ranges = {k for k, f in found.items() if f.sources}
    assert with_ranges == {("192.168.50.200", 80)}
    assert found[("192.168.50.200", 80)].sources == (Prefix(ip("10.0.0.0"), 8),)


@pytest.mark.parametrize(
    ("on", "active", "elsewhere"),
    [("node1", [int(LOCAL)], False), ("node2", [int(REMOTE)], False), ("node3", [], True)],
)
def test_local_is_for_outside_and_any_endpoint_for_inside(
    on: str, active: list[int], elsewhere: bool
) -> None:
    of = policy(
        balancer(external_traffic_policy=POLICY_LOCAL), slice_of(Endpoint(LOCAL), Endpoint(REMOTE))
    )
    for address in (LB, EXTERNAL):
        frontend = at(of, address, on=on)
        assert chosen(frontend) == active
        assert (frontend.others, frontend.elsewhere) == (Others.INSIDE, elsewhere)
        assert frontend.local_only
        assert [frontend.backends[i].address for i in frontend.other] == [int(LOCAL), int(REMOTE)]
    cluster_ip = at(of, VIP, on=on)
    assert (cluster_ip.others, cluster_ip.elsewhere) == (Others.NOBODY, False)


def test_nothing_is_elsewhere_when_there_is_nothing_at_all() -> None:
    for endpoints in ((), (Endpoint(REMOTE, ready=False, serving=False),)):
        of = policy(
            balancer(external_traffic_policy=POLICY_LOCAL, internal_traffic_policy=POLICY_LOCAL),
            slice_of(*endpoints),
        )
        assert not any(f.elsewhere or f.active or f.other for f in made(of).values())


def test_internal_policy_local_is_for_the_cluster_ip_alone() -> None:
    of = policy(
        balancer(internal_traffic_policy=POLICY_LOCAL), slice_of(Endpoint(LOCAL), Endpoint(REMOTE))
    )
    assert chosen(at(of, VIP)) == [int(LOCAL)]
    assert not at(of, VIP).local_only, "who asks from outside is masqueraded"
    assert (chosen(at(of, VIP, on="node3")), at(of, VIP, on="node3").elsewhere) == ([], True)
    assert len(chosen(at(of, LB))) == 2


def test_affinity_is_every_ways() -> None:
    found = made(policy(balancer(affinity=60)))
    assert {f.affinity for f in found.values()} == {60}


# Who announces


def test_one_taker_answers_for_an_address_of_the_underlay() -> None:
    of = policy(balancer())
    of = replace(of, takers={KEY: ("node1", "node2", "node3")})
    answering = [on for on in NODES if at(of, LB, on=on).announced]
    assert answering == [announcer(LB, NODES)]
    assert not any(at(of, EXTERNAL, on=on).announced for on in NODES), "outside: it has a route"
    nobody = replace(of, takers={KEY: ()})
    assert not any(at(nobody, LB, on=on).announced for on in NODES)


def test_only_what_a_node_answered_for_moves_when_it_goes() -> None:
    nodes = [f"node{i}" for i in range(10)]
    addresses = [IPv4Address("192.168.50.0") + i for i in range(250)]
    before = {a: announcer(a, nodes) for a in addresses}
    after = {a: announcer(a, nodes[1:]) for a in addresses}
    assert set(before.values()) == set(nodes)
    assert {a for a in addresses if before[a] != after[a]} == {
        a for a in addresses if before[a] == "node0"
    }
    assert announcer(LB, ()) == ""


def test_an_address_that_a_machine_has_is_not_virtual() -> None:
    addresses = tuple(node.internal_ip for node in NODES.values())
    plan = compile(policy(balancer(external_ips=(*addresses, EXTERNAL))), "node1")
    real = machines(plan)
    virtual = {
        str(IPv4Address(k.address)) for k, f in plan.frontends.items() if is_virtual(plan, f, real)
    }
    assert virtual == {"10.96.0.10", "192.168.50.200", "198.51.100.7"}


# Hints


def hinted(address: IPv4Address, zone: str = "", on: str = "", ready: bool = True) -> Endpoint:
    return Endpoint(
        address, ready, for_zones=(zone,) if zone else (), for_nodes=(on,) if on else ()
    )


# node1 and node3 are in zone b, node2 is in zone a.
@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([hinted(LOCAL, "b"), hinted(REMOTE, "a")], [LOCAL]),
        ([hinted(LOCAL, "b"), hinted(REMOTE)], [LOCAL, REMOTE]),
        ([hinted(LOCAL, "a"), hinted(REMOTE, "a")], [LOCAL, REMOTE]),
        ([hinted(LOCAL, "b"), hinted(REMOTE, ready=False)], [LOCAL]),
        ([hinted(LOCAL, "b", "node3"), hinted(REMOTE, "b", "node1")], [REMOTE]),
        ([hinted(LOCAL, "b", "node3"), hinted(REMOTE, "a", "node2")], [LOCAL]),
        ([hinted(LOCAL, "b"), hinted(REMOTE, "a", "node1")], [LOCAL]),
    ],
    ids=[
        "this zone's",
        "one without a hint",
        "none for this zone",
        "an unready one does not count",
        "this node's before this zone's",
        "none for this node",
        "one without a node",
    ],
)
def test_hints_count_when_all_have_one_and_some_are_meant_for_here(
    endpoints: list[Endpoint], expected: list[IPv4Address]
) -> None:
    of = policy(balancer(), slice_of(*endpoints))
    for address in (VIP, LB):
        assert chosen(at(of, address)) == [int(a) for a in expected]


def test_hints_are_no_matter_of_local_nor_of_those_that_terminate() -> None:
    endpoints = slice_of(hinted(LOCAL, "a"), hinted(REMOTE, "b"))
    of = policy(balancer(external_traffic_policy=POLICY_LOCAL), endpoints)
    assert chosen(at(of, LB)) == [int(LOCAL)]
    ending = slice_of(replace(terminating(LOCAL), for_zones=("a",)), terminating(REMOTE))
    assert len(chosen(at(policy(balancer(), ending), VIP))) == 2


# Redirection

REDIRECT = LocalRedirect(
    "default",
    "r",
    address=IPv4Address("10.10.10.10"),
    ports=(EndpointPort(8080),),
    targets=(EndpointPort(80),),
    endpoints=(Endpoint(LOCAL), Endpoint(REMOTE)),
)


def redirecting(redirect: LocalRedirect, *slices: EndpointSlice) -> Policy:
    of = policy(service(), *slices)
    if redirect.service is not None:
        return replace(of, redirected={redirect.service: redirect})
    return replace(of, redirects={redirect.key: redirect})


def redirections(plan: Plan) -> list[Frontend]:
    return [f for f in plan.frontends.values() if f.kind is FrontendKind.LOCAL_REDIRECT]


@pytest.mark.parametrize(("on", "to"), [("node1", LOCAL), ("node2", REMOTE)])
def test_a_redirected_address_leads_to_this_nodes_pods(on: str, to: IPv4Address) -> None:
    plan = compile(redirecting(REDIRECT), on)
    (frontend,) = redirections(plan)
    assert (frontend.key.address, frontend.key.port) == (ip("10.10.10.10"), 8080)
    assert [(b.address, b.port, b.local) for b in frontend.backends] == [(int(to), 80, True)]
    assert frontend.service == "default/r.local-redirect"
    assert plan.services["default/r.local-redirect"] == (frontend.key,)
    assert not is_virtual(plan, frontend, machines(plan))


def test_without_a_ready_pod_here_nothing_is_redirected() -> None:
    assert not redirections(compile(redirecting(REDIRECT), "node3"))
    unready = replace(REDIRECT, endpoints=(Endpoint(LOCAL, ready=False), Endpoint(REMOTE)))
    plan = compile(redirecting(unready), "node1")
    assert not redirections(plan)
    assert plan.services["default/r.local-redirect"] == ()


def test_several_ports_pair_by_name() -> None:
    ports = (EndpointPort(53, Protocol.UDP, "dns"), EndpointPort(53, Protocol.TCP, "tcp"))
    to = (EndpointPort(5353, Protocol.TCP, "tcp"), EndpointPort(5300, Protocol.UDP, "dns"))
    plan = compile(redirecting(replace(REDIRECT, ports=ports, targets=to)), "node1")
    assert {(f.key.protocol, f.backends[0].port) for f in redirections(plan)} == {
        (17, 5300),
        (6, 5353),
    }


OF_SERVICE = replace(REDIRECT, address=None, service=KEY, ports=())


def test_a_redirected_service_is_its_cluster_ip() -> None:
    of = redirecting(OF_SERVICE, slice_of(Endpoint(REMOTE)))
    frontend = at(of, VIP)
    assert (frontend.kind, frontend.service) == (FrontendKind.LOCAL_REDIRECT, "default/web:http")
    assert [(frontend.backends[i].address, frontend.backends[i].port) for i in frontend.active] == [
        (int(LOCAL), 80)
    ]
    assert {b.state for b in frontend.backends} == {BackendState.ACTIVE}
    plan = compile(of, "node1")
    assert is_virtual(plan, frontend, machines(plan))
    there = at(of, VIP, on="node3")
    assert (there.kind, chosen(there)) == (FrontendKind.CLUSTER_IP, [int(REMOTE)])


def test_only_the_ports_that_are_named_are_redirected() -> None:
    two = (
        ServicePort(80, name="http", target_port=8080),
        ServicePort(81, name="alt", target_port=8081),
    )
    of = policy(service(ports=two))
    one = replace(OF_SERVICE, ports=(EndpointPort(81),))
    every = replace(OF_SERVICE, targets=(EndpointPort(80, name="alt"), EndpointPort(9, name="x")))
    for redirect in (one, every):
        found = made(replace(of, redirected={KEY: redirect}))
        assert found[("10.96.0.10", 80)].kind is FrontendKind.CLUSTER_IP
        assert found[("10.96.0.10", 81)].kind is FrontendKind.LOCAL_REDIRECT


def test_a_redirection_may_spare_its_own_backends() -> None:
    address = replace(REDIRECT, skips_backends=True)
    (frontend,) = redirections(compile(redirecting(address), "node1"))
    assert frontend.others is Others.PASSING
    of = redirecting(replace(OF_SERVICE, skips_backends=True), slice_of(Endpoint(ELSEWHERE)))
    frontend = at(of, VIP)
    assert frontend.others is Others.BACKENDS
    assert [frontend.backends[i].address for i in frontend.other] == [int(ELSEWHERE)]
