"""The load programs: built when they are first needed, run in the lab's places.

They are built on first use and not with the package: they are programs and no
extension modules, whoever never measures needs none of them, and a machine
without a compiler can still install pylb.  The executable is kept in the user's
cache under a name that follows from the sources, so that another version of them
is another program.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pylb.bench.errors import Failed, NotAvailable
from pylb.lab import netns
from pylb.lab.enter import launcher
from pylb.lab.images import search_path
from pylb.lab.names import Place

SOURCES = Path(__file__).parent / "load"
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-pthread")

READY_WITHIN = 10.0
"""Seconds that a server has to say that it is ready."""
PATIENCE = 15.0
"""Seconds that a client may run longer than it was told to."""


def cache_folder() -> Path:
    """Where built programs are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "pylb"


@cache
def program() -> Path:
    """The load program, built if it is not there yet; raises `NotAvailable`."""
    compiler = next(
        (found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None
    )
    if compiler is None:
        raise NotAvailable("the load programs need a C compiler: install gcc and libc6-dev")
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(" ".join((compiler, *FLAGS)).encode())
    for source in sources:
        digest.update(source.read_bytes())
    target = cache_folder() / f"load-{digest.hexdigest()[:16]}"
    if not target.exists():
        _build(compiler, [s for s in sources if s.suffix == ".c"], target)
    return target


def _build(compiler: str, sources: list[Path], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = Path(folder) / "load"
        command = [compiler, *FLAGS, "-o", str(draft), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = next((line for line in done.stderr.splitlines() if "error" in line), "")
            raise NotAvailable(f"the load programs cannot be built: {said or done.stderr[:200]}")
        draft.replace(target)


def start(place: Place, argv: list[str], **more: Any) -> subprocess.Popen[str]:
    """Start a program at a place; whoever starts it ends it."""
    return subprocess.Popen(
        launcher(str(netns.path(place.namespace)), str(place.folder), argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": search_path(), "HOME": "/root"},
        # Ctrl-C is for the bench, which then ends them.
        start_new_session=True,
        **more,
    )


def run(place: Place, argv: list[str], within: float = 30.0, what: str = "") -> str:
    """The output of a program at a place, called ``what`` in errors (default: by its name).

    Raises `Failed` unless it succeeds in time.
    """
    what = what or argv[0]
    try:
        done = subprocess.run(
            launcher(str(netns.path(place.namespace)), str(place.folder), argv),
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": search_path(), "HOME": "/root"},
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{what} was not done after {within:g} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise Failed(f"{what}: {said[-1] if said else f'status {done.returncode}'}")
    return done.stdout


def client(place: Place, mode: str, seconds: float, **options: object) -> dict[str, Any]:
    """What a client of the load program saw; raises `Failed`."""
    argv = [str(program()), mode, "--seconds", f"{seconds:g}", *_arguments(options)]
    found: dict[str, Any] = json.loads(run(place, argv, seconds + PATIENCE, mode))
    return found


def _arguments(options: dict[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


class Server:
    """A server of the load program, running."""

    def __init__(self, process: subprocess.Popen[str], mode: str) -> None:
        self._process = process
        self._mode = mode

    def wait_ready(self) -> None:
        """Return when it can be reached; raises `Failed`."""
        process = self._process
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            deadline = time.monotonic() + READY_WITHIN
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise Failed(f"{self._mode} was not ready after {READY_WITHIN:g} s")
        if process.stdout.readline() != "ready\n":
            assert process.stderr is not None
            raise Failed(f"{self._mode}: {process.stderr.read().strip() or 'ended at once'}")

    def stop(self) -> dict[str, Any]:
        """End it; gives what it counted.  Raises `Failed`."""
        self._process.send_signal(signal.SIGTERM)
        try:
            said, _ = self._process.communicate(timeout=PATIENCE)
            found: dict[str, Any] = json.loads(said)
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            self.kill()
            raise Failed(f"{self._mode} did not tell its result") from None
        return found

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def server(place: Place, mode: str, **options: object) -> Iterator[Server]:
    """A server of the load program that can be reached; ended in any case.  Raises `Failed`."""
    found = Server(start(place, [str(program()), mode, *_arguments(options)]), mode)
    try:
        found.wait_ready()
        yield found
    finally:
        found.kill()
