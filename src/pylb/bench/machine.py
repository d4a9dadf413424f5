"""What a run was made on: the machine and the versions of everything that took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pylb
from pylb.lab.images import search_path

_TOOLS = {
    "nft": ("nft", "--version"),
    "iptables": ("iptables", "--version"),
    "ip": ("ip", "-V"),
    "haproxy": ("haproxy", "-v"),
    "nginx": ("nginx", "-v"),
    "compiler": ("cc", "-dumpfullversion"),
}


def describe() -> dict[str, Any]:
    """The machine as it is now; what cannot be found out is empty."""
    return {
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": _first("/proc/meminfo", r"MemTotal:\s+(\d+) kB") + " kB",
        "virtual": "hypervisor" in _read("/proc/cpuinfo"),
        "load": os.getloadavg()[0],
        "system": _first("/etc/os-release", r'PRETTY_NAME="([^"]*)"'),
        "conntrack_max": _read("/proc/sys/net/netfilter/nf_conntrack_max").strip(),
        "versions": {
            "pylb": pylb.__version__,
            "python": platform.python_version(),
            **{name: _version(command) for name, command in _TOOLS.items()},
        },
    }


def stolen() -> float:
    """Seconds that the hypervisor gave to others since the machine came up (proc(5), USER_HZ)."""
    words = _read("/proc/stat").split("\n", 1)[0].split()
    return int(words[8]) / 100 if len(words) > 8 else 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _first(path: str, pattern: str) -> str:
    found = re.search(pattern, _read(path))
    return found[1] if found else ""


def _cpu_model() -> str:
    return _first("/proc/cpuinfo", r"model name\s*:\s*(.*)") or platform.machine()


def _version(command: tuple[str, ...]) -> str:
    if which(command[0], path=search_path()) is None:
        return ""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={"PATH": search_path()},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\d[\w.-]*\d", done.stdout + done.stderr)
    return found[0] if found else ""
