"""Choosing a backend for a new flow.

A scheduler gives the position, among the backends that the flow may have, that it
goes to.  It sees the frontend, those backends, the original tuple and its own
small state, nothing else, so that two implementations agree to the bit:

- ``random``: SipHash-2-4(secret, original tuple) mod n.  The same flow gets the
  same backend as long as the active backends are the same, also after a restart
  with the same secret.
- ``rr``: backend k mod n for the k-th new flow of the frontend since it was
  loaded, k from 0.  A change of the frontend's backends does not restart k.
- ``wrr``: IPVS's.  A pointer goes round the backends while a threshold falls from
  the largest weight by the weights' greatest common divisor each round, and at 0
  is the largest again; the next backend whose weight reaches the threshold is
  chosen.  Pointer and threshold outlive a change of the backends; the threshold is
  cut down to the largest weight.
- ``lc``: the backend with the least load, the first of equals (`Loads`).
- ``wlc``: the same with load / weight; a / w < b / v is a * v < b * w.
- ``sh``: SipHash-2-4(PUBLIC_KEY, source address) mod the sum of the weights falls
  into the share of one backend; shares follow each other in order.
- ``mh``: slot SipHash-2-4(PUBLIC_KEY, original tuple) mod size of a Maglev table
  (`pylb.dataplane.python.maglev`).

n is the number of backends that may be chosen, which are ordered by (address, port).
The names are IPVS's, but for ``random``, which is kube-proxy's own.

Affinity comes before the scheduler: what a client (its address) was last given by
a Service port is its backend again, while it may be chosen and less than
``frontend.affinity`` seconds have passed since.  `MOST_AFFINE` clients are
remembered, of all Services together; the one that asked longest ago is forgotten.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import gcd
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from pylb.dataplane.base import FlowTuple
from pylb.dataplane.python import maglev
from pylb.plan.tables import MAGLEV_SIZE, Backend, Frontend, FrontendKey
from pylb.wire.hash import siphash

COUNTS_LOAD = frozenset(("lc", "wlc"))
"""The schedulers that look at loads: only their flows count for any."""
MOST_AFFINE = 65536
_SECOND = 1_000_000_000
_TUPLE = struct.Struct(">IIHHB")


class Loads(Protocol):
    """How loaded backends are, by the live flows that `COUNTS_LOAD` gave them."""

    def settle(self, now: int) -> None:
        """Stop counting what is dead at ``now``."""
        ...

    def load(self, backend: tuple[int, int], protocol: int) -> int:
        """256 for each open flow, 1 for each that is not: see `Flow.closing`."""
        ...


class _Given(NamedTuple):
    """The backend that a client has, by address and port, and when it last asked."""

    address: int
    port: int
    at: int


def tuple_bytes(t: FlowTuple) -> bytes:
    """The 13 bytes that keyed choices hash: src, dst, sport, dport, protocol, big-endian."""
    return _TUPLE.pack(t.src, t.dst, t.sport, t.dport, t.protocol)


class _Table(NamedTuple):
    """A Maglev table and what it was made of."""

    frontend: Frontend
    choices: Sequence[int]
    slots: array[int]


class _New(NamedTuple):
    """A new flow and who may have it: what a scheduler sees."""

    frontend: Frontend
    choices: Sequence[int]
    original: FlowTuple

    def backends(self) -> list[Backend]:
        return [self.frontend.backends[index] for index in self.choices]


class Balancer:
    """The schedulers and what they remember between flows.

    ``maglev_size`` is the number of a Maglev table's slots.
    """

    def __init__(self, secret: bytes, loads: Loads) -> None:
        self.maglev_size = MAGLEV_SIZE
        self._secret = secret
        self._loads = loads
        self._turns: dict[FrontendKey, int] = {}
        self._rounds: dict[FrontendKey, tuple[int, int]] = {}
        self._tables: dict[tuple[FrontendKey, bool], _Table] = {}
        self._shared: WeakValueDictionary[tuple[object, ...], array[int]] = WeakValueDictionary()
        self._affine: OrderedDict[tuple[str, int], _Given] = OrderedDict()
        self._schedulers: dict[str, Callable[[_New], int]] = {
            "random": self._random,
            "rr": self._round_robin,
            "wrr": self._weighted_round_robin,
            "lc": lambda new: self._least(new, weighted=False),
            "wlc": lambda new: self._least(new, weighted=True),
            "sh": self._source_hash,
            "mh": self._maglev,
        }

    def choose(
        self, frontend: Frontend, choices: Sequence[int], original: FlowTuple, now: int
    ) -> Backend | None:
        """The backend for a new flow, one of ``choices`` (indices); None when there are none."""
        if not choices:
            return None
        index = self._given(frontend, choices, original.src, now) if frontend.affinity else None
        if index is None:
            if frontend.scheduler in COUNTS_LOAD:
                self._loads.settle(now)
            new = _New(frontend, choices, original)
            index = choices[self._schedulers[frontend.scheduler](new)]
        backend = frontend.backends[index]
        if frontend.affinity:
            self._give(frontend, original.src, backend, now)
        return backend

    def forget(self, key: FrontendKey) -> None:
        """The frontend is no more; one that takes its place starts afresh."""
        self._turns.pop(key, None)
        self._rounds.pop(key, None)
        for other in (False, True):
            self._tables.pop((key, other), None)

    def keep_only(self, keys: object) -> None:
        """Forget every frontend that is not among ``keys`` (a mapping's or set's)."""
        known = {*self._turns, *self._rounds, *(key for key, _ in self._tables)}
        for key in [k for k in known if k not in keys]:  # type: ignore[operator]
            self.forget(key)

    def _given(
        self, frontend: Frontend, choices: Sequence[int], client: int, now: int
    ) -> int | None:
        given = self._affine.get((frontend.service, client))
        if given is None or now - given.at >= frontend.affinity * _SECOND:
            return None
        for index in choices:
            backend = frontend.backends[index]
            if (backend.address, backend.port) == (given.address, given.port):
                return index
        return None

    def _give(self, frontend: Frontend, client: int, backend: Backend, now: int) -> None:
        key = (frontend.service, client)
        self._affine[key] = _Given(backend.address, backend.port, now)
        self._affine.move_to_end(key)
        if len(self._affine) > MOST_AFFINE:
            self._affine.popitem(last=False)

    def _random(self, new: _New) -> int:
        return siphash(self._secret, tuple_bytes(new.original)) % len(new.choices)

    def _round_robin(self, new: _New) -> int:
        turn = self._turns.get(new.frontend.key, 0)
        self._turns[new.frontend.key] = turn + 1
        return turn % len(new.choices)

    def _weighted_round_robin(self, new: _New) -> int:
        weights = [backend.weight for backend in new.backends()]
        largest, step = max(weights), gcd(*weights)
        at, threshold = self._rounds.get(new.frontend.key, (-1, 0))
        threshold = min(threshold, largest)
        while True:
            at += 1
            if at >= len(weights):
                at = 0
            if at == 0:
                threshold = threshold - step if threshold > step else largest
            if weights[at] >= threshold:
                self._rounds[new.frontend.key] = at, threshold
                return at

    def _least(self, new: _New, *, weighted: bool) -> int:
        best, least, weight = 0, -1, 1
        for position, backend in enumerate(new.backends()):
            own = backend.weight if weighted else 1
            load = self._loads.load((backend.address, backend.port), new.original.protocol)
            if least < 0 or load * weight < least * own:
                best, least, weight = position, load, own
        return best

    def _source_hash(self, new: _New) -> int:
        ends = list(accumulate(backend.weight for backend in new.backends()))
        source = new.original.src.to_bytes(4, "big")
        return bisect_right(ends, siphash(maglev.PUBLIC_KEY, source) % ends[-1])

    def _maglev(self, new: _New) -> int:
        slots = self._slots(new)
        return slots[siphash(maglev.PUBLIC_KEY, tuple_bytes(new.original)) % len(slots)]

    def _slots(self, new: _New) -> array[int]:
        """The flow's Maglev table, made when it is first needed."""
        frontend, choices, size = new.frontend, new.choices, self.maglev_size
        key = (frontend.key, choices is not frontend.active)
        held = self._tables.get(key)
        if (
            held is not None
            and held.frontend is frontend
            and held.choices is choices
            and len(held.slots) == size
        ):
            return held.slots
        places = (size, *((b.address, b.port, b.weight) for b in new.backends()))
        slots = self._shared.get(places)
        if slots is None:
            slots = self._shared[places] = maglev.build(new.backends(), size)
        self._tables[key] = _Table(frontend, choices, slots)
        return slots
