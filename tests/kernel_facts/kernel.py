"""The real kernel's connection tracking, between two wires that a test holds.

    left (10.1.0.0/24) ─ TUN ─ [ a network namespace: nft, conntrack ] ─ TUN ─ right (everything else)

Packets are written to one TUN and come out of the other, so that no TCP stack
has a say.  10.96.0.10:80, TCP and SCTP, is translated to 10.2.0.2:8080, and whatever goes
to 10.2.0.9 gets 10.2.0.1 as its source.
"""  # noqa: E501

from __future__ import annotations

import ctypes
import fcntl
import os
import queue
import re
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import IO

from pylb.dataplane.base import FlowView
from pylb.observe.conntrack_parse import Parsed, parse_line

DEADLINE = 10.0
TOOLS = ("ip", "nft", "conntrack", "sysctl")

CLIENT = "10.1.0.2"
SERVER = "10.2.0.2"
VIP = "10.96.0.10"

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001
_CLONE_NEWNET = 0x40000000

_RULES = """
table ip pylb_facts {
    chain pre {
        type nat hook prerouting priority -100;
        ip daddr 10.96.0.10 tcp dport 80 dnat to 10.2.0.2:8080;
        ip daddr 10.96.0.10 sctp dport 80 dnat to 10.2.0.2:8080;
    }
    chain post {
        type nat hook postrouting priority 100;
        ip daddr 10.2.0.9 snat to 10.2.0.1;
    }
    chain forward {
        type filter hook forward priority 0;
        ct state invalid counter;
    }
}
"""


def wait_for(what: str, condition: Callable[[], object]) -> None:
    """Return when ``condition`` holds; fail when it does not within the deadline."""
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.005)


class Wire:
    """One TUN: packets in, packets out."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, packet: bytes) -> None:
        os.write(self._descriptor, packet)

    def receive(self, wanted: Callable[[bytes], bool]) -> bytes:
        """The next packet that is wanted; others are thrown away."""
        until = time.monotonic() + DEADLINE
        while True:
            ready, _, _ = select.select([self._descriptor], [], [], until - time.monotonic())
            assert ready, "the packet did not come out"
            packet = os.read(self._descriptor, 65536)
            if wanted(packet):
                return packet

    def close(self) -> None:
        os.close(self._descriptor)


class Kernel:
    """A namespace with connection tracking, its two wires and its events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tools: list[subprocess.Popen[str]] = []
        self._wires: list[Wire] = []
        self._run("ip", "netns", "add", name)
        try:
            for key, value in (
                ("net.ipv6.conf.all.disable_ipv6", "1"),
                ("net.ipv6.conf.default.disable_ipv6", "1"),
                ("net.ipv4.ip_forward", "1"),
                ("net.ipv4.conf.all.rp_filter", "0"),
                ("net.ipv4.conf.default.rp_filter", "0"),
            ):
                self.run("sysctl", "-qw", f"{key}={value}")
            self.left = self._wire("left", "10.1.0.1/24")
            self.right = self._wire("right", "10.2.0.1/24")
            self.run("ip", "route", "add", "default", "dev", "right")
            self.run("nft", "-f", "-", stdin=_RULES)
            self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
            self._listen()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the namespace and all in it."""
        for tool in self._tools:
            tool.kill()
            tool.communicate()
        for wire in self._wires:
            wire.close()
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def run(self, *command: str, stdin: str | None = None, status: int = 0) -> str:
        """What a command prints that is run in the namespace and must end with ``status``."""
        return self._run("ip", "netns", "exec", self.name, *command, stdin=stdin, status=status)

    def _run(self, *command: str, stdin: str | None = None, status: int = 0) -> str:
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{command}: {done.stderr}"
        return done.stdout

    def _wire(self, link: str, address: str) -> Wire:
        made: list[int] = []

        def inside() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{self.name}") as namespace:  # noqa: PTH123
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    return
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(
                descriptor, _TUNSETIFF, struct.pack("16sH22x", link.encode(), _IFF_TUN_NO_PI)
            )
            made.append(descriptor)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        assert made, f"no TUN {link} in {self.name}"
        wire = Wire(made[0])
        self._wires.append(wire)
        self.run("ip", "address", "add", address, "dev", link)
        self.run("ip", "link", "set", link, "up")
        return wire

    # Listing

    def lines(self, *options: str) -> list[str]:
        """``conntrack -L``, line by line."""
        return self.run("conntrack", "-L", *options).splitlines()

    def flow(self, port: int) -> FlowView | None:
        """The flow whose original source port (or ICMP id) is ``port``, None if there is none."""
        found = [parse_line(line).flow for line in self.lines("-o", "id")]
        return next((flow for flow in found if flow.original.sport == port), None)

    # Events

    def _listen(self) -> None:
        tool = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "conntrack", "-E", "-o", "id,timestamp"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._tools.append(tool)
        assert tool.stdout is not None
        threading.Thread(target=self._collect, args=(tool.stdout,), daemon=True).start()
        probe = iter(range(60000, 61000))

        def heard() -> bool:
            self.left.send(udp(CLIENT, next(probe), "10.2.0.250", 9))
            return not self._events.empty()

        wait_for("conntrack -E hears events", heard)

    def _collect(self, stream: IO[str]) -> None:
        try:
            for line in stream:
                self._events.put(line.rstrip("\n"))
        except ValueError:
            pass  # closed under us: the namespace goes

    def event_line(self, port: int) -> str:
        """The next event of the flow with that original source port, as the tool printed it."""
        while True:
            line = self._events.get(timeout=DEADLINE)
            if parse_line(strip_origin(line)).flow.original.sport == port:
                return line

    def event(self, port: int) -> Parsed:
        """The next event of the flow with that original source port."""
        return parse_line(strip_origin(self.event_line(port)))


def strip_origin(line: str) -> str:
    """An event's line without who caused it."""
    return re.sub(r" \[USERSPACE\].*", "", line)


# Packets.  Addresses are dotted quads, everything else host order.


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1]))
    total += data[-1] << 8 if len(data) & 1 else 0
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(src: str, dst: str, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet without options."""
    source, target = IPv4Address(src).packed, IPv4Address(dst).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    total = checksum(head + source + target)
    return head[:10] + struct.pack("!H", total) + source + target + payload


def _l4(src: str, dst: str, protocol: int, segment: bytes, at: int) -> bytes:
    pseudo = IPv4Address(src).packed + IPv4Address(dst).packed
    total = checksum(pseudo + struct.pack("!HH", protocol, len(segment)) + segment)
    return segment[:at] + struct.pack("!H", total) + segment[at + 2 :]


def udp(src: str, sport: int, dst: str, dport: int, data: bytes = b"x") -> bytes:
    """A UDP datagram."""
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    return ip(src, dst, 17, _l4(src, dst, 17, head + data, 6))


def icmp(src: str, dst: str, kind: int, ident: int, data: bytes = b"") -> bytes:
    """An ICMP query or answer of type ``kind``, code 0."""
    head = struct.pack("!BBHHH", kind, 0, 0, ident, 1) + data
    return ip(src, dst, 1, head[:2] + struct.pack("!H", checksum(head)) + head[4:])


def tcp(
    src: tuple[str, int], dst: tuple[str, int], flags: int, seq: int, ack: int, data: bytes = b""
) -> bytes:
    """A TCP segment with a window of 65535 and no options."""
    head = struct.pack("!HHIIBBHHH", src[1], dst[1], seq, ack, 0x50, flags, 65535, 0, 0)
    return ip(src[0], dst[0], 6, _l4(src[0], dst[0], 6, head + data, 16))


def ports(packet: bytes) -> tuple[int, int]:
    """Source and destination port of a packet without IP options."""
    sport, dport = struct.unpack("!HH", packet[20:24])
    return sport, dport


@dataclass
class Connection:
    """A TCP connection from CLIENT:port to VIP:80, both ends in the test's hands."""

    kernel: Kernel
    port: int
    client_seq: int = 1000
    server_seq: int = 5000

    def client(self, flags: int, data: bytes = b"", seq: int | None = None) -> bytes:
        """Send from the client; gives what came out on the right."""
        number = self.client_seq if seq is None else seq
        ack = self.server_seq if flags & ACK else 0
        sent = tcp((CLIENT, self.port), (VIP, 80), flags, number, ack, data)
        self.kernel.left.send(sent)
        out = self.kernel.right.receive(lambda packet: ports(packet)[0] == self.port)
        if seq is None:
            self.client_seq += len(data) + bool(flags & (SYN | FIN))
        return out

    def server(self, flags: int, data: bytes = b"", seq: int | None = None) -> bytes:
        """Send from the server; gives what came out on the left."""
        number = self.server_seq if seq is None else seq
        ack = self.client_seq if flags & ACK else 0
        sent = tcp((SERVER, 8080), (CLIENT, self.port), flags, number, ack, data)
        self.kernel.right.send(sent)
        out = self.kernel.left.receive(lambda packet: ports(packet)[1] == self.port)
        if seq is None:
            self.server_seq += len(data) + bool(flags & (SYN | FIN))
        return out

    def handshake(self) -> None:
        """SYN, SYN-ACK, ACK, and their three events."""
        self.client(SYN)
        self.server(SYN | ACK)
        self.client(ACK)
        for _ in range(3):
            self.kernel.event(self.port)
