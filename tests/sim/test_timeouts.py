"""Every conntrack timeout, to the nanosecond, by jumping the clock.

The timeouts here are all different from each other and from the defaults, so
that one in another's place is noticed.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from pylb.dataplane.base import EventKind
from pylb.plan.tables import Timeouts
from pylb.policy.model import Protocol
from pylb.wire import icmp, ipv4, tcp, udp
from tests.sim.clock import DELAY, SECOND
from tests.sim.cluster import Cluster
from tests.sim.hosts import Host, echo
from tests.sim.node import SimNode
from tests.sim.packets import ACK, FIN, PSH, RST, SYN
from tests.sim.world import INTERNET, VIP, A, B, policy, web

TIMES = Timeouts(
    tcp_syn_sent=113,
    tcp_syn_recv=61,
    tcp_established=43201,
    tcp_fin_wait=127,
    tcp_close_wait=67,
    tcp_last_ack=31,
    tcp_time_wait=131,
    tcp_close=11,
    tcp_max_retrans=307,
    tcp_unacknowledged=311,
    udp=37,
    udp_stream=137,
    icmp=41,
    gre=43,
    gre_stream=179,
    generic=601,
    sctp_closed=12,
    sctp_cookie_wait=5,
    sctp_cookie_echoed=7,
    sctp_established=211,
    sctp_shutdown_sent=17,
    sctp_shutdown_recd=19,
    sctp_shutdown_ack_sent=23,
    sctp_heartbeat_sent=29,
)


class Script:
    """Two silent pods on one node, and the packets that a test has them send."""

    def __init__(self, protocol: Protocol = Protocol.TCP) -> None:
        self.cluster = Cluster(policy(web("b", protocol=protocol)), 1)
        self.node: SimNode = self.cluster.nodes["node1"]
        self.client, self.server = self.cluster.pods["a"], self.cluster.pods["b"]
        self.client.silent = self.server.silent = True
        self.node.dataplane.load(replace(self.node.plan, timeouts=TIMES), 0)
        self.last = 0

    def send(self, host: Host, raw: bytes) -> None:
        """``last`` becomes the time at which the packet meets the dataplane."""
        self.last = self.cluster.clock.now + DELAY
        host.send(raw)
        self.cluster.run(10 * DELAY)

    def c(self, flags: int, seq: int, ack: int = 0, data: bytes = b"") -> None:
        """A segment of the client's, sequence numbers from 0."""
        raw = tcp.build(A, VIP, 40000, 80, 1000 + seq, 5000 + ack, flags, 65535, b"", data)
        self.send(self.client, raw)

    def s(self, flags: int, seq: int, ack: int, data: bytes = b"") -> None:
        """A segment of the server's."""
        raw = tcp.build(B, A, 8080, 40000, 5000 + seq, 1000 + ack, flags, 65535, b"", data)
        self.send(self.server, raw)

    def established(self) -> None:
        self.c(SYN, 0)
        self.s(SYN | ACK, 0, 1)
        self.c(ACK, 1, 1)

    def state(self) -> str:
        (flow,) = self.node.flows()
        return flow.state

    def dies_after(self, seconds: int) -> None:
        """The one flow lives until exactly ``seconds`` after the last packet, and no longer."""
        end = self.last + seconds * SECOND
        self.cluster.run(end - 1 - self.cluster.clock.now)
        assert len(self.node.flows()) == 1
        assert all(event.kind is not EventKind.DESTROY for event in self.node.events)
        self.cluster.run(1)
        assert not self.node.flows()
        assert (self.node.events[-1].kind, self.node.events[-1].at) == (EventKind.DESTROY, end)
        assert self.node.dataplane.counters()["flows"] == 0


def syn_sent(x: Script) -> None:
    x.c(SYN, 0)


def syn_recv(x: Script) -> None:
    syn_sent(x)
    x.s(SYN | ACK, 0, 1)


def established(x: Script) -> None:
    x.established()


def fin_wait(x: Script) -> None:
    x.established()
    x.c(FIN | ACK, 1, 1)


def close_wait(x: Script) -> None:
    fin_wait(x)
    x.s(ACK, 1, 2)


def last_ack(x: Script) -> None:
    close_wait(x)
    x.s(FIN | ACK, 1, 2)


def time_wait(x: Script) -> None:
    last_ack(x)
    x.c(ACK, 2, 2)


def close(x: Script) -> None:
    x.established()
    x.c(RST, 1)


def close_from_the_server(x: Script) -> None:
    x.established()
    x.s(RST, 1, 0)


def unacknowledged(x: Script) -> None:
    x.established()
    x.c(PSH | ACK, 1, 1, b"hello")


def max_retrans(x: Script) -> None:
    x.established()
    for _ in range(5):
        x.c(PSH | ACK, 1, 1, b"hello")


def acknowledged(x: Script) -> None:
    max_retrans(x)
    x.s(ACK, 1, 6)


@pytest.mark.parametrize(
    ("drive", "state", "timeout"),
    [
        (syn_sent, "SYN_SENT", "tcp_syn_sent"),
        (syn_recv, "SYN_RECV", "tcp_syn_recv"),
        (established, "ESTABLISHED", "tcp_established"),
        (fin_wait, "FIN_WAIT", "tcp_fin_wait"),
        (close_wait, "CLOSE_WAIT", "tcp_close_wait"),
        (last_ack, "LAST_ACK", "tcp_last_ack"),
        (time_wait, "TIME_WAIT", "tcp_time_wait"),
        (close, "CLOSE", "tcp_close"),
        (close_from_the_server, "CLOSE", "tcp_close"),
        (unacknowledged, "ESTABLISHED", "tcp_unacknowledged"),
        (max_retrans, "ESTABLISHED", "tcp_max_retrans"),
        (acknowledged, "ESTABLISHED", "tcp_established"),
    ],
    ids=lambda x: x.__name__ if callable(x) else None,
)
def test_tcp_timeouts(drive: object, state: str, timeout: str) -> None:
    x = Script()
    assert callable(drive)
    drive(x)
    assert x.state() == state
    x.dies_after(getattr(TIMES, timeout))


def test_the_table_above_differs_everywhere() -> None:
    values = [getattr(TIMES, each.name) for each in fields(TIMES)]
    assert len(set(values)) == len(values)
    assert all(getattr(TIMES, f.name) != getattr(Timeouts(), f.name) for f in fields(TIMES))


def test_a_retransmitted_syn_renews_nothing() -> None:
    x = Script()
    x.c(SYN, 0)
    first = x.last
    x.cluster.jump(100)
    x.c(SYN, 0)
    x.last = first
    x.dies_after(TIMES.tcp_syn_sent)


def test_each_packet_renews_an_established_flow() -> None:
    x = Script()
    x.established()
    for i in range(5):
        x.cluster.jump(TIMES.tcp_established - 1)
        x.c(PSH | ACK, 1 + i, 1, b"x")
        x.s(ACK, 1, 2 + i)
    x.dies_after(TIMES.tcp_established)


def test_udp_without_and_with_a_reply() -> None:
    for replies, wait, timeout in (
        (0, 0, TIMES.udp),
        (1, 0, TIMES.udp),
        (1, 3, TIMES.udp_stream),
    ):
        x = Script(Protocol.UDP)
        x.send(x.client, udp.build(A, VIP, 40000, 80, b"q"))
        x.cluster.jump(wait)
        if replies:
            x.send(x.server, udp.build(B, A, 8080, 40000, b"a"))
            x.send(x.client, udp.build(A, VIP, 40000, 80, b"q"))
        (flow,) = x.node.flows()
        assert flow.assured is (timeout == TIMES.udp_stream)
        x.dies_after(timeout)


def test_icmp_gre_and_the_generic_timeout() -> None:
    x = Script()
    x.send(x.client, icmp.echo(A, B, 7, 1))
    x.dies_after(TIMES.icmp)
    x = Script()
    x.send(x.client, ipv4.build(A, B, 47, bytes(8)))
    x.dies_after(TIMES.gre)
    x = Script()
    x.send(x.client, ipv4.build(A, B, 47, bytes(8)))
    x.send(x.server, ipv4.build(B, A, 47, bytes(8)))
    x.send(x.client, ipv4.build(A, B, 47, bytes(8)))
    x.dies_after(TIMES.gre_stream)
    x = Script()
    x.send(x.client, ipv4.build(A, B, 99, bytes(8)))
    x.send(x.server, ipv4.build(B, A, 99, bytes(8)))
    x.dies_after(TIMES.generic)


def test_flows_that_die_together_are_destroyed_in_order_of_deadline_and_creation() -> None:
    x = Script()
    ids = []
    for port in (40001, 40002, 40003):
        x.client.send(udp.build(A, B, port, 9, b"q"))
        ids.append(port)
    x.cluster.run(10 * DELAY)
    x.cluster.jump(1000)
    ended = [e.flow.original.sport for e in x.node.events if e.kind is EventKind.DESTROY]
    assert ended == ids


def test_an_idle_connection_works_after_four_days_and_is_picked_up_after_six() -> None:
    cluster = Cluster(policy(web("c", scheduler="random")), 1)
    cluster.pods["c"].listen(8080, echo)
    connection = cluster.pods["a"].connect(VIP, 80)
    text = b""
    for idle_days, flows in ((0, 1), (4, 1), (6, 0)):
        cluster.jump(idle_days * 86400)
        assert len(cluster.nodes["node1"].flows()) == (flows if idle_days else 0)
        connection.write(b"still there?")
        text += b"still there?"
        cluster.settle()
        assert bytes(connection.received) == text
    assert cluster.nodes["node1"].flows()[0].dnat


def test_a_masquerade_port_is_free_again_when_its_flow_has_died() -> None:
    cluster = Cluster(policy(), 1)
    cluster.outside["internet"].silent = True
    node = cluster.nodes["node1"]
    sent = udp.build(A, INTERNET, 40000, 53, b"q")
    cluster.pods["a"].send(sent)
    cluster.settle()
    (first,) = node.flows()
    cluster.jump(31)
    assert not node.flows()
    cluster.pods["a"].send(sent)
    cluster.settle()
    (second,) = node.flows()
    assert second.reply == first.reply
    assert second.id != first.id


@pytest.mark.xfail(
    strict=True, reason="as the kernel's tracker has it: a SYN-ACK to an ignored SYN resynchronises"
)
def test_a_late_duplicate_of_the_handshake_changes_nothing() -> None:
    """A network that doubles SYN and SYN-ACK must not cut a connection that has moved on."""
    x = Script()
    x.established()
    x.c(PSH | ACK, 1, 1, b"question")
    x.s(PSH | ACK, 1, 9, b"answer")
    x.c(ACK, 9, 7)
    x.c(SYN, 0)
    x.s(SYN | ACK, 0, 1)
    assert x.state() == "ESTABLISHED"
    x.c(FIN | ACK, 9, 7)
    assert x.state() == "FIN_WAIT"
    assert not x.node.dropped


@pytest.mark.xfail(strict=True, reason="as the kernel's tracker has it: any SYN reopens")
def test_a_late_duplicate_of_the_syn_does_not_reopen_a_closed_connection() -> None:
    """RFC 9293 section 3.10.7.4: in TIME-WAIT, a SYN below what was received is an old one."""
    x = Script()
    time_wait(x)
    x.c(SYN, 0)
    assert x.state() == "TIME_WAIT"
