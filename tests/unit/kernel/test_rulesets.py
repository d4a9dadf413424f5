"""What rulesets say, as text: names, sources, and that a delta names only what differs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.cli.lab import DATAPLANES as OFFERED
from pylb.dataplane.kernel import affinity, iptables, nft
from pylb.dataplane.kernel.names import KERNELS, Options
from pylb.lab.lifetime import DATAPLANES
from pylb.node.errors import NodeError
from pylb.node.kernel.rules import check
from pylb.plan.compile import compile, update
from pylb.plan.tables import (
    Backend,
    Delta,
    Frontend,
    FrontendKind,
    Others,
    Plan,
    PlanError,
    Prefix,
)
from pylb.policy.model import Policy
from tests.unit.node.plans import frontend, ip, peer, plan, prefix
from tests.unit.plan.strategies import LAB, OWN, difference, policies, shuffled

HOST_GW = plan().overlay._replace(kind="host-gw", mtu=1500)


def served(
    address: str, port: int = 80, kind: FrontendKind = FrontendKind.CLUSTER_IP, *backends: str
) -> Frontend:
    listed = tuple(Backend(ip(each), 8080) for each in sorted(backends or ("10.244.2.2",)))
    made = frontend(address, port, kind)
    return made._replace(backends=listed, active=tuple(range(len(listed))))


def rules(text: str, chain: str) -> list[str]:
    found = re.search(rf"\tchain {re.escape(chain)} {{\n(.*?)\n\t}}", text, re.S)
    assert found, f"no chain {chain}"
    return [line.strip() for line in found[1].splitlines()]


def test_a_service_is_a_key_a_chain_and_its_endpoints() -> None:
    text = nft.ruleset(
        plan(served("10.96.0.10", 80, FrontendKind.CLUSTER_IP, "10.244.1.5", "10.244.2.2"))
    )
    chain = "service-10.96.0.10/tcp/80-default/web"
    assert f"10.96.0.10 . tcp . 80 : goto {chain}" in text
    assert rules(text, chain)[-1] == "meta mark set numgen random mod 2 goto translate"
    assert "10.96.0.10 . tcp . 80 . 0 : 10.244.1.5 . 8080" in text
    assert "10.96.0.10 . tcp . 80 . 1 : 10.244.2.2 . 8080" in text


def test_round_robin_counts_and_node_ports_are_marked() -> None:
    port = served("192.168.7.1", 30080, FrontendKind.NODE_PORT)._replace(scheduler="rr")
    text = nft.ruleset(plan(port))
    [_, rule] = rules(text, "external-192.168.7.1/tcp/30080-default/web")
    assert rule == f"meta mark set numgen inc mod 1 offset {nft.MASQUERADE} goto translate"
    local = nft.ruleset(plan(port._replace(local_only=True)))
    [_, rule] = rules(local, "local-192.168.7.1/tcp/30080-default/web")
    assert rule == f"meta mark set numgen inc mod 1 offset {nft.KEEP} goto translate"


def test_an_address_with_a_redirected_port_keeps_sources_at_its_other_ports() -> None:
    """Policy Local's clients have their own source, whoever else has the address."""
    local = served("192.0.2.1", 80, FrontendKind.LOAD_BALANCER)._replace(local_only=True)
    text = nft.ruleset(plan(local, served("192.0.2.1", 9999, FrontendKind.LOCAL_REDIRECT)))
    assert f"192.0.2.1 . tcp . 80 . {nft.KEEP} : 10.244.2.2 . 8080" in text
    assert "192.0.2.1 . tcp . 9999 . 0 : 10.244.2.2 . 8080" in text
    [rule] = [each for each in rules(text, "balanced") if "@cluster-ips" in each]
    assert f"meta mark & {nft.KEEP:#x} == 0 ct original ip daddr @cluster-ips" in rule


def test_no_endpoint_is_a_reject_no_local_one_a_drop() -> None:
    text = nft.ruleset(
        plan(
            frontend("10.96.0.9", 80)._replace(local_only=True, elsewhere=True),
            frontend("10.96.0.8", 81),
        )
    )
    assert "10.96.0.9 . tcp . 80 : goto no-local-endpoint" in text
    assert "10.96.0.8 . tcp . 81 : goto no-endpoint" in text
    assert rules(text, "no-local-endpoint") == ["counter name drop_no_local_endpoint drop"]


@pytest.mark.parametrize(
    ("scheduler", "throw"),
    [
        ("random", "numgen random mod 2"),
        ("lc", "numgen random mod 2"),
        ("rr", "numgen inc mod 2"),
        ("wrr", "numgen inc mod 4"),
        ("sh", "jhash ip saddr mod 4 seed 0x70796c62"),
    ],
)
def test_every_scheduler_is_what_the_kernel_has_of_it(scheduler: str, throw: str) -> None:
    backends = (Backend(1, 80, 6), Backend(2, 80, 2))
    of = served("10.96.0.10")._replace(scheduler=scheduler, backends=backends, active=(0, 1))
    [_, rule] = rules(nft.ruleset(plan(of)), "service-10.96.0.10/tcp/80-default/web")
    assert rule == f"meta mark set {throw} goto translate"


def weighing(*weights: int, affinity: int = 0) -> Frontend:
    backends = tuple(Backend(ip(f"10.244.2.{i}"), 80, w) for i, w in enumerate(weights, 2))
    of = served("10.96.0.10")._replace(scheduler="wrr", backends=backends, affinity=affinity)
    return of._replace(active=tuple(range(len(backends))))


def numbers(text: str) -> dict[int, str]:
    """The endpoints' marks."""
    found = re.findall(r"10\.96\.0\.10 \. tcp \. 80 \. (\d+) : (10\.244\.2\.\d)", text)
    return {int(mark): address for mark, address in found}


def test_who_weighs_more_has_more_numbers_in_the_shared_map() -> None:
    first, second = "10.244.2.2", "10.244.2.3"
    shared = nft.ruleset(plan(weighing(6, 2)))
    assert numbers(shared) == {0: first, 1: first, 2: first, 3: second}
    # A map of the rule's own costs the kernel more than numbers do, until they are very many.
    most = nft.ruleset(plan(weighing(nft.MOST_NUMBERS - 1, 1)))
    assert len(numbers(most)) == nft.MOST_NUMBERS
    assert "map {" not in most
    more = nft.ruleset(plan(weighing(nft.MOST_NUMBERS, 1)))
    assert numbers(more) == {0: first, 1: second}
    [_, rule] = rules(more, "service-10.96.0.10/tcp/80-default/web")
    assert rule == "meta mark set numgen inc mod 257 map { 0-255 : 0, 256 : 1 } goto translate"


@pytest.mark.parametrize(("heavy", "listed"), [(2, 3), (60000, 0)])
def test_with_affinity_numbers_stand_for_the_endpoints_own_marks(heavy: int, listed: int) -> None:
    of = weighing(heavy, 1, affinity=60)
    text = nft.ruleset(plan(of))
    assert set(numbers(text)) == set(affinity.ids(of))
    dice = re.search(r"map dice {(.*?)\n\t}", text, re.S)
    assert dice
    assert dice[1].count(" : ") - 1 == listed


LOCAL_ONE = Backend(ip("10.244.1.5"), 8080, local=True)
BALANCER = served("203.0.113.9", 80, FrontendKind.LOAD_BALANCER)._replace(
    backends=(LOCAL_ONE, Backend(ip("10.244.2.2"), 8080)),
    active=(0,),
    local_only=True,
    others=Others.INSIDE,
    other=(0, 1),
)


def test_policy_local_is_for_outside_alone() -> None:
    text, other = nft.ruleset(plan(BALANCER)), nft.KEEP | nft.OTHER
    assert rules(text, "local-203.0.113.9/tcp/80-default/web")[1:] == [
        f"ip saddr @inside meta mark set numgen random mod 2 offset {other} goto translate",
        f"meta mark set numgen random mod 1 offset {nft.KEEP} goto translate",
    ]
    assert f"203.0.113.9 . tcp . 80 . {other + 1} : 10.244.2.2 . 8080" in text
    nobody = BALANCER._replace(active=(), elsewhere=True)
    text = nft.ruleset(plan(nobody))
    assert len(rules(text, "local-203.0.113.9/tcp/80-default/web")) == 2
    assert "203.0.113.9 . tcp . 80 : goto no-local-endpoint" in text
    chains = iptables.ruleset(plan(BALANCER))
    assert re.search(r"-A KUBE-EXT-\S+ -s 10.244.1.0/24 .* -j KUBE-SVC-", chains)
    assert re.search(r"-A KUBE-EXT-\S+ .* --src-type LOCAL -j KUBE-SVC-", chains)
    assert re.search(r"-A KUBE-EXT-\S+ -j KUBE-SVL-", chains)
    assert re.search(r"-d 203.0.113.9/32 .* --dport 80 -j DROP", iptables.ruleset(plan(nobody)))


def test_source_ranges_are_merged_and_those_outside_dropped() -> None:
    prefixes = (prefix("10.0.0.0/8"), prefix("10.1.0.0/16"), prefix("192.0.2.0/24"))
    text = nft.ruleset(plan(BALANCER._replace(sources=prefixes)))
    assert rules(text, "local-203.0.113.9/tcp/80-default/web")[1] == (
        "ip saddr != { 10.0.0.0/8, 192.0.2.0/24 } counter name drop_source_range drop"
    )
    everyone = nft.ruleset(plan(BALANCER._replace(sources=(*prefixes, Prefix(0, 0)))))
    assert "drop_source_range drop" not in everyone
    chains = iptables.ruleset(plan(BALANCER._replace(sources=prefixes)))
    assert len(re.findall(r"-A KUBE-FW-\S+ -s \S+ .* -j KUBE-EXT-", chains)) == 2


def test_affinity_remembers_marks_that_follow_from_the_endpoint() -> None:
    kept = served("10.96.0.10", 80, FrontendKind.CLUSTER_IP, "10.244.1.5", "10.244.2.2")._replace(
        affinity=60
    )
    text = nft.ruleset(plan(kept))
    chain = "service-10.96.0.10/tcp/80-default/web"
    first, second = affinity.ids(kept)
    assert rules(text, chain)[1:] == [
        f"meta mark set {first} {affinity.FIELDS} @affinity goto {chain}-kept",
        f"meta mark set {second} {affinity.FIELDS} @affinity goto {chain}-kept",
        "meta mark set numgen random mod 2",
        f"meta mark set ip daddr . meta l4proto . th dport . meta mark map @dice goto {chain}-kept",
    ]
    assert rules(text, f"{chain}-kept")[1:] == [
        f"update @affinity {{ {affinity.FIELDS} timeout 60s }}",
        "goto translate",
    ]
    assert f"10.96.0.10 . tcp . 80 . {second} : 10.244.2.2 . 8080" in text
    fewer = kept._replace(backends=kept.backends[1:], active=(0,))
    script = nft.change(plan(kept), Delta(frontends={kept.key: fewer})).splitlines()
    assert (
        f"delete element ip pylb endpoints {{ 10.96.0.10 . tcp . 80 . {first} : "
        "10.244.1.5 . 8080 }" in script
    )
    assert not [line for line in script if f"{second} : 10.244.2.2" in line], "it stays what it was"
    assert "--rcheck --seconds 60 --reap" in iptables.ruleset(plan(kept))


def test_endpoints_whose_numbers_clash_have_different_ones() -> None:
    many = tuple(Backend(i, 80) for i in range(1, 3000))
    numbers = affinity.ids(served("10.96.0.10")._replace(backends=many))
    assert len(set(numbers)) == len(many)
    assert all(0 <= number < 1 << 16 for number in numbers)


def test_a_redirection_spares_its_backends() -> None:
    redirect = served("10.10.10.10", 8080, FrontendKind.LOCAL_REDIRECT)._replace(
        backends=(LOCAL_ONE,), others=Others.PASSING
    )
    text = nft.ruleset(plan(redirect))
    assert rules(text, "service-10.10.10.10/tcp/8080-default/web")[1] == (
        "ip saddr 10.244.1.5 return"
    )
    assert "10.10.10.10" not in re.findall(r"set vips {.*?}", text, re.S)[0]
    assert re.search(
        r"-A KUBE-SERVICES -s 10.244.1.5/32 -d 10.10.10.10/32 .* -j RETURN",
        iptables.ruleset(plan(redirect)),
    )


def test_sources_are_named_never_masqueraded() -> None:
    text = nft.ruleset(plan())
    leaving = [rule for rule in rules(text, "postrouting") if "61000" in rule]
    assert len(leaving) == 2
    assert all(rule.endswith("snat to 192.168.7.1:61000-65534") for rule in leaving)
    assert "masquerade" not in text
    assert "61000" not in nft.ruleset(plan(masquerade=False))
    fully = nft.ruleset(plan(), Options(random_fully=True))
    snat = [line for line in fully.splitlines() if "snat to" in line]
    assert snat
    assert all(line.endswith("random,fully-random") for line in snat)


def test_host_gateways_have_no_device_to_tell_apart() -> None:
    assert "pylb.1" in nft.ruleset(plan())
    assert "pylb.1" not in nft.ruleset(plan(overlay=HOST_GW))
    assert "pylb.1" not in iptables.ruleset(plan(overlay=HOST_GW))


@pytest.mark.parametrize("write", [nft.ruleset, iptables.ruleset])
def test_the_udp_overlay_is_refused(write: type) -> None:
    with pytest.raises(PlanError, match=r"overlay udp: .* expected vxlan or host-gw"):
        write(plan(overlay=plan().overlay._replace(kind="udp", port=8285)))


def test_whatever_a_service_is_called_it_cannot_leave_its_place() -> None:
    evil = served("10.96.0.10")._replace(service='a/b:"; } flush ruleset\n#{' + "x" * 300)
    for text in (nft.ruleset(plan(evil)), iptables.ruleset(plan(evil))):
        assert not re.search(r"^\W*flush ruleset", text, re.M)
    for line in nft.ruleset(plan(evil)).splitlines():
        assert line.count('"') in (0, 2)


@given(st.data())
def test_the_same_plan_gives_the_same_bytes(data: st.DataObject) -> None:
    policy = data.draw(policies(st.just(LAB)))
    one, other = compile(policy, OWN), compile(shuffled(policy, data.draw), OWN)
    assert nft.ruleset(one) == nft.ruleset(other)
    assert iptables.ruleset(one) == iptables.ruleset(other)


@given(policies(st.just(LAB)))
def test_nothing_changes_nothing(policy: Policy) -> None:
    of = compile(policy, OWN)
    delta = update(of, difference(policy, policy))
    assert nft.change(of, delta) == iptables.change(of, delta) == ""
    same = Delta(frontends=dict(of.frontends), peers=dict(of.peers), addresses=dict(of.addresses))
    assert nft.change(of, same) == ""


def test_one_endpoint_among_many_is_a_few_lines() -> None:
    many = [served(f"10.96.1.{i}") for i in range(1, 200)]
    of = plan(*many, addresses={ip("10.244.2.2"): 199})
    more = served("10.96.1.7", 80, FrontendKind.CLUSTER_IP, "10.244.2.2", "10.244.2.9")
    delta = Delta(frontends={more.key: more}, addresses={ip("10.244.2.9"): 1})
    script = nft.change(of, delta).splitlines()
    chain = "service-10.96.1.7/tcp/80-default/web"
    assert script == [
        f"flush chain ip pylb {chain}",
        f"add rule ip pylb {chain} meta mark set numgen random mod 2 goto translate",
        "add element ip pylb endpoints { 10.96.1.7 . tcp . 80 . 1 : 10.244.2.9 . 8080 }",
    ]


def test_an_endpoint_that_moves_does_not_touch_the_chain() -> None:
    of = plan(served("10.96.0.7"))
    moved = served("10.96.0.7", 80, FrontendKind.CLUSTER_IP, "10.244.2.3")
    assert nft.change(of, Delta(frontends={moved.key: moved})).splitlines() == [
        "delete element ip pylb endpoints { 10.96.0.7 . tcp . 80 . 0 : 10.244.2.2 . 8080 }",
        "add element ip pylb endpoints { 10.96.0.7 . tcp . 80 . 0 : 10.244.2.3 . 8080 }",
    ]


def test_only_addresses_of_this_nodes_pods_are_their_own_backends() -> None:
    of = plan(addresses={ip("10.244.1.7"): 1, ip("10.244.2.7"): 1})
    text = nft.ruleset(of)
    assert "10.244.1.7 . 10.244.1.7" in text
    assert "10.244.2.7 . 10.244.2.7" not in text
    gone = Delta(addresses={ip("10.244.1.7"): 0, ip("10.244.2.7"): 0, ip("10.244.1.9"): 2})
    assert nft.change(of, gone).splitlines() == [
        "delete element ip pylb hairpin { 10.244.1.7 . 10.244.1.7 }",
        "add element ip pylb hairpin { 10.244.1.9 . 10.244.1.9 }",
    ]


def test_a_peer_that_comes_is_one_element() -> None:
    script = nft.change(plan(), Delta(peers={"node3": peer(3)}))
    assert script == "add element ip pylb peer-pods { 10.244.3.0/24 }\n"


def test_iptables_names_its_chains_as_kube_proxy_does() -> None:
    """portProtoHash of kube-proxy: sha256("default/web:httptcp"), base32, 16 letters."""
    web = served("10.96.0.10")._replace(service="default/web:http")
    text = iptables.ruleset(plan(web))
    assert ":KUBE-SVC-CDGGSHYLG3RE2FKL - [0:0]" in text


def test_iptables_shares_a_service_ports_chains() -> None:
    of = node_port_plan()
    text = iptables.ruleset(of)
    assert len(re.findall(r"^:KUBE-SVC-", text, re.M)) == 1
    assert len(re.findall(r"^:KUBE-SEP-", text, re.M)) == 1
    without = Delta(
        frontends={key: None for key in of.frontends if key.address == ip("192.168.7.1")},
        services={"default/web": tuple(k for k in of.frontends if k.address != ip("192.168.7.1"))},
    )
    script = iptables.change(of, without)
    assert "-X KUBE-EXT-" in script
    assert "-X KUBE-SVC-" not in script


def node_port_plan() -> Plan:
    made = [served("10.96.0.10"), served("192.168.7.1", 30080, FrontendKind.NODE_PORT)]
    of = plan(*made)
    return replace(of, services={"default/web": tuple(of.frontends)})


def test_rules_of_others_are_kept_and_ours_replaced() -> None:
    saved = (
        "# Generated\n*mangle\n:X - [0:0]\nCOMMIT\n"
        "*nat\n:PREROUTING DROP [0:0]\n:MINE - [0:0]\n:KUBE-SVC-OLD - [0:0]\n"
        "-A PREROUTING -j MINE\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SVC-OLD -j RETURN\nCOMMIT\n"
    )
    loaded = iptables.ruleset(plan(), saved=saved).splitlines()
    assert loaded.index("-A PREROUTING -j MINE") < loaded.index(
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    )
    assert ":PREROUTING DROP [0:0]" in loaded
    assert ":PREROUTING ACCEPT [0:0]" not in loaded
    assert "KUBE-SVC-OLD" not in "".join(loaded)
    assert iptables.removal(saved).splitlines()[:7] == [
        "*nat",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        ":PREROUTING DROP [0:0]",
        ":MINE - [0:0]",
        "-A PREROUTING -j MINE",
    ]
    assert iptables.removal("*nat\n:MINE - [0:0]\n") == ""


def test_every_part_offers_the_same_dataplanes() -> None:
    assert {*DATAPLANES, "native"} == set(OFFERED)
    assert set(KERNELS) < set(DATAPLANES)


@pytest.mark.parametrize(
    ("dataplane", "tool"), [("kernel", "nft"), ("kernel-iptables", "iptables-restore")]
)
def test_a_missing_tool_is_named(
    dataplane: str, tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which(tool) is None
    with pytest.raises(NodeError, match=f"needs {tool}: install the package"):
        check(dataplane)
