"""A TCP that is small and right: handshake, data, FIN, RST, retransmission.

RFC 9293 without congestion control, urgent data or simultaneous open.  It goes
back to the first unacknowledged byte when its timer runs out.  Numbers inside
are counted from the connection's own initial sequence numbers, so they never
wrap; only what is on the wire does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from pylb.wire import tcp
from tests.sim.clock import MILLISECOND, Clock, Timer
from tests.sim.packets import ACK, FIN, PSH, RST, SYN, Decoded

MSS = 1000
_FIRST_TIMEOUT = 200 * MILLISECOND
_TRIES = 12
_MASK = 0xFFFFFFFF


class Ends(NamedTuple):
    """(own address, own port, other's address, other's port)."""

    address: int
    port: int
    peer: int
    peer_port: int


class State(enum.Enum):
    SYN_SENT = 1
    SYN_RECEIVED = 2
    OPEN = 3
    CLOSED = 4


class Connection:
    """One end of a connection.

    ``received`` is all that came, in order.  ``eof`` is true when the other end
    has closed, ``reset`` when it was reset, ``timed_out`` when nobody answered.
    """

    def __init__(
        self,
        clock: Clock,
        ends: Ends,
        first: int,
        scale: int | None,
        send: Callable[[bytes], None],
    ) -> None:
        self.ends = ends
        self.state = State.SYN_SENT
        self.received = bytearray()
        self.eof = self.reset = self.timed_out = False
        self.retransmissions = 0
        self.on_data: Callable[[Connection, bytes], None] | None = None
        self.on_eof: Callable[[Connection], None] | None = None
        self._clock, self._send = clock, send
        self._first, self._scale = first, scale
        self._scaled = False
        self._peer_first = self._expected = 0
        self._peer_window = MSS
        self._peer_scale = 0
        self._stream = bytearray()
        self._closing = False
        self._unacknowledged = self._next = 0
        self._early: dict[int, tuple[bytes, bool]] = {}
        self._timer: Timer | None = None
        self._tries = 0

    @property
    def finished(self) -> bool:
        """Both ends have closed and both closings are acknowledged."""
        return self.eof and self._closing and self._unacknowledged > len(self._stream) + 1

    @property
    def all_sent(self) -> bool:
        """Everything written is acknowledged."""
        return self._unacknowledged > len(self._stream)

    def open(self) -> None:
        """Send the SYN."""
        self._transmit()

    def write(self, data: bytes) -> None:
        self._stream += data
        self._transmit()

    def close(self) -> None:
        """Send a FIN behind what was written."""
        self._closing = True
        self._transmit()

    def abort(self) -> None:
        """Send a RST with the exact sequence number and forget everything."""
        self._emit(self._next, RST | ACK)
        self._stop()

    def accept(self, syn: Decoded) -> None:
        """Answer a SYN."""
        self.state = State.SYN_RECEIVED
        self._learn_syn(syn)
        self._transmit()

    def segment(self, s: Decoded) -> None:
        """A segment for this end has come."""
        if self.state is State.CLOSED:
            return
        if s.flags & RST:
            self._on_reset(s)
        elif self.state is State.SYN_SENT:
            if s.flags & (SYN | ACK) == SYN | ACK and self._acknowledged(s) == 1:
                self._learn_syn(s)
                self._unacknowledged = self._next = 1
                self._settle_timer()
                self.state = State.OPEN
                self._emit(self._next, ACK)
                self._transmit()
        elif s.flags & SYN:
            if self.state is State.SYN_RECEIVED and s.seq == self._peer_first:
                self._next = 0
                self._transmit()
            else:
                self._emit(self._next, ACK)
        elif s.flags & ACK:
            self._on_ack(s)

    def _on_reset(self, s: Decoded) -> None:
        if self.state is State.SYN_SENT:
            if s.flags & ACK and self._acknowledged(s) == 1:
                self.reset = True
                self._stop()
            return
        offset = self._offset(s)
        if offset == self._expected:
            self.reset = True
            self._stop()
        elif 0 <= offset - self._expected < 65536:
            self._emit(self._next, ACK)  # RFC 5961: challenge what is only in the window

    def _on_ack(self, s: Decoded) -> None:
        acknowledged = self._acknowledged(s)
        if acknowledged > len(self._stream) + 2:
            self._emit(self._next, ACK)
            return
        if self.state is State.SYN_RECEIVED and acknowledged >= 1:
            self.state = State.OPEN
        self._peer_window = s.window << (self._peer_scale if self._scaled else 0)
        if acknowledged > self._unacknowledged:
            self._unacknowledged = acknowledged
            self._next = max(self._next, acknowledged)
            self._settle_timer()
        if s.data or s.flags & FIN:
            self._on_data(s)
        self._transmit()

    def _on_data(self, s: Decoded) -> None:
        self._early[self._offset(s)] = max(
            (s.data, bool(s.flags & FIN)), self._early.get(self._offset(s), (b"", False))
        )
        for at in sorted(self._early):
            data, fin = self._early[at]
            if at > self._expected:
                break
            del self._early[at]
            fresh = data[self._expected - at :]
            self._expected += len(fresh)
            self.received += fresh
            if fresh and self.on_data:
                self.on_data(self, bytes(fresh))
            if fin and not self.eof and at + len(data) == self._expected:
                self._expected += 1
                self.eof = True
                if self.on_eof:
                    self.on_eof(self)
        self._emit(self._next, ACK)

    def _transmit(self) -> None:
        """Send everything from ``_next`` that may be sent, and watch over it."""
        if self.state is State.CLOSED:
            return
        if self._next == 0:
            self._emit(0, SYN | (ACK if self.state is State.SYN_RECEIVED else 0))
            self._next = 1
        if self.state is State.OPEN:
            end = 1 + len(self._stream)
            while self._next < end and self._next - self._unacknowledged < self._peer_window:
                part = bytes(self._stream[self._next - 1 : self._next - 1 + MSS])
                self._emit(self._next, ACK | PSH, part)
                self._next += len(part)
            if self._closing and self._next == end:
                self._emit(self._next, ACK | FIN)
                self._next += 1
        if self._next > self._unacknowledged and self._timer is None:
            delay = _FIRST_TIMEOUT << min(self._tries, 6)
            self._timer = self._clock.after(delay, self._retransmit)

    def _retransmit(self) -> None:
        self._timer = None
        self._tries += 1
        if self._tries > _TRIES:
            self.timed_out = True
            self._stop()
            return
        self.retransmissions += 1
        self._next = self._unacknowledged
        self._transmit()

    def _settle_timer(self) -> None:
        self._tries = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self) -> None:
        self._settle_timer()
        self.state = State.CLOSED

    def _emit(self, at: int, flags: int, data: bytes = b"") -> None:
        acknowledge = (self._peer_first + self._expected) & _MASK if flags & ACK else 0
        window, options = 65535, b""
        if flags & SYN:
            options = b"\x02\x04" + MSS.to_bytes(2, "big")
            if self._scale is not None:
                options += bytes((1, 3, 3, self._scale))
        elif self._scaled and self._scale:
            window >>= self._scale
        own, port, peer, peer_port = self.ends
        seq = (self._first + at) & _MASK
        self._send(
            tcp.build(own, peer, port, peer_port, seq, acknowledge, flags, window, options, data)
        )

    def _learn_syn(self, s: Decoded) -> None:
        self._peer_first, self._expected = s.seq, 1
        self._peer_window = s.window
        at = s.options.find(b"\x03\x03")
        if at < 0 or (self.state is State.SYN_RECEIVED and self._scale is None):
            self._scaled = False
            if self.state is State.SYN_RECEIVED:
                self._scale = None
        elif self._scale is not None:
            self._scaled, self._peer_scale = True, s.options[at + 2]

    def _acknowledged(self, s: Decoded) -> int:
        return (s.ack - self._first) & _MASK

    def _offset(self, s: Decoded) -> int:
        offset = (s.seq - self._peer_first) & _MASK
        return offset if offset < 1 << 31 else offset - (1 << 32)
