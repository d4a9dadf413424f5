"""The labs of the subjects: up side by side while memory allows, one measured at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyroute2 import NFCTSocket

from pylb.bench import cluster
from pylb.bench.cluster import Body, Target
from pylb.bench.errors import BenchError, Failed, NotAvailable
from pylb.bench.proxies import PROXIES, RunningProxy
from pylb.bench.subjects import Subject
from pylb.control.client import ApiError, Client, Unreachable
from pylb.control.paths import LabPaths
from pylb.lab import lifetime, netns
from pylb.lab.errors import LabError
from pylb.lab.names import Place, check_lab_name

NODES = ("node1", "node2")
ANSWER = 600.0
"""Seconds that loading 10 000 Services may take."""
MEMORY = 600 << 20
"""Bytes that must be free for one more lab."""
_ENDS = ("load", "near", "far", "far-2", "far-3", "client", "outside", *NODES)
"""The places in which TCP connections begin or end."""
_SYSCTLS = (
    # A namespace inherits these from the machine; here they are what Linux has without
    # anybody's tuning.
    ("ipv4/tcp_rmem", "4096 131072 6291456"),
    ("ipv4/tcp_wmem", "4096 16384 4194304"),
    ("ipv4/tcp_timestamps", "1"),
    ("ipv4/tcp_notsent_lowat", "4294967295"),
    ("ipv4/ip_local_port_range", "32768 60999"),
)
_FLUSH_ABOVE = 50_000
"""Flows of the last measurements that are more than a table should begin with."""


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


@contextlib.contextmanager
def _answered(path: str) -> Iterator[None]:
    """Raise `Failed` for a request to ``path`` that a controller or daemon refuses."""
    try:
        yield
    except (ApiError, Unreachable) as error:
        raise Failed(f"{path}: {str(error).splitlines()[0]}") from None


class RunningLab:
    """A subject's lab that is up."""

    def __init__(self, subject: Subject, name: str, folder: Path) -> None:
        """Bring it up; raises `NotAvailable` with the lab's own reason."""
        self.subject = subject
        self.name = name
        self._places: dict[str, Place] = {}
        self._proxy: RunningProxy | None = None
        manifest = folder / "cluster.yaml"
        manifest.write_text(cluster.manifest())
        try:
            lifetime.up([str(manifest)], name, subject.dataplane, subject.overlay, lambda _: None)
        except LabError as error:
            raise NotAvailable(str(error).splitlines()[0]) from None
        try:
            for place in _ENDS:
                for setting, value in _SYSCTLS:
                    self.sysctl(place, setting, value)
                self._unpaced(place)
            if subject.proxy:
                self._proxy = RunningProxy(PROXIES[subject.proxy], self.place("node1"), folder)
        except BaseException as error:
            self.close()
            if isinstance(error, Failed):
                raise NotAvailable(str(error)) from None
            raise

    def _unpaced(self, place: str) -> None:
        """Have connections of a place not paced, as BBR does, or the figure is a timer's.

        The load programs choose CUBIC by themselves; this is for proxies, in a
        namespace that may only choose what the kernel allows to namespaces.
        """
        for name in ("cubic", "reno"):
            with contextlib.suppress(Failed):
                self.sysctl(place, "ipv4/tcp_congestion_control", name)
                return

    def close(self) -> None:
        """Take it down."""
        if self._proxy is not None:
            self._proxy.stop()
            self._proxy = None
        with contextlib.suppress(LabError):
            lifetime.down(self.name)

    def place(self, name: str) -> Place:
        """A place of it."""
        if name not in self._places:
            self._places[name] = lifetime.find_place(self.name, name)
        return self._places[name]

    def target(self, path: str) -> Target:
        """Where a path leads; raises `NotAvailable` when there is none for the subject."""
        found = self.subject.target(path)
        if found is None:
            raise NotAvailable("a proxy has no part in this path")
        return found

    def apply(self, bodies: list[Body]) -> None:
        """Create or change objects; raises `Failed`."""
        sent = [{"file": "bench", "document": 0, "body": body} for body in bodies]
        self._ask("/apply", {"objects": sent})
        # A daemon that takes too long is started again by its lab, which then answers all the same.
        for node in self._status()["nodes"]:
            if node["daemon"] != "up" or node["restarts"]:
                raise Failed(f"the daemon of {node['name']} did not live through an apply")

    def delete(self, bodies: list[Body]) -> None:
        """Delete objects; raises `Failed`."""
        refs = [
            {
                "kind": body["kind"],
                "namespace": "default",
                "name": body["metadata"]["name"],
            }
            for body in bodies
        ]
        self._ask("/delete", {"refs": refs})

    def load(self, node: str, body: Body) -> None:
        """Have one node's daemon take a policy that its lab does not know of; raises `Failed`."""
        with _answered("/policy"):
            self._daemon(node).post("/policy", body)

    def _ask(self, path: str, body: Any) -> None:
        with _answered(path):
            self._controller().post(path, body)

    def _controller(self) -> Client:
        return Client(LabPaths(self.name).api, who="controller", timeout=ANSWER)

    def _daemon(self, node: str) -> Client:
        return Client(LabPaths(self.name).node(node).api, timeout=ANSWER)

    def counters(self, node: str) -> dict[str, int]:
        """The daemon's counters by name; raises `Failed`."""
        with _answered("/counters"):
            found: dict[str, int] = self._daemon(node).get("/counters")["counters"]
            return found

    def daemon_pid(self, node: str) -> int:
        """The daemon's process; raises `Failed`."""
        nodes = self._status()["nodes"]
        return int(next(each["pid"] for each in nodes if each["name"] == node))

    def _status(self) -> Body:
        with _answered("/status"):
            found: Body = self._controller().get("/status")
            return found

    def flows(self, node: str) -> int:
        """Flows that a node tracks now; raises `Failed`."""
        if self.subject.kernel:
            return int(self.sysctl(node, "netfilter/nf_conntrack_count"))
        return self.counters(node)["flows"]

    def sysctl(self, place: str, name: str, value: str | None = None) -> str:
        """A sysctl under net/ of a place, set first if ``value`` is given; raises `Failed`."""

        def work() -> str:
            with netns.within(self.place(place).namespace):
                path = Path("/proc/sys/net") / name
                if value is not None:
                    path.write_text(value)
                return path.read_text().strip()

        try:
            return netns.in_thread(work)
        except OSError as error:
            raise Failed(f"net/{name} at {place}: {error.strerror}") from None

    def flush(self, *, above: int = _FLUSH_ABOVE) -> None:
        """Forget the flows of nodes that have more than ``above``; raises `Failed`."""
        for node in NODES:
            if self.flows(node) <= above:
                continue
            if self.subject.kernel:
                netns.in_thread(lambda node=node: self._flush_kernel(node))  # type: ignore[misc]
            else:
                with _answered("/conntrack"):
                    self._daemon(node).delete("/conntrack")

    def _flush_kernel(self, node: str) -> None:
        with netns.within(self.place(node).namespace), NFCTSocket() as table:
            table.flush()


class Labs:
    """Brings labs up when they are asked for and takes all of them down in the end."""

    def __init__(self, prefix: str, folder: Path) -> None:
        self._prefix = prefix
        self._folder = folder
        self._up: dict[str, RunningLab] = {}

    def name(self, subject: Subject, suffix: str = "") -> str:
        """The lab's name: no `-` is allowed in it."""
        return f"{self._prefix}.{subject.name.replace('-', '_')}{suffix}"

    def check(self, subjects: list[Subject]) -> None:
        """Raise `BenchError` when a lab of one of the names is up, or a name cannot be one."""
        for subject in subjects:
            for suffix in ("", ".fresh"):
                name = self.name(subject, suffix)
                try:
                    check_lab_name(name)
                except LabError as error:
                    raise BenchError(str(error)) from None
                if LabPaths(name).root.exists():
                    raise BenchError(
                        f"lab {name!r} is up already: take it down first with "
                        f"`pylb lab down --name {name}`, or choose another --name"
                    )

    def get(self, subject: Subject) -> RunningLab:
        """The subject's lab, brought up if it is not; raises `NotAvailable`."""
        lab = self._up.pop(subject.name, None)
        if lab is None:
            # The one that was used longest ago goes first.
            while self._up and free_memory() < MEMORY:
                self._up.pop(next(iter(self._up))).close()
            lab = self._start(subject, self.name(subject))
        self._up[subject.name] = lab
        return lab

    @contextlib.contextmanager
    def fresh(self, subject: Subject) -> Iterator[RunningLab]:
        """A lab that nothing has happened in yet, only for this; raises `NotAvailable`."""
        while self._up and free_memory() < 2 * MEMORY:
            self._up.pop(next(iter(self._up))).close()
        lab = self._start(subject, self.name(subject, ".fresh"))
        try:
            yield lab
        finally:
            lab.close()

    def _start(self, subject: Subject, name: str) -> RunningLab:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
        return RunningLab(subject, name, folder)

    def flush(self) -> None:
        """Forget the flows of all labs whose flows are the kernel's."""
        for lab in self._up.values():
            if lab.subject.kernel:
                lab.flush(above=0)

    def close(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Take everything down."""
        while self._up:
            _, lab = self._up.popitem()
            progress(f"taking down {lab.name}")
            lab.close()


@contextlib.contextmanager
def labs(prefix: str) -> Iterator[Labs]:
    """`Labs` that are all down afterwards, whatever happens."""
    with tempfile.TemporaryDirectory(prefix=f"pylb-bench-{os.getpid()}-") as folder:
        found = Labs(prefix, Path(folder))
        try:
            yield found
        finally:
            with _uninterrupted():
                found.close()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C while labs go: interrupted once more, some would stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
