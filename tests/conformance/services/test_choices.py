"""Which endpoint answers: policies, hints, conditions, affinity, schedulers, redirection."""

from __future__ import annotations

import subprocess
from collections import Counter

import pytest

from pylb.dataplane.features import Feature
from tests.conformance import PYTHON
from tests.conformance.services.conftest import (
    EXTERNAL,
    LB,
    NODE1,
    NODE_PORT,
    TUNNEL1,
    VIP,
    Body,
    ServiceLab,
)

pytestmark = [pytest.mark.root, pytest.mark.tools("curl"), pytest.mark.usefixtures("clean")]


def answers(lab: ServiceLab, who: str, count: int, address: str = VIP, port: int = 80) -> list[str]:
    """Who answers so many connections in turn."""
    status, text = lab.curl(
        who, f"http://{address}:{port}/[1-{count}]", "-H", "Connection: close", wait=20
    )
    assert status == 0, text
    found = [line.removeprefix("hostname=") for line in text.splitlines() if "hostname=" in line]
    assert len(found) == count
    return found


def test_internal_policy_local(lab: ServiceLab) -> None:
    lab.serve("b", "c", "d", internalTrafficPolicy="Local")
    assert set(answers(lab, "a", 20)) == set(answers(lab, "node1", 20)) == {"b"}
    assert set(answers(lab, "c", 40)) == {"c", "d"}
    assert not lab.refused("node3", VIP), "nobody here, but elsewhere: silence"
    assert set(answers(lab, "a", 40, LB)) == {"b", "c", "d"}, "outside addresses are not internal"


def test_hints_keep_to_the_zone_or_the_node(lab: ServiceLab) -> None:
    spec = {"selector": {"app": "web"}, "type": "ClusterIP", "clusterIP": VIP}
    ports = [{"port": 80, "targetPort": "http"}]
    for wanted, from_a, from_c, from_node3 in (
        ("PreferSameZone", "ab", "cd", "cd"),
        ("PreferClose", "ab", "cd", "cd"),
        ("PreferSameNode", "ab", "cd", "cd"),
    ):
        lab.apply(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "near"},
                "spec": {**spec, "ports": ports, "trafficDistribution": wanted},
            }
        )
        assert set(answers(lab, "a", 40)) == set(from_a)
        assert set(answers(lab, "c", 40)) == set(from_c)
        assert set(answers(lab, "node3", 40)) == set(from_node3)


def test_terminating_endpoints_serve_when_no_other_is_left(lab: ServiceLab) -> None:
    lab.serve("b", "c", externalTrafficPolicy="Local")
    lab.apply(lab.endpoints("c", draining=("b",)))
    assert set(answers(lab, "a", 20)) == {"c"}
    assert set(answers(lab, "client", 10, NODE1, NODE_PORT)) == {"b"}, "Local: its own matter"
    lab.apply(lab.endpoints(draining=("b", "c")))
    assert set(answers(lab, "a", 40)) == {"b", "c"}


def test_not_ready_addresses_published(lab: ServiceLab) -> None:
    unready = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "unready", "labels": {"app": "unready"}},
        "spec": {
            "nodeName": "node2",
            "containers": [{"image": "echoserver", "ports": [{"containerPort": 8080}]}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    }
    spec: Body = {"clusterIP": VIP, "selector": {"app": "unready"}, "ports": [{"port": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    lab.apply(unready, {**service, "spec": spec})
    assert lab.refused("a", VIP, 8080)
    lab.apply({**service, "spec": {**spec, "publishNotReadyAddresses": True}})
    status, text = lab.curl("a", f"http://{VIP}:8080/", "--retry", "5", "--retry-connrefused")
    assert (status, "hostname=unready" in text) == (0, True)


# Affinity


def test_a_client_keeps_its_endpoint(lab: ServiceLab) -> None:
    lab.serve("b", "c", "d", sessionAffinity="ClientIP")
    for who in ("a", "client", "node1"):
        assert len(set(answers(lab, who, 20, LB))) == 1
    if not lab.lacks(Feature.SHARED_AFFINITY):
        (one,) = set(answers(lab, "client", 1, LB))
        for address, port in ((LB, 80), (EXTERNAL, 80), (VIP, 80), (NODE1, NODE_PORT)):
            assert set(answers(lab, "client", 5, address, port)) == {one}
    (one,) = set(answers(lab, "client", 1, LB))
    lab.apply(lab.endpoints(*({"b", "c", "d"} - {one})))
    (other,) = set(answers(lab, "client", 10, LB))
    assert other != one


def test_affinity_ends_after_its_timeout_of_silence(lab: ServiceLab) -> None:
    import time

    config = {"clientIP": {"timeoutSeconds": 2}}
    lab.serve("b", "c", "d", sessionAffinity="ClientIP", sessionAffinityConfig=config)
    seen = set()
    for _ in range(8):
        (one,) = set(answers(lab, "a", 5))
        seen.add(one)
        time.sleep(2.5)
    assert len(seen) > 1, "eight throws of three dice alike happen once in 2000"


# Schedulers


def by(lab: ServiceLab, scheduler: str, *pods: str) -> None:
    lab.serve(*pods, annotations={"pylb.io/scheduler": scheduler})


@pytest.mark.parametrize("scheduler", ["random", "rr", "wrr", "lc", "wlc", "mh"])
def test_every_scheduler_uses_every_endpoint(lab: ServiceLab, scheduler: str) -> None:
    by(lab, scheduler, "a", "b", "c", "d")
    assert set(answers(lab, "node1", 80)) == {"a", "b", "c", "d"}


def test_turns_are_taken(lab: ServiceLab) -> None:
    by(lab, "rr", "b", "c", "d")
    found = answers(lab, "a", 30)
    assert Counter(found) == {"b": 10, "c": 10, "d": 10}


def test_weights_count(lab: ServiceLab) -> None:
    """Pod a has weight 3 by its annotation."""
    by(lab, "wrr", "a", "b", "c")
    found = Counter(answers(lab, "d", 100))
    if lab.dataplane == "kernel-iptables":
        assert 40 <= found["a"] <= 80
    else:
        assert found == {"a": 60, "b": 20, "c": 20}


def test_a_client_is_hashed_to_the_same_endpoint_on_every_node(lab: ServiceLab) -> None:
    if lab.dataplane == "kernel-iptables":
        pytest.skip("iptables has no hash")
    by(lab, "sh", "b", "c", "d")
    first = set(answers(lab, "client", 10, NODE1, NODE_PORT))
    assert len(first) == 1
    for node in (1, 2, 3):
        assert set(answers(lab, "client", 5, f"192.168.50.1{node}", NODE_PORT)) == first


def test_the_least_loaded_takes_the_next_connection(lab: ServiceLab) -> None:
    if lab.lacks(Feature.SCHEDULERS):
        pytest.skip("the kernel looks at no loads")
    by(lab, "lc", "b", "c", "d")
    held = [
        subprocess.Popen(
            lab.argv("a", PYTHON, "-c", HOLD, VIP), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    try:
        for each in held:
            assert each.stdout is not None
            assert each.stdout.readline() == b"open\n"
        open_ones = Counter(
            flow["reply"]["src"]
            for flow in lab.daemon("node1").get("/conntrack", dst=VIP)["flows"]
            if flow["state"] == "ESTABLISHED"
        )
        assert sorted(open_ones.values()) == [2, 2, 2]
    finally:
        for each in held:
            each.communicate(b"\n")


HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), timeout=10)
print("open", flush=True)
sys.stdin.readline()
"""


# Redirection


REDIRECT: Body = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumLocalRedirectPolicy",
    "metadata": {"name": "redirect"},
}
TO: Body = {
    "localEndpointSelector": {"matchLabels": {"app": "web"}},
    "toPorts": [{"port": "8080", "protocol": "TCP"}],
}


def test_a_redirected_address_stays_on_its_node(lab: ServiceLab) -> None:
    matcher = {"ip": "10.10.10.10", "toPorts": [{"port": "8000", "protocol": "TCP"}]}
    spec = {"redirectFrontend": {"addressMatcher": matcher}, "redirectBackend": TO}
    lab.apply({**REDIRECT, "spec": spec})
    assert set(answers(lab, "a", 20, "10.10.10.10", 8000)) == {"a", "b"}
    assert set(answers(lab, "node2", 20, "10.10.10.10", 8000)) == {"c", "d"}
    assert lab.ask("node1", "10.10.10.10", 8000)[1] == TUNNEL1
    # Without a pod of its own the packet goes on: the router knows no such address.
    assert lab.curl("node3", "http://10.10.10.10:8000/")[0] in (7, 28)
    lab.apply({**REDIRECT, "spec": {**spec, "skipRedirectFromBackend": True}})
    assert lab.curl("a", "http://10.10.10.10:8000/")[0] in (7, 28)
    assert set(answers(lab, "node1", 20, "10.10.10.10", 8000)) == {"a", "b"}


def test_the_outside_is_redirected_only_where_the_policy_says(lab: ServiceLab) -> None:
    """Another port of a redirected address, which somebody has, is reached as before."""
    matcher = {"ip": "203.0.113.80", "toPorts": [{"port": "8000", "protocol": "TCP"}]}
    lab.apply(
        {
            **REDIRECT,
            "spec": {"redirectFrontend": {"addressMatcher": matcher}, "redirectBackend": TO},
        }
    )
    assert set(answers(lab, "a", 10, "203.0.113.80", 8000)) == {"a", "b"}
    for who in ("a", "node1"):
        status, text = lab.curl(who, "http://203.0.113.80/")
        assert (status, "internet" in text) == (0, True), text


def test_a_redirected_service_is_asked_on_its_node_or_as_ever(lab: ServiceLab) -> None:
    lab.serve("d", type="ClusterIP")
    matcher = {"serviceName": "web", "namespace": "default"}
    to = {
        "localEndpointSelector": {"matchLabels": {"pod": "b"}},
        "toPorts": [{"port": "8080", "protocol": "TCP", "name": "http"}],
    }
    spec = {"redirectFrontend": {"serviceMatcher": matcher}, "redirectBackend": to}
    lab.apply({**REDIRECT, "spec": spec})
    assert set(answers(lab, "a", 10)) == set(answers(lab, "node1", 10)) == {"b"}
    assert set(answers(lab, "c", 10)) == set(answers(lab, "node3", 10)) == {"d"}
    assert lab.ask("b", VIP) == ("b", TUNNEL1), "a hairpin"
    lab.apply({**REDIRECT, "spec": {**spec, "skipRedirectFromBackend": True}})
    assert lab.ask("b", VIP) == ("d", lab.pod("b")), "not to itself: to the Service"
    assert set(answers(lab, "a", 10)) == {"b"}
