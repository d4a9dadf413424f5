"""Right packets, ways to damage them, and what must hold whatever comes in."""

from __future__ import annotations

import struct
from functools import cache

from pylb.dataplane.base import Output, OverlayPort, Packet
from pylb.plan.tables import FrontendKind, Plan
from pylb.wire import icmp, ipv4, sctp, vxlan
from pylb.wire.checksum import checksum, pseudo_sum, udp_check
from tests.dataplanes import AnyDataplane, make
from tests.unit.dataplane.net import (
    CLIENT,
    ICMP,
    INTERNET,
    NODE,
    PEER,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECRET,
    TCP,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    backend,
    datagram,
    frontend,
    ip,
    ping,
    plan,
    prefix,
    segment,
    syn,
    tun,
)

SERVICE_CIDR = prefix("10.96.0.0/12")
UNALLOCATED = ip("10.96.7.7")
MORE, DONT = 0x2000, 0x4000


def victim_plan(overlay: str = "vxlan") -> Plan:
    """A Service of every kind."""
    return plan(
        frontend(VIP, 80, [backend(POD_B)]),
        frontend(VIP_EMPTY, 80, []),
        frontend(VIP_UDP, 53, [backend(POD_B, 53), backend(POD_REMOTE, 53)], protocol=UDP),
        frontend(NODE, 30080, [backend(POD_REMOTE)], kind=FrontendKind.NODE_PORT),
        frontend(VIP, 80, [backend(POD_B)], protocol=sctp.PROTOCOL),
        overlay=overlay,
    )


def victim(overlay: str = "vxlan") -> AnyDataplane:
    """A node with `victim_plan` and a connection from A to it, to POD_REMOTE and out."""
    dp = make(SECRET, 1024)
    dp.load(victim_plan(overlay), 0)
    for each in valid():
        dp.process([tun(each)], 0)
    return dp


@cache
def valid() -> tuple[bytes, ...]:
    """Packets with nothing wrong with them, of every kind that is parsed."""
    to_vip, out = syn(POD_A, 40000, VIP, 80), datagram(POD_A, 5000, INTERNET, 53)
    return (
        to_vip,
        segment(POD_A, 40000, POD_REMOTE, 80, 0x02, payload=b"data", options=b"\2\4\5\xb4"),
        out,
        datagram(POD_A, 5000, VIP_UDP, 53),
        ping(POD_A, INTERNET),
        icmp.error(3, 3, 0, datagram(POD_A, 5000, POD_REMOTE, 53), POD_REMOTE, POD_A),
        icmp.error(11, 0, 0, syn(POD_A, 40000, POD_B, 8080), CLIENT, POD_A),
        ipv4.build(POD_A, INTERNET, 47, b"\x20\x01\x88\x0b\0\4\0\7data"),
        ipv4.build(POD_A, INTERNET, 47, b"\0\0\x08\0data"),
        ipv4.build(POD_A, INTERNET, 99, b"anything"),
        sctp.build(POD_A, VIP, 40000, 80, 0, sctp.init(7)),
        sctp.build(POD_B, POD_A, 8080, 40000, 7, sctp.init(9, ack=True)),
        sctp.build(POD_A, VIP, 40000, 80, 9, sctp.chunk(sctp.COOKIE_ECHO) + sctp.chunk(0)),
        fragment(VIP_UDP, 0, MORE, datagram(POD_A, 5000, VIP_UDP, 53, bytes(32))[20:44]),
        fragment(VIP_UDP, 24, 0, bytes(16)),
    )


def fragment(dst: int, offset: int, flags: int, payload: bytes, ident: int = 77) -> bytes:
    return ipv4.build(POD_A, dst, UDP, payload, ident=ident, flags_fragment=flags | offset // 8)


def mend(raw: bytes, transport: bool = True) -> bytes:
    """The packet with the checksums that its bytes ask for, as far as there are headers."""
    data = bytearray(raw)
    header = (data[0] & 15) * 4 if data else 0
    if len(data) < 20 or not 20 <= header <= len(data):
        return raw
    data[10:12] = b"\0\0"
    struct.pack_into(">H", data, 10, checksum(data[:header]))
    body = data[header:]
    if transport and data[9] == sctp.PROTOCOL and len(body) >= sctp.HEADER:
        struct.pack_into("<I", body, sctp.CHECKSUM, sctp.checksum(body))
    at = {TCP: 16, UDP: 6, ICMP: 2}.get(data[9], -1)
    if transport and 0 <= at <= len(body) - 2:
        body[at : at + 2] = b"\0\0"
        length = struct.unpack_from(">H", body, 4)[0] if data[9] == UDP else len(body)
        src, dst = struct.unpack_from(">II", data, 12)
        start = 0 if data[9] == ICMP else pseudo_sum(src, dst, data[9], length)
        check = checksum(body[:length] if data[9] == UDP else body, start)
        struct.pack_into(">H", body, at, udp_check(check) if data[9] == UDP else check)
    return bytes(data[:header] + body)


def patched(raw: bytes, at: int, new: bytes) -> bytes:
    return raw[:at] + new + raw[at + len(new) :]


def broken(raw: bytes, at: int, new: bytes) -> bytes:
    """Bytes replaced and every checksum mended, so that only they are wrong."""
    return mend(patched(raw, at, new))


def with_options(raw: bytes, options: bytes) -> bytes:
    """An IP header with options (a multiple of 4 bytes)."""
    longer = bytearray(raw[:20] + options + raw[20:])
    longer[0] = 0x40 | (20 + len(options)) // 4
    struct.pack_into(">H", longer, 2, len(longer))
    return mend(bytes(longer), transport=False)


SYN = syn(POD_A, 40000, VIP, 80)
DATAGRAM = datagram(POD_A, 5000, VIP_UDP, 53)
PING = ping(POD_A, INTERNET)
QUOTE = datagram(POD_A, 5000, INTERNET, 53)
GRE_1 = ipv4.build(POD_A, INTERNET, 47, b"\x20\x01\x88\x0b\0\4\0\7")


def accounted(dp: AnyDataplane, packet: Packet, now: int = 0) -> Output:
    """Process a packet: dropped under a name, held, or sent on; what is sent is right."""
    before = drops(dp)
    out = dp.process([packet], now)
    assert drops(dp) - before == len(out.dropped)
    assert not out.dropped or packet in [drop.packet for drop in out.dropped]
    if not out.dropped and not out.sent:
        word = int.from_bytes(inner_of(packet)[6:8], "big")
        assert word & 0x3FFF, "neither sent nor dropped, and no fragment"
    for sent in out.sent:
        assert_right(sent)
    return out


def drops(dp: AnyDataplane) -> int:
    return sum(n for name, n in dp.counters().items() if name.startswith("drop_"))


def inner_of(packet: Packet) -> bytes:
    if isinstance(packet.port, OverlayPort):
        return vxlan.decode(packet.data).packet
    return packet.data


def assert_right(sent: Packet) -> None:
    """Lengths and the IP checksum hold, and it is not addressed to a VIP."""
    raw = inner_of(sent)
    header = ipv4.header_length(raw)
    assert struct.unpack_from(">H", raw, 2)[0] == len(raw)
    assert checksum(raw[:header]) == 0
    (dst,) = struct.unpack_from(">I", raw, 16)
    assert raw[8] > 0, "TTL 0 was sent"
    assert dst not in SERVICE_CIDR, "written back to a VIP"
    if isinstance(sent.port, OverlayPort):
        assert sent.port.address == PEER
        assert dst in prefix("10.244.2.0/24")
