"""A lab of real namespaces, and what the machine looks like without it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.lab import lifetime, netns
from pylb.lab.enter import launcher
from pylb.policy.objects import read
from tests.names import drawn

LAB = drawn("ptlab")
DEADLINE = 20.0
"""Seconds that any condition may take before a test gives up."""

CLUSTER = """
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDR: 10.244.1.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDR: 10.244.2.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.12}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: web}}
spec:
  nodeName: node1
  containers:
    - {name: echo, image: "registry.k8s.io/echoserver:1.4", ports: [{containerPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, labels: {app: page}}
spec:
  nodeName: node2
  containers: [{name: nginx, image: nginx, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: idle}
spec:
  nodeName: node1
  containers: [{name: pause, image: "registry.k8s.io/pause:3.9"}]
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop}
spec:
  nodeName: node2
  hostname: main
  containers:
    - {name: one, command: [sh, -c, "echo from one; exec sleep 1000"]}
    - {name: two, command: [sh, -c, "echo from two; sleep 1000 & wait"]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""


def namespaces() -> set[str]:
    """The names of the lab's namespaces that there are."""
    found = netns.FOLDER.iterdir() if netns.FOLDER.exists() else ()
    return {path.name for path in found if path.name.startswith(f"{LAB}-")}


def until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``; fails the test if there is none in time."""
    deadline = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {DEADLINE:g} s: {what}")
        time.sleep(0.01)
    return value


@dataclass(frozen=True)
class Machine:
    """What a lab must leave as it was.

    Other labs may come and go meanwhile, so namespaces and processes are those
    of the tests' lab.
    """

    links: frozenset[str]
    namespaces: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]
    hosts: bytes

    @classmethod
    def now(cls) -> Machine:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        return cls(
            links=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            namespaces=frozenset(namespaces()),
            mounts=frozenset(line for line in mounts if LAB in line),
            processes=frozenset(_processes()),
            hosts=Path("/etc/hosts").read_bytes() + Path("/etc/hostname").read_bytes(),
        )


def _processes() -> Iterator[str]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f" {LAB}" in command or f"/{LAB}-" in command:
                yield command


@dataclass(frozen=True)
class Lab:
    """A lab that is up."""

    name: str
    manifest: Path

    @property
    def paths(self) -> LabPaths:
        return LabPaths(self.name)

    @property
    def api(self) -> Client:
        return Client(self.paths.api, who="controller")

    def run(
        self, where: str, *command: str, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command at a place, as `pylb lab exec` does."""
        place = lifetime.find_place(self.name, where)
        argv = launcher(str(netns.path(place.namespace)), str(place.folder), list(command))
        return subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE, check=False)

    def output(self, where: str, *command: str) -> str:
        """What a command that succeeds prints."""
        done = self.run(where, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any] | None:
        """A pod of `GET /status`."""
        pods = self.api.get("/status")["pods"]
        found = (p for p in pods if (p["namespace"], p["name"]) == (namespace, name))
        return next(found, None)

    def apply(self, text: str) -> Any:
        """Apply a manifest."""
        path = self.manifest.with_name("applied.yaml")
        path.write_text(text)
        sent = [{"file": r.file, "document": r.document, "body": r.body} for r in read([path])]
        return self.api.post("/apply", {"objects": sent})

    def delete(self, *refs: tuple[str, str, str]) -> Any:
        """Delete objects."""
        keys = ("kind", "namespace", "name")
        named = [dict(zip(keys, ref, strict=True)) for ref in refs]
        return self.api.post("/delete", {"refs": named})


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cluster of the tests."""
    path = tmp_path_factory.mktemp("manifests") / "cluster.yaml"
    path.write_text(CLUSTER)
    return path


def start(manifest: Path) -> Lab:
    """Bring the tests' lab up."""
    lifetime.up([str(manifest)], LAB, "python", None, lambda text: None)
    return Lab(LAB, manifest)


@pytest.fixture(scope="module")
def lab(manifest: Path) -> Iterator[Lab]:
    """A lab for tests that leave it as they find it."""
    found = start(manifest)
    yield found
    if found.paths.root.exists():
        lifetime.down(LAB)


@pytest.fixture
def unchanged() -> Iterator[None]:
    """Holds a test to leave the machine as it was."""
    before = Machine.now()
    yield
    if (paths := LabPaths(LAB)).root.exists():
        lifetime.down(LAB)
        pytest.fail(f"{paths.root} was left")
    until(lambda: Machine.now() == before, "the machine is as before")
