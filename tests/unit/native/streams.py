"""Streams of packets of some flows, and what GRO may make of them.

A stream is made of steps: which flow sends next, how many bytes, and what is odd about
that packet.  What is expected follows from the packets' bytes alone (`Facts`).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st

from pylb.wire import pure
from pylb.wire.virtio_net import DATA_VALID, NEEDS_CSUM, Header
from tests.unit.native.probe import LONGEST_RUN, RUNS, SLICES, Given

TCP, UDP = 6, 17
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << n for n in range(8))
DF, MF, RESERVED = 0x4000, 0x2000, 0x8000
IP_MAX = 65535

TIMESTAMPS = bytes.fromhex("0101080a")


class Packet(NamedTuple):
    """A packet that goes in: as it is given, and as it is on the wire."""

    given: Given
    wire: bytes
    """Its checksum made, where that was still to be done; without link padding."""


@dataclass
class Sender:
    """One flow's state, from which its next packet follows."""

    protocol: int
    number: int
    counts: bool = True
    """Identifications count up; else they stay."""
    df: bool = False
    timestamps: bool = False
    seq: int = 0xFFFF0000
    ident: int = 0xFFF0
    fields: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fields = {"ttl": 64, "tos": 0, "frag": DF if self.df else 0, "ihl": 5}
        self.fields |= {"window": 501, "ack": 7000, "flags": ACK, "stamp": 1, "urgent": 0, "res": 0}


ODDITIES: dict[str, dict[str, int]] = {
    "psh": {"flags": ACK | PSH},
    "fin": {"flags": ACK | FIN},
    "syn": {"flags": SYN},
    "rst": {"flags": RST | ACK},
    "urg": {"flags": ACK | URG, "urgent": 1},
    "urgent": {"urgent": 9},
    "ece": {"flags": ACK | ECE},
    "cwr": {"flags": ACK | CWR},
    "no flags": {"flags": 0},
    "reserved bits": {"res": 1},
    "window": {"window": 400},
    "ack": {"ack": 7001},
    "stamp": {"stamp": 2},
    "ttl": {"ttl": 63},
    "tos": {"tos": 2},
    "df": {"frag": DF},
    "no df": {"frag": 0},
    "reserved": {"frag": RESERVED},
    "reserved and df": {"frag": RESERVED | DF},
    "first fragment": {"frag": MF},
    "later fragment": {"frag": 100},
    "ip options": {"ihl": 6},
    "gap": {},
    "repeat": {},
    "id stays": {},
    "id skips": {},
    "id back": {},
    "id back two": {},
    "bad check": {},
    "bad ip check": {},
    "no check": {},
    "short udp": {},
    "padding": {},
    "partial": {},
    "wrong partial": {},
    "verified": {},
}
"""What a packet, or with "sticky" its flow from then on, can have that others have not."""


class Step(NamedTuple):
    """Which flow sends next, how much, and what is odd about it."""

    flow: int
    size: int
    odd: str = ""
    sticky: bool = False
    times: int = 1


def senders(fixed: int = 0, df: int = 0) -> list[Sender]:
    """Six flows; bits say which keep their identification, and which have DF."""
    return [
        Sender(protocol, number, not fixed >> number & 1, bool(df >> number & 1), number == 1)
        for number, protocol in enumerate((TCP, TCP, TCP, UDP, UDP, UDP))
    ]


def packets(steps: Iterable[Step], flows: list[Sender]) -> list[Packet]:
    """What the flows send, step by step."""
    return [
        _packet(flows[step.flow % len(flows)], step) for step in steps for _ in range(step.times)
    ]


def _packet(sender: Sender, step: Step) -> Packet:
    values = sender.fields | ODDITIES.get(step.odd, {})
    if step.sticky:
        sender.fields = values
    ident = sender.ident
    if step.odd == "id skips":
        ident += 3
    elif step.odd == "id back":
        ident -= 1
    elif step.odd == "id back two":
        ident -= 2
    if sender.counts and step.odd != "id stays":
        sender.ident = (ident + 1) & 0xFFFF
    seq = sender.seq + (1 if step.odd == "gap" else -1 if step.odd == "repeat" else 0)
    payload = bytes((sender.number * 40 + seq + n) & 0xFF for n in range(min(step.size, 251)))
    payload = (payload * (step.size // max(len(payload), 1) + 1))[: step.size]
    sender.seq = seq + len(payload)

    ports = struct.pack(">HH", 40000 + sender.number, 80)
    src, dst = 0x0AF40102, 0x0AF40203
    if sender.protocol == TCP:
        options = TIMESTAMPS + struct.pack(">II", values["stamp"], 5) if sender.timestamps else b""
        offset = (20 + len(options)) // 4 << 4 | values["res"]
        l4 = ports + struct.pack(
            *(">IIBBHHH", seq & 0xFFFFFFFF, values["ack"], offset, values["flags"]),
            *(values["window"], 0, values["urgent"]),
        )
        l4, at = l4 + options + payload, 16
        length = len(l4)
    else:
        length = 8 + len(payload) - (step.odd == "short udp" and len(payload) > 1)
        l4, at = ports + struct.pack(">HH", length, 0) + payload, 6
    pseudo = pure.pseudo_sum(src, dst, sender.protocol, length)
    check = pure.checksum(l4[:length], pseudo)
    if sender.protocol == UDP:
        check = check or 0xFFFF
    field, header = check, None
    start = values["ihl"] * 4
    if step.odd == "bad check":
        field = check ^ 0x0101
    elif step.odd == "no check" and sender.protocol == UDP:
        field = 0
    elif step.odd in ("partial", "wrong partial") and not values["frag"] & 0x3FFF:
        field = pseudo if step.odd == "partial" else 0x1234
        header = Header(NEEDS_CSUM, csum_start=start, csum_offset=at)
    elif step.odd == "verified":
        header = Header(DATA_VALID)

    def whole(check: int) -> bytes:
        body = l4[:at] + struct.pack(">H", check) + l4[at + 2 :]
        total = start + len(body)
        ip = struct.pack(
            *(">BBHHH", 0x40 | values["ihl"], values["tos"], total, ident & 0xFFFF, values["frag"]),
        )
        ip += struct.pack(">BBHII", values["ttl"], sender.protocol, 0, src, dst)
        ip += b"\x01" * (start - 20)
        sum_ = pure.checksum(ip) ^ (step.odd == "bad ip check")
        return ip[:10] + struct.pack(">H", sum_) + ip[12:] + body

    given = whole(field) + (b"pad" if step.odd == "padding" else b"")
    return Packet(Given(given, header), whole(check if header else field))


# What is expected.


class Facts(NamedTuple):
    """What GRO looks at in a packet, read from its bytes."""

    flow: tuple[int, ...]
    headers: int
    payload: int
    ident: int
    df: bool
    same: bytes
    """The bytes in which all packets of a run must agree."""
    seq: int | None
    last: bool
    """It ends a run: FIN or PSH."""
    alone: bool
    """It may not be part of a run."""

    @classmethod
    def of(cls, packet: Packet) -> Facts:
        """Read ``packet``; which rule each line is from is in `expected_runs`."""
        data, header = packet.wire, packet.given.header
        ihl, (ident, frag) = (data[0] & 15) * 4, struct.unpack_from(">HH", data, 4)
        src, dst = struct.unpack_from(">II", data, 12)
        protocol, l4 = data[9], data[ihl:]
        alone = ihl != 20 or bool(frag & ~DF)
        seq, last = None, False
        ports = struct.unpack_from(">HH", l4) if not frag & 0x3FFF else (0, 0)
        same = data[1:2] + data[6:10]
        if frag & 0x3FFF:
            headers = ihl
        elif protocol == TCP:
            headers = ihl + (l4[12] >> 4) * 4
            seq = struct.unpack_from(">I", l4, 4)[0]
            last = bool(l4[13] & (FIN | PSH))
            alone |= (l4[13] & ~(FIN | PSH)) != ACK
            same += l4[8:13] + l4[14:16] + l4[18 : headers - ihl]
        else:
            headers = ihl + 8
            length, check = struct.unpack_from(">HH", l4, 4)
            alone |= length != len(l4) or not check
        length = len(l4) if protocol == TCP else struct.unpack_from(">H", l4, 4)[0]
        alone |= headers == len(data)
        if header is None and not alone:
            pseudo = pure.pseudo_sum(src, dst, protocol, length)
            alone |= pure.ones_sum(l4[:length], pseudo) != 0xFFFF
        flow = (src, dst, *ports, protocol)
        payload = len(data) - headers
        return cls(flow, headers, payload, ident, bool(frag & DF), same, seq, last, alone)


@dataclass
class Run:
    """Packets that are expected to become one."""

    packets: list[Packet]
    facts: list[Facts]
    fixed: bool = False

    def takes(self, next_: Facts) -> bool:
        """Whether a packet of the same hash, the newest such run being this one, joins."""
        first, latest, count = self.facts[0], self.facts[-1], len(self.facts)
        if first.alone or next_.alone or latest.last or latest.payload < first.payload:
            return False
        if (next_.flow, next_.headers, next_.same) != (first.flow, first.headers, first.same):
            return False
        total = first.headers + sum(each.payload for each in self.facts) + next_.payload
        if next_.payload > first.payload or total > IP_MAX or count == LONGEST_RUN:
            return False
        if first.seq is not None:
            sent = sum(each.payload for each in self.facts)
            if next_.seq != (first.seq + sent) & 0xFFFFFFFF:
                return False
        counted = next_.ident == (first.ident + count) & 0xFFFF
        stayed = next_.ident == first.ident and first.df
        if count == 1:
            self.fixed = stayed and not counted
            return counted or stayed
        return stayed if self.fixed else counted


def expected_runs(
    stream: list[Packet], tcp: bool = True, udp: bool = True, collide: bool = False
) -> list[list[list[Packet]]]:
    """Batches of runs of packets, by the rules of Linux' receive offload.

    inet_gro_receive(), inet_gro_flush() (net/ipv4/af_inet.c, include/net/gro.h): no IP
    options, no fragments and no other bit beside them than DF; addresses, TOS, TTL and
    DF alike; identifications that count up from the first, or, when DF is set, that all
    are the first's, which the second packet decides; no more than 65 535 bytes in all.

    tcp_gro_receive() (net/ipv4/tcp_offload.c): the checksum is right, or is still to be
    made; ports, acknowledgement, header length, window and options alike; consecutive;
    no payload longer than the first's, and after a shorter one nothing; FIN and PSH end
    it.  Stricter than Linux: ACK must be there, and of other flags only FIN and PSH (ECE
    is not joined even to ECE); the urgent pointer must be alike without URG too.

    udp_gro_receive_segment() (net/ipv4/udp_offload.c): there is a checksum, and it is
    right or is still to be made; UDP's length is IP's; no longer than the first, and
    after a shorter one nothing; at most 64.

    Both: there is a payload.  Link padding is none of the packet's, and is forgotten
    when it is parsed (Linux does not join such a packet; here nothing tells it apart).

    A flow's packet that does not join ends its run, so that packets do not change
    places.  A batch is full at 512 runs, or 1 024 packets that joined one.
    """
    batches: list[list[list[Packet]]] = []
    runs: list[Run] = []
    newest: dict[int, Run] = {}

    def finish() -> None:
        batches.append([run.packets for run in runs])
        runs.clear()
        newest.clear()

    joined = 0
    for packet in stream:
        if pure.ones_sum(packet.wire[: (packet.wire[0] & 15) * 4]) != 0xFFFF:
            continue
        if len(runs) == RUNS or joined == SLICES:
            finish()
            joined = 0
        facts = Facts.of(packet)
        if not (tcp if facts.flow[-1] == TCP else udp):
            facts = facts._replace(alone=True)
        bucket = 0 if collide else sum(facts.flow) & 0xFF
        run = newest.get(bucket)
        if run is not None and run.takes(facts):
            run.packets.append(packet)
            run.facts.append(facts)
            joined += 1
        else:
            newest[bucket] = run = Run([packet], [facts])
            runs.append(run)
    finish()
    return batches


# Streams at random.

UNITS = (1, 7, 100, 1398, 1448, 8948)

_step = st.builds(
    Step,
    flow=st.integers(0, 5),
    size=st.sampled_from([*UNITS, 0, 99, 99, 100, 100, 100, 100, 101]),
    odd=st.one_of(st.just(""), st.just(""), st.sampled_from(sorted(ODDITIES))),
    sticky=st.booleans(),
    times=st.sampled_from([1, 1, 2, 3, 8]),
)
steps = st.lists(_step, max_size=25)


def long_stream(seed: int) -> list[Step]:
    """Some thousand packets of few sizes, seldom odd: what fills a batch."""
    draw = random.Random(seed)

    def step() -> Iterator[Step]:
        for _ in range(draw.randrange(50, 400)):
            odd = draw.choice(sorted(ODDITIES)) if draw.random() < 0.1 else ""
            times = draw.choice([1, 1, 2, 5, 70])
            yield Step(draw.randrange(6), draw.choice([3, 40, 41]), odd, False, times)

    return list(step())
