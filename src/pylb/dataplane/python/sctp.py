"""SCTP association tracking: the kernel's state machine and its rules for verification tags.

Source: Linux ``net/netfilter/nf_conntrack_proto_sctp.c``; RFC 9260 sections 3, 8.4 and
8.5.  The states are those of the association as seen from the middle.  Each side
chooses a tag that every packet *to* it carries: INIT and INIT ACK tell the tags, so
``tags[direction]`` is what packets in that direction must show.  Nobody who has not
seen them can move the state, but for INIT, whose own tag is 0.

A packet is a row of chunks.  They act one after the other, and what the first ones did
stays done when a later one is found wrong, as in the kernel.

One thing is ours: an INIT to an association that was answered and is CLOSED begins a
new flow, so that a Service balances it anew.  The kernel keeps the entry.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from pylb.dataplane.base import FlowTuple
from pylb.dataplane.python.tcp import ORIGINAL, REPLY, Verdict
from pylb.plan.tables import Timeouts
from pylb.wire import sctp as wire


class State(enum.IntEnum):
    """SCTP's conntrack states, in the kernel's order (``enum sctp_conntrack``)."""

    NONE = 0
    CLOSED = 1
    COOKIE_WAIT = 2
    COOKIE_ECHOED = 3
    ESTABLISHED = 4
    SHUTDOWN_SENT = 5
    SHUTDOWN_RECD = 6
    SHUTDOWN_ACK_SENT = 7
    HEARTBEAT_SENT = 8


_INVALID = -1

# What a chunk does, by direction and kind; the columns are the states above.
# Two-letter codes as the kernel's: CL CW CE ES SS SR SA HS; ".." is invalid.
# Chunks that are not here (DATA, SACK, …) leave the state as it is.
_TABLE_TEXT = """
                           NO CL CW CE ES SS SR SA HS
original INIT              CL CL CW CE ES CL CL SA CW
original INIT_ACK          CL CL CW CE ES SS SR SA CL
original ABORT             CL CL CL CL CL CL CL CL CL
original SHUTDOWN          CL CL CW CE SS SS SR SA CL
original SHUTDOWN_ACK      SA CL CW CE ES SA SA SA SA
original ERROR             CL CL CW CE ES SS SR SA CL
original COOKIE_ECHO       CL CL CE CE ES SS SR SA CL
original COOKIE_ACK        CL CL CW ES ES SS SR SA CL
original SHUTDOWN_COMPLETE CL CL CW CE ES SS SR CL CL
original HEARTBEAT         HS CL CW CE ES SS SR SA HS
original HEARTBEAT_ACK     CL CL CW CE ES SS SR SA HS
reply    INIT              .. CL CW CE ES SS SR SA ..
reply    INIT_ACK          .. CW CW CE ES SS SR SA ..
reply    ABORT             .. CL CL CL CL CL CL CL ..
reply    SHUTDOWN          .. CL CW CE SR SS SR SA ..
reply    SHUTDOWN_ACK      .. CL CW CE ES SA SA SA ..
reply    ERROR             .. CL CW CL ES SS SR SA ..
reply    COOKIE_ECHO       .. CL CE CE ES SS SR SA ..
reply    COOKIE_ACK        .. CL CW ES ES SS SR SA ..
reply    SHUTDOWN_COMPLETE .. CL CW CE ES SS SR CL ..
reply    HEARTBEAT         .. CL CW CE ES SS SR SA HS
reply    HEARTBEAT_ACK     .. CL CW CE ES SS SR SA ES
"""

_CODES = {
    "CL": State.CLOSED,
    "CW": State.COOKIE_WAIT,
    "CE": State.COOKIE_ECHOED,
    "ES": State.ESTABLISHED,
    "SS": State.SHUTDOWN_SENT,
    "SR": State.SHUTDOWN_RECD,
    "SA": State.SHUTDOWN_ACK_SENT,
    "HS": State.HEARTBEAT_SENT,
    "..": _INVALID,
}

Rows = dict[int, tuple[int, ...]]


def _read_table() -> tuple[Rows, Rows]:
    directions: tuple[Rows, Rows] = ({}, {})
    for line in _TABLE_TEXT.strip().splitlines()[1:]:
        direction, name, *codes = line.split()
        row = tuple(int(_CODES[code]) for code in codes)
        directions[direction == "reply"][getattr(wire, name)] = row
    return directions


TRANSITIONS = _read_table()
"""``TRANSITIONS[direction][kind][state]``: a State, or -1 for invalid."""

_TIMEOUT_FIELDS = tuple(
    f"sctp_{'closed' if state is State.NONE else state.name.lower()}" for state in State
)

_ALONE = frozenset((wire.INIT, wire.INIT_ACK, wire.SHUTDOWN_COMPLETE))
"""Nothing may stand behind these."""
_FIRST = _ALONE | {wire.COOKIE_ECHO, wire.COOKIE_ACK}
"""These may stand behind nothing (RFC 9260 section 6.10 and 3.3.11)."""
_OWN_TAG_RULES = frozenset(
    (
        wire.INIT,
        wire.SHUTDOWN_COMPLETE,
        wire.COOKIE_ECHO,
        wire.ABORT,
        wire.SHUTDOWN_ACK,
        wire.HEARTBEAT,
        wire.HEARTBEAT_ACK,
    )
)
_NEVER_OPEN = frozenset((wire.ABORT, wire.SHUTDOWN_COMPLETE, wire.COOKIE_ACK))
_HEADER = struct.Struct(">BBH")
_INIT_VALUE = 16
"""Bytes of INIT's fixed fields, of which the initiate tag is the first."""


class Chunk(NamedTuple):
    """A chunk's kind and flags; ``tag`` is INIT's and INIT ACK's initiate tag, None: cut off."""

    kind: int
    flags: int
    tag: int | None = None


class Message(NamedTuple):
    """What the tracker needs of a packet.  ``chunks`` is empty when they cannot be so."""

    tag: int
    chunks: tuple[Chunk, ...]

    @property
    def kinds(self) -> frozenset[int]:
        """The kinds of its chunks."""
        return frozenset(chunk.kind for chunk in self.chunks)

    @property
    def begins(self) -> bool:
        """It asks for a new association."""
        return bool(self.chunks) and self.chunks[0].kind == wire.INIT


def parse(data: bytes | bytearray, l4: int) -> Message:
    """Read the SCTP packet whose common header begins at ``l4`` and is whole."""
    tag = int.from_bytes(data[l4 + 4 : l4 + 8], "big")
    chunks: list[Chunk] = []
    at, end = l4 + wire.HEADER, len(data)
    while at + _HEADER.size <= end:
        kind, flags, length = _HEADER.unpack_from(data, at)
        if not length or (chunks and (kind in _FIRST or chunks[0].kind in _ALONE)):
            return Message(tag, ())
        value = at + _HEADER.size
        initiate = None
        if value + _INIT_VALUE <= end:
            initiate = int.from_bytes(data[value : value + 4], "big")
        chunks.append(Chunk(kind, flags, initiate))
        at += (length + 3) & ~3
    return Message(tag, tuple(chunks))


class Tracker:
    """An association.  ``timeout`` is that of the last packet accepted, seconds.

    ``inits`` are the directions with an INIT that is not yet answered for good, and
    ``failed`` the direction in which a HEARTBEAT had a wrong tag, until one is right:
    the answer may then bring the tags anew (a path that began with a HEARTBEAT).
    """

    __slots__ = ("failed", "inits", "state", "tags", "timeout")

    def __init__(self, message: Message) -> None:
        """Start with a flow's first packet; see `opens`."""
        self.state: int = State.NONE
        self.tags = [0, 0]
        self.inits = [False, False]
        self.failed: int | None = None
        self.timeout = 0
        for chunk in message.chunks:
            if chunk.kind == wire.INIT:
                self.tags[REPLY] = chunk.tag or 0
            elif chunk.kind in (wire.HEARTBEAT, wire.HEARTBEAT_ACK):
                self.tags[ORIGINAL] = message.tag
            else:
                self.tags[REPLY] = message.tag

    def track(
        self, message: Message, direction: int, seen_reply: bool, times: Timeouts
    ) -> tuple[Verdict, bool]:
        """Let a packet act on the state; gives the verdict and "is established now".

        ACCEPT: ``timeout`` is the flow's new one.  KEEP: accepted, the old one stays.
        REOPEN: the packet begins a new flow.
        """
        kinds = message.kinds
        if not kinds:
            return Verdict.INVALID, False
        if self.state == State.CLOSED and seen_reply and direction == ORIGINAL:
            chunk = message.chunks[0]
            if chunk.kind == wire.INIT and message.tag == 0 and chunk.tag is not None:
                return Verdict.REOPEN, False
        if not kinds & _OWN_TAG_RULES and message.tag != self.tags[direction]:
            return Verdict.INVALID, False
        established = False
        keep = False
        for chunk in message.chunks:
            before = self.state
            judged = self._judge(message, chunk, direction, wire.DATA in kinds or keep)
            if judged is None:
                return Verdict.INVALID, established
            if not judged:
                keep = True
                continue
            row = TRANSITIONS[direction].get(chunk.kind)
            new = row[before] if row else before
            if new == _INVALID or not self._learn(chunk, direction):
                return Verdict.INVALID, established
            # A retransmitted INIT must not keep an unanswered flow alive.
            keep = keep or (chunk.kind == wire.INIT and before == new == State.CLOSED)
            established = established or (before != new == State.ESTABLISHED)
            self.state = new
        self.timeout = getattr(times, _TIMEOUT_FIELDS[self.state])
        return (Verdict.KEEP if keep else Verdict.ACCEPT), established

    def _judge(self, message: Message, chunk: Chunk, direction: int, strict: bool) -> bool | None:
        """RFC 9260 section 8.5.1: is the tag right for this chunk?  None: it is not.

        False is a heartbeat that is let through and changes nothing; ``strict`` refuses
        those.
        """
        tag, expected, peers = message.tag, self.tags[direction], self.tags[1 - direction]
        match chunk.kind:
            case wire.INIT:
                return True if tag == 0 else None
            case wire.ABORT | wire.SHUTDOWN_COMPLETE:
                return (
                    True if tag == (peers if chunk.flags & wire.REFLECTED else expected) else None
                )
            case wire.COOKIE_ECHO:
                return True if tag == expected else None
            case wire.COOKIE_ACK:
                self.inits = [False, False]
            case wire.HEARTBEAT | wire.HEARTBEAT_ACK if expected == 0:
                self.tags[direction] = tag
            case wire.HEARTBEAT | wire.HEARTBEAT_ACK if tag == expected:
                self.failed = None
            case wire.HEARTBEAT:
                if strict:
                    return None
                self.failed = direction
                return False
            case wire.HEARTBEAT_ACK:
                if strict or self.failed is None or self.failed == direction:
                    return None
                self.failed = None
                self.tags[direction], self.tags[1 - direction] = tag, 0
        return True

    def _learn(self, chunk: Chunk, direction: int) -> bool:
        """Note the tag that an INIT or INIT ACK tells; False when it may not be."""
        other = 1 - direction
        if chunk.kind == wire.INIT:
            if chunk.tag is None:
                return False
            if all(self.inits):
                self.inits[other] = False
            self.inits[direction] = True
            self.tags[other] = chunk.tag
        elif chunk.kind == wire.INIT_ACK:
            known = self.tags[other]
            if chunk.tag is None:
                return False
            if not self.inits[other] and known and known != chunk.tag:
                return False
            if all(self.inits) and known != chunk.tag:
                return False
            self.tags[other] = chunk.tag
        return True


def opens(message: Message) -> bool:
    """True when a packet without a flow may start one: an INIT does, and a HEARTBEAT.

    So does what an endpoint without an association answers to (RFC 9260 section 8.4).
    DATA does not: an association is not picked up midstream.
    """
    kinds = message.kinds
    if not kinds or kinds & _NEVER_OPEN or not kinds <= TRANSITIONS[ORIGINAL].keys():
        return False
    if wire.INIT in kinds and (message.tag or message.chunks[0].tag is None):
        return False
    verdict, _ = Tracker(message).track(message, ORIGINAL, False, Timeouts())
    return verdict is not Verdict.INVALID


def aborts(message: Message, t: FlowTuple, far: FlowTuple, tags: tuple[int, int]) -> list[bytes]:
    """ABORTs for both ends of an association that cannot go on.

    ``message`` came with tuple ``t``; ``far`` is the tuple towards the other end, and
    ``tags`` are those that packets to its sender and to the other end must show, 0 when
    unknown.  To the sender its own tag can be given back then.  Nobody aborts in answer
    to an ABORT or a SHUTDOWN COMPLETE (RFC 9260 section 8.4).
    """
    to_sender, to_other = tags
    made = []
    back = (t.dst, t.src, t.dport, t.sport)
    if message.chunks and not message.kinds & {wire.ABORT, wire.SHUTDOWN_COMPLETE}:
        if to_sender:
            made.append(wire.abort(*back, to_sender))
        elif message.tag:
            made.append(wire.abort(*back, message.tag, reflected=True))
    if to_other:
        made.append(wire.abort(far.src, far.dst, far.sport, far.dport, to_other))
    return made


def state_name(state: int) -> str:
    """The state as ``conntrack -L`` prints it."""
    return State(state).name
