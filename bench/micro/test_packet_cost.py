"""What a packet costs in the native dataplane among 1 000 flows, and among a million.

bench/native/packet_cost.c does it, built here from the sources: no Python, no system
call, batches as the pump makes them.  ``pytest -s`` shows its lines.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW, MANY = 1_000, 1_000_000
ROUNDS = 5


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("packet_cost") / "packet_cost"
    sources = [ROOT / "bench" / "native" / "packet_cost.c", *sorted((ROOT / "csrc").glob("*.c"))]
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-I", str(ROOT / "csrc"), "-pthread"]
    subprocess.run(["cc", *flags, "-o", str(built), *map(str, sources)], check=True)
    return built


@pytest.mark.parametrize("flows", [FEW, MANY])
def test_packet_cost(program: Path, flows: int) -> None:
    """Median of several runs, each a process of its own."""
    runs = []
    for _ in range(ROUNDS):
        done = subprocess.run([program, str(flows)], check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
    for name in ("open_ns", "packet_ns", "bytes_per_flow"):
        values = sorted(run[name] for run in runs)
        print(f"{flows} flows: {name} {values[ROUNDS // 2]} ({values[0]} to {values[-1]})")
        assert values[0] > 0
