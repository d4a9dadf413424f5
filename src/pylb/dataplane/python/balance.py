"""Choosing a backend for a new flow.

A scheduler gives the position, among the backends that the flow may have, that it
goes to.  It sees the frontend, those backends, the original tuple and its own
small state, nothing else, so that two implementations agree to the bit:

- ``random``: SipHash-2-4(secret, original tuple) mod n.  The same flow gets the
  same backend as long as the active backends are the same, also after a restart
  with the same secret.
- ``rr``: backend k mod n for the k-th new flow of the frontend since it was
  loaded, k from 0.  A change of the frontend's backends does not restart k.

n is the number of backends that may be chosen, which are ordered by (address, port).

Affinity comes before the scheduler: what a client (its address) was last given by
a Service port is its backend again, while it may be chosen and less than
``frontend.affinity`` seconds have passed since.  `MOST_AFFINE` clients are
remembered, of all Services together; the one that asked longest ago is forgotten.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pylb.dataplane.base import FlowTuple
from pylb.plan.tables import Backend, Frontend, FrontendKey
from pylb.wire.hash import siphash

MOST_AFFINE = 65536
_SECOND = 1_000_000_000
_TUPLE = struct.Struct(">IIHHB")


class _Given(NamedTuple):
    """The backend that a client has, by address and port, and when it last asked."""

    address: int
    port: int
    at: int


def tuple_bytes(t: FlowTuple) -> bytes:
    """The 13 bytes that keyed choices hash: src, dst, sport, dport, protocol, big-endian."""
    return _TUPLE.pack(t.src, t.dst, t.sport, t.dport, t.protocol)


class Balancer:
    """The schedulers and what they remember between flows."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._turns: dict[FrontendKey, int] = {}
        self._affine: OrderedDict[tuple[str, int], _Given] = OrderedDict()
        self._schedulers: dict[str, Callable[[Frontend, Sequence[int], FlowTuple], int]] = {
            "random": self._random,
            "rr": self._round_robin,
        }

    def choose(
        self, frontend: Frontend, choices: Sequence[int], original: FlowTuple, now: int
    ) -> Backend | None:
        """The backend for a new flow, one of ``choices`` (indices); None when there are none."""
        if not choices:
            return None
        index = self._given(frontend, choices, original.src, now) if frontend.affinity else None
        if index is None:
            index = choices[self._schedulers[frontend.scheduler](frontend, choices, original)]
        backend = frontend.backends[index]
        if frontend.affinity:
            self._give(frontend, original.src, backend, now)
        return backend

    def forget(self, key: FrontendKey) -> None:
        """The frontend is no more; one that takes its place starts afresh."""
        self._turns.pop(key, None)

    def keep_only(self, keys: object) -> None:
        """Forget every frontend that is not among ``keys`` (a mapping's or set's)."""
        for key in [k for k in self._turns if k not in keys]:  # type: ignore[operator]
            del self._turns[key]

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

    def _random(self, frontend: Frontend, choices: Sequence[int], original: FlowTuple) -> int:
        return siphash(self._secret, tuple_bytes(original)) % len(choices)

    def _round_robin(self, frontend: Frontend, choices: Sequence[int], original: FlowTuple) -> int:
        turn = self._turns.get(frontend.key, 0)
        self._turns[frontend.key] = turn + 1
        return turn % len(choices)
