"""Hostile packets: fragments that do not fit, spoofed VIPs, and bytes of every kind.

Whatever comes in, a packet is dropped under a name, held as a fragment, or sent
on; what is sent is a right packet and never goes to a VIP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylb.dataplane.base import NODE_TUN, DropReason, OverlayPort, Packet
from pylb.plan.tables import FrontendKind
from pylb.wire import icmp, ipv4
from tests.unit.dataplane.damage import (
    MORE,
    UNALLOCATED,
    accounted,
    drops,
    fragment,
    mend,
    valid,
    victim,
    with_options,
)
from tests.unit.dataplane.net import (
    BRIDGE,
    CLIENT,
    INTERNET,
    LOOPBACK,
    NODE,
    PEER,
    PEER_TUNNEL,
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
    from_peer,
    frontend,
    ping,
    segment,
    syn,
    tun,
)

R = DropReason


class TestFragments:
    def test_overlap_is_refused_and_what_was_held_is_forgotten(self) -> None:
        dp = victim()
        accounted(dp, tun(fragment(VIP_UDP, 0, MORE, bytes(24), 5)))
        out = accounted(dp, tun(fragment(VIP_UDP, 16, MORE, bytes(24), 5)))
        assert {d.reason for d in out.dropped} == {R.BAD_FRAGMENT}
        assert not accounted(dp, tun(fragment(VIP_UDP, 24, 0, bytes(8), 5))).sent

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ((16, 0, 8), (8, 0, 8)),
            ((16, 0, 8), (24, MORE, 8)),
            ((32, MORE, 8), (8, 0, 8)),
        ],
        ids=["two ends", "beyond the end", "an end before what is there"],
    )
    def test_contradicting_ends_are_refused(
        self, first: tuple[int, int, int], second: tuple[int, int, int]
    ) -> None:
        dp = victim()
        for offset, flags, length in (first, second):
            out = accounted(dp, tun(fragment(VIP_UDP, offset, flags, bytes(length), 5)))
        assert {d.reason for d in out.dropped} == {R.BAD_FRAGMENT}

    def test_what_does_not_become_whole_is_dropped_in_time(self) -> None:
        dp = dataplane()
        accounted(dp, tun(fragment(POD_B, 0, MORE, bytes(24), 5)))
        accounted(dp, tun(fragment(POD_B, 48, 0, bytes(24), 5)))
        assert dp.next_deadline() == 30 * SECOND
        assert not dp.advance(30 * SECOND - 1).dropped
        late = dp.advance(30 * SECOND).dropped
        assert [d.reason for d in late] == [R.FRAGMENT_TIMEOUT] * 2

    def test_a_flood_of_first_fragments_is_bounded(self) -> None:
        dp = dataplane()
        flood = [tun(fragment(POD_B, 0, MORE, bytes(8), ident)) for ident in range(1, 2001)]
        out = dp.process(flood, 0)
        assert {d.reason for d in out.dropped} == {R.FRAGMENT_LIMIT}
        assert len(out.dropped) == 2000 - 1024

    def test_a_flood_of_bytes_is_bounded(self) -> None:
        dp = dataplane()
        out = dp.process(
            [tun(fragment(POD_B, 8, MORE, bytes(60_000), ident)) for ident in range(100)], 0
        )
        assert {d.reason for d in out.dropped} == {R.FRAGMENT_LIMIT}

    def test_a_whole_with_a_broken_transport_header_is_dropped(self) -> None:
        dp = victim()
        accounted(dp, tun(fragment(VIP_UDP, 0, MORE, b"\0\5\0\5\xff\xff\0\0", 5)))
        out = accounted(dp, tun(fragment(VIP_UDP, 8, 0, b"x", 5)))
        assert {d.reason for d in out.dropped} == {R.BAD_L4_HEADER}

    def test_a_first_fragment_with_options_cannot_push_the_whole_beyond_65535(self) -> None:
        """Each fragment fits, but the first one's longer header and all payload do not."""
        dp = victim()
        first = fragment(VIP_UDP, 0, MORE, bytes(8), 5)
        accounted(dp, tun(fragment(VIP_UDP, 65480, 0, bytes(35), 5)))
        accounted(dp, tun(with_options(first, b"\1" * 40)))
        filler = fragment(VIP_UDP, 8, MORE, bytes(65472), 5)
        reasons = {drop.reason for drop in dp.process([tun(filler)], 0).dropped}
        assert reasons == {R.BAD_FRAGMENT}

    def test_every_fragment_of_a_refused_datagram_is_counted(self) -> None:
        """Whatever is dropped is counted under a name, also what was held until then."""
        dp = victim()
        before = drops(dp)
        sent = 0
        for offset, flags in ((0, MORE), (24, MORE), (16, MORE)):
            sent += len(dp.process([tun(fragment(VIP_UDP, offset, flags, bytes(24), 5))], 0).sent)
        assert sent == 0
        assert drops(dp) - before == 3


ADDRESSES = [
    *(VIP, VIP_EMPTY, VIP_UDP, UNALLOCATED, POD_A, POD_B, POD_REMOTE, PEER_TUNNEL, TUNNEL),
    *(NODE, PEER, BRIDGE, CLIENT, INTERNET, LOOPBACK),
]
PORTS = [80, 53, 8080, 5000, 40000, 30080, 61000, 1]
addresses, ports = st.sampled_from(ADDRESSES), st.sampled_from(PORTS)
payloads = st.binary(max_size=24)


@st.composite
def right_packets(draw: st.DrawFn, depth: int = 0) -> bytes:
    """A packet with right checksums between any two addresses that mean something here."""
    src, dst = draw(addresses), draw(addresses)
    kind = draw(st.sampled_from(["tcp", "udp", "ping", "other", "error"][: 4 + (depth < 2)]))
    if kind == "tcp":
        flags = draw(st.sampled_from([0x02, 0x12, 0x10, 0x11, 0x04, 0x14, 0x18]))
        ends = (src, draw(ports), dst, draw(ports))
        return segment(*ends, flags, draw(st.sampled_from([0, 1000, 1001])), 1001)
    if kind == "udp":
        return datagram(src, draw(ports), dst, draw(ports), draw(payloads))
    if kind == "ping":
        return ping(src, dst, draw(st.sampled_from([7, 61000])), reply=draw(st.booleans()))
    if kind == "other":
        return ipv4.build(src, dst, draw(st.sampled_from([47, 99, 132])), bytes(12))
    quoted = draw(right_packets(depth + 1))
    error = draw(st.sampled_from([(3, 3), (3, 4), (11, 0), (5, 1), (12, 0), (4, 0)]))
    return icmp.error(*error, 0, quoted, src, dst)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A right packet with a few bytes changed, cut or fragmented; its checksums often mended."""
    data = bytearray(draw(st.one_of(st.sampled_from(valid()), right_packets())))
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
        if len(data) >= 20:
            struct.pack_into(">H", data, 2, len(data))
    return mend(bytes(data)) if draw(st.integers(0, 3)) else bytes(data)


def ways_in() -> Iterator[Callable[[bytes], Packet]]:
    yield tun
    yield from_peer
    yield lambda raw: Packet(OverlayPort(PEER), raw)
    yield lambda raw: from_peer(raw, CLIENT)


ways = st.sampled_from(list(ways_in()))


@given(st.binary(max_size=120), ways)
@example(b"\x45" + bytes(19), tun)
def test_arbitrary_bytes_are_survived(raw: bytes, way: Callable[[bytes], Packet]) -> None:
    accounted(victim(), way(raw))


@given(st.lists(st.tuples(damaged(), ways), max_size=12))
def test_damaged_packets_are_survived(
    packets: list[tuple[bytes, Callable[[bytes], Packet]]],
) -> None:
    dp = victim()
    for now, (raw, way) in enumerate(packets):
        accounted(dp, way(raw), now * SECOND)
    dp.advance(10**18)
    assert not list(dp.flows(10**18))


SPOOFED: list[tuple[str, list[Packet]]] = [
    ("a reset for a VIP", [tun(syn(VIP, 1, VIP_EMPTY, 80))]),
    ("port unreachable for a VIP", [tun(datagram(VIP, 1, VIP_UDP, 99))]),
    ("port unreachable for no VIP", [tun(datagram(UNALLOCATED, 1, VIP_UDP, 99))]),
    ("a pod's answer to a VIP", [tun(ping(VIP, POD_A)), tun(ping(POD_A, VIP, reply=True))]),
    (
        "a remote pod's answer to a VIP",
        [tun(ping(VIP, POD_REMOTE)), from_peer(ping(POD_REMOTE, VIP, reply=True))],
    ),
    ("an error for no VIP", [tun(icmp.error(3, 3, 0, b"", CLIENT, UNALLOCATED))]),
    ("an error of the node for no VIP", [tun(icmp.error(3, 3, 0, b"", NODE, UNALLOCATED))]),
    ("too big, to a VIP", [tun(segment(VIP, 1, POD_REMOTE, 80, 0x02, payload=bytes(1411)))]),
]


@pytest.mark.parametrize("packets", [s[1] for s in SPOOFED], ids=[s[0] for s in SPOOFED])
def test_a_spoofed_source_cannot_make_us_write_to_a_vip(packets: list[Packet]) -> None:
    dp = victim()
    for packet in packets:
        accounted(dp, packet)


@given(st.lists(st.tuples(right_packets(), st.sampled_from([tun, from_peer])), max_size=20))
def test_nothing_is_ever_written_back_to_a_vip(
    packets: list[tuple[bytes, Callable[[bytes], Packet]]],
) -> None:
    """Whoever claims to have sent what to whom, spoofed VIPs as sources included."""
    dp = dataplane(
        frontend(VIP, 80, [backend(POD_B)]),
        frontend(VIP_EMPTY, 80, []),
        frontend(VIP_UDP, 53, [backend(POD_B, 53), backend(POD_REMOTE, 53)], protocol=UDP),
        frontend(NODE, 30080, [backend(POD_REMOTE)], kind=FrontendKind.NODE_PORT),
    )
    for raw, way in packets:
        accounted(dp, way(raw))


def test_the_ports_name_is_the_tun() -> None:
    """Whatever comes in by the TUN leaves by the node's own TUN or to a known peer."""
    out = victim().process([tun(each) for each in valid()], 0)
    assert {p.port for p in out.sent if not isinstance(p.port, OverlayPort)} == {NODE_TUN}


def test_an_error_that_quotes_a_flow_is_not_sent_to_a_vip() -> None:
    """One was: its flow had no translation, so its destination stayed the VIP that it named."""
    dp = dataplane(frontend(VIP, 80, [backend(POD_B)]))
    asked = datagram(POD_A, 5000, POD_B, 9)
    dp.process([tun(asked)], 0)
    out = dp.process([tun(icmp.error(3, 3, 0, asked, POD_B, VIP))], 0)
    assert not out.sent
    assert [dropped.reason for dropped in out.dropped] == [DropReason.INVALID_STATE]
