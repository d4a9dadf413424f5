"""Is a pod ready: does every port that its containers declare listen?

The kernel is asked through sock_diag(7), of listening sockets alone: reading
/proc/net/tcp walks the table of all established connections of the machine,
which takes milliseconds a pod.  It is what is left where the kernel has no
inet_diag or udp_diag.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from pylb.lab import netns
from pylb.policy.model import Container, Protocol

Wanted = set[tuple[Protocol, int]]

_SOCK_DIAG_BY_FAMILY = 20
_NETLINK_SOCK_DIAG = 4
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, an empty socket id."""

_STATE = {Protocol.TCP: 10, Protocol.UDP: 7}
"""The state of a socket that takes what is sent to its port: TCP_LISTEN and, for an
unconnected UDP socket, TCP_CLOSE (include/net/tcp_states.h)."""

_LOOPBACK = frozenset({socket.inet_aton("127.0.0.1"), bytes(15) + b"\x01"})


def declared(containers: Iterable[Container]) -> Wanted:
    """The ports that containers declare and that the kernel can tell of."""
    return {
        (port.protocol, port.port)
        for container in containers
        for port in container.ports
        if port.protocol in _STATE
    }


class Listeners:
    """Looks for listening ports in one network namespace, without being in it."""

    def __init__(self, namespace: str) -> None:
        """Open a socket in the namespace of that name; raises OSError."""
        self._namespace = namespace
        self._diag = netns.in_thread(self._open)

    def _open(self) -> socket.socket:
        with netns.within(self._namespace):
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            diag = socket.socket(socket.AF_NETLINK, kind, _NETLINK_SOCK_DIAG)
        diag.settimeout(1)
        return diag

    def close(self) -> None:
        """Close the socket: it would keep the namespace alive."""
        self._diag.close()

    def all_of(self, wanted: Wanted, pid: int) -> bool:
        """Whether all of ``wanted`` listen; ``pid`` is a process in the namespace.

        A socket on the loopback address does not count, as the pod's address
        does not reach it.
        """
        missing = set(wanted)
        for protocol in _STATE:
            if any(p is protocol for p, _ in missing):
                missing -= {(protocol, port) for port in self._ports(protocol, pid)}
        return not missing

    def _ports(self, protocol: Protocol, pid: int) -> set[int]:
        found: set[int] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                found.update(self._dump(protocol, family))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
                    raise
                found.update(_from_proc(protocol, family, pid))
        return found

    def _dump(self, protocol: Protocol, family: int) -> Iterator[int]:
        body = _REQUEST.pack(family, protocol.number, 0, 1 << _STATE[protocol])
        head = _HEADER.pack(
            _HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0
        )
        self._diag.send(head + body)
        done = False
        while not done:
            data = self._diag.recv(1 << 16)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                message = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if kind == _NLMSG_ERROR or (kind == _NLMSG_DONE and len(message) >= 4):
                    code = -struct.unpack_from("=i", message)[0]
                    if code > 0:
                        raise OSError(code, os.strerror(code))
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    done = True
                elif kind == _SOCK_DIAG_BY_FAMILY:
                    yield from _listening_port(message)


def _listening_port(message: bytes) -> Iterator[int]:
    """The port of a struct inet_diag_msg (network byte order), none for a loopback socket."""
    family, _, _, _, port = struct.unpack_from("!BBBBH", message)
    size = 4 if family == socket.AF_INET else 16
    if message[8 : 8 + size] not in _LOOPBACK:
        yield port


def _from_proc(protocol: Protocol, family: int, pid: int) -> Iterator[int]:
    table = protocol.value.lower() + ("6" if family == socket.AF_INET6 else "")
    try:
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    except OSError:
        return  # the process is gone, or the kernel has no IPv6
    for line in lines:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        # Each 32-bit word is printed in the machine's own byte order.
        words = [int(address[i : i + 8], 16) for i in range(0, len(address), 8)]
        if int(fields[3], 16) == _STATE[protocol]:
            packed = b"".join(struct.pack("=I", word) for word in words)
            if packed not in _LOOPBACK:
                yield int(port, 16)
