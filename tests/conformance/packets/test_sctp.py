"""SCTP through both dataplanes, crafted: this kernel may have no SCTP sockets, but it has NAT."""

from __future__ import annotations

import pytest

from pylb.dataplane.python.packet import parse
from pylb.wire import icmp, sctp
from tests.conformance.packets.conftest import Pair
from tests.conformance.packets.test_packets import (
    EMPTY,
    FAR,
    IDS,
    INTERNET,
    NEAR,
    NODE1,
    NODE2,
    ROWS,
    A,
    B,
    conntrack,
    ends,
    ends_of_quotation,
    fresh,
    with_ident,
)

__all__ = ["fresh"]

pytestmark = [pytest.mark.root, pytest.mark.tools("nft")]

ASKER, SERVER = 0x01020304, 0xA1A2A3A4
DATA = sctp.chunk(sctp.DATA, 3, b"\0\0\0\1\0\0\0\0\0\0\0\0words")


def build(src: int, dst: int, sport: int, dport: int, tag: int, chunks: bytes) -> bytes:
    return with_ident(bytearray(sctp.build(src, dst, sport, dport, tag, chunks)), 0x5151)


@pytest.mark.parametrize(
    ("sender", "src", "dst", "port", "receiver", "seen", "backend"), ROWS, ids=IDS
)
def test_there_and_back(
    pair: Pair, sender: str, src: int, dst: int, port: int, receiver: str, seen: int, backend: int
) -> None:
    """Set-up, data and end: every packet the same, and then the same listing."""
    steps = (
        (True, 0, sctp.init(ASKER)),
        (False, ASKER, sctp.init(SERVER, ack=True)),
        (True, SERVER, sctp.chunk(sctp.COOKIE_ECHO, 0, b"cookie") + DATA),
        (False, ASKER, sctp.chunk(sctp.COOKIE_ACK) + sctp.chunk(sctp.SACK, 0, bytes(12))),
        (False, ASKER, DATA),
        (True, SERVER, sctp.chunk(sctp.SHUTDOWN, 0, bytes(4))),
        (False, ASKER, sctp.chunk(sctp.SHUTDOWN_ACK)),
        (True, SERVER, sctp.chunk(sctp.SHUTDOWN_COMPLETE)),
    )
    node = "node2" if dst == NODE2 else "node1"
    for there, tag, chunks in steps:
        if there:
            out = pair.same(sender, build(src, dst, 40001, port, tag, chunks), receiver)
            assert ends(out) == (seen, 40001, backend, 8080)
        else:
            out = pair.same(receiver, build(backend, seen, 8080, 40001, tag, chunks), sender)
            assert ends(out) == (dst, port, src, 40001)
        assert out[32:] == chunks
        lists = [conntrack(side.flows(node)) for side in (pair.ours, pair.kernel)]
        assert lists[0] == lists[1]
        assert len(lists[0]) == 1


@pytest.mark.parametrize(("kind", "code", "rest"), [(3, 3, 0), (11, 0, 0)])
def test_an_error_of_the_backend_is_translated_quotation_and_all(
    pair: Pair, kind: int, code: int, rest: int
) -> None:
    there = build(A, FAR, 40002, 80, 0, sctp.init(ASKER))
    heard = pair.same("a", there, "c")
    error = icmp.error(kind, code, rest, heard, parse(heard).dst, parse(heard).src)
    out = parse(pair.same("c", with_ident(bytearray(error), 9), "a"))
    assert ends_of_quotation(out) == (A, 40002, FAR, 80)
    quoted = bytes(out.data[out.l4 + 8 :])
    assert quoted[20:] == there[20:], "as it was sent, SCTP's checksum included"


def test_a_quotation_that_is_cut_off_gets_the_checksum_that_was_sent(pair: Pair) -> None:
    """On purpose different: the kernel sums the part that is quoted, which is nobody's checksum."""
    init = sctp.chunk(sctp.INIT, 0, sctp.init(ASKER)[4:] + bytes(100))
    there = build(A, FAR, 40006, 80, 0, init)
    heard = pair.same("a", there, "c")
    error = icmp.error(3, 3, 0, heard[:60], parse(heard).dst, parse(heard).src)
    quoted = {}
    for side in (pair.ours, pair.kernel):
        (came,) = side.through("c", with_ident(bytearray(error), 9), "a")
        out = parse(came)
        assert ends_of_quotation(out) == (A, 40006, FAR, 80)
        quoted[side.lab] = bytes(out.data[out.l4 + 8 :])[20:]
    assert quoted[pair.ours.lab] == there[20:60]
    assert quoted[pair.kernel.lab] != there[20:60]


def test_masquerade_differs_only_in_the_port_that_chance_chose(pair: Pair) -> None:
    there = build(A, INTERNET, 40003, 9, 0, sctp.init(ASKER))
    for side in (pair.ours, pair.kernel):
        (raw,) = side.through("a", there, "internet")
        out = parse(raw)
        assert out.checksum_ok()
        assert (out.src, out.dst, out.dport) == (NODE1, INTERNET, 9)
        assert 61000 <= out.sport <= 65534
        back = build(INTERNET, NODE1, 9, out.sport, ASKER, sctp.init(SERVER, ack=True))
        (raw,) = side.through("internet", back, "a")
        assert ends(raw) == (INTERNET, 9, A, 40003)


@pytest.mark.parametrize(("vip", "port"), [(EMPTY, 80), (NEAR, 99)], ids=["no endpoint", "no port"])
def test_a_service_that_cannot_serve_refuses(pair: Pair, vip: int, port: int) -> None:
    """As for UDP: port unreachable, with the INIT in it, which an endpoint checks the tag of."""
    question = build(A, vip, 40007, port, 0, sctp.init(ASKER))
    for side in (pair.ours, pair.kernel):
        (raw,) = side.through("a", question, "a")
        error = parse(raw)
        assert (error.dport, error.dst) == (3 << 8 | 3, A)
        assert ends_of_quotation(error) == (A, 40007, vip, port)


def test_a_wrong_checksum_is_not_made_right(pair: Pair) -> None:
    """The kernel finds it invalid and lets it pass to whom it is not for; we drop it."""
    right = build(A, NEAR, 40008, 80, 0, sctp.init(ASKER))
    wrong = right[:28] + bytes((right[28] ^ 0x10,)) + right[29:]
    for side in (pair.ours, pair.kernel):
        assert side.swallowed("a", wrong, "b")
        assert not [f for f in side.flows("node1") if f.original.protocol == sctp.PROTOCOL]


def test_pods_talk_to_each_other_untranslated(pair: Pair) -> None:
    """What is wrong with a packet is for its receiver to judge, then."""
    right = build(A, B, 40009, 9, 0, sctp.init(ASKER))
    assert ends(pair.same("a", right, "b")) == (A, 40009, B, 9)
    wrong = right[:28] + bytes((right[28] ^ 1,)) + right[29:]
    assert pair.same("a", wrong, "b")[20:] == wrong[20:]
