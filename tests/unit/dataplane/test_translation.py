"""Who is translated to what: DESIGN's table of sources, row by row, and the way back."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, OverlayPort, TunPort
from pylb.plan.tables import Backend, FrontendKind
from tests.unit.dataplane.net import (
    BRIDGE,
    CLIENT,
    ICMP,
    INTERNET,
    LOOPBACK,
    NODE,
    PEER,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    TUNNEL,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    backend,
    datagram,
    dataplane,
    ends,
    from_peer,
    frontend,
    inner,
    ip,
    only,
    ping,
    segment,
    syn,
    tun,
)

LOCAL, REMOTE = backend(POD_B), backend(POD_REMOTE)
NODE_PORT = 30080


def to(kind: FrontendKind, target: object, address: int = VIP, port: int = 80) -> object:
    return frontend(address, port, [target], kind=kind)  # type: ignore[list-item]


CLUSTER, PORT = FrontendKind.CLUSTER_IP, FrontendKind.NODE_PORT

# (who, from, kind of frontend, its address and port, backend, source seen by the backend)
ROWS = [
    ("pod to ClusterIP, local backend", POD_A, CLUSTER, VIP, 80, LOCAL, POD_A),
    ("pod to ClusterIP, remote backend", POD_A, CLUSTER, VIP, 80, REMOTE, POD_A),
    ("hairpin", POD_B, CLUSTER, VIP, 80, LOCAL, TUNNEL),
    ("host to ClusterIP, local backend", NODE, CLUSTER, VIP, 80, LOCAL, TUNNEL),
    ("host to ClusterIP, remote backend", NODE, CLUSTER, VIP, 80, REMOTE, TUNNEL),
    ("host to its NodePort", NODE, PORT, NODE, NODE_PORT, LOCAL, TUNNEL),
    ("host to NodePort on loopback", LOOPBACK, PORT, LOOPBACK, NODE_PORT, REMOTE, TUNNEL),
    ("outside to NodePort, local backend", CLIENT, PORT, NODE, NODE_PORT, LOCAL, NODE),
    ("outside to NodePort, remote backend", CLIENT, PORT, NODE, NODE_PORT, REMOTE, TUNNEL),
    ("outside to ClusterIP, local backend", CLIENT, CLUSTER, VIP, 80, LOCAL, NODE),
    ("outside to ClusterIP, remote backend", CLIENT, CLUSTER, VIP, 80, REMOTE, TUNNEL),
    ("pod to NodePort, local backend", POD_A, PORT, NODE, NODE_PORT, LOCAL, NODE),
]


@pytest.mark.parametrize(
    ("client", "kind", "address", "port", "target", "source"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_the_backend_sees_the_source_that_the_table_names(
    client: int, kind: FrontendKind, address: int, port: int, target: object, source: int
) -> None:
    dp = dataplane(to(kind, target, address, port))  # type: ignore[arg-type]
    out = dp.process([tun(syn(client, 40000, address, port))], 0)
    forward = only(out)
    assert ends(forward) == (source, 40000, target.address, 8080)  # type: ignore[attr-defined]
    remote = target is REMOTE
    assert isinstance(out.sent[0].port, OverlayPort if remote else TunPort)
    if remote:
        assert out.sent[0].port.address == PEER

    answer = segment(target.address, 8080, source, 40000, 0x12, 5000, 1001)  # type: ignore[attr-defined]
    back = dp.process([from_peer(answer) if remote else tun(answer)], 1)
    assert ends(only(back)) == (address, port, client, 40000)
    assert back.sent[0].port == TunPort()


@pytest.mark.parametrize(
    ("client", "kind", "address", "port"),
    [
        (POD_A, CLUSTER, VIP, 80),
        (NODE, CLUSTER, VIP, 80),
        (CLIENT, PORT, NODE, NODE_PORT),
        (LOOPBACK, PORT, LOOPBACK, NODE_PORT),
    ],
    ids=["pod", "host", "outside", "loopback"],
)
def test_a_backend_outside_the_cluster_sees_the_node(
    client: int, kind: FrontendKind, address: int, port: int
) -> None:
    """It has no way back to a pod or to a tunnel end: such Services used to time out."""
    dp = dataplane(to(kind, backend(INTERNET, 80), address, port))  # type: ignore[arg-type]
    forward = only(dp.process([tun(syn(client, 40000, address, port))], 0))
    assert (forward.src, forward.dst, forward.dport) == (NODE, INTERNET, 80)
    assert 61000 <= forward.sport <= 65534
    answer = segment(INTERNET, 80, NODE, forward.sport, 0x12, 5000, 1001)
    assert ends(only(dp.process([tun(answer)], 1))) == (address, port, client, 40000)


def test_a_pods_way_outside_is_masqueraded_to_the_reserved_range_and_back() -> None:
    dp = dataplane()
    forward = only(dp.process([tun(syn(POD_A, 40000, INTERNET, 80))], 0))
    assert (forward.src, forward.dst, forward.dport) == (NODE, INTERNET, 80)
    assert 61000 <= forward.sport <= 65534
    answer = segment(INTERNET, 80, NODE, forward.sport, 0x12, 5000, 1001)
    assert ends(only(dp.process([tun(answer)], 1))) == (INTERNET, 80, POD_A, 40000)


def test_another_nodes_address_is_outside() -> None:
    forward = only(dataplane().process([tun(syn(POD_A, 40000, PEER, 22))], 0))
    assert forward.src == NODE


def test_without_masquerade_a_pod_keeps_its_source_outside() -> None:
    forward = only(dataplane(masquerade=False).process([tun(syn(POD_A, 40000, INTERNET, 80))], 0))
    assert ends(forward) == (POD_A, 40000, INTERNET, 80)


def test_ping_through_masquerade_gets_an_identifier_of_the_range() -> None:
    dp = dataplane()
    forward = only(dp.process([tun(ping(POD_A, INTERNET, 7))], 0))
    assert forward.src == NODE
    assert 61000 <= forward.sport <= 65534
    back = only(dp.process([tun(ping(INTERNET, NODE, forward.sport, reply=True))], 1))
    assert (back.src, back.dst, back.sport) == (INTERNET, POD_A, 7)


def test_pod_to_pod_is_tracked_and_untouched() -> None:
    dp = dataplane()
    assert ends(only(dp.process([tun(syn(POD_A, 40000, POD_REMOTE, 80))], 0))) == (
        POD_A,
        40000,
        POD_REMOTE,
        80,
    )
    (flow,) = dp.flows(0)
    assert not flow.snat
    assert not flow.dnat


def test_a_host_process_reaches_a_remote_pod_as_the_tunnel_end() -> None:
    forward = only(dataplane().process([tun(syn(NODE, 40000, POD_REMOTE, 80))], 0))
    assert ends(forward) == (TUNNEL, 40000, POD_REMOTE, 80)


@pytest.mark.parametrize(
    ("src", "dst"),
    [(POD_A, NODE), (POD_A, BRIDGE), (NODE, CLIENT), (CLIENT, NODE), (NODE, POD_A)],
    ids=str,
)
def test_the_nodes_own_traffic_passes_untracked_even_when_it_looks_invalid(
    src: int, dst: int
) -> None:
    """The daemon sees one direction only of some of it: a lone SYN-ACK is not INVALID."""
    dp = dataplane()
    raw = segment(src, 8080, dst, 50000, 0x12, 5000, 1001)
    packet = only(dp.process([tun(raw)], 0))
    assert ends(packet) == (src, 8080, dst, 50000)
    assert not list(dp.flows(0))
    assert dp.counters()["untracked"] == 1


def test_ttl_is_raised_from_tun_to_tun_and_kept_towards_the_overlay() -> None:
    dp = dataplane(frontend(VIP, 80, [LOCAL]), frontend(VIP, 81, [REMOTE]))
    raw = syn(POD_A, 40000, VIP, 80)
    assert raw[8] == 64
    assert inner(dp.process([tun(raw)], 0).sent[0]).ttl == 65
    assert inner(dp.process([tun(syn(POD_A, 40000, VIP, 81))], 0).sent[0]).ttl == 64
    answer = segment(POD_REMOTE, 8080, POD_A, 40000, 0x12, 5000, 1001)
    assert inner(dp.process([from_peer(answer)], 0).sent[0]).ttl == 64


def test_ttl_never_wraps() -> None:
    raw = bytearray(syn(POD_A, 40000, POD_B, 80))
    dp = dataplane()
    from pylb.dataplane.python.packet import parse

    packet = parse(raw)
    packet.set_ttl(255)
    assert inner(dp.process([tun(bytes(packet.data))], 0).sent[0]).ttl == 255


def test_udp_without_a_checksum_stays_without_one() -> None:
    raw = bytearray(datagram(POD_A, 5000, VIP_UDP, 53))
    raw[26:28] = b"\0\0"
    dp = dataplane(frontend(VIP_UDP, 53, [backend(POD_B, 53)], protocol=UDP))
    packet = only(dp.process([tun(bytes(raw))], 0))
    assert ends(packet) == (POD_A, 5000, POD_B, 53)
    assert packet.data[26:28] == b"\0\0"


def test_a_service_without_endpoints_refuses_tcp_with_a_reset() -> None:
    dp = dataplane(frontend(VIP_EMPTY, 80, []))
    out = dp.process([tun(syn(POD_A, 40000, VIP_EMPTY, 80, seq=77))], 0)
    (sent,) = out.sent
    reset = inner(sent)
    assert ends(reset) == (VIP_EMPTY, 80, POD_A, 40000)
    assert reset.data[33] == 0x14
    assert int.from_bytes(reset.data[28:32], "big") == 78
    assert [d.reason for d in out.dropped] == [DropReason.NO_ENDPOINT]


def test_an_unknown_port_of_a_vip_refuses_udp_with_port_unreachable() -> None:
    dp = dataplane(frontend(VIP, 80, [LOCAL]))
    out = dp.process([tun(datagram(POD_A, 5000, VIP, 99))], 0)
    error = inner(out.sent[0])
    assert (error.src, error.dst, error.protocol) == (BRIDGE, POD_A, ICMP)
    assert error.dport == 3 << 8 | 3
    assert [d.reason for d in out.dropped] == [DropReason.NO_SUCH_FRONTEND]


def test_an_unallocated_cluster_ip_is_dropped_and_never_written_back() -> None:
    out = dataplane().process([tun(syn(POD_A, 40000, ip("10.96.7.7"), 80))], 0)
    assert not out.sent
    assert [d.reason for d in out.dropped] == [DropReason.UNALLOCATED_VIP]


def test_local_only_keeps_the_client_and_drops_without_a_local_backend() -> None:
    with_local = dataplane(frontend(NODE, NODE_PORT, [LOCAL], kind=PORT, local_only=True))
    packet = only(with_local.process([tun(syn(CLIENT, 40000, NODE, NODE_PORT))], 0))
    assert packet.src == CLIENT
    without = dataplane(frontend(NODE, NODE_PORT, [], kind=PORT, local_only=True, elsewhere=True))
    out = without.process([tun(syn(CLIENT, 40000, NODE, NODE_PORT))], 0)
    assert not out.sent
    assert [d.reason for d in out.dropped] == [DropReason.NO_LOCAL_ENDPOINT]


@pytest.mark.parametrize("client", [POD_A, CLIENT, NODE])
@pytest.mark.parametrize("local_only", [False, True])
def test_a_backend_that_is_the_node_itself_sees_the_tunnels_end(
    client: int, local_only: bool
) -> None:
    """It saw the node's own address, from the node, and the packet vanished there."""
    process = Backend(NODE, 9099)
    dp = dataplane(frontend(NODE, NODE_PORT, [process], kind=PORT, local_only=local_only))
    asked = only(dp.process([tun(syn(client, 40000, NODE, NODE_PORT))], 0))
    assert ends(asked) == (TUNNEL, 40000, NODE, 9099)
    answer = segment(NODE, 9099, TUNNEL, 40000, 0x12, 5000, 1001)
    assert ends(only(dp.process([tun(answer)], 1))) == (NODE, NODE_PORT, client, 40000)


def test_two_flows_to_one_backend_from_one_port_do_not_share_a_reply_tuple() -> None:
    """A pod asks a Service and its backend directly from one port: the second gets another."""
    dp = dataplane(frontend(VIP, 80, [LOCAL]), frontend(VIP, 81, [LOCAL]))
    first = only(dp.process([tun(syn(POD_A, 40000, VIP, 80))], 0))
    second = only(dp.process([tun(syn(POD_A, 40000, VIP, 81))], 0))
    third = only(dp.process([tun(syn(POD_A, 40000, POD_B, 8080))], 0))
    sources = {first.sport, second.sport, third.sport}
    assert first.sport == 40000
    assert len(sources) == 3
    assert all(1024 <= port <= 65535 for port in sources)
    for sent, destination in ((first, (VIP, 80)), (second, (VIP, 81)), (third, (POD_B, 8080))):
        answer = segment(POD_B, 8080, POD_A, sent.sport, 0x12, 5000, 1001)
        assert ends(only(dp.process([tun(answer)], 1))) == (*destination, POD_A, 40000)


def test_masquerade_ports_run_out_and_a_time_wait_flows_port_is_taken() -> None:
    dp = dataplane(max_flows=10000)
    used = set()
    for i in range(4535):
        packet = only(dp.process([tun(syn(POD_A, 1024 + i, INTERNET, 80))], 0))
        used.add(packet.sport)
    assert used == set(range(61000, 65535))
    out = dp.process([tun(syn(POD_A, 20000, INTERNET, 80))], 0)
    assert [d.reason for d in out.dropped] == [DropReason.SNAT_EXHAUSTED]
    # Another destination has ports of its own: unique per reply tuple, not per port.
    only(dp.process([tun(syn(POD_A, 20000, INTERNET, 81))], 0))

    flow = next(iter(dp.flows(0)))
    port = flow.reply.dport
    client = flow.original.sport
    close_a_connection(dp, client, port)
    again = only(dp.process([tun(syn(POD_A, 20000, INTERNET, 80))], SECOND))
    assert again.sport == port


def close_a_connection(dp: object, client: int, port: int) -> None:
    """Handshake and close the masqueraded flow of ``client`` down to TIME_WAIT."""

    def out(flags: int, seq: int, ack: int) -> None:
        dp.process([tun(segment(POD_A, client, INTERNET, 80, flags, seq, ack))], 0)  # type: ignore[attr-defined]

    def back(flags: int, seq: int, ack: int) -> None:
        dp.process([tun(segment(INTERNET, 80, NODE, port, flags, seq, ack))], 0)  # type: ignore[attr-defined]

    back(0x12, 5000, 1001)
    out(0x10, 1001, 5001)
    out(0x11, 1001, 5001)
    back(0x11, 5001, 1002)
    out(0x10, 1002, 5002)
    states = {f.original.sport: f.state for f in dp.flows(0)}  # type: ignore[attr-defined]
    assert states[client] == "TIME_WAIT"
