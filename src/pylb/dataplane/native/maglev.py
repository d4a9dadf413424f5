"""The native dataplane's Maglev tables, for whoever wants to look at one without a plan.

A plan's tables are made where the plan is, in csrc/plan.c; `build` is the same
function.  What a table is stands in `pylb.dataplane.python.maglev`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from pylb import _core
from pylb.dataplane.native.loading import pack_backends
from pylb.plan.tables import Backend
from pylb.plan.validate import LARGEST_MAGLEV, MOST_BACKENDS, is_prime

_ffi, _lib = _core.ffi, _core.lib


def build(backends: Sequence[Backend], size: int) -> array[int]:
    """The table of ``size`` slots: each is a position among ``backends``.

    Raises ValueError for what C would not end or go wrong with: no backend or more
    than 65535, a weight of 0, or a size that is not a prime of at most 2^24.
    """
    if not 1 <= len(backends) <= MOST_BACKENDS:
        raise ValueError(f"Maglev: expected 1 to {MOST_BACKENDS} backends, got {len(backends)}")
    if min(backend.weight for backend in backends) < 1:
        raise ValueError("Maglev: expected weights of 1 or more")
    if not (2 <= size <= LARGEST_MAGLEV and is_prime(size)):
        raise ValueError(f"Maglev: expected a prime of at most {LARGEST_MAGLEV}, got {size}")
    packed = _ffi.from_buffer("struct pylb_backend[]", pack_backends(backends))
    slots = array("H", bytes(2 * size))
    if _lib.pylb_maglev(packed, len(backends), size, _ffi.from_buffer("uint16_t[]", slots)):
        raise MemoryError
    return slots
