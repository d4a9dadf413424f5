"""What runs in pods and outside hosts: started, kept running, stopped, its output kept.

A container whose process ends is started again, whatever its status, as with
``restartPolicy: Always``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pylb.lab import images, netns, removal
from pylb.lab.names import Place
from pylb.lab.process import Backoff, Child, Children, Command, environment, python_path
from pylb.lab.readiness import Listeners, declared
from pylb.policy.model import Container, OutsideHost, Pod

_STAYS = 1.0
"""Seconds that a process must run to be trusted again after it has ended once."""


@dataclass(slots=True)
class Running:
    """One container: its process, None while it waits to be started again."""

    container: Container
    argv: list[str]
    child: Child | None = None
    restarts: int = 0
    last_status: int | None = None
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def stays(self) -> bool:
        """It has not ended yet, or has run for a while since."""
        if self.child is None:
            return False
        return not self.restarts or self.child.age >= _STAYS


class Workload:
    """The containers of a pod or an outside host, at a place that is there."""

    def __init__(
        self,
        place: Place,
        owner: Pod | OutsideHost,
        children: Children,
        on_exit: Callable[[], None],
    ) -> None:
        """``on_exit`` is called when a container's process has ended."""
        self.place = place
        self.owner = owner
        self._children = children
        self._on_exit = on_exit
        name = images.owner_name(owner)
        self.running = [Running(c, images.argv(c, name)) for c in owner.containers]
        served = (replace(c, ports=images.served(c)) for c in owner.containers)
        self._wanted = declared(served)
        self._listeners: Listeners | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._pipes: dict[str, int] = {}

    @property
    def log(self) -> Path:
        """The file with the output of all containers."""
        return self.place.folder / "log"

    @property
    def restarts(self) -> int:
        """How often containers were started again, all together."""
        return sum(r.restarts for r in self.running)

    def commands(self) -> list[Command]:
        """What has to be started for the workload to run."""
        return [self._command(running) for running in self.running]

    def started(self, children: Sequence[Child]) -> None:
        """Take over the processes that came of `commands`, in the same order."""
        for running, child in zip(self.running, children, strict=True):
            running.child = child
            self._spawn_task(self._keep(running))

    def _spawn_task(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _command(self, running: Running) -> Command:
        container = running.container
        own = {} if images.given_command(container) else python_path()
        return Command(
            what=f"{images.owner_name(self.owner)}, container {container.name}",
            place=self.place,
            argv=running.argv,
            output=self._output(container.name),
            environment={
                **environment(),
                "HOSTNAME": self.place.hostname,
                **own,
                **container.env,
            },
            cwd=container.working_dir,
        )

    def _output(self, name: str) -> int:
        """Where a container writes: the log, or with several a pipe that names each line."""
        if len(self.running) == 1:
            return self._log
        if name not in self._pipes:
            reader, self._pipes[name] = os.pipe2(os.O_CLOEXEC)
            self._spawn_task(self._copy_lines(name, reader))
        return self._pipes[name]

    async def _copy_lines(self, name: str, reader: int) -> None:
        loop = asyncio.get_running_loop()
        stream = asyncio.StreamReader(limit=1 << 20)
        pipe = os.fdopen(reader, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        try:
            rest = b""
            while data := await stream.read(1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    os.write(self._log, b"[%s] %s\n" % (name.encode(), line))
            if rest:
                os.write(self._log, b"[%s] %s\n" % (name.encode(), rest))
        finally:
            transport.close()

    async def _keep(self, running: Running) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            if (child := running.child) is not None:
                running.last_status = await asyncio.shield(child.exited)
                running.child = None
                self._on_exit()
                await asyncio.sleep(running.backoff.after(loop.time() - child.started))
                if self._stopping:
                    return
            running.restarts += 1
            try:
                [running.child] = self._children.start([self._command(running)])
            except OSError as error:
                # Out of processes or memory: as if it had ended at once.
                os.write(self._log, f"pylb: cannot start: {error}\n".encode())
                await asyncio.sleep(running.backoff.after(0))

    def ready(self) -> bool:
        """Whether every process runs and every port that it is to serve listens.

        Without ports, one that has ended before runs only once it has stayed a
        while: one that ends again and again would seem ready in between.
        """
        alive = [r.child.pid for r in self.running if r.child is not None and r.child.alive]
        if len(alive) < len(self.running):
            return False
        if not self._wanted:
            return all(running.stays for running in self.running)
        if self._listeners is None:
            self._listeners = Listeners(self.place.namespace)
        return bool(alive) and self._listeners.all_of(self._wanted, alive[0])

    def condition(self) -> str:
        """Why it is not ready, in a few words."""
        for running in self.running:
            name = running.container.name
            runs = running.child is not None and running.child.alive
            # Started again a moment ago, it may end as it did before.
            if not runs or not (self._wanted or running.stays):
                times = "time" if running.restarts == 1 else "times"
                again = f", restarted {running.restarts} {times}" if running.restarts else ""
                return f"container {name} ended with status {running.last_status}{again}"
        ports = ", ".join(
            f"{port}/{protocol.value}"
            for protocol, port in sorted(self._wanted, key=lambda p: p[1])
        )
        return f"not every declared port listens: {ports}"

    async def stop(self, grace: float) -> None:
        """End every process at the place: SIGTERM, and after ``grace`` seconds SIGKILL."""
        self._stopping = True
        children = [r.child for r in self.running if r.child is not None]
        for child in children:
            child.signal(signal.SIGTERM)
        ending = {child.exited for child in children}
        if ending:
            await asyncio.wait(ending, timeout=grace)
        inode = netns.inode(self.place.namespace)
        while inode and (left := removal.processes_in({inode})):
            # Also those that a container has put in the background.
            for pid in left:
                removal.kill_within(pid, {inode})
            await asyncio.sleep(0.002)
        if ending:
            await asyncio.wait(ending)
        self._close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _close(self) -> None:
        if self._listeners is not None:
            self._listeners.close()
        os.close(self._log)
        for pipe in self._pipes.values():
            os.close(pipe)
        self._pipes.clear()

    def tail(self, lines: int = 10) -> list[str]:
        """The last lines of the log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-lines:]
        return []
