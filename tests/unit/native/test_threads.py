"""The pump's thread beside the daemon's: whatever both touch is behind the lock."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.native.probe import CSRC, HERE, need_sanitizers

SANITIZER = "thread"
FLAGS = [
    *("-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-fsanitize={SANITIZER}"),
    "-pthread",
    # A call of memcpy is seen by the sanitizer; the moves that gcc makes of a short one are not.
    *("-fno-builtin-memcpy", "-fno-builtin-memset"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    need_sanitizers(folder, SANITIZER)
    built = folder / "threads"
    sources = [str(HERE / "threads.c"), *map(str, sorted(CSRC.glob("*.c")))]
    subprocess.run(["gcc", *FLAGS, f"-I{CSRC}", *sources, "-o", str(built)], check=True)
    return built


def test_plans_flows_and_counters_change_beside_packets(program: Path) -> None:
    # The sanitizer maps its memory at fixed places, which some kernels' chance takes.
    run = ["setarch", "--addr-no-randomize", str(program), "300"]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    flows, _, packets, _ = done.stdout.replace(",", "").split()
    assert int(flows) > 0
    assert int(packets) > 0
