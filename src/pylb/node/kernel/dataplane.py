"""The kernel as a `Loadable`: rules from plans, flows from connection tracking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pylb.dataplane.base import ALL_FLOWS, DropReason, FlowFilter, FlowView, Output
from pylb.dataplane.kernel import statistics
from pylb.dataplane.kernel.names import INVALID, TABLE, check_overlay, overlay_device
from pylb.node.kernel.netfilter import Netfilter
from pylb.node.kernel.rules import Rules
from pylb.plan.apply import apply
from pylb.plan.tables import Delta, FrontendKey, Plan, PlanError
from pylb.plan.validate import validate, validate_delta

_NET = Path("/proc/thread-self/net")
_MAX = Path("/proc/sys/net/netfilter/nf_conntrack_max")


class KernelDataplane:
    """The kernel of the current network namespace; implements `pylb.dataplane.base.Loadable`.

    It can only be loaded: packets never come here.  The events of `delete` are
    told by the kernel (`pylb.node.kernel.netfilter.Events`), so that no call here
    returns any.  ``now`` is not looked at: the kernel has its own clock.
    """

    def __init__(self, rules: Rules) -> None:
        """Raises `NodeError` when connection tracking cannot be asked."""
        self._rules = rules
        self._netfilter = Netfilter()
        self._plan: Plan | None = None
        self._generation = 0
        self._before: dict[str, int] = {}

    @property
    def generation(self) -> int:
        """How many plans have been loaded; 0 before the first."""
        return self._generation

    def load(self, plan: Plan, now: int) -> Output:
        """See `Loadable.load`; raises `NodeError` when the tool refuses the rules."""
        validate(plan)
        check_overlay(plan.overlay.kind)
        counted = self._counted() if self._plan is not None else {}
        self._rules.load(plan)
        # The table is a new one, its counters at 0.
        self._before = counted
        self._loaded(plan)
        return Output()

    def change(self, delta: Delta, now: int) -> Output:
        """See `Loadable.change`."""
        if self._plan is None:
            raise PlanError("a delta was given but no plan is loaded yet: load one first")
        validate_delta(self._plan, delta)
        if delta.replace is not None:
            return self.load(delta.replace, now)
        self._rules.change(self._plan, delta)
        self._loaded(apply(self._plan, delta))
        return Output()

    def _loaded(self, plan: Plan) -> None:
        self._plan = plan
        self._generation += 1

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        """See `Loadable.flows`; in the order of the kernel's hash table.

        The kernel does not say in which order flows began, nor under which plan:
        ``generation`` is 0.
        """
        return (
            flow for flow in map(self.explained, self._netfilter.flows()) if where.matches(flow)
        )

    def explained(self, flow: FlowView) -> FlowView:
        """``flow`` with the Service that it asked, if it is translated for one."""
        if self._plan is None or not flow.dnat:
            return flow
        original = flow.original
        key = FrontendKey(original.dst, original.dport, original.protocol)
        frontend = self._plan.frontends.get(key)
        if frontend is None:
            return flow
        return replace(flow, service=frontend.service, frontend=key)

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        """See `Loadable.delete`."""
        found = list(self.flows(now, where))
        return sum(self.delete_flow(flow) for flow in found), Output()

    def delete_flow(self, flow: FlowView) -> bool:
        """Delete one flow; False when it is gone already."""
        return self._netfilter.delete(flow)

    def counters(self) -> Mapping[str, int]:
        """See `Loadable.counters`.

        The kernel's own are under conntrack(8)'s names; ``overlay_in`` and
        ``overlay_out`` are packets of the VXLAN device, 0 with host-gw.
        """
        overlay = (0, 0)
        if self._plan is not None and self._plan.overlay.kind == "vxlan":
            overlay = statistics.device(_read(_NET / "dev"), overlay_device(self._plan))
        counted = self._counted()
        return {
            "overlay_in": overlay[0],
            "overlay_out": overlay[1],
            **statistics.conntrack(_read(_NET / "stat/nf_conntrack")),
            "forwarded_invalid": counted.pop(INVALID, 0),
            "rejected": counted.pop("rejected", 0),
            "max_flows": int(_read(_MAX) or 0),
            "generation": self._generation,
            **{f"drop_{reason.value}": 0 for reason in DropReason},
            **counted,
        }

    def _counted(self) -> dict[str, int]:
        """Packets by the ruleset's counters, those of replaced tables included."""
        counted = dict(self._before)
        for name, packets in self._netfilter.counters(TABLE).items():
            counted[name] = counted.get(name, 0) + packets
        return counted

    def close(self) -> None:
        """Let go of the sockets; the rules stay."""
        self._netfilter.close()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
