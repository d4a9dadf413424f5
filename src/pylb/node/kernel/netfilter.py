"""The netfilter netlink socket: flows, their deletion and their events, and nft's counters.

Sockets belong to the network namespace of the thread that opens them.  Plain
sockets rather than pyroute2's: a dump of 100 000 flows is read ten times as fast,
and no event loop runs beneath the daemon's own.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import threading
from collections.abc import Iterator

from pylb.dataplane.base import EventKind, FlowView
from pylb.dataplane.kernel import ctnetlink
from pylb.node.errors import NodeError

_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_BUFFER = 1 << 16
_EVENT_BUFFER = 8 << 20
_GROUPS = 0x1 | 0x2 | 0x4
"""NF_NETLINK_CONNTRACK_NEW, _UPDATE and _DESTROY, as bits of a netlink address."""


class Netfilter:
    """Requests, each answered before the next; for any thread."""

    def __init__(self) -> None:
        self._sequence = itertools.count(1)
        self._turn = threading.Lock()
        self._socket = _open(0)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def flows(self) -> Iterator[FlowView]:
        """Every tracked IPv4 flow, in the order of the kernel's table.

        The table may change meanwhile: a flow that moves may be told twice.
        """
        seen: set[int] = set()
        for message in self._ask(ctnetlink.GET, ctnetlink.DUMP):
            flow = ctnetlink.flow(message)
            if flow is not None and flow.id not in seen:
                seen.add(flow.id)
                yield flow

    def delete(self, flow: FlowView) -> bool:
        """Delete a flow; False when it is gone already."""
        try:
            self._ask(ctnetlink.DELETE, ctnetlink.ACK, ctnetlink.delete_attributes(flow))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def counters(self, table: str) -> dict[str, int]:
        """Packets by the name of each counter of an nftables table; empty without the table."""
        attributes = ctnetlink.counter_attributes(table)
        try:
            answers = self._ask(ctnetlink.COUNTER_GET, ctnetlink.DUMP, attributes)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
            return {}
        return dict(ctnetlink.counter(m) for m in answers if m.kind == ctnetlink.COUNTER_NEW)

    def _ask(self, kind: int, flags: int, attributes: bytes = b"") -> list[ctnetlink.Message]:
        """Send a request and give its answers; raises OSError with the kernel's errno."""
        with self._turn:
            return self._asked(kind, flags, attributes)

    def _asked(self, kind: int, flags: int, attributes: bytes) -> list[ctnetlink.Message]:
        found: list[ctnetlink.Message] = []
        sequence = next(self._sequence)
        self._socket.send(ctnetlink.request(kind, flags, sequence, attributes))
        while True:
            for message in ctnetlink.messages(self._socket.recv(_BUFFER)):
                if message.sequence != sequence:
                    continue
                if message.kind == ctnetlink.DONE:
                    return found
                if message.kind == ctnetlink.ERROR:
                    number = ctnetlink.refusal(message)
                    if number:
                        raise OSError(number, os.strerror(number))
                    return found
                found.append(message)


class Events:
    """Conntrack events as the kernel tells them.

    A flow that was opened while nobody listened is not told of later: with
    nf_conntrack_events at its default of 2, the kernel prepares events only for
    flows that begin while there is a listener.
    """

    def __init__(self) -> None:
        """Listen from now on; raises `NodeError` when that is not possible."""
        self._socket = _open(_GROUPS)
        self._socket.setblocking(False)
        self.overruns = 0

    def fileno(self) -> int:
        """The descriptor, readable when events wait."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def read(self, most: int = 256) -> list[tuple[EventKind, FlowView]]:
        """Events that wait, from at most ``most`` datagrams.

        When the kernel had to throw events away, ``overruns`` is one higher.
        """
        found: list[tuple[EventKind, FlowView]] = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(most):
                try:
                    data = self._socket.recv(_BUFFER)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    self.overruns += 1
                    continue
                for message in ctnetlink.messages(data):
                    kind, flow = ctnetlink.event_kind(message), ctnetlink.flow(message)
                    if kind is not None and flow is not None:
                        found.append((kind, flow))
        return found


def _open(groups: int) -> socket.socket:
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            if groups:
                opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER)
            opened.bind((0, groups))
        except OSError:
            opened.close()
            raise
    except OSError as error:
        raise NodeError(
            f"connection tracking cannot be asked over netlink: {error.strerror}; "
            "expected the kernel's module nf_conntrack_netlink, and root"
        ) from None
    return opened
