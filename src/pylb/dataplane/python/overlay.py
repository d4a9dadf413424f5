"""Between the nodes: which peer an address is behind, and the bytes on the wire.

Three ways: ``vxlan`` wraps the packet in an Ethernet and a VXLAN header (RFC
7348), ``udp`` sends it bare as flannel's UDP backend does, ``host-gw`` leaves it
to the kernel's routes.  A datagram is believed only from a peer's own address,
and only if the packet inside comes from that peer's subnet.
"""

from __future__ import annotations

from collections.abc import Iterable

from pylb.dataplane.base import NODE_TUN, DropReason, OverlayPort, Packet
from pylb.dataplane.python.packet import Malformed, Parsed, parse
from pylb.plan.tables import OverlayTable, Peer
from pylb.wire import flannel_udp, vxlan
from pylb.wire.errors import WireError
from pylb.wire.hash import toeplitz


class Peers:
    """The other nodes, by underlay address and by the subnet of their pods."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._by_address: dict[int, Peer] = {}
        self._by_subnet: dict[int, dict[int, Peer]] = {}
        for peer in peers:
            self._by_address[peer.address] = peer
            self._by_subnet.setdefault(peer.subnet.mask, {})[peer.subnet.address] = peer

    def at(self, address: int) -> Peer | None:
        """The peer whose underlay address this is."""
        return self._by_address.get(address)

    def behind(self, address: int) -> Peer | None:
        """The peer whose pods' subnet holds the address."""
        for mask, subnets in self._by_subnet.items():
            peer = subnets.get(address & mask)
            if peer is not None:
                return peer
        return None


def encapsulate(table: OverlayTable, peer: Peer, packet: Parsed) -> Packet:
    """The datagram that carries a packet to a peer.

    The inner flow's Toeplitz hash spreads flows over source ports, so that they
    can take different queues and paths while each stays in order.
    """
    if table.kind == "host-gw":
        return Packet(NODE_TUN, bytes(packet.data))
    spread = toeplitz(packet.src, packet.dst, packet.sport, packet.dport)
    port = OverlayPort(peer.address, spread)
    if table.kind == "udp":
        return Packet(port, flannel_udp.encode(bytes(packet.data)))
    return Packet(port, vxlan.encode(bytes(packet.data), table.vni, table.mac, peer.mac))


def decapsulate(table: OverlayTable, peers: Peers, datagram: Packet) -> Parsed:
    """The packet inside a datagram; raises `Malformed` with the reason for a drop."""
    assert isinstance(datagram.port, OverlayPort)
    peer = peers.at(datagram.port.address)
    if peer is None:
        raise Malformed(DropReason.UNKNOWN_PEER)
    inner = _unwrap(table, datagram.data)
    packet = parse(inner)
    if packet.src not in peer.subnet:
        raise Malformed(DropReason.SPOOFED_INNER_SOURCE)
    return packet


def _unwrap(table: OverlayTable, payload: bytes) -> bytes:
    try:
        if table.kind == "udp":
            return flannel_udp.decode(payload)
        frame = vxlan.decode(payload)
    except WireError:
        raise Malformed(DropReason.BAD_ENCAPSULATION) from None
    if frame.vni != table.vni:
        raise Malformed(DropReason.WRONG_VNI)
    if frame.ethertype != 0x0800:
        raise Malformed(DropReason.BAD_ENCAPSULATION)
    return frame.packet
