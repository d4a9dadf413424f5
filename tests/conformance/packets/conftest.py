"""One cluster twice, on one of our dataplanes and on the kernel, with silent pods.

Every place drops what comes in before its own stack sees it, so that only the
test speaks; what is sent is crafted, and what comes out is compared byte for byte.
"""

from __future__ import annotations

import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.dataplane.base import FlowView
from pylb.lab import lifetime
from pylb.lab.enter import join_network, launcher
from pylb.observe.flowjson import flow_from_json
from tests.names import drawn

MANIFEST = Path(__file__).with_name("cluster.yaml")
PLACES = ("a", "b", "c", "client", "internet")
QUIET = 0.3
"""Seconds without a packet after which no more is awaited."""
DEADLINE = 10.0
"""Seconds for one that must come."""
_TO_US = 0
"""PACKET_HOST: neither what we sent nor multicast."""

_SILENCE = """
table ip quiet {
    chain input { type filter hook input priority -300; policy drop; }
}
"""


@dataclass
class End:
    """A place's wire: sends whole IP packets, and hears all that come in."""

    namespace: str
    sender: socket.socket = field(init=False)
    listener: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        made: list[socket.socket] = []

        def inside() -> None:
            join_network(f"/run/netns/{self.namespace}")
            made.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
            listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
            made.append(listener)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        self.sender, self.listener = made

    def send(self, packet: bytes) -> None:
        self.sender.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))

    def hear(self, wait: float, first: float = 0) -> list[bytes]:
        """What comes in until nothing has for ``wait`` seconds; what is to come, for ``first``."""
        heard: list[bytes] = []
        while select.select([self.listener], [], [], wait if heard else max(wait, first))[0]:
            data, address = self.listener.recvfrom(65536)
            if address[2] == _TO_US and address[0] != "lo":
                heard.append(data)
        return heard

    def close(self) -> None:
        self.sender.close()
        self.listener.close()


@dataclass
class Side:
    """One of the two labs."""

    lab: str
    ends: dict[str, End]

    def through(self, sender: str, packet: bytes, receiver: str) -> list[bytes]:
        """Send a packet; gives what the receiver then hears, which is something."""
        return self.burst(sender, [packet], receiver)

    def swallowed(self, sender: str, packet: bytes, receiver: str) -> bool:
        """Send a packet; the receiver hears nothing."""
        return not self.burst(sender, [packet], receiver, first=0)

    def burst(
        self, sender: str, packets: list[bytes], receiver: str, first: float = DEADLINE
    ) -> list[bytes]:
        """Send several packets; gives what the receiver hears, sorted."""
        for end in self.ends.values():
            end.hear(0)
        for packet in packets:
            self.ends[sender].send(packet)
        return sorted(self.ends[receiver].hear(QUIET, first))

    def flows(self, node: str) -> list[FlowView]:
        answer = Client(LabPaths(self.lab).node(node).api).get("/conntrack")
        return [flow_from_json(each) for each in answer["flows"]]

    def forget(self) -> None:
        for node in ("node1", "node2"):
            Client(LabPaths(self.lab).node(node).api).delete("/conntrack")


@dataclass
class Pair:
    """The same cluster on both dataplanes."""

    ours: Side
    kernel: Side

    def same(self, sender: str, packet: bytes, receiver: str) -> bytes:
        """Send a packet through both; it must come out of both alike, and once."""
        ours = self.ours.through(sender, packet, receiver)
        theirs = self.kernel.through(sender, packet, receiver)
        assert ours == theirs, (
            f"\nours   {[p.hex() for p in ours]}\ntheirs {[p.hex() for p in theirs]}"
        )
        assert len(ours) == 1, f"expected one packet, got {len(ours)}"
        return ours[0]

    def same_all(self, sender: str, packets: list[bytes], receiver: str) -> list[bytes]:
        """Send several packets through both, then listen."""
        ours = self.ours.burst(sender, packets, receiver)
        assert ours == self.kernel.burst(sender, packets, receiver)
        return ours


def _side(name: str, dataplane: str) -> Side:
    lifetime.up([str(MANIFEST)], name, dataplane, "vxlan", lambda line: None)
    ends = {}
    for where in PLACES:
        place = lifetime.find_place(name, where)
        quiet = launcher(f"/run/netns/{place.namespace}", str(place.folder), ["nft", "-f", "-"])
        subprocess.run(quiet, input=_SILENCE, text=True, check=True)
        ends[where] = End(place.namespace)
    route = ["ip", "route", "replace", "10.96.0.0/12", "via", "192.168.50.11"]
    client = lifetime.find_place(name, "client")
    argv = launcher(f"/run/netns/{client.namespace}", str(client.folder), route)
    subprocess.run(argv, check=True)
    return Side(name, ends)


@pytest.fixture(scope="package", params=["native", "python"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    names = {drawn("ptpo"): request.param, drawn("ptpk"): "kernel"}
    sides: list[Side] = []
    try:
        for name, dataplane in names.items():
            sides.append(_side(name, dataplane))
        yield Pair(*sides)
    finally:
        for side in sides:
            for end in side.ends.values():
                end.close()
            lifetime.down(side.lab)
