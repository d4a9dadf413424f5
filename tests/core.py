"""The C core built otherwise than `pip install` builds it, and put in its place.

``PYLB_TEST_CORE=/path/to/_core.so`` makes `pylb._core` come from there in a test run;
tests/conftest.py sees to it before anything imports pylb.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VARIABLE = "PYLB_TEST_CORE"


def build(compiler: str, flags: Iterable[str], folder: Path) -> Path:
    """Compile the core and cffi's wrapper with ``flags``; gives the extension module."""
    from pylb import _build

    wrapper, module = folder / "_core.c", folder / "_core.so"
    _build.builder().emit_c_code(str(wrapper))
    sources = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
    include = ["-I", str(ROOT / "csrc"), "-I", sysconfig.get_path("include")]
    command = [compiler, "-std=c11", "-g", "-fPIC", "-shared", "-pthread", *flags, *include]
    subprocess.run([*command, str(wrapper), *sources, "-o", str(module)], check=True)
    return module


def replace() -> None:
    """Obey `VARIABLE`, if it is set."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    spec = importlib.util.spec_from_file_location("pylb._core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import pylb

    sys.modules["pylb._core"] = module
    pylb._core = module  # type: ignore[attr-defined]
