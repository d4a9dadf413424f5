"""A delta onto a plan: what a dataplane needs of changes, without knowing of policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from pylb.plan.tables import Delta, Plan

K = TypeVar("K")
V = TypeVar("V")


def apply(plan: Plan, delta: Delta) -> Plan:
    """The plan with the delta in it; ``plan`` itself is left as it is.

    Tables that the delta does not touch are shared between the two.  The delta
    must be valid for the plan (`validate_delta`).
    """
    if delta.replace is not None:
        return delta.replace
    if delta.empty:
        return plan
    addresses = plan.addresses
    if delta.addresses:
        addresses = {**addresses, **delta.addresses}
        for address, count in delta.addresses.items():
            if not count:
                del addresses[address]
    return replace(
        plan,
        peers=_merged(plan.peers, delta.peers),
        pods=_merged(plan.pods, delta.pods),
        cluster_pods=_merged(plan.cluster_pods, delta.cluster_pods),
        frontends=_merged(plan.frontends, delta.frontends),
        services=_merged(plan.services, delta.services),
        addresses=addresses,
    )


def _merged(old: Mapping[K, V], delta: Mapping[K, V | None]) -> Mapping[K, V]:
    if not delta:
        return old
    merged = dict(old)
    for key, value in delta.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged
