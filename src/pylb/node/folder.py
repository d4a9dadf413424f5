"""The folder of a node's daemon: one daemon has it alone, and leaves nothing in it for nothing.

Besides the daemon's own files a lab keeps others there, which are not touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pylb.control.paths import NodePaths
from pylb.node.errors import NodeError

_SECRET = 16
"""Bytes."""
_TRIES = 100
"""To take a lock that others take and remove meanwhile."""
_LOCK = "lock"
_PLAIN = ("api.sock", "kernel.json", "plumbing.json", "secret")
_OWN = frozenset((_LOCK, *_PLAIN, *(f"{name}.new" for name in _PLAIN)))


@contextlib.contextmanager
def alone(node: str, paths: NodePaths, needed: Callable[[], bool]) -> Iterator[Sequence[Path]]:
    """Be the only daemon with these files; gives the folders that were made, deepest first.

    An error inside takes away the files and folders that came with it, unless
    ``needed()`` says that something still refers to them.  Raises `NodeError`
    when there is such a daemon already, or the folder cannot be made.
    """
    made: list[Path] = []
    try:
        before, lock = _lock(node, paths.root, made)
        try:
            yield made
        except BaseException:
            if not needed():
                _unlink(paths.root, _OWN - before)
            raise
        finally:
            os.close(lock)
    except BaseException:
        _rmdir(made)
        raise


def clear(paths: NodePaths, folders: Iterable[Path]) -> None:
    """Remove a daemon's files, and those of ``folders``, deepest first, that are then empty.

    In a folder that holds anything else, as a lab's do, all of it stays.
    """
    if _names(paths.root) <= _OWN:
        _unlink(paths.root, _OWN)
        _rmdir(folders)


def secret(path: Path) -> bytes:
    """The node's secret, made if it is not there; raises `NodeError` when it is damaged."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = secrets.token_bytes(_SECRET)
        draft = path.with_name(path.name + ".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(found)
        draft.replace(path)
    if len(found) != _SECRET:
        raise NodeError(f"{path}: expected {_SECRET} bytes, got {len(found)}; remove it")
    return found


def _lock(node: str, root: Path, made: list[Path]) -> tuple[frozenset[str], int]:
    """What was in the folder before, and the lock's descriptor; ``made`` gets new folders."""
    path = root / _LOCK
    for _ in range(_TRIES):
        try:
            made += [p for p in (root, *root.parents) if p not in made and not p.exists()]
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            before = _names(root)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # a daemon that was refused has just removed its folder
        except OSError as error:
            raise NodeError(f"{error.filename} cannot be made: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A lock counts only while its name leads to it: its last holder may have removed it.
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return before, descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise NodeError(f"a daemon of node {node} is running already in {root}") from None
        os.close(descriptor)
    raise NodeError(f"{path} cannot be made: it is removed again and again")


def _names(root: Path) -> frozenset[str]:
    return frozenset(path.name for path in root.iterdir())


def _unlink(root: Path, names: frozenset[str]) -> None:
    """Remove files that are there, the lock last of all."""
    for name in sorted(names, key=lambda name: name == _LOCK):
        (root / name).unlink(missing_ok=True)


def _rmdir(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # something else is in it, and so in those above it
