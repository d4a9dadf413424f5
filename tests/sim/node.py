"""A node: its kernel's routing around one dataplane (FACTS section 1, the recipe's rules).

The kernel here is only what the recipe sets up.  Every packet that it touches is
checked; what must never happen is an AssertionError at the place where it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from pylb.dataplane.base import (
    NODE_TUN,
    Dropped,
    DropReason,
    Event,
    FlowView,
    Output,
    OverlayPort,
    Packet,
    TunPort,
)
from pylb.node.plumbing.targets import targets
from pylb.plan.tables import Delta, FrontendKey, FrontendKind, Plan
from pylb.wire import flannel_udp, icmp, vxlan
from tests.dataplanes import make
from tests.sim.clock import Clock
from tests.sim.hosts import Host
from tests.sim.packets import (
    DONT_FRAGMENT,
    ICMP,
    TCP,
    UDP,
    WITH_PORTS,
    Decoded,
    decode,
    forwarded,
    fragments,
)

LOOPBACK = 0x7F000001
_UNREACHABLE, _FRAGMENTATION_NEEDED, _TIME_EXCEEDED = 3, 4, 11


@dataclass(frozen=True)
class Wires:
    """Where a node's packets go: to a local pod, to the underlay, to a peer's overlay socket."""

    to_pod: Callable[[int, bytes], None]
    to_underlay: Callable[[bytes, int | None], None]
    to_peer: Callable[[int, bytes], None]


class NodeHost(Host):
    """The node's own processes: they have several addresses, and routes choose among them."""

    node: SimNode

    def source_for(self, address: int, port: int) -> int:
        plan = self.node.plan
        if address >> 24 == 127:
            return LOOPBACK
        return plan.bridge_ip if address in plan.pod_cidr else plan.node_ip


class SimNode:
    """One node of the cluster."""

    def __init__(
        self, plan: Plan, clock: Clock, rng: Random, wires: Wires, max_flows: int = 262144
    ) -> None:
        self.plan = plan
        self._secret, self._max_flows = rng.randbytes(16), max_flows
        self.dataplane = make(self._secret, max_flows)
        self.events: list[Event] = []
        self.dropped: list[Dropped] = []
        self.written: list[Decoded] = []
        """What the dataplane wrote to the TUN."""
        self._clock, self._wires = clock, wires
        own = (plan.node_ip, plan.bridge_ip, LOOPBACK)
        # Routes come before fragments where a packet begins, so no MTU holds before them.
        self.host = NodeHost(plan.node, own, clock, rng, self._from_process, mtu=65535)
        self.host.node = self
        self.take(self.dataplane.load(plan, clock.now))

    @property
    def address(self) -> int:
        return self.plan.node_ip

    def flows(self) -> list[FlowView]:
        return list(self.dataplane.flows(self._clock.now))

    def reasons(self) -> list[DropReason]:
        return [dropped.reason for dropped in self.dropped]

    def change(self, delta: Delta, plan: Plan) -> None:
        """Give the dataplane a delta that leads to ``plan``."""
        self.plan = plan
        self.take(self.dataplane.change(delta, self._clock.now))

    def restart(self) -> None:
        """The daemon starts afresh with its old secret: no flow is left."""
        self.dataplane = make(self._secret, self._max_flows)
        self.take(self.dataplane.load(self.plan, self._clock.now))

    def advance(self) -> None:
        self.take(self.dataplane.advance(self._clock.now))

    # Into the node

    def from_pod(self, raw: bytes) -> None:
        """``iif cni0 lookup 100``: everything from pods is forwarded into the TUN."""
        self._forward_into_tun(raw, self.plan.bridge_ip)

    def from_underlay(self, raw: bytes) -> None:
        """Rules 110 to 130: what the daemon must see, else the node's own stack."""
        packet, plan = decode(raw), self.plan
        if packet.dst == plan.node_ip:
            # Port rules match no fragment; a tc filter redirects those of UDP.
            if packet.is_fragment:
                captured = packet.protocol == UDP
            elif packet.protocol in (TCP, UDP):
                ranges = (plan.node_ports, plan.masquerade_ports)
                captured = any(low <= packet.dport <= high for low, high in ranges)
                captured = captured or self._has_port(packet)
            else:
                captured = True
            if captured:
                self._forward_into_tun(raw, plan.node_ip)
            else:
                self.host.receive(raw)
            return
        captured = self._is_vip(packet.dst) or packet.dst in plan.pod_cidr
        assert captured, f"{plan.node} is no router for {packet}"
        self._forward_into_tun(raw, plan.node_ip)

    def from_overlay(self, sender: int, payload: bytes) -> None:
        """A datagram on the overlay's socket."""
        self.take(self.dataplane.process([Packet(OverlayPort(sender), payload)], self._clock.now))

    def _from_process(self, raw: bytes) -> None:
        """Rules 140 to 151, then the main table: what a process of the node sends."""
        packet, plan = decode(raw), self.plan
        low, high = plan.node_ports
        peer = any(packet.dst in peer.subnet for peer in plan.peers.values())
        node_port = packet.protocol in WITH_PORTS and low <= packet.dport <= high
        to_vip = self._is_vip(packet.dst) or packet.dst == plan.tunnel_ip
        if (
            to_vip
            or peer
            or self._has_port(packet)
            or (packet.dst in (plan.node_ip, LOOPBACK) and node_port)
        ):
            for piece in fragments(raw, plan.overlay.mtu):
                self.into_tun(piece)
        elif packet.dst in self.host.addresses:
            self._clock.after(0, lambda: self.host.receive(raw))
        elif packet.dst in plan.pod_cidr:
            for piece in fragments(raw, plan.overlay.mtu):
                self._wires.to_pod(packet.dst, piece)
        else:
            for piece in fragments(raw, plan.underlay_mtu):
                self._wires.to_underlay(piece, None)

    def _is_vip(self, address: int) -> bool:
        """Rules 130 and 140: virtual addresses are captured whole."""
        return any(address in prefix for prefix in targets(self.plan).vips)

    def _has_port(self, packet: Decoded) -> bool:
        """Rules 115 and 155: of an address that somebody has, the ports of frontends."""
        if packet.protocol not in WITH_PORTS or packet.is_fragment:
            return False
        return (packet.dst, packet.dport, packet.protocol) in targets(self.plan).ports

    def _forward_into_tun(self, raw: bytes, own: int) -> None:
        """Forward by the kernel: TTL one less, and the TUN's MTU holds."""
        packet, mtu = decode(raw), self.plan.overlay.mtu
        once = forwarded(raw)
        if once is None:
            self._complain(_TIME_EXCEEDED, 0, 0, raw, own)
        elif len(once) > mtu and packet.word & DONT_FRAGMENT:
            self._complain(_UNREACHABLE, _FRAGMENTATION_NEEDED, mtu, raw, own)
        else:
            for piece in fragments(once, mtu):
                self.into_tun(piece)

    def _complain(self, kind: int, code: int, rest: int, about: bytes, own: int) -> None:
        packet = decode(about)
        if packet.protocol == ICMP and packet.is_error:
            return
        error = icmp.error(kind, code, rest, about, own, packet.src)
        if own == self.plan.bridge_ip:
            self._wires.to_pod(packet.src, error)
        else:
            self._from_process(error)

    def into_tun(self, raw: bytes) -> None:
        self.take(self.dataplane.process([Packet(NODE_TUN, raw)], self._clock.now))

    # Out of the dataplane

    def take(self, out: Output) -> None:
        self.events += out.events
        self.dropped += out.dropped
        for packet in out.sent:
            if isinstance(packet.port, TunPort):
                self._from_tun(packet.data)
            else:
                self._to_overlay(packet.port, packet.data)

    def _to_overlay(self, port: OverlayPort, payload: bytes) -> None:
        plan = self.plan
        inner = payload
        if plan.overlay.kind == "vxlan":
            frame = vxlan.decode(payload)
            peer = next(p for p in plan.peers.values() if p.address == port.address)
            assert (frame.vni, frame.src_mac, frame.dst_mac) == (1, plan.overlay.mac, peer.mac)
            inner = frame.packet
        else:
            inner = flannel_udp.decode(payload)
        packet = decode(inner)
        self._never_a_vip(packet)
        assert len(payload) + 28 <= plan.underlay_mtu, f"{plan.node}: too big: {packet}"
        self._wires.to_peer(port.address, payload)

    def _from_tun(self, raw: bytes) -> None:
        """``iif pylb0 goto 1000``: what the daemon writes is routed, never captured again."""
        packet, plan = decode(raw), self.plan
        self.written.append(packet)
        self._never_a_vip(packet)
        if packet.dst in (plan.node_ip, plan.bridge_ip) or packet.dst >> 24 == 127:
            # A process reads it after what it is doing now, as from a socket's queue.
            self._clock.after(0, lambda: self.host.receive(raw))
            return
        once = forwarded(raw)
        if once is None:
            self._complain(_TIME_EXCEEDED, 0, 0, raw, plan.node_ip)
            return
        assert packet.src >> 24 != 127, f"{plan.node}: a loopback source leaves: {packet}"
        if packet.dst in plan.pod_cidr:
            assert packet.dst != plan.tunnel_ip, f"{plan.node}: no interface has {packet}"
            self._wires.to_pod(packet.dst, once)
            return
        behind = [peer for peer in plan.peers.values() if packet.dst in peer.subnet]
        if behind:
            assert plan.overlay.kind == "host-gw", f"{plan.node}: outside the overlay: {packet}"
            self._wires.to_underlay(once, behind[0].address)
            return
        self._wires.to_underlay(once, None)

    def _never_a_vip(self, packet: Decoded) -> None:
        plan = self.plan
        assert not self._is_vip(packet.dst), f"{plan.node}: to a VIP: {packet}"
        if packet.protocol in WITH_PORTS and not packet.is_fragment:
            at = FrontendKey(packet.dst, packet.dport, packet.protocol)
            frontend = plan.frontends.get(at)
            # To a redirected address its own backends may pass, and flows older than it.
            redirected = frontend is not None and frontend.kind is FrontendKind.LOCAL_REDIRECT
            assert frontend is None or redirected, f"{plan.node}: to a frontend: {packet}"
