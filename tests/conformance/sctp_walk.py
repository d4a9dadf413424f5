"""One SCTP association through two connection trackers at once: the kernel's and ours."""

from __future__ import annotations

import random
import struct
import time
from dataclasses import dataclass, replace

from pylb.dataplane.base import DropReason
from pylb.plan.tables import Plan, Timeouts
from pylb.wire import ipv4, sctp
from tests.conformance.tcp_walk import CLIENT, SERVER, VIP, Walk, plan

SCTP = sctp.PROTOCOL
TIMEOUTS = Timeouts(
    sctp_closed=61,
    sctp_cookie_wait=73,
    sctp_cookie_echoed=85,
    sctp_established=211,
    sctp_shutdown_sent=97,
    sctp_shutdown_recd=109,
    sctp_shutdown_ack_sent=121,
    sctp_heartbeat_sent=133,
)
"""Long, so that a slow machine outlives none, and far apart, so that each is recognised."""

NAMES = {
    sctp.DATA: "DATA",
    sctp.INIT: "INIT",
    sctp.INIT_ACK: "INIT_ACK",
    sctp.SACK: "SACK",
    sctp.HEARTBEAT: "HEARTBEAT",
    sctp.HEARTBEAT_ACK: "HEARTBEAT_ACK",
    sctp.ABORT: "ABORT",
    sctp.SHUTDOWN: "SHUTDOWN",
    sctp.SHUTDOWN_ACK: "SHUTDOWN_ACK",
    sctp.ERROR: "ERROR",
    sctp.COOKIE_ECHO: "COOKIE_ECHO",
    sctp.COOKIE_ACK: "COOKIE_ACK",
    sctp.SHUTDOWN_COMPLETE: "SHUTDOWN_COMPLETE",
    192: "ASCONF_ACK",
}
# What the two ends choose, and what nobody chose.
CLIENT_TAG, SERVER_TAG, WRONG = 0x11223344, 0xAABBCCDD, 0x99999999


@dataclass(frozen=True)
class Packet:
    """A packet: who sends it, its chunks, and how its numbers are wrong.

    ``tag`` None is the right one: 0 for an INIT, else the receiver's.  ``told`` is what
    INIT and INIT ACK say, None: the sender's own.  ``raw`` are bytes behind the chunks.
    """

    client: bool
    kinds: tuple[int, ...]
    tag: int | None = None
    told: int | None = None
    flags: int = 0
    size: int = 0
    raw: bytes = b""
    crc: int = 0
    cut: int = 0

    def __str__(self) -> str:
        names = "+".join(NAMES[kind] for kind in self.kinds)
        who = "client" if self.client else "server"
        odd = "".join(
            f" {name}={value:#x}"
            for name in ("tag", "told", "flags", "size", "crc", "cut")
            if (value := getattr(self, name))
        )
        return f"{who} {names}{odd}{' tag=0' if self.tag == 0 else ''} {self.raw.hex()}"

    def build(self, port: int) -> bytes:
        """The packet as its sender writes it, before any translation."""
        own, other = (CLIENT_TAG, SERVER_TAG) if self.client else (SERVER_TAG, CLIENT_TAG)
        told = own if self.told is None else self.told
        tag = self.tag
        if tag is None:
            tag = 0 if self.kinds[:1] == (sctp.INIT,) else other
        chunks = b"".join(
            sctp.init(told, ack=kind == sctp.INIT_ACK)
            if kind in (sctp.INIT, sctp.INIT_ACK)
            else sctp.chunk(kind, self.flags, bytes(i & 0xFF for i in range(self.size)))
            for kind in self.kinds
        )
        chunks = (chunks + self.raw)[: len(chunks) + len(self.raw) - self.cut]
        ends = (CLIENT, VIP, port, 80) if self.client else (SERVER, CLIENT, 8080, port)
        made = sctp.build(*ends, tag, chunks)
        if not self.crc:
            return made
        body = bytearray(made[20:])
        (crc,) = struct.unpack_from("<I", body, sctp.CHECKSUM)
        struct.pack_into("<I", body, sctp.CHECKSUM, crc ^ self.crc)
        return ipv4.build(*ends[:2], SCTP, bytes(body), flags_fragment=ipv4.DONT_FRAGMENT)


class Association(Walk):
    """The walk of `Walk`, with chunks for segments."""

    def plan(self) -> Plan:
        return replace(plan(SCTP), timeouts=TIMEOUTS)

    def send(self, *packets: Packet) -> None:
        """Send each packet through both, and hold the outcomes against each other."""
        for packet in packets:
            if self._begins_anew(packet):
                return
            reason = DropReason.BAD_L4_CHECKSUM if packet.crc else DropReason.INVALID_STATE
            self.through(packet.client, packet.build(self.port), str(packet), reason)
            if not self._tracked():
                return

    def _begins_anew(self, packet: Packet) -> bool:
        """Where we differ: an INIT to an association that is over begins a new flow."""
        if not packet.client or packet.kinds[:1] != (sctp.INIT,):
            return False
        now = time.monotonic_ns() - self.started
        return any(f.state == "CLOSED" and f.seen_reply for f in self.dataplane.flows(now))


def random_association(rng: random.Random, length: int) -> list[Packet]:
    """An association that mostly goes well, and may be anywhere in its life."""
    well = [
        Packet(True, (sctp.INIT,)),
        Packet(False, (sctp.INIT_ACK,)),
        Packet(True, (sctp.COOKIE_ECHO, *([sctp.DATA] * rng.randrange(2))), size=8),
        Packet(False, (sctp.COOKIE_ACK, *([sctp.SACK] * rng.randrange(2)))),
    ]
    packets = well[: rng.choice((0, 1, 2, 3, 4, 4, 4))]
    if not packets:
        packets.append(Packet(True, (rng.choice(list(NAMES)),), tag=rng.choice((None, 0))))
    while len(packets) < length:
        packets.append(_random_packet(rng))
    return packets


_LIKELY = (sctp.DATA, sctp.SACK, sctp.HEARTBEAT, sctp.HEARTBEAT_ACK, sctp.SHUTDOWN)


def _random_packet(rng: random.Random) -> Packet:
    kinds = tuple(
        rng.choice(_LIKELY if rng.random() < 0.4 else tuple(NAMES))
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3)))
    )
    made = Packet(rng.random() < 0.5, kinds, size=rng.choice((0, 1, 4, 16, 100)))
    if rng.random() < 0.25:
        made = replace(made, tag=rng.choice((0, CLIENT_TAG, SERVER_TAG, WRONG)))
    if rng.random() < 0.2:
        made = replace(made, told=rng.choice((0, CLIENT_TAG, SERVER_TAG, WRONG)))
    if rng.random() < 0.2:
        made = replace(made, flags=1)
    if rng.random() < 0.05:
        made = replace(made, raw=rng.choice((b"\0", b"\0\0\0", bytes(4), b"\0\0\0\1", b"\7\0\1")))
    if rng.random() < 0.05:
        made = replace(made, cut=rng.choice((1, 4, 8)))
    if rng.random() < 0.05:
        made = replace(made, crc=1 << rng.randrange(32))
    return made
