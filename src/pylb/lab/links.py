"""The wires of a lab: the underlay, the nodes' uplinks, the pods' links, the outside.

Everything is inside the lab's namespaces; the host gets no link, not for a
moment: both ends of a link are made where they belong.

::

    LAB-NODE  eth0 ─┐                          ┌─ eth0  LAB-HOST (outside)
    LAB-NODE  eth0 ─┼─ underlay (bridge, .254) ┴  one link each, /32 route
    LAB-client eth0 ┘        LAB-router, ip_forward=1

    LAB-POD  eth0 ── port of cni0 (.1 of the podCIDR), isolated     in LAB-NODE

The router knows the underlay, the outside hosts, and which nodes take packets to
Services' outside addresses; pod addresses and cluster IPs are unknown to it, as
they are outside any cluster.  Every link has a MAC that follows from
its IPv4 address, so a neighbour cache is right also after a pod was made anew.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.lab import names, netns
from pylb.policy.model import LabSpec, Node, OutsideHost, Pod

UNDERLAY = "underlay"
"""The router's bridge."""
BRIDGE = "cni0"
"""A node's bridge of pods."""

_LO, _ETH0, _BRIDGE = 1, 2, 3
"""Indices of links, chosen rather than looked up; those of ports follow."""
_FIRST_PORT = 1000

_SYSCTLS = (
    # Before any link is up, or it sends router solicitations first.
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    # A new namespace inherits these from the host, whatever that has.
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
)
_ROUTER_SYSCTLS = (
    ("ipv4/ip_forward", "1"),
    # Connections, not clients, are spread over the nodes that take a virtual address.
    ("ipv4/fib_multipath_hash_policy", "1"),
    # All of the underlay is on one link: without this the router would send
    # redirects for packets that it passes between client and nodes.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("bridge/bridge-nf-call-iptables", "0"),
)


def write_sysctls(settings: tuple[tuple[str, str], ...]) -> None:
    """Set sysctls of the calling thread's network namespace; absent ones are skipped.

    Absent are only those of a protocol or module that this kernel lacks.
    """
    for name, value in settings:
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)


class Wiring:
    """Makes links; one netlink socket for each namespace that it meets.

    For one thread, that is not the main one, since it changes namespaces.
    """

    def __init__(self, lab: str, spec: LabSpec, pod_mtu: int) -> None:
        """``pod_mtu``, in bytes, is the underlay's less the overlay's overhead."""
        self._lab = lab
        self._spec = spec
        self._pod_mtu = pod_mtu
        self._pod_gso = _super_packet(pod_mtu)
        self._sockets: dict[str, IPRoute] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Wiring:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _socket(self, place: str) -> IPRoute:
        if place not in self._sockets:
            with netns.within(self._namespace(place)):
                self._sockets[place] = self._stack.enter_context(IPRoute())
        return self._sockets[place]

    def _namespace(self, place: str) -> str:
        return f"{self._lab}-{place}"

    def _prepare(self, place: str, sysctls: tuple[tuple[str, str], ...] = ()) -> IPRoute:
        with netns.within(self._namespace(place)):
            write_sysctls(_SYSCTLS + sysctls)
        socket = self._socket(place)
        socket.link("set", index=_LO, state="up")
        return socket

    def router(self) -> None:
        """The router and its underlay bridge; before anything that is connected to it."""
        spec = self._spec
        socket = self._prepare(names.ROUTER, _ROUTER_SYSCTLS)
        socket.link(
            "add",
            ifname=UNDERLAY,
            index=_BRIDGE,
            kind="bridge",
            address=names.mac(names.UNDERLAY_MAC, spec.router_ip),
            mtu=spec.mtu,
            state="up",
        )
        _address(socket, _BRIDGE, spec.router_ip, spec.underlay.prefixlen)

    def node(self, node: Node) -> None:
        """A node's uplink, and its bridge of pods with the address .1 of the podCIDR."""
        self._to_underlay(node.name, node.internal_ip)
        socket = self._socket(node.name)
        socket.link(
            "add",
            ifname=BRIDGE,
            index=_BRIDGE,
            kind="bridge",
            address=names.mac(names.POD_MAC, node.bridge_ip),
            mtu=self._pod_mtu,
            state="up",
        )
        _address(socket, _BRIDGE, node.bridge_ip, node.pod_cidr.prefixlen)

    def announce(
        self,
        old: Mapping[IPv4Address, Sequence[IPv4Address]],
        new: Mapping[IPv4Address, Sequence[IPv4Address]],
    ) -> None:
        """Make the router's routes to virtual addresses those of ``new``: equal-cost to the nodes.

        Without nodes there is no route, so that who asks is told that it is unreachable.
        """
        router = self._socket(names.ROUTER)
        for address, gateways in new.items():
            if gateways and gateways != old.get(address):
                hops = [{"gateway": str(gateway), "oif": _BRIDGE} for gateway in gateways]
                router.route("replace", dst=f"{address}/32", multipath=hops)
        for address, gateways in old.items():
            if gateways and not new.get(address):
                try:
                    router.route("del", dst=f"{address}/32")
                except NetlinkError as error:
                    # Gone already: whoever looks around in the router may also have tidied up.
                    if error.code != errno.ESRCH:
                        raise

    def client(self) -> None:
        """The client: a host of the underlay that knows nothing of the cluster."""
        self._to_underlay(names.CLIENT, self._spec.client_ip)

    def _to_underlay(self, place: str, address: IPv4Address) -> None:
        spec = self._spec
        socket = self._prepare(place)
        port = _FIRST_PORT + int(address) - int(spec.underlay.network_address)
        self._connect(names.ROUTER, place, address, port, _BRIDGE)
        _address(socket, _ETH0, address, spec.underlay.prefixlen)
        socket.link("set", index=_ETH0, state="up")
        socket.route("add", dst="default", gateway=str(spec.router_ip), oif=_ETH0)

    def outside(self, hosts: tuple[OutsideHost, ...]) -> None:
        """The outside hosts, each on its own link; the router is their only neighbour.

        They share no subnet with it: it answers on every link for its underlay
        address, which is their gateway.
        """
        router = self._socket(names.ROUTER)
        # Above the ports of the underlay, of which there are fewer than addresses.
        first = _FIRST_PORT + self._spec.underlay.num_addresses
        for port, host in enumerate(hosts, first):
            socket = self._prepare(host.name)
            self._connect(names.ROUTER, host.name, host.ip, port, None)
            router.route("add", dst=f"{host.ip}/32", oif=port)
            _address(socket, _ETH0, host.ip, 32)
            socket.link("set", index=_ETH0, state="up")
            gateway = str(self._spec.router_ip)
            socket.route("add", dst="default", gateway=gateway, oif=_ETH0, flags=["onlink"])

    def _connect(
        self, at: str, place: str, address: IPv4Address, port: int, bridge: int | None
    ) -> None:
        """A link of the underlay's kind from ``at`` to eth0 of ``place``."""
        self._link(
            at,
            place,
            port,
            bridge,
            self._spec.mtu,
            names.mac(names.UNDERLAY_PORT_MAC, address),
            names.mac(names.UNDERLAY_MAC, address),
            state="up",
        )

    def _link(
        self,
        at: str,
        place: str,
        port: int,
        bridge: int | None,
        mtu: int,
        port_mac: str,
        mac: str,
        **more: Any,
    ) -> None:
        with _descriptor(self._namespace(place)) as target:
            peer = {
                "ifname": "eth0",
                "index": _ETH0,
                "net_ns_fd": target,
                "address": mac,
                "mtu": mtu,
            }
            if bridge is not None:
                more["master"] = bridge
            self._socket(at).link(
                "add",
                ifname=names.link_name(place),
                index=port,
                kind="veth",
                address=port_mac,
                mtu=mtu,
                peer=peer,
                **more,
            )

    def pod(self, pod: Pod, node: Node) -> None:
        """A pod's link: an isolated port of its node's bridge."""
        place = names.pod_place(pod.key)
        socket = self._prepare(place)
        port = _pod_port(pod, node)
        self._link(
            node.name,
            place,
            port,
            _BRIDGE,
            self._pod_mtu,
            names.mac(names.POD_PORT_MAC, pod.ip),
            names.mac(names.POD_MAC, pod.ip),
        )
        # Isolated before it is up: pods of one node never learn each other's MACs.
        at_node = self._socket(node.name)
        at_node.brport("set", index=port, isolated=1)
        at_node.link("set", index=port, state="up")
        _address(socket, _ETH0, pod.ip, node.pod_cidr.prefixlen)
        socket.link("set", index=_ETH0, gso_max_size=self._pod_gso, state="up")
        socket.route("add", dst="default", gateway=str(node.bridge_ip), oif=_ETH0)

    def remove_pod(self, pod: Pod, node: Node) -> None:
        """Remove a pod's link at once: that of a namespace goes only some time later."""
        try:
            self._socket(node.name).link("del", index=_pod_port(pod, node))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise


def _super_packet(mtu: int) -> int:
    """Bytes that the largest super-packet of a pod may have.

    A daemon sends one to a peer as a single UDP message of at most 65 507 bytes, each
    segment with headers of its own around it (VXLAN has the most: 22 bytes).  What TCP
    would put into 64 KiB is two segments too many, and they would cost a send of their
    own each time.  The kernel takes off what headers may need (MAX_TCP_HEADER, at most
    320) and one; 52 are IPv4's and TCP's headers with timestamps.
    """
    segments = max(1, 65507 // (mtu + 22))
    return min(65536, segments * (mtu - 52) + 321)


def _pod_port(pod: Pod, node: Node) -> int:
    return _FIRST_PORT + int(pod.ip) - int(node.pod_cidr.network_address)


def _address(socket: IPRoute, index: int, address: IPv4Address, length: int) -> None:
    socket.addr("add", index=index, address=str(address), prefixlen=length)


@contextmanager
def _descriptor(namespace: str) -> Iterator[int]:
    with netns.path(namespace).open("rb") as file:
        yield file.fileno()
