"""The files themselves: their size, and nothing in them of one machine or one mirror."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_LINES = 600

# Put together from parts, for this file is one of those that are read.
HOSTS = [
    r"pypi\." "org",
    r"pythonhosted\." "org",
    r"npmjs\." "(?:org|com)",
    r"crates\." "io",
    r"rubygems\." "org",
    r"proxy\.golang\." "org",
    r"deb\.debian\." "org",
    r"archive\.ubuntu\." "com",
]
# A folder's name alone, not the end of a longer path or of another word.
BEFORE = r"(?<![\w.)}\]-])"
PLACES = [BEFORE + "/(?:work|root|home)" + r"/\w", BEFORE + "/tmp" + "/vt"]


def files() -> list[Path]:
    """Tracked files and those that could be added, as git sees them."""
    # The clone may belong to another user than the one who runs the tests.
    safe = ["-c", f"safe.directory={ROOT}"]
    listed = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    command = ["git", *safe, *listed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"expected a git checkout: {done.stderr}"
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def occurrences(patterns: list[str]) -> list[str]:
    wanted = re.compile("|".join(patterns))
    found = []
    for path in files():
        text = path.read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.splitlines(), 1):
            if match := wanted.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    return found


pytestmark = pytest.mark.tools("git")


def test_files_of_src_stay_short() -> None:
    sources = [path for path in files() if path.is_relative_to(ROOT / "src")]
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in sources}
    long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MOST_LINES}
    assert not long, f"expected at most {MOST_LINES} lines: {long}"


def test_no_paths_of_one_machine() -> None:
    assert occurrences(PLACES) == []


def test_no_names_of_package_registries() -> None:
    assert occurrences(HOSTS) == []


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("cd " + "/work" + "/main", True),
        ("'" + "/root" + "/x'", True),
        ("GET /workloads/x", False),
        ("tests/work/x", False),
        ("$(TMP)" + "/work" + "/x", False),
    ],
)
def test_what_counts_as_a_path(line: str, seen: bool) -> None:
    assert bool(re.search("|".join(PLACES), line)) is seen
