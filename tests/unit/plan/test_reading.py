"""A plan comes back from its JSON as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from pylb.plan.compile import compile
from pylb.plan.reading import plan_from_json
from pylb.policy.model import Policy
from tests.unit.plan.strategies import OWN, policies


@given(policies())
def test_a_plan_comes_back_from_json(policy: Policy) -> None:
    plan = compile(policy, OWN)
    assert plan_from_json(json.loads(plan.to_bytes())) == plan


@pytest.mark.parametrize(
    ("data", "said"),
    [({}, "without 'overlay'"), ({"frontends": None, "overlay": {}}, "of the wrong shape")],
)
def test_what_is_no_plan_is_named(data: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_from_json({"frontends": [], "node": "n", **data})
