"""Who may have which of a frontend's backends: decided once for each new flow.

Both functions look at the flow's source address alone, so that what they say of
a flow's first packet they also say of a later one, when the plan has changed.
"""

from __future__ import annotations

from pylb.dataplane.python.nat import Client, client_of
from pylb.plan.tables import Frontend, Others, Plan


def eligible(plan: Plan, frontend: Frontend, source: int) -> tuple[int, ...] | None:
    """The backends, by index, for a client; None: for it there is no such frontend.

    See `pylb.plan.tables.Others`.
    """
    others = frontend.others
    if others is Others.NOBODY:
        return frontend.active
    if others is Others.INSIDE:
        outside = client_of(plan, source) is Client.OUTSIDE
        return frontend.active if outside else frontend.other
    if all(frontend.backends[i].address != source for i in frontend.active):
        return frontend.active
    return None if others is Others.PASSING else frontend.other


def admits(frontend: Frontend, source: int) -> bool:
    """True unless loadBalancerSourceRanges shut the client out."""
    return not frontend.sources or any(source in prefix for prefix in frontend.sources)
