"""Named network namespaces: made, entered by a thread, removed by inode.

A name is a mount in /run/netns, as iproute2 makes it, so ``ip netns exec``
finds it.  Namespaces are told apart by the inode of their nsfs file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pylb.lab import enter

FOLDER = Path("/run/netns")

_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 2
_T = TypeVar("_T")


def path(name: str) -> Path:
    """Where the namespace ``name`` is mounted."""
    return FOLDER / name


def inode(name: str) -> int | None:
    """The inode of the namespace ``name``, or None when there is none of that name."""
    try:
        found = path(name).stat()
    except FileNotFoundError:
        return None
    return found.st_ino if found.st_dev == _nsfs() else None


def of_process(pid: int | str) -> int | None:
    """The inode of a process's network namespace, or None when it is gone."""
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def _nsfs() -> int:
    return Path("/proc/self/ns/net").stat().st_dev


def in_thread(work: Callable[[], _T]) -> _T:
    """Run ``work`` in a thread that ends with it, so that it may change namespaces."""
    result: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """Have the calling thread in the namespace ``name``; not for the main thread.

    Raises OSError when there is no such namespace.
    """
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter.join_network(str(path(name)))
        try:
            yield
        finally:
            enter.join_network_at(before)
    finally:
        os.close(before)


def create(names: list[str], record: Callable[[dict[str, int]], None]) -> dict[str, int]:
    """Make namespaces; gives their inodes by name.

    ``record`` is called with them before any gets its name: a crash before loses
    the namespaces with the thread, a crash after leaves only what is recorded.
    Raises OSError, FileExistsError for a name that there is already.
    """
    return in_thread(lambda: _create(names, record))


def _create(names: list[str], record: Callable[[dict[str, int]], None]) -> dict[str, int]:
    descriptors: list[int] = []
    try:
        for _ in names:
            enter.new_network()
            descriptors.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        inodes = {
            name: os.fstat(descriptor).st_ino
            for name, descriptor in zip(names, descriptors, strict=True)
        }
        record(inodes)
        for name, descriptor in zip(names, descriptors, strict=True):
            target = path(name)
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0))
            enter.mount(f"/proc/thread-self/fd/{descriptor}", str(target), None, _MS_BIND)
        return inodes
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def remove(name: str, expected: int) -> bool:
    """Remove the namespace ``name`` if its inode is ``expected``; True when it did.

    An empty file without a namespace, which a crash between the two steps of
    `create` leaves, is removed too.
    """
    target = path(name)
    found = inode(name)
    if found is None:
        with contextlib.suppress(FileNotFoundError):
            left = target.lstat()
            if stat.S_ISREG(left.st_mode) and left.st_size == 0:
                target.unlink()
        return False
    if found != expected:
        return False
    enter.unmount(str(target), _MNT_DETACH)
    target.unlink()
    return True


def prepare_folder() -> bool:
    """Make /run/netns a shared mount, as iproute2 does; True when it was not one before.

    Without that, a later ``ip netns add`` would bind the folder over itself and
    hide our mounts, which could then not be removed.
    """
    FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
    try:
        enter.mount("none", str(FOLDER), None, _MS_SHARED | _MS_REC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    else:
        return False
    enter.mount(str(FOLDER), str(FOLDER), None, _MS_BIND | _MS_REC)
    enter.mount("none", str(FOLDER), None, _MS_SHARED | _MS_REC)
    return True


def restore_folder() -> None:
    """Undo `prepare_folder`, unless somebody has namespaces there by now."""
    with contextlib.suppress(OSError):
        if not any(FOLDER.iterdir()):
            enter.unmount(str(FOLDER))
