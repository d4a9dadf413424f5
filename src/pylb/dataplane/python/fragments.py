"""Putting fragments together before translation, and apart again behind it.

Ports are only in the first fragment, so conntrack needs the whole datagram, as
Linux does (``nf_defrag_ipv4.c``).  Bounds, so that fragments cannot eat memory:
at most ``MAX_QUEUES`` datagrams and ``MAX_BYTES`` bytes wait, each for 30 s
(Linux' ipfrag_time).  Overlaps are refused whole (RFC 5722's rule, applied to
IPv4 as Linux does); an exact duplicate is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pylb.dataplane.base import DropReason, Packet
from pylb.dataplane.python.packet import (
    DONT_FRAGMENT,
    MORE_FRAGMENTS,
    OFFSET_MASK,
    Malformed,
    Parsed,
    parse_transport,
)
from pylb.wire import checksum

SECOND = 1_000_000_000
TIMEOUT = 30 * SECOND
MAX_QUEUES = 1024
MAX_BYTES = 4 << 20

Key = tuple[int, int, int, int]


@dataclass(slots=True)
class _Queue:
    deadline: int
    parts: dict[int, bytes] = field(default_factory=dict)
    first: bytes = b""
    total: int = -1
    largest: int = 0
    size: int = 0
    packets: list[Packet] = field(default_factory=list)


class Reassembler:
    """Collects fragments by (source, destination, protocol, identification)."""

    def __init__(self) -> None:
        self._queues: dict[Key, _Queue] = {}
        self._bytes = 0

    def add(self, packet: Parsed, origin: Packet, now: int) -> tuple[Parsed, int] | None:
        """Take a fragment; gives the whole packet and its largest fragment's size, or None.

        Raises `Malformed` (BAD_FRAGMENT, FRAGMENT_LIMIT) when it cannot be taken.
        """
        data, header = packet.data, packet.l4
        ident = int.from_bytes(data[4:6], "big")
        key = (packet.src, packet.dst, packet.protocol, ident)
        offset = (packet.fragment & OFFSET_MASK) * 8
        payload = bytes(data[header:])
        more = bool(packet.fragment & MORE_FRAGMENTS)
        if not payload or (more and len(payload) % 8) or header + offset + len(payload) > 65535:
            raise Malformed(DropReason.BAD_FRAGMENT)
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= MAX_QUEUES or self._bytes + len(payload) > MAX_BYTES:
                raise Malformed(DropReason.FRAGMENT_LIMIT)
            queue = self._queues[key] = _Queue(now + TIMEOUT)
        if queue.parts.get(offset) == payload:
            return None
        end = offset + len(payload)
        overlaps = any(o < end and offset < o + len(p) for o, p in queue.parts.items())
        beyond = queue.total >= 0 and (end > queue.total or (not more and end != queue.total))
        ends_early = not more and any(o + len(p) > end for o, p in queue.parts.items())
        if overlaps or beyond or ends_early:
            self._discard(key)
            raise Malformed(DropReason.BAD_FRAGMENT, queue.packets)
        if self._bytes + len(payload) > MAX_BYTES:
            raise Malformed(DropReason.FRAGMENT_LIMIT)
        queue.parts[offset] = payload
        queue.packets.append(origin)
        queue.size += len(payload)
        self._bytes += len(payload)
        queue.largest = max(queue.largest, len(data))
        if offset == 0:
            queue.first = bytes(data[:header])
        if not more:
            queue.total = end
        if queue.size != queue.total or not queue.first:
            return None
        self._discard(key)
        others = queue.packets[:-1]
        # The first fragment's header, not each one's own, goes before the whole.
        if len(queue.first) + queue.total > 65535:
            raise Malformed(DropReason.BAD_FRAGMENT, others)
        whole = _join(queue)
        try:
            parse_transport(whole)
        except Malformed as malformed:
            raise Malformed(malformed.reason, others) from None
        return whole, queue.largest

    def expire(self, now: int) -> list[Packet]:
        """Forget datagrams that did not become whole in time; gives their fragments."""
        dead = [key for key, queue in self._queues.items() if queue.deadline <= now]
        lost: list[Packet] = []
        for key in dead:
            lost += self._queues[key].packets
            self._discard(key)
        return lost

    def next_deadline(self) -> int | None:
        """When the oldest datagram in wait is given up."""
        return next(iter(self._queues.values())).deadline if self._queues else None

    def _discard(self, key: Key) -> None:
        self._bytes -= self._queues.pop(key).size


def _join(queue: _Queue) -> Parsed:
    header = bytearray(queue.first)
    body = b"".join(queue.parts[offset] for offset in sorted(queue.parts))
    flags = int.from_bytes(header[6:8], "big") & DONT_FRAGMENT
    struct.pack_into(">H", header, 2, len(header) + len(body))
    struct.pack_into(">H", header, 6, flags)
    struct.pack_into(">H", header, 10, 0)
    struct.pack_into(">H", header, 10, checksum.checksum(header))
    return Parsed(header + body, len(header))


def split(packet: Parsed, size: int) -> list[Parsed]:
    """Fragments of at most ``size`` bytes each (RFC 791 section 3.2).

    IP options are copied to every fragment, which is more than RFC 791 asks.
    """
    header = bytes(packet.data[: packet.l4])
    body = bytes(packet.data[packet.l4 :])
    step = (size - len(header)) & ~7
    fragments = []
    for offset in range(0, len(body), step):
        part = body[offset : offset + step]
        more = MORE_FRAGMENTS if offset + step < len(body) else 0
        head = bytearray(header)
        struct.pack_into(">H", head, 2, len(head) + len(part))
        struct.pack_into(">H", head, 6, (packet.fragment & DONT_FRAGMENT) | more | offset >> 3)
        struct.pack_into(">H", head, 10, 0)
        struct.pack_into(">H", head, 10, checksum.checksum(head))
        piece = Parsed(head + part, len(header))
        piece.sport, piece.dport = packet.sport, packet.dport
        fragments.append(piece)
    return fragments
