"""Malformed and truncated packets: no exception, and a named drop for each kind.

`ROWS` says for each kind of damage what it is called.
"""

from __future__ import annotations

import struct

import pytest

from pylb.dataplane.base import DropReason, OverlayPort, Packet
from pylb.wire import flannel_udp, icmp, ipv4, vxlan
from tests.dataplanes import make
from tests.unit.dataplane.damage import (
    DATAGRAM,
    GRE_1,
    MORE,
    PING,
    QUOTE,
    SYN,
    UNALLOCATED,
    accounted,
    broken,
    fragment,
    inner_of,
    mend,
    patched,
    valid,
    victim,
    with_options,
)
from tests.unit.dataplane.net import (
    CLIENT,
    ICMP,
    INTERNET,
    MAC,
    NODE,
    PEER,
    PEER_MAC,
    POD_A,
    POD_B,
    POD_REMOTE,
    TCP,
    TUNNEL,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    datagram,
    dataplane,
    from_peer,
    ping,
    segment,
    syn,
    tun,
)

R = DropReason
ROWS: list[tuple[str, Packet, DropReason]] = [
    ("nothing", tun(b""), R.TRUNCATED),
    ("19 bytes", tun(SYN[:19]), R.TRUNCATED),
    ("IPv6", tun(b"\x60" + bytes(59)), R.BAD_VERSION),
    ("version 0", tun(patched(SYN, 0, b"\x05")), R.BAD_VERSION),
    ("header of 16 bytes", tun(patched(SYN, 0, b"\x44")), R.BAD_HEADER_LENGTH),
    ("header beyond the end", tun(patched(SYN, 0, b"\x4f")), R.BAD_HEADER_LENGTH),
    ("total length beyond the end", tun(broken(SYN, 2, b"\0\x29")), R.BAD_TOTAL_LENGTH),
    ("total length within the header", tun(broken(SYN, 2, b"\0\x13")), R.BAD_TOTAL_LENGTH),
    ("total length 0", tun(broken(SYN, 2, b"\0\0")), R.BAD_TOTAL_LENGTH),
    ("IP checksum", tun(patched(SYN, 10, b"\xab\xcd")), R.BAD_IP_CHECKSUM),
    ("source 0.0.0.0", tun(broken(SYN, 12, bytes(4))), R.BAD_ADDRESS),
    ("source multicast", tun(broken(SYN, 12, b"\xe0\0\0\1")), R.BAD_ADDRESS),
    ("source broadcast", tun(broken(SYN, 12, b"\xff" * 4)), R.BAD_ADDRESS),
    ("destination multicast", tun(broken(SYN, 16, b"\xef\1\2\3")), R.BAD_ADDRESS),
    ("destination broadcast", tun(broken(SYN, 16, b"\xff" * 4)), R.BAD_ADDRESS),
    ("destination 0.0.0.0", tun(broken(SYN, 16, bytes(4))), R.BAD_ADDRESS),
    ("TCP header cut", tun(ipv4.build(POD_A, VIP, TCP, SYN[20:39])), R.BAD_L4_HEADER),
    ("TCP header missing", tun(ipv4.build(POD_A, VIP, TCP, b"")), R.BAD_L4_HEADER),
    ("TCP offset of 16 bytes", tun(broken(SYN, 32, b"\x40")), R.BAD_L4_HEADER),
    ("TCP offset beyond the end", tun(broken(SYN, 32, b"\xf0")), R.BAD_L4_HEADER),
    ("TCP checksum", tun(patched(SYN, 36, b"\xab\xcd")), R.BAD_L4_CHECKSUM),
    ("TCP null flags", tun(broken(SYN, 33, b"\0")), R.INVALID_STATE),
    ("TCP SYN and FIN", tun(broken(SYN, 33, b"\3")), R.INVALID_STATE),
    ("TCP SYN and RST", tun(broken(SYN, 33, b"\6")), R.INVALID_STATE),
    ("TCP Christmas tree", tun(broken(SYN, 33, b"\xff")), R.INVALID_STATE),
    ("TCP RST of no connection", tun(segment(POD_A, 9, VIP, 80, 0x04)), R.INVALID_STATE),
    ("TCP FIN of no connection", tun(segment(POD_A, 9, VIP, 80, 0x11)), R.INVALID_STATE),
    ("TCP SYN-ACK of no connection", tun(segment(POD_A, 9, INTERNET, 80, 0x12)), R.INVALID_STATE),
    ("UDP header cut", tun(ipv4.build(POD_A, VIP_UDP, UDP, DATAGRAM[20:27])), R.BAD_L4_HEADER),
    ("UDP length of 7", tun(broken(DATAGRAM, 24, b"\0\7")), R.BAD_L4_HEADER),
    ("UDP length beyond the end", tun(broken(DATAGRAM, 24, b"\0\x0e")), R.BAD_L4_HEADER),
    ("UDP checksum", tun(patched(DATAGRAM, 26, b"\xab\xcd")), R.BAD_L4_CHECKSUM),
    ("ICMP header cut", tun(ipv4.build(POD_A, INTERNET, ICMP, PING[20:27])), R.BAD_L4_HEADER),
    ("ICMP checksum", tun(patched(PING, 22, b"\xab\xcd")), R.BAD_L4_CHECKSUM),
    ("ICMP of unknown type", tun(broken(PING, 20, b"\x2a")), R.INVALID_STATE),
    ("ICMP reply to nothing", tun(ping(POD_A, INTERNET, 99, reply=True)), R.INVALID_STATE),
    ("ICMP to a VIP", tun(ping(POD_A, VIP)), R.NO_SUCH_FRONTEND),
    ("GRE cut", tun(ipv4.build(POD_A, INTERNET, 47, b"\0\0\0")), R.BAD_L4_HEADER),
    (
        "GRE version 1 without key",
        tun(ipv4.build(POD_A, INTERNET, 47, GRE_1[20:27])),
        R.BAD_L4_HEADER,
    ),
    ("fragment of nothing", tun(fragment(VIP_UDP, 8, MORE, b"")), R.BAD_FRAGMENT),
    ("fragment not of 8s", tun(fragment(VIP_UDP, 0, MORE, bytes(12))), R.BAD_FRAGMENT),
    ("fragment beyond 65535", tun(fragment(VIP_UDP, 65528, 0, bytes(9))), R.BAD_FRAGMENT),
    ("unknown port of a VIP", tun(syn(POD_A, 1, VIP, 81)), R.NO_SUCH_FRONTEND),
    ("unallocated VIP", tun(syn(POD_A, 1, UNALLOCATED, 80)), R.UNALLOCATED_VIP),
    ("VIP without endpoints", tun(syn(POD_A, 1, VIP_EMPTY, 80)), R.NO_ENDPOINT),
    ("tunnel address", tun(syn(POD_A, 1, TUNNEL, 80)), R.NO_SUCH_FRONTEND),
    ("another protocol to a VIP", tun(ipv4.build(POD_A, VIP, 99, b"x")), R.NO_SUCH_FRONTEND),
    (
        "too big for the overlay",
        tun(segment(POD_A, 1, POD_REMOTE, 80, 0x10, payload=bytes(1411))),
        R.TOO_BIG,
    ),
    ("overlay: unknown peer", from_peer(SYN, CLIENT), R.UNKNOWN_PEER),
    ("overlay: own address as peer", from_peer(SYN, NODE), R.UNKNOWN_PEER),
    ("overlay: nothing", Packet(OverlayPort(PEER), b""), R.BAD_ENCAPSULATION),
    ("overlay: VXLAN cut", Packet(OverlayPort(PEER), b"\x08" + bytes(6)), R.BAD_ENCAPSULATION),
    ("overlay: Ethernet cut", Packet(OverlayPort(PEER), b"\x08" + bytes(20)), R.BAD_ENCAPSULATION),
    (
        "overlay: no VNI",
        Packet(OverlayPort(PEER), b"\0" + vxlan.encode(SYN, 1, PEER_MAC, MAC)[1:]),
        R.BAD_ENCAPSULATION,
    ),
    ("overlay: other VNI", from_peer(SYN, vni=2), R.WRONG_VNI),
    (
        "overlay: ARP",
        Packet(OverlayPort(PEER), patched(vxlan.encode(SYN, 1, PEER_MAC, MAC), 20, b"\x08\x06")),
        R.BAD_ENCAPSULATION,
    ),
    ("overlay: inner nothing", from_peer(b""), R.TRUNCATED),
    ("overlay: inner IPv6", from_peer(b"\x60" + bytes(39)), R.BAD_VERSION),
    ("overlay: inner checksum", from_peer(patched(SYN, 10, b"\0\0")), R.BAD_IP_CHECKSUM),
    ("overlay: spoofed pod of ours", from_peer(syn(POD_A, 1, POD_B, 80)), R.SPOOFED_INNER_SOURCE),
    ("overlay: spoofed outside", from_peer(syn(INTERNET, 1, POD_B, 80)), R.SPOOFED_INNER_SOURCE),
    ("overlay: to a VIP", from_peer(syn(POD_REMOTE, 1, VIP, 80)), R.NOT_FOR_THIS_NODE),
    ("overlay: to outside", from_peer(syn(POD_REMOTE, 1, INTERNET, 80)), R.NOT_FOR_THIS_NODE),
    ("overlay: to our node", from_peer(syn(POD_REMOTE, 1, NODE, 80)), R.NOT_FOR_THIS_NODE),
    (
        "overlay: back to the peer",
        from_peer(syn(POD_REMOTE, 1, POD_REMOTE, 80)),
        R.NOT_FOR_THIS_NODE,
    ),
    ("overlay: to our tunnel", from_peer(syn(POD_REMOTE, 1, TUNNEL, 80)), R.NO_SUCH_FRONTEND),
]


@pytest.mark.parametrize(
    ("packet", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_each_kind_of_damage_has_its_name(packet: Packet, reason: DropReason) -> None:
    dp = victim()
    before = dp.counters()[f"drop_{reason.value}"]
    out = accounted(dp, packet)
    assert [d.reason for d in out.dropped] == [reason]
    assert dp.counters()[f"drop_{reason.value}"] == before + 1


def test_without_a_plan_everything_is_dropped() -> None:
    dp = make(bytes(16))
    for packet in (tun(SYN), from_peer(SYN), tun(b"")):
        assert [d.reason for d in dp.process([packet], 0).dropped] == [R.NO_PLAN]


def test_a_bad_packet_does_not_touch_its_neighbours_in_a_batch() -> None:
    good = datagram(POD_A, 5000, POD_B, 53)
    out = dataplane().process([tun(good), tun(b""), tun(good), from_peer(b""), tun(good)], 0)
    assert len(out.sent) == 3
    assert [d.reason for d in out.dropped] == [R.TRUNCATED, R.TRUNCATED]


@pytest.mark.parametrize("kind", range(len(valid())))
def test_every_truncation_is_dropped_from_the_tun(kind: int) -> None:
    dp, whole = victim(), valid()[kind]
    for length in range(len(whole)):
        out = accounted(dp, tun(whole[:length]))
        (drop,) = out.dropped
        expected = R.TRUNCATED if length < 20 else R.BAD_TOTAL_LENGTH
        assert drop.reason is expected
        assert not out.sent


@pytest.mark.parametrize("kind", range(len(valid())))
def test_every_truncation_with_a_total_length_that_agrees_is_survived(kind: int) -> None:
    """The IP layer is right, so it is the transport that must notice, or nothing is wrong."""
    dp, whole = victim(), valid()[kind]
    for length in range(20, len(whole)):
        accounted(dp, tun(mend(patched(whole, 2, length.to_bytes(2, "big"))[:length])))


@pytest.mark.parametrize("overlay", ["vxlan", "udp"])
def test_every_truncation_is_dropped_from_the_overlay(overlay: str) -> None:
    dp = victim(overlay)
    for raw in (syn(POD_REMOTE, 1, POD_A, 80), datagram(POD_REMOTE, 1, POD_A, 53)):
        whole = (
            vxlan.encode(raw, 1, PEER_MAC, MAC) if overlay == "vxlan" else flannel_udp.encode(raw)
        )
        for length in range(len(whole)):
            out = dp.process([Packet(OverlayPort(PEER), whole[:length])], 0)
            assert not out.sent
            assert len(out.dropped) == 1


@pytest.mark.parametrize("length", range(20, 70))
def test_every_truncation_of_a_quotation_is_survived(length: int) -> None:
    dp = victim()
    out_port = next(f for f in dp.flows(0) if f.original.dst == INTERNET and f.original.dport == 53)
    sent = datagram(NODE, out_port.reply.dport, INTERNET, 53, bytes(42))
    error = ipv4.build(INTERNET, NODE, ICMP, icmp.message(3, 3, 0, sent[: length - 20]))
    out = accounted(dp, tun(error))
    (back,) = out.sent
    (dst,) = struct.unpack_from(">I", back.data, 16)
    # With its header and 8 bytes more the quotation names its flow; with less it is the node's.
    assert dst == (POD_A if length - 20 >= 28 else NODE)


GARBAGE: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("zeros", bytes(64)),
    ("IPv6", b"\x60" + bytes(60)),
    ("another error", icmp.error(3, 1, 0, QUOTE, POD_A, INTERNET)),
    ("a fragment", ipv4.build(POD_A, INTERNET, UDP, bytes(16), flags_fragment=3)),
    ("a header that is too long", patched(QUOTE, 0, b"\x4f")),
    ("a total length too short", patched(QUOTE, 2, b"\0\1")),
    ("a flow of nobody", datagram(POD_B, 9, CLIENT, 9)),
]


@pytest.mark.parametrize("quoted", [g[1] for g in GARBAGE], ids=[g[0] for g in GARBAGE])
def test_an_error_that_quotes_garbage_goes_to_the_node_or_is_dropped(quoted: bytes) -> None:
    dp = victim()
    to_node = ipv4.build(INTERNET, NODE, ICMP, icmp.message(3, 3, 0, quoted))
    out = accounted(dp, tun(to_node))
    (passed,) = out.sent
    assert passed.data[12:20] == to_node[12:20], "the node's own passes unchanged"
    assert passed.data[20:] == to_node[20:]
    for dst in (VIP, UNALLOCATED, INTERNET):
        out = accounted(dp, tun(ipv4.build(POD_A, dst, ICMP, icmp.message(3, 3, 0, quoted))))
        assert not out.sent
        assert len(out.dropped) == 1


def test_padding_behind_the_packet_is_cut_off() -> None:
    (sent,) = accounted(victim(), tun(datagram(POD_A, 5000, POD_B, 53) + bytes(18))).sent
    assert len(sent.data) == 33


@pytest.mark.parametrize(
    "options", [b"\1" * 4, b"\x44\x28\5" + bytes(37), b"\x83\xff\0\0"], ids=repr
)
def test_ip_options_are_carried_along_whatever_they_say(options: bytes) -> None:
    (sent,) = accounted(victim(), tun(with_options(DATAGRAM, options))).sent
    raw = inner_of(sent)
    assert raw[20 : 20 + len(options)] == options


@pytest.mark.parametrize(
    "options",
    [b"\3", b"\2\0\0\0", b"\2\1\0\0", b"\3\xff\0\0", b"\5\2\1\1", b"\5\x0a\0\0", b"\xff" * 40],
    ids=repr,
)
def test_broken_tcp_options_are_survived(options: bytes) -> None:
    dp = victim()
    accounted(dp, tun(segment(POD_A, 41000, VIP, 80, 0x02, options=options)))
    accounted(dp, tun(segment(POD_B, 8080, POD_A, 41000, 0x12, 1, 1001, options=options)))
    accounted(dp, tun(segment(POD_A, 41000, VIP, 80, 0x10, 1001, 2, options=options)))
