"""What the kernel does to flows, and for how long: what the Python dataplane copies."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from pylb.dataplane.base import EventKind
from pylb.plan.tables import Timeouts

from .kernel import (
    ACK,
    CLIENT,
    FIN,
    PSH,
    RST,
    SERVER,
    SYN,
    VIP,
    Connection,
    Kernel,
    icmp,
    ip,
    ports,
    tcp,
    udp,
    wait_for,
)

pytestmark = pytest.mark.root


def sysctl_name(field: str) -> str:
    protocol, _, rest = field.partition("_")
    if protocol == "tcp":
        return f"nf_conntrack_tcp_timeout_{rest}"
    return f"nf_conntrack_{protocol}_timeout" + (f"_{rest}" if rest else "")


def short(kernel: Kernel, port: int) -> str:
    """The next event in short, its timeout as it was set.

    The kernel says what is left, in whole seconds: when a tick passes between setting the
    timeout and telling of it, "UPDATE 29" is a timeout of 30.  All that are set here are tens,
    so one tick is told apart from a timeout that is wrong.
    """
    kind, flow = (event := kernel.event(port)).kind, event.flow
    assert kind is not None
    words = [kind.value, flow.state]
    if kind is not EventKind.DESTROY:
        assert flow.timeout is not None
        words.append(str(flow.timeout + (flow.timeout % 10 == 9)))
    words += ["assured"] * flow.assured + ["unreplied"] * (not flow.seen_reply)
    return " ".join(word for word in words if word)


def close_to(seconds: int | None, full: int) -> bool:
    """A timeout that was ``full`` when it was set, a moment ago."""
    return seconds is not None and full - 5 <= seconds <= full


@pytest.mark.parametrize(("field", "seconds"), asdict(Timeouts()).items())
def test_pylbs_default_timeouts_are_the_kernels(kernel: Kernel, field: str, seconds: int) -> None:
    assert int(kernel.run("sysctl", "-n", f"net.netfilter.{sysctl_name(field)}")) == seconds


def test_a_tcp_connection_from_syn_to_time_wait(kernel: Kernel, port: int) -> None:
    connection = Connection(kernel, port)
    out = connection.client(SYN)
    assert ports(out) == (port, 8080)
    assert out[16:20] == bytes([10, 2, 0, 2])
    assert short(kernel, port) == "NEW SYN_SENT 120 unreplied"
    back = connection.server(SYN | ACK)
    assert back[12:16] == bytes([10, 96, 0, 10])
    assert ports(back) == (80, port)
    assert short(kernel, port) == "UPDATE SYN_RECV 60"
    connection.client(ACK)
    assert short(kernel, port) == "UPDATE ESTABLISHED 432000 assured"
    connection.client(FIN | ACK)
    assert short(kernel, port) == "UPDATE FIN_WAIT 120 assured"
    connection.server(ACK)
    assert short(kernel, port) == "UPDATE CLOSE_WAIT 60 assured"
    connection.server(FIN | ACK)
    assert short(kernel, port) == "UPDATE LAST_ACK 30 assured"
    connection.client(ACK)
    assert short(kernel, port) == "UPDATE TIME_WAIT 120 assured"
    kernel.run("conntrack", "-D", "-p", "tcp", "--orig-port-src", str(port))
    assert short(kernel, port) == "DESTROY TIME_WAIT assured"


def test_a_new_syn_in_time_wait_is_a_new_flow(kernel: Kernel, port: int) -> None:
    connection = Connection(kernel, port)
    connection.handshake()
    connection.client(FIN | ACK)
    connection.server(FIN | ACK)
    connection.client(ACK)
    assert [short(kernel, port).split()[1] for _ in range(3)][-1] == "TIME_WAIT"
    Connection(kernel, port, client_seq=900_000).client(SYN)
    # Not by the id: it is a keyed hash of the record's address, which may be given anew.
    told = {short(kernel, port), short(kernel, port)}
    assert told == {"DESTROY TIME_WAIT assured", "NEW SYN_SENT 120 unreplied"}
    after = kernel.flow(port)
    assert after is not None
    assert after.state == "SYN_SENT"


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_reset_of_an_unreplied_flow_deletes_it(kernel: Kernel, port: int, sender: str) -> None:
    connection = Connection(kernel, port)
    connection.client(SYN)
    assert short(kernel, port) == "NEW SYN_SENT 120 unreplied"
    if sender == "client":
        connection.client(RST)
    else:
        connection.server(RST | ACK)
    assert short(kernel, port) == "DESTROY CLOSE unreplied"
    assert kernel.flow(port) is None


def test_resets_of_an_established_flow(kernel: Kernel, port: int) -> None:
    connection = Connection(kernel, port)
    connection.handshake()

    connection.client(RST, seq=connection.client_seq + 10_000_000)
    flow = kernel.flow(port)
    assert flow is not None
    assert (flow.state, close_to(flow.timeout, 432000)) == ("ESTABLISHED", True)

    connection.client(RST, seq=connection.client_seq + 100)
    flow = kernel.flow(port)
    assert flow is not None
    assert (flow.state, close_to(flow.timeout, 10)) == ("ESTABLISHED", True)

    connection.client(RST)
    assert short(kernel, port) == "UPDATE CLOSE 10 assured"


def test_unacknowledged_data_shortens_the_timeout(kernel: Kernel, port: int) -> None:
    connection = Connection(kernel, port)
    connection.handshake()
    connection.client(PSH | ACK, b"hello")
    flow = kernel.flow(port)
    assert flow is not None
    assert close_to(flow.timeout, 300)
    connection.server(ACK)
    flow = kernel.flow(port)
    assert flow is not None
    assert close_to(flow.timeout, 432000)


def test_simultaneous_open(kernel: Kernel, port: int) -> None:
    connection = Connection(kernel, port)
    connection.client(SYN)
    assert short(kernel, port) == "NEW SYN_SENT 120 unreplied"
    connection.server(SYN)
    assert short(kernel, port) == "UPDATE SYN_SENT2 120"
    connection.client(SYN | ACK, seq=connection.client_seq - 1)
    assert short(kernel, port) == "UPDATE SYN_RECV 60"
    connection.server(SYN | ACK, seq=connection.server_seq - 1)
    flow = kernel.flow(port)
    assert flow is not None
    assert flow.state == "SYN_RECV"
    connection.client(ACK)
    assert short(kernel, port) == "UPDATE ESTABLISHED 432000 assured"


def test_midstream_pickup_starts_established_for_300_s(kernel: Kernel, port: int) -> None:
    sent = tcp((CLIENT, port), (SERVER, 9), ACK | PSH, 77, 88, b"data")
    kernel.left.send(sent)
    kernel.right.receive(lambda packet: ports(packet) == (port, 9))
    assert short(kernel, port) == "NEW ESTABLISHED 300 unreplied"


@pytest.mark.parametrize(
    "flags", [FIN, FIN | ACK, RST, RST | ACK, SYN | ACK, 0, SYN | FIN, SYN | RST]
)
def test_first_segments_that_are_invalid(kernel: Kernel, port: int, flags: int) -> None:
    """None of them makes an entry."""
    kernel.left.send(tcp((CLIENT, port), (SERVER, 9), flags, 77, 88 if flags & ACK else 0))
    kernel.right.receive(lambda packet: ports(packet) == (port, 9))
    assert kernel.flow(port) is None


def test_an_invalid_packet_of_a_service_goes_on_untranslated(kernel: Kernel, port: int) -> None:
    out = Connection(kernel, port).client(FIN | ACK)
    assert out[16:20] == bytes([10, 96, 0, 10])
    assert ports(out) == (port, 80)


def test_udp_is_assured_once_it_has_lasted(kernel: Kernel, port: int) -> None:
    query = udp(CLIENT, port, SERVER, 53)
    answer = udp(SERVER, 53, CLIENT, port)

    def ask() -> None:
        kernel.left.send(query)
        kernel.right.receive(lambda packet: ports(packet) == (port, 53))

    def reply() -> None:
        kernel.right.send(answer)
        kernel.left.receive(lambda packet: ports(packet) == (53, port))

    ask()
    assert short(kernel, port) == "NEW 30 unreplied"
    reply()
    assert short(kernel, port) == "UPDATE 30"
    flow = kernel.flow(port)
    assert flow is not None
    assert not flow.assured

    def assured() -> bool:
        ask()
        reply()
        now = kernel.flow(port)
        return now is not None and now.assured and close_to(now.timeout, 120)

    wait_for("the flow is assured", assured)
    assert short(kernel, port) == "UPDATE 120 assured"


def test_udp_without_a_checksum_is_tracked(kernel: Kernel, port: int) -> None:
    whole = udp(CLIENT, port, SERVER, 53)
    kernel.left.send(whole[:26] + b"\0\0" + whole[28:])
    assert short(kernel, port) == "NEW 30 unreplied"


@pytest.mark.parametrize(("query", "answer"), [(8, 0), (13, 14), (15, 16), (17, 18)])
def test_icmp_queries_are_tracked(kernel: Kernel, port: int, query: int, answer: int) -> None:
    data = b"\0" * 12
    kernel.left.send(icmp(CLIENT, SERVER, query, port, data))
    assert short(kernel, port) == "NEW 30 unreplied"
    kernel.right.receive(lambda packet: packet[9] == 1)
    kernel.right.send(icmp(SERVER, CLIENT, answer, port, data))
    assert short(kernel, port) == "UPDATE 30"
    flow = kernel.flow(port)
    assert flow is not None
    assert (flow.original.dport, flow.reply.dport) == (query << 8, answer << 8)
    assert not flow.assured


@pytest.mark.parametrize("kind", [0, 3, 5, 11, 14])
def test_icmp_answers_and_errors_alone_are_not(kernel: Kernel, port: int, kind: int) -> None:
    inner = udp(CLIENT, port, SERVER, 9)[:28] if kind in (3, 5, 11) else b""
    kernel.left.send(icmp(CLIENT, SERVER, kind, port, inner))
    kernel.right.receive(lambda packet: packet[9] == 1 and packet[20] == kind)
    assert kernel.flow(port) is None


def test_a_protocol_without_a_tracker_of_its_own(kernel: Kernel) -> None:
    kernel.left.send(ip(CLIENT, "10.2.0.99", 99, b"data"))
    kernel.right.receive(lambda packet: packet[9] == 99)
    told = kernel.event(0)
    assert told.kind is EventKind.NEW
    assert told.flow.original.protocol == 99
    assert close_to(told.flow.timeout, 600)
    assert (told.flow.original.sport, told.flow.original.dport) == (0, 0)


def test_a_translated_source_shows_in_the_reply_tuple(kernel: Kernel, port: int) -> None:
    kernel.left.send(udp(CLIENT, port, "10.2.0.9", 53))
    kernel.right.receive(lambda packet: ports(packet) == (port, 53))
    flow = kernel.event(port).flow
    assert flow.snat
    assert not flow.dnat
    connection = Connection(kernel, port)
    connection.client(SYN)
    flow = kernel.event(port).flow
    assert flow.dnat
    assert not flow.snat
    assert flow.original.dst == int.from_bytes(bytes(map(int, VIP.split("."))), "big")
