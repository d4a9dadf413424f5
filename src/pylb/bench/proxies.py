"""Programs that proxy on node1 in the Services' place, and their configurations.

They listen on addresses that node1 gets for it and connect to the backends over
the kernel's overlay.  Unlike a dataplane they end the client's connection, so
the backend sees node1 and not the pod.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from pylb.bench.cluster import BULK, ECHO, HASH, PODS, PROXY_VIPS, SINK, STORM, UDP_ECHO
from pylb.bench.errors import Failed
from pylb.bench.tools import run, start
from pylb.lab.images import search_path
from pylb.lab.names import Place

_TCP = (BULK, STORM, ECHO, HASH)
_UDP = (SINK, UDP_ECHO)
_MODULES = (
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A program: ``config`` makes its file in a folder, ``command`` its argv."""

    name: str
    unavailable: Callable[[], str]
    config: Callable[[Path], str]
    command: Callable[[Path], list[str]]


def _no_haproxy() -> str:
    return "" if which("haproxy", path=search_path()) else "haproxy is not installed"


def _haproxy_config(folder: Path) -> str:
    lines = [
        "global",
        # Twice as many descriptors must be within the limit that the bench asks for.
        "    maxconn 1900",
        "defaults",
        "    mode tcp",
        "    timeout connect 5s",
        "    timeout client 60s",
        "    timeout server 60s",
        # Data is spliced from socket to socket where the kernel can.
        "    option splice-auto",
    ]
    for name, vip in PROXY_VIPS.items():
        for port in _TCP:
            lines += [
                f"listen {name}-{port}",
                f"    bind {vip}:{port}",
                f"    server pod {PODS[name][1]}:{port}",
            ]
    return "\n".join(lines) + "\n"


def _nginx_build() -> str:
    try:
        done = subprocess.run(
            ["nginx", "-V"],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": search_path()},
        )
    except OSError:
        return ""
    return done.stderr


def _stream_module() -> str:
    """The ``load_module`` line that nginx needs for stream, "" for none."""
    found = next((path for path in _MODULES if Path(path).exists()), "")
    return f"load_module {found};" if found else ""


def _no_nginx() -> str:
    if which("nginx", path=search_path()) is None:
        return "nginx is not installed"
    built_in = "--with-stream " in f"{_nginx_build()} "
    return "" if built_in or _stream_module() else "nginx has no stream module here"


def _nginx_config(folder: Path) -> str:
    servers = []
    for name, vip in PROXY_VIPS.items():
        pod = PODS[name][1]
        servers += [f"  server {{ listen {vip}:{p}; proxy_pass {pod}:{p}; }}" for p in _TCP]
        for port in _UDP:
            # Without the number of answers nginx would keep a session for each datagram's sake.
            answers = 0 if port == SINK else 1
            servers.append(
                f"  server {{ listen {vip}:{port} udp reuseport; proxy_pass {pod}:{port}; "
                f"proxy_responses {answers}; proxy_timeout 5s; }}"
            )
    return "\n".join(
        [
            _stream_module(),
            "daemon off; worker_processes auto; user root;",
            f"pid {folder}/nginx.pid;",
            f"error_log {folder}/nginx.log warn;",
            "events { worker_connections 4000; }",
            "stream {",
            "  proxy_half_close on;",
            *servers,
            "}",
            "",
        ]
    )


PROXIES = {
    "haproxy": Proxy(
        "haproxy",
        _no_haproxy,
        _haproxy_config,
        lambda folder: ["haproxy", "-W", "-f", str(folder / "haproxy.conf")],
    ),
    "nginx-stream": Proxy(
        "nginx-stream",
        _no_nginx,
        _nginx_config,
        lambda folder: ["nginx", "-c", str(folder / "nginx-stream.conf")],
    ),
}


class RunningProxy:
    """A proxy on its node."""

    def __init__(self, proxy: Proxy, place: Place, folder: Path) -> None:
        """Give the node its addresses and start the program; raises `Failed`."""
        for vip in PROXY_VIPS.values():
            run(place, ["ip", "address", "add", f"{vip}/32", "dev", "lo"])
        (folder / f"{proxy.name}.conf").write_text(proxy.config(folder))
        self._process = start(place, proxy.command(folder))
        # A configuration that is refused ends it at once.
        with suppress(subprocess.TimeoutExpired):
            _, said = self._process.communicate(timeout=0.5)
            lines = said.strip().splitlines()
            raise Failed(
                f"{proxy.name} does not start: {lines[-1] if lines else 'no reason given'}"
            )

    def stop(self) -> None:
        """End it and its workers."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            # Its workers are ended with the lab's namespaces.
            self._process.kill()
            self._process.communicate()
