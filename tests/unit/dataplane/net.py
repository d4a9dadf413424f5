"""A node's plan in a few lines, and packets to put through it."""

from __future__ import annotations

from ipaddress import IPv4Address

from pylb.dataplane.base import NODE_TUN, Output, OverlayPort, Packet
from pylb.dataplane.python.packet import Parsed, parse
from pylb.plan.tables import (
    Backend,
    Frontend,
    FrontendKey,
    FrontendKind,
    OverlayTable,
    Peer,
    Plan,
    Prefix,
)
from pylb.wire import icmp, tcp, udp, vxlan
from tests.dataplanes import AnyDataplane, make

SECOND = 1_000_000_000
SECRET = bytes(range(16))

TCP, UDP, ICMP = 6, 17, 1


def ip(text: str) -> int:
    return int(IPv4Address(text))


NODE, PEER = ip("192.168.50.11"), ip("192.168.50.12")
BRIDGE, TUNNEL = ip("10.244.1.1"), ip("10.244.1.0")
POD_A, POD_B, POD_REMOTE = ip("10.244.1.2"), ip("10.244.1.3"), ip("10.244.2.2")
PEER_TUNNEL = ip("10.244.2.0")
VIP, VIP_EMPTY, VIP_UDP = ip("10.96.0.10"), ip("10.96.0.11"), ip("10.96.0.53")
CLIENT, INTERNET = ip("192.168.50.253"), ip("203.0.113.80")
LOOPBACK = ip("127.0.0.1")
MAC, PEER_MAC = bytes.fromhex("0250c0a8320b"), bytes.fromhex("0250c0a8320c")


def prefix(text: str) -> Prefix:
    address, length = text.split("/")
    return Prefix(ip(address), int(length))


def backend(address: int, port: int = 8080) -> Backend:
    return Backend(address, port, local=address in prefix("10.244.1.0/24"))


def frontend(
    address: int,
    port: int,
    backends: list[Backend],
    protocol: int = TCP,
    kind: FrontendKind = FrontendKind.CLUSTER_IP,
    scheduler: str = "rr",
    service: str = "default/web",
    local_only: bool = False,
    elsewhere: bool = False,
) -> Frontend:
    ordered = tuple(sorted(backends))
    return Frontend(
        FrontendKey(address, port, protocol),
        kind,
        service,
        scheduler,
        ordered,
        tuple(range(len(ordered))),
        local_only,
        elsewhere=elsewhere,
    )


def plan(*frontends: Frontend, overlay: str = "vxlan", masquerade: bool = True) -> Plan:
    overhead = {"vxlan": 50, "udp": 28, "host-gw": 0}[overlay]
    addresses: dict[int, int] = {POD_A: 1, POD_B: 1, POD_REMOTE: 1}
    services: dict[str, tuple[FrontendKey, ...]] = {}
    for each in frontends:
        services[each.service] = (*services.get(each.service, ()), each.key)
        for b in each.backends:
            addresses[b.address] = addresses.get(b.address, 0) + 1
    return Plan(
        node="node1",
        node_ip=NODE,
        bridge_ip=BRIDGE,
        tunnel_ip=TUNNEL,
        pod_cidr=prefix("10.244.1.0/24"),
        underlay=prefix("192.168.50.0/24"),
        underlay_mtu=1500,
        overlay=OverlayTable(
            overlay, {"vxlan": 8472, "udp": 8285, "host-gw": 0}[overlay], 1, MAC, 1500 - overhead
        ),
        masquerade=masquerade,
        service_cidr=prefix("10.96.0.0/12"),
        peers={"node2": Peer("node2", PEER, prefix("10.244.2.0/24"), PEER_MAC)},
        pods={POD_A: "default/a", POD_B: "default/b"},
        frontends={each.key: each for each in frontends},
        services=services,
        addresses=addresses,
    )


def dataplane(*frontends: Frontend, max_flows: int = 1024, **options: object) -> AnyDataplane:
    made = make(SECRET, max_flows)
    made.load(plan(*frontends, **options), 0)  # type: ignore[arg-type]
    return made


def tun(data: bytes) -> Packet:
    return Packet(NODE_TUN, data)


def from_peer(data: bytes, address: int = PEER, vni: int = 1) -> Packet:
    return Packet(OverlayPort(address), vxlan.encode(data, vni, PEER_MAC, MAC))


def inner(packet: Packet) -> Parsed:
    """The IP packet that went out, whichever way."""
    if isinstance(packet.port, OverlayPort):
        return parse(vxlan.decode(packet.data).packet)
    return parse(packet.data)


def only(out: Output) -> Parsed:
    """The one packet that was sent, its checksums held to be right; nothing was dropped."""
    assert not out.dropped, out.dropped
    assert len(out.sent) == 1
    packet = inner(out.sent[0])
    assert packet.checksum_ok()
    return packet


def ends(packet: Parsed) -> tuple[int, int, int, int]:
    return packet.src, packet.sport, packet.dst, packet.dport


def syn(src: int, sport: int, dst: int, dport: int, seq: int = 1000, **more: int) -> bytes:
    return segment(src, sport, dst, dport, 0x02, seq, **more)


def segment(
    src: int,
    sport: int,
    dst: int,
    dport: int,
    flags: int,
    seq: int = 1000,
    ack: int = 0,
    window: int = 65535,
    payload: bytes = b"",
    options: bytes = b"",
) -> bytes:
    return tcp.build(src, dst, sport, dport, seq, ack, flags, window, options, payload)


def datagram(src: int, sport: int, dst: int, dport: int, payload: bytes = b"hello") -> bytes:
    return udp.build(src, dst, sport, dport, payload)


def ping(src: int, dst: int, ident: int = 7, reply: bool = False) -> bytes:
    return icmp.echo(src, dst, ident, 1, b"x" * 16, reply=reply)
