"""The pump's thread beside the daemon's: whatever both touch is behind the lock."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.native.probe import CSRC, HERE

FLAGS = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=thread", "-pthread"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    empty = folder / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    tried = ["gcc", "-fsanitize=thread", str(empty), "-o", str(folder / "empty")]
    if subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("gcc has no thread sanitizer here")
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
