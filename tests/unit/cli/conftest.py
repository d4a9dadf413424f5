"""Daemons and controllers that answer from tables, behind the real transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pylb.cli import get
from pylb.control.http import Handler, Request, Response, Router, Server
from pylb.control.paths import LabPaths

from .objects import Clock, objects

DEADLINE = 10.0


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(DEADLINE)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(DEADLINE)
        self.loop.close()


class Lab:
    """The folder of a lab called pylb, whose servers are made on demand."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._servers: list[Server] = []
        self.paths = LabPaths("pylb")
        self.requests: list[Request] = []

    def serve(self, path: Path, routes: dict[str, Any]) -> None:
        """Serve ``routes``, "METHOD /path" to an answer, a Response or a handler, at ``path``."""
        router = Router()
        for route, answer in routes.items():
            method, _, pattern = route.partition(" ")
            router.add(method, pattern, self._handler(answer))
        path.parent.mkdir(parents=True, exist_ok=True)
        server = Server(path, router)
        self._loop.call(server.start())
        self._servers.append(server)

    def daemon(self, node: str, routes: dict[str, Any]) -> None:
        self.serve(self.paths.node(node).api, routes)

    def controller(self, routes: dict[str, Any]) -> None:
        self.serve(self.paths.api, routes)

    def _handler(self, answer: Any) -> Handler:
        async def handler(request: Request) -> Any:
            self.requests.append(request)
            value = answer(request) if callable(answer) else answer
            return Response(200, value) if isinstance(value, (dict, list)) else value

        return handler

    def close(self) -> None:
        for server in self._servers:
            self._loop.call(server.close())


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.stop()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Loop) -> Iterator[Lab]:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path))
    monkeypatch.delenv("PYLB_LAB", raising=False)
    lab = Lab(loop)
    yield lab
    lab.close()


@pytest.fixture
def cluster(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab with a controller that has a few objects of every kind."""
    monkeypatch.setattr(get, "datetime", Clock)
    lab.controller({"GET /objects": objects})
    return lab
