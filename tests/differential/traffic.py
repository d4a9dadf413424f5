"""What happens to a pair of dataplanes: operations, each made of one random generator.

An operation refers to what came before ("the third last packet that was sent") and looks
it up when it is done.  So any of them can be left out and the rest stays meaningful,
which is what shrinking needs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from pylb.dataplane.base import NODE_TUN, FlowFilter, OverlayPort, Packet, Port, TunPort
from pylb.plan.tables import FrontendKey, Plan
from pylb.wire import flannel_udp, icmp, ipv4, tcp, udp, vxlan
from pylb.wire.errors import WireError
from tests.differential.plans import (
    LB_VIP,
    NODE_PORT,
    PEER2,
    POD_REMOTE2,
    REDIRECT,
    difference,
    random_next,
)
from tests.differential.segments import NATURAL, follow, random_options, read
from tests.differential.twins import Twins
from tests.sim.packets import fragments
from tests.unit.dataplane.damage import mend, patched, with_options
from tests.unit.dataplane.net import (
    BRIDGE,
    CLIENT,
    INTERNET,
    LOOPBACK,
    MAC,
    NODE,
    PEER,
    PEER_MAC,
    PEER_TUNNEL,
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    TCP,
    TUNNEL,
    UDP,
    VIP,
    VIP_EMPTY,
    VIP_UDP,
    prefix,
)

ICMP, GRE = 1, 47
PODS = (POD_A, POD_B, POD_REMOTE, POD_REMOTE2)
UNALLOCATED = 0x0A600707
EVERYONE = (
    *(*PODS, VIP, VIP_UDP, VIP_EMPTY, LB_VIP, REDIRECT, UNALLOCATED),
    *(CLIENT, INTERNET, NODE, BRIDGE, TUNNEL, PEER_TUNNEL, PEER, PEER2, LOOPBACK),
)
PORTS = (80, 8080, 53, NODE_PORT, 61000, 61001, 1, 511, 512, 1023, 40000, 65535)
FLAGS = (0x02, 0x10, 0x18, 0x12, 0x11, 0x04, 0x14, 0x30, 0x00, 0x03, 0x29)
FAR = (-1, 1, -500, 500, -70000, 70000, 65535, -65535, 1 << 30, 1 << 31, -(1 << 31))
SIZES = (0, 0, 0, 1, 2, 3, 4, 7, 8, 47, 48, 500, 535, 536, 1409, 1410, 1411, 1472)
MEMORY = 40
"""Packets that may be referred to."""


class Hand:
    """Does operations to a pair of dataplanes, and remembers what went in and came out."""

    def __init__(self, twins: Twins, plan: Plan) -> None:
        self.twins, self.plan = twins, plan
        self.taken: list[Packet] = []
        self.sent: list[Packet] = []
        twins.load(plan)

    def give(self, *packets: Packet) -> None:
        out = self.twins.process(*packets)
        self.taken = [*self.taken, *packets][-MEMORY:]
        self.sent = [*self.sent, *out.sent][-MEMORY:]

    def enter(self, raw: bytes) -> None:
        """A packet comes in the way that its source's packets do."""
        self.give(self.packet(raw))

    def packet(self, raw: bytes) -> Packet:
        source = int.from_bytes(raw[12:16], "big")
        for peer in self.plan.peers.values():
            if source in peer.subnet and self.plan.overlay.kind != "host-gw":
                return self.from_peer(raw, peer.address)
        return Packet(NODE_TUN, raw)

    def from_peer(self, raw: bytes, address: int, vni: int | None = None) -> Packet:
        table = self.plan.overlay
        if table.kind == "udp":
            return Packet(OverlayPort(address), flannel_udp.encode(raw))
        vni = table.vni if vni is None else vni
        return Packet(OverlayPort(address), vxlan.encode(raw, vni, PEER_MAC, MAC))

    def inner(self, packet: Packet) -> bytes:
        if isinstance(packet.port, TunPort) or self.plan.overlay.kind == "udp":
            return packet.data
        try:
            return vxlan.decode(packet.data).packet
        except WireError:
            return b""

    def recent(self, rng: Random, packets: list[Packet]) -> bytes:
        """The inner bytes of one of them, most often the last."""
        if not packets:
            return b""
        back = min(int(rng.expovariate(0.7)), len(packets) - 1)
        return self.inner(packets[-1 - back])


# Packets


def random_packet(rng: Random, plan: Plan) -> bytes:
    """A packet that most often may begin a flow, and often is for a frontend."""
    src = rng.choice(PODS if rng.random() < 0.75 else EVERYONE)
    dst, dport = rng.choice(EVERYONE), rng.choice(PORTS)
    kind = rng.choice((TCP, TCP, TCP, TCP, UDP, UDP, ICMP, GRE, 99))
    if plan.frontends and rng.random() < 0.6:
        dst, dport, kind = rng.choice(list(plan.frontends))
    ends = (src, dst, rng.choice(PORTS), dport)
    ttl = rng.choice((64, 64, 64, 1, 255))
    payload = rng.randbytes(rng.choice(SIZES))
    if kind == TCP:
        flags = 0x02 if rng.random() < 0.8 else rng.choice(FLAGS)
        numbers = rng.choice((1000, 0, 0xFFFFFFFE)), rng.choice((0, 0, 5000))
        options = random_options(rng) if rng.random() < 0.5 else b""
        if rng.random() < 0.8:
            payload = b""
        raw = tcp.build(*ends, *numbers, flags, random_window(rng), options, payload, ttl)
    elif kind == UDP:
        raw = udp.build(*ends, payload, ttl)
        if rng.random() < 0.15:
            raw = patched(raw, 26, b"\0\0")
    elif kind == ICMP:
        request = rng.choice((8, 8, 8, 13, 15, 17, 0, 14, 42, 255))
        rest = rng.choice((7, 61000, 0, 65535)) << 16 | 1
        raw = ipv4.build(src, dst, ICMP, icmp.message(request, 0, rest, payload), ttl)
    elif kind == GRE:
        version = rng.choice((b"\x20\x01\x88\x0b", b"\0\0\x08\0"))
        call = struct.pack(">HH", 4, rng.choice((0, 7, 65535)))
        raw = ipv4.build(src, dst, GRE, version + call + payload, ttl)
    else:
        raw = ipv4.build(src, dst, rng.choice((99, 132, 50, 2)), payload, ttl)
    if rng.random() < 0.1:
        word = rng.choice((0x4000, 0x0000, 0x8000))
        raw = mend(patched(raw, 6, struct.pack(">H", word)), transport=False)
    if rng.random() < 0.05:
        raw = with_options(raw, rng.choice((b"\1" * 4, b"\x83\xff\0\0", b"\7" * 40)))
    return raw + (b"padding" if rng.random() < 0.05 else b"")


def random_window(rng: Random) -> int:
    return rng.choice((65535, 65535, 65535, 1000, 1, 0))


def random_damage(rng: Random, raw: bytes) -> bytes:
    """A few bytes changed, cut off or added; the checksums sometimes mended."""
    kind = rng.random()
    if kind < 0.6:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(min(len(raw), 64)) if raw else 0
            raw = patched(raw, at, rng.randbytes(rng.randrange(1, 3)))[: len(raw)]
        return raw
    if kind < 0.9:
        return raw[: rng.randrange(len(raw) + 1)]
    return raw + rng.randbytes(rng.randrange(1, 9))


# Operations


def open_flow(hand: Hand, rng: Random) -> None:
    hand.enter(random_packet(rng, hand.plan))


def open_another(hand: Hand, rng: Random) -> None:
    """A client comes again by another port, perhaps when its affinity just ends."""
    header = read(hand.recent(rng, hand.taken))
    if header is None or header.protocol not in (TCP, UDP) or len(header.body) < 4:
        return
    dport = int.from_bytes(header.body[2:4], "big")
    key = FrontendKey(header.dst, dport, header.protocol)
    frontend = hand.plan.frontends.get(key)
    if frontend is not None and frontend.affinity and rng.random() < 0.5:
        hand.twins.now += max(frontend.affinity * SECOND + rng.choice((-SECOND, -1, 0, 1)), 0)
    for _ in range(rng.randrange(1, 4)):
        ends = (header.src, header.dst, rng.randrange(1024, 65536), dport)
        if header.protocol == TCP:
            raw = tcp.build(*ends, 1000, 0, 0x02, 65535, b"", b"")
        else:
            raw = udp.build(*ends, b"again")
        hand.enter(raw)


def open_aside(hand: Hand, rng: Random) -> None:
    """By the TUN, whoever it is from."""
    hand.give(Packet(NODE_TUN, random_packet(rng, hand.plan)))


def answer(hand: Hand, rng: Random) -> None:
    """The answer to a packet that was sent, or the next one after one that came; often odd."""
    one_packet_on(hand, rng, reply=rng.random() < 0.7, oddity=0.4)


def talk(hand: Hand, rng: Random) -> None:
    """A conversation goes on for some packets, with loss, duplicates and oddities."""
    oddity = rng.choice((0.0, 0.0, 0.1))
    for _ in range(rng.randrange(2, 9)):
        one_packet_on(hand, rng, reply=True, oddity=oddity, back=0)
        if oddity and rng.random() < oddity:
            repeat(hand, rng)
        if rng.random() < 0.2:
            hand.twins.now += rng.choice((1, SECOND, 2 * SECOND + 1))


def one_packet_on(
    hand: Hand, rng: Random, reply: bool, oddity: float, back: int | None = None
) -> None:
    packets = hand.sent if reply else hand.taken
    raw = hand.recent(rng, packets) if back is None else b""
    if back is not None and packets:
        raw = hand.inner(packets[-1 - back])
    header = read(raw)
    if header is None:
        return
    payload = rng.randbytes(rng.choice(SIZES)) if rng.random() < 0.5 else b""
    flags, seq, ack, window, options = NATURAL, 0, 0, 65535, b""
    if rng.random() < oddity:
        flags = rng.choice((NATURAL, *FLAGS))
        seq, ack = rng.choice((0, 0, *FAR)), rng.choice((0, 0, *FAR))
        window, options = random_window(rng), random_options(rng)
    hand.enter(follow(header, reply, flags, seq, ack, window, payload, options))


def repeat(hand: Hand, rng: Random) -> None:
    """A packet comes again as it was."""
    if hand.taken:
        hand.give(rng.choice(hand.taken[-6:]))


def elsewhere(hand: Hand, rng: Random) -> None:
    """A packet comes again by another port."""
    if hand.taken:
        peers = (OverlayPort(address) for address in (PEER, PEER2, CLIENT, NODE))
        port = rng.choice((NODE_TUN, TunPort(3), *peers))
        hand.give(rng.choice(hand.taken[-6:])._replace(port=port))


def damaged(hand: Hand, rng: Random) -> None:
    """A packet comes again with other bytes, outer ones perhaps."""
    if not hand.taken:
        return
    packet = rng.choice(hand.taken[-6:])
    if rng.random() < 0.3:
        hand.give(packet._replace(data=random_damage(rng, packet.data)))
        return
    raw = random_damage(rng, hand.inner(packet))
    if rng.random() < 0.7:
        if rng.random() < 0.3 and len(raw) >= 20:
            raw = patched(raw, 2, struct.pack(">H", len(raw)))
        raw = mend(raw, transport=rng.random() < 0.7)
    hand.enter(raw)


def in_pieces(hand: Hand, rng: Random) -> None:
    """A packet in fragments: in any order, doubled, missing, overlapping or beyond the end."""
    raw = hand.recent(rng, hand.taken) if rng.random() < 0.3 else b""
    header = read(raw)
    if header is None:
        raw = random_packet(rng, hand.plan)
    if rng.random() < 0.5:
        raw = long_datagram(hand, rng)
    raw = raw[: int.from_bytes(raw[2:4], "big")]
    ident = rng.choice((1, 2, rng.randrange(65536)))
    raw = mend(patched(raw, 4, struct.pack(">H", ident)), transport=False)
    pieces = fragments(raw, (raw[0] & 15) * 4 + 8 * rng.choice((1, 2, 3, 6, 60)))
    if rng.random() < 0.7:
        rng.shuffle(pieces)
    wrong = rng.random() < 0.3
    for piece in pieces[:20]:
        if wrong and rng.random() < 0.2:
            word = int.from_bytes(piece[6:8], "big") + rng.choice((1, -1, 0x2000))
            piece = mend(patched(piece, 6, struct.pack(">H", word & 0xFFFF)), transport=False)
        if not wrong or rng.random() < 0.9:
            hand.enter(piece)
        if rng.random() < 0.1:
            hand.enter(piece)


def long_datagram(hand: Hand, rng: Random) -> bytes:
    """It may not fit into the overlay, and may be for a frontend."""
    keys = [key for key in hand.plan.frontends if key.protocol == UDP]
    dst, dport = rng.choice(keys)[:2] if keys else (rng.choice(PODS), 53)
    payload = rng.randbytes(rng.choice((40, 600, 1500, 3000)))
    return udp.build(rng.choice(PODS), dst, 5000, dport, payload)


def complain(hand: Hand, rng: Random) -> None:
    """An ICMP error about a packet that was sent; who sends it may be anybody."""
    raw = hand.recent(rng, hand.sent)
    header = read(raw)
    if header is None:
        return
    source = header.dst if rng.random() < 0.6 else rng.choice(EVERYONE)
    kind = rng.choice(((3, 3), (3, 4), (11, 0), (5, 1), (12, 0), (4, 0), (3, 200)))
    quoted = raw[: rng.choice((576, 576, 576, 28, 27, 20, 0))]
    if rng.random() < 0.2:
        quoted = random_damage(rng, quoted)
    error = ipv4.build(source, header.src, ICMP, icmp.message(*kind, 0, quoted))
    if rng.random() < 0.1:
        error = random_damage(rng, error)
    if rng.random() < 0.1 and len(error) > 28:
        error = mend(patched(error, 6, b"\x40\0"), transport=False)
    hand.enter(error)


def wait(hand: Hand, rng: Random) -> None:
    """Time passes; the dataplane is told of it, or only with the next packet."""
    twins = hand.twins
    to = twins.now + rng.choice((0, 1, 1_000_000, SECOND, 2 * SECOND + 1, 10 * SECOND, 31 * SECOND))
    pass_time(twins, to, rng)


def jump(hand: Hand, rng: Random) -> None:
    """To a nanosecond before, at or behind a deadline."""
    deadlines = hand.twins.deadlines()
    if deadlines:
        to = rng.choice(deadlines) + rng.choice((-1, 0, 1))
        pass_time(hand.twins, max(to, hand.twins.now), rng)


def pass_time(twins: Twins, to: int, rng: Random) -> None:
    if rng.random() < 0.5:
        twins.advance(to)
    else:
        twins.now = to


def change(hand: Hand, rng: Random) -> None:
    plan = random_next(rng, hand.plan)
    if rng.random() < 0.2:
        hand.twins.load(plan)
    else:
        hand.twins.change(difference(hand.plan, plan))
    hand.plan = plan


def delete(hand: Hand, rng: Random) -> None:
    none = (None, None, None)
    where = FlowFilter(
        protocol=rng.choice((*none, TCP, UDP, ICMP)),
        src=rng.choice((*none, prefix("10.244.1.0/24"), prefix("10.244.1.2/32"))),
        reply_src=rng.choice((*none, prefix("10.244.0.0/16"))),
        sport=rng.choice((*none, 80, 40000, 53)),
        reply_dport=rng.choice((*none, 61000)),
        state=rng.choice((*none, "ESTABLISHED", "SYN_SENT", "")),
        assured=rng.choice((*none, True, False)),
        seen_reply=rng.choice((*none, False)),
        snat=rng.choice((*none, True)),
        dnat=rng.choice((*none, True)),
        id=rng.choice((*none, 1, 2)),
        mark=rng.choice((*none, 0)),
    )
    hand.twins.flows(where)
    hand.twins.delete(where)


def crowd(hand: Hand, rng: Random) -> None:
    """Packets that differ in their source port alone, in one batch."""
    raw = random_packet(rng, hand.plan)
    at, first = (raw[0] & 15) * 4, rng.choice((20000, 65530, 505))
    ports = ((first + i) & 0xFFFF for i in range(rng.randrange(1, 20)))
    hand.give(*(hand.packet(mend(patched(raw, at, struct.pack(">H", p)))) for p in ports))


def nonsense(hand: Hand, rng: Random) -> None:
    """Bytes of no meaning, or a datagram of the overlay that is not right."""
    nodes = (PEER, PEER2, CLIENT, NODE)
    if rng.random() < 0.5:
        raw = random_packet(rng, hand.plan)
        vni = rng.choice((None, 0, 1, 2))
        hand.give(hand.from_peer(raw, rng.choice(nodes), vni))
        return
    raw = rng.choice((b"", b"\x45", b"\x08")) + rng.randbytes(rng.randrange(80))
    port: Port = OverlayPort(rng.choice(nodes)) if rng.random() < 0.5 else NODE_TUN
    hand.give(Packet(port, raw))


Operation = Callable[[Hand, Random], None]
ANYTHING: dict[Operation, int] = {
    talk: 10,
    open_flow: 10,
    open_another: 4,
    answer: 8,
    wait: 4,
    jump: 3,
    repeat: 2,
    damaged: 4,
    in_pieces: 3,
    complain: 4,
    change: 3,
    crowd: 2,
    delete: 1,
    elsewhere: 1,
    open_aside: 1,
    nonsense: 1,
}


CONVERSATIONS: dict[Operation, int] = {
    talk: 10,
    answer: 10,
    open_flow: 3,
    open_another: 3,
    change: 4,
    complain: 2,
    repeat: 2,
    wait: 1,
    jump: 1,
}
"""Few flows that live long, while plans come and go."""


def happen(hand: Hand, seed: int, operations: dict[Operation, int]) -> None:
    """The operation of these, by their weights, that ``seed`` stands for."""
    rng = Random(seed)
    (operation,) = rng.choices(list(operations), list(operations.values()))
    operation(hand, rng)
