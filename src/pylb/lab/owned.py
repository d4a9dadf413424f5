"""The record of what a lab made: what may be removed, and nothing else.

It is on disk before a thing has its name or runs, so that a crash at any moment
leaves nothing that is not in it.  A namespace is known by name and inode, a
process by its id and the time it started, all of them by the boot.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pylb.lab import netns
from pylb.lab.errors import LabError


@dataclass(frozen=True, slots=True)
class Process:
    """A process: ``start`` is field 22 of /proc/PID/stat, clock ticks since the boot."""

    pid: int
    start: int
    what: str

    @property
    def alive(self) -> bool:
        """The same process still runs; a zombie does not."""
        found = _stat(self.pid)
        return found is not None and found[1] == self.start and found[0] not in "ZX"


def start_time(pid: int) -> int | None:
    """Clock ticks from the boot to the start of ``pid``, or None when it is gone."""
    found = _stat(pid)
    return None if found is None else found[1]


def _stat(pid: int) -> tuple[str, int] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command, in parentheses, may hold anything; the state is the field after it.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def boot_id() -> str:
    """What tells this boot from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _damaged(path: Path, error: Exception) -> str:
    """What a lab's record was for, to be done by hand: a sentence, then command lines."""
    lab = path.parent.name
    found = netns.FOLDER.iterdir() if netns.FOLDER.is_dir() else ()
    # No lab's name has a dash in it, so these are nobody else's.
    named = sorted(each.name for each in found if each.name.startswith(f"{lab}-"))
    lines = [
        f"{path}: the record of what the lab made is damaged: {error}; to remove the lab by hand, "
        f"end its controller (`python -P -m pylb.lab.controller {lab}`) if it still runs, look at "
        f"what `ip netns` lists as {lab}-*, and then:"
    ]
    for name in named:
        lines.append(f"    ip netns pids {name} | xargs -r kill -9; ip netns delete {name}")
    return "\n".join([*lines, f"    rm -r {path.parent}"])


class Owned:
    """The record in the file ``path``; every change is on disk when the method returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.boot = boot_id()
        self.namespaces: dict[str, int] = {}
        self.processes: dict[int, Process] = {}
        self.controller: Process | None = None
        self.made_netns_mount = False
        # Namespaces are made in a thread, while processes come and go in the loop.
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: Path) -> Owned:
        """Read a record; an absent one is empty.  Raises `LabError` when it is damaged."""
        owned = cls(path)
        try:
            record = json.loads(path.read_text())
            owned.boot = record["boot"]
            owned.namespaces = dict(record["namespaces"])
            owned.processes = {p["pid"]: Process(**p) for p in record["processes"]}
            controller = record["controller"]
            owned.controller = Process(**controller) if controller else None
            owned.made_netns_mount = record["madeNetnsMount"]
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
            raise LabError(_damaged(path, error)) from None
        return owned

    @property
    def from_this_boot(self) -> bool:
        """False when the machine has been restarted since: then only files are left."""
        return self.boot == boot_id()

    def set_netns_mount(self) -> None:
        """Remember that /run/netns was made a mount for this lab."""
        with self._lock:
            self.made_netns_mount = True
            self._write()

    def add_namespaces(self, inodes: Mapping[str, int]) -> None:
        """Add namespaces that are about to get their names."""
        with self._lock:
            self.namespaces.update(inodes)
            self._write()

    def forget_namespaces(self, names: list[str]) -> None:
        """Drop namespaces that were removed."""
        with self._lock:
            for name in names:
                self.namespaces.pop(name, None)
            self._write()

    def set_controller(self, pid: int) -> None:
        """Name the process that runs the lab."""
        with self._lock:
            self.controller = Process(pid, start_time(pid) or 0, "controller")
            self._write()

    def add_processes(self, started: Mapping[int, str]) -> None:
        """Add processes that are about to run, pid to what they are."""
        with self._lock:
            for pid, what in started.items():
                if (start := start_time(pid)) is not None:
                    self.processes[pid] = Process(pid, start, what)
            self._write()

    def forget_process(self, pid: int) -> None:
        """Drop a process that has ended.

        Not written at once: an ended process in the record does no harm, as its
        start time is no other's.
        """
        with self._lock:
            self.processes.pop(pid, None)

    def _write(self) -> None:
        def plain(process: Process) -> dict[str, object]:
            return {"pid": process.pid, "start": process.start, "what": process.what}

        record = {
            "boot": self.boot,
            "controller": plain(self.controller) if self.controller else None,
            "madeNetnsMount": self.made_netns_mount,
            "namespaces": self.namespaces,
            "processes": [plain(p) for p in self.processes.values()],
        }
        fresh = self._path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(record, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
