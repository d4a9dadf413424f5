"""The daemons of a lab's nodes: started, started again, and told the policy in two phases."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pylb.control.client import ApiError, AsyncClient, Unreachable
from pylb.control.paths import LabPaths
from pylb.lab.errors import LabError
from pylb.lab.names import Place
from pylb.lab.process import Backoff, Child, Children, Command, environment, python, python_path

log = logging.getLogger(__name__)

_POLL = 0.01
"""Seconds between looks whether a daemon that has just been started answers."""
_ANSWER = 300.0
"""Seconds that a daemon may take to validate or to commit a policy."""
_CONFLICT = 409
_LINE = 300
"""Characters of a log's line that are shown."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A policy under its number: all of it, and what differs from the one before.

    ``base`` is the number of the one before.
    """

    number: int
    objects: list[Body]
    base: int = 0
    apply: tuple[Body, ...] = ()
    delete: tuple[Body, ...] = ()

    @property
    def whole(self) -> Body:
        """The request that gives a daemon all of it."""
        return {"number": self.number, "objects": self.objects}

    @property
    def change(self) -> Body:
        """The request that gives it to a daemon that has ``base``."""
        return {
            "number": self.number,
            "base": self.base,
            "apply": list(self.apply),
            "delete": list(self.delete),
        }


class Refused(Exception):
    """A daemon does not take a policy; ``errors`` are its sentences."""

    def __init__(self, node: str, error: ApiError) -> None:
        self.errors = [f"node {node}: {text}" for text in error.errors or [error.message]]
        super().__init__("; ".join(self.errors))


class NodeDaemon:
    """The daemon of one node.  ``number`` is the policy that it has, 0 for none."""

    def __init__(self, paths: LabPaths, place: Place, argv: list[str], children: Children) -> None:
        self.place = place
        self.child: Child | None = None
        self.up = False
        self.number = 0
        self.restarts = -1
        self.failure = ""
        self._argv = argv
        self._children = children
        self._backoff = Backoff(first=0.5, most=30.0, calm=10.0)
        self._files = paths.node(place.name)
        who = f"daemon of node {place.name!r}"
        self._client = AsyncClient(self._files.api, who=who, timeout=_ANSWER)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.place.name

    def command(self, output: int) -> Command:
        """What starts it, its output to the descriptor ``output``."""
        return Command(
            what=f"daemon of {self.name}",
            place=self.place,
            argv=self._argv,
            output=output,
            environment={**environment(), **python_path()},
        )

    def start(self) -> None:
        """Start the process; raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        output = os.open(self._files.log, flags, 0o600)
        try:
            [self.child] = self._children.start([self.command(output)])
        finally:
            os.close(output)
        self.restarts += 1

    async def answers(self) -> bool:
        """Wait until it answers; False when it ended before."""
        assert self.child is not None
        while self.child.alive:
            try:
                await self._client.get("/healthz")
            except (Unreachable, ApiError):
                await asyncio.sleep(_POLL)
            else:
                return True
        return False

    async def validate(self, step: Step) -> None:
        """First phase; raises ApiError, Unreachable."""
        if step.base and self.number == step.base:
            try:
                await self._client.post("/policy/validate", step.change)
            except ApiError as error:
                # Any other refusal stands; here it has lost what the change builds on.
                if error.status != _CONFLICT:
                    raise
            else:
                return
        await self._client.post("/policy/validate", step.whole)

    async def commit(self, step: Step) -> None:
        """Second phase; raises ApiError, Unreachable."""
        await self._client.post("/policy/commit", {"number": step.number})
        self.number = step.number

    def kill(self, why: Exception) -> None:
        """End a daemon that does not do as it must: started again, it gets the whole policy."""
        log.error("daemon of node %s: %s: starting it again", self.name, why)
        self.up = False
        if self.child is not None:
            self.child.signal(signal.SIGKILL)

    async def ended(self) -> None:
        """Wait for its end, and as long as is due before it is started again."""
        assert self.child is not None
        status = await asyncio.shield(self.child.exited)
        self.up, self.number = False, 0
        ran = asyncio.get_running_loop().time() - self.child.started
        self.failure = f"the daemon of node {self.name} ended with status {status}"
        log.error("%s after %.1f s", self.failure, ran)
        await asyncio.sleep(self._backoff.after(ran))

    def tail(self, lines: int = 5) -> list[str]:
        """The last lines that it wrote, cut to what a person reads."""
        try:
            written = self._files.log.read_text(errors="replace").splitlines()[-lines:]
            return [line if len(line) <= _LINE else f"{line[:_LINE]}..." for line in written]
        except OSError:
            return []


class Daemons:
    """All daemons of a lab, and the one policy that they are to have.

    ``current`` gives that policy.  ``lock`` is held while it changes and while
    a daemon that has come back is told it, so that neither misses the other.
    """

    def __init__(
        self,
        lab: str,
        places: Iterable[Place],
        options: list[str],
        children: Children,
        lock: asyncio.Lock,
        current: Callable[[], Step],
    ) -> None:
        paths = LabPaths(lab)
        self.all = {
            place.name: NodeDaemon(paths, place, daemon_argv(lab, place.name, options), children)
            for place in places
        }
        self._lock = lock
        self._current = current
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    def start(self) -> None:
        """Start every daemon and keep it running until `stop`; raises OSError."""
        for daemon in self.all.values():
            daemon.start()
            self._tasks.append(asyncio.create_task(self._keep(daemon)))

    async def _keep(self, daemon: NodeDaemon) -> None:
        while True:
            try:
                await self._run(daemon)
            except OSError as error:
                # Out of processes or memory: the next try may succeed.
                daemon.failure = f"the daemon of node {daemon.name} cannot be started: {error}"
                log.error(daemon.failure)
                self._news.set()
                await asyncio.sleep(1)

    async def _run(self, daemon: NodeDaemon) -> None:
        """One life of a daemon, from its start to when the next is due."""
        if daemon.child is None or not daemon.child.alive:
            daemon.start()
        if await daemon.answers():
            try:
                # The first phase takes long and needs no lock: daemons compile side by side.
                step = self._current()
                await daemon.validate(step)
                async with self._lock:
                    current = self._current()
                    if current is not step:
                        await daemon.validate(current)
                    await daemon.commit(current)
                    daemon.up, daemon.failure = True, ""
            except (ApiError, Unreachable) as error:
                daemon.failure = f"the daemon of node {daemon.name}: {error}"
                daemon.kill(error)
            self._news.set()
        await daemon.ended()
        self._news.set()

    async def all_up(self) -> None:
        """Wait until every daemon has the policy; raises `LabError` when one fails before."""
        while not all(daemon.up for daemon in self.all.values()):
            for daemon in self.all.values():
                if daemon.failure:
                    raise LabError("\n".join([daemon.failure, *daemon.tail()]))
            self._news.clear()
            await self._news.wait()

    async def offer(self, step: Step) -> list[NodeDaemon]:
        """First phase at every daemon that is up; gives those that took it.

        With the lock held.  Raises `Refused`, and then nothing has changed
        anywhere.  A daemon that does not answer is ended: it gets the policy
        that is current when it comes back.
        """
        ready = [daemon for daemon in self.all.values() if daemon.up]
        answers = await asyncio.gather(
            *(daemon.validate(step) for daemon in ready), return_exceptions=True
        )
        taken = []
        for daemon, answer in zip(ready, answers, strict=True):
            if isinstance(answer, ApiError):
                raise Refused(daemon.name, answer)
            if isinstance(answer, Unreachable):
                daemon.kill(answer)
            elif answer is not None:
                raise answer
            else:
                taken.append(daemon)
        return taken

    async def commit(self, step: Step, taken: list[NodeDaemon]) -> None:
        """Second phase, with the lock held: what fails now is started again with all of it."""
        answers = await asyncio.gather(
            *(daemon.commit(step) for daemon in taken), return_exceptions=True
        )
        for daemon, answer in zip(taken, answers, strict=True):
            if isinstance(answer, ApiError | Unreachable):
                daemon.kill(answer)
            elif answer is not None:
                raise answer

    async def stop(self, grace: float) -> None:
        """End every daemon, with ``grace`` seconds after SIGTERM."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        children = [d.child for d in self.all.values() if d.child is not None]
        await asyncio.gather(*(child.stop(grace) for child in children))


def daemon_argv(lab: str, node: str, options: list[str]) -> list[str]:
    """The command of a node's daemon; ``options`` say dataplane and overlay."""
    run_dir = str(LabPaths(lab).node(node).root)
    own = ["--node", node, "--lab", lab, "--run-dir", run_dir, "--uplink", "eth0", "--controlled"]
    return python("-m", "pylb.cli.main", "daemon", *own, *options)
