"""`pylb trace`: who is meant, which daemon is asked, and how the answer looks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pylb.cli.main import main
from pylb.control.http import Request
from pylb.dataplane.base import FlowTuple, FlowView
from pylb.observe.flowjson import flow_to_json
from pylb.plan.tables import Backend, FrontendKind, Peer
from tests.unit.dataplane.net import (
    CLIENT,
    MAC,
    NODE,
    PEER_MAC,
    POD_A,
    POD_REMOTE,
    TCP,
    TUNNEL,
    VIP,
    backend,
    frontend,
    ip,
    plan,
    prefix,
)

from .conftest import Lab

PUBLIC = ip("198.51.100.10")
BOTH = [backend(POD_A), backend(POD_REMOTE)]
PLAN = replace(
    plan(
        frontend(VIP, 80, BOTH, TCP)._replace(affinity=60),
        frontend(PUBLIC, 80, BOTH, TCP, FrontendKind.LOAD_BALANCER),
        frontend(VIP, 81, [Backend(ip("203.0.113.99"), 81)], TCP, service="default/far"),
    ),
    cluster_pods={"default/a": POD_A, "shop/cart": POD_REMOTE},
)
FLOW = FlowView(
    1,
    FlowTuple(CLIENT, PUBLIC, TCP, 40001, 80),
    FlowTuple(POD_REMOTE, TUNNEL, TCP, 8080, 40001),
    *(100, "ESTABLISHED", True, True, (3, 2), (180, 120)),
)


@pytest.fixture
def nodes(lab: Lab) -> Lab:
    """node1 with PLAN, and node2 with what there is to know about node1."""
    other = replace(
        plan(),
        node="node2",
        node_ip=ip("192.168.50.12"),
        bridge_ip=ip("10.244.2.1"),
        tunnel_ip=ip("10.244.2.0"),
        pod_cidr=prefix("10.244.2.0/24"),
        peers={"node1": Peer("node1", NODE, prefix("10.244.1.0/24"), MAC)},
        overlay=plan().overlay._replace(mac=PEER_MAC),
        pods={},
    )

    def flows(request: Request) -> dict[str, object]:
        asked = request.query.get("sport") in (None, "40001")
        wanted = request.query["dst"] == "198.51.100.10/32" and asked
        return {"flows": [flow_to_json(FLOW)] if wanted else []}

    lab.daemon("node1", {"GET /plan": PLAN.to_json(), "GET /conntrack": flows})
    lab.daemon("node2", {"GET /plan": other.to_json(), "GET /conntrack": {"flows": []}})
    return lab


def test_a_balanced_flow(nodes: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "192.168.50.253", "198.51.100.10:80", "--node", "node1"]) == 0
    assert capsys.readouterr() == (
        "packet      tcp 192.168.50.253 -> 198.51.100.10:80, from outside, at node1\n"
        "frontend    LoadBalancer of default/web, externalTrafficPolicy Cluster\n"
        "sets        KUBE-LOAD-BALANCER\n"
        "masquerade  yes\n"
        "verdict     balanced by rr\n"
        "\n"
        "BACKEND           NODE    SEES\n"
        "10.244.1.2:8080   node1   192.168.50.11\n"
        "10.244.2.2:8080   node2   10.244.1.0\n"
        "\n"
        "FLOW                   BACKEND           SEES               STATE\n"
        "192.168.50.253:40001   10.244.2.2:8080   10.244.1.0:40001   ESTABLISHED\n",
        "",
    )
    assert main(["trace", "192.168.50.253:40002", "198.51.100.10:80", "--node", "node1"]) == 0
    assert "FLOW" not in capsys.readouterr().out


def test_names_say_where_a_flow_begins(nodes: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "a", "web:80"]) == 0
    out = capsys.readouterr().out
    assert "packet      tcp 10.244.1.2 -> 10.96.0.10:80, of a pod, at node1\n" in out
    assert "frontend    ClusterIP of default/web\n" in out
    assert "masquerade  for some backends\n" in out
    assert "verdict     balanced by rr, affinity 60 s\n" in out
    assert main(["trace", "shop/cart", "a:80"]) == 0
    assert "-> 10.244.1.2:80, of a pod, at node2\n" in capsys.readouterr().out
    assert main(["trace", "node2", "10.96.0.10:80"]) == 0
    assert ", of the node itself, at node2\n" in capsys.readouterr().out
    assert main(["trace", "a", "far:81"]) == 0
    assert "203.0.113.99:81   <none>   192.168.50.11\n" in capsys.readouterr().out


def service(name: str, namespace: str = "default", **spec: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def told(request: Request) -> dict[str, object]:
    """What a controller knows that no plan says."""
    if request.query["kind"] == "Lab":
        underlay = {"client": "192.168.50.253", "router": "192.168.50.254"}
        hosts = [{"name": "internet", "ip": "203.0.113.80"}]
        return {"objects": [{"spec": {"underlay": underlay, "outsideHosts": hosts}}]}
    services = [
        service("db", clusterIP="None"),
        service("db", "shop", type="ExternalName", externalName="db.example"),
    ]
    wanted = request.query["namespace"]
    return {"objects": [s for s in services if s["metadata"]["namespace"] == wanted]}  # type: ignore[index]


def test_places_outside_have_names_too(nodes: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.controller({"GET /objects": told})
    assert main(["trace", "client:40001", "198.51.100.10:80", "--node", "node1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "packet      tcp 192.168.50.253 -> 198.51.100.10:80, from outside, at node1\n"
    )
    assert "192.168.50.253:40001   10.244.2.2:8080 " in out
    assert main(["trace", "router", "192.168.50.11:22"]) == 0
    assert "tcp 192.168.50.254 -> 192.168.50.11:22, from outside, at" in capsys.readouterr().out
    assert main(["trace", "a", "internet:53", "-p", "udp"]) == 0
    assert "udp 10.244.1.2 -> 203.0.113.80:53, of a pod, at node1" in capsys.readouterr().out
    socket = str(nodes.paths.node("node1").api)
    assert main(["trace", "client", "198.51.100.10:80", "--socket", socket]) == 1
    assert capsys.readouterr().err == (
        "pylb: 'client' is no IPv4 address, and no pod, node or outside host has this name\n"
    )


def test_a_service_without_an_address_is_named_so(
    nodes: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes.controller({"GET /objects": told})
    for name in ("db", "default/db"):
        assert main(["trace", "a", f"{name}:80"]) == 1
        assert capsys.readouterr().err == (
            f"pylb: Service {name!r} is headless and has no address: name one of its pods\n"
        )
    assert main(["trace", "a", "shop/db:80"]) == 1
    assert capsys.readouterr().err == (
        "pylb: Service 'shop/db' is of type ExternalName and has no address\n"
    )
    assert main(["trace", "a", "shop/nothing:80"]) == 1
    assert "no Service, pod, node or outside host has this name" in capsys.readouterr().err


def test_what_is_not_balanced(nodes: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "a", "web:443"]) == 0
    assert capsys.readouterr().out == (
        "packet      tcp 10.244.1.2 -> 10.96.0.10:443, of a pod, at node1\n"
        "frontend    -\n"
        "sets        -\n"
        "masquerade  -\n"
        "verdict     rejected, counted as drop_no_such_frontend\n"
    )
    assert main(["trace", "a", "203.0.113.80:53", "-p", "udp"]) == 0
    assert capsys.readouterr().out.endswith(
        "masquerade  yes\nverdict     tracked, from 192.168.50.11\n"
    )
    assert main(["trace", "192.168.50.253", "192.168.50.11:22"]) == 0
    assert capsys.readouterr().out.endswith("masquerade  -\nverdict     untracked\n")


def test_as_json(nodes: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--node", "node1", "-o", "json"]
    assert main(["trace", "192.168.50.253", "198.51.100.10:80", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"] == ["KUBE-LOAD-BALANCER"]
    assert [b["node"] for b in found["backends"]] == ["node1", "node2"]
    assert [flow["id"] for flow in found["flows"]] == [1]


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["192.168.50.253", "10.96.0.10:80"], 2, "may come to any node: say which with --node"),
        (["nobody", "10.96.0.10:80"], 1, "'nobody' is no IPv4 address, and no pod, node or outs"),
        (["a", "nothing:80"], 1, "'nothing' is no IPv4 address, and no Service, pod, node"),
        (["a", "web"], 2, "'web': expected a port too, as in 10.96.0.10:80"),
        (["a", "web:0"], 2, "'web:0': expected NAME:PORT, with a port from 1 to 65535"),
        (["a", "web:65536"], 2, "'web:65536': expected NAME:PORT"),
        (["a", "web:http"], 2, "'web:http': expected NAME:PORT"),
    ],
)
def test_what_cannot_be_traced(
    nodes: Lab,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    error: str,
) -> None:
    assert main(["trace", *words]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert error in err
