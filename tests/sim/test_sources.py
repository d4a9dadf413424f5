"""Who the server sees: DESIGN's table of sources, end to end over a whole cluster.

Every path carries a conversation both ways; the hops check themselves.
"""

from __future__ import annotations

import pytest

from pylb.policy.model import Overlay, Protocol
from tests.sim.cluster import Cluster
from tests.sim.hosts import Host, echo, shout
from tests.sim.tcp import Connection, State
from tests.sim.world import (
    CLIENT,
    INTERNET,
    LOOPBACK,
    MASQUERADE_PORTS,
    NODE1,
    NODE2,
    NODE3,
    NODE_PORT,
    TUNNEL1,
    TUNNEL3,
    VIP,
    A,
    B,
    C,
    policy,
    web,
)

TEXT = bytes(range(256)) * 40


def serve(cluster: Cluster, port: int = 8080) -> None:
    for host in cluster.hosts():
        host.listen(port, echo)
        host.listen_udp(port, shout)


def converse(cluster: Cluster, client: Host, address: int, port: int) -> Connection:
    """Talk to an echo server and close, both ways; gives the client's end."""
    connection = client.connect(address, port)
    connection.write(TEXT)
    cluster.settle()
    assert connection.state is State.OPEN
    assert bytes(connection.received) == TEXT
    connection.close()
    cluster.settle()
    assert connection.finished
    assert connection.retransmissions == 0
    assert not cluster.undelivered
    return connection


def server_side(cluster: Cluster) -> tuple[str, Connection]:
    """The one accepted connection, and the host that has it."""
    ((name, connection),) = [(h.name, c) for h in cluster.hosts() for c in h.accepted]
    assert bytes(connection.received) == TEXT
    assert connection.finished
    return name, connection


# (who, to which address and port, the only endpoint, policy Local, source that it sees)
PATHS = [
    ("pod to ClusterIP, same node", "a", VIP, 80, "b", False, A),
    ("pod to ClusterIP, other node", "a", VIP, 80, "c", False, A),
    ("hairpin", "a", VIP, 80, "a", False, TUNNEL1),
    ("host to ClusterIP, same node", "node1", VIP, 80, "b", False, TUNNEL1),
    ("host to ClusterIP, other node", "node1", VIP, 80, "c", False, TUNNEL1),
    ("host without pods to ClusterIP", "node3", VIP, 80, "c", False, TUNNEL3),
    ("host to loopback NodePort", "node1", LOOPBACK, NODE_PORT, "b", False, TUNNEL1),
    ("host to loopback NodePort, other node", "node1", LOOPBACK, NODE_PORT, "c", False, TUNNEL1),
    ("host to its own NodePort", "node1", NODE1, NODE_PORT, "c", False, TUNNEL1),
    ("outside to NodePort, endpoint here", "client", NODE1, NODE_PORT, "b", False, NODE1),
    ("outside to NodePort, endpoint elsewhere", "client", NODE1, NODE_PORT, "c", False, TUNNEL1),
    ("outside to NodePort, no pods here", "client", NODE3, NODE_PORT, "c", False, TUNNEL3),
    ("internet to NodePort, endpoint here", "internet", NODE1, NODE_PORT, "a", False, NODE1),
    ("outside to NodePort Local", "client", NODE1, NODE_PORT, "b", True, CLIENT),
    ("outside to ClusterIP, endpoint here", "client", VIP, 80, "b", False, NODE1),
    ("outside to ClusterIP, endpoint elsewhere", "client", VIP, 80, "c", False, TUNNEL1),
    ("pod to own NodePort, same node", "a", NODE1, NODE_PORT, "b", False, NODE1),
    ("pod to own NodePort, other node", "a", NODE1, NODE_PORT, "c", False, TUNNEL1),
    ("pod to another node's NodePort", "a", NODE2, NODE_PORT, "c", False, NODE2),
    ("host to another node's NodePort", "node1", NODE2, NODE_PORT, "c", False, NODE2),
    ("pod to pod, same node", "a", B, 8080, "b", False, A),
    ("pod to pod, other node", "a", C, 8080, "c", False, A),
    ("pod to its own node", "a", NODE1, 8080, "node1", False, A),
    ("host to pod, same node", "node1", B, 8080, "b", False, None),
    ("host to pod, other node", "node1", C, 8080, "c", False, TUNNEL1),
    ("pod to outside", "a", INTERNET, 8080, "internet", False, NODE1),
    ("pod to another node", "a", NODE2, 8080, "node2", False, NODE1),
    ("pod to the client", "c", CLIENT, 8080, "client", False, NODE2),
    ("host to outside", "node1", INTERNET, 8080, "internet", False, NODE1),
    ("outside to a node's own port", "client", NODE1, 8080, "node1", False, CLIENT),
]
PROTOCOLS = pytest.mark.parametrize("overlay", list(Overlay), ids=lambda o: o.value)
WAYS = pytest.mark.parametrize(
    ("who", "address", "port", "endpoint", "local", "source"),
    [path[1:] for path in PATHS],
    ids=[path[0] for path in PATHS],
)


def machine(cluster: Cluster, name: str) -> Host:
    for host in cluster.hosts():
        if host.name == name:
            return host
    raise KeyError(name)


def cluster_for(endpoint: str, local: bool, overlay: Overlay, protocol: Protocol) -> Cluster:
    to = [endpoint] if endpoint in "abcd" else []
    service = web(*to, node_port=NODE_PORT, local=local, protocol=protocol)
    cluster = Cluster(policy(service, overlay=overlay), 1)
    cluster.routes["client"] = "node1"
    serve(cluster)
    return cluster


@PROTOCOLS
@WAYS
def test_tcp_arrives_from_the_source_that_the_table_names(
    who: str,
    address: int,
    port: int,
    endpoint: str,
    local: bool,
    source: int | None,
    overlay: Overlay,
) -> None:
    cluster = cluster_for(endpoint, local, overlay, Protocol.TCP)
    client = converse(cluster, machine(cluster, who), address, port)
    name, server = server_side(cluster)
    assert name == endpoint
    if source is not None:
        assert server.ends.peer == source
    masqueraded = who in "abcd" and endpoint not in "abcd" and address != NODE1
    if masqueraded or (who, address) == ("a", NODE2):
        if endpoint not in "abcd":
            assert server.ends.peer_port in MASQUERADE_PORTS
    else:
        assert server.ends.peer_port == client.ends.port
    for node in cluster.nodes.values():
        assert not node.dropped
        assert {flow.state for flow in node.flows()} <= {"TIME_WAIT"}


@PROTOCOLS
@WAYS
def test_udp_arrives_from_the_source_that_the_table_names(
    who: str,
    address: int,
    port: int,
    endpoint: str,
    local: bool,
    source: int | None,
    overlay: Overlay,
) -> None:
    cluster = cluster_for(endpoint, local, overlay, Protocol.UDP)
    client = machine(cluster, who)
    client.send_udp(address, port, b"hello", 40000)
    cluster.settle()
    (asked,) = machine(cluster, endpoint).datagrams[:1]
    if source is not None:
        assert asked.source == source
    (answer,) = client.datagrams[-1:]
    assert (answer.source, answer.source_port, answer.port, answer.data) == (
        address,
        port,
        40000,
        b"HELLO",
    )
    assert not any(node.dropped for node in cluster.nodes.values())


@pytest.mark.parametrize(
    ("who", "address", "port"),
    [("a", VIP, 80), ("client", NODE1, NODE_PORT), ("node1", LOOPBACK, NODE_PORT)],
)
def test_a_large_datagram_is_put_together_translated_and_taken_apart(
    who: str, address: int, port: int
) -> None:
    cluster = cluster_for("c", False, Overlay.VXLAN, Protocol.UDP)
    client, text = machine(cluster, who), bytes(range(97, 123)) * 200
    client.send_udp(address, port, text, 40000)
    cluster.settle()
    (answer,) = client.datagrams
    assert answer.data == text.upper()
    assert (answer.source, answer.source_port) == (address, port)


def test_a_node_counts_as_one_hop() -> None:
    cluster = cluster_for("b", False, Overlay.VXLAN, Protocol.TCP)
    for who, to, hops in [("a", B, 1), ("a", C, 2), ("a", INTERNET, 2), ("a", VIP, 1)]:
        server = {B: "b", C: "c", INTERNET: "internet", VIP: "b"}[to]
        inbox = machine(cluster, server).inbox
        inbox.clear()
        converse_port = 80 if to == VIP else 8080
        machine(cluster, who).connect(to, converse_port)
        cluster.settle()
        assert {packet.ttl for packet in inbox} == {64 - hops}, (who, server)


def test_connections_spread_over_the_endpoints_in_turn() -> None:
    service = web("a", "b", "c", "d", scheduler="rr")
    cluster = Cluster(policy(service), 1)
    serve(cluster)
    for _ in range(12):
        converse(cluster, cluster.nodes["node3"].host, VIP, 80)
    assert {name: len(pod.accepted) for name, pod in cluster.pods.items()} == dict.fromkeys(
        "abcd", 3
    )
