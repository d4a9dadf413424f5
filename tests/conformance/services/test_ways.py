"""Every way into a Service, and the address that its endpoint sees."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.conformance.services.conftest import (
    CLIENT,
    EXTERNAL,
    LB,
    NODE1,
    NODE2,
    NODE3,
    NODE_PORT,
    TUNNEL1,
    VIP,
    ServiceLab,
    wait_for,
)

pytestmark = [pytest.mark.root, pytest.mark.tools("curl"), pytest.mark.usefixtures("clean")]

# (who, to which address and port, the only endpoint, policy Local, source that it sees; None: own)
WAYS = [
    ("pod to ClusterIP, same node", "a", VIP, 80, "b", False, None),
    ("pod to ClusterIP, other node", "a", VIP, 80, "c", False, None),
    ("hairpin", "a", VIP, 80, "a", False, TUNNEL1),
    ("host to ClusterIP, other node", "node1", VIP, 80, "c", False, TUNNEL1),
    ("outside to ClusterIP, endpoint here", "client", VIP, 80, "b", False, NODE1),
    ("outside to ClusterIP, endpoint elsewhere", "client", VIP, 80, "c", False, TUNNEL1),
    ("outside to NodePort, endpoint here", "client", NODE1, NODE_PORT, "b", False, NODE1),
    ("outside to NodePort, endpoint elsewhere", "client", NODE1, NODE_PORT, "c", False, TUNNEL1),
    ("outside to NodePort Local", "client", NODE1, NODE_PORT, "b", True, CLIENT),
    ("outside to LoadBalancer, endpoint here", "client", LB, 80, "b", False, NODE1),
    ("outside to LoadBalancer, endpoint elsewhere", "client", LB, 80, "c", False, TUNNEL1),
    ("outside to LoadBalancer Local", "client", LB, 80, "b", True, CLIENT),
    ("outside to external IP", "client", EXTERNAL, 80, "c", False, TUNNEL1),
    ("outside to external IP Local", "client", EXTERNAL, 80, "b", True, CLIENT),
    ("pod to NodePort, same node", "a", NODE1, NODE_PORT, "b", False, NODE1),
    ("pod to NodePort Local, no endpoint here", "a", NODE1, NODE_PORT, "c", True, None),
    ("pod to LoadBalancer, same node", "a", LB, 80, "b", False, NODE1),
    ("pod to LoadBalancer, other node", "a", LB, 80, "c", False, TUNNEL1),
    ("pod to LoadBalancer Local, same node", "a", LB, 80, "b", True, None),
    ("pod to LoadBalancer Local, no endpoint here", "a", LB, 80, "c", True, None),
    ("pod to external IP Local, no endpoint here", "a", EXTERNAL, 80, "c", True, None),
    ("hairpin by LoadBalancer Local", "a", LB, 80, "a", True, TUNNEL1),
    ("host to LoadBalancer", "node1", LB, 80, "c", False, TUNNEL1),
    ("host to LoadBalancer Local, no endpoint here", "node1", LB, 80, "c", True, TUNNEL1),
    ("host to NodePort Local, no endpoint here", "node1", NODE1, NODE_PORT, "c", True, TUNNEL1),
    ("host to loopback NodePort", "node1", "127.0.0.1", NODE_PORT, "c", False, TUNNEL1),
    ("host to loopback NodePort Local", "node1", "127.0.0.1", NODE_PORT, "c", True, TUNNEL1),
]


@pytest.mark.parametrize(
    ("who", "address", "port", "endpoint", "local", "source"),
    [way[1:] for way in WAYS],
    ids=[way[0] for way in WAYS],
)
def test_the_endpoint_sees_what_kubernetes_documents(
    lab: ServiceLab,
    who: str,
    address: str,
    port: int,
    endpoint: str,
    local: bool,
    source: str | None,
) -> None:
    lab.serve(endpoint, externalTrafficPolicy="Local" if local else "Cluster")
    for _ in range(3):
        assert lab.ask(who, address, port) == (endpoint, source or lab.pod(who))


def test_local_without_an_endpoint_here_is_silent_outside_and_counted(lab: ServiceLab) -> None:
    lab.serve("c", externalTrafficPolicy="Local")
    before = lab.counters("node1")["drop_no_local_endpoint"]
    for address, port in ((NODE1, NODE_PORT), (LB, 80), (EXTERNAL, 80)):
        assert not lab.refused("client", address, port)
    if lab.dataplane != "kernel-iptables":
        assert lab.counters("node1")["drop_no_local_endpoint"] >= before + 3
    assert lab.ask("client", NODE2, NODE_PORT) == ("c", CLIENT)


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_without_endpoints_everyone_is_refused_at_once(lab: ServiceLab, policy: str) -> None:
    lab.serve(externalTrafficPolicy=policy, internalTrafficPolicy=policy)
    for who in ("a", "node1", "client"):
        for address, port in ((VIP, 80), (LB, 80), (EXTERNAL, 80), (NODE1, NODE_PORT)):
            assert lab.refused(who, address, port), f"{who} to {address}"


def test_without_endpoints_an_address_of_the_underlay_is_refused_too(lab: ServiceLab) -> None:
    """With Local no node had an endpoint, so none answered for it, and the client waited."""
    address = "192.168.50.200"
    lab.serve(externalTrafficPolicy="Local", loadBalancerIP=address)
    assert lab.refused("client", address)


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_an_endpoint_may_be_a_process_of_the_node(lab: ServiceLab, policy: str) -> None:
    """As the Service kubernetes has it.  On userspace dataplanes it hung: its own node gave the
    flow the node's address as its source too.  nodeName says where it is; it was passed over, so
    that with policy Local it was nowhere.

    The kernel leaves the source as it is, for what is delivered to the node itself passes no
    postrouting.
    """
    serve = (sys.executable, "-m", "pylb.lab.programs.echoserver", "8080/TCP")
    own = {"a": lab.pod("a"), "node1": NODE1, "client": CLIENT}
    kept = lab.dataplane.startswith("kernel")
    with lab.start("node1", *serve) as server:
        try:
            wait_for(lambda: not lab.curl("node1", f"http://{NODE1}:8080/")[0], "it answers")
            lab.serve(externalTrafficPolicy=policy, internalTrafficPolicy=policy)
            given = lab.endpoints()
            given["endpoints"] = [{"addresses": [NODE1], "nodeName": "node1"}]
            lab.apply(given)
            for who, address in own.items():
                for asked, port in ((VIP, 80), (LB, 80), (NODE1, NODE_PORT)):
                    _, seen = lab.ask(who, asked, port)
                    assert seen == (address if kept else TUNNEL1), f"{who} to {asked}"
        finally:
            server.kill()


def test_an_unknown_port_is_refused_at_once(lab: ServiceLab) -> None:
    lab.serve("b")
    for who in ("a", "node1", "client"):
        for address in (VIP, LB, EXTERNAL):
            assert lab.refused(who, address, 81), f"{who} to {address}"


def test_source_ranges(lab: ServiceLab) -> None:
    ranges = [f"{lab.pod('b')}/32", f"{CLIENT}/32"]
    lab.serve("c", loadBalancerSourceRanges=ranges)
    assert lab.ask("client", LB)[0] == lab.ask("b", LB)[0] == "c"
    for who in ("a", "node1"):
        assert not lab.refused(who, LB)
        assert lab.ask(who, EXTERNAL)[0] == "c", "they are the load balancer's alone"
    if lab.dataplane != "kernel-iptables":
        assert lab.counters("node1")["drop_source_range"] >= 2


def test_an_external_ip_may_be_a_nodes_own(lab: ServiceLab) -> None:
    lab.serve("c", externalIPs=[NODE1])
    for who in ("client", "a", "c", "node1"):
        assert lab.ask(who, NODE1)[0] == "c"
    status, text = lab.curl("client", f"http://{NODE1}:10256/healthz")
    assert (status, "currentTime" in text) == (0, True)


# Reaching a virtual address from outside


def test_the_router_spreads_over_the_nodes_that_may_take_it(lab: ServiceLab) -> None:
    """Each connection by its hash; with Local only to nodes that have an endpoint."""
    lab.serve("b", "c", externalTrafficPolicy="Local")
    seen = {lab.ask("internet", LB) for _ in range(24)}
    assert {name for name, _ in seen} == {"b", "c"}
    assert {address for _, address in seen} == {"203.0.113.80"}
    told = lab.run("router", "ip", "route", "show", LB)
    assert NODE1 in told
    assert NODE2 in told
    assert NODE3 not in told
    lab.apply(lab.endpoints("c"))
    assert {lab.ask("internet", LB)[0] for _ in range(8)} == {"c"}
    lab.apply(lab.endpoints())
    status, text = lab.curl("internet", f"http://{LB}/")
    assert status == 7, text


def test_of_the_underlays_own_subnet_one_node_answers(lab: ServiceLab) -> None:
    address = "192.168.50.200"
    lab.serve("b", "c", loadBalancerIP=address, externalTrafficPolicy="Local")
    assert lab.ask("internet", address)[1] == "203.0.113.80"
    assert lab.ask("client", address)[1] == CLIENT
    answering = announcing(lab)
    assert len(answering) == 1
    (other,) = {"node1", "node2"} - set(answering)
    staying = {"node1": "b", "node2": "c"}[other]
    lab.apply(lab.endpoints(staying))
    assert announcing(lab) == [other]
    assert lab.ask("client", address) == (staying, CLIENT), "the neighbour was told at once"


def announcing(lab: ServiceLab) -> list[str]:
    """The nodes that answer ARP, once they have all done what they were told."""
    deadline = time.monotonic() + 5
    while True:
        found = [
            node
            for node in ("node1", "node2", "node3")
            if "192.168.50.200" in lab.run(node, "ip", "neigh", "show", "proxy")
        ]
        if len(found) == 1 or time.monotonic() > deadline:
            return found


def test_the_health_check_port_says_which_nodes_have_endpoints(lab: ServiceLab) -> None:
    lab.serve("b", externalTrafficPolicy="Local", healthCheckNodePort=32122)

    def status(node: str, *more: str) -> tuple[str, str]:
        told = lab.curl("client", f"http://{node}:32122/healthz", "-w", "\n%{http_code}", *more)[1]
        text, _, code = told.strip().rpartition("\n")
        return code, text.strip()

    assert status(NODE1) == ("200", "1 Service Endpoints found")
    assert status(NODE2) == ("503", "No Service Endpoints Found")
    code, text = status(NODE1, "-H", "Accept: application/json")
    assert (code, '"localEndpoints": 1' in text) == ("200", True)
    assert "1 Service Endpoints found" in lab.curl("a", f"http://{NODE1}:32122/")[1]
    assert "1 Service Endpoints found" in lab.curl("node1", "http://127.0.0.1:32122/")[1]
    lab.apply(lab.endpoints("c"))
    assert (status(NODE1)[0], status(NODE2)[0]) == ("503", "200")
    mode = lab.curl("node1", "http://127.0.0.1:10249/proxyMode")[1]
    assert mode == lab.dataplane
    assert '"nodeEligible": true' in lab.curl("client", f"http://{NODE3}:10256/healthz")[1]


def test_names_of_headless_services_are_their_endpoints(lab: ServiceLab) -> None:
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "headless"},
            "spec": {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 8080}]},
        }
    )
    told = subprocess.run(
        lab.argv("a", "getent", "ahostsv4", "headless"), capture_output=True, text=True, check=False
    ).stdout
    assert {line.split()[0] for line in told.splitlines()} == {lab.pod(p) for p in "abcd"}
