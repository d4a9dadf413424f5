"""TCP connection tracking: the kernel's state machine and window check.

Source: Linux ``net/netfilter/nf_conntrack_proto_tcp.c`` and the paper behind its
window check, Guido van Rooij, "Real Stateful TCP Packet Filtering in IP Filter"
(2000).  The window check keeps, for each side, how far it has sent (``end``),
how far it may send (``max_end``) and the largest window it has offered; a
segment outside those bounds cannot move the state.

Sequence numbers are 32-bit and compared modulo 2**32.
"""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

from pylb.plan.tables import Timeouts

FIN, SYN, RST, PSH, ACK, URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

ORIGINAL, REPLY = 0, 1


class State(enum.IntEnum):
    """TCP's conntrack states, in the kernel's order (``enum tcp_conntrack``)."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9


_INVALID, _IGNORE = -1, -2

# What a segment does, by direction and kind; the columns are the states above.
# Two-letter codes: SS SR ES FW CW LA TW CL S2 as the kernel abbreviates them,
# ".." invalid in that state, "ig" passed on but believed in nothing.
_TABLE_TEXT = """
                    NO SS SR ES FW CW LA TW CL S2
original SYN        SS SS ig ig ig ig ig SS SS S2
original SYN_ACK    .. .. SR .. .. .. .. .. .. SR
original FIN        .. .. FW FW LA LA LA TW CL ..
original ACK        ES .. ES ES CW CW TW TW CL ..
original RST        .. CL CL CL CL CL CL CL CL CL
original NONE       .. .. .. .. .. .. .. .. .. ..
reply    SYN        .. S2 .. .. .. .. .. SS .. S2
reply    SYN_ACK    .. SR ig ig ig ig ig ig ig SR
reply    FIN        .. .. FW FW LA LA LA TW CL ..
reply    ACK        .. ig SR ES CW CW TW TW CL ig
reply    RST        .. CL CL CL CL CL CL CL CL CL
reply    NONE       .. .. .. .. .. .. .. .. .. ..
"""

_CODES = {
    "SS": State.SYN_SENT,
    "SR": State.SYN_RECV,
    "ES": State.ESTABLISHED,
    "FW": State.FIN_WAIT,
    "CW": State.CLOSE_WAIT,
    "LA": State.LAST_ACK,
    "TW": State.TIME_WAIT,
    "CL": State.CLOSE,
    "S2": State.SYN_SENT2,
    "..": _INVALID,
    "ig": _IGNORE,
}


class Kind(enum.IntEnum):
    """Which flag decides: RST before SYN before FIN before ACK."""

    SYN = 0
    SYN_ACK = 1
    FIN = 2
    ACK = 3
    RST = 4
    NONE = 5


def _read_table() -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
    directions: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    for line in _TABLE_TEXT.strip().splitlines()[1:]:
        direction, _, *codes = line.split()
        directions[direction == "reply"].append(tuple(int(_CODES[c]) for c in codes))
    return tuple(directions[0]), tuple(directions[1])


TRANSITIONS = _read_table()
"""``TRANSITIONS[direction][kind][state]``: a State, -1 invalid, -2 ignored."""

_VALID_FLAGS = frozenset(
    (
        SYN,
        SYN | URG,
        SYN | ACK,
        RST,
        RST | ACK,
        FIN | ACK,
        FIN | ACK | URG,
        ACK,
        ACK | URG,
    )
)

_MAX_RETRANS = 3
_ACK_WINDOW = 66000

# Flags of a side.
_WINDOW_SCALE, _SACK_PERMITTED, _CLOSE_INIT, _LIBERAL = 1, 2, 4, 8
_UNACKNOWLEDGED, _MAX_ACK_SET = 16, 32
# Flags of the last ignored SYN.
_CHALLENGE_ACK, _SIMULTANEOUS_OPEN = 64, 128


class Segment(NamedTuple):
    """What the tracker needs of a TCP header.  ``end`` is seq plus all it occupies."""

    flags: int
    seq: int
    ack: int
    window: int
    end: int
    options: bytes

    @property
    def kind(self) -> Kind:
        """The flag that decides."""
        flags = self.flags
        if flags & RST:
            return Kind.RST
        if flags & SYN:
            return Kind.SYN_ACK if flags & ACK else Kind.SYN
        if flags & FIN:
            return Kind.FIN
        return Kind.ACK if flags & ACK else Kind.NONE


_HEADER = struct.Struct(">IIBBH")


def parse(data: bytes | bytearray, offset: int, end: int) -> Segment:
    """Read the TCP header at ``offset`` of a packet that ends at ``end``.

    The caller has checked that header and options lie inside.
    """
    seq, ack, data_offset, flags, window = _HEADER.unpack_from(data, offset + 4)
    header = (data_offset >> 4) * 4
    length = end - offset - header + (flags & FIN) + ((flags & SYN) >> 1)
    return Segment(
        flags & 0x3F,
        seq,
        ack,
        window,
        (seq + length) & 0xFFFFFFFF,
        bytes(data[offset + 20 : offset + header]),
    )


def _before(a: int, b: int) -> bool:
    return ((a - b) & 0xFFFFFFFF) > 0x7FFFFFFF


def _options(raw: bytes) -> tuple[int, int]:
    """(side flags, window scale) of a SYN's options, RFC 7323 and RFC 2018."""
    flags = scale = i = 0
    while i < len(raw):
        kind = raw[i]
        if kind == 0:
            break
        if kind == 1:
            i += 1
            continue
        if i + 1 >= len(raw) or raw[i + 1] < 2 or i + raw[i + 1] > len(raw):
            break
        length = raw[i + 1]
        if kind == 3 and length == 3:
            scale = min(raw[i + 2], 14)
            flags |= _WINDOW_SCALE
        elif kind == 4 and length == 2:
            flags |= _SACK_PERMITTED
        i += length
    return flags, scale


def _highest_sack(raw: bytes, ack: int) -> int:
    """The right edge of the farthest SACK block, or ``ack`` (RFC 2018)."""
    if not raw or (len(raw) == 12 and raw[:4] == b"\x01\x01\x08\x0a"):
        return ack
    sack, i = ack, 0
    while i < len(raw):
        kind = raw[i]
        if kind == 0:
            break
        if kind == 1:
            i += 1
            continue
        if i + 1 >= len(raw) or raw[i + 1] < 2 or i + raw[i + 1] > len(raw):
            break
        length = raw[i + 1]
        if kind == 5 and length >= 10 and (length - 2) % 8 == 0:
            for block in range(i + 2, i + length, 8):
                edge = int.from_bytes(raw[block + 4 : block + 8], "big")
                if _before(sack, edge):
                    sack = edge
        i += length
    return sack


class _Side:
    """One end: what it has sent and may send, from its own and the other's segments."""

    __slots__ = ("end", "flags", "max_ack", "max_end", "max_window", "scale")

    def __init__(self) -> None:
        self.end = self.max_end = self.max_window = self.max_ack = self.scale = self.flags = 0

    def start(self, segment: Segment) -> None:
        self.end = self.max_end = segment.end
        self.max_window = segment.window or 1
        flags, self.scale = _options(segment.options)
        self.flags = flags | (self.flags & _LIBERAL)


class Verdict(enum.Enum):
    """What is to be done with a segment's flow.

    ACCEPT: it moved the flow.  IGNORE: pass it on, it moved nothing.  INVALID: it
    cannot belong to this connection.  REOPEN: delete the flow, the segment starts
    a new one.  DELETE: pass it on and delete the flow.  KEEP: pass it on, the
    timeout is not renewed.
    """

    ACCEPT = 1
    IGNORE = 2
    INVALID = 3
    REOPEN = 4
    DELETE = 5
    KEEP = 6


class Tracker:
    """The TCP state of one flow."""

    __slots__ = (
        "last_ack",
        "last_direction",
        "last_end",
        "last_flags",
        "last_kind",
        "last_scale",
        "last_seq",
        "last_window",
        "retrans",
        "sides",
        "state",
        "timeout",
    )

    def __init__(self, segment: Segment) -> None:
        """Start with a flow's first segment; see `opens`."""
        self.state: int = State.NONE
        self.sides = (_Side(), _Side())
        self.last_direction = ORIGINAL
        self.last_kind: int = Kind.NONE
        self.last_seq = self.last_ack = self.last_end = self.last_window = 0
        self.last_flags = self.last_scale = 0
        self.retrans = 0
        self.timeout = 0
        first = self.sides[ORIGINAL]
        first.start(segment)
        if segment.kind != Kind.SYN:
            # Picked up midstream: window scaling is unknown, so its checks are liberal.
            first.max_end = (segment.end + first.max_window) & 0xFFFFFFFF
            first.scale = 0
            first.flags = self.sides[REPLY].flags = _SACK_PERMITTED | _LIBERAL

    def track(
        self, segment: Segment, direction: int, seen_reply: bool, assured: bool, times: Timeouts
    ) -> tuple[Verdict, bool]:
        """Let a segment act on the state; gives the verdict and "is now assured".

        On ACCEPT ``timeout`` holds the flow's new timeout in seconds, on INVALID a
        bound for the timeout that it has (0: none).
        """
        kind = segment.kind
        if (segment.flags & ~PSH) not in _VALID_FLAGS:
            self.timeout = 0
            return Verdict.INVALID, False
        verdict, now_assured = self._act(segment, kind, direction, seen_reply, assured, times)
        if verdict is Verdict.INVALID:
            self.timeout = self._bound_after_invalid(kind, direction, times)
        return verdict, now_assured

    def awaited(self, direction: int, acknowledged: int | None = None) -> list[int]:
        """One of these an end awaits next: what it acknowledged, or the end of what it was sent."""
        own, other = self.sides[direction], self.sides[1 - direction]
        if acknowledged is None and own.flags & _MAX_ACK_SET:
            acknowledged = own.max_ack
        if acknowledged is None:
            return []
        more = other.max_window and _before(acknowledged, other.end)
        return [acknowledged, other.end] if more else [acknowledged]

    def _bound_after_invalid(self, kind: int, direction: int, times: Timeouts) -> int:
        """An end that both sides claim, out of window: the flow must not stay for days."""
        if kind not in (Kind.FIN, Kind.RST):
            return 0
        if self.last_direction != direction and self.last_kind in (Kind.FIN, Kind.RST):
            return times.tcp_unacknowledged
        self.last_kind, self.last_direction = kind, direction
        return 0

    def _act(
        self,
        segment: Segment,
        kind: Kind,
        direction: int,
        seen_reply: bool,
        assured: bool,
        times: Timeouts,
    ) -> tuple[Verdict, bool]:
        old = self.state
        new = TRANSITIONS[direction][kind][old]
        in_window = False

        if new == State.SYN_SENT and old >= State.TIME_WAIT:
            closing = (self.sides[0].flags | self.sides[1].flags) & _CLOSE_INIT
            aborted = self.last_direction == direction and self.last_kind == Kind.RST
            if closing or aborted:
                return Verdict.REOPEN, False
            new = _IGNORE
        if new == _IGNORE:
            if not self._resynchronise(segment, kind, direction):
                self._remember_ignored(segment, kind, direction, old)
                return Verdict.IGNORE, False
            old, new = State.SYN_SENT, State.SYN_RECV
        elif new == _INVALID:
            return Verdict.INVALID, False
        elif new == State.TIME_WAIT and old == State.LAST_ACK and kind == Kind.ACK:
            # RFC 5961: a challenge ACK answers a stray SYN, it does not acknowledge the FIN.
            if (
                self.last_direction != direction
                and self.last_kind == Kind.SYN
                and self.last_flags & _CHALLENGE_ACK
            ):
                self.last_flags &= ~_CHALLENGE_ACK
                return Verdict.IGNORE, False
        elif new == State.SYN_SENT2:
            self.last_flags |= _SIMULTANEOUS_OPEN
        elif new == State.SYN_RECV:
            if direction == REPLY and kind == Kind.ACK and self.last_flags & _SIMULTANEOUS_OPEN:
                new = State.ESTABLISHED
        elif new == State.CLOSE and kind == Kind.RST:
            judged = self._judge_reset(segment, direction, old, seen_reply, assured)
            if judged is None:
                return Verdict.INVALID, False
            new, in_window = judged

        if not in_window:
            verdict = self._window(segment, direction, kind, old)
            if verdict is not Verdict.ACCEPT:
                return verdict, False

        self.last_kind, self.last_direction = kind, direction
        self.state = new
        if old != new and new == State.FIN_WAIT:
            self.sides[direction].flags |= _CLOSE_INIT
        self.timeout = self._timeout(kind, new, times)

        if not seen_reply:
            if kind == Kind.RST:
                return Verdict.DELETE, False
            if kind == Kind.SYN and old == State.SYN_SENT:
                # A retransmitted SYN must not keep an unanswered flow alive.
                return Verdict.KEEP, False
            if new == State.ESTABLISHED:
                self.timeout = min(self.timeout, times.tcp_unacknowledged)
            return Verdict.ACCEPT, False
        confirmed = old in (State.SYN_RECV, State.ESTABLISHED) and new == State.ESTABLISHED
        return Verdict.ACCEPT, confirmed and not assured

    def _resynchronise(self, segment: Segment, kind: int, direction: int) -> bool:
        """A SYN-ACK that answers a SYN ignored before: both ends are in sync, follow them."""
        if (
            kind != Kind.SYN_ACK
            or self.last_kind != Kind.SYN
            or self.last_direction == direction
            or segment.ack != self.last_end
        ):
            return False
        sender = self.sides[self.last_direction]
        sender.end = sender.max_end = self.last_end
        sender.max_window = self.last_window or 1
        sender.scale = self.last_scale
        self.last_flags &= ~_CHALLENGE_ACK
        sender.flags = self.last_flags
        self.sides[direction].__init__()  # type: ignore[misc]
        return True

    def _remember_ignored(self, segment: Segment, kind: int, direction: int, old: int) -> None:
        self.last_kind, self.last_direction = kind, direction
        self.last_seq, self.last_end = segment.seq, segment.end
        self.last_window = segment.window
        if kind == Kind.SYN and direction == ORIGINAL:
            self.last_flags, self.last_scale = _options(segment.options)
            if old == State.LAST_ACK:
                self.last_flags |= _CHALLENGE_ACK
        if old == State.SYN_SENT and kind == Kind.ACK and direction == REPLY:
            self.last_ack = segment.ack

    def _judge_reset(
        self, segment: Segment, direction: int, old: int, seen_reply: bool, assured: bool
    ) -> tuple[int, bool] | None:
        """(new state, skip the window check) for a RST, or None when it is invalid.

        RFC 5961 section 3: only a RST with exactly the expected sequence number
        closes; one that is merely in the window leads to a challenge ACK, so the
        state stays and only the timeout drops.
        """
        new: int = State.CLOSE
        if State.FIN_WAIT <= old <= State.CLOSE:
            # The connection is ending anyway: whatever its numbers, a RST ends it.
            return new, True
        challenged = (self.last_kind, self.last_direction) == (Kind.ACK, 1 - direction)
        if old == State.SYN_SENT and challenged and segment.seq == self.last_ack:
            # The client's answer to a challenge ACK (RFC 5961), which its SYN had met.
            return new, True
        other = self.sides[1 - direction]
        if other.flags & _MAX_ACK_SET:
            established = old == State.ESTABLISHED and assured
            if segment.seq == 0 and not established:
                return new, False
            if _before(segment.seq, other.max_ack):
                return None
            if established and segment.seq != other.max_ack:
                expected = (
                    self.last_kind == Kind.ACK
                    and self.last_direction == direction
                    and segment.seq == self.last_end
                )
                # After a SYN that was let through, either side may well end the old connection.
                expected = expected or self.last_kind == Kind.SYN
                if not expected:
                    new = old
        answers_ignored = (seen_reply and self.last_kind == Kind.SYN) or (
            not assured and self.last_kind == Kind.ACK
        )
        return new, answers_ignored and segment.ack == self.last_end

    def _timeout(self, kind: int, state: int, times: Timeouts) -> int:
        base: int = getattr(times, _TIMEOUT_FIELDS[state])
        if self.retrans >= _MAX_RETRANS and base > times.tcp_max_retrans:
            return times.tcp_max_retrans
        if kind == Kind.RST:
            return times.tcp_close
        unacknowledged = (self.sides[0].flags | self.sides[1].flags) & _UNACKNOWLEDGED
        if unacknowledged and base > times.tcp_unacknowledged:
            return times.tcp_unacknowledged
        if self.last_window == 0 and base > times.tcp_max_retrans:
            return times.tcp_max_retrans
        return base

    def _window(self, segment: Segment, direction: int, kind: int, state: int) -> Verdict:
        """ACCEPT a segment inside the windows and learn from it; IGNORE or INVALID otherwise."""
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        flags, seq, end, window = segment.flags, segment.seq, segment.end, segment.window
        ack = sack = segment.ack
        if receiver.flags & _SACK_PERMITTED:
            sack = _highest_sack(segment.options, ack)

        if sender.max_window == 0:
            if flags & SYN:
                self._init_sender(segment, direction)
                if not flags & ACK:
                    return Verdict.ACCEPT
            else:
                sender.end = end
                sender.max_window = (window << sender.scale) or 1
                sender.max_end = (end + sender.max_window) & 0xFFFFFFFF
                if receiver.max_window == 0:
                    receiver.end = receiver.max_end = sack
                elif sack == (receiver.end + 1) & 0xFFFFFFFF:
                    # Likely the answer to a keep-alive of a flow picked up midstream.
                    receiver.end = sack
        elif flags & SYN and _before(sender.end, end) and state in (State.SYN_SENT, State.SYN_RECV):
            self._init_sender(segment, direction)
            if direction == REPLY and not flags & ACK:
                return Verdict.ACCEPT

        if not flags & ACK or (flags & RST and ack == 0):
            ack = sack = receiver.end
        if flags & RST and seq == 0 and state == State.SYN_SENT:
            seq = end = sender.end

        over = not _before(seq, (sender.max_end + 1) & 0xFFFFFFFF)
        low = (sender.end - receiver.max_window - 1) & 0xFFFFFFFF
        in_receive_window = not receiver.max_window or _before(low, end)
        ack_over = not _before(sack, (receiver.end + 1) & 0xFFFFFFFF)
        lowest_ack = receiver.end - max(sender.max_window, _ACK_WINDOW) - 1
        ack_under = not _before(lowest_ack & 0xFFFFFFFF, sack)

        if over or ack_over or not in_receive_window or ack_under:
            if sender.flags & _LIBERAL:
                return Verdict.ACCEPT
            if over:
                overshot = (end - sender.max_end + 1) & 0xFFFFFFFF
                if overshot <= receiver.max_window and not ack_over and not ack_under:
                    # Some senders exceed the window a little, and some receivers take it.
                    sender.end = end
                    sender.flags |= _UNACKNOWLEDGED
                    return Verdict.IGNORE
                return Verdict.INVALID
            return Verdict.INVALID if ack_over else Verdict.IGNORE

        self._learn(segment, sender, receiver, (seq, ack, sack, end))
        if kind == Kind.ACK:
            self._count_retransmission(direction, (seq, ack, end, window))
        return Verdict.ACCEPT

    def _init_sender(self, segment: Segment, direction: int) -> None:
        sender, receiver = self.sides[direction], self.sides[1 - direction]
        sender.start(segment)
        if direction == REPLY and not (sender.flags & receiver.flags & _WINDOW_SCALE):
            # RFC 7323: scaling is used only when both ends offer it.
            sender.scale = receiver.scale = 0

    @staticmethod
    def _learn(
        segment: Segment, sender: _Side, receiver: _Side, numbers: tuple[int, int, int, int]
    ) -> None:
        _, ack, sack, end = numbers
        window = segment.window
        if not segment.flags & SYN:
            window <<= sender.scale
        # The kernel's windows have 32 bits: what numbers out of reach add up to wraps.
        reach = (window + ((sack - ack) & 0xFFFFFFFF)) & 0xFFFFFFFF
        sender.max_window = max(sender.max_window, reach)
        if _before(sender.end, end):
            sender.end = end
            sender.flags |= _UNACKNOWLEDGED
        if segment.flags & ACK:
            if not sender.flags & _MAX_ACK_SET:
                sender.max_ack = ack
                sender.flags |= _MAX_ACK_SET
            elif _before(sender.max_ack, ack):
                sender.max_ack = ack
        if receiver.max_window and _before(sender.max_end, end):
            grown = receiver.max_window + ((end - sender.max_end) & 0xFFFFFFFF)
            receiver.max_window = grown & 0xFFFFFFFF
        edge = (sack + window) & 0xFFFFFFFF
        if _before((receiver.max_end - 1) & 0xFFFFFFFF, edge):
            receiver.max_end = (edge + (window == 0)) & 0xFFFFFFFF
        if ack == receiver.end:
            receiver.flags &= ~_UNACKNOWLEDGED

    def _count_retransmission(self, direction: int, numbers: tuple[int, int, int, int]) -> None:
        last = (self.last_seq, self.last_ack, self.last_end, self.last_window)
        if self.last_direction == direction and last == numbers:
            self.retrans = min(self.retrans + 1, _MAX_RETRANS)
            return
        self.last_direction = direction
        self.last_seq, self.last_ack, self.last_end, self.last_window = numbers
        self.retrans = 0


_TIMEOUT_FIELDS: dict[int, str] = {
    State.NONE: "tcp_close",
    State.SYN_SENT: "tcp_syn_sent",
    State.SYN_RECV: "tcp_syn_recv",
    State.ESTABLISHED: "tcp_established",
    State.FIN_WAIT: "tcp_fin_wait",
    State.CLOSE_WAIT: "tcp_close_wait",
    State.LAST_ACK: "tcp_last_ack",
    State.TIME_WAIT: "tcp_time_wait",
    State.CLOSE: "tcp_close",
    State.SYN_SENT2: "tcp_syn_sent",
}


def opens(segment: Segment) -> bool:
    """True when a segment without a flow may start one.

    A SYN does, and so does a plain ACK: the kernel picks such connections up
    midstream (nf_conntrack_tcp_loose = 1).
    """
    return (segment.flags & ~PSH) in _VALID_FLAGS and TRANSITIONS[ORIGINAL][segment.kind][
        State.NONE
    ] >= 0


def state_name(state: int) -> str:
    """The state as ``conntrack -L`` prints it."""
    return State(state).name
