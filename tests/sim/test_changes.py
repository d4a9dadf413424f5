"""The policy changes while connections are open: what stays, what moves, what is reset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pylb.dataplane.base import DropReason
from pylb.policy.model import Policy, Protocol
from tests.sim.clock import MILLISECOND, Weather
from tests.sim.cluster import Cluster
from tests.sim.hosts import Datagram, echo
from tests.sim.tcp import Connection, State
from tests.sim.world import (
    INTERNET,
    NODE1,
    NODE_PORT,
    VIP,
    B,
    C,
    D,
    draining,
    policy,
    ready,
    web,
    with_endpoints,
    without_pods,
)

KEY = ("default", "web")


def cluster_of(before: Policy) -> Cluster:
    cluster = Cluster(before, 1)
    for host in cluster.hosts():
        host.listen(8080, echo)
        host.listen_udp(8080, named(host.name))
    return cluster


def named(name: str) -> Callable[[Datagram], bytes]:
    def answer(datagram: Datagram) -> bytes:
        return name.encode()

    return answer


def say(cluster: Cluster, connection: Connection, text: bytes) -> bytes:
    """Write to an echo server; gives what came back since."""
    before = len(connection.received)
    connection.write(text)
    cluster.settle()
    return bytes(connection.received[before:])


def ask(cluster: Cluster, port: int = 40000) -> bytes:
    """Ask the UDP service from pod a; gives the name of the pod that answered."""
    pod = cluster.pods["a"]
    pod.datagrams.clear()
    pod.send_udp(VIP, 80, b"who?", port)
    cluster.settle()
    return pod.datagrams[-1].data if pod.datagrams else b""


def test_udp_moves_to_another_backend_with_its_next_packet() -> None:
    cluster = cluster_of(policy(web("b", "c", protocol=Protocol.UDP, scheduler="random")))
    first = ask(cluster)
    assert ask(cluster) == first
    other = "c" if first == b"b" else "b"
    cluster.change(with_endpoints(cluster.policy, KEY, ready(other)))
    assert ask(cluster) == other.encode()
    assert len(cluster.nodes["node1"].flows()) == 1


def test_udp_leaves_a_draining_backend_too() -> None:
    cluster = cluster_of(policy(web("b", protocol=Protocol.UDP)))
    assert ask(cluster) == b"b"
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), ready("c")))
    assert ask(cluster) == b"c"


def test_udp_without_any_backend_left_is_refused() -> None:
    cluster = cluster_of(policy(web("b", protocol=Protocol.UDP)))
    assert ask(cluster) == b"b"
    cluster.change(with_endpoints(cluster.policy, KEY))
    assert ask(cluster) == b""
    assert [error.kind for error in cluster.pods["a"].errors] == [3]
    assert not cluster.nodes["node1"].flows()


def test_the_first_packets_before_there_is_an_endpoint_leave_nothing_stale() -> None:
    """kubernetes issue 48370: the client keeps its port, the Service gets its endpoint."""
    cluster = cluster_of(policy(web(protocol=Protocol.UDP)))
    for _ in range(3):
        assert ask(cluster) == b""
    cluster.change(with_endpoints(cluster.policy, KEY, ready("c")))
    assert ask(cluster) == b"c"


def test_a_service_that_is_made_after_its_clients_first_packet_works_at_once() -> None:
    before = policy()
    cluster = cluster_of(before)
    assert ask(cluster) == b""
    cluster.change(replace(policy(web("c", protocol=Protocol.UDP)), pods=before.pods))
    assert ask(cluster) == b"c"


@pytest.mark.parametrize("backend", ["b", "c"])
def test_tcp_lives_on_while_its_backend_drains(backend: str) -> None:
    cluster = cluster_of(policy(web(backend)))
    connection = cluster.pods["a"].connect(VIP, 80)
    assert say(cluster, connection, b"one") == b"one"
    other = "d"
    cluster.change(with_endpoints(cluster.policy, KEY, draining(backend), ready(other)))
    assert say(cluster, connection, b"two") == b"two"
    cluster.change(with_endpoints(cluster.policy, KEY, ready(other)))
    assert say(cluster, connection, b"three") == b"three", "the pod is still there"
    connection.close()
    cluster.settle()
    assert connection.finished
    fresh = cluster.pods["a"].connect(VIP, 80)
    assert say(cluster, fresh, b"four") == b"four"
    assert len(cluster.pods[other].accepted) == 1


@pytest.mark.parametrize("backend", ["b", "c"])
def test_tcp_is_reset_when_its_backend_is_gone(backend: str) -> None:
    cluster = cluster_of(policy(web(backend, "d")))
    connections = [cluster.pods["a"].connect(VIP, 80) for _ in range(2)]
    for connection in connections:
        assert say(cluster, connection, b"one") == b"one"
    after = with_endpoints(without_pods(cluster.policy, backend), KEY, ready("d"))
    cluster.change(after)
    answers = [say(cluster, connection, b"two") for connection in connections]
    assert sorted(answers) == [b"", b"two"]
    lost = connections[answers.index(b"")]
    assert lost.reset
    assert lost.state is State.CLOSED
    assert DropReason.BACKEND_GONE in cluster.nodes["node1"].reasons()
    fresh = cluster.pods["a"].connect(VIP, 80)
    assert say(cluster, fresh, b"three") == b"three"


@pytest.mark.parametrize("service_too", [False, True])
def test_in_any_weather_a_client_that_still_sends_is_reset(seed: int, service_too: bool) -> None:
    """Data and resets are lost, doubled and late; numbers are challenged and told anew."""
    cluster = cluster_of(policy(web("c")))
    cluster.rng.seed(seed)
    connections = [cluster.pods["a"].connect(VIP, 80) for _ in range(10)]
    cluster.settle()
    cluster.weather(Weather(loss=0.1, duplicate=0.1, reorder=0.3))
    for connection in connections:
        connection.write(cluster.rng.randbytes(60_000))
    cluster.run(cluster.rng.randrange(1, 40) * MILLISECOND)
    after = with_endpoints(without_pods(cluster.policy, "c"), KEY)
    cluster.change(replace(after, services={}, slices={}, takers={}) if service_too else after)
    for connection in connections:
        connection.write(b"more")
    cluster.settle(3000)
    assert [c for c in connections if not c.reset] == []


def test_a_deleted_service_keeps_its_connections_and_takes_no_new_ones() -> None:
    before = policy(web("c"))
    cluster = cluster_of(before)
    connection = cluster.pods["a"].connect(VIP, 80)
    assert say(cluster, connection, b"one") == b"one"
    cluster.change(replace(before, services={}, slices={}))
    assert say(cluster, connection, b"two") == b"two"
    fresh = cluster.pods["a"].connect(VIP, 80)
    cluster.settle(1000)
    assert fresh.timed_out or fresh.reset
    assert DropReason.UNALLOCATED_VIP in cluster.nodes["node1"].reasons()


def test_a_node_port_that_moves_takes_new_connections_at_its_new_port() -> None:
    before = policy(web("c", node_port=NODE_PORT))
    cluster = cluster_of(before)
    client = cluster.outside["client"]
    old = client.connect(NODE1, NODE_PORT)
    assert say(cluster, old, b"one") == b"one"
    cluster.change(policy(web("c", node_port=NODE_PORT + 1)))
    assert say(cluster, old, b"two") == b"two"
    new = client.connect(NODE1, NODE_PORT + 1)
    assert say(cluster, new, b"three") == b"three"
    refused = client.connect(NODE1, NODE_PORT)
    cluster.settle()
    assert refused.reset


def test_connections_that_no_service_balanced_do_not_notice() -> None:
    cluster = cluster_of(policy(web("b")))
    straight = cluster.pods["a"].connect(D, 8080)
    outside = cluster.pods["a"].connect(INTERNET, 8080)
    assert say(cluster, straight, b"one") == say(cluster, outside, b"one") == b"one"
    cluster.change(replace(cluster.policy, services={}, slices={}))
    assert say(cluster, straight, b"two") == say(cluster, outside, b"two") == b"two"


def test_a_pod_that_moves_to_another_service_keeps_its_connections() -> None:
    cluster = cluster_of(policy(web("c")))
    connection = cluster.pods["a"].connect(VIP, 80)
    assert say(cluster, connection, b"one") == b"one"
    cluster.change(policy(web("c", name="other")))
    assert say(cluster, connection, b"two") == b"two"


@pytest.mark.parametrize("backend", ["b", "c", "a"])
def test_a_restarted_daemon_picks_connections_up_midstream(backend: str) -> None:
    cluster = cluster_of(policy(web("b", "c", "a", scheduler="random")))
    connection = cluster.pods["a"].connect(VIP, 80)
    while say(cluster, connection, b"one") != b"one" or not any(
        c.ends.peer_port == connection.ends.port for c in cluster.pods[backend].accepted
    ):
        connection = cluster.pods["a"].connect(VIP, 80)
    cluster.nodes["node1"].restart()
    assert say(cluster, connection, b"two") == b"two"
    connection.close()
    cluster.settle()
    assert connection.finished


def test_churn_under_load_never_breaks_what_should_live(seed: int) -> None:
    """Endpoints come and go at random; connections to pods that stay must not be cut."""
    cluster = cluster_of(policy(web("b", "c", "d")))
    cluster.seed = seed
    cluster.rng.seed(seed)
    stays = "d"
    open_ones: list[Connection] = []
    for _ in range(30):
        others = [draining(p) if cluster.rng.random() < 0.5 else ready(p) for p in "bc"]
        chosen = cluster.rng.sample(others, cluster.rng.randrange(3))
        cluster.change(with_endpoints(cluster.policy, KEY, ready(stays), *chosen))
        connection = cluster.pods["a"].connect(VIP, 80)
        open_ones.append(connection)
        for each in open_ones:
            assert say(cluster, each, b"ping") == b"ping", cluster
    assert {B, C, D} >= {c.ends.address for p in "bcd" for c in cluster.pods[p].accepted}
