"""Pods and the world outside: masquerade, ping, and ICMP errors on their way back."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, FlowFilter
from pylb.policy.model import Overlay, Protocol
from pylb.wire import icmp, ipv4, tcp
from tests.sim.cluster import Cluster
from tests.sim.hosts import echo, shout
from tests.sim.packets import ICMP, SYN, TIME_EXCEEDED, UNREACHABLE, Decoded, Quoted, ip, quoted
from tests.sim.world import (
    CLIENT,
    INTERNET,
    MASQUERADE_PORTS,
    NODE1,
    NODE2,
    NODE_PORT,
    TUNNEL2,
    VIP,
    A,
    B,
    C,
    policy,
    web,
)

BRIDGE1, ROUTER = ip("10.244.1.1"), ip("192.168.50.254")
TCP, UDP = 6, 17


def only(packets: list[Decoded]) -> Decoded:
    (packet,) = packets
    return packet


def test_ping_through_masquerade_is_renumbered_and_comes_back() -> None:
    cluster = Cluster(policy(), 1)
    for name in "ab":
        cluster.pods[name].ping(INTERNET, ident=7)
    cluster.settle()
    seen = cluster.outside["internet"].inbox
    assert {packet.src for packet in seen} == {NODE1}
    assert len({packet.ident for packet in seen}) == 2
    assert all(packet.ident in MASQUERADE_PORTS for packet in seen)
    for name in "ab":
        (pong,) = cluster.pods[name].pongs
        assert (pong.source, pong.ident, pong.data) == (INTERNET, 7, b"ping" * 4)


@pytest.mark.parametrize("to", [B, C, NODE1, BRIDGE1, NODE2, INTERNET], ids=hex)
def test_a_pod_can_ping_everything_real(to: int) -> None:
    cluster = Cluster(policy(), 1)
    cluster.pods["a"].ping(to)
    cluster.settle()
    assert [pong.source for pong in cluster.pods["a"].pongs] == [to]


@pytest.mark.parametrize(
    ("who", "to"), [("node1", B), ("node1", C), ("node3", C), ("node1", NODE2)]
)
def test_a_node_can_ping_pods_and_nodes(who: str, to: int) -> None:
    cluster = Cluster(policy(), 1)
    host = cluster.nodes[who].host
    host.ping(to)
    cluster.settle()
    assert [pong.source for pong in host.pongs] == [to]


def test_ping_of_a_node_from_outside_is_the_nodes_own_business() -> None:
    cluster = Cluster(policy(), 1)
    client = cluster.outside["client"]
    client.ping(NODE1)
    cluster.settle()
    assert [pong.source for pong in client.pongs] == [NODE1]
    assert not cluster.nodes["node1"].flows()


def test_two_pods_with_one_port_to_one_server_stay_apart() -> None:
    cluster = Cluster(policy(), 1)
    cluster.outside["internet"].listen(80, echo)
    ends = [cluster.pods[name].connect(INTERNET, 80, sport=40000) for name in "ab"]
    for i, connection in enumerate(ends):
        connection.write(bytes([65 + i]) * 5000)
    cluster.settle()
    assert [bytes(c.received) for c in ends] == [b"A" * 5000, b"B" * 5000]
    ports = {c.ends.peer_port for c in cluster.outside["internet"].accepted}
    assert len(ports) == 2


def test_without_masquerade_the_pods_address_goes_outside() -> None:
    cluster = Cluster(policy(masquerade=False), 1)
    cluster.routes["internet"] = "node1"
    cluster.outside["internet"].listen(80, echo)
    connection = cluster.pods["a"].connect(INTERNET, 80)
    connection.write(b"hello")
    cluster.settle()
    assert bytes(connection.received) == b"hello"
    assert only_end(cluster) == A


def only_end(cluster: Cluster) -> int:
    (server,) = cluster.outside["internet"].accepted
    return server.ends.peer


def closed_udp(cluster: Cluster, who: str, address: int, port: int) -> tuple[int, Quoted]:
    """Ask a closed UDP port; gives who refused and what the client's error quotes."""
    hosts = {host.name: host for host in cluster.hosts()}
    hosts[who].send_udp(address, port, b"anyone?", 40000)
    cluster.settle()
    (error,) = hosts[who].errors
    assert (error.kind, error.code) == (UNREACHABLE, 3)
    return error.source, error.about


@pytest.mark.parametrize("overlay", list(Overlay), ids=lambda o: o.value)
@pytest.mark.parametrize(
    ("who", "address", "port", "endpoint"),
    [
        ("a", INTERNET, 99, ""),
        ("a", VIP, 80, "b"),
        ("a", VIP, 80, "c"),
        ("a", VIP, 80, "a"),
        ("node1", VIP, 80, "c"),
        ("client", NODE1, NODE_PORT, "b"),
        ("client", NODE1, NODE_PORT, "c"),
        ("a", C, 99, ""),
        ("a", B, 99, ""),
    ],
)
def test_port_unreachable_finds_its_way_back_and_quotes_what_was_sent(
    who: str, address: int, port: int, endpoint: str, overlay: Overlay
) -> None:
    service = web(*endpoint, node_port=NODE_PORT, protocol=Protocol.UDP)
    cluster = Cluster(policy(service, overlay=overlay), 1)
    client = {host.name: host.address for host in cluster.hosts()}[who]
    source, about = closed_udp(cluster, who, address, port)
    assert source == address, "the refusal comes from whom the client asked"
    assert about == Quoted(client, address, UDP, 40000, port)


@pytest.mark.parametrize("who", ["a", "client", "node1"])
def test_a_service_without_endpoints_refuses(who: str) -> None:
    for protocol in (Protocol.TCP, Protocol.UDP):
        cluster = Cluster(policy(web(node_port=NODE_PORT, protocol=protocol)), 1)
        host = {host.name: host for host in cluster.hosts()}[who]
        if protocol is Protocol.UDP:
            _, about = closed_udp(cluster, who, NODE1, NODE_PORT)
            assert about == Quoted(host.address, NODE1, UDP, 40000, NODE_PORT)
        else:
            connection = host.connect(NODE1, NODE_PORT)
            cluster.settle()
            assert connection.reset
        assert cluster.nodes["node1"].reasons() == [DropReason.NO_ENDPOINT]


def test_a_closed_tcp_port_resets_through_a_service_and_leaves_no_flow() -> None:
    cluster = Cluster(policy(web("c")), 1)
    connection = cluster.pods["a"].connect(VIP, 80)
    cluster.settle()
    assert connection.reset
    cluster.jump(11)
    assert not any(node.flows() for node in cluster.nodes.values())


def test_an_unreachable_network_outside_is_told_with_the_routers_address() -> None:
    """A router between us and the server answers: its own address stays, the quote is ours."""
    cluster = Cluster(policy(), 1)
    internet = cluster.outside["internet"]
    internet.silent = True
    connection = cluster.pods["a"].connect(INTERNET, 80, sport=40000)
    cluster.run(1_000_000)
    syn = only(internet.inbox)
    assert syn.src == NODE1
    router = cluster.outside["client"]  # any other machine plays the router
    router.send(icmp.error(UNREACHABLE, 1, 0, syn.raw, CLIENT, NODE1))
    cluster.run(1_000_000)
    (error,) = cluster.pods["a"].errors
    assert (error.source, error.kind, error.code) == (CLIENT, UNREACHABLE, 1)
    assert error.about == Quoted(A, INTERNET, TCP, 40000, 80)
    assert not connection.reset


def test_fragmentation_needed_beyond_a_router_reaches_the_pod_with_the_mtu() -> None:
    cluster = Cluster(policy(), 1)
    internet = cluster.outside["internet"]
    internet.listen(80, lambda c: None)
    connection = cluster.pods["a"].connect(INTERNET, 80, sport=40000)
    connection.write(b"x" * 900)
    cluster.settle()
    large = max(internet.inbox, key=lambda packet: len(packet.raw))
    cluster.outside["client"].send(icmp.error(UNREACHABLE, 4, 576, large.raw, CLIENT, NODE1))
    cluster.settle()
    (error,) = cluster.pods["a"].errors
    assert (error.kind, error.code, error.rest) == (UNREACHABLE, 4, 576)
    assert error.about == Quoted(A, INTERNET, TCP, 40000, 80)


@pytest.mark.parametrize(("who", "to"), [("a", C), ("a", VIP), ("node1", C)])
def test_a_packet_too_big_for_the_overlay_is_answered_with_its_mtu(who: str, to: int) -> None:
    """Where the sender's own interface would have let it pass: frag needed, overlay's MTU."""
    cluster = Cluster(policy(web("c")), 1)
    host = {host.name: host for host in cluster.hosts()}[who]
    host.mtu = 65535
    port = 80 if to == VIP else 8080
    source = host.source_for(to, port)
    packet = tcp.build(source, to, 40000, port, 1, 0, SYN, 65535, b"", b"x" * 1440)
    assert len(packet) == 1480
    cluster.nodes["node1"].into_tun(packet)
    cluster.settle()
    error = only([p for p in host.inbox if p.protocol == ICMP])
    assert (error.kind, error.code, error.seq) == (UNREACHABLE, 4, 1450)
    assert quoted(error) == Quoted(source, to, TCP, 40000, port)


def test_an_icmp_error_about_nothing_that_we_know_is_not_let_in() -> None:
    cluster = Cluster(policy(), 1)
    never_sent = tcp.build(NODE1, INTERNET, 61001, 80, 1, 0, SYN, 1)
    cluster.outside["client"].send(icmp.error(UNREACHABLE, 1, 0, never_sent, CLIENT, NODE1))
    cluster.settle()
    assert not any(pod.inbox for pod in cluster.pods.values())


def test_an_unsolicited_echo_reply_from_outside_reaches_no_pod() -> None:
    cluster = Cluster(policy(), 1)
    cluster.outside["internet"].send(icmp.echo(INTERNET, NODE1, 61001, 1, b"", reply=True))
    cluster.settle()
    assert not any(pod.inbox for pod in cluster.pods.values())
    assert not cluster.nodes["node1"].flows()


def traced(cluster: Cluster, who: str, to: int, hops: int) -> list[int]:
    """As traceroute: who answers to a TTL of 1, 2 and so on."""
    host = {host.name: host for host in cluster.hosts()}[who]
    answered = []
    for ttl in range(1, hops + 1):
        host.errors.clear()
        host.pongs.clear()
        host.ping(to, ident=100 + ttl, ttl=ttl)
        cluster.settle()
        errors = [e.source for e in host.errors if e.kind == TIME_EXCEEDED]
        answered += errors or [pong.source for pong in host.pongs] or [0]
        for error in host.errors:
            assert (error.about.src, error.about.dst) == (host.address, to)
            assert error.about.sport == 100 + ttl
    return answered


@pytest.mark.parametrize(
    ("who", "to", "hops"),
    [("a", B, [BRIDGE1, B]), ("a", INTERNET, [BRIDGE1, ROUTER, INTERNET]), ("node1", B, [B])],
    ids=["pod to pod", "pod to outside", "node to pod"],
)
def test_traceroute_counts_a_node_once(who: str, to: int, hops: list[int]) -> None:
    assert traced(Cluster(policy(), 1), who, to, len(hops)) == hops


def test_traceroute_over_the_overlay_names_both_nodes() -> None:
    first, second, third = traced(Cluster(policy(), 1), "a", C, 3)
    assert (first, third) == (BRIDGE1, C)
    assert second in (NODE2, TUNNEL2)


def test_unknown_protocols_pass_through_masquerade_and_back() -> None:
    cluster = Cluster(policy(), 1)
    internet, pod = cluster.outside["internet"], cluster.pods["a"]
    pod.send(ipv4.build(A, INTERNET, 33, b"\x0f\xa0\x00\x50" + bytes(12)))
    cluster.settle()
    asked = only(internet.inbox)
    assert (asked.src, asked.protocol) == (NODE1, 33)
    internet.send(ipv4.build(INTERNET, NODE1, 33, b"\x00\x50\x0f\xa0" + bytes(12)))
    cluster.settle()
    assert only(pod.inbox).src == INTERNET


def test_delete_cuts_a_masqueraded_flow_off() -> None:
    cluster = Cluster(policy(), 1)
    cluster.outside["internet"].listen_udp(53, shout)
    pod, node = cluster.pods["a"], cluster.nodes["node1"]
    pod.send_udp(INTERNET, 53, b"one", 40000)
    cluster.settle()
    (flow,) = node.flows()
    count, _ = node.dataplane.delete(FlowFilter(id=flow.id), cluster.clock.now)
    assert count == 1
    cluster.outside["internet"].send_udp(NODE1, flow.reply.dport, b"late", 53)
    cluster.settle()
    assert [d.data for d in pod.datagrams] == [b"ONE"]


def test_a_client_outside_reaches_a_pod_directly_by_route() -> None:
    """Outside to a pod's own address through its node: tracked, not translated."""
    cluster = Cluster(policy(), 1)
    cluster.routes["client"] = "node1"
    cluster.pods["b"].listen_udp(8080, shout)
    cluster.outside["client"].send_udp(B, 8080, b"hi", 40000)
    cluster.settle()
    (asked,) = cluster.pods["b"].datagrams
    assert asked.source == CLIENT
    assert [d.data for d in cluster.outside["client"].datagrams] == [b"HI"]
