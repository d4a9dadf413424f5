"""The differential suite and the malformed packets once more, under the sanitizers.

The core is built with AddressSanitizer and UndefinedBehaviorSanitizer into a folder of its
own.  Python takes its memory from malloc meanwhile, so that a byte read behind the end of a
packet is seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import core

FLAGS = ("-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined")
STRICT = ("-fno-sanitize-recover=all",)
SUITES = ("tests/differential", "tests/unit/dataplane", "tests/unit/wire")
EXAMPLES = "60"
OWN = Path(__file__).name


def runtime(compiler: str) -> str:
    """The sanitizer's library, which must come before all others in the process."""
    done = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    return str(Path(done.stdout.strip()).resolve(strict=True))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which `pylb._core` is the sanitized one."""
    return {
        **os.environ,
        core.VARIABLE: str(
            core.build("gcc", (*FLAGS, *STRICT), tmp_path_factory.mktemp("sanitized"))
        ),
        "LD_PRELOAD": runtime("gcc"),
        # CPython leaves at its end what it took at its beginning; leaks are the fuzzers' affair.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "PYLB_DATAPLANES": "native",
        "PYLB_EXAMPLES": os.environ.get("PYLB_EXAMPLES", EXAMPLES),
    }


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=core.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


pytestmark = [
    pytest.mark.tools("gcc"),
    pytest.mark.skipif(core.VARIABLE in os.environ, reason="the suite runs inside itself"),
]


def test_the_suites_are_clean(sanitized: dict[str, str]) -> None:
    # The simulation spends its time in hosts and links, which are the same.
    ignored = [f"--ignore=tests/differential/{name}" for name in (OWN, "test_simulation.py")]
    options = ("-q", "-x", "-p", "no:cacheprovider", *ignored)
    done = run(sanitized, "-m", "pytest", *options, *SUITES)
    if done.returncode:
        pytest.fail(done.stdout[-20_000:], pytrace=False)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("lib.pylb_ones_sum(ffi.from_buffer(b'x' * 100), 200, 0)", "heap-buffer-overflow"),
        ("lib.pylb_pseudo_sum(1, 2, 3, 4); print('fine')", "fine"),
    ],
    ids=["a packet too short", "nothing wrong"],
)
def test_the_sanitizers_see(sanitized: dict[str, str], code: str, says: str) -> None:
    """It is that build, and it would say so."""
    program = f"from tests import core; core.replace(); from pylb._core import ffi, lib; {code}"
    assert says in run(sanitized, "-c", program).stdout


def test_gcc_is_what_the_runtime_is_of() -> None:
    assert shutil.which("gcc")
    assert Path(runtime("gcc")).exists()
