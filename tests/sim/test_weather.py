"""Loss, duplication and reordering on every link: bytes arrive intact all the same."""

from __future__ import annotations

from collections import Counter

import pytest

from pylb.dataplane.base import EventKind
from pylb.policy.model import Overlay, Protocol
from tests.sim.clock import MILLISECOND, Weather
from tests.sim.cluster import Cluster
from tests.sim.hosts import Host, echo, shout
from tests.sim.tcp import Connection
from tests.sim.world import (
    INTERNET,
    LOOPBACK,
    NODE1,
    NODE3,
    NODE_PORT,
    VIP,
    VIP2,
    B,
    C,
    policy,
    web,
)

WEATHERS = {
    "loss": Weather(loss=0.08),
    "duplicates": Weather(duplicate=0.3),
    "reordering": Weather(reorder=0.4, spread=20 * MILLISECOND),
    "storm": Weather(loss=0.05, duplicate=0.15, reorder=0.25, spread=250 * MILLISECOND),
}
PATHS = [
    ("a", VIP, 80),
    ("b", VIP, 80),
    ("c", VIP, 80),
    ("node1", VIP, 80),
    ("node3", LOOPBACK, NODE_PORT),
    ("client", NODE1, NODE_PORT),
    ("client", NODE3, NODE_PORT),
    ("internet", NODE3, NODE_PORT),
    ("a", INTERNET, 8080),
    ("d", INTERNET, 8080),
    ("a", C, 8080),
    ("a", B, 8080),
    ("node1", C, 8080),
]
STORMY = pytest.mark.parametrize("weather", list(WEATHERS.values()), ids=list(WEATHERS))


def world(seed: int, overlay: Overlay) -> tuple[Cluster, dict[str, Host]]:
    services = (
        web("a", "b", "c", "d", node_port=NODE_PORT),
        web("b", "d", name="dns", vip=VIP2, port=53, target=53, protocol=Protocol.UDP),
    )
    cluster = Cluster(policy(*services, overlay=overlay), seed)
    print(f"replay with {cluster}")
    hosts = {host.name: host for host in cluster.hosts()}
    for host in hosts.values():
        host.listen(8080, echo)
        host.listen_udp(53, shout)
    return cluster, hosts


def overlay_of(seed: int) -> Overlay:
    return list(Overlay)[seed % len(Overlay)]


def conversations(
    cluster: Cluster, hosts: dict[str, Host], times: int
) -> list[tuple[str, Connection, bytes]]:
    """Open connections on every path at once; gives who, the connection, and what it says."""
    made = []
    for who, address, port in PATHS * times:
        text = cluster.rng.randbytes(cluster.rng.randrange(1, 12_000))
        connection = hosts[who].connect(address, port)
        connection.write(text)
        made.append((who, connection, text))
    return made


def arrived(made: list[tuple[str, Connection, bytes]]) -> None:
    for who, connection, text in made:
        assert bytes(connection.received) == text, (who, connection.ends)
        assert not connection.reset, (who, connection.ends)


@STORMY
def test_every_connections_bytes_arrive_intact(seed: int, weather: Weather) -> None:
    """The handshakes are in fair weather, for a late duplicate of one is a danger of its
    own: see test_a_late_duplicate_of_the_handshake_changes_nothing.
    """
    cluster, hosts = world(seed, overlay_of(seed))
    made = conversations(cluster, hosts, 2)
    cluster.settle()
    cluster.weather(weather)
    for i, (who, connection, text) in enumerate(made):
        more = cluster.rng.randbytes(cluster.rng.randrange(1, 12_000))
        connection.write(more)
        made[i] = (who, connection, text + more)
    cluster.settle(3600)
    arrived(made)
    for _, connection, _ in made:
        connection.close()
    cluster.settle(3600)
    arrived(made)
    assert all(connection.finished for _, connection, _ in made)
    assert not cluster.undelivered

    cluster.jump(432_001)
    for name, node in cluster.nodes.items():
        kinds = Counter(event.kind for event in node.events)
        assert not node.flows(), name
        assert kinds[EventKind.NEW] == kinds[EventKind.DESTROY], name


@pytest.mark.parametrize("weather", ["loss", "reordering"])
def test_a_client_that_closes_at_once_still_gets_its_answer(seed: int, weather: str) -> None:
    cluster, hosts = world(seed, overlay_of(seed))
    cluster.weather(WEATHERS[weather])
    made = conversations(cluster, hosts, 1)
    for _, connection, _ in made:
        connection.close()
    cluster.settle(3600)
    arrived(made)
    assert all(connection.finished for _, connection, _ in made)


@STORMY
def test_datagrams_arrive_unaltered_or_not_at_all(seed: int, weather: Weather) -> None:
    cluster, hosts = world(seed, Overlay.VXLAN)
    cluster.weather(weather)
    sent = {}
    for i in range(60):
        who = cluster.rng.choice(["a", "b", "c", "node1", "node3"])
        text = bytes(cluster.rng.choices(range(97, 123), k=cluster.rng.randrange(1, 4000)))
        sent[40000 + i] = (who, text)
        hosts[who].send_udp(VIP2, 53, text, 40000 + i)
        cluster.jump(0.01)
    cluster.settle()
    answered = set()
    for name, host in hosts.items():
        for datagram in host.datagrams:
            if datagram.port < 40000:
                continue
            who, text = sent[datagram.port]
            assert (name, datagram.data) == (who, text.upper())
            assert (datagram.source, datagram.source_port) == (VIP2, 53)
            answered.add(datagram.port)
    if weather.loss == 0:
        assert answered == set(sent)
    else:
        assert len(answered) >= 10


def test_one_seed_is_one_history() -> None:
    def history() -> list[object]:
        cluster, hosts = world(5, Overlay.VXLAN)
        cluster.weather(WEATHERS["storm"])
        for who, address, port in PATHS:
            hosts[who].connect(address, port).write(b"x" * 3000)
        cluster.settle(3600)
        return [(name, node.events) for name, node in cluster.nodes.items()]

    assert history() == history()
