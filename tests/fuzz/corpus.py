"""What the fuzzers begin with: packets from the builders, and conversations of the twins."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pylb.dataplane.base import Output, OverlayPort, Packet
from pylb.plan.tables import FrontendKind, Plan
from pylb.wire import virtio_net
from tests.differential.plans import PEER2, PEERS
from tests.differential.traffic import ANYTHING, CONVERSATIONS, Hand, happen
from tests.differential.twins import Twins
from tests.unit.dataplane.damage import broken, valid, victim_plan, with_options
from tests.unit.dataplane.net import NODE, POD_A, POD_B, SECOND, VIP, backend, frontend, segment
from tests.unit.dataplane.net import plan as plan_of

VXLAN_HEADERS = 22
OPERATIONS = 5
TUN, FROM_PEER, ADVANCE = 0, 1, 2
BARE, OTHER_PEER = 0x10, 0x20
# As fuzz_datapath.c has them.
STEPS = (0, 1, 1_000_000, SECOND, 2 * SECOND + 1, 10 * SECOND, 31 * SECOND, 121 * SECOND)


def packets() -> Iterator[bytes]:
    """For fuzz_packet: as they are, and with checksums mended."""
    for raw in (*valid(), *(with_options(raw, b"\7\7\4\0" * 10) for raw in valid())):
        yield b"\0" + raw
        yield b"\1" + raw
        # What an error quotes is a packet, too.
        yield b"\1" + raw[28:]


def offloads() -> Iterator[bytes]:
    """For fuzz_offload: a virtio-net header, and a super-packet behind it."""
    long = segment(0x0AF40102, 40000, 0x0AF40202, 80, 0x18, payload=bytes(5000))
    for raw in (*valid(), long):
        for gso, size in ((virtio_net.GSO_NONE, 0), (virtio_net.GSO_TCPV4, 1400), (5, 9)):
            for flags in (0, virtio_net.NEEDS_CSUM, virtio_net.DATA_VALID):
                header = struct.pack("<BBHHHH", flags, gso, 54, size, 20, 16 if gso == 1 else 6)
                yield b"\1" + header + raw


def wides() -> Iterator[bytes]:
    yield bytes(i * 7 & 0xFF for i in range(300))
    yield b"".join(bytes((9, flow, 255)) for flow in range(20)) * 3


class Recording(Twins):
    """Twins whose packets and waits are written down as fuzz_datapath.c reads them."""

    def __init__(self) -> None:
        super().__init__(24)
        self.written = bytearray()
        self._written_at = 0

    def process(self, *batch: Packet) -> Output:
        for packet in batch:
            self._write(packet)
        return super().process(*batch)

    def advance(self, to: int) -> Output:
        self.now = max(self.now, to)
        self._operation(ADVANCE, 0, b"")
        return super().advance(to)

    def _write(self, packet: Packet) -> None:
        if not isinstance(packet.port, OverlayPort):
            self._operation(TUN, 0, packet.data)
            return
        other = OTHER_PEER if packet.port.address == PEER2 else 0
        if packet.data[:8] == b"\x08\0\0\0\0\0\1\0":
            self._operation(FROM_PEER, other, packet.data[VXLAN_HEADERS:])
        else:
            self._operation(FROM_PEER, other | BARE, packet.data)

    def _operation(self, kind: int, flags: int, data: bytes) -> None:
        passed, self._written_at = self.now - self._written_at, self.now
        step = max(i for i, length in enumerate(STEPS) if length <= passed)
        what = next(b for b in range(256) if b % OPERATIONS == kind and b & 0x38 == flags)
        self.written += struct.pack(">BBH", what, step, len(data)) + data


def plan() -> Plan:
    """That of fuzz_datapath.c, as far as it matters to what is worth sending."""
    here = [backend(POD_A), backend(POD_B)]
    return replace(
        plan_of(
            *victim_plan().frontends.values(),
            frontend(VIP, 81, here[1:]),
            frontend(VIP, 82, here[1:]),
            frontend(NODE, 30081, here, kind=FrontendKind.NODE_PORT),
        ),
        peers={peer.name: peer for peer in PEERS},
        masquerade_ports=(61000, 61003),
    )


def conversations() -> Iterator[bytes]:
    for seed in range(60):
        twins, first = Recording(), plan()
        hand = Hand(twins, first)
        operations = dict(CONVERSATIONS if seed % 2 else ANYTHING)
        for step in range(12):
            happen(hand, seed * 100 + step, operations)
            if hand.plan is not first:
                # The plan stays that of the fuzzer.
                twins.load(first)
                hand.plan = first
        yield bytes(twins.written[:4000])
    for raw in valid():
        yield struct.pack(">BBH", TUN, 0, len(raw)) + raw
        yield struct.pack(">BBH", TUN, 0, len(raw)) + broken(raw, 4, b"\xff\xff")


TARGETS = {
    "packet": packets,
    "offload": offloads,
    "wide": wides,
    "datapath": conversations,
}


def write(target: str, folder: Path) -> None:
    """One file for each input to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, each in enumerate(TARGETS[target]()):
        (folder / f"seed-{i:03}").write_bytes(each)
