"""SCTP associations to Services and out of the cluster; both ends' packets are scripted."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, EventKind
from pylb.policy.model import Policy, Protocol
from pylb.wire import icmp, ipv4, sctp
from tests.sim.clock import DELAY
from tests.sim.cluster import Cluster
from tests.sim.hosts import Host
from tests.sim.packets import Decoded, decode, ip
from tests.sim.test_timeouts import TIMES, Script
from tests.sim.world import (
    INTERNET,
    LB_IP,
    MASQUERADE_PORTS,
    NODE1,
    NODE_PORT,
    TUNNEL1,
    VIP,
    A,
    B,
    C,
    draining,
    policy,
    ready,
    web,
    with_endpoints,
    without_pods,
)
from tests.unit.dataplane.damage import mend, patched
from tests.unit.dataplane.net import tun

KEY = ("default", "web")
ASKER, SERVER = 0x0A0A0A0A, 0x0B0B0B0B
"""The tags that both ends choose."""
BRIDGE1 = ip("10.244.1.1")


def service(*to: str, **more: object) -> Policy:
    return policy(web(*to, protocol=Protocol.SCTP, **more))  # type: ignore[arg-type]


def cluster_of(before: Policy) -> Cluster:
    cluster = Cluster(before, 1)
    for host in cluster.hosts():
        host.silent = True
    return cluster


class Talk:
    """An association of two hosts; the client asks for ``to``.

    Each method sends one packet and gives it as the other end got it, None if it did not.
    """

    def __init__(
        self, cluster: Cluster, client: Host, server: Host, to: tuple[int, int], sport: int = 40000
    ) -> None:
        self.cluster, self.client, self.server = cluster, client, server
        self.to, self.sport = to, sport
        self.seen: Decoded | None = None
        """What the server got last: it answers to that."""

    def c(self, *chunks: bytes, tag: int = SERVER) -> Decoded | None:
        source = self.client.source_for(*self.to)
        raw = sctp.build(source, self.to[0], self.sport, self.to[1], tag, b"".join(chunks))
        self.seen = self._through(self.client, self.server, raw) or self.seen
        return self.seen

    def s(self, *chunks: bytes, tag: int = ASKER) -> Decoded | None:
        assert self.seen is not None
        ends = (self.seen.dst, self.seen.src, self.seen.dport, self.seen.sport)
        raw = sctp.build(*ends, tag, b"".join(chunks))
        return self._through(self.server, self.client, raw)

    def _through(self, sender: Host, receiver: Host, raw: bytes) -> Decoded | None:
        before = len(receiver.inbox)
        sender.send(raw)
        self.cluster.run(20 * DELAY)
        came = [p for p in receiver.inbox[before:] if p.protocol == sctp.PROTOCOL]
        return came[-1] if came else None

    def opens(self) -> None:
        """The four packets of the set-up; each must arrive."""
        assert self.c(sctp.init(ASKER), tag=0)
        answer = self.s(sctp.init(SERVER, ack=True))
        assert answer
        assert (answer.src, answer.sport) == self.to
        assert self.c(sctp.chunk(sctp.COOKIE_ECHO, 0, b"cookie"))
        assert self.s(sctp.chunk(sctp.COOKIE_ACK))


def from_a(cluster: Cluster, backend: str, **more: int) -> Talk:
    return Talk(cluster, cluster.pods["a"], cluster.pods[backend], (VIP, 80), **more)


DATA = sctp.chunk(sctp.DATA, 3, b"\0\0\0\1\0\0\0\0\0\0\0\0some data")


@pytest.mark.parametrize("backend", ["b", "c"])
def test_an_association_from_its_set_up_to_its_end(backend: str) -> None:
    cluster = cluster_of(service(backend))
    talk = from_a(cluster, backend)
    talk.opens()
    (flow,) = cluster.nodes["node1"].flows()
    assert (flow.state, flow.assured, flow.service) == ("ESTABLISHED", True, "default/web")
    assert (flow.reply.src, flow.reply.sport) == ({"b": B, "c": C}[backend], 8080)
    got = talk.c(DATA)
    assert got
    assert got.data == DATA
    assert (got.src, got.sport, got.dport) == (A, 40000, 8080)
    assert talk.s(sctp.chunk(sctp.SACK, 0, bytes(12)), DATA)
    assert talk.c(sctp.chunk(sctp.SHUTDOWN, 0, bytes(4)))
    assert talk.s(sctp.chunk(sctp.SHUTDOWN_ACK))
    assert talk.c(sctp.chunk(sctp.SHUTDOWN_COMPLETE))
    assert [f.state for f in cluster.nodes["node1"].flows()] == ["CLOSED"]
    told = [(e.kind.name, e.flow.state) for e in cluster.nodes["node1"].events]
    assert told == [
        ("NEW", "CLOSED"),
        ("UPDATE", "COOKIE_WAIT"),
        ("UPDATE", "COOKIE_ECHOED"),
        ("UPDATE", "ESTABLISHED"),
        ("UPDATE", "SHUTDOWN_SENT"),
        ("UPDATE", "SHUTDOWN_ACK_SENT"),
        ("UPDATE", "CLOSED"),
    ]
    assert not cluster.nodes["node1"].dropped


@pytest.mark.parametrize("backend", ["b", "c"])
def test_from_outside_to_a_node_port(backend: str) -> None:
    cluster = cluster_of(service(backend, node_port=NODE_PORT))
    client = cluster.outside["client"]
    talk = Talk(cluster, client, cluster.pods[backend], (NODE1, NODE_PORT))
    talk.opens()
    assert talk.seen
    assert talk.seen.src == {"b": NODE1, "c": TUNNEL1}[backend]
    assert talk.c(DATA)
    assert talk.s(DATA)


def test_a_node_asks_its_own_node_port() -> None:
    cluster = cluster_of(service("b", node_port=NODE_PORT))
    Talk(cluster, cluster.nodes["node1"].host, cluster.pods["b"], (NODE1, NODE_PORT)).opens()


def test_a_pod_that_is_its_own_backend() -> None:
    cluster = cluster_of(service("a"))
    talk = from_a(cluster, "a")
    talk.opens()
    assert talk.seen
    assert talk.seen.src == TUNNEL1


def test_a_load_balancer_address() -> None:
    cluster = cluster_of(service("b", balancer=LB_IP))
    Talk(cluster, cluster.pods["a"], cluster.pods["b"], (LB_IP, 80)).opens()


def test_masquerade_gives_ports_of_its_range() -> None:
    cluster = cluster_of(policy())
    outside = cluster.outside["internet"]
    ports = set()
    for name in "ab":
        talk = Talk(cluster, cluster.pods[name], outside, (INTERNET, 9))
        talk.opens()
        assert talk.seen
        assert talk.seen.src == NODE1
        assert talk.s(DATA)
        ports.add(talk.seen.sport)
    assert len(ports) == 2
    assert ports <= set(MASQUERADE_PORTS)


@pytest.mark.parametrize("size", [28, 32, 40, 60, 548])
def test_an_error_about_a_masqueraded_packet_quotes_what_was_sent(size: int) -> None:
    cluster = cluster_of(policy())
    pod, outside = cluster.pods["a"], cluster.outside["internet"]
    init = sctp.chunk(sctp.INIT, 0, sctp.init(ASKER)[4:] + bytes(500))
    sent = sctp.build(A, INTERNET, 40000, 9, 0, init)
    pod.send(sent)
    cluster.settle()
    (came,) = outside.inbox
    about = patched(came.raw, 8, b"\x40")
    outside.send(icmp.error(3, 3, 0, mend(about, transport=False)[:size], INTERNET, NODE1))
    cluster.settle()
    (error,) = pod.inbox
    # All that was quoted is what the pod sent, SCTP's checksum included, if it was quoted.
    quoted = error.data
    assert quoted[20:] == sent[20:size]
    assert quoted[12:20] == sent[12:20]


@pytest.mark.parametrize(("to", "port"), [(VIP, 80), (VIP, 81)], ids=["no endpoint", "no port"])
def test_what_a_service_does_not_serve_is_refused(to: int, port: int) -> None:
    cluster = cluster_of(service())
    pod = cluster.pods["a"]
    pod.send(sctp.build(A, to, 40000, port, 0, sctp.init(ASKER)))
    cluster.settle()
    (refusal,) = pod.inbox
    assert (refusal.src, refusal.kind, refusal.code) == (BRIDGE1, 3, 3)
    reason = DropReason.NO_ENDPOINT if port == 80 else DropReason.NO_SUCH_FRONTEND
    assert cluster.nodes["node1"].reasons() == [reason]


@pytest.mark.parametrize("sender", ["client", "server"])
def test_an_association_lives_while_its_backend_drains_and_is_aborted_when_it_is_gone(
    sender: str,
) -> None:
    cluster = cluster_of(service("b"))
    pod = cluster.pods["b"]
    talk = from_a(cluster, "b")
    talk.opens()
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), ready("c")))
    assert talk.c(DATA)
    cluster.change(with_endpoints(cluster.policy, KEY, ready("c")))
    assert talk.s(DATA)
    cluster.change(without_pods(cluster.policy, "b"))
    # The pod is gone for the policy; its last words may still be under way.
    cluster.pods["b"] = pod
    last = talk.c(DATA) if sender == "client" else talk.s(DATA)
    for host, peer, tag in ((talk.client, (VIP, 80), ASKER), (pod, (A, 40000), SERVER)):
        got = host.inbox[-1]
        assert (got.src, got.sport, got.seq) == (*peer, tag)
        assert got.data == sctp.chunk(sctp.ABORT)
    assert last is None or last.data != DATA
    node = cluster.nodes["node1"]
    assert node.reasons() == [DropReason.BACKEND_GONE]
    assert node.dataplane.counters()["reset"] == 1
    # Closed, it stays: who has missed the ABORT gets another.
    assert [flow.state for flow in node.flows()] == ["CLOSED"]
    before = len(talk.client.inbox)
    talk.client.send(sctp.build(A, VIP, 40000, 80, SERVER, DATA))
    cluster.run(20 * DELAY)
    assert [p.data for p in talk.client.inbox[before:]] == [sctp.chunk(sctp.ABORT)]
    cluster.jump(11)
    assert not node.flows()


def test_the_clients_next_init_is_balanced_anew_when_the_backend_is_gone() -> None:
    cluster = cluster_of(service("b"))
    talk = from_a(cluster, "b")
    talk.opens()
    gone = with_endpoints(cluster.policy, KEY, ready("c"))
    cluster.change(without_pods(gone, "b"))
    again = from_a(cluster, "c")
    again.opens()
    assert not cluster.nodes["node1"].dropped


def test_nobody_is_aborted_in_answer_to_an_abort() -> None:
    cluster = cluster_of(service("b"))
    talk = from_a(cluster, "b")
    talk.opens()
    cluster.change(without_pods(with_endpoints(cluster.policy, KEY), "b"))
    before = len(talk.client.inbox)
    talk.client.send(sctp.abort(A, VIP, 40000, 80, SERVER))
    cluster.settle()
    assert len(talk.client.inbox) == before
    assert [p.data for p in map(decode, cluster.undelivered)] == [sctp.chunk(sctp.ABORT)]


def test_before_the_backend_has_answered_the_client_gets_its_own_tag_back() -> None:
    cluster = cluster_of(service("b"))
    talk = from_a(cluster, "b")
    talk.c(sctp.chunk(sctp.HEARTBEAT, 0, b"\0\1\0\4"), tag=77)
    cluster.change(without_pods(with_endpoints(cluster.policy, KEY), "b"))
    talk.client.send(sctp.build(A, VIP, 40000, 80, 77, sctp.chunk(sctp.HEARTBEAT)))
    cluster.settle()
    got = talk.client.inbox[-1]
    assert (got.seq, got.data) == (77, sctp.chunk(sctp.ABORT, sctp.REFLECTED))


def test_an_init_to_a_closed_association_is_balanced_anew() -> None:
    """The kernel keeps the old backend; a Service's new associations go to ready ones."""
    cluster = cluster_of(service("b"))
    talk = from_a(cluster, "b")
    talk.opens()
    cluster.change(with_endpoints(cluster.policy, KEY, draining("b"), ready("c")))
    assert talk.c(sctp.chunk(sctp.ABORT))
    from_a(cluster, "c").opens()
    kinds = [e.kind for e in cluster.nodes["node1"].events]
    assert kinds.count(EventKind.DESTROY) == 1
    assert kinds.count(EventKind.NEW) == 2


def test_a_wrong_checksum_is_dropped_where_it_would_be_translated_and_kept_elsewhere() -> None:
    cluster = cluster_of(service("b"))
    dataplane = cluster.nodes["node1"].dataplane
    raw = sctp.build(A, VIP, 40000, 80, 0, sctp.init(ASKER))
    cluster.nodes["node1"].take(dataplane.process([tun(_wrong(raw))], cluster.clock.now))
    assert cluster.nodes["node1"].reasons() == [DropReason.BAD_L4_CHECKSUM]
    assert not cluster.nodes["node1"].flows()
    direct = _wrong(sctp.build(A, B, 40000, 80, 0, sctp.init(ASKER)))
    out = dataplane.process([tun(direct)], cluster.clock.now)
    (sent,) = out.sent
    assert sent.data[20:] == direct[20:]
    assert not cluster.nodes["node1"].flows()


def _wrong(raw: bytes) -> bytes:
    return patched(raw, 28, bytes((raw[28] ^ 1,)))


@pytest.mark.parametrize("length", [0, 4, 11])
def test_a_header_that_is_cut_off_is_dropped(length: int) -> None:
    cluster = cluster_of(service("b"))
    raw = ipv4.build(A, B, sctp.PROTOCOL, bytes(length))
    out = cluster.nodes["node1"].dataplane.process([tun(raw)], 0)
    assert [dropped.reason for dropped in out.dropped] == [DropReason.BAD_L4_HEADER]


def test_data_without_an_association_begins_none() -> None:
    cluster = cluster_of(service("b"))
    cluster.pods["a"].send(sctp.build(A, VIP, 40000, 80, SERVER, DATA))
    cluster.settle()
    assert cluster.nodes["node1"].reasons() == [DropReason.INVALID_STATE]


def test_least_connection_counts_associations_that_are_established() -> None:
    cluster = cluster_of(service("b", "c", scheduler="lc"))
    backends = {B: "b", C: "c"}
    counts = {"b": 0, "c": 0}
    node = cluster.nodes["node1"]
    for port in range(40000, 40006):
        raw = sctp.build(A, VIP, port, 80, 0, sctp.init(ASKER))
        cluster.pods["a"].send(raw)
        cluster.run(20 * DELAY)
        flow = node.flows()[-1]
        chosen = backends[flow.reply.src]
        counts[chosen] += 1
        talk = from_a(cluster, chosen, sport=port)
        talk.seen = cluster.pods[chosen].inbox[-1]
        assert talk.s(sctp.init(SERVER, ack=True))
        assert talk.c(sctp.chunk(sctp.COOKIE_ECHO))
        if chosen == "c":
            assert talk.s(sctp.chunk(sctp.COOKIE_ACK))
    # An established one outweighs many that are not: after c's first, all go to b.
    assert counts == {"b": 5, "c": 1}


@pytest.mark.parametrize(
    ("packets", "state", "timeout"),
    [
        ("i", "CLOSED", "closed"),
        ("ia", "COOKIE_WAIT", "cookie_wait"),
        ("iae", "COOKIE_ECHOED", "cookie_echoed"),
        ("iaek", "ESTABLISHED", "established"),
        ("iaekd", "ESTABLISHED", "established"),
        ("iaeks", "SHUTDOWN_SENT", "shutdown_sent"),
        ("iaekS", "SHUTDOWN_RECD", "shutdown_recd"),
        ("iaeksA", "SHUTDOWN_ACK_SENT", "shutdown_ack_sent"),
        ("iaeksAC", "CLOSED", "closed"),
        ("h", "HEARTBEAT_SENT", "heartbeat_sent"),
        ("hH", "ESTABLISHED", "established"),
    ],
)
def test_timeouts(packets: str, state: str, timeout: str) -> None:
    x = Script(Protocol.SCTP)
    scripts: dict[str, tuple[bool, int, bytes]] = {
        "i": (True, 0, sctp.init(ASKER)),
        "a": (False, ASKER, sctp.init(SERVER, ack=True)),
        "e": (True, SERVER, sctp.chunk(sctp.COOKIE_ECHO)),
        "k": (False, ASKER, sctp.chunk(sctp.COOKIE_ACK)),
        "d": (True, SERVER, DATA),
        "s": (True, SERVER, sctp.chunk(sctp.SHUTDOWN)),
        "S": (False, ASKER, sctp.chunk(sctp.SHUTDOWN)),
        "A": (False, ASKER, sctp.chunk(sctp.SHUTDOWN_ACK)),
        "C": (True, SERVER, sctp.chunk(sctp.SHUTDOWN_COMPLETE)),
        "h": (True, SERVER, sctp.chunk(sctp.HEARTBEAT)),
        "H": (False, ASKER, sctp.chunk(sctp.HEARTBEAT_ACK)),
    }
    for each in packets:
        client, tag, chunk = scripts[each]
        if client:
            x.send(x.client, sctp.build(A, VIP, 40000, 80, tag, chunk))
        else:
            x.send(x.server, sctp.build(B, A, 8080, 40000, tag, chunk))
    assert x.state() == state
    x.dies_after(getattr(TIMES, f"sctp_{timeout}"))


def test_a_retransmitted_init_renews_nothing() -> None:
    x = Script(Protocol.SCTP)
    x.send(x.client, sctp.build(A, VIP, 40000, 80, 0, sctp.init(ASKER)))
    first = x.last
    x.cluster.jump(TIMES.sctp_closed - 2)
    x.send(x.client, sctp.build(A, VIP, 40000, 80, 0, sctp.init(ASKER)))
    x.last = first
    x.dies_after(TIMES.sctp_closed)


def test_a_second_port_of_the_service_for_another_protocol_is_its_own() -> None:
    """The same address and port by TCP and SCTP are two frontends."""
    tcp_too = web("c", name="other", protocol=Protocol.TCP, vip=VIP)
    sctp_one = web("b", protocol=Protocol.SCTP)
    cluster = cluster_of(policy(sctp_one, tcp_too))
    from_a(cluster, "b").opens()
    assert {key.protocol for key in cluster.nodes["node1"].plan.frontends} == {6, 132}
