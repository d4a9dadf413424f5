"""The demo's cluster, once for each overlay, and real programs to send through it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.lab import lifetime
from pylb.lab.enter import launcher
from pylb.policy.model import Overlay, Policy
from pylb.policy.objects import read
from pylb.policy.store import Store

DEADLINE = 20.0
"""Seconds that any condition may take before a test gives up."""

MANIFEST = Path(__file__).parents[3] / "examples" / "two-nodes.yaml"


@dataclass(frozen=True)
class Lab:
    name: str
    overlay: Overlay
    policy: Policy

    def argv(self, where: str, *command: str) -> list[str]:
        place = lifetime.find_place(self.name, where)
        return launcher(f"/run/netns/{place.namespace}", str(place.folder), list(command))

    def run(self, where: str, *command: str, timeout: float = 60) -> str:
        """Run a command at a place; fails with what it said when it does."""
        done = subprocess.run(
            self.argv(where, *command), capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, where: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(where, *command),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def daemon(self, node: str) -> Client:
        return Client(LabPaths(self.name).node(node).api)

    def counters(self, node: str) -> dict[str, int]:
        return dict(self.daemon(node).get("/counters")["counters"])

    @property
    def controller(self) -> Client:
        return Client(LabPaths(self.name).api)

    def pod(self, name: str) -> str:
        return str(self.policy.pods[("default", name)].ip)


@pytest.fixture(scope="session", params=["vxlan", "udp"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    overlay = Overlay(request.param)
    name = f"pttraf{overlay.value}"
    lifetime.up([str(MANIFEST)], name, "python", overlay.value, lambda line: None)
    try:
        yield Lab(name, overlay, Store.empty(overlay).apply(read([MANIFEST])).policy)
    finally:
        lifetime.down(name)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Look until it is so; fails after DEADLINE."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.02)
