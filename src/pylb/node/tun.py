"""The node's TUN device: where the kernel hands packets to the daemon and takes them back.

The device is a plain one (IFF_TUN | IFF_NO_PI): each read gives one whole IP
packet, its checksums complete, and each write takes one.  Once `Tun.persist` was
called, it stays when the daemon ends, without a carrier, and its routes stop
counting (see `pylb.node.plumbing`).  Requests and flags are linux/if_tun.h's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from pylb.node.errors import NodeError

DEFAULT_NAME = "pylb0"
CLONE_DEVICE = Path("/dev/net/tun")

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNGETFEATURES = 0x800454CF
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
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


class Tun:
    """An open TUN device; it is gone when closed, unless it was made persistent before."""

    def __init__(self, name: str = DEFAULT_NAME, path: Path = CLONE_DEVICE) -> None:
        """Attach to ``name`` in this network namespace, making it if it is not there.

        Raises `NodeError` when that is impossible, also when another process has
        the device open.
        """
        if not 0 < len(name.encode()) < _IFNAMSIZ:
            raise NodeError(f"{name!r} is not an interface name of 1 to {_IFNAMSIZ - 1} bytes")
        self.name = name
        self._fd = _open_clone_device(path)
        request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, request)
        except OSError as error:
            self.close()
            raise NodeError(_refusal(name, error)) from None

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
