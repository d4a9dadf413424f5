"""Remove what a lab's record names, and nothing else.

Works without the controller, so also after everything was killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from pylb.lab import netns
from pylb.lab.errors import LabError
from pylb.lab.owned import Owned, Process

_DEADLINE = 5.0
"""Seconds that killed processes may take to be gone."""


def processes_in(inodes: Iterable[int]) -> list[int]:
    """The ids of all processes whose network namespace is one of ``inodes``."""
    wanted = frozenset(inodes)
    if not wanted:
        return []
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and netns.of_process(entry.name) in wanted
    ]


def kill_within(pid: int, inodes: Iterable[int], number: int = signal.SIGKILL) -> bool:
    """Signal ``pid`` if it is (still) in one of the namespaces ``inodes``."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # The descriptor pins the process, so what is checked is what is signalled.
        if netns.of_process(pid) not in frozenset(inodes):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def kill(process: Process, number: int = signal.SIGKILL) -> bool:
    """Signal a recorded process if it is still the same one."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not process.alive:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def confirmed_inodes(owned: Owned) -> set[int]:
    """Recorded namespaces that surely are the lab's still.

    An inode can be given anew when its namespace is gone, so it counts only
    while the name leads to it or a recorded process lives in it.
    """
    named = {found for name, found in owned.namespaces.items() if netns.inode(name) == found}
    lived_in = {netns.of_process(p.pid) for p in owned.processes.values() if p.alive}
    return named | ({i for i in lived_in if i is not None} & set(owned.namespaces.values()))


def remove_all(owned: Owned, folder: Path, *, spare: int = 0) -> list[str]:
    """Kill the lab's processes, remove its namespaces and its folder.

    ``spare`` is a process to leave alone: the controller when it calls this
    itself.  Gives what was removed, a line each.  Raises `LabError` when
    something of it stays.
    """
    removed: list[str] = []
    if owned.from_this_boot:
        removed += _end_processes(owned, spare)
        for name, expected in owned.namespaces.items():
            if netns.remove(name, expected):
                removed.append(f"namespace {name}")
        if owned.made_netns_mount:
            netns.restore_folder()
    if folder.exists():
        shutil.rmtree(folder)
        removed.append(f"folder {folder}")
    return removed


def _end_processes(owned: Owned, spare: int) -> list[str]:
    inodes = confirmed_inodes(owned)
    ended: dict[int, str] = {}
    if owned.controller and owned.controller.pid != spare:
        # First of all, as it would start the others again.
        if kill(owned.controller):
            ended[owned.controller.pid] = "process {pid} (controller)"
        _wait_for([owned.controller], "controller")
    recorded = [p for p in owned.processes.values() if p.pid != spare]
    for process in recorded:
        if kill(process):
            ended[process.pid] = f"process {{pid}} ({process.what})"
    deadline = time.monotonic() + _DEADLINE
    while found := [pid for pid in processes_in(inodes) if pid != spare]:
        # Again until none is left: a process may have forked between look and kill.
        for pid in found:
            if kill_within(pid, inodes):
                ended.setdefault(pid, "process {pid}")
        if time.monotonic() > deadline:
            raise LabError(f"process {found[0]} of the lab does not end")
        _pause()
    _wait_for(recorded, "process")
    return [text.format(pid=pid) for pid, text in ended.items()]


def _wait_for(processes: list[Process], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    for process in processes:
        while process.alive:
            if time.monotonic() > deadline:
                raise LabError(f"{what} {process.pid} of the lab does not end")
            _pause()


def _pause() -> None:
    with contextlib.suppress(InterruptedError):
        time.sleep(0.005)
