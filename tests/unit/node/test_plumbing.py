"""What plumbing wants of a plan, without a kernel."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pylb.node.errors import NodeError
from pylb.node.plumbing import Names, affects, record, routes, rules, sysctls
from pylb.node.plumbing.neighbours import gratuitous
from pylb.node.plumbing.record import Record
from pylb.node.plumbing.targets import targets
from pylb.plan.tables import Delta, FrontendKind, OverlayTable, Plan, Prefix
from tests.unit.node.plans import frontend, ip, peer, plan, prefix

INSIDE = frontend("10.96.0.10", 80)
NODE_PORT = frontend("192.168.7.1", 30080, FrontendKind.NODE_PORT)
OUTSIDE_VIP = frontend("203.0.113.9", 80, FrontendKind.LOAD_BALANCER)
OWN_ADDRESS = frontend("192.168.7.1", 443, FrontendKind.EXTERNAL_IP)
PEERS_ADDRESS = frontend("192.168.7.2", 443, FrontendKind.EXTERNAL_IP)


def wanted_rules(of: Plan) -> list[str]:
    return [str(rule) for rule in rules.desired(of, Names(), targets(of))]


def test_ordinary_frontends_need_nothing_of_their_own() -> None:
    assert targets(plan(INSIDE, NODE_PORT)) == ((prefix("10.96.0.0/12"),), (), ())


def test_a_vip_outside_the_service_cidr_is_captured_whole() -> None:
    assert targets(plan(OUTSIDE_VIP)).vips == (
        prefix("10.96.0.0/12"),
        Prefix(ip("203.0.113.9"), 32),
    )
    assert "130: iif eth0 to 203.0.113.9/32 lookup 100" in wanted_rules(plan(OUTSIDE_VIP))
    assert "140: iif lo to 203.0.113.9/32 lookup 100" in wanted_rules(plan(OUTSIDE_VIP))


def test_of_an_address_that_a_node_has_only_the_port_is_captured() -> None:
    of = plan(OWN_ADDRESS, PEERS_ADDRESS)
    assert targets(of).vips == (prefix("10.96.0.0/12"),)
    text = wanted_rules(of)
    assert "115: iif eth0 to 192.168.7.1/32 ipproto 6 dport 443-443 lookup 100" in text
    assert "155: iif lo to 192.168.7.1/32 ipproto 6 dport 443-443 lookup 100" in text
    assert "155: iif lo to 192.168.7.2/32 ipproto 6 dport 443-443 lookup 100" in text
    assert not [rule for rule in text if "iif eth0 to 192.168.7.2" in rule]
    guards = {route.dst for route in routes.desired(of, targets(of), 2, 3) if not route.oif}
    assert Prefix(ip("192.168.7.2"), 32) not in guards


def test_of_a_redirected_address_only_the_port_is_captured_and_only_inside() -> None:
    of = plan(frontend("10.10.10.10", 8080, FrontendKind.LOCAL_REDIRECT))
    assert targets(of).vips == (prefix("10.96.0.0/12"),)
    text = wanted_rules(of)
    assert "155: iif lo to 10.10.10.10/32 ipproto 6 dport 8080-8080 lookup 100" in text
    assert not [rule for rule in text if "iif eth0 to 10.10.10.10" in rule]


def test_what_is_announced_is_answered_for() -> None:
    ours = OUTSIDE_VIP._replace(announced=True)
    assert targets(plan(ours)).announced == (ip("203.0.113.9"),)
    assert targets(plan(OUTSIDE_VIP)).announced == ()
    assert affects(plan(OUTSIDE_VIP), Delta(frontends={ours.key: ours}))
    assert not affects(plan(ours), Delta(frontends={ours.key: ours}))


def test_a_gratuitous_arp_request() -> None:
    """RFC 5227: sender and target are the address announced, to everyone."""
    mac = bytes.fromhex("020000000001")
    frame = gratuitous(mac, ip("192.0.2.1"))
    assert frame[:14].hex() == "ffffffffffff" + mac.hex() + "0806"
    assert frame[14:].hex() == "0001080006040001" + mac.hex() + "c0000201" + "00" * 6 + "c0000201"


def test_the_way_to_the_local_table_comes_before_what_jumps_to_it() -> None:
    first, second = wanted_rules(plan())[:2]
    assert first == "1000: lookup 255"
    assert second == "10: iif pylb0 goto 1000"


def test_rules_of_one_priority_do_not_repeat() -> None:
    text = wanted_rules(plan(INSIDE, NODE_PORT, OUTSIDE_VIP, OWN_ADDRESS, PEERS_ADDRESS))
    assert len(text) == len(set(text))


def test_no_port_range_ends_where_the_kernel_refuses_it() -> None:
    made = rules.desired(plan(), Names(), targets(plan()))
    assert all(rule.ports is None or rule.ports[1] < 65535 for rule in made)


def test_host_gw_routes_pods_of_peers_and_others_guard_them() -> None:
    direct = plan(overlay=OverlayTable("host-gw", 0, 1, b"\x02\x50\0\0\0\1", 1500))
    [to_peer] = [r for r in routes.desired(direct, targets(direct), 2, 3) if r.gateway]
    assert str(to_peer) == "10.244.2.0/24 via 192.168.7.2 oif 3 table 254"
    tunnelled = [str(r) for r in routes.desired(plan(), targets(plan()), 2, 3)]
    assert "unreachable 10.244.2.0/24 table 254" in tunnelled


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        (Delta(), False),
        (Delta(frontends={INSIDE.key: INSIDE}), False),
        (Delta(frontends={NODE_PORT.key: NODE_PORT}), False),
        (Delta(pods={ip("10.244.1.9"): "default/web"}), False),
        (Delta(frontends={OUTSIDE_VIP.key: OUTSIDE_VIP}), False),
        (Delta(frontends={OUTSIDE_VIP.key: None}), True),
        (Delta(frontends={OWN_ADDRESS.key: OWN_ADDRESS}), True),
        (Delta(peers={"node3": peer(3)}), True),
        (Delta(replace=plan()), True),
    ],
)
def test_which_deltas_concern_the_plumbing(delta: Delta, expected: bool) -> None:
    assert affects(plan(OUTSIDE_VIP), delta) is expected


def test_a_record_survives_and_one_of_another_namespace_does_not(tmp_path: Path) -> None:
    path = tmp_path / "plumbing.json"
    kept = Record(sysctls={"a": "1"}, clsact=["eth0"], fragments={"eth0": [1, 2, 3]})
    record.save(path, kept)
    assert path.stat().st_mode & 0o777 == 0o600
    assert record.load(path) == kept
    path.write_text(json.dumps(json.loads(path.read_text()) | {"namespace": "0:0"}))
    assert record.load(path) == Record()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"namespace": 1}', '{"surprise": 1}'])
def test_a_damaged_record_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "plumbing.json").write_text(text)
    assert record.load(tmp_path / "plumbing.json") == Record()
    assert record.load(tmp_path / "absent") == Record()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "ipv4").mkdir()
    (tmp_path / "ipv4/ip_forward").write_text("0\n")
    (tmp_path / "ipv4/ip_local_port_range").write_text("32768\t60999\n")
    return tmp_path


def test_sysctls_are_set_once_and_put_back(proc: Path) -> None:
    notes = Record()
    settings = [("ipv4/ip_forward", "1"), ("ipv4/ip_local_port_range", "32768 60999")]
    assert len(sysctls.apply(settings, notes, proc)) == 1
    assert sysctls.apply(settings, notes, proc) == []
    assert notes.sysctls == {"ipv4/ip_forward": "0"}
    sysctls.clean(notes, proc)
    assert (proc / "ipv4/ip_forward").read_text() == "0"
    assert notes == Record()


def test_the_first_value_is_the_one_put_back(proc: Path) -> None:
    notes = Record()
    sysctls.apply([("ipv4/ip_forward", "1")], notes, proc)
    sysctls.apply([("ipv4/ip_forward", "2")], notes, proc)
    assert notes.sysctls == {"ipv4/ip_forward": "0"}


def test_a_missing_sysctl_is_an_error_unless_its_module_is_optional(proc: Path) -> None:
    assert sysctls.apply([("bridge/bridge-nf-call-iptables", "0")], Record(), proc) == []
    with pytest.raises(NodeError, match="sysctl net/ipv4/no_such_thing is not there"):
        sysctls.apply([("ipv4/no_such_thing", "0")], Record(), proc)


def test_sysctls_of_links_that_are_gone_are_passed_over(proc: Path) -> None:
    assert sysctls.clean(Record(sysctls={"ipv4/conf/gone0/rp_filter": "1"}), proc) == []


def test_a_moved_pod_subnet_moves_every_rule() -> None:
    moved = replace(plan(), pod_cidr=prefix("10.9.0.0/24"), bridge_ip=ip("10.9.0.1"))
    assert not [rule for rule in wanted_rules(moved) if "10.244.1.1/32" in rule]
    assert "102: iif cni0 to 10.9.0.0/24 lookup 254" in wanted_rules(moved)
