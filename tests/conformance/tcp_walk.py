"""One TCP conversation through two connection trackers at once: the kernel's and ours.

A walk is a list of segments, each made relative to what its sender has sent and
seen, so that a random walk is mostly plausible and now and then is not.
"""

from __future__ import annotations

import random
import select
import time
from dataclasses import dataclass, field

from pylb.dataplane.base import NODE_TUN, DropReason, Event, FlowView, Packet
from pylb.plan.tables import (
    Backend,
    Frontend,
    FrontendKey,
    FrontendKind,
    OverlayTable,
    Plan,
    Prefix,
)
from pylb.wire import tcp as wire
from tests.dataplanes import DATAPLANES, AnyDataplane
from tests.kernel_facts.kernel import Kernel
from tests.unit.dataplane.net import SECRET, TCP, ip

CLIENT, SERVER, VIP = ip("10.1.0.2"), ip("10.2.0.2"), ip("10.96.0.10")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

WINDOW_SCALE = bytes((3, 3, 7))
SACK_PERMITTED = bytes((4, 2))


@dataclass(frozen=True)
class Step:
    """A segment: who sends it, and its numbers relative to what is due.

    ``seq`` is added to the sender's next sequence number, ``ack`` to the next it
    expects.
    """

    client: bool
    flags: int
    seq: int = 0
    ack: int = 0
    length: int = 0
    window: int = 1000
    options: bytes = b""

    def __str__(self) -> str:
        names = {SYN: "S", ACK: "A", FIN: "F", RST: "R", PSH: "P"}
        flags = "".join(name for bit, name in names.items() if self.flags & bit)
        who = "client" if self.client else "server"
        return (
            f"{who} {flags or '-'} seq{self.seq:+} ack{self.ack:+} len {self.length} "
            f"win {self.window} {self.options.hex()}"
        )


@dataclass
class Side:
    """One end: the next number it sends, and the next it expects."""

    next: int
    expects: int = 0


@dataclass
class Walk:
    """Both trackers, and where the two ends are."""

    kernel: Kernel
    port: int
    name: str = "python"
    dataplane: AnyDataplane = field(init=False)
    client: Side = field(default_factory=lambda: Side(1000))
    server: Side = field(default_factory=lambda: Side(5000))
    history: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """Ours."""

    def __post_init__(self) -> None:
        self.dataplane = DATAPLANES[self.name](SECRET)
        self.dataplane.load(self.plan(), 0)
        self.started = time.monotonic_ns()

    def plan(self) -> Plan:
        return plan(TCP)

    def go(self, *steps: Step) -> None:
        """Send each segment through both, and hold the outcomes against each other."""
        for step in steps:
            self._one(step)
            if not self._tracked():
                # What comes next would be a flow of another kind, the server's own perhaps.
                return

    def _tracked(self) -> bool:
        now = time.monotonic_ns() - self.started
        return any(f.original.sport == self.port for f in self.dataplane.flows(now))

    def _one(self, step: Step) -> None:
        own, other = (self.client, self.server) if step.client else (self.server, self.client)
        seq = (own.next + step.seq) & 0xFFFFFFFF
        ack = (own.expects + step.ack) & 0xFFFFFFFF if step.flags & ACK else 0
        ends = (CLIENT, VIP, self.port, 80) if step.client else (SERVER, CLIENT, 8080, self.port)
        raw = wire.build(*ends, seq, ack, step.flags, step.window, step.options, bytes(step.length))
        occupied = step.length + bool(step.flags & SYN) + bool(step.flags & FIN)
        if step.seq == 0 and not step.flags & RST:
            own.next = (own.next + occupied) & 0xFFFFFFFF
            other.expects = own.next
        self.through(step.client, raw, str(step))

    def through(
        self, client: bool, raw: bytes, told: str, reason: DropReason = DropReason.INVALID_STATE
    ) -> None:
        """Send a packet through both; ``reason`` is ours when the kernel finds it invalid."""
        sent, received = self.kernel.left, self.kernel.right
        if not client:
            sent, received = received, sent
        drain(received._descriptor)
        drain(sent._descriptor)
        sent.send(raw)
        theirs = read(received._descriptor)
        out = self.dataplane.process([Packet(NODE_TUN, raw)], time.monotonic_ns() - self.started)
        self.history.append(told)
        self.events += out.events
        self._compare_packets(
            theirs, raw, [p.data for p in out.sent], ([d.reason for d in out.dropped], [reason])
        )
        self._compare_flows()

    def _compare_packets(
        self,
        theirs: bytes | None,
        raw: bytes,
        ours: list[bytes],
        dropped: tuple[list[DropReason], list[DropReason]],
    ) -> None:
        translated = theirs is not None and theirs[12:20] != raw[12:20]
        if translated:
            assert theirs is not None
            assert [without_ttl(p) for p in ours] == [without_ttl(theirs)], self._told(
                f"the kernel sent it translated, we: {dropped}"
            )
        elif ours:
            assert theirs is not None, self._told("we sent it on, the kernel did not")
            told = "the kernel found it invalid and sent it untranslated, we translated it"
            assert [without_ttl(p) for p in ours] == [without_ttl(theirs)], self._told(told)
        else:
            # The kernel lets INVALID packets pass untranslated; ours are dropped by name.
            found, expected = dropped
            assert found == expected, self._told(f"dropped: {dropped}")

    def _compare_flows(self) -> None:
        theirs = self.kernel.flow(self.port)
        now = time.monotonic_ns() - self.started
        found = [f for f in self.dataplane.flows(now) if f.original.sport == self.port]
        ours = found[0] if found else None
        assert described(ours) == described(theirs), self._told("the flows differ")
        if ours is not None and theirs is not None:
            apart = abs(ours.timeout - theirs.timeout)
            assert apart <= 2, self._told(
                f"timeouts differ: ours {ours.timeout}, the kernel's {theirs.timeout}"
            )

    def _told(self, what: str) -> str:
        return "\n".join([what, *self.history])


def described(flow: FlowView | None) -> str:
    if flow is None:
        return "none"
    return f"{flow.state} reply={flow.seen_reply} assured={flow.assured}"


def without_ttl(packet: bytes) -> bytes:
    """A packet less its TTL and header checksum: it went through two forwards, or none."""
    return packet[:8] + packet[9:10] + packet[12:]


def drain(descriptor: int) -> None:
    while read(descriptor, 0.0) is not None:
        pass


def read(descriptor: int, wait: float = 0.05) -> bytes | None:
    import os

    ready, _, _ = select.select([descriptor], [], [], wait)
    return os.read(descriptor, 65536) if ready else None


def plan(protocol: int) -> Plan:
    """One Service whose one backend is local, as the kernel's rules have it."""
    key = FrontendKey(VIP, 80, protocol)
    frontend = Frontend(
        key,
        FrontendKind.CLUSTER_IP,
        "default/web",
        "random",
        (Backend(SERVER, 8080, local=True),),
        (0,),
    )
    return Plan(
        node="node",
        node_ip=ip("192.168.50.11"),
        bridge_ip=ip("10.0.0.1"),
        tunnel_ip=ip("10.0.0.0"),
        pod_cidr=Prefix(ip("10.0.0.0"), 12),
        underlay=Prefix(ip("192.168.50.0"), 24),
        underlay_mtu=1500,
        overlay=OverlayTable("vxlan", 8472, 1, bytes(6), 1450),
        masquerade=True,
        service_cidr=Prefix(ip("10.96.0.0"), 12),
        frontends={key: frontend},
        services={"default/web": (key,)},
        addresses={SERVER: 1},
    )


def random_walk(rng: random.Random, length: int) -> list[Step]:
    """A conversation that mostly goes well."""
    steps = [
        Step(True, SYN, window=rng.choice([1000, 65535]), options=_syn_options(rng)),
    ]
    if rng.random() < 0.9:
        steps.append(Step(False, SYN | ACK, options=_syn_options(rng)))
        steps.append(Step(True, ACK))
    while len(steps) < length:
        steps.append(_random_step(rng))
    return steps


def _syn_options(rng: random.Random) -> bytes:
    chosen = rng.choice([b"", WINDOW_SCALE, SACK_PERMITTED, WINDOW_SCALE + SACK_PERMITTED])
    return chosen.ljust(-(-len(chosen) // 4) * 4, b"\x01")


def _random_step(rng: random.Random) -> Step:
    flags = rng.choices(
        [ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN, SYN | ACK, FIN, 0],
        [30, 20, 12, 4, 4, 5, 4, 1, 1],
    )[0]
    usual = rng.random() < 0.8
    length = rng.choice([0, 0, 1, 10, 500]) if flags & ACK and not flags & (RST | SYN) else 0
    return Step(
        client=rng.random() < 0.5,
        flags=flags,
        seq=0 if usual else rng.choice([-2000, -500, -1, 1, 10, 900, 5000, 200000]),
        ack=0 if rng.random() < 0.9 else rng.choice([-500, -1, 1, 10, 5000, -100000]),
        length=length,
        window=rng.choices([1000, 0, 100, 65535], [8, 1, 1, 2])[0],
        options=_syn_options(rng) if flags & SYN else b"",
    )
