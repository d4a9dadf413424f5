"""Walk-throughs end well, leave nothing behind, and print what docs/walkthroughs shows.

`PYLB_WRITE_DOCS=1` writes what they print into docs/walkthroughs.  `PYLB_DATAPLANE`
runs them on another dataplane than native; then only their own checks count.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from pathlib import Path

import pytest

from tests.walkthroughs.normal import normalised

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(s for s in (ROOT / "netns-scripts").glob("*.sh") if s.name != "common.sh")
PAGES = ROOT / "docs" / "walkthroughs"
INDICES = [ROOT / "netns-scripts" / "README.md", PAGES / "README.md"]

PREFIX = "wk"
"""What names of labs and namespaces of walk-throughs begin with."""

_DEADLINE = 180.0
_LEFT_DEADLINE = 10.0
"""Seconds.  The kernel removes a dead namespace's links in its own time."""

MARK = "PYLB_WALKTHROUGH"


def _left(mark: str) -> set[str]:
    """Namespaces, links and lab folders of walk-throughs, and processes marked with ``mark``."""
    left = {
        f"{folder}/{path.name}"
        for folder in ("/run/netns", "/sys/class/net", "/run/pylb")
        for path in Path(folder).glob(f"{PREFIX}*")
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                left.add(f"process {process.name}: {command}")
        except OSError:
            continue  # it has just ended
    return left


@pytest.mark.root
@pytest.mark.tools("tcpdump", "curl", "nft")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_walkthrough(script: Path, tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    if before := _left(mark):
        pytest.fail(f"there before {script.name} began: {sorted(before)}", pytrace=False)
    done = subprocess.run(
        [script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
        env=os.environ | {MARK: mark, "TMPDIR": str(tmp_path)},
    )
    if done.returncode != 0:
        pytest.fail(f"exit status {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    assert done.stdout.endswith("# As it must be.\n")

    until = time.monotonic() + _LEFT_DEADLINE
    while (left := _left(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    assert not list(tmp_path.iterdir()), "files in $TMPDIR"

    if os.environ.get("PYLB_DATAPLANE", "native") != "native":
        return
    page = PAGES / f"{script.stem}.txt"
    shown = page.read_text(encoding="utf-8") if page.exists() else ""
    if normalised(shown) == normalised(done.stdout):
        return
    if os.environ.get("PYLB_WRITE_DOCS"):
        page.write_text(done.stdout, encoding="utf-8")
    else:
        assert normalised(done.stdout) == normalised(shown)


def test_every_page_is_a_walkthroughs() -> None:
    assert {page.stem for page in PAGES.glob("*.txt")} == {script.stem for script in SCRIPTS}


@pytest.mark.parametrize("index", INDICES, ids=lambda p: p.parent.name)
def test_the_indices_name_every_walkthrough(index: Path) -> None:
    text = index.read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert script.stem in text, script.stem
