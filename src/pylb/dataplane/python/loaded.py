"""A plan as the packet path asks of it: look-ups that the plan itself does not hold."""

from __future__ import annotations

from collections.abc import Mapping

from pylb.dataplane.python.overlay import Peers
from pylb.plan.apply import apply
from pylb.plan.tables import Delta, Plan
from pylb.plan.virtual import is_virtual, machines


class Loaded:
    """A plan with its generation; replaced whole by the next, never altered.

    ``vips`` counts the frontends of each virtual address: a packet to one of them
    is answered or dropped here, never written back.
    """

    __slots__ = ("generation", "peers", "plan", "vips")

    def __init__(self, plan: Plan, generation: int, peers: Peers, vips: Mapping[int, int]) -> None:
        self.plan = plan
        self.generation = generation
        self.peers = peers
        self.vips = vips

    @classmethod
    def whole(cls, plan: Plan, generation: int) -> Loaded:
        """Load a plan from nothing."""
        return cls(plan, generation, Peers(plan.peers.values()), _vips(plan))

    def changed(self, delta: Delta) -> Loaded:
        """The next plan, one generation on."""
        plan = apply(self.plan, delta)
        if delta.replace is not None or delta.peers:
            # Which addresses are virtual depends on the peers' own.
            return Loaded.whole(plan, self.generation + 1)
        vips, real = dict(self.vips), machines(plan)
        for key, frontend in delta.frontends.items():
            old = self.plan.frontends.get(key)
            if old is not None and is_virtual(plan, old, real):
                _count(vips, key.address, -1)
            if frontend is not None and is_virtual(plan, frontend, real):
                _count(vips, key.address, 1)
        return Loaded(plan, self.generation + 1, self.peers, vips)


def _vips(plan: Plan) -> dict[int, int]:
    vips: dict[int, int] = {}
    real = machines(plan)
    for frontend in plan.frontends.values():
        if is_virtual(plan, frontend, real):
            _count(vips, frontend.key.address, 1)
    return vips


def _count(vips: dict[int, int], address: int, by: int) -> None:
    count = vips.get(address, 0) + by
    if count:
        vips[address] = count
    else:
        del vips[address]
