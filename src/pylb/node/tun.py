"""The node's TUN device: where the kernel hands packets to the daemon and takes them back.

A plain device (IFF_TUN | IFF_NO_PI) gives one whole IP packet with each read, its
checksums complete, and takes one with each write.  One with offloads has a
virtio-net header before each packet and also gives and takes super-packets of up to
64 KiB, see `Offloads`.  Once `Tun.persist` was called, the device stays when the
daemon ends, without a carrier, and its routes stop counting (see
`pylb.node.plumbing`).  Requests and flags are linux/if_tun.h's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import NamedTuple

from pylb.node.errors import NodeError

DEFAULT_NAME = "pylb0"
CLONE_DEVICE = Path("/dev/net/tun")

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNGETFEATURES = 0x800454CF
_IFF_TUN = 0x0001
_TUNSETOFFLOAD = 0x400454D0
_TUNSETVNETHDRSZ = 0x400454D8
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_VIRTIO_HEADER = 10
# TUN_F_*: checksums to be made; TCP over IPv4, IPv6, with ECN; UDP over both (6.2+).
_CSUM, _TSO, _USO = 0x01, 0x02 | 0x04 | 0x08, 0x20 | 0x40
_IFNAMSIZ = 16
_SHOULD_BE = "it is made by `modprobe tun`, or `mknod /dev/net/tun c 10 200` in a container"


def _open_clone_device(path: Path) -> int:
    """A descriptor that is not yet any device's; raises `NodeError`."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NodeError(f"{path} is not there; {_SHOULD_BE}") from None
    except PermissionError:
        raise NodeError(f"{path} may not be opened; the daemon must run as root") from None
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise NodeError(f"the kernel has no TUN driver behind {path}; {_SHOULD_BE}") from None
        raise NodeError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.ioctl(descriptor, _TUNGETFEATURES, bytes(4))
    except OSError:
        os.close(descriptor)
        raise NodeError(f"{path} is there but is not the TUN driver's; {_SHOULD_BE}") from None
    return descriptor


def check(path: Path = CLONE_DEVICE) -> None:
    """Raise `NodeError` unless TUN devices can be asked for here."""
    os.close(_open_clone_device(path))


class Offloads(NamedTuple):
    """What a TUN does: a virtio-net header, super-packets of TCP, of UDP.

    Each needs those before it.
    """

    header: bool = False
    tso: bool = False
    uso: bool = False


PLAIN = Offloads()
EVERY_OFFLOAD = Offloads(True, True, True)


class Tun:
    """An open TUN device; it is gone when closed, unless it was made persistent before."""

    def __init__(
        self, name: str = DEFAULT_NAME, path: Path = CLONE_DEVICE, most: Offloads = PLAIN
    ) -> None:
        """Attach to ``name`` in this network namespace, making it if it is not there.

        Of the offloads ``most`` as many are turned on as the kernel has; all others
        are turned off, which whoever had the device before may have left on.  Raises
        `NodeError` when that is impossible, also when another process has the device
        open.
        """
        if not 0 < len(name.encode()) < _IFNAMSIZ:
            raise NodeError(f"{name!r} is not an interface name of 1 to {_IFNAMSIZ - 1} bytes")
        self.name = name
        self._fd = _open_clone_device(path)
        flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if most.header else 0)
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            self.offloads = self._negotiate(most)
        except OSError as error:
            self.close()
            raise NodeError(_refusal(name, error)) from None

    def _negotiate(self, most: Offloads) -> Offloads:
        """Turn on what the kernel has of ``most``, a step less each time that it says no."""
        if most.header:
            fcntl.ioctl(self._fd, _TUNSETVNETHDRSZ, struct.pack("i", _VIRTIO_HEADER))
            for found in (EVERY_OFFLOAD, Offloads(True, True), Offloads(True)):
                if sum(found) > sum(most):
                    continue
                wanted = _CSUM | (_TSO if found.tso else 0) | (_USO if found.uso else 0)
                try:
                    fcntl.ioctl(self._fd, _TUNSETOFFLOAD, wanted)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                else:
                    return found
        fcntl.ioctl(self._fd, _TUNSETOFFLOAD, 0)
        return Offloads(most.header)

    def fileno(self) -> int:
        """The descriptor, non-blocking; -1 when closed."""
        return self._fd

    def persist(self) -> None:
        """Let the device outlive this descriptor, and the process."""
        fcntl.ioctl(self._fd, _TUNSETPERSIST, 1)

    def close(self) -> None:
        """Detach: a persistent device stays and loses its carrier."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Tun:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _refusal(name: str, error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"{name} is open in another process: is a daemon of this node running already?"
    if error.errno == errno.EPERM:
        return f"{name} may not be made here; the daemon needs CAP_NET_ADMIN in this namespace"
    if error.errno == errno.EINVAL:
        return f"{name} is there but is not a TUN device without packet information"
    return f"{name} cannot be made: {error.strerror}"
