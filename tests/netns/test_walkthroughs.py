"""The walk-throughs say of themselves whether all was as it must be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "netns-scripts").glob("*.sh"))


@pytest.mark.root
@pytest.mark.tools("tcpdump", "curl")
@pytest.mark.parametrize(
    "script", [s for s in SCRIPTS if s.name != "common.sh"], ids=lambda s: s.stem
)
def test_a_walkthrough(script: Path) -> None:
    done = subprocess.run([script], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("# As it must be.\n")
