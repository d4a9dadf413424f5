"""The memberships of kube-proxy's ipsets, in ipset's layout."""

from __future__ import annotations

from pylb.observe.ipsets import TYPES, ipsets, listing
from tests.unit.observe.listed import CART, EXTERNAL, NODE, OTHER_POD, PLAN, POD, PUBLIC, VIP


def test_every_set_has_what_kube_proxy_would_put_there() -> None:
    members = {each.name: each.members for each in ipsets(PLAN, [CART])}
    assert list(members) == list(TYPES)
    assert members == {
        # Endpoints of this node alone: another's cannot come back to itself here.
        "KUBE-LOOP-BACK": [f"{POD},tcp:8080,{POD}", "10.244.1.3,tcp:90,10.244.1.3"],
        "KUBE-CLUSTER-IP": ["10.96.0.9,udp:53", f"{VIP},tcp:80", "10.96.0.11,tcp:90"],
        "KUBE-EXTERNAL-IP": [f"{EXTERNAL},tcp:80"],
        "KUBE-EXTERNAL-IP-LOCAL": [f"{EXTERNAL},tcp:90"],
        "KUBE-LOAD-BALANCER": [f"{PUBLIC},tcp:90"],
        "KUBE-LOAD-BALANCER-LOCAL": [f"{PUBLIC},tcp:90"],
        "KUBE-LOAD-BALANCER-FW": [f"{PUBLIC},tcp:90"],
        "KUBE-LOAD-BALANCER-SOURCE-IP": [f"{PUBLIC},tcp:90,{PUBLIC}"],
        "KUBE-LOAD-BALANCER-SOURCE-CIDR": [
            f"{PUBLIC},tcp:90,10.0.0.0/8",
            f"{PUBLIC},tcp:90,192.168.50.0/24",
        ],
        "KUBE-NODE-PORT-TCP": ["30080", "30090"],
        "KUBE-NODE-PORT-LOCAL-TCP": ["30090"],
        "KUBE-NODE-PORT-UDP": ["30053"],
        "KUBE-NODE-PORT-LOCAL-UDP": [],
        "KUBE-NODE-PORT-SCTP-HASH": [f"{NODE},sctp:30132"],
        "KUBE-NODE-PORT-LOCAL-SCTP-HASH": [],
        "KUBE-HEALTH-CHECK-NODE-PORT": ["32000"],
        "KUBE-IPVS-IPS": ["10.96.0.9", VIP, "10.96.0.11", EXTERNAL, PUBLIC],
    }
    assert all(OTHER_POD not in member for member in members["KUBE-LOOP-BACK"])


def test_without_the_services_the_rest_is_the_same() -> None:
    alone = {each.name: each.members for each in ipsets(PLAN)}
    told = {each.name: each.members for each in ipsets(PLAN, [CART])}
    assert {name for name in TYPES if alone[name] != told[name]} == {
        "KUBE-LOAD-BALANCER-FW",
        "KUBE-LOAD-BALANCER-SOURCE-IP",
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "KUBE-HEALTH-CHECK-NODE-PORT",
    }


def test_source_ranges_of_a_plan_need_no_service() -> None:
    frontends = [{**f, "sources": ["10.0.0.0/8"]} for f in PLAN["frontends"]]
    members = {each.name: each.members for each in ipsets({**PLAN, "frontends": frontends})}
    assert members["KUBE-LOAD-BALANCER-SOURCE-CIDR"] == [f"{PUBLIC},tcp:90,10.0.0.0/8"]
    assert members["KUBE-LOAD-BALANCER-SOURCE-IP"] == []


def test_ranges_are_spelled_as_ipset_keeps_them() -> None:
    ranges = [" 172.30.0.253/32", "10.1.2.3/8", "10.9.9.9"]
    frontends = [{**f, "sources": ranges} for f in PLAN["frontends"]]
    members = {each.name: each.members for each in ipsets({**PLAN, "frontends": frontends})}
    assert members["KUBE-LOAD-BALANCER-SOURCE-CIDR"] == [
        f"{PUBLIC},tcp:90,10.0.0.0/8",
        f"{PUBLIC},tcp:90,10.9.9.9",
        f"{PUBLIC},tcp:90,172.30.0.253",
    ]


def test_a_redirected_cluster_ip_is_one_all_the_same() -> None:
    frontends = [{**PLAN["frontends"][2], "kind": "LOCAL_REDIRECT"}]
    members = {each.name: each.members for each in ipsets({**PLAN, "frontends": frontends})}
    assert {name: some for name, some in members.items() if some} == {
        "KUBE-CLUSTER-IP": [f"{VIP},tcp:80"],
        "KUBE-IPVS-IPS": [VIP],
    }


def test_listing() -> None:
    wanted = ("KUBE-CLUSTER-IP", "KUBE-NODE-PORT-TCP")
    sets = [each for each in ipsets(PLAN) if each.name in wanted]
    assert listing(sets) == (
        "Name: KUBE-CLUSTER-IP\n"
        "Type: hash:ip,port\n"
        "Revision: 6\n"
        "Header: family inet hashsize 1024 maxelem 65536\n"
        "Size in memory: 0\n"
        "References: 0\n"
        "Number of entries: 3\n"
        "Members:\n"
        "10.96.0.9,udp:53\n"
        "10.96.0.10,tcp:80\n"
        "10.96.0.11,tcp:90\n"
        "\n"
        "Name: KUBE-NODE-PORT-TCP\n"
        "Type: bitmap:port\n"
        "Revision: 3\n"
        "Header: range 0-65535\n"
        "Size in memory: 0\n"
        "References: 0\n"
        "Number of entries: 2\n"
        "Members:\n"
        "30080\n"
        "30090"
    )
    assert listing(sets, terse=True).splitlines()[-1] == "Number of entries: 2"
