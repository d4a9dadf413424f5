"""Maglev's look-up tables: a hash that a node shares with every other (Eisenbud et al., 2016).

Each backend has its own order of the table's slots: from ``offset`` on, ``skip``
apart, both from its address and port alone.  Backends take turns, each its next
free slot, until none is free.  Nodes that have the same backends have the same
table, and one that goes takes few slots of the others with it.

Specified exactly, with P = the 6 bytes of address and port, big-endian::

    offset = SipHash(PUBLIC_KEY, "o" + P) mod size
    skip   = SipHash(PUBLIC_KEY, "s" + P) mod (size - 1) + 1
    in round r = 1, 2, ... backend i, in order, takes a slot
        if r * weight[i] >= due[i], and then due[i] += the largest weight

``due`` begins at 0.  With equal weights that is the paper's algorithm.  ``size``
is prime, so that ``skip`` comes by every slot.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from heapq import heapreplace

from pylb.plan.tables import Backend
from pylb.wire.hash import siphash

PUBLIC_KEY = b"pylb.io/balancer"
"""16 bytes.  All nodes must choose alike, so this key is no secret."""

_FREE = 0xFFFF
_PLACE = struct.Struct(">IH")
assert len(PUBLIC_KEY) == 16


def build(backends: Sequence[Backend], size: int) -> array[int]:
    """The table of ``size`` slots: each is a position among ``backends``.

    There is at least one backend, and each has a weight of 1 or more.
    """
    nexts, skips = [], []
    for backend in backends:
        place = _PLACE.pack(backend.address, backend.port)
        nexts.append(siphash(PUBLIC_KEY, b"o" + place) % size)
        skips.append(siphash(PUBLIC_KEY, b"s" + place) % (size - 1) + 1)
    weights = [backend.weight for backend in backends]
    largest = max(weights)
    due = [0] * len(weights)
    table = array("H", [_FREE]) * size
    # Whose turn is next: (round, backend).
    turns = [(1, i) for i in range(len(weights))]
    for _ in range(size):
        turn, i = turns[0]
        slot, skip = nexts[i], skips[i]
        while table[slot] != _FREE:
            slot += skip
            if slot >= size:
                slot -= size
        table[slot] = i
        nexts[i] = slot
        due[i] += largest
        heapreplace(turns, (max(turn + 1, -(-due[i] // weights[i])), i))
    return table
