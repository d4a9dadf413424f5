"""`pylb service list`, `ipvs`, `sets`, `counters`: options, documents, errors, not the layouts."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from pylb.cli.main import main
from pylb.control.http import Request
from pylb.observe.flowjson import flow_to_json
from tests.unit.observe.listed import CART, FLOWS, NODE, PLAN, PUBLIC, VIP

from .conftest import Lab

SERVICES = {
    "frontends": [
        {
            "address": "10.96.0.10",
            "port": 80,
            "protocol": 6,
            "kind": "CLUSTER_IP",
            "service": "default/web:http",
            "active": [0],
            "other": [],
            "backends": [
                {"address": "10.244.1.2", "port": 8080, "state": "ACTIVE"},
                {"address": "10.244.2.2", "port": 8080, "state": "DRAINING"},
            ],
        },
        {
            "address": "127.0.0.1",
            "port": 30053,
            "protocol": 17,
            "kind": "NODE_PORT",
            "service": "default/dns",
            "active": [],
            "other": [],
            "backends": [],
        },
    ]
}


def test_service_list(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", {"GET /plan": SERVICES})
    for word in ("list", "ls"):
        assert main(["service", word]) == 0
        assert capsys.readouterr() == (
            "ID   Frontend            Service Type   Backend\n"
            "1    10.96.0.10:80/TCP   ClusterIP      1 => 10.244.1.2:8080/TCP (active)\n"
            "                                        2 => 10.244.2.2:8080/TCP (terminating)\n"
            "2    0.0.0.0:30053/UDP   NodePort\n",
            "",
        )
    assert main(["service", "list", "-o", "json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["node"] == "node1"
    assert document["services"][1] == {
        "id": 2,
        "frontend": "0.0.0.0:30053/UDP",
        "type": "NodePort",
        "service": "default/dns",
        "backends": [],
    }
    assert main(["service", "list", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == [document]


def test_service_list_leaves_out_what_a_policy_leaves_to_other_nodes(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """internalTrafficPolicy Local; externalTrafficPolicy Local, which is for outside alone."""
    backends = [{"address": f"10.244.{n}.2", "port": 80, "state": "ACTIVE"} for n in (1, 2)]
    inside = {**SERVICES["frontends"][0], "backends": backends}
    outside = {**inside, "address": "192.0.2.1", "kind": "LOAD_BALANCER", "other": [0, 1]}
    lab.daemon("node1", {"GET /plan": {"frontends": [inside, outside]}})
    lab.controller({"GET /objects": {"objects": []}})
    assert main(["service", "list", "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)[0]["services"]
    assert [[b["address"] for b in entry["backends"]] for entry in listed] == [
        ["10.244.1.2:80/TCP"],
        ["10.244.1.2:80/TCP", "10.244.2.2:80/TCP"],
    ]


def test_service_list_has_every_type(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", {"GET /plan": PLAN})
    lab.controller({"GET /objects": {"objects": [CART]}})
    assert main(["service", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split("   ") for line in out.splitlines()[1:] if not line.startswith(" ")]
    types = [[cell.strip() for cell in row if cell][1:3] for row in rows]
    assert types == [
        ["0.0.0.0:30080/TCP", "NodePort"],
        [f"{NODE}:30080/TCP", "NodePort"],
        [f"{VIP}:80/TCP", "ClusterIP"],
        ["10.96.0.9:53/UDP", "ClusterIP"],
        [f"{NODE}:30053/UDP", "NodePort"],
        ["10.96.0.11:90/TCP", "ClusterIP"],
        [f"{NODE}:30090/TCP", "NodePort"],
        [f"{PUBLIC}:90/TCP", "LoadBalancer"],
        ["198.51.100.7:80/TCP", "ExternalIPs"],
        ["198.51.100.7:90/TCP", "ExternalIPs"],
        ["169.254.20.10:80/TCP", "LocalRedirect"],
        [f"{NODE}:30132/SCTP", "NodePort"],
        [f"{NODE}:32000/TCP", "HealthCheck"],
    ]


def test_several_nodes_and_one_that_is_gone(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for node in ("node1", "node3"):
        lab.daemon(node, {"GET /plan": PLAN, "GET /conntrack": {"flows": []}})
    lab.controller({"GET /objects": {"objects": []}})
    lab.paths.node("node2").api.parent.mkdir(parents=True)
    for command in (["service", "list"], ["ipvs", "-ln"], ["sets"]):
        assert main(command) == 1
        out, err = capsys.readouterr()
        assert [line for line in out.splitlines() if line.startswith("#")] == ["# node1", "# node3"]
        assert out.count("\n\n# node3\n") == 1
        assert err.startswith("pylb: no daemon of node 'node2' answers at ")
        assert main([*command, "--node", "node3"]) == 0
        assert "#" not in capsys.readouterr().out
    assert main(["ipvs", "-ln", "--node", "nope"]) == 1
    assert "has no node 'nope': expected node1, node2, node3" in capsys.readouterr().err


@pytest.fixture
def node(lab: Lab) -> Lab:
    flows = {"flows": [flow_to_json(flow) for flow in FLOWS]}
    lab.daemon("node1", {"GET /plan": PLAN, "GET /conntrack": flows})
    lab.controller({"GET /objects": {"objects": [CART]}})
    return lab


def test_ipvs(node: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ipvs", "-ln", "-t", f"{VIP}:80"]) == 0
    assert capsys.readouterr().out == (
        "IP Virtual Server version 1.2.1 (size=4096)\n"
        "Prot LocalAddress:Port Scheduler Flags\n"
        "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        "TCP  10.96.0.10:80 rr\n"
        "  -> 10.244.1.2:8080              Masq    1      1          1         \n"
        "  -> 10.244.2.9:8080              Masq    1      1          0         \n"
    )
    assert main(["ipvs", "-Lnc", "-u", "10.96.0.9:53"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "UDP 7199:59 UDP         10.244.1.7:40004   10.96.0.9:53       10.244.2.9:53"
    ]
    assert main(["ipvs", "-ln", "--stats"]) == 0
    assert (
        "TCP  10.96.0.10:80                       3       11        8     1060     8000\n"
        in capsys.readouterr().out
    )
    assert main(["ipvs", "-o", "json", "-t", f"{VIP}:80"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "node": "node1",
            "services": [
                {
                    "protocol": "TCP",
                    "address": f"{VIP}:80",
                    "scheduler": "rr",
                    "persistent": 0,
                    "servers": [
                        {
                            "address": "10.244.1.2:8080",
                            "forward": "Masq",
                            "weight": 1,
                            "activeConn": 1,
                            "inActConn": 1,
                            "counts": _counts(2, 10, 8, 1000, 8000),
                        },
                        {
                            "address": "10.244.2.9:8080",
                            "forward": "Masq",
                            "weight": 1,
                            "activeConn": 1,
                            "inActConn": 0,
                            "counts": _counts(1, 1, 0, 60, 0),
                        },
                    ],
                    "counts": _counts(3, 11, 8, 1060, 8000),
                }
            ],
        }
    ]


def _counts(*values: int) -> dict[str, int]:
    names = ("conns", "in_packets", "out_packets", "in_bytes", "out_bytes")
    return dict(zip(names, values, strict=True))


def test_ipvs_of_one_service(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    none = {**PLAN, "frontends": []}
    lab.daemon("node1", {"GET /plan": PLAN, "GET /conntrack": {"flows": []}})
    lab.daemon("node2", {"GET /plan": none, "GET /conntrack": {"flows": []}})
    for options in ([], ["--stats"], ["-o", "json"]):
        assert main(["ipvs", "-ln", "-t", "1.2.3.4:80", *options]) == 1
        assert capsys.readouterr() == ("", "No such service\n")
    assert main(["ipvs", "-ln", "-u", f"{VIP}:80"]) == 1
    capsys.readouterr()
    # One that only some nodes have is not missing.
    assert main(["ipvs", "-ln", "-t", f"{VIP}:80"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("IP Virtual Server"), out.count(f"TCP  {VIP}:80"), err) == (1, 1, "")


def test_ipvs_rate(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter((FLOWS[:1], FLOWS[:3]))

    def flows(request: Request) -> dict[str, Any]:
        return {"flows": [flow_to_json(flow) for flow in next(looks)]}

    lab.daemon("node1", {"GET /plan": PLAN, "GET /conntrack": flows})
    assert main(["ipvs", "-ln", "--rate", "--interval", "0.01", "-t", f"{VIP}:80"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS",
        "  -> RemoteAddress:Port",
        "TCP  10.96.0.10:80                     200      600      400    56000   400000",
        "  -> 10.244.1.2:8080                   100      500      400    50000   400000",
        "  -> 10.244.2.9:8080                   100      100        0     6000        0",
    ]
    assert main(["ipvs", "--rate", "--interval", "0"]) == 2
    assert capsys.readouterr().err == "pylb: --interval 0: expected more than 0\n"


def test_sets(node: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sets", "KUBE-LOAD-BALANCER-SOURCE-CIDR"]) == 0
    assert capsys.readouterr().out == (
        "Name: KUBE-LOAD-BALANCER-SOURCE-CIDR\n"
        "Type: hash:ip,port,net\n"
        "Revision: 8\n"
        "Header: family inet hashsize 1024 maxelem 65536\n"
        "Size in memory: 0\n"
        "References: 0\n"
        "Number of entries: 2\n"
        "Members:\n"
        "203.0.113.200,tcp:90,10.0.0.0/8\n"
        "203.0.113.200,tcp:90,192.168.50.0/24\n"
    )
    assert main(["sets", "-n"]) == 0
    assert "KUBE-LOOP-BACK\nKUBE-CLUSTER-IP\n" in capsys.readouterr().out
    assert main(["sets", "-t", "KUBE-CLUSTER-IP"]) == 0
    assert capsys.readouterr().out.endswith("Number of entries: 3\n")
    assert main(["sets", "KUBE-HEALTH-CHECK-NODE-PORT", "-o", "json"]) == 0
    found = {"name": "KUBE-HEALTH-CHECK-NODE-PORT", "type": "bitmap:port", "members": ["32000"]}
    assert json.loads(capsys.readouterr().out) == [{"node": "node1", "sets": [found]}]
    assert main(["sets", "KUBE-NOPE"]) == 1
    assert capsys.readouterr().err.startswith(
        "pylb: there is no set 'KUBE-NOPE': expected one of KUBE-LOOP-BACK, KUBE-CLUSTER-IP, "
    )


def test_without_a_controller_what_only_it_knows_is_left_out(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.daemon("node1", {"GET /plan": PLAN})
    assert main(["sets", "KUBE-LOAD-BALANCER-FW"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("Members:\n")
    assert err.endswith("is it running?: health checks and source ranges are left out\n")
    # A daemon outside a lab has none, and plans without load balancers need none.
    assert main(["sets", "--socket", str(lab.paths.node("node1").api)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["service", "list", "--socket", str(lab.paths.node("node1").api)]) == 0
    assert "HealthCheck" not in capsys.readouterr().out


def test_a_plan_of_many_frontends_is_listed_once_each(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = copy.deepcopy(PLAN)
    one = plan["frontends"][2]
    plan["frontends"] = [{**one, "port": port} for port in range(1, 1001)]
    lab.daemon("node1", {"GET /plan": plan, "GET /conntrack": {"flows": []}})
    assert main(["ipvs", "-ln"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 + 1000 * 3


def _counting(lab: Lab) -> None:
    lab.daemon("node1", {"GET /counters": {"counters": {"drop_too_big": 0, "new": 7}}})
    lab.daemon("node2", {"GET /counters": {"counters": {"drop_too_big": 12, "new": 0}}})


def test_counters(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    _counting(lab)
    assert main(["counters"]) == 0
    assert capsys.readouterr().out == (
        "NODE    COUNTER        VALUE\nnode1   new            7\nnode2   drop_too_big   12\n"
    )
    assert main(["counters", "drop_*", "--all"]) == 0
    assert capsys.readouterr().out == (
        "NODE    COUNTER        VALUE\nnode1   drop_too_big   0\nnode2   drop_too_big   12\n"
    )
    assert main(["counters", "new", "drop_*", "--node", "node2", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"node": "node2", "counters": {"drop_too_big": 12}}
    ]


def test_a_counter_that_nobody_has(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    _counting(lab)
    assert main(["counters", "drop_too_bgi"]) == 1
    assert "'drop_too_bgi'" in capsys.readouterr().err
