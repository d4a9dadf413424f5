"""Two phases: every daemon validates, then every daemon commits, or nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pylb.control.http import HttpError, Request, Response, Router, Server
from pylb.control.paths import LabPaths
from pylb.lab import names
from pylb.lab.daemons import Daemons, Refused, Step
from pylb.lab.owned import Owned
from pylb.lab.process import Children
from tests.unit.lab.policies import policy

WHOLE = [{"kind": "Node"}]


class FakeDaemon:
    """Answers as a daemon does; ``refuses`` is the status that it answers validation with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.refuses = 0
        self.fails_commit = False

    def routes(self) -> Router:
        async def validate(request: Request) -> Response:
            self.asked.append(("validate", request.body))
            if self.refuses and ("base" in request.body or self.refuses != 409):
                raise HttpError(self.refuses, "not this", ["first", "second"])
            return Response(200, {})

        async def commit(request: Request) -> Response:
            self.asked.append(("commit", request.body))
            if self.fails_commit:
                raise HttpError(500, "cannot")
            return Response(200, {})

        router = Router()
        router.add("POST", "/policy/validate", validate)
        router.add("POST", "/policy/commit", commit)
        return router

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


Fakes = dict[str, FakeDaemon]


@asynccontextmanager
async def _two(tmp_path: Path, present: tuple[str, ...]) -> AsyncIterator[tuple[Daemons, Fakes]]:
    places = names.places("lab", policy())
    nodes = [places["node1"], places["node2"]]
    step = Step(1, WHOLE)
    children = Children(Owned(tmp_path / "owned.json"))
    daemons = Daemons("lab", nodes, [], children, asyncio.Lock(), lambda: step)
    fakes = {name: FakeDaemon() for name in present}
    async with AsyncExitStack() as stack:
        for name, fake in fakes.items():
            path = LabPaths("lab").node(name).api
            path.parent.mkdir(parents=True)
            server = Server(path, fake.routes())
            await server.start()
            stack.push_async_callback(server.close)
        for daemon in daemons.all.values():
            daemon.up, daemon.number = True, 1
        yield daemons, fakes


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path))

    def _run(
        test: Callable[[Daemons, Fakes], Awaitable[None]],
        present: tuple[str, ...] = ("node1", "node2"),
    ) -> None:
        async def main() -> None:
            async with _two(tmp_path, present) as (daemons, fakes):
                await test(daemons, fakes)

        asyncio.run(main())

    return _run


CHANGE = Step(2, WHOLE, base=1, apply=({"kind": "Pod"},), delete=({"kind": "Service"},))


def test_a_change_goes_to_all_and_is_committed_by_all(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        taken = await daemons.offer(CHANGE)
        assert all(fake.asked == [("validate", CHANGE.change)] for fake in fakes.values())
        await daemons.commit(CHANGE, taken)
        assert all(fake.asked[1] == ("commit", {"number": 2}) for fake in fakes.values())
        assert [daemon.number for daemon in daemons.all.values()] == [2, 2]

    run(test)


def test_when_one_refuses_none_commits(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        fakes["node2"].refuses = 422
        with pytest.raises(Refused) as caught:
            await daemons.offer(CHANGE)
        assert caught.value.errors == ["node node2: first", "node node2: second"]
        assert [fake.paths for fake in fakes.values()] == [["validate"], ["validate"]]
        assert [daemon.number for daemon in daemons.all.values()] == [1, 1]
        assert all(daemon.up for daemon in daemons.all.values())

    run(test)


def test_one_that_lost_the_base_gets_the_whole_policy(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        fakes["node1"].refuses = 409
        taken = await daemons.offer(CHANGE)
        assert len(taken) == 2
        asked = [("validate", CHANGE.change), ("validate", CHANGE.whole)]
        assert fakes["node1"].asked == asked

    run(test)


def test_one_that_has_another_number_gets_the_whole_policy(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        daemons.all["node1"].number = 0
        await daemons.offer(CHANGE)
        assert fakes["node1"].asked == [("validate", CHANGE.whole)]
        assert fakes["node2"].asked == [("validate", CHANGE.change)]

    run(test)


def test_one_that_does_not_answer_does_not_hold_up_the_others(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        taken = await daemons.offer(CHANGE)
        assert [daemon.name for daemon in taken] == ["node1"]
        assert not daemons.all["node2"].up
        await daemons.commit(CHANGE, taken)
        assert daemons.all["node1"].number == 2

    run(test, present=("node1",))


def test_one_that_cannot_commit_is_no_longer_up(run: Callable[..., None]) -> None:
    async def test(daemons: Daemons, fakes: Fakes) -> None:
        fakes["node1"].fails_commit = True
        await daemons.commit(CHANGE, await daemons.offer(CHANGE))
        assert [d.up for d in daemons.all.values()] == [False, True]
        assert [d.number for d in daemons.all.values()] == [1, 2]

    run(test)
