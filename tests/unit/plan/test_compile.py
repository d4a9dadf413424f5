"""What a policy becomes on one node."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from pylb.plan.compile import apply, compile, update
from pylb.plan.tables import (
    Backend,
    BackendState,
    Frontend,
    FrontendKey,
    FrontendKind,
    Plan,
    PlanError,
    Prefix,
)
from pylb.policy.model import (
    Change,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Overlay,
    Pod,
    Policy,
    Protocol,
    Service,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)
from tests.unit.plan.strategies import LAB, node

KEY = ("default", "web")
NODES = {f"node{i}": node(i) for i in (1, 2, 3)}
LOCAL, REMOTE, ELSEWHERE = (IPv4Address(text) for text in ("10.244.1.2", "10.244.2.2", "192.0.2.7"))
VIP = IPv4Address("10.96.0.10")
DRAINING = BackendState.DRAINING


def ip(text: str) -> int:
    return int(IPv4Address(text))


def service(kind: ServiceType = ServiceType.CLUSTER_IP, **more: object) -> Service:
    node_port = 30080 if kind is not ServiceType.CLUSTER_IP else 0
    ports = (ServicePort(80, name="http", target_port=8080, node_port=node_port),)
    given = Service(*KEY, type=kind, cluster_ip=VIP, ports=ports)
    return replace(given, **more)  # type: ignore[arg-type]


def slice_of(*endpoints: Endpoint, name: str = "web-1", port: int = 8080) -> EndpointSlice:
    return EndpointSlice("default", name, "web", (EndpointPort(port, name="http"),), endpoints)


def policy(made: Service, *slices: EndpointSlice) -> Policy:
    pods = {
        ("default", "a"): Pod("default", "a", "node1", LOCAL),
        ("default", "b"): Pod("default", "b", "node2", REMOTE),
    }
    return Policy(LAB, NODES, pods, {KEY: made}, {KEY: slices})


def frontends(*given: object, on: str = "node1") -> dict[tuple[str, int], Frontend]:
    plan = compile(policy(*given), on)  # type: ignore[arg-type]
    return {(str(IPv4Address(k.address)), k.port): f for k, f in plan.frontends.items()}


def chosen(frontend: Frontend) -> list[int]:
    return [frontend.backends[i].address for i in frontend.active]


def test_a_cluster_ip_has_one_frontend_and_its_backends_in_order() -> None:
    found = frontends(service(), slice_of(Endpoint(ELSEWHERE), Endpoint(REMOTE), Endpoint(LOCAL)))
    assert found == {
        ("10.96.0.10", 80): Frontend(
            FrontendKey(int(VIP), 80, 6),
            FrontendKind.CLUSTER_IP,
            "default/web:http",
            "random",
            (
                Backend(int(LOCAL), 8080, local=True),
                Backend(int(REMOTE), 8080),
                Backend(int(ELSEWHERE), 8080),
            ),
            (0, 1, 2),
        )
    }


@pytest.mark.parametrize("kind", [ServiceType.NODE_PORT, ServiceType.LOAD_BALANCER])
def test_a_node_port_is_at_the_nodes_address_and_on_loopback(kind: ServiceType) -> None:
    found = frontends(service(kind), slice_of(Endpoint(REMOTE)))
    assert {k: f.kind for k, f in found.items()} == {
        ("10.96.0.10", 80): FrontendKind.CLUSTER_IP,
        ("192.168.50.11", 30080): FrontendKind.NODE_PORT,
        ("127.0.0.1", 30080): FrontendKind.NODE_PORT,
    }
    assert len({f.backends for f in found.values()}) == 1


def test_headless_and_external_name_services_have_no_frontend() -> None:
    assert not frontends(service(cluster_ip=None), slice_of(Endpoint(LOCAL)))
    assert not frontends(service(ServiceType.EXTERNAL_NAME), slice_of(Endpoint(LOCAL)))


def test_a_service_without_endpoints_keeps_its_frontend() -> None:
    for slices in ((), (slice_of(),)):
        (frontend,) = frontends(service(), *slices).values()
        assert frontend.backends == ()
        assert frontend.active == ()


def test_ports_pair_by_name_and_protocol() -> None:
    two = replace(
        service(),
        ports=(
            ServicePort(53, Protocol.UDP, "dns"),
            ServicePort(53, Protocol.TCP, "dns-tcp"),
            ServicePort(80, Protocol.TCP, "none"),
        ),
    )
    ports = (
        EndpointPort(5353, Protocol.UDP, "dns"),
        EndpointPort(5354, Protocol.TCP, "dns-tcp"),
        EndpointPort(9, Protocol.UDP, "none"),
    )
    made = EndpointSlice("default", "web-1", "web", ports, (Endpoint(LOCAL),))
    plan = compile(policy(two, made), "node1")
    assert {
        (k.port, k.protocol): [b.port for b in f.backends] for k, f in plan.frontends.items()
    } == {(53, 17): [5353], (53, 6): [5354], (80, 6): []}


def test_an_address_in_two_slices_is_one_backend_and_the_fittest_wins() -> None:
    (frontend,) = frontends(
        service(),
        slice_of(Endpoint(LOCAL, ready=False)),
        slice_of(Endpoint(LOCAL), name="web-2"),
        slice_of(Endpoint(LOCAL, ready=False, serving=False), name="web-3"),
        slice_of(Endpoint(LOCAL), name="web-4", port=8081),
    ).values()
    assert [(b.port, b.state) for b in frontend.backends] == [
        (8080, BackendState.ACTIVE),
        (8081, BackendState.ACTIVE),
    ]


def terminating(address: IPv4Address) -> Endpoint:
    return Endpoint(address, ready=False, serving=True, terminating=True)


def test_a_draining_endpoint_stays_but_takes_no_new_flows() -> None:
    (frontend,) = frontends(
        service(),
        slice_of(terminating(LOCAL), Endpoint(REMOTE), Endpoint(ELSEWHERE, False)),
    ).values()
    assert [b.state for b in frontend.backends] == [DRAINING, BackendState.ACTIVE, DRAINING]
    assert chosen(frontend) == [int(REMOTE)]


def test_without_a_ready_endpoint_those_that_terminate_but_serve_take_flows() -> None:
    (frontend,) = frontends(
        service(), slice_of(terminating(LOCAL), Endpoint(REMOTE, ready=False))
    ).values()
    assert chosen(frontend) == [int(LOCAL)]
    assert frontend.backends[0].state is DRAINING


@pytest.mark.parametrize(("on", "expected"), [("node1", LOCAL), ("node2", REMOTE), ("node3", None)])
def test_external_traffic_policy_local_takes_this_nodes_backends_only(
    on: str, expected: IPv4Address | None
) -> None:
    local = service(ServiceType.NODE_PORT, external_traffic_policy=TrafficPolicy.LOCAL)
    found = frontends(local, slice_of(Endpoint(LOCAL), Endpoint(REMOTE)), on=on)
    own = str(NODES[on].internal_ip)
    for at in ((own, 30080), ("127.0.0.1", 30080)):
        assert found[at].local_only
        assert chosen(found[at]) == ([int(expected)] if expected else [])
        assert len(found[at].backends) == 2
    assert not found[("10.96.0.10", 80)].local_only
    assert len(chosen(found[("10.96.0.10", 80)])) == 2


def test_local_falls_back_to_this_nodes_terminating_endpoint() -> None:
    """KEP-1669: a ready endpoint on another node does not stop the fallback here."""
    local = service(ServiceType.NODE_PORT, external_traffic_policy=TrafficPolicy.LOCAL)
    found = frontends(local, slice_of(terminating(LOCAL), Endpoint(REMOTE)))
    assert chosen(found[("192.168.50.11", 30080)]) == [int(LOCAL)]
    assert chosen(found[("10.96.0.10", 80)]) == [int(REMOTE)]


def test_the_services_scheduler_or_else_the_labs() -> None:
    (frontend,) = frontends(service(scheduler="rr")).values()
    assert frontend.scheduler == "rr"
    lab = replace(LAB, scheduler="rr")
    plan = compile(replace(policy(service()), lab=lab), "node1")
    assert {f.scheduler for f in plan.frontends.values()} == {"rr"}


def test_the_nodes_own_addresses_peers_and_pods() -> None:
    plan = compile(policy(service()), "node1")
    assert (plan.node_ip, plan.bridge_ip, plan.tunnel_ip) == (
        ip("192.168.50.11"),
        ip("10.244.1.1"),
        ip("10.244.1.0"),
    )
    assert plan.pod_cidr == Prefix(ip("10.244.1.0"), 24)
    assert sorted(plan.peers) == ["node2", "node3"]
    assert plan.peers["node2"].mac == bytes.fromhex("0250c0a8320c")
    assert plan.pods == {int(LOCAL): "default/a"}
    assert plan.cluster_pods == {"default/a": int(LOCAL), "default/b": int(REMOTE)}


@pytest.mark.parametrize(
    ("overlay", "port", "mtu"),
    [(Overlay.VXLAN, 8472, 1450), (Overlay.UDP, 8285, 1472), (Overlay.HOST_GW, 0, 1500)],
)
def test_the_overlay_table(overlay: Overlay, port: int, mtu: int) -> None:
    lab = replace(LAB, overlay=overlay)
    table = compile(replace(policy(service()), lab=lab), "node1").overlay
    assert (table.kind, table.port, table.vni, table.mtu) == (overlay.value, port, 1, mtu)
    assert table.mac == bytes.fromhex("0250c0a8320b")


def counts(plan: Plan) -> dict[str, int]:
    return {str(IPv4Address(a)): n for a, n in plan.addresses.items()}


def test_addresses_count_pods_and_backends_once_for_each_service_port() -> None:
    node_port = service(ServiceType.NODE_PORT)
    two_ports = replace(
        node_port, ports=(*node_port.ports, ServicePort(81, name="http2", node_port=30081))
    )
    ports = (EndpointPort(8080, name="http"), EndpointPort(8081, name="http2"))
    made = EndpointSlice("default", "w", "web", ports, (Endpoint(LOCAL), Endpoint(ELSEWHERE)))
    before = policy(two_ports, made)
    plan = compile(before, "node1")
    assert counts(plan) == {"10.244.1.2": 3, "10.244.2.2": 1, "192.0.2.7": 2}

    after = replace(before, slices={KEY: (replace(made, endpoints=(Endpoint(LOCAL),)),)})
    plan = apply(plan, update(plan, Change(after, services=frozenset([KEY]))))
    assert counts(plan) == {"10.244.1.2": 3, "10.244.2.2": 1}

    without = replace(after, pods={}, services={}, slices={})
    change = Change(without, pods=frozenset(before.pods), services=frozenset([KEY]))
    plan = apply(plan, update(plan, change))
    assert counts(plan) == {}
    assert not plan.frontends
    assert not plan.services


def test_one_endpoint_changes_one_services_tables_only() -> None:
    before = policy(service(), slice_of(Endpoint(LOCAL), Endpoint(REMOTE)))
    plan = compile(before, "node1")
    after = replace(before, slices={KEY: (slice_of(Endpoint(LOCAL)),)})
    delta = update(plan, Change(after, services=frozenset([KEY])))
    assert list(delta.frontends) == [FrontendKey(int(VIP), 80, 6)]
    assert delta.addresses == {int(REMOTE): 1}
    assert replace(delta, frontends={}, addresses={}).empty
    changed = apply(plan, delta)
    assert changed.peers is plan.peers
    assert changed.services is plan.services


@pytest.mark.parametrize("change", [{"lab": True}, {"nodes": frozenset(["node1"])}])
def test_the_lab_or_the_node_itself_replaces_the_plan(change: dict[str, object]) -> None:
    before = policy(service())
    plan = compile(before, "node1")
    after = replace(before, lab=replace(LAB, mtu=1400))
    delta = update(plan, Change(after, **change))  # type: ignore[arg-type]
    assert delta.replace == compile(after, "node1")
    assert apply(plan, delta) is delta.replace


def test_an_unknown_node_is_named_with_those_that_are_there() -> None:
    with pytest.raises(PlanError, match=r"node nine: .*it has: node1, node2, node3"):
        compile(policy(service()), "nine")


def test_the_bytes_are_json_with_dotted_addresses() -> None:
    plan = compile(policy(service(), slice_of(Endpoint(REMOTE))), "node1")
    read = json.loads(plan.to_bytes())
    assert read["nodeIP"] == "192.168.50.11"
    assert read["frontends"][0]["backends"][0]["address"] == "10.244.2.2"
    assert "generation" not in read
    assert "secret" not in read
