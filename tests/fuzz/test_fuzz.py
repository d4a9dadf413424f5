"""libFuzzer over everything that reads what others sent; `make fuzz` runs it for long.

Each target runs ``FUZZ_SECONDS`` (default 15) from the corpus that tests/fuzz/corpus.py
makes.  With ``FUZZ_CORPUS=folder`` what was found interesting is kept there.  An input that
breaks a promise is printed in base64 and kept in build/fuzz.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.core import ROOT
from tests.fuzz.corpus import TARGETS, write

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
FOUND = ROOT / "build" / "fuzz"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")
SANITIZERS = ("-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module", autouse=True)
def libfuzzer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A clang whose runtime is there; under CI its absence is a fault of the set-up."""
    folder = tmp_path_factory.mktemp("libfuzzer")
    (folder / "none.c").write_text("int LLVMFuzzerTestOneInput(void) { return 0; }")
    lacking = "needs clang with libFuzzer"
    if shutil.which("clang"):
        command = ("clang", *SANITIZERS, "none.c", "-o", "none")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        lacking = f"{lacking}: {done.stderr}"
    if os.environ.get("CI"):
        pytest.fail(lacking, pytrace=False)
    pytest.skip(lacking)


def build(target: str, folder: Path) -> Path:
    program = folder / f"fuzz_{target}"
    sources = [HERE / f"fuzz_{target}.c", *sorted((ROOT / "csrc").glob("*.c"))]
    include = ("-I", str(ROOT / "csrc"), "-I", str(HERE))
    command = ("clang", *WARNINGS, "-g", "-O1", *SANITIZERS, *include, "-pthread")
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("target", TARGETS)
def test_promises_are_kept(target: str, tmp_path: Path) -> None:
    program = build(target, tmp_path)
    seeds = tmp_path / "seeds"
    write(target, seeds)
    kept = Path(os.environ.get("FUZZ_CORPUS", tmp_path)).resolve() / target
    kept.mkdir(parents=True, exist_ok=True)
    FOUND.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={SECONDS}",
        f"-artifact_prefix={FOUND}/{target}-",
        "-max_len=8192",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    if os.environ.get("CI"):
        # The same inputs every time, as far as the machine's speed lets them come.
        options.append("-seed=1")
    done = subprocess.run(
        [str(program), *options, str(kept), str(seeds)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    print("\n".join(line for line in said.splitlines() if line.startswith("stat::")))
    if done.returncode:
        pytest.fail(said[-8000:], pytrace=False)


def test_every_target_has_its_corpus() -> None:
    assert {path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.c")} == set(TARGETS)
