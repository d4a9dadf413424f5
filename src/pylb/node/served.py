"""What the control API acts on, whatever the dataplane: a policy, taken in two phases."""

from __future__ import annotations

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pylb.dataplane.base import FlowFilter, FlowView
from pylb.node.desired import Desired, Staged
from pylb.node.events import Broadcaster
from pylb.node.logs import Log
from pylb.plan.tables import Delta, Plan

log = Log(__name__)


class ServedNode(ABC):
    """A node as its daemon serves it.  All methods belong to the loop's thread.

    Staging, which takes long, runs in another thread meanwhile; ``turn`` is held
    while it does, so that there is one at a time.
    """

    def __init__(self, desired: Desired, name: str, events: Broadcaster) -> None:
        self.desired = desired
        self.dataplane_name = name
        self.turn = asyncio.Lock()
        self.events = events
        self.generation = 0
        self.watchers: list[Callable[[], Awaitable[None]]] = []
        """Called after each policy that was committed."""
        self._since = time.monotonic()

    def health(self) -> dict[str, Any]:
        """What ``GET /healthz`` says; ``overlay`` is None before the first policy."""
        plan = self.desired.plan
        return {
            "node": self.desired.node,
            "dataplane": self.dataplane_name,
            "overlay": plan.overlay.kind if plan is not None else None,
            "generation": self.generation,
            "number": self.desired.number,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._since, 3),
        }

    async def stage(self, make: Callable[[], Staged]) -> Staged:
        """Run one of `Desired`'s staging methods beside the packets; ``turn`` is held."""
        return await asyncio.to_thread(make)

    async def commit(self, staged: Staged) -> None:
        """Make ``staged`` the node's policy; ``turn`` is held.

        Raises `PlanError` or `NodeError`, and the policy before it stands.
        """
        before = self.desired.plan
        await self._take(before, staged.plan, None if before is None else staged.delta)
        self.desired.commit(staged)
        for watcher in self.watchers:
            await watcher()
        log.info(
            "policy committed",
            number=staged.number,
            generation=self.generation,
            frontends=len(staged.plan.frontends),
            pods=len(staged.plan.pods),
            peers=len(staged.plan.peers),
        )

    @abstractmethod
    async def _take(self, before: Plan | None, plan: Plan, delta: Delta | None) -> None:
        """Go from ``before`` to ``plan``, by ``delta`` if there is one.

        Whole or not at all; None before the first plan.
        """

    @abstractmethod
    def flows(self, where: FlowFilter) -> list[FlowView]:
        """Live flows that match, as they are now."""

    @abstractmethod
    def delete(self, where: FlowFilter) -> list[FlowView]:
        """Delete the flows that match; gives them as they were."""

    @abstractmethod
    def counters(self) -> Mapping[str, int]:
        """Every counter by name."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the descriptors.  What was made for packets to pass stays."""
