"""DESIGN's arrows: which part of pylb may know of which.

Every import counts, also one inside a function or under TYPE_CHECKING: the arrows
are about what a reader must know, not about what runs first.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "pylb"
CSRC = ROOT / "csrc"

# A part may import itself, `pylb` (the version) and what stands here.
MAY_IMPORT: dict[str, set[str]] = {
    "wire": {"_core"},
    "policy": set(),
    "plan": {"policy"},
    "dataplane": {"_core", "plan", "wire"},
    "control": set(),
    "observe": {"dataplane", "plan", "wire"},
    "node": {"_core", "control", "dataplane", "observe", "plan", "policy", "wire"},
    "lab": {"control", "dataplane", "observe", "plan", "policy", "wire"},
    "bench": {"control", "lab"},
    "cli": {"bench", "control", "dataplane", "lab", "node", "observe", "plan", "policy", "wire"},
}

# Modules of whose import a narrower rule speaks: importer prefix, imported prefix, why not.
NEVER = [
    (
        "pylb.plan.tables",
        "pylb.policy",
        "tables are a dataplane's, policy is compile's",
    ),
    ("pylb.dataplane", "pylb.plan.compile", "a dataplane loads plans and makes none"),
    ("pylb.dataplane.python", "pylb._core", "the Python dataplane is there to be read"),
    ("pylb.policy.model", "pylb.policy.", "the model is at the bottom"),
]

# What a sans-IO dataplane cannot need: descriptors, clocks, threads, randomness.
WORLD = {
    *("asyncio", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "selectors"),
    *("socket", "subprocess", "tempfile", "threading", "time", "datetime", "uvloop", "pyroute2"),
}

# From the top down; a file may include what stands on a lower line, and its own header.
C_LAYERS = [
    ["transmit"],
    ["pump"],
    ["batch", "dataplane"],
    ["datapath"],
    ["route"],
    ["gro", "icmp", "nat", "served"],
    ["balance"],
    ["conntrack"],
    ["table"],
    ["timers"],
    ["wheel"],
    ["index", "list", "wide"],
    ["flow", "offload"],
    ["sctp"],
    ["overlay", "tcp"],
    ["plan", "window"],
    ["addresses", "affinity", "fragments", "loads", "maglev", "peers", "segment", "sends"],
    ["packet"],
    ["checksum", "crc32c", "events", "hash"],
    ["pages", "placement", "pylb"],
]

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module's source imports."""
    for found in ast.walk(ast.parse(source)):
        if isinstance(found, ast.Import):
            yield from ((found.lineno, alias.name) for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            base = found.module or ""
            if found.level:
                up = found.level - is_package
                parents = module.split(".")[: len(module.split(".")) - up]
                base = ".".join([*parents, *([base] if base else [])])
            yield from ((found.lineno, f"{base}.{alias.name}") for alias in found.names)


def imports_of(path: Path) -> list[tuple[int, str]]:
    source = path.read_text(encoding="utf-8")
    return list(imports(source, module_of(path), path.name == "__init__.py"))


def part_of(module: str) -> str:
    """``pylb.plan.tables`` is of the part ``plan``; ``pylb.__version__`` of none."""
    first = module.split(".")[1] if "." in module else ""
    known = first in MAY_IMPORT or (PACKAGE / first).is_dir() or first == "_core"
    return first if known else ""


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix.rstrip('.')}.")


def broken(rule: str, path: Path, lines: list[tuple[int, str]]) -> str:
    listed = "".join(f"\n  {path.relative_to(ROOT)}:{n}: imports {name}" for n, name in lines)
    return f"{rule}:{listed}" if lines else ""


def test_every_part_has_its_arrows() -> None:
    parts = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*/*.py")}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_follow_the_arrows(path: Path) -> None:
    part = part_of(module_of(path))
    allowed = MAY_IMPORT.get(part, set()) | {part, ""}
    wrong = [
        (line, name)
        for line, name in imports_of(path)
        if within(name, "pylb") and part_of(name) not in allowed
    ]
    assert not wrong, broken(f"{part or 'pylb'} may import {sorted(allowed - {''})}", path, wrong)


@pytest.mark.parametrize(("importer", "imported", "why"), NEVER)
def test_narrower_arrows(importer: str, imported: str, why: str) -> None:
    reports = []
    for path in FILES:
        if within(module_of(path), importer):
            wrong = [(line, name) for line, name in imports_of(path) if within(name, imported)]
            reports.append(broken(why, path, wrong))
    assert not any(reports), "\n".join(filter(None, reports))


def sans_io(path: Path) -> bool:
    module = module_of(path)
    parts = (
        *("pylb.wire", "pylb.plan", "pylb.dataplane.base"),
        *("pylb.dataplane.python", "pylb.dataplane.native"),
    )
    return any(within(module, part) for part in parts)


@pytest.mark.parametrize("path", list(filter(sans_io, FILES)), ids=module_of)
def test_sans_io_imports_nothing_of_the_world(path: Path) -> None:
    wrong = [(line, name) for line, name in imports_of(path) if name.split(".")[0] in WORLD]
    assert not wrong, broken("sans-IO code has no descriptor, clock, thread or chance", path, wrong)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import pylb.cli.main", "pylb.cli.main"),
        ("from pylb import cli", "pylb.cli"),
        ("from pylb.cli import main", "pylb.cli.main"),
        ("from . import tables", "pylb.plan.tables"),
        ("from .tables import Plan", "pylb.plan.tables.Plan"),
        ("from ..cli import main", "pylb.cli.main"),
        ("def f():\n    from pylb.cli import main", "pylb.cli.main"),
    ],
)
def test_no_spelling_of_an_import_goes_unseen(line: str, expected: str) -> None:
    assert [name for _, name in imports(line, "pylb.plan.compile", False)] == [expected]


def test_relative_imports_of_a_package_begin_at_itself() -> None:
    assert [n for _, n in imports("from . import a\nfrom .. import b", "pylb.plan", True)] == [
        "pylb.plan.a",
        "pylb.b",
    ]


C_FILES = sorted([*CSRC.glob("*.c"), *CSRC.glob("*.h")])
C_LEVEL = {name: level for level, names in enumerate(C_LAYERS) for name in names}


def test_every_c_file_has_its_layer() -> None:
    assert {path.stem for path in C_FILES} == set(C_LEVEL)


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_c_includes_run_downward(path: Path) -> None:
    included = re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.M)
    own = [f"{path.stem}.h"] if path.suffix == ".c" else []
    upward = [
        header
        for header in included
        if header not in own and C_LEVEL[Path(header).stem] <= C_LEVEL[path.stem]
    ]
    assert not upward, f"csrc/{path.name} includes {upward}, which is not below it"
