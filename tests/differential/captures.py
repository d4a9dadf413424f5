"""Captures of what came into node1 of a simulated cluster: recording and reading them.

A capture is a pcap file of raw IPv4 (LINKTYPE_RAW) with nanoseconds.  What came by the
TUN is in it as it came; a datagram of the overlay with the outer headers that it had on
the underlay, by which it is told apart.  ``python -m tests.differential.captures`` writes
them anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import dpkt

from pylb.dataplane.base import NODE_TUN, OverlayPort, Packet
from pylb.plan.compile import compile
from pylb.plan.tables import Plan
from pylb.policy.model import Overlay
from pylb.wire import udp
from tests.sim.clock import SECOND
from tests.sim.test_weather import PATHS, WEATHERS, world
from tests.sim.world import VIP2

FOLDER = Path(__file__).resolve().parents[1] / "data"
SEED, NODE = 7, "node1"


def path_of(overlay: Overlay) -> Path:
    return FOLDER / f"{overlay.value}.pcap"


def plan_of(overlay: Overlay) -> Plan:
    """What node1 was loaded with when its capture was made."""
    cluster, _ = world(SEED, overlay)
    return compile(cluster.policy, NODE)


def read(overlay: Overlay) -> Iterator[tuple[int, Packet]]:
    """When each packet came, nanoseconds, and the packet as a dataplane takes it."""
    plan = plan_of(overlay)
    with path_of(overlay).open("rb") as file:
        for at, raw in dpkt.pcap.Reader(file):
            yield round(at * SECOND), from_wire(plan, raw)


def from_wire(plan: Plan, raw: bytes) -> Packet:
    source, dst = struct.unpack_from(">II", raw, 12)
    (dport,) = struct.unpack_from(">H", raw, 22)
    to_overlay = dst == plan.node_ip and raw[9] == 17 and dport == plan.overlay.port
    if to_overlay and any(peer.address == source for peer in plan.peers.values()):
        return Packet(OverlayPort(source), raw[28:])
    return Packet(NODE_TUN, raw)


def to_wire(plan: Plan, packet: Packet) -> bytes:
    if not isinstance(packet.port, OverlayPort):
        return packet.data
    ends = (packet.port.address, plan.node_ip, 0xC000, plan.overlay.port)
    return udp.build(*ends, packet.data)


def record(overlay: Overlay) -> None:
    """Connections, datagrams in fragments and pings on every path, in a storm."""
    cluster, hosts = world(SEED, overlay)
    cluster.weather(WEATHERS["storm"])
    node = cluster.nodes[NODE]
    taken: list[tuple[int, bytes]] = []
    process = node.dataplane.process

    def recorded(batch: list[Packet], now: int) -> object:
        taken.extend((now, to_wire(node.plan, packet)) for packet in batch)
        return process(batch, now)

    node.dataplane.process = recorded  # type: ignore[method-assign]
    for i, (who, address, port) in enumerate(PATHS):
        connection = hosts[who].connect(address, port)
        connection.write(b"x" * 300 * (i % 5))
        connection.close()
        if who not in cluster.outside:
            hosts[who].send_udp(VIP2, 53, b"y" * 700 * (i % 4), 40000 + i)
        hosts[who].send_udp(address, 9, b"nobody listens", 41000 + i)
        hosts[who].ping(address)
    cluster.settle(3600)
    with path_of(overlay).open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=dpkt.pcap.DLT_RAW, nano=True)
        for at, raw in taken:
            writer.writepkt(raw, ts=at / SECOND)


if __name__ == "__main__":
    for each in Overlay:
        record(each)
