"""Walk-throughs end well, leave nothing behind, and print what docs/walkthroughs shows.

`PYLB_WRITE_DOCS=1` writes what they print into docs/walkthroughs.  `PYLB_DATAPLANE`
runs them on another dataplane than native; then only their own checks count.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.walkthroughs.normal import normalised

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(s for s in (ROOT / "netns-scripts").glob("*.sh") if s.name != "common.sh")
PAGES = ROOT / "docs" / "walkthroughs"
INDICES = [ROOT / "netns-scripts" / "README.md", PAGES / "README.md"]

DATAPLANE = os.environ.get("PYLB_DATAPLANE", "native")

_SKIPPED = 77
"""A script's exit status when its story is not one of the chosen dataplane."""

_DEADLINE = 300.0
_LEFT_DEADLINE = 10.0
"""Seconds.  The kernel removes a dead namespace's links in its own time."""

MARK = "PYLB_WALKTHROUGH"


def _names(script: Path) -> set[str]:
    """Labs and namespaces that a script names; what it makes is called so, or so and ``-``."""
    return set(re.findall(r"\bwk[a-z0-9]+", script.read_text(encoding="utf-8")))


def _left(names: set[str], mark: str) -> set[str]:
    """Namespaces, links and lab folders with these names, and processes marked with ``mark``."""
    left = {
        str(path)
        for folder in ("/run/netns", "/sys/class/net", "/run/pylb")
        for path in Path(folder).glob("wk*")
        if path.name.split("-")[0] in names
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                left.add(f"process {process.name}: {command}")
        except OSError:
            continue  # it has just ended
    return left


def _run(script: Path, environment: dict[str, str]) -> tuple[int | str, str, str]:
    """A script's exit status, or why there is none, and what it wrote."""
    with subprocess.Popen(
        [script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=_DEADLINE)
        except subprocess.TimeoutExpired:
            # Its trap takes everything down.
            os.killpg(process.pid, signal.SIGTERM)
            out, err = process.communicate()
            return f"none: not done after {_DEADLINE:g} s", out, err
        return process.returncode, out, err


@pytest.mark.root
@pytest.mark.tools("tcpdump", "curl", "nft")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_a_walkthrough(script: Path, tmp_path: Path) -> None:
    mark = secrets.token_hex(8)
    names = _names(script)
    assert names, "a walk-through's labs and namespaces are called wk..."
    if before := _left(names, mark):
        pytest.fail(f"there before {script.name} began: {sorted(before)}", pytrace=False)
    status, out, err = _run(script, os.environ | {MARK: mark, "TMPDIR": str(tmp_path)})
    if status == _SKIPPED and DATAPLANE != "native":
        pytest.skip(err.strip())
    if status != 0:
        pytest.fail(f"exit status {status}\n{out}{err}", pytrace=False)
    assert out.endswith("# As it must be.\n")

    until = time.monotonic() + _LEFT_DEADLINE
    while (left := _left(names, mark)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    assert not list(tmp_path.iterdir()), "files in $TMPDIR"

    if DATAPLANE != "native":
        return
    page = PAGES / f"{script.stem}.txt"
    shown = page.read_text(encoding="utf-8") if page.exists() else ""
    if normalised(shown) == normalised(out):
        return
    if os.environ.get("PYLB_WRITE_DOCS"):
        page.write_text(out, encoding="utf-8")
    else:
        assert normalised(out) == normalised(shown)


def test_every_page_is_a_walkthroughs() -> None:
    assert {page.stem for page in PAGES.glob("*.txt")} == {script.stem for script in SCRIPTS}


@pytest.mark.parametrize("index", INDICES, ids=lambda p: p.parent.name)
def test_the_indices_name_every_walkthrough(index: Path) -> None:
    text = index.read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert script.stem in text, script.stem
