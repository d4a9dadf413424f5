"""A whole cluster in one process, its links and its time in the test's hand.

    pods ── veth ── node1 ═╗                     ╔═ node2 ── veth ── pods
                           ╠══ underlay ═════════╣
    client ────────────────╝                     ╚══════ router ── outside hosts

Each node runs a real dataplane from the policy's real plan (`SimNode`); kernels,
hosts and links are simulated.  Whatever is random comes from one seed, which is
in the cluster's name and so in every failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address
from random import Random

from pylb.plan.compile import apply, compile, update, validate_delta
from pylb.policy.model import Policy
from pylb.wire import icmp
from tests.sim.clock import SECOND, Clock, Link, Weather
from tests.sim.hosts import Host
from tests.sim.node import SimNode, Wires
from tests.sim.packets import TIME_EXCEEDED, decode, forwarded
from tests.unit.plan.strategies import difference


class Cluster:
    """Everything of a policy, running."""

    def __init__(self, policy: Policy, seed: int, max_flows: int = 262144) -> None:
        self.policy = policy
        self.seed = seed
        self.clock = Clock()
        self.rng = Random(seed)
        self.links: dict[str, Link] = {}
        self.nodes: dict[str, SimNode] = {}
        self.pods: dict[str, Host] = {}
        self._pod_nodes: dict[str, str] = {}
        self.outside: dict[str, Host] = {}
        self.routes: dict[str, str] = {}
        """Outside host to the node that it sends cluster addresses (pods, VIPs) through."""
        self.undelivered: list[bytes] = []
        """Packets to a pod that is no more."""
        for name in sorted(policy.nodes):
            self._add_node(name, max_flows)
        for _, pod in sorted(policy.pods.items()):
            self._add_pod(pod.name, pod.node, int(pod.ip))
        self._add_outside("client", int(policy.lab.client_ip))
        for host in policy.lab.outside:
            self._add_outside(host.name, int(host.ip))

    def __repr__(self) -> str:
        return f"<cluster, seed {self.seed}, at {self.clock.now} ns>"

    # Machines

    def node_of(self, pod: str) -> SimNode:
        return self.nodes[self._pod_nodes[pod]]

    def hosts(self) -> Iterable[Host]:
        yield from self.pods.values()
        yield from self.outside.values()
        yield from (node.host for node in self.nodes.values())

    # Weather and time

    def weather(self, weather: Weather, *names: str) -> None:
        """Set it on the named links, on all without a name."""
        for name in names or self.links:
            self.links[name].weather = weather

    def settle(self, seconds: float = 300) -> None:
        """Run until nothing more is under way; an error after ``seconds`` simulated ones."""
        limit = self.clock.now + int(seconds * SECOND)
        while (at := self.clock.next_time()) is not None:
            assert at <= limit, f"{self}: still busy after {seconds} s"
            self._pass_deadlines(at)
            self.clock.fire_next()

    def run(self, duration: int) -> None:
        """Let exactly ``duration`` nanoseconds pass, whatever happens in them."""
        end = self.clock.now + duration
        while (at := self.clock.next_time()) is not None and at <= end:
            self._pass_deadlines(at)
            self.clock.fire_next()
        self._pass_deadlines(end)
        self.clock.now = end

    def jump(self, seconds: float) -> None:
        self.run(int(seconds * SECOND))

    def _pass_deadlines(self, until: int) -> None:
        """Call `advance` when each node's dataplane asks for it, as a pump's timer does."""
        while True:
            due = [
                (at, name)
                for name, node in self.nodes.items()
                if (at := node.dataplane.next_deadline()) is not None and at <= until
            ]
            if not due:
                return
            at, name = min(due)
            self.clock.now = max(self.clock.now, at)
            self.nodes[name].advance()
            after = self.nodes[name].dataplane.next_deadline()
            assert after is None or after > at, f"{self}: {name} stays due at {at}"

    # Policy

    def change(self, policy: Policy) -> None:
        """Put another policy into effect: every node updates its plan and loads the delta."""
        change = difference(self.policy, policy)
        for key in change.pods:
            old, new = self.policy.pods.get(key), policy.pods.get(key)
            if old is not None and (new is None or new.ip != old.ip):
                del self.pods[old.name]
            if new is not None and new.name not in self.pods:
                self._add_pod(new.name, new.node, int(new.ip))
        self.policy = policy
        for name, node in self.nodes.items():
            delta = update(node.plan, change)
            validate_delta(node.plan, delta)
            plan = apply(node.plan, delta)
            assert plan == compile(policy, name)
            node.change(delta, plan)

    # Wiring

    def _add_node(self, name: str, max_flows: int) -> None:
        self.links[name] = Link(self.clock, self.rng)

        def to_underlay(raw: bytes, gateway: int | None) -> None:
            self._underlay(name, raw, gateway)

        wires = Wires(
            to_pod=self._to_pod,
            to_underlay=to_underlay,
            to_peer=lambda address, payload: self._overlay(name, address, payload),
        )
        plan = compile(self.policy, name)
        self.nodes[name] = SimNode(plan, self.clock, self.rng, wires, max_flows)

    def _add_pod(self, name: str, node: str, address: int) -> None:
        self._pod_nodes[name] = node
        link = self.links[name] = Link(self.clock, self.rng)
        at = self.nodes[node]
        mtu = at.plan.overlay.mtu

        def send(raw: bytes) -> None:
            link.carry(lambda: at.from_pod(raw))

        self.pods[name] = Host(name, (address,), self.clock, self.rng, send, mtu)

    def _add_outside(self, name: str, address: int) -> None:
        self.links[name] = Link(self.clock, self.rng)

        def send(raw: bytes) -> None:
            self._underlay(name, raw, None)

        self.outside[name] = Host(name, (address,), self.clock, self.rng, send)

    def _to_pod(self, address: int, raw: bytes) -> None:
        for name, pod in self.pods.items():
            if pod.address == address:
                self.links[name].carry(partial(pod.receive, raw))
                return
        self.undelivered.append(raw)

    def _overlay(self, sender: str, address: int, payload: bytes) -> None:
        name = self._named(address)
        assert name is not None, f"{self}: overlay to {IPv4Address(address)}"
        source = self.nodes[sender].address
        self._across(sender, name, lambda: self.nodes[name].from_overlay(source, payload))

    def _underlay(self, sender: str, raw: bytes, gateway: int | None) -> None:
        """Carry an IP packet from one machine to the next."""
        packet, lab = decode(raw), self.policy.lab
        assert len(raw) <= lab.mtu, f"{self}: {sender} sent {packet} over an MTU of {lab.mtu}"
        if gateway is None and lab.masquerade and packet.dst not in self.routed:
            leak = any(packet.src in node.plan.pod_cidr for node in self.nodes.values())
            assert not leak, f"{self}: a pod's address leaks from {sender}: {packet}"
        receiver = self._named(gateway if gateway is not None else packet.dst)
        if receiver is None and sender in self.routes:
            receiver = self.routes[sender]
        assert receiver is not None, f"{self}: {sender} has no route for {packet}"
        if self._beyond_router(sender) or self._beyond_router(receiver):
            once = forwarded(raw)
            if once is None:
                error = icmp.error(TIME_EXCEEDED, 0, 0, raw, int(lab.router_ip), packet.src)
                self.links[sender].carry(lambda: self._arrive(sender, error))
                return
            raw = once
        self._across(sender, receiver, lambda: self._arrive(receiver, raw))

    @property
    def routed(self) -> set[int]:
        """Outside machines that have a route to the cluster's own addresses."""
        return {self.outside[name].address for name in self.routes}

    def _arrive(self, name: str, raw: bytes) -> None:
        if name in self.nodes:
            self.nodes[name].from_underlay(raw)
        else:
            self.outside[name].receive(raw)

    def _beyond_router(self, name: str) -> bool:
        host = self.outside.get(name)
        return host is not None and IPv4Address(host.address) not in self.policy.lab.underlay

    def _across(self, sender: str, receiver: str, deliver: Callable[[], None]) -> None:
        self.links[sender].carry(lambda: self.links[receiver].carry(deliver))

    def _named(self, address: int) -> str | None:
        for name, node in self.nodes.items():
            if node.address == address:
                return name
        for name, host in self.outside.items():
            if host.address == address:
                return name
        return None
