"""Every way into a Service: which endpoint answers, and whom it sees."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from pylb.dataplane.base import DropReason
from pylb.policy.model import Policy, Protocol, TrafficPolicy
from tests.sim.cluster import Cluster
from tests.sim.hosts import Host
from tests.sim.tcp import State
from tests.sim.test_sources import converse, machine, serve, server_side
from tests.sim.world import (
    CLIENT,
    EXTERNAL_IP,
    INTERNET,
    LB_IP,
    LOOPBACK,
    NODE1,
    NODE_PORT,
    TUNNEL1,
    VIP,
    A,
    draining,
    policy,
    ready,
    web,
    with_endpoints,
)

KEY = ("default", "web")
LOCAL = TrafficPolicy.LOCAL


def balancer(*to: str, **more: Any) -> Policy:
    """A Service with every kind of address."""
    more.setdefault("external_ips", (IPv4Address(EXTERNAL_IP),))
    return policy(web(*to, node_port=NODE_PORT, balancer=LB_IP, **more))


def running(of: Policy) -> Cluster:
    """The cluster with servers everywhere; what outside has no route for goes to node1."""
    cluster = Cluster(of, 1)
    cluster.routes |= {"client": "node1", "internet": "node1"}
    serve(cluster)
    return cluster


def refused(cluster: Cluster, who: str, address: int, port: int) -> bool:
    connection = machine(cluster, who).connect(address, port)
    cluster.settle(1000)
    assert connection.state is State.CLOSED
    return connection.reset


# (who, to which address and port, the only endpoint, policy Local, source that it sees)
WAYS = [
    ("outside to LoadBalancer, endpoint here", "client", LB_IP, 80, "b", False, NODE1),
    ("outside to LoadBalancer, endpoint elsewhere", "client", LB_IP, 80, "c", False, TUNNEL1),
    ("outside to external IP, endpoint elsewhere", "client", EXTERNAL_IP, 80, "c", False, TUNNEL1),
    ("internet to LoadBalancer", "internet", LB_IP, 80, "a", False, NODE1),
    ("outside to LoadBalancer Local", "client", LB_IP, 80, "b", True, CLIENT),
    ("outside to external IP Local", "client", EXTERNAL_IP, 80, "b", True, CLIENT),
    ("internet to LoadBalancer Local", "internet", LB_IP, 80, "b", True, INTERNET),
    ("pod to LoadBalancer, same node", "a", LB_IP, 80, "b", False, NODE1),
    ("pod to LoadBalancer, other node", "a", LB_IP, 80, "c", False, TUNNEL1),
    ("pod to LoadBalancer Local, same node", "a", LB_IP, 80, "b", True, A),
    ("pod to LoadBalancer Local, no endpoint here", "a", LB_IP, 80, "c", True, A),
    ("pod to external IP Local, no endpoint here", "a", EXTERNAL_IP, 80, "d", True, A),
    ("hairpin by LoadBalancer Local", "a", LB_IP, 80, "a", True, TUNNEL1),
    ("hairpin by LoadBalancer", "a", LB_IP, 80, "a", False, TUNNEL1),
    ("host to LoadBalancer, other node", "node1", LB_IP, 80, "c", False, TUNNEL1),
    ("host to LoadBalancer Local, no endpoint here", "node1", LB_IP, 80, "c", True, TUNNEL1),
    ("host to external IP Local", "node1", EXTERNAL_IP, 80, "b", True, TUNNEL1),
    ("pod to NodePort Local, no endpoint here", "a", NODE1, NODE_PORT, "c", True, A),
    ("host to NodePort Local, no endpoint here", "node1", NODE1, NODE_PORT, "c", True, TUNNEL1),
    ("host to loopback NodePort Local", "node1", LOOPBACK, NODE_PORT, "c", True, TUNNEL1),
]


@pytest.mark.parametrize(
    ("who", "address", "port", "endpoint", "local", "source"),
    [way[1:] for way in WAYS],
    ids=[way[0] for way in WAYS],
)
@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP], ids=lambda p: p.value)
def test_the_endpoint_sees_the_source_that_kubernetes_documents(
    who: str, address: int, port: int, endpoint: str, local: bool, source: int, protocol: Protocol
) -> None:
    cluster = running(balancer(endpoint, local=local, protocol=protocol))
    client = machine(cluster, who)
    if protocol is Protocol.TCP:
        converse(cluster, client, address, port)
        name, server = server_side(cluster)
        assert (name, server.ends.peer) == (endpoint, source)
    else:
        client.send_udp(address, port, b"hello", 40000)
        cluster.settle()
        (asked,) = machine(cluster, endpoint).datagrams[:1]
        assert asked.source == source
        (answer,) = client.datagrams[-1:]
        assert (answer.source, answer.source_port, answer.data) == (address, port, b"HELLO")
    assert not any(node.dropped for node in cluster.nodes.values())


@pytest.mark.parametrize(("address", "port"), [(LB_IP, 80), (EXTERNAL_IP, 80), (NODE1, NODE_PORT)])
def test_local_without_an_endpoint_here_is_silent_outside(address: int, port: int) -> None:
    """No second hop, and no refusal either: the load balancer is to ask another node."""
    cluster = running(balancer("c", local=True))
    assert not refused(cluster, "client", address, port)
    assert set(cluster.nodes["node1"].reasons()) == {DropReason.NO_LOCAL_ENDPOINT}


@pytest.mark.parametrize("who", ["client", "a", "node1"])
@pytest.mark.parametrize("local", [True, False])
def test_without_any_endpoint_everyone_is_refused(who: str, local: bool) -> None:
    cluster = running(balancer(local=local, internal_traffic_policy=LOCAL))
    assert refused(cluster, who, LB_IP, 80)
    assert refused(cluster, who, VIP, 80)
    assert set(cluster.nodes["node1"].reasons()) == {DropReason.NO_ENDPOINT}


@pytest.mark.parametrize("who", ["client", "a"])
def test_an_unknown_port_of_an_outside_address_is_refused(who: str) -> None:
    cluster = running(balancer("b"))
    assert refused(cluster, who, LB_IP, 81)
    assert refused(cluster, who, EXTERNAL_IP, 81)
    assert set(cluster.nodes["node1"].reasons()) == {DropReason.NO_SUCH_FRONTEND}


def test_source_ranges_are_for_the_load_balancers_address_alone() -> None:
    only = (IPv4Network("203.0.113.0/24"), IPv4Network("10.244.1.3/32"))
    cluster = running(balancer("c", source_ranges=only))
    converse(cluster, machine(cluster, "internet"), LB_IP, 80)
    converse(cluster, machine(cluster, "b"), LB_IP, 80)
    for who in ("client", "a", "node1"):
        assert not refused(cluster, who, LB_IP, 80)
        converse(cluster, machine(cluster, who), EXTERNAL_IP, 80)
        converse(cluster, machine(cluster, who), NODE1, NODE_PORT)
    assert set(cluster.nodes["node1"].reasons()) == {DropReason.SOURCE_RANGE}


def test_an_external_ip_may_be_a_nodes_own_address() -> None:
    """Only its port is the Service's; what the node itself listens on stays the node's."""
    cluster = running(balancer("c", external_ips=(IPv4Address(NODE1),)))
    for who in ("client", "a", "b", "node1"):
        converse(cluster, machine(cluster, who), NODE1, 80)
    assert len(cluster.pods["c"].accepted) == 4
    converse(cluster, machine(cluster, "c"), NODE1, 80)
    for who in ("client", "a", "c", "node2"):
        converse(cluster, machine(cluster, who), NODE1, 8080)
    assert len(cluster.nodes["node1"].host.accepted) == 4


def test_an_outside_address_without_node_ports() -> None:
    cluster = running(policy(web("b", balancer=LB_IP)))
    converse(cluster, machine(cluster, "client"), LB_IP, 80)
    assert refused(cluster, "client", NODE1, NODE_PORT)


# internalTrafficPolicy


def test_internal_policy_local_keeps_the_node_and_does_not_touch_outside() -> None:
    cluster = running(balancer("b", "c", "d", internal_traffic_policy=LOCAL))
    for _ in range(6):
        converse(cluster, machine(cluster, "a"), VIP, 80)
        converse(cluster, machine(cluster, "node1"), VIP, 80)
        converse(cluster, machine(cluster, "client"), VIP, 80)
    assert len(cluster.pods["b"].accepted) == 18
    for _ in range(3):
        converse(cluster, machine(cluster, "client"), LB_IP, 80)
    assert [len(cluster.pods[name].accepted) for name in "bcd"] == [19, 1, 1]


def test_internal_policy_local_without_an_endpoint_here_is_silent() -> None:
    cluster = running(balancer("c", internal_traffic_policy=LOCAL))
    for who in ("a", "node1", "client"):
        assert not refused(cluster, who, VIP, 80)
    assert set(cluster.nodes["node1"].reasons()) == {DropReason.NO_LOCAL_ENDPOINT}
    converse(cluster, machine(cluster, "a"), LB_IP, 80)


# Endpoints come and go


def test_only_those_that_terminate_and_serve_are_left() -> None:
    cluster = running(balancer("b", "c"))
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), draining("c")))
    for _ in range(4):
        converse(cluster, machine(cluster, "client"), LB_IP, 80)
    assert [len(cluster.pods[name].accepted) for name in "bc"] == [2, 2]
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), ready("c")))
    for _ in range(4):
        converse(cluster, machine(cluster, "client"), LB_IP, 80)
    assert [len(cluster.pods[name].accepted) for name in "bc"] == [2, 6]


def test_local_falls_back_to_its_own_terminating_endpoint_outside_only() -> None:
    cluster = running(balancer("b", "c", local=True))
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), ready("c")))
    converse(cluster, machine(cluster, "client"), LB_IP, 80)
    assert len(cluster.pods["b"].accepted) == 1
    converse(cluster, machine(cluster, "a"), LB_IP, 80)
    assert len(cluster.pods["c"].accepted) == 1


def test_one_way_udp_moves_with_its_next_packet() -> None:
    """Nobody answers: the flow is unreplied all the time (kubernetes 139628, 141371)."""
    cluster = running(balancer("b", protocol=Protocol.UDP))
    client = machine(cluster, "client")
    for host in cluster.hosts():
        host.listen_udp(8080, lambda datagram: None)

    def heard(name: str) -> int:
        client.send_udp(LB_IP, 80, b"one way", 40000)
        cluster.settle()
        return len(cluster.pods[name].datagrams)

    assert heard("b") == 1
    cluster.change(with_endpoints(cluster.policy, KEY, ready("c")))
    assert heard("c") == 1
    cluster.change(with_endpoints(cluster.policy, KEY))
    assert heard("b") == 1
    assert cluster.nodes["node1"].reasons() == [DropReason.NO_ENDPOINT]
    cluster.change(with_endpoints(cluster.policy, KEY, ready("b")))
    assert heard("b") == 2
    without = replace(cluster.policy, services={}, slices={}, takers={})
    again = cluster.policy
    cluster.change(without)
    client.send_udp(VIP, 80, b"one way", 40000)
    cluster.settle()
    assert len(cluster.pods["b"].datagrams) == 2
    assert not client.datagrams
    cluster.change(again)
    assert heard("b") == 3, "deleted and made again"


def test_one_way_udp_that_is_older_than_the_service_goes_to_it() -> None:
    """A pod's packets to the address went outside before; then the address is a Service's."""
    before = policy()
    cluster = running(before)
    pod = cluster.pods["a"]
    for host in cluster.hosts():
        host.listen_udp(8080, lambda datagram: None)

    def send() -> None:
        pod.send_udp(INTERNET, 80, b"one way", 40000)
        cluster.settle(1000)

    send()
    (flow,) = cluster.nodes["node1"].flows()
    assert flow.service == ""
    after = balancer("b", protocol=Protocol.UDP, external_ips=(IPv4Address(INTERNET),))
    for heard in (1, 2):
        cluster.change(after)
        send()
        (flow,) = cluster.nodes["node1"].flows()
        assert (flow.service, len(cluster.pods["b"].datagrams)) == ("default/web", heard)
        cluster.change(before)
        send()
        (flow,) = cluster.nodes["node1"].flows()
        assert (flow.service, len(cluster.pods["b"].datagrams)) == ("", heard)


def test_a_connection_to_an_address_that_becomes_a_services_is_told_so() -> None:
    """What is virtual is nobody else's: no packet goes on to whom it talked to."""
    cluster = running(policy())
    connection = cluster.pods["a"].connect(INTERNET, 8080)
    connection.write(b"one")
    cluster.settle()
    cluster.change(balancer("b", external_ips=(IPv4Address(INTERNET),)))
    connection.write(b"two")
    cluster.settle()
    assert (bytes(connection.received), connection.reset) == (b"one", True)


def test_a_change_to_policy_local_leaves_connections_alone() -> None:
    cluster = running(balancer("b", "c"))
    connections = [machine(cluster, "client").connect(LB_IP, 80) for _ in range(4)]
    cluster.settle()
    before = cluster.policy
    service = replace(before.services[KEY], external_traffic_policy=LOCAL)
    cluster.change(replace(before, services={KEY: service}, takers={KEY: ("node1", "node2")}))
    for connection in connections:
        connection.write(b"still here")
    cluster.settle()
    assert all(bytes(c.received) == b"still here" for c in connections)
    fresh = [machine(cluster, "client").connect(LB_IP, 80) for _ in range(4)]
    cluster.settle()
    assert all(c.state is State.OPEN for c in fresh)
    assert [len(cluster.pods[name].accepted) for name in "bc"] == [6, 2]


# Affinity


def answered_by(cluster: Cluster, client: Host, address: int, port: int = 80) -> str:
    before = {name: len(pod.accepted) for name, pod in cluster.pods.items()}
    converse(cluster, client, address, port)
    (name,) = [n for n, pod in cluster.pods.items() if len(pod.accepted) > before[n]]
    return name


def test_a_client_stays_with_its_endpoint_whatever_way_it_asks() -> None:
    cluster = running(balancer("b", "c", "d", affinity=600))
    for who in ("client", "a", "node1", "internet"):
        client = machine(cluster, who)
        first = answered_by(cluster, client, LB_IP)
        for address, port in ((LB_IP, 80), (EXTERNAL_IP, 80), (NODE1, NODE_PORT), (VIP, 80)):
            assert answered_by(cluster, client, address, port) == first


def test_affinity_ends_when_a_client_was_silent_for_its_timeout() -> None:
    cluster = running(balancer("b", "c", "d", affinity=600))
    client = machine(cluster, "client")
    first = answered_by(cluster, client, LB_IP)
    for _ in range(5):
        cluster.jump(599)
        assert answered_by(cluster, client, LB_IP) == first, "each new flow renews it"
    cluster.jump(600)
    assert answered_by(cluster, client, LB_IP) != first, "rr goes on"


def test_affinity_does_not_hold_a_client_to_an_endpoint_that_is_not_ready() -> None:
    cluster = running(balancer("b", "c", affinity=600))
    client = machine(cluster, "client")
    first = answered_by(cluster, client, LB_IP)
    other = "c" if first == "b" else "b"
    cluster.change(with_endpoints(cluster.policy, KEY, draining(first), ready(other)))
    assert answered_by(cluster, client, LB_IP) == other
    cluster.change(with_endpoints(cluster.policy, KEY, ready(first), ready(other)))
    assert answered_by(cluster, client, LB_IP) == other, "and it stays where it is now"
