"""A daemon whose dataplane is the kernel: the same API, and what it leaves behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pylb.dataplane.base import EventKind, FlowView
from pylb.observe.conntrack import Style, flow_line
from pylb.observe.flowjson import event_from_json, flow_from_json
from tests.netns.node.world import CLIENT_IP, NODE_IP, Daemon, World, until
from tests.unit.node import cluster

pytestmark = [pytest.mark.root, pytest.mark.tools("nft", "conntrack", "iptables-restore")]

VIP = "10.96.0.10"


@pytest.fixture
def node(here: World) -> World:
    """A daemon's surroundings: two pods, of which .2 serves."""
    here.node.sh("ip link add cni0 type bridge; ip link set cni0 up")
    server = here.pod(2)
    here.serve(server, 8080, "web")
    here.serve(server, 53, "dns", "udp")
    return here


def policy(folder: Path, *backends: str, protocol: str = "TCP", port: int = 8080) -> None:
    service = cluster.service("web", VIP)
    slice_ = cluster.endpoints("web", *backends, port=port)
    for each in (service["spec"]["ports"][0], slice_["ports"][0]):
        each["protocol"] = protocol
    bodies = cluster.cluster(service, slice_)
    (folder / "cluster.yaml").write_text("\n---\n".join(map(json.dumps, bodies)))


def flows(daemon: Daemon, **query: Any) -> list[FlowView]:
    return [flow_from_json(each) for each in daemon.api.get("/conntrack", **query)["flows"]]


@pytest.mark.parametrize("dataplane", ["kernel", "kernel-notrack", "kernel-iptables"])
def test_it_serves_and_ends_leaving_its_rules(node: World, dataplane: str) -> None:
    policy(node.folder, "10.244.1.2")
    daemon = node.daemon("--dataplane", dataplane)
    asking = node.pod(3)
    assert node.ask(asking, VIP, 80) == "web 10.244.1.3"
    assert node.ask(node.client, VIP, 80) == f"web {NODE_IP}"
    assert node.ask(node.node, VIP, 80) == "web 10.244.1.0"
    health = daemon.api.get("/healthz")
    assert (health["dataplane"], health["overlay"]) == (dataplane, "vxlan")
    assert daemon.end() == 0
    assert node.ask(asking, VIP, 80) == "web 10.244.1.3"
    done = node.run_daemon("--clean")
    assert done.returncode == 0, done.stderr
    assert node.no_answer(asking, VIP, 80)
    left = node.node.sh("nft list ruleset; iptables-save; ip route; ip link").stdout
    assert "pylb" not in left
    assert "KUBE" not in left


def test_conntrack_says_what_the_tool_says(node: World) -> None:
    policy(node.folder, "10.244.1.2")
    daemon = node.daemon("--dataplane", "kernel")
    node.ask(node.pod(3), VIP, 80)
    node.ask(node.client, VIP, 80)
    node.pod(4).sh(f"ping -c 1 {NODE_IP}")
    [asked] = flows(daemon, src="10.244.1.3", dst=VIP)
    assert (asked.service, asked.dnat, asked.snat) == ("default/web", True, False)
    [outside] = flows(daemon, src=CLIENT_IP)
    assert (outside.service, outside.snat) == ("default/web", True)

    def settled() -> bool:
        # Timeouts count down: both must have been read within the same second.
        listed = node.node.sh("conntrack -L -o id 2>/dev/null").stdout.splitlines()
        told = [flow_line(flow, Style(id=True)) for flow in flows(daemon)]
        use = re.compile(r" use=\d+")
        return len(told) >= 3 and {use.sub("", x) for x in listed} == {use.sub("", x) for x in told}

    until(settled, "the tool and the daemon to agree")


def test_deleting_and_events(node: World) -> None:
    policy(node.folder, "10.244.1.2", protocol="UDP", port=53)
    daemon = node.daemon("--dataplane", "kernel")
    asking = node.pod(3)
    told = iter(daemon.api.stream("/conntrack/events", dst=VIP))
    node.ask(asking, VIP, 80, "udp")
    kinds = []
    event = event_from_json(next(told))
    kinds.append(event.kind)
    assert event.flow.service == "default/web"
    kinds.append(event_from_json(next(told)).kind)
    gone = daemon.api.delete("/conntrack", dst=VIP)
    assert gone["deleted"] == 1
    event = event_from_json(next(told))
    kinds.append(event.kind)
    assert kinds == [EventKind.NEW, EventKind.UPDATE, EventKind.DESTROY]
    assert event.flow.id == gone["flows"][0]["id"]
    assert flows(daemon, dst=VIP) == []


def test_a_change_is_made_of_what_differs(node: World) -> None:
    policy(node.folder, "10.244.1.2")
    daemon = node.daemon("--dataplane", "kernel")
    asking = node.pod(3)
    assert node.no_answer(asking, VIP, 81)
    rejected = daemon.api.get("/counters")["counters"]["drop_no_such_frontend"]
    assert rejected >= 1
    daemon.api.post("/policy", {"apply": [cluster.endpoints("web", port=8080)]})
    assert node.no_answer(asking, VIP, 80)
    daemon.api.post("/policy", {"apply": [cluster.endpoints("web", "10.244.1.2", port=8080)]})
    assert node.ask(asking, VIP, 80) == "web 10.244.1.3"
    counters = daemon.api.get("/counters")["counters"]
    # A table that had been loaded anew would have begun to count anew.
    assert counters["drop_no_such_frontend"] == rejected
    assert counters["drop_no_endpoint"] >= 1
    assert counters["generation"] == 3


def test_a_policy_that_cannot_be_plumbed_is_refused_and_the_one_before_stands(node: World) -> None:
    policy(node.folder, "10.244.1.2")
    daemon = node.daemon("--dataplane", "kernel")
    asking = node.pod(3)
    # The change is to remove this element, and the kernel refuses that now.
    node.node.sh("nft delete element ip pylb services { 10.96.0.10 . tcp . 80 }")
    with pytest.raises(Exception, match="nft refused the rules"):
        daemon.api.post("/policy", {"apply": [cluster.endpoints("web", port=8080)]})
    assert node.ask(asking, VIP, 80) == "web 10.244.1.3"
    assert daemon.api.get("/healthz")["number"] == 1


def test_two_kinds_of_dataplane_do_not_share_a_namespace(node: World) -> None:
    policy(node.folder, "10.244.1.2")
    daemon = node.daemon("--dataplane", "kernel")
    daemon.end()
    done = node.run_daemon("-f", str(node.folder / "cluster.yaml"))
    assert done.returncode == 1
    assert "plumbed for a kernel dataplane" in done.stderr


def test_the_udp_overlay_is_refused_in_one_sentence(node: World) -> None:
    policy(node.folder, "10.244.1.2")
    given = ["-f", str(node.folder / "cluster.yaml"), "--dataplane", "kernel", "--overlay", "udp"]
    done = node.run_daemon(*given)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("pylb:")] == [
        "pylb: overlay udp: the kernel has no device for flannel's UDP overlay; "
        "expected vxlan or host-gw with the kernel dataplane"
    ]
