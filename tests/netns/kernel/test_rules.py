"""Rulesets in the kernel: a change leads where loading the result leads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylb.dataplane.kernel.names import Options
from pylb.node.errors import NodeError
from pylb.node.kernel.rules import Iptables, Nftables, Rules
from pylb.plan.compile import apply, compile, update
from pylb.plan.tables import Backend, Delta, Frontend
from pylb.policy.model import Policy
from tests.netns.node.world import Namespace
from tests.unit.node.plans import frontend, ip, plan
from tests.unit.plan.strategies import LAB, OWN, difference, policies

pytestmark = pytest.mark.root

same_lab = policies(st.just(LAB))
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def nftables(space: Namespace) -> Any:
    """The table, in an order of its own and without handles and counts."""
    listed = json.loads(space.sh("nft -j list table ip pylb").stdout)["nftables"]
    found = []
    for entry in listed:
        [(kind, body)] = entry.items()
        if kind == "metainfo":
            continue
        body = {k: v for k, v in body.items() if k not in ("handle", "packets", "bytes")}
        if isinstance(body.get("elem"), list):
            body["elem"] = sorted(body["elem"], key=json.dumps)
        found.append((kind, body))
    rules = [body for kind, body in found if kind == "rule"]
    rest = sorted((json.dumps((kind, body)) for kind, body in found if kind != "rule"))
    # Rules of one chain keep their order.
    return rest, sorted(rules, key=lambda rule: str(rule["chain"]))


def saved(space: Namespace) -> Any:
    """What iptables-save tells, chain by chain, without counts."""
    found: dict[str, list[str]] = {}
    table = ""
    for line in space.sh("iptables-save").stdout.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":"):
            found.setdefault(f"{table} {line.split()[0]}", [])
        elif line.startswith("-A"):
            chain, rule = re.fullmatch(r"-A (\S+) ?(.*)", line).groups()  # type: ignore[union-attr]
            found[f"{table} :{chain}"].append(rule)
    return found


def check(
    space: Namespace, rules: Rules, look: Callable[[Namespace], Any], old: Policy, new: Policy
) -> None:
    before = compile(old, OWN)
    delta = update(before, difference(old, new))

    def change() -> None:
        rules.load(before)
        rules.change(before, delta)

    space.call(change)
    changed = look(space)
    space.call(lambda: rules.load(apply(before, delta)))
    assert changed == look(space)


@pytest.mark.tools("nft")
@few
@given(old=same_lab, new=same_lab)
def test_nftables_change_is_load(space: Namespace, old: Policy, new: Policy) -> None:
    check(space, Nftables(), nftables, old, new)


@pytest.mark.tools("iptables-restore")
@few
@given(old=same_lab, new=same_lab)
def test_iptables_change_is_load(space: Namespace, old: Policy, new: Policy) -> None:
    check(space, Iptables(), saved, old, new)


@pytest.mark.tools("nft")
@pytest.mark.parametrize("options", [Options(), Options(random_fully=True, track_overlay=False)])
@pytest.mark.parametrize("kind", ["vxlan", "host-gw"])
def test_every_option_is_one_that_nft_takes(space: Namespace, options: Options, kind: str) -> None:
    of = plan()
    of = plan(overlay=of.overlay._replace(kind=kind))
    space.call(lambda: Nftables(options).load(of))
    listed = space.sh("nft list table ip pylb").stdout
    assert ("fully-random" in listed) == options.random_fully
    assert ("notrack" in listed) == (kind == "vxlan" and not options.track_overlay)
    assert "masquerade" not in listed


@pytest.mark.tools("nft", "iptables-restore")
def test_clean_removes_all_and_nothing_else(space: Namespace) -> None:
    space.sh("nft add table ip mine; nft add chain ip mine c; iptables -N MINE")
    space.call(lambda: Nftables().load(plan()))
    space.call(lambda: Iptables().load(plan()))
    for rules in (Nftables(), Iptables()):
        assert space.call(rules.clean)
        assert space.call(rules.clean) == []
    listed = space.sh("nft list ruleset; iptables-save").stdout
    assert "pylb" not in listed
    assert "KUBE" not in listed
    assert "table ip mine" in listed
    assert ":MINE" in listed
    space.sh("nft delete table ip mine; iptables -X MINE")


@pytest.mark.tools("iptables-restore")
def test_loading_iptables_again_neither_doubles_jumps_nor_keeps_stale_chains(
    space: Namespace,
) -> None:
    rules = Iptables()
    space.call(lambda: rules.load(plan()))
    before = saved(space)
    space.sh("iptables -t nat -N KUBE-SVC-STALE")
    space.call(lambda: rules.load(plan()))
    assert saved(space) == before
    space.call(rules.clean)


@pytest.mark.tools("nft")
def test_a_refused_change_changes_nothing_and_is_told(space: Namespace) -> None:
    there, missing = served("10.96.0.10"), served("10.96.0.77")
    before = plan(there)
    delta = Delta(frontends={there.key: None, missing.key: None})
    space.call(lambda: Nftables().load(before))
    listed = nftables(space)
    with pytest.raises(NodeError, match="nft refused the rules"):
        space.call(lambda: Nftables().change(plan(there, missing), delta))
    assert nftables(space) == listed


def served(address: str) -> Frontend:
    """A frontend with a backend."""
    backends = (Backend(ip("10.244.1.2"), 8080, local=True),)
    return frontend(address, 80)._replace(backends=backends, active=(0,))
