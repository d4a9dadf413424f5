"""Processes of a lab: recorded before they run, watched to their end.

A command starts as the launcher (`pylb.lab.enter`), which waits at a gate.  The
controller writes the launchers' ids into the lab's record, then opens the gate.
So nothing of the lab ever runs unrecorded, whenever the controller is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pylb
from pylb.lab import netns
from pylb.lab.enter import launcher
from pylb.lab.images import search_path
from pylb.lab.names import Place
from pylb.lab.owned import Owned

_KEPT = ("LANG", "LC_ALL", "TZ", "PYLB_RUN")
"""Variables that programs get from the environment of `pylb lab up`."""


def environment() -> dict[str, str]:
    """The environment that programs of a lab begin with; pylb can be imported in it."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": search_path(), "HOME": "/root", **kept}


def python_path() -> dict[str, str]:
    """What lets a new interpreter import this very pylb, installed or not."""
    folder = str(Path(pylb.__file__).resolve().parent.parent)
    rest = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": f"{folder}:{rest}" if rest else folder}


@dataclass(frozen=True, slots=True)
class Command:
    """What to start and where.

    ``output`` is a descriptor for stdout and stderr, which stays the caller's.
    ``what`` names the process in the lab's record.
    """

    what: str
    place: Place
    argv: Sequence[str]
    output: int
    environment: Mapping[str, str] = field(default_factory=environment)
    cwd: str = ""


class Child:
    """A process that was started; ``exited`` gives its status, negative for a signal."""

    def __init__(self, command: Command, process: subprocess.Popen[bytes]) -> None:
        self.command = command
        self.pid = process.pid
        self._process = process
        loop = asyncio.get_running_loop()
        self.started = loop.time()
        self.exited: asyncio.Future[int] = loop.create_future()

    def reap(self) -> None:
        """Take the exit status of the process, which has ended."""
        status = self._process.wait()
        if not self.exited.done():
            self.exited.set_result(status)

    @property
    def alive(self) -> bool:
        """It has not ended, as far as is known."""
        return not self.exited.done()

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return asyncio.get_running_loop().time() - self.started

    def signal(self, number: int) -> None:
        """Signal the process; nothing happens when it has ended."""
        if self.alive:
            self._process.send_signal(number)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL if it still runs after ``grace`` seconds."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self.exited}, timeout=grace)
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.exited})


class Children:
    """Starts the processes of one lab."""

    def __init__(self, owned: Owned) -> None:
        self._owned = owned

    def start(self, commands: Sequence[Command]) -> list[Child]:
        """Start commands, all together; raises OSError and then runs none.

        A command that cannot be executed shows as an exit status of 126 or 127.
        """
        if not commands:
            return []
        gate, opener = os.pipe2(os.O_CLOEXEC)
        children: list[Child] = []
        try:
            try:
                children += [Child(command, self._spawn(command, gate)) for command in commands]
            finally:
                for child in children:
                    self._watch(child)
            self._owned.add_processes({c.pid: c.command.what for c in children})
            os.write(opener, b"!" * len(children))
        finally:
            os.close(gate)
            os.close(opener)
        return children

    def _spawn(self, command: Command, gate: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            launcher(
                str(netns.path(command.place.namespace)),
                str(command.place.folder),
                list(command.argv),
                gate=gate,
                cwd=command.cwd,
            ),
            stdin=subprocess.DEVNULL,
            stdout=command.output,
            stderr=command.output,
            env=dict(command.environment),
            cwd="/",
            pass_fds=(gate,),
            start_new_session=True,
            umask=0o022,
        )

    def _watch(self, child: Child) -> None:
        descriptor = os.pidfd_open(child.pid)
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._owned.forget_process(child.pid)
            child.reap()

        loop.add_reader(descriptor, ended)


class Backoff:
    """How long to wait before starting again what ended: the kubelet's rule, in seconds.

    At once the first time, then ``first``, doubling up to ``most``; a run of
    ``calm`` seconds forgets what was before.
    """

    def __init__(self, first: float = 1.0, most: float = 60.0, calm: float = 60.0) -> None:
        self._first, self._most, self._calm = first, most, calm
        self._next = 0.0

    def after(self, ran: float) -> float:
        """The wait after a run of ``ran`` seconds."""
        if ran >= self._calm:
            self._next = 0.0
        wait = self._next
        self._next = min(self._most, max(self._first, 2 * wait))
        return wait


def python(*arguments: str) -> list[str]:
    """An argv that runs this interpreter, its own folder not on the path."""
    return [sys.executable, "-P", *arguments]
