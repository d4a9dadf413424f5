"""A node at work whose packets the kernel moves: no TUN, no pump, the same API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from pylb.dataplane.base import FlowFilter, FlowView
from pylb.node import plumbing
from pylb.node.desired import Desired
from pylb.node.errors import NodeError
from pylb.node.kernel.dataplane import KernelDataplane
from pylb.node.kernel.events import KernelEvents
from pylb.node.kernel.plumbing import KernelPlumbing
from pylb.node.logs import Log
from pylb.node.served import ServedNode
from pylb.plan.tables import Delta, Plan

log = Log(__name__)


class KernelNode(ServedNode):
    """See `ServedNode`.  Rules and plumbing, which take long, are made in another thread."""

    def __init__(
        self, desired: Desired, name: str, dataplane: KernelDataplane, plumbs: KernelPlumbing
    ) -> None:
        self._kernel_events = KernelEvents(dataplane.explained)
        super().__init__(desired, name, self._kernel_events)
        self._dataplane = dataplane
        self._plumbing = plumbs

    async def _take(self, before: Plan | None, plan: Plan, delta: Delta | None) -> None:
        """Rules first, then the ways: a packet never has a way without its rules."""
        if before is None:
            await asyncio.to_thread(self._plumbing.check, plan)
        try:
            await asyncio.to_thread(self._load, plan, delta)
            self.generation += 1
            if before is None or delta is None or plumbing.affects(before, delta):
                await self._plumb(plan)
        except NodeError:
            await self._undo(before)
            raise

    def _load(self, plan: Plan, delta: Delta | None) -> None:
        now = time.monotonic_ns()
        if delta is None:
            self._dataplane.load(plan, now)
        else:
            self._dataplane.change(delta, now)

    async def _plumb(self, plan: Plan) -> None:
        for changed in await asyncio.to_thread(self._plumbing.apply, plan):
            log.debug("plumbing", change=changed)

    async def _undo(self, plan: Plan | None) -> None:
        """Go back to ``plan``; a daemon that never had one leaves what another left."""
        if plan is None:
            return
        try:
            await asyncio.to_thread(self._load, plan, None)
            self.generation += 1
            await self._plumb(plan)
        except (NodeError, ValueError) as error:
            log.error("going back to the policy before failed", error=str(error))

    def flows(self, where: FlowFilter) -> list[FlowView]:
        """Live flows that match, in the order of the kernel's table."""
        return list(self._dataplane.flows(time.monotonic_ns(), where))

    def delete(self, where: FlowFilter) -> list[FlowView]:
        """See `ServedNode.delete`; the kernel tells the DESTROY events."""
        gone = self.flows(where)
        for flow in gone:
            self._dataplane.delete_flow(flow)
        return gone

    def counters(self) -> Mapping[str, int]:
        """The kernel's counters by name, and how often it lost events."""
        return {**self._dataplane.counters(), "event_overruns": self._kernel_events.overruns}

    def close(self) -> None:
        """Let go of the sockets.  Rules and links stay as they are."""
        self.events.close()
        self._dataplane.close()
