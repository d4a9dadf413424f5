"""The demo's cluster on every dataplane and overlay, and real programs to send through it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.dataplane.features import Feature, lacks
from pylb.lab import lifetime
from pylb.lab.enter import launcher
from pylb.policy.model import Overlay, Policy
from pylb.policy.objects import read
from pylb.policy.store import Store
from tests.names import drawn

DEADLINE = 20.0
"""Seconds that any condition may take before a test gives up."""

MANIFEST = Path(__file__).parents[3] / "examples" / "two-nodes.yaml"


@dataclass(frozen=True)
class Lab:
    name: str
    dataplane: str
    overlay: Overlay
    policy: Policy

    def argv(self, where: str, *command: str) -> list[str]:
        place = lifetime.find_place(self.name, where)
        return launcher(f"/run/netns/{place.namespace}", str(place.folder), list(command))

    def lacks(self, feature: Feature) -> bool:
        return lacks(self.dataplane, feature)

    def apply(self, *bodies: dict[str, object]) -> None:
        objects = [{"file": "test", "document": i, "body": b} for i, b in enumerate(bodies, 1)]
        self.controller.post("/apply", {"objects": objects})

    def delete(self, *refs: tuple[str, str]) -> None:
        named = [{"kind": k, "namespace": "default", "name": n} for k, n in refs]
        self.controller.post("/delete", {"refs": named})

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


SUBJECTS = (
    ("native", "vxlan"),
    ("native", "udp"),
    ("native", "host-gw"),
    ("python", "vxlan"),
    ("python", "udp"),
    ("python", "host-gw"),
    ("kernel", "vxlan"),
    ("kernel", "host-gw"),
)


@pytest.fixture(scope="package", params=SUBJECTS, ids="-".join)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    dataplane, kind = request.param
    overlay = Overlay(kind)
    name = drawn(f"ptc{dataplane[0]}{kind.replace('-', '')}")
    lifetime.up([str(MANIFEST)], name, dataplane, kind, lambda line: None)
    try:
        policy = Store.empty(overlay).apply(read([MANIFEST])).policy
        yield Lab(name, dataplane, overlay, policy)
    finally:
        lifetime.down(name)


@pytest.fixture
def clean(lab: Lab) -> Iterator[None]:
    """The backends and the Service of a test are gone afterwards; what is not there is no error."""
    yield
    lab.delete(("Pod", "b1"), ("Pod", "b2"), ("Service", "churn"))


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Look until it is so; fails after DEADLINE."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
        time.sleep(0.02)
