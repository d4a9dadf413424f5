"""Crafted packets through both dataplanes: what comes out is the same, to the byte.

That includes TTL (a node is one hop), TOS, identification, options and checksums.
Where chance has a say (masquerade's port), the rest is compared.
"""

from __future__ import annotations

import struct

import pytest

from pylb.dataplane.python.fragments import split
from pylb.dataplane.python.packet import Parsed, parse
from pylb.wire import icmp, ipv4, tcp, udp
from pylb.wire.checksum import checksum
from tests.conformance.packets.conftest import Pair
from tests.unit.dataplane.net import ip

pytestmark = [pytest.mark.root, pytest.mark.tools("nft")]

A, B, C = ip("10.244.1.2"), ip("10.244.1.3"), ip("10.244.2.2")
NEAR, FAR, EMPTY = ip("10.96.1.1"), ip("10.96.1.2"), ip("10.96.1.3")
NODE1, NODE2, CLIENT = ip("192.168.50.11"), ip("192.168.50.12"), ip("192.168.50.253")
INTERNET, TUNNEL1 = ip("203.0.113.80"), ip("10.244.1.0")
SYN, ACK, RST, FIN = 0x02, 0x10, 0x04, 0x01


@pytest.fixture(autouse=True)
def fresh(pair: Pair) -> None:
    pair.ours.forget()
    pair.kernel.forget()


def segment(
    src: int, dst: int, sport: int, dport: int, flags: int, seq: int, ack: int = 0
) -> bytes:
    raw = bytearray(tcp.build(src, dst, sport, dport, seq, ack, flags, 5000, b"", b""))
    return with_ident(raw, 0x4242)


def with_ident(raw: bytearray, ident: int) -> bytes:
    """A raw socket fills in an identification of 0, so none is."""
    struct.pack_into(">H", raw, 4, ident)
    struct.pack_into(">H", raw, 10, 0)
    struct.pack_into(">H", raw, 10, checksum(raw[: (raw[0] & 15) * 4]))
    return bytes(raw)


def ends(raw: bytes) -> tuple[int, int, int, int]:
    packet = parse(raw)
    assert packet.checksum_ok()
    return packet.src, packet.sport, packet.dst, packet.dport


# (sender, source, destination, its port, receiver, source seen, backend)
ROWS = [
    ("a", A, NEAR, 80, "b", A, B),
    ("a", A, FAR, 80, "c", A, C),
    ("b", B, NEAR, 80, "b", TUNNEL1, B),
    ("client", CLIENT, NODE1, 30081, "b", NODE1, B),
    ("client", CLIENT, NODE1, 30082, "c", TUNNEL1, C),
    ("client", CLIENT, NODE2, 30082, "c", NODE2, C),
    ("client", CLIENT, FAR, 80, "c", TUNNEL1, C),
    ("client", CLIENT, NEAR, 80, "b", NODE1, B),
    ("a", A, NODE1, 30081, "b", NODE1, B),
    ("a", A, NODE1, 30082, "c", TUNNEL1, C),
]
IDS = ["pod near", "pod far", "hairpin", "NodePort here", "NodePort elsewhere", "NodePort node2",
       "outside to ClusterIP far", "outside to ClusterIP near", "pod to NodePort here",
       "pod to NodePort elsewhere"]  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "src", "dst", "port", "receiver", "seen", "backend"), ROWS, ids=IDS
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_there_and_back(
    pair: Pair, protocol: str, sender: str, src: int, dst: int, port: int, receiver: str,
    seen: int, backend: int,
) -> None:  # fmt: skip
    if protocol == "tcp":
        there = segment(src, dst, 40001, port, SYN, 100)
        back = segment(backend, seen, 8080, 40001, SYN | ACK, 900, 101)
    else:
        there = udp.build(src, dst, 40001, port, b"question", ident=0x77)
        back = udp.build(backend, seen, 8080, 40001, b"answer", ident=0x78)
    assert ends(pair.same(sender, there, receiver)) == (seen, 40001, backend, 8080)
    assert ends(pair.same(receiver, back, sender)) == (dst, port, src, 40001)
    node = "node2" if dst == NODE2 else "node1"
    lists = [conntrack(side.flows(node)) for side in (pair.ours, pair.kernel)]
    assert lists[0] == lists[1]


def conntrack(flows: object) -> list[str]:
    """``conntrack -L``, less timeouts; they are compared in test_tcp_oracle."""
    from pylb.observe.conntrack import flow_line

    lines = []
    for flow in flows:  # type: ignore[attr-defined]
        words = flow_line(flow).split()
        lines.append(" ".join(words[:2] + words[3:]))
    # The kernel also tracks the node's own: the outer VXLAN flow, and IGMP.
    own = ("dport=8472", "dst=224.")
    return sorted(line for line in lines if not any(word in line for word in own))


def test_tos_ttl_dont_fragment_and_identification_are_kept(pair: Pair) -> None:
    raw = bytearray(udp.build(A, FAR, 40001, 80, b"x", ttl=17, ident=0x1234))
    raw[1] = 0x28
    raw[6] = 0x40
    out = pair.same("a", with_ident(raw, 0x1234), "c")
    assert (out[1], out[4:6], out[6] & 0x40, out[8]) == (0x28, b"\x12\x34", 0x40, 15)


def test_udp_without_a_checksum(pair: Pair) -> None:
    raw = bytearray(udp.build(A, NEAR, 40001, 80, b"x", ident=7))
    raw[26:28] = b"\0\0"
    assert pair.same("a", bytes(raw), "b")[26:28] == b"\0\0"


def test_ip_options_are_carried(pair: Pair) -> None:
    plain = udp.build(A, FAR, 40001, 80, b"x", ident=7)
    raw = bytearray(b"\x46" + plain[1:20] + b"\x01\x01\x01\x01" + plain[20:])
    struct.pack_into(">H", raw, 2, len(raw))
    out = pair.same("a", with_ident(raw, 7), "c")
    assert out[20:24] == b"\x01\x01\x01\x01"


@pytest.mark.parametrize(("target", "receiver"), [(B, "b"), (C, "c")])
def test_ping_between_pods(pair: Pair, target: int, receiver: str) -> None:
    there = with_ident(bytearray(icmp.echo(A, target, 5, 1, b"x" * 32)), 9)
    back = with_ident(bytearray(icmp.echo(target, A, 5, 1, b"x" * 32, reply=True)), 9)
    pair.same("a", there, receiver)
    pair.same(receiver, back, "a")


@pytest.mark.parametrize(("kind", "code", "rest"), [(3, 3, 0), (3, 4, 1200), (11, 0, 0)])
def test_an_error_of_the_backend_is_translated_quotation_and_all(
    pair: Pair, kind: int, code: int, rest: int
) -> None:
    for sender, src, dst, port, receiver in (
        ("a", A, FAR, 80, "c"), ("client", CLIENT, NODE1, 30082, "c"), ("a", A, NEAR, 80, "b")
    ):  # fmt: skip
        there = udp.build(src, dst, 40002, port, b"question", ident=0x77)
        heard = pair.same(sender, there, receiver)
        backend = parse(heard).dst
        error = icmp.error(kind, code, rest, heard, backend, parse(heard).src)
        out = parse(pair.same(receiver, with_ident(bytearray(error), 9), sender))
        assert out.dst == src
        assert ends_of_quotation(out) == (src, 40002, dst, port)


def ends_of_quotation(error: Parsed) -> tuple[int, int, int, int]:
    quoted = bytes(error.data[error.l4 + 8 :])
    src, dst = struct.unpack_from(">II", quoted, 12)
    sport, dport = struct.unpack_from(">HH", quoted, 20)
    return src, sport, dst, dport


def test_masquerade_differs_only_in_the_port_that_chance_chose(pair: Pair) -> None:
    there = segment(A, INTERNET, 40003, 80, SYN, 100)
    outs = [parse(side.through("a", there, "internet")[0]) for side in (pair.ours, pair.kernel)]
    for out in outs:
        assert out.checksum_ok()
        assert (out.src, out.dst, out.dport) == (NODE1, INTERNET, 80)
        assert 61000 <= out.sport <= 65534
    assert outs[0].ttl == outs[1].ttl


def test_fragments_come_out_as_the_kernel_sends_them(pair: Pair) -> None:
    whole = parse(udp.build(A, FAR, 40004, 80, bytes(3000), ident=0x99))
    pieces = [bytes(piece.data) for piece in split(whole, 1400)]
    out = pair.same_all("a", pieces, "c")
    assert len(out) == 3


def test_fragments_in_any_order(pair: Pair) -> None:
    whole = parse(udp.build(A, NEAR, 40005, 80, bytes(3000), ident=0x98))
    pieces = [bytes(piece.data) for piece in split(whole, 1000)]
    assert len(pair.same_all("a", pieces[::-1], "b")) == 4


def test_a_fragment_that_is_missing_lets_none_through(pair: Pair) -> None:
    whole = parse(udp.build(A, NEAR, 40006, 80, bytes(3000), ident=0x97))
    pieces = [bytes(piece.data) for piece in split(whole, 1000)]
    for side in (pair.ours, pair.kernel):
        assert side.burst("a", pieces[1:], "b", first=0) == []


@pytest.mark.parametrize(("vip", "port"), [(EMPTY, 80), (NEAR, 99)], ids=["no endpoint", "no port"])
def test_a_service_that_cannot_serve_refuses(pair: Pair, vip: int, port: int) -> None:
    syn = segment(A, vip, 40007, port, SYN, 100)
    for side in (pair.ours, pair.kernel):
        (out,) = side.through("a", syn, "a")
        # The kernel leaves the checksum of its own resets to a card that is not there.
        packet = parse(out)
        assert packet.checksum_ok() or side is pair.kernel
        assert (packet.src, packet.sport, packet.dst, packet.dport) == (vip, port, A, 40007)
        assert struct.unpack_from(">IIBB", out, 24) == (0, 101, 0x50, RST | ACK)
    question = udp.build(A, vip, 40007, port, b"x", ident=3)
    for side in (pair.ours, pair.kernel):
        (out,) = side.through("a", question, "a")
        error = parse(out)
        assert (error.dport, error.dst) == (3 << 8 | 3, A)
        assert ends_of_quotation(error) == (A, 40007, vip, port)


def test_an_unallocated_cluster_ip_is_silence(pair: Pair) -> None:
    for side in (pair.ours, pair.kernel):
        assert side.swallowed("a", segment(A, ip("10.96.7.7"), 40008, 80, SYN, 1), "a")


def test_a_time_to_live_of_one_ends_at_the_node(pair: Pair) -> None:
    raw = udp.build(A, C, 40009, 80, b"x", ttl=1, ident=4)
    outs = [side.through("a", raw, "a") for side in (pair.ours, pair.kernel)]
    for (out,) in outs:
        error = parse(out)
        assert (error.src, error.dport) == (ip("10.244.1.1"), 11 << 8)


def test_generic_protocols_are_tracked_and_masqueraded_by_address(pair: Pair) -> None:
    there = ipv4.build(A, INTERNET, 47, b"\0\0\x08\0payload", ident=5)
    assert parse(pair.same("a", there, "internet")).src == NODE1
    back = ipv4.build(INTERNET, NODE1, 47, b"\0\0\x08\0answer", ident=6)
    assert parse(pair.same("internet", back, "a")).dst == A


def test_what_is_invalid_leaks_from_the_kernel_and_is_dropped_here(pair: Pair) -> None:
    """On purpose different: the kernel forwards INVALID packets of translated flows as they are."""
    stray = segment(B, CLIENT, 8080, 40010, SYN | ACK, 1, 1)
    assert pair.ours.swallowed("b", stray, "client")
    leaked = pair.kernel.through("b", stray, "client")
    assert [parse(packet).src for packet in leaked] == [B], "a pod's own address on the underlay"
