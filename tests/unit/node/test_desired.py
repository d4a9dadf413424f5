"""Policies staged and committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.node.desired import Conflict, Desired, Refused
from pylb.plan import compile as plans
from pylb.policy.model import Overlay
from pylb.policy.objects import Ref
from tests.unit.node.cluster import Body, cluster, endpoints, node, service

WEB = Ref("Service", "default", "web")


def committed(*more: Body, **options: Any) -> Desired:
    desired = Desired("node1", **options)
    desired.commit(desired.whole(1, cluster(*more)))
    return desired


def test_nothing_is_there_before_the_first_commit() -> None:
    desired = Desired("node1")
    assert (desired.number, desired.plan) == (0, None)
    staged = desired.whole(4, cluster(service()))
    assert (desired.number, desired.plan) == (0, None)
    assert desired.ready(4) is staged
    desired.commit(staged)
    assert (desired.number, desired.plan) == (4, staged.plan)
    with pytest.raises(Conflict, match="policy 4 is not staged here, nothing is"):
        desired.ready(4)


def test_only_what_was_staged_last_can_be_committed() -> None:
    desired = Desired("node1")
    desired.whole(1, cluster())
    desired.whole(2, cluster(service()))
    with pytest.raises(Conflict, match="policy 1 is not staged here, policy 2 is"):
        desired.ready(1)


def test_a_change_gives_what_the_whole_would() -> None:
    desired = committed(service(), endpoints("web", "10.244.1.5"))
    new = endpoints("web", "10.244.1.5", "10.244.2.5")
    staged = desired.change(2, 1, [new], [])
    assert staged.delta is not None
    assert staged.delta.replace is None
    assert len(staged.delta.frontends) == 1
    whole = Desired("node1").whole(2, cluster(service(), new))
    assert staged.plan.to_bytes() == whole.plan.to_bytes()


def test_a_change_builds_on_the_committed_policy_only() -> None:
    with pytest.raises(Conflict, match="has policy 0, not 0"):
        Desired("node1").change(1, 0, cluster(), [])
    with pytest.raises(Conflict, match="has policy 1, not 7"):
        committed().change(2, 7, [service()], [])


def test_what_is_removed_is_gone_from_the_plan() -> None:
    desired = committed(service(), endpoints("web", "10.244.1.5"))
    slices = Ref("EndpointSlice", "default", "web-1")
    staged = desired.change(2, 1, [], [WEB, slices])
    assert not staged.plan.frontends
    assert staged.plan == plans.apply(desired.plan, staged.delta)  # type: ignore[arg-type]


def test_objects_may_change_places_in_one_change() -> None:
    desired = committed(service("web", "10.96.0.10"))
    staged = desired.change(2, 1, [service("other", "10.96.0.10")], [WEB])
    assert [f.service for f in staged.plan.frontends.values()] == ["default/other"]
    node_moves = [node(2) | {"metadata": {"name": "node9"}}]
    moved = desired.change(2, 1, node_moves, [Ref("Node", "", "node2")])
    assert sorted(moved.plan.peers) == ["node9"]


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ([node(2)], "the policy has no such node"),
        ([*cluster(), service("a"), service("b")], "10.96.0.10"),
        ([{"kind": "Service"}], "apiVersion"),
        ([], "at least one Node"),
    ],
)
def test_a_bad_policy_is_refused_with_its_reasons(bodies: list[Body], words: str) -> None:
    desired = Desired("node1")
    with pytest.raises(Refused) as refused:
        desired.whole(1, bodies)
    assert any(words in error for error in refused.value.errors)
    assert desired.staged is None


def test_a_bad_change_leaves_everything_as_it_was() -> None:
    desired = committed(service())
    before = desired.plan
    with pytest.raises(Refused):
        desired.change(2, 1, [service("other")], [])
    with pytest.raises(Refused, match="there is no such object"):
        desired.change(2, 1, [service("third", "10.96.0.12")], [Ref("Service", "default", "no")])
    with pytest.raises(Refused, match="the policy has no such node"):
        desired.change(2, 1, [], [Ref("Node", "", "node1")])
    assert desired.plan is before
    assert desired.staged is None


def test_the_overlay_can_be_overridden() -> None:
    plan = committed(service(), overlay=Overlay.UDP).plan
    assert plan is not None
    assert (plan.overlay.kind, plan.overlay.port, plan.overlay.mtu) == ("udp", 8285, 1472)


def test_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(cluster(service())))
    assert len(Desired("node1").from_files(1, [str(path)]).plan.frontends) == 1
    with pytest.raises(Refused, match="cannot be read"):
        Desired("node1").from_files(1, [str(tmp_path / "absent.yaml")])
