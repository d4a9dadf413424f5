"""Local redirection: what stays on its node, and what goes on as if there were no policy."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from pylb.policy.model import Endpoint, EndpointPort, LocalRedirect, Policy, Protocol
from tests.sim.cluster import Cluster
from tests.sim.test_sources import converse, machine, serve
from tests.sim.world import INTERNET, NODE1, PODS, TUNNEL1, VIP, A, B, policy, web

PORT = 8000
KEY = ("default", "r")


def redirect(*ready: str, protocol: Protocol = Protocol.TCP, **more: Any) -> LocalRedirect:
    """What goes to the outside web server's port 8000 is the pods' of the node."""
    endpoints = tuple(
        Endpoint(IPv4Address(address), name in ready, node=node)
        for name, (node, address) in PODS.items()
    )
    made = LocalRedirect(
        *KEY,
        address=IPv4Address(INTERNET),
        ports=(EndpointPort(PORT, protocol),),
        targets=(EndpointPort(8080, protocol),),
        endpoints=endpoints,
    )
    return replace(made, **more)


def of_service(*ready: str, **more: Any) -> LocalRedirect:
    return redirect(*ready, address=None, service=("default", "web"), ports=(), **more)


def having(before: Policy, made: LocalRedirect) -> Policy:
    if made.service is not None:
        return replace(before, redirected={made.service: made})
    return replace(before, redirects={KEY: made})


def running(of: Policy) -> Cluster:
    cluster = Cluster(of, 1)
    serve(cluster)
    serve(cluster, PORT)
    return cluster


def served_by(cluster: Cluster, who: str, address: int, port: int) -> tuple[str, int]:
    """Who answers, and the source that it sees."""
    before = {host.name: len(host.accepted) for host in cluster.hosts()}
    converse(cluster, machine(cluster, who), address, port)
    (host,) = [h for h in cluster.hosts() if len(h.accepted) > before[h.name]]
    return host.name, host.accepted[-1].ends.peer


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("a", ("b", A)),
        ("b", ("b", TUNNEL1)),
        ("node1", ("b", TUNNEL1)),
        ("c", ("internet", None)),
        ("node3", ("internet", None)),
        ("client", ("internet", None)),
    ],
)
def test_who_has_a_pod_for_it_on_its_node_is_redirected(
    who: str, expected: tuple[str, int | None]
) -> None:
    cluster = running(having(policy(), redirect("b")))
    name, source = served_by(cluster, who, INTERNET, PORT)
    assert (name, source) == (expected[0], source if expected[1] is None else expected[1])
    assert not any(node.dropped for node in cluster.nodes.values())


def test_other_ports_of_the_address_are_reached_as_ever() -> None:
    cluster = running(having(policy(), redirect("b")))
    assert served_by(cluster, "a", INTERNET, 8080) == ("internet", NODE1)
    assert served_by(cluster, "node1", INTERNET, 8080) == ("internet", NODE1)
    cluster.pods["a"].ping(INTERNET)
    cluster.settle()
    assert [pong.source for pong in cluster.pods["a"].pongs] == [INTERNET]


def test_what_the_address_itself_sends_is_believed() -> None:
    """It is redirected, not virtual: somebody has it, and may ask."""
    cluster = running(having(policy(), redirect("b")))
    cluster.outside["internet"].send_udp(NODE1, 9, b"hello", 40000)
    cluster.settle()
    assert not cluster.nodes["node1"].dropped


def test_a_backend_may_be_spared() -> None:
    cluster = running(having(policy(), redirect("b", skips_backends=True)))
    assert served_by(cluster, "b", INTERNET, PORT) == ("internet", NODE1)
    assert served_by(cluster, "a", INTERNET, PORT) == ("b", A)


def test_a_datagrams_way_follows_readiness() -> None:
    before = policy()
    cluster = running(having(before, redirect("b", protocol=Protocol.UDP)))

    def heard(name: str) -> int:
        cluster.pods["a"].send_udp(INTERNET, PORT, b"hello", 40000)
        cluster.settle()
        return len(machine(cluster, name).datagrams)

    assert heard("b") == 1
    cluster.change(having(before, redirect(protocol=Protocol.UDP)))
    assert heard("internet") == 1
    cluster.change(having(before, redirect("b", protocol=Protocol.UDP)))
    assert heard("b") == 2, "of the flow that left the node meanwhile every packet is new"
    cluster.change(before)
    assert heard("internet") == 2


def test_a_connection_that_has_left_its_node_is_not_called_back() -> None:
    cluster = running(policy())
    connection = cluster.pods["a"].connect(INTERNET, PORT)
    connection.write(b"one")
    cluster.settle()
    cluster.change(having(cluster.policy, redirect("b")))
    connection.write(b"two")
    cluster.settle()
    assert bytes(connection.received) == b"onetwo"
    assert served_by(cluster, "a", INTERNET, PORT)[0] == "b"


def test_a_connection_stays_with_its_pod_when_the_policy_goes() -> None:
    cluster = running(having(policy(), redirect("b")))
    connection = cluster.pods["a"].connect(INTERNET, PORT)
    connection.write(b"one")
    cluster.settle()
    cluster.change(policy())
    connection.write(b"two")
    cluster.settle()
    assert bytes(connection.received) == b"onetwo"
    assert len(cluster.pods["b"].accepted) == 1


# Services


def test_a_service_is_its_nodes_own_pods() -> None:
    cluster = running(having(policy(web("c", "d")), of_service("b")))
    assert served_by(cluster, "a", VIP, 80) == ("b", A)
    assert served_by(cluster, "b", VIP, 80) == ("b", TUNNEL1)
    assert served_by(cluster, "node1", VIP, 80) == ("b", TUNNEL1)
    assert served_by(cluster, "d", VIP, 80)[0] in "cd"
    assert served_by(cluster, "node3", VIP, 80)[0] in "cd"


def test_a_spared_backend_gets_the_service() -> None:
    cluster = running(having(policy(web("c")), of_service("b", skips_backends=True)))
    assert served_by(cluster, "b", VIP, 80) == ("c", B)
    assert served_by(cluster, "a", VIP, 80) == ("b", A)
    cluster.change(having(policy(web()), of_service("b", skips_backends=True)))
    refused = cluster.pods["b"].connect(VIP, 80)
    cluster.settle()
    assert refused.reset


def test_without_a_ready_pod_the_service_is_as_it_was() -> None:
    before = policy(web("c"))
    cluster = running(having(before, of_service("b")))
    assert served_by(cluster, "a", VIP, 80) == ("b", A)
    cluster.change(having(before, of_service()))
    assert served_by(cluster, "a", VIP, 80) == ("c", A)
