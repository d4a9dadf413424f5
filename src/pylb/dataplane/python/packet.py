"""An IPv4 packet in hand: parsed with every length checked, rewritten in place.

`parse` either gives a :class:`Parsed` or raises :class:`Malformed` with the
reason for the drop.  What is on the wire is big-endian; every attribute here is
an integer in host order.  RFC 791, 792, 768, 9293, 9260, 2784 and 2637.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from pylb.dataplane.base import DropReason, FlowTuple, Packet
from pylb.wire import checksum, sctp

ICMP, TCP, UDP, GRE, SCTP = 1, 6, 17, 47, 132
WITH_PORTS = frozenset((TCP, UDP, SCTP))
"""Protocols whose flows have ports that may be translated."""

ECHO_REPLY, UNREACHABLE, SOURCE_QUENCH, REDIRECT, ECHO = 0, 3, 4, 5, 8
TIME_EXCEEDED, PARAMETER_PROBLEM = 11, 12

ICMP_ERRORS = frozenset((UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM))
ICMP_REPLY_TYPE = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMP_REQUESTS = frozenset((8, 13, 15, 17))

MORE_FRAGMENTS, DONT_FRAGMENT, OFFSET_MASK = 0x2000, 0x4000, 0x1FFF

_IP = struct.Struct(">BBHHHBBHII")
_PORTS = struct.Struct(">HH")
_WORD = struct.Struct(">H")
_LONG = struct.Struct(">I")
_CRC = struct.Struct("<I")


class Malformed(Exception):
    """A packet that is not what its headers say; ``reason`` names what is wrong.

    ``held`` are packets that were kept for its sake and go with it.
    """

    def __init__(self, reason: DropReason, held: Sequence[Packet] = ()) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.held = held


class Parsed:
    """A packet's bytes and where things are in them.

    ``data`` holds exactly the IP packet (link padding is cut off).  ``l4`` is the
    offset of the transport header.  For ICMP ``sport`` is the identifier and
    ``dport`` is ``type << 8 | code``; see `FlowTuple`.
    """

    __slots__ = (
        "data",
        "dport",
        "dst",
        "fragment",
        "l4",
        "protocol",
        "sport",
        "src",
        "tos",
        "ttl",
    )

    def __init__(self, data: bytearray, l4: int) -> None:
        _, self.tos, _, _, fragment, self.ttl, self.protocol, _, self.src, self.dst = (
            _IP.unpack_from(data)
        )
        self.data = data
        self.l4 = l4
        self.fragment = fragment
        self.sport = self.dport = 0

    @property
    def is_fragment(self) -> bool:
        """The packet is part of a larger one."""
        return bool(self.fragment & (MORE_FRAGMENTS | OFFSET_MASK))

    @property
    def is_icmp_error(self) -> bool:
        """The packet quotes another one (RFC 792)."""
        return self.protocol == ICMP and (self.dport >> 8) in ICMP_ERRORS

    @property
    def tuple(self) -> FlowTuple:
        """The packet's own direction of its flow."""
        return FlowTuple(self.src, self.dst, self.protocol, self.sport, self.dport)

    def checksum_ok(self) -> bool:
        """The transport checksum holds; true for protocols that have none."""
        length = len(self.data) - self.l4
        body = memoryview(self.data)[self.l4 :]
        if self.protocol == ICMP:
            return checksum.checksum(body) == 0
        if self.protocol == SCTP:
            (crc,) = _CRC.unpack_from(body, sctp.CHECKSUM)
            return bool(crc == sctp.checksum(body))
        if self.protocol == UDP and self.data[self.l4 + 6 : self.l4 + 8] == b"\0\0":
            return True
        if self.protocol in (TCP, UDP):
            if self.protocol == UDP:
                length = _WORD.unpack_from(self.data, self.l4 + 4)[0]
                body = body[:length]
            pseudo = checksum.pseudo_sum(self.src, self.dst, self.protocol, length)
            return checksum.checksum(body, pseudo) == 0
        return True

    def set_ttl(self, ttl: int) -> None:
        """Write the TTL and mend the header checksum."""
        data = self.data
        old = data[8] << 8 | data[9]
        data[8] = self.ttl = ttl
        check = _WORD.unpack_from(data, 10)[0]
        _WORD.pack_into(data, 10, checksum.update16(check, old, ttl << 8 | data[9]))

    def rewrite(self, to: FlowTuple) -> None:
        """Make the packet's addresses, ports or ICMP identifier those of ``to``.

        Checksums are updated incrementally (RFC 1624; SCTP's is linear, too), so that a
        bad one stays bad.
        """
        data = self.data
        l4_at = self._l4_checksum_at()
        l4_check = _WORD.unpack_from(data, l4_at)[0] if l4_at else 0
        update_l4 = l4_at and not (self.protocol == UDP and l4_check == 0)

        if (to.src, to.dst) != (self.src, self.dst):
            ip_check = _WORD.unpack_from(data, 10)[0]
            for old, new in ((self.src, to.src), (self.dst, to.dst)):
                if old != new:
                    ip_check = checksum.update32(ip_check, old, new)
                    if update_l4 and self.protocol != ICMP:
                        l4_check = checksum.update32(l4_check, old, new)
            struct.pack_into(">HII", data, 10, ip_check, to.src, to.dst)
            self.src, self.dst = to.src, to.dst

        if self.protocol == ICMP:
            if to.sport != self.sport:
                l4_check = checksum.update16(l4_check, self.sport, to.sport)
                _WORD.pack_into(data, self.l4 + 4, to.sport)
                self.sport = to.sport
        elif self.protocol in WITH_PORTS and (to.sport, to.dport) != (self.sport, self.dport):
            old, new = self.sport << 16 | self.dport, to.sport << 16 | to.dport
            if update_l4:
                l4_check = checksum.update32(l4_check, old, new)
            elif self.protocol == SCTP:
                self._update_crc(old, new)
            _PORTS.pack_into(data, self.l4, to.sport, to.dport)
            self.sport, self.dport = to.sport, to.dport
        if update_l4:
            if self.protocol == UDP and l4_check == 0:
                l4_check = 0xFFFF
            _WORD.pack_into(data, l4_at, l4_check)

    def _update_crc(self, old: int, new: int) -> None:
        """Mend SCTP's checksum for other ports: it covers them, but no addresses.

        How far it reaches the IP header says, for a quotation may be cut off.
        """
        length = _WORD.unpack_from(self.data, 2)[0] - self.l4
        at = self.l4 + sctp.CHECKSUM
        if length >= sctp.HEADER and at + _CRC.size <= len(self.data):
            (crc,) = _CRC.unpack_from(self.data, at)
            _CRC.pack_into(self.data, at, checksum.crc32c_update(crc, old, new, length))

    def _l4_checksum_at(self) -> int:
        """Offset of the 16-bit transport checksum, 0 when there is none in the bytes at hand."""
        at = self.l4 + {TCP: 16, UDP: 6, ICMP: 2}.get(self.protocol, -self.l4)
        return at if at and at + 2 <= len(self.data) else 0


def parse(raw: bytes | bytearray | memoryview) -> Parsed:
    """Parse a packet as received; raises `Malformed`."""
    packet = _parse_ip(bytearray(raw), whole=True)
    if not packet.is_fragment:
        parse_transport(packet)
    return packet


def parse_quoted(raw: bytes | bytearray | memoryview) -> Parsed:
    """Parse the packet that an ICMP error quotes: its tail may be cut off (RFC 792).

    At least 8 bytes behind the header must be there.  Raises `Malformed`.
    """
    packet = _parse_ip(bytearray(raw), whole=False)
    if packet.fragment & OFFSET_MASK or len(packet.data) < packet.l4 + 8:
        raise Malformed(DropReason.BAD_L4_HEADER)
    _read_ports(packet)
    return packet


def _parse_ip(data: bytearray, *, whole: bool) -> Parsed:
    if len(data) < 20:
        raise Malformed(DropReason.TRUNCATED)
    if data[0] >> 4 != 4:
        raise Malformed(DropReason.BAD_VERSION)
    header = (data[0] & 0x0F) * 4
    if header < 20 or header > len(data):
        raise Malformed(DropReason.BAD_HEADER_LENGTH)
    total = _WORD.unpack_from(data, 2)[0]
    if total < header or (whole and total > len(data)):
        raise Malformed(DropReason.BAD_TOTAL_LENGTH)
    if whole:
        if total < len(data):
            del data[total:]
        if checksum.checksum(memoryview(data)[:header]):
            raise Malformed(DropReason.BAD_IP_CHECKSUM)
    packet = Parsed(data, header)
    if whole and not (_unicast(packet.src) and _unicast(packet.dst)):
        raise Malformed(DropReason.BAD_ADDRESS)
    return packet


def _unicast(address: int) -> bool:
    """Neither in 0/8 nor multicast, class E or broadcast (RFC 1122 section 3.2.1.3)."""
    return 0x01000000 <= address < 0xE0000000


def parse_transport(packet: Parsed) -> None:
    """Check the transport header of an unfragmented packet and read its ports."""
    data, l4 = packet.data, packet.l4
    length = len(data) - l4
    if packet.protocol == TCP:
        ok = length >= 20 and 20 <= (data[l4 + 12] >> 4) * 4 <= length
    elif packet.protocol == UDP:
        ok = length >= 8 and 8 <= _WORD.unpack_from(data, l4 + 4)[0] <= length
    elif packet.protocol == SCTP:
        ok = length >= sctp.HEADER
    elif packet.protocol == ICMP:
        ok = length >= 8
    elif packet.protocol == GRE:
        ok = length >= (8 if length >= 2 and data[l4 + 1] & 7 == 1 else 4)
    else:
        ok = True
    if not ok:
        raise Malformed(DropReason.BAD_L4_HEADER)
    _read_ports(packet)


def _read_ports(packet: Parsed) -> None:
    data, l4 = packet.data, packet.l4
    if packet.protocol in WITH_PORTS:
        packet.sport, packet.dport = _PORTS.unpack_from(data, l4)
    elif packet.protocol == ICMP:
        packet.sport = _WORD.unpack_from(data, l4 + 4)[0]
        packet.dport = data[l4] << 8 | data[l4 + 1]
        if data[l4] not in ICMP_REPLY_TYPE:
            packet.sport = 0
    elif packet.protocol == GRE and data[l4 + 1] & 7 == 1:
        # RFC 2637: the key's low half is the call id, the only thing like a port.
        packet.dport = _WORD.unpack_from(data, l4 + 6)[0]


def invert(t: FlowTuple) -> FlowTuple:
    """The tuple of a packet that answers one with tuple ``t``.

    An ICMP type without an answer maps to itself; no flow has it.
    """
    if t.protocol == ICMP:
        kind = ICMP_REPLY_TYPE.get(t.dport >> 8, t.dport >> 8)
        return FlowTuple(t.dst, t.src, ICMP, t.sport, kind << 8 | (t.dport & 0xFF))
    return FlowTuple(t.dst, t.src, t.protocol, t.dport, t.sport)
