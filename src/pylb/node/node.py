"""A node at work: its policy, its dataplane, and the kernel's routing, moved in step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from pylb.dataplane.base import Dataplane, Event, FlowFilter, FlowView
from pylb.node import plumbing
from pylb.node.desired import Desired
from pylb.node.errors import NodeError
from pylb.node.events import Broadcaster
from pylb.node.logs import Log
from pylb.node.native_pump import NativePump
from pylb.node.plumbing import Plumbing
from pylb.node.pump import Pump
from pylb.node.served import ServedNode
from pylb.node.tun import Tun
from pylb.plan.tables import Delta, Plan

log = Log(__name__)

Publish = Callable[[list[Event]], None]


class Node(ServedNode):
    """A node whose packets pass through the daemon; plumbing runs beside them as staging does."""

    def __init__(
        self,
        desired: Desired,
        name: str,
        dataplane: Dataplane,
        plumbs: Plumbing,
        open_tun: Callable[[str], Tun] = Tun,
        make_pump: Callable[[Publish], Pump | NativePump] | None = None,
    ) -> None:
        super().__init__(desired, name, Broadcaster(wanted=self._want_events))
        self._dataplane = dataplane
        publish = self.events.publish
        self._pump = Pump(dataplane, publish) if make_pump is None else make_pump(publish)
        self._pump.want_events(False)
        self._plumbing = plumbs
        self._open_tun = open_tun
        self._running = False

    def _want_events(self, wanted: bool) -> None:
        self._pump.want_events(wanted)

    async def _take(self, before: Plan | None, plan: Plan, delta: Delta | None) -> None:
        if not self._running:
            await self._begin(plan)
        else:
            await self._replace(before, plan, delta)

    async def _begin(self, plan: Plan) -> None:
        """The first plan: before it the TUN is not opened, so that the kernel's fallback holds."""
        plumbed = self._plumbing.present
        tun = self._open_tun(self._plumbing.names.tun)
        try:
            sockets = self._pump.open_overlay(plan)
            self._load(plan, None)
            self._pump.use_overlay(sockets, plan.overlay.kind)
            await self._plumb(plan)
            tun.persist()
            self._pump.use_tun(tun)
        except BaseException:
            tun.close()
            self._pump.close()
            if not plumbed:
                await asyncio.to_thread(self._plumbing.clean)
            raise
        self._running = True

    async def _replace(self, before: Plan | None, plan: Plan, delta: Delta | None) -> None:
        """Swap plans: sockets, dataplane, then routing, back again if that fails."""
        sockets = self._pump.open_overlay(plan)
        try:
            self._load(plan, delta)
        except BaseException:
            self._pump.discard(sockets)
            raise
        self._pump.use_overlay(sockets, plan.overlay.kind)
        if before is not None and delta is not None and not plumbing.affects(before, delta):
            return
        try:
            await self._plumb(plan)
        except NodeError:
            if before is not None:
                await self._back_to(before)
            raise

    async def _back_to(self, plan: Plan) -> None:
        try:
            self._load(plan, None)
            self._pump.use_overlay(self._pump.open_overlay(plan), plan.overlay.kind)
            await self._plumb(plan)
        except (NodeError, ValueError) as error:
            log.error("going back to the policy before failed", error=str(error))

    def _load(self, plan: Plan, delta: Delta | None) -> None:
        now = self._pump.now()
        output = (
            self._dataplane.load(plan, now) if delta is None else self._dataplane.change(delta, now)
        )
        self.generation += 1
        self._pump.put_out(output)

    async def _plumb(self, plan: Plan) -> None:
        for changed in await asyncio.to_thread(self._plumbing.apply, plan):
            log.debug("plumbing", change=changed)

    def flows(self, where: FlowFilter) -> list[FlowView]:
        """Live flows that match, as they are now, in order of creation."""
        return list(self._dataplane.flows(self._pump.now(), where))

    def delete(self, where: FlowFilter) -> list[FlowView]:
        """Delete the flows that match; gives them as they were."""
        now = self._pump.now()
        gone = list(self._dataplane.flows(now, where))
        _, output = self._dataplane.delete(where, now)
        self._pump.put_out(output)
        return gone

    def counters(self) -> Mapping[str, int]:
        """The dataplane's counters, and the pump's with ``pump_`` before their names."""
        pump = {f"pump_{name}": count for name, count in self._pump.counters().items()}
        return {**self._dataplane.counters(), **pump}

    def close(self) -> None:
        """Let go of the descriptors.  Routing stays as it is, and so does the TUN."""
        self.events.close()
        self._pump.close()
