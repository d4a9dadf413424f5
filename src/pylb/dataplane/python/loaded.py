"""A plan as the packet path asks of it: look-ups that the plan itself does not hold."""

from __future__ import annotations

from collections.abc import Mapping

from pylb.dataplane.python.nat import is_own
from pylb.dataplane.python.overlay import Peers
from pylb.plan.apply import apply
from pylb.plan.tables import Delta, Frontend, Plan


class Loaded:
    """A plan with its generation; replaced whole by the next, never altered.

    ``vips`` counts the frontends of each address that is not the node's own: a
    packet to one of them is answered or dropped here, never written back.
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
        vips: dict[int, int] = {}
        for frontend in plan.frontends.values():
            _count(plan, vips, frontend, 1)
        return cls(plan, generation, Peers(plan.peers.values()), vips)

    def changed(self, delta: Delta) -> Loaded:
        """The next plan, one generation on."""
        plan = apply(self.plan, delta)
        if delta.replace is not None:
            return Loaded.whole(plan, self.generation + 1)
        vips = dict(self.vips)
        for key, frontend in delta.frontends.items():
            old = self.plan.frontends.get(key)
            if old is not None:
                _count(plan, vips, old, -1)
            if frontend is not None:
                _count(plan, vips, frontend, 1)
        peers = Peers(plan.peers.values()) if delta.peers else self.peers
        return Loaded(plan, self.generation + 1, peers, vips)


def _count(plan: Plan, vips: dict[int, int], frontend: Frontend, by: int) -> None:
    address = frontend.key.address
    if is_own(plan, address):
        return
    count = vips.get(address, 0) + by
    if count:
        vips[address] = count
    else:
        del vips[address]
