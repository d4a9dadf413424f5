"""What plumbing changed that carries no mark of its own: sysctls and the uplink's qdisc.

Rules, routes and links are marked in the kernel (see `names`); these are not, so
they are written down, with the network namespace that they belong to: a record
of a namespace that is gone is no record.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NAMESPACE = Path("/proc/thread-self/ns/net")


def namespace_id() -> str:
    """This thread's network namespace as ``device:inode``."""
    status = _NAMESPACE.stat()
    return f"{status.st_dev}:{status.st_ino}"


@dataclass(slots=True)
class Record:
    """``sysctls``: path to the value before; ``clsact``: uplinks that were given one.

    ``fragments``: per uplink, what its filters were made for.  ``announced``: the
    addresses that are answered for (`pylb.node.plumbing.neighbours`).
    """

    sysctls: dict[str, str] = field(default_factory=dict)
    clsact: list[str] = field(default_factory=list)
    fragments: dict[str, list[int]] = field(default_factory=dict)
    announced: list[int] = field(default_factory=list)


def load(path: Path) -> Record:
    """The record at ``path``; an empty one when it is not there or of another namespace."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text())
        if stored.pop("namespace", None) != namespace_id():
            return Record()
        return Record(**stored)
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return Record()


def save(path: Path, record: Record) -> None:
    """Replace the record at ``path`` whole, mode 0600."""
    draft = path.with_name(path.name + ".new")
    text = json.dumps({"namespace": namespace_id(), **asdict(record)}, indent=1, sort_keys=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
    draft.replace(path)
