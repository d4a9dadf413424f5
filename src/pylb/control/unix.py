"""Unix sockets by path: private from birth, replaced when dead, of any length.

Linux takes at most 107 bytes of path in a socket's address.  A longer one is
reached through its folder's descriptor, as ``/proc/self/fd/N/NAME``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 107


@contextlib.contextmanager
def address(path: Path) -> Iterator[str]:
    """An address for ``path`` that fits, valid inside the context.

    Raises OSError when the path is too long and its folder cannot be opened.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path, backlog: int = 128) -> socket.socket:
    """A non-blocking listening socket at ``path``, mode 0600 from the moment it exists.

    A socket file that nobody answers is replaced.  Raises OSError with EADDRINUSE
    when somebody does, or when the path is not a socket.
    """
    _clear(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the name the descriptor's own mode (net/unix/af_unix.c, unix_bind_bsd):
        # unlike the umask, that is not shared with other threads.
        os.fchmod(sock.fileno(), 0o600)
        with address(path) as name:
            sock.bind(name)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _clear(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EADDRINUSE, "in the way of the control socket, and not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, address(path) as name:
        try:
            probe.settimeout(5)
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError:
            pass  # a full backlog (EAGAIN) or a timeout: a process is there, only busy
    raise OSError(errno.EADDRINUSE, "another process already answers", str(path))


def unlink_own(path: Path, inode: int) -> None:
    """Remove the socket file if it is still the one with ``inode``."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()
