"""update and apply lead to the same plan as compile does, whatever changed."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.plan.compile import apply, compile, update, validate, validate_delta
from pylb.plan.tables import PlanError
from pylb.policy.model import Change, Policy
from tests.unit.plan.strategies import LAB, OWN, changes, difference, policies, shuffled

K = TypeVar("K")
V = TypeVar("V")

same_lab = policies(st.just(LAB))


@given(st.data())
def test_update_then_apply_is_compile(data: st.DataObject) -> None:
    old, new = data.draw(policies()), data.draw(policies())
    plan = compile(old, OWN)
    delta = update(plan, data.draw(changes(old, new)))
    validate_delta(plan, delta)
    after = apply(plan, delta)
    validate(after)
    expected = compile(new, OWN)
    assert after == expected
    assert after.to_bytes() == expected.to_bytes()


@given(st.data())
def test_a_chain_of_changes_within_one_lab_ends_at_compile(data: st.DataObject) -> None:
    steps = data.draw(st.lists(same_lab, min_size=2, max_size=5))
    plan = compile(steps[0], OWN)
    for old, new in itertools.pairwise(steps):
        before, bytes_before = copy.deepcopy(plan), plan.to_bytes()
        delta = update(plan, difference(old, new))
        validate_delta(plan, delta)
        after = apply(plan, delta)
        assert plan == before, "update and apply must leave the plan as it was"
        assert plan.to_bytes() == bytes_before
        plan = after
    assert plan.to_bytes() == compile(steps[-1], OWN).to_bytes()


@given(st.data())
def test_the_order_of_mappings_changes_nothing(data: st.DataObject) -> None:
    policy = data.draw(policies())
    other = shuffled(policy, data.draw)
    assert compile(policy, OWN).to_bytes() == compile(other, OWN).to_bytes()


@given(policies())
def test_no_change_is_an_empty_delta(policy: Policy) -> None:
    plan = compile(policy, OWN)
    named = Change(
        policy,
        pods=frozenset(policy.pods),
        services=frozenset(policy.services),
        nodes=frozenset(policy.nodes) - {OWN},
        redirects=frozenset(policy.redirects),
    )
    assert update(plan, named).empty
    assert apply(plan, update(plan, named)) is plan


class Only(Mapping[K, V]):
    """A mapping of which only the named keys may be asked for."""

    def __init__(self, whole: Mapping[K, V], named: frozenset[K]) -> None:
        self._whole = whole
        self._named = named

    def __getitem__(self, key: K) -> V:
        assert key in self._named, f"update looked at {key!r}, which the change does not name"
        return self._whole[key]

    def __iter__(self) -> Iterator[K]:
        raise AssertionError("update walked a whole mapping of the policy")

    def __len__(self) -> int:
        raise AssertionError("update counted a whole mapping of the policy")


@given(same_lab, same_lab)
def test_update_looks_only_at_what_the_change_names(old: Policy, new: Policy) -> None:
    if old.nodes[OWN] != new.nodes[OWN]:
        return
    change = difference(old, new)
    guarded: Any = replace(
        new,
        nodes=Only(new.nodes, change.nodes | {OWN}),
        pods=Only(new.pods, change.pods),
        services=Only(new.services, change.services),
        slices=Only(new.slices, change.services),
        takers=Only(new.takers, change.services),
        redirects=Only(new.redirects, change.redirects),
        redirected=Only(new.redirected, change.services),
    )
    plan = compile(old, OWN)
    delta = update(plan, replace(change, policy=guarded))
    assert apply(plan, delta) == compile(new, OWN)


@given(same_lab)
def test_the_plans_own_node_gone_is_an_error(policy: Policy) -> None:
    plan = compile(policy, OWN)
    without = replace(
        policy,
        nodes={name: node for name, node in policy.nodes.items() if name != OWN},
        pods={key: pod for key, pod in policy.pods.items() if pod.node != OWN},
    )
    with pytest.raises(PlanError, match=OWN):
        update(plan, Change(without, nodes=frozenset([OWN])))
