"""Services of every kind in the kernel: nft takes the ruleset, and a change of it."""

from __future__ import annotations

import json

import pytest

from pylb.bench import mixed
from pylb.node.kernel.rules import Nftables
from pylb.plan.compile import apply, compile, update
from pylb.policy import objects
from pylb.policy.store import Store, change
from tests.netns.kernel.test_rules import nftables
from tests.netns.node.world import Namespace

pytestmark = [pytest.mark.root, pytest.mark.tools("nft")]

SERVICES, NODES, GROUPS = 400, 4, 5


def test_every_kind_of_service_is_loaded_and_changed(space: Namespace) -> None:
    raw = objects.from_bodies(mixed.bodies(SERVICES, NODES, GROUPS, image="pause"))
    store = Store.empty().apply(raw)
    plan = compile(store.policy, "node1")
    fewer = mixed.fewer(store.policy.services, NODES, GROUPS)
    after = store.apply(objects.from_bodies([fewer]))
    delta = update(plan, change(store, after))
    assert delta.frontends
    rules = Nftables()

    def load_and_change() -> None:
        rules.load(plan)
        rules.change(plan, delta)

    space.call(load_and_change)
    changed = nftables(space)
    text = json.dumps(changed)
    for name in {frontend.service for frontend in plan.frontends.values() if frontend.active}:
        assert name.partition(":")[0] in text, name
    space.call(lambda: rules.load(apply(plan, delta)))
    assert changed == nftables(space)
