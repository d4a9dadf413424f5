"""Choosing a backend for a new flow.

A scheduler gives the position in ``frontend.active`` that a new flow goes to.  It
sees the frontend, the original tuple and its own small state, nothing else, so
that two implementations agree to the bit:

- ``random``: SipHash-2-4(secret, original tuple) mod n.  The same flow gets the
  same backend as long as the active backends are the same, also after a restart
  with the same secret.
- ``rr``: backend k mod n for the k-th new flow of the frontend since it was
  loaded, k from 0.  A change of the frontend's backends does not restart k.

n is the number of active backends, which are ordered by (address, port).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from pylb.dataplane.base import FlowTuple
from pylb.plan.tables import Backend, Frontend, FrontendKey
from pylb.wire.hash import siphash

_TUPLE = struct.Struct(">IIHHB")


def tuple_bytes(t: FlowTuple) -> bytes:
    """The 13 bytes that keyed choices hash: src, dst, sport, dport, protocol, big-endian."""
    return _TUPLE.pack(t.src, t.dst, t.sport, t.dport, t.protocol)


class Balancer:
    """The schedulers and what they remember between flows."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._turns: dict[FrontendKey, int] = {}
        self._schedulers: dict[str, Callable[[Frontend, FlowTuple], int]] = {
            "random": self._random,
            "rr": self._round_robin,
        }

    def choose(self, frontend: Frontend, original: FlowTuple) -> Backend | None:
        """The backend for a new flow, None when no backend is active."""
        if not frontend.active:
            return None
        position = self._schedulers[frontend.scheduler](frontend, original)
        return frontend.backends[frontend.active[position]]

    def forget(self, key: FrontendKey) -> None:
        """The frontend is no more; one that takes its place starts afresh."""
        self._turns.pop(key, None)

    def keep_only(self, keys: object) -> None:
        """Forget every frontend that is not among ``keys`` (a mapping's or set's)."""
        for key in [k for k in self._turns if k not in keys]:  # type: ignore[operator]
            del self._turns[key]

    def _random(self, frontend: Frontend, original: FlowTuple) -> int:
        return siphash(self._secret, tuple_bytes(original)) % len(frontend.active)

    def _round_robin(self, frontend: Frontend, original: FlowTuple) -> int:
        turn = self._turns.get(frontend.key, 0)
        self._turns[frontend.key] = turn + 1
        return turn % len(frontend.active)
