"""A node with its pods, in namespaces of its own: the least that a daemon needs around it.

::

    client ── eth0 192.168.7.253        pod ── eth0 10.244.1.x, default via .1
       │                                  │
    node ─ eth0 192.168.7.1         cni0 10.244.1.1/24, isolated ports

Everything is named ``ptnode-PID-...`` and removed by name at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pyroute2 import IPRoute, netns

from pylb.control.client import Client, Unreachable
from pylb.node.native_pump import Limits
from pylb.node.plumbing import Names, Plumbing, attach_pod_port

T = TypeVar("T")
Popen = subprocess.Popen[str]

ON_BOTH = pytest.mark.parametrize("here", ["native", "python"], indirect=True)
"""For tests of what holds for every dataplane in userspace."""

DEADLINE = 15.0
NODE_IP = "192.168.7.1"
CLIENT_IP = "192.168.7.253"
_SOURCE = Path(__file__).parents[3] / "src"
_SERIAL = itertools.count()


def until(condition: Callable[[], T], what: str) -> T:
    """The first true value of ``condition``; fails the test when there is none in time."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.005)
    return value


class Namespace:
    """A network namespace that is there until `remove`."""

    def __init__(self, name: str) -> None:
        self.name = f"ptnode-{secrets.token_hex(3)}-{name}"
        netns.create(self.name)
        # Duplicate address detection would make the state differ from moment to moment.
        self.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1; ip link set lo up")

    def remove(self) -> None:
        netns.remove(self.name)

    def sh(self, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command line here; raises with what it wrote when it fails."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "sh", "-ec", command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start a process here."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *argv], text=True, **options)

    def call(self, function: Callable[[], T]) -> T:
        """``function()`` in a thread that is here."""
        result: list[T] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                netns.setns(self.name)
                result.append(function())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def state(self) -> str:
        """Rules, routes, links, qdiscs and sysctls as text."""
        return self.sh(
            "ip -d rule; ip -d route show table all; ip -br addr; tc qdisc;"
            "for d in eth0 cni0; do tc filter show dev $d ingress 2>/dev/null || true; done;"
            "cd /proc/sys/net; for f in ipv4/ip_* ipv4/conf/*/* bridge/*; do"
            ' echo "$f $(cat $f 2>/dev/null)"; done'
        ).stdout


class World:
    """One node, a client on its underlay, and pods as they are asked for."""

    def __init__(self, folder: Path, dataplane: str = "native") -> None:
        self.folder = folder
        self.dataplane = dataplane
        self._spaces: list[Namespace] = []
        self._processes: list[subprocess.Popen[str]] = []
        serial = next(_SERIAL)
        self.node = self._space(f"{serial}node")
        self.client = self._space(f"{serial}client")
        self._serial = serial
        client = self.client.name
        self.node.sh(
            f"ip link add eth0 type veth peer name eth0 netns {client};"
            f"ip addr add {NODE_IP}/24 dev eth0; ip link set eth0 up;"
            f"ip route add default via {CLIENT_IP}"
        )
        self.client.sh(
            f"ip addr add {CLIENT_IP}/24 dev eth0; ip link set eth0 up;"
            f"ip route add 10.0.0.0/8 via {NODE_IP}"
        )

    def _space(self, name: str) -> Namespace:
        made = Namespace(name)
        self._spaces.append(made)
        return made

    def plumbing(self) -> Plumbing:
        return Plumbing(Names(), self.folder / "plumbing.json")

    def pod(self, number: int, node: int = 1, mtu: int = 1450) -> Namespace:
        """The pod 10.244.NODE.NUMBER, on the bridge of its node, which must be there.

        The client plays node2 where a test wants one.
        """
        host = self.node if node == 1 else self.client
        pod = self._space(f"{self._serial}pod{node}-{number}")
        port = f"veth{number}"
        host.sh(f"ip link add {port} mtu {mtu} type veth peer name eth0 netns {pod.name}")
        host.call(lambda: attach_pod_port(port))
        pod.sh(
            f"ip link set eth0 mtu {mtu} up; ip addr add 10.244.{node}.{number}/24 dev eth0;"
            f"ip route add default via 10.244.{node}.1"
        )
        return pod

    def serve(self, where: Namespace, port: int, text: str, protocol: str = "tcp") -> None:
        """A server that answers each connection or datagram with ``text`` and who asked."""
        self.start_server(where, _SERVER, protocol, str(port), text)

    def start(self, where: Namespace, program: str, *argv: str, **options: Any) -> Popen:
        """Start a Python program that ends with the test."""
        process = where.start(sys.executable, "-c", program, *argv, **options)
        self._processes.append(process)
        return process

    def start_server(self, where: Namespace, program: str, *argv: str) -> None:
        """Start one that writes to the descriptor in its last argument once it serves."""
        ready, wrote = os.pipe()
        self.start(where, program, *argv, str(wrote), pass_fds=(wrote,))
        os.close(wrote)
        assert os.read(ready, 1) == b"r", "the server did not start"
        os.close(ready)

    def ask(
        self, where: Namespace, address: str, port: int, protocol: str = "tcp", size: int = 5
    ) -> str:
        """What the server at ``address`` answers to a request of ``size`` bytes."""
        done = self._ask(where, address, port, protocol, size, DEADLINE)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def no_answer(self, where: Namespace, address: str, port: int, protocol: str = "tcp") -> bool:
        """True when nothing comes back from ``address``, or an error does."""
        return self._ask(where, address, port, protocol, 5, 1).returncode == 1

    def _ask(
        self, where: Namespace, address: str, port: int, protocol: str, size: int, patience: float
    ) -> subprocess.CompletedProcess[str]:
        words = f"{protocol} {address} {port} {size} {patience}"
        return where.sh(f"{sys.executable} -c '{_ASK}' {words}", check=False)

    def daemon(
        self, *options: str, files: bool = True, node: int = 1, dataplane: str | None = None
    ) -> Daemon:
        """Start a node's daemon with ``cluster.yaml`` of the folder, and wait until it serves.

        Its dataplane is the world's unless ``dataplane`` names another.
        """
        given = ["-f", str(self.folder / "cluster.yaml")] if files else []
        return self._serving(
            node, self.daemon_argv(*given, *options, node=node, dataplane=dataplane)
        )

    def limited_daemon(self, limits: Limits, overlay: str, node: int = 1) -> Daemon:
        """The same with the native dataplane, which does without what ``limits`` leaves out."""
        flags = "".join("01"[flag] for flag in (*limits.tun, *limits.overlay))
        manifest = str(self.folder / "cluster.yaml")
        own = [f"node{node}", str(self.run_dir(node)), manifest, overlay, flags]
        return self._serving(node, [sys.executable, "-c", _LIMITED, *own])

    def _serving(self, node: int, argv: list[str]) -> Daemon:
        daemon = Daemon(self, node, argv)
        self._processes.append(daemon.process)
        daemon.wait_until_it_serves()
        return daemon

    def run_daemon(self, *options: str) -> subprocess.CompletedProcess[str]:
        """A daemon that is expected to end by itself."""
        return subprocess.run(
            ["ip", "netns", "exec", self.node.name, *self.daemon_argv(*options)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )

    def run_dir(self, node: int = 1) -> Path:
        return self.folder / ("run" if node == 1 else f"run{node}")

    def daemon_argv(self, *options: str, node: int = 1, dataplane: str | None = None) -> list[str]:
        own = ["--node", f"node{node}", "--run-dir", str(self.run_dir(node))]
        own += ["--dataplane", dataplane or self.dataplane]
        return [sys.executable, "-m", "pylb.cli.main", "daemon", *own, *options]

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for space in self._spaces:
            space.remove()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_SOURCE)}


class Daemon:
    """A daemon at work."""

    def __init__(self, world: World, node: int, argv: list[str]) -> None:
        self.log = world.folder / f"daemon{node}.log"
        space = world.node if node == 1 else world.client
        with self.log.open("a") as log:
            self.process = space.start(*argv, stderr=log, env=environment())
        self.api = Client(world.run_dir(node) / "api.sock")

    def wait_until_it_serves(self) -> None:
        def serves() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the daemon ended: {self.log.read_text()}")
            try:
                self.api.get("/healthz")
            except Unreachable:
                return False
            return True

        until(serves, "the daemon")

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@contextlib.contextmanager
def world(folder: Path, dataplane: str = "native") -> Iterator[World]:
    made = World(folder, dataplane)
    try:
        yield made
    finally:
        made.close()


def netlink(space: Namespace, function: Callable[[IPRoute], T]) -> T:
    def body() -> T:
        with IPRoute() as ipr:
            return function(ipr)

    return space.call(body)


_LIMITED = """
import sys
from pylb.node.daemon import run
from pylb.node.native_pump import Limits
from pylb.node.overlay_sockets import Batching
from pylb.node.tun import Offloads
node, run_dir, manifest, overlay, flags = sys.argv[1:]
on = [flag == "1" for flag in flags]
limits = Limits(Offloads(*on[:3]), Batching(*on[3:]))
sys.exit(run(node, [manifest], "pylb", run_dir=run_dir, overlay=overlay, limits=limits))
"""

_SERVER = """
import os, socket, sys
protocol, port, text, ready = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", port))
if protocol == "tcp":
    s.listen(64)
os.write(ready, b"r")
os.close(ready)
while True:
    if protocol == "tcp":
        c, who = s.accept()
        c.recv(65536)
        c.sendall(f"{text} {who[0]}\\n".encode())
        c.close()
    else:
        data, who = s.recvfrom(65536)
        s.sendto(f"{text} {who[0]} {len(data)}\\n".encode(), who)
"""

_ASK = """
import socket, sys
protocol, address, port, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
patience = float(sys.argv[5])
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
s.settimeout(patience)
try:
    s.connect((address, port))
    s.send(b"x" * size)
    print(s.recv(65536).decode())
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""
