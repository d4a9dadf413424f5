"""ctnetlink: connection tracking's messages, from and to bytes (linux/netfilter/nfnetlink_*.h).

Netlink headers are in the machine's byte order, attributes' values in network
order.  Only what pylb shows is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pylb.dataplane.base import EventKind, FlowTuple, FlowView

NEW = 1 << 8
GET = 1 << 8 | 1
DELETE = 1 << 8 | 2
"""Message types: subsystem 1 (NFNL_SUBSYS_CTNETLINK) and IPCTNL_MSG_CT_*."""
COUNTER_GET = 10 << 8 | 19
COUNTER_NEW = 10 << 8 | 18
"""Subsystem 10 (NFNL_SUBSYS_NFTABLES) and NFT_MSG_GETOBJ, NFT_MSG_NEWOBJ."""
ERROR, DONE, OVERRUN = 2, 3, 4

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
_CREATED = 0x600
"""NLM_F_EXCL | NLM_F_CREATE: on an event, the flow is new."""

_ICMP, _TCP, _SCTP = 1, 6, 132
_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED, _TYPE = 0x8000, 0x3FFF
_U32 = struct.Struct(">I")
_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_AF_INET = 2

TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)
"""By number: enum tcp_conntrack, and below enum sctp_conntrack of linux/netfilter."""
SCTP_STATES = (
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
    "HEARTBEAT_ACKED",
)
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2
"""IPS_*, linux/netfilter/nf_conntrack_common.h."""


class Message(NamedTuple):
    """A netlink message; ``body`` begins after its header."""

    kind: int
    flags: int
    sequence: int
    body: memoryview


def messages(data: bytes | memoryview) -> Iterator[Message]:
    """The messages of one datagram."""
    view = memoryview(data)
    at = 0
    while at + _HEADER.size <= len(view):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(view, at)
        if not _HEADER.size <= length <= len(view) - at:
            return
        yield Message(kind, flags, sequence, view[at + _HEADER.size : at + length])
        at += length + 3 & ~3


def refusal(message: Message) -> int:
    """The errno that an ERROR message carries, 0 for an acknowledgement."""
    return -int(struct.unpack_from("=i", message.body)[0])


def request(kind: int, flags: int, sequence: int, attributes: bytes = b"") -> bytes:
    """A request of family IPv4 as it goes to the kernel."""
    length = _HEADER.size + _GENERIC.size + len(attributes)
    head = _HEADER.pack(length, kind, flags | REQUEST, sequence, 0)
    return head + _GENERIC.pack(_AF_INET, 0, 0) + attributes


def delete_attributes(flow: FlowView) -> bytes:
    """Which flow a DELETE means: its original tuple, and its id lest it be a later one."""
    o = flow.original
    ip = _attribute(1, _U32.pack(o.src)) + _attribute(2, _U32.pack(o.dst))
    protocol = _attribute(1, bytes((o.protocol,)))
    if o.protocol == _ICMP:
        protocol += _attribute(4, _U16.pack(o.sport))
        protocol += _attribute(5, bytes((o.dport >> 8,))) + _attribute(6, bytes((o.dport & 0xFF,)))
    else:
        protocol += _attribute(2, _U16.pack(o.sport)) + _attribute(3, _U16.pack(o.dport))
    sides = _attribute(1 | _NESTED, ip) + _attribute(2 | _NESTED, protocol)
    return _attribute(1 | _NESTED, sides) + _attribute(12, _U32.pack(flow.id))


def counter_attributes(table: str) -> bytes:
    """Which objects a COUNTER_GET means: the named counters of a table."""
    return _attribute(1, table.encode() + b"\0") + _attribute(3, _U32.pack(1))


def flow(message: Message) -> FlowView | None:
    """The flow that a NEW or DELETE message tells of, None when it is not an IPv4 one.

    What the message does not hold (counters without accounting, a DESTROY's
    timeout) is 0.
    """
    body = message.body
    if len(body) < 4 or body[0] != _AF_INET:
        return None
    found = dict(_attributes(body[4:]))
    if 1 not in found or 2 not in found:
        return None
    original, reply = _tuple(found[1]), _tuple(found[2])
    status = _number(found.get(3))
    return FlowView(
        id=_number(found.get(12)),
        original=original,
        reply=reply,
        timeout=_number(found.get(7)),
        state=_state(found.get(4), original.protocol),
        seen_reply=bool(status & _SEEN_REPLY),
        assured=bool(status & _ASSURED),
        packets=(_counted(found.get(9), 1), _counted(found.get(10), 1)),
        bytes=(_counted(found.get(9), 2), _counted(found.get(10), 2)),
        mark=_number(found.get(8)),
    )


def event_kind(message: Message) -> EventKind | None:
    """What a message of a multicast group tells, None for other messages."""
    if message.kind == DELETE:
        return EventKind.DESTROY
    if message.kind != NEW:
        return None
    return EventKind.NEW if message.flags & _CREATED else EventKind.UPDATE


def counter(message: Message) -> tuple[str, int]:
    """Name and packets of the counter that a COUNTER_NEW message tells of."""
    found = dict(_attributes(message.body[4:]))
    name = bytes(found[2]).rstrip(b"\0").decode()
    return name, _counted(found.get(4), 2)


def _attributes(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    at, end = 0, len(view)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(view, at)
        if length < 4:
            return
        yield kind & _TYPE, view[at + 4 : at + length]
        at += length + 3 & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _number(value: memoryview | None) -> int:
    return 0 if value is None else int.from_bytes(value, "big")


def _counted(value: memoryview | None, which: int) -> int:
    return 0 if value is None else _number(dict(_attributes(value)).get(which))


def _tuple(value: memoryview) -> FlowTuple:
    sides = dict(_attributes(value))
    ip, ports = dict(_attributes(sides[1])), dict(_attributes(sides[2]))
    protocol = _number(ports.get(1))
    if protocol == _ICMP:
        first = _number(ports.get(4))
        second = _number(ports.get(5)) << 8 | _number(ports.get(6))
    else:
        first, second = _number(ports.get(2)), _number(ports.get(3))
    return FlowTuple(_number(ip.get(1)), _number(ip.get(2)), protocol, first, second)


def _state(value: memoryview | None, protocol: int) -> str:
    """The state's name: CTA_PROTOINFO holds CTA_PROTOINFO_TCP (1) or _SCTP (3), both a state."""
    if value is None:
        return ""
    which, names = (3, SCTP_STATES) if protocol == _SCTP else (1, TCP_STATES)
    inner = dict(_attributes(value)).get(which)
    if inner is None:
        return ""
    number = _number(dict(_attributes(inner)).get(1))
    return names[number] if number < len(names) else ""
