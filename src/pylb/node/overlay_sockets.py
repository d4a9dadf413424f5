"""The UDP sockets of the overlay: one that receives, and those that send.

VXLAN is sent from a pool of source ports, so that the underlay (and the peer's
receive queues) can tell flows apart by the outer header, as RFC 7348 section 5
asks for; flannel's proxy sends from the port it receives on, and so do we.  The
outer header is as the kernel's vxlan device makes it by default: DF clear, no
UDP checksum for VXLAN (RFC 7348: "SHOULD be transmitted as zero").
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from ipaddress import IPv4Address
from typing import NamedTuple

from pylb.node.errors import NodeError
from pylb.plan.tables import Plan

BUFFER = 8 << 20
"""Bytes asked for each way; the kernel doubles it for its own bookkeeping."""

POOL = 8
"""Sockets, that is source ports, that VXLAN is sent from."""

# asm-generic/socket.h and linux/in.h; Python's socket module does not name them.
_SO_NO_CHECK = 11
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0


class OverlayAddress(NamedTuple):
    """Where the overlay is received: the sockets are opened anew only when it changes."""

    address: str
    port: int

    @classmethod
    def of(cls, plan: Plan) -> OverlayAddress | None:
        """The plan's, or None when its overlay needs no socket (host-gw)."""
        if plan.overlay.kind == "host-gw":
            return None
        return cls(str(IPv4Address(plan.node_ip)), plan.overlay.port)


class Batching(NamedTuple):
    """Whether sockets send, and receive, many datagrams in one call."""

    segment: bool = True
    gro: bool = True


class OverlaySockets:
    """Open sockets: ``receiver`` is bound to ``where``, those of the pool to a free port each."""

    def __init__(self, where: OverlayAddress) -> None:
        """Bind; raises `NodeError` when the address or port is not to be had."""
        self.where = where
        self._pool: list[socket.socket] = []
        self.receiver = _socket(where.address, where.port)
        try:
            _enlarge(self.receiver, socket.SO_RCVBUF, _SO_RCVBUFFORCE)
            _enlarge(self.receiver, socket.SO_SNDBUF, _SO_SNDBUFFORCE)
            for _ in range(POOL):
                sender = _socket(where.address, 0)
                self._pool.append(sender)
                _enlarge(sender, socket.SO_SNDBUF, _SO_SNDBUFFORCE)
                sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
                # Nobody reads what is sent to these ports.
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        except BaseException:
            self.close()
            raise

    def senders(self, kind: str) -> list[socket.socket]:
        """What an overlay of ``kind`` ("vxlan" or "udp") is sent from."""
        return self._pool if kind == "vxlan" else [self.receiver]

    def offload(self, most: Batching) -> Batching:
        """Let many datagrams pass in one call, at most as ``most`` says; gives what can.

        UDP_SEGMENT makes the kernel cut what is sent, which needs a checksum over each
        piece (udp_send_skb refuses it under SO_NO_CHECK); RFC 7348 lets a receiver
        expect either.  UDP_GRO hands on what came in together.
        """
        senders = (self.receiver, *self._pool)
        sends = most.segment and all(_can(sender, _UDP_SEGMENT, 0) for sender in senders)
        if sends:
            for sender in self._pool:
                sender.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 0)
        return Batching(sends, most.gro and _can(self.receiver, _UDP_GRO, 1))

    def close(self) -> None:
        """Close every socket."""
        for sock in (self.receiver, *self._pool):
            sock.close()


class OverlayUser:
    """What every pump does with overlay sockets: new ones are opened beside those in use."""

    _overlay: OverlaySockets | None = None

    def open_overlay(self, plan: Plan) -> OverlaySockets | None:
        """Sockets that fit ``plan``: those in use when they do, else new ones; None for none.

        They are not used before `use_overlay`.  Raises `NodeError` when they
        cannot be had.
        """
        where = OverlayAddress.of(plan)
        if where is None:
            return None
        if self._overlay is not None and self._overlay.where == where:
            return self._overlay
        return OverlaySockets(where)

    def discard(self, sockets: OverlaySockets | None) -> None:
        """Close ``sockets`` that `open_overlay` gave, unless they are in use."""
        if sockets is not None and sockets is not self._overlay:
            sockets.close()


def _can(sock: socket.socket, option: int, value: int) -> bool:
    try:
        sock.setsockopt(socket.IPPROTO_UDP, option, value)
    except OSError:
        return False
    return True


def _socket(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        what = f"the overlay's UDP port {port} of {address}" if port else address
        if error.errno == errno.EADDRINUSE:
            raise NodeError(f"{what} is in use: is a vxlan device or flannel there?") from None
        raise NodeError(f"{what} cannot be bound: {os.strerror(error.errno or 0)}") from None
    return sock


def _enlarge(sock: socket.socket, option: int, forced: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
    except PermissionError:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
