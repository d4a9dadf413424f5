"""Builds `pylb._core`, the C core, with cffi in API mode.

The declarations come from csrc/pylb.h itself, from between its two markers.
setup.py names `builder` to setuptools; it needs a source tree and is of no use
in an installed package.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

_BEGIN, _END = "/* cffi: begin */", "/* cffi: end */"


def declarations(header: str) -> str:
    """What stands between the header's cffi markers; raises ValueError without them."""
    _, begin, rest = header.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"csrc/pylb.h: expected the markers {_BEGIN} and {_END}")
    return body


def builder() -> FFI:
    """The extension module, ready to compile from the root of the source tree.

    Warnings are errors in the tests only: what a user's compiler warns of must
    not keep pylb from being installed.
    """
    root = Path(__file__).resolve().parents[2]
    sources = sorted((root / "csrc").glob("*.c"))
    headers = sorted((root / "csrc").glob("*.h"))
    ffi = FFI()
    ffi.cdef(declarations((root / "csrc" / "pylb.h").read_text(encoding="utf-8")))
    ffi.set_source(
        "pylb._core",
        '#include "pylb.h"',
        sources=[str(path.relative_to(root)) for path in sources],
        include_dirs=["csrc"],
        depends=[str(path.relative_to(root)) for path in headers],
        extra_compile_args=["-std=c11", "-O2", "-Wall"],
    )
    return ffi
