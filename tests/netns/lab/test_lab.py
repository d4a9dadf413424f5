"""A lab that is up: its places, its workloads, and what changes while it runs."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from pylb.control.client import ApiError, Client
from pylb.lab import netns
from tests.netns.lab.conftest import LAB, Lab, namespaces, until

pytestmark = pytest.mark.root

FRESH = """
apiVersion: v1
kind: Pod
metadata: {name: web-3, labels: {app: web}}
spec:
  nodeName: node1
  containers: [{name: echo, image: echoserver, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: fresh}
spec: {clusterIP: 10.96.0.99, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""
FRESH_REFS = (("Pod", "default", "web-3"), ("Service", "default", "fresh"))


def _endpoints(lab: Lab, service: str) -> list[str]:
    slices = lab.api.get("/objects", kind="EndpointSlice", namespace="default")["objects"]
    return [
        address
        for each in slices
        if each["metadata"]["labels"]["kubernetes.io/service-name"] == service
        for endpoint in each["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    ]


def test_status_tells_daemons_and_pods(lab: Lab) -> None:
    status = lab.api.get("/status")
    assert (status["lab"], status["dataplane"], status["overlay"]) == (LAB, "python", "vxlan")
    assert [node["daemon"] for node in status["nodes"]] == ["up", "up"]
    assert {node["generation"] for node in status["nodes"]} == {status["generation"]}
    assert all(pod["ready"] and pod["restarts"] == 0 for pod in status["pods"])


def test_objects_have_what_was_assigned_and_their_status(lab: Lab) -> None:
    [web] = (
        p
        for p in lab.api.get("/objects", kind="Pod", namespace="default")["objects"]
        if p["metadata"]["name"] == "web-1"
    )
    assert web["status"]["phase"] == "Running"
    assert web["status"]["podIP"].startswith("10.244.1.")
    assert {"type": "Ready", "status": "True"} in web["status"]["conditions"]
    [container] = web["status"]["containerStatuses"]
    assert (container["ready"], container["restartCount"]) == (True, 0)
    kinds = {body["kind"] for body in lab.api.get("/objects")["objects"]}
    assert kinds >= {"Lab", "Node", "Pod", "Service", "EndpointSlice"}


@pytest.mark.parametrize(
    ("where", "hostname"),
    [
        ("web-1", "web-1"),
        ("shop/cart", "main"),
        ("shop.cart", "main"),
        ("node1", "node1"),
        ("client", "client"),
        ("router", "router"),
        ("internet", "internet"),
    ],
)
def test_every_place_has_its_hostname_and_hosts(lab: Lab, where: str, hostname: str) -> None:
    assert lab.output(where, "hostname").strip() == hostname
    assert lab.output(where, "cat", "/etc/hostname").strip() == hostname
    assert hostname in lab.output(where, "cat", "/etc/hosts").split()
    assert socket.gethostname() != hostname


def test_a_place_sees_its_own_links_in_sys(lab: Lab) -> None:
    assert lab.output("web-1", "ls", "/sys/class/net").split() == ["eth0", "lo"]


@pytest.mark.parametrize("where", ["web-1", "node1", "client", "internet"])
def test_no_place_has_an_ipv6_address_but_loopback(lab: Lab, where: str) -> None:
    assert lab.output(where, "ip", "-6", "-o", "addr", "show", "scope", "link") == ""


def test_exec_gives_the_status_of_the_command(lab: Lab) -> None:
    assert lab.run("web-1", "sh", "-c", "exit 7").returncode == 7
    missing = lab.run("web-1", "no-such-program")
    assert missing.returncode == 127
    assert "no-such-program: command not found" in missing.stderr
    assert lab.run("web-1", "/etc/hosts").returncode == 126


def test_exec_leaves_sigpipe_to_the_command(lab: Lab) -> None:
    status = lab.output("web-1", "sh", "-c", "grep SigIgn /proc/self/status")
    assert int(status.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_every_host_of_the_underlay_reaches_every_other(lab: Lab) -> None:
    ping = ("ping", "-c1", "-W2", "-q")
    for where, target in (
        ("client", "192.168.50.254"),
        ("internet", "192.168.50.253"),
        ("client", "203.0.113.80"),
        ("idle", "10.244.1.1"),
    ):
        lab.output(where, *ping, target)


def test_pods_are_unknown_outside(lab: Lab) -> None:
    done = lab.run("internet", "ping", "-c1", "-W1", "-q", "10.244.1.2")
    assert done.returncode != 0


def test_mtus_are_the_underlays_and_the_pods(lab: Lab) -> None:
    def mtu(where: str, link: str) -> int:
        return int(lab.output(where, "cat", f"/sys/class/net/{link}/mtu"))

    assert mtu("node1", "eth0") == mtu("client", "eth0") == mtu("router", "underlay") == 1500
    assert mtu("web-1", "eth0") == mtu("node1", "cni0") == mtu("node1", "web-1") == 1450


def test_ports_of_pods_are_isolated(lab: Lab) -> None:
    for port in ("web-1", "idle"):
        assert "isolated on" in lab.output("node1", "bridge", "-d", "link", "show", "dev", port)


def test_output_of_several_containers_tells_which(lab: Lab) -> None:
    log = lab.paths.workload("shop.cart") / "log"
    lines = until(lambda: len(found := log.read_text().splitlines()) == 2 and found, "both lines")
    assert sorted(lines) == ["[one] from one", "[two] from two"]


def test_nginx_answers_on_its_port_and_logs(lab: Lab) -> None:
    page = lab.output("client", "curl", "-sS", "-m", "5", "http://203.0.113.80/")
    assert "This is internet." in page
    log = lab.paths.workload("internet") / "log"
    until(lambda: '"GET / HTTP/1.1" 200' in log.read_text(), "the access line")
    assert log.read_text().startswith("192.168.50.253 - - [")


def test_a_pod_reaches_a_service_by_its_name(lab: Lab) -> None:
    done = lab.output("idle", "curl", "-sS", "-m", "5", "http://web/")
    assert "client_address=10.244.1." in done
    assert "hostname=web-1" in done
    log = lab.paths.workload("default.web-1") / "log"
    until(lambda: '"GET / HTTP/1.1" 200' in log.read_text(), "the access line")


def test_pods_come_and_go_while_the_lab_runs(lab: Lab) -> None:
    before = set(lab.output("node1", "ls", "/sys/class/net").split())
    answer = lab.apply(FRESH)
    assert [result["action"] for result in answer["results"]] == ["created", "created"]
    until(lambda: (lab.pod("web-3") or {}).get("ready"), "web-3 is ready")
    assert lab.output("web-3", "hostname").strip() == "web-3"
    assert "10.96.0.99\tfresh " in lab.output("web-1", "cat", "/etc/hosts")
    address = (lab.pod("web-3") or {})["ip"]
    until(lambda: address in _endpoints(lab, "fresh"), "web-3 is an endpoint")
    again = lab.apply(FRESH)
    assert [result["action"] for result in again["results"]] == ["unchanged", "unchanged"]
    answer = lab.delete(*FRESH_REFS, ("Pod", "default", "nope"))
    assert [r["action"] for r in answer["results"]] == ["deleted", "deleted", "not found"]
    assert lab.pod("web-3") is None
    assert not Path(f"/run/netns/{LAB}-web-3").exists()
    assert not lab.paths.workload("default.web-3").exists()
    assert set(lab.output("node1", "ls", "/sys/class/net").split()) == before
    assert "fresh" not in lab.output("web-1", "cat", "/etc/hosts")


BALANCED = """
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec:
  type: LoadBalancer
  loadBalancerIP: 192.0.2.9
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"""


def test_a_route_that_somebody_removed_from_the_router_is_no_reason_to_fail(lab: Lab) -> None:
    """Whose Service was deleted then could not be: there was no such route to remove."""
    lab.apply(BALANCED)
    try:
        routes = lab.output("router", "ip", "route", "show", "192.0.2.9")
        assert "192.168.50.11" in routes
        lab.output("router", "ip", "route", "del", "192.0.2.9")
    finally:
        answer = lab.delete(("Service", "default", "balanced"))
    assert [result["action"] for result in answer["results"]] == ["deleted"]
    assert lab.output("router", "ip", "route", "show", "192.0.2.9") == ""


def test_a_changed_pod_is_made_anew(lab: Lab) -> None:
    lab.apply(FRESH)
    until(lambda: (lab.pod("web-3") or {}).get("ready"), "web-3 is ready")
    lab.apply(FRESH.replace("8080}]}]", "8080}], env: [{name: A, value: b}]}]"))
    until(lambda: (lab.pod("web-3") or {}).get("ready"), "web-3 is ready again")
    assert "hostname=web-3" in lab.output("node1", "curl", "-sS", "-m", "5", _url(lab, "web-3"))
    lab.delete(*FRESH_REFS)


LATE = """
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  nodeName: node2
  containers:
    - name: c
      ports: [{containerPort: 7000}]
      command: [sh, -c]
      args:
        - |
          while [ ! -e GO ]; do sleep 0.01; done
          exec python3 -c "
          import socket, time
          s = socket.create_server(('', 7000))
          time.sleep(1000)"
"""


def test_readiness_follows_the_port(lab: Lab, tmp_path: Path) -> None:
    go = tmp_path / "go"
    lab.apply(LATE.replace("GO", str(go)))
    try:
        assert not (lab.pod("late") or {})["ready"]
        go.touch()
        until(lambda: (lab.pod("late") or {})["ready"], "late is ready")
    finally:
        lab.delete(("Pod", "default", "late"))


def test_explicit_conditions_win(lab: Lab) -> None:
    lab.apply(FRESH.replace("spec:\n  nodeName", NOT_READY + "spec:\n  nodeName"))
    try:
        lab.run("node1", "curl", "-sS", "--retry", "20", "--retry-connrefused", _url(lab, "web-3"))
        assert not (lab.pod("web-3") or {})["ready"]
        assert (lab.pod("web-3") or {})["ip"] not in _endpoints(lab, "fresh")
    finally:
        lab.delete(*FRESH_REFS)


NOT_READY = 'status: {conditions: [{type: Ready, status: "False"}]}\n'


def _url(lab: Lab, pod: str) -> str:
    return f"http://{(lab.pod(pod) or {})['ip']}:8080/"


def test_a_workload_that_dies_is_started_again(lab: Lab) -> None:
    [pid] = [
        int(line)
        for line in lab.output("web-1", "sh", "-c", "ss -Hltnp | grep -o 'pid=[0-9]*'")
        .replace("pid=", "")
        .split()
    ]
    restarts = (lab.pod("web-1") or {})["restarts"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: (lab.pod("web-1") or {})["restarts"] == restarts + 1, "web-1 is restarted")
    until(lambda: (lab.pod("web-1") or {})["ready"], "web-1 is ready")
    curl = ("curl", "-sS", "-m", "5", _url(lab, "web-1"))
    answer = until(lambda: lab.run("node1", *curl).stdout, "web-1 answers")
    assert "hostname=web-1" in answer


def test_a_daemon_that_dies_comes_back_with_the_same_policy(lab: Lab) -> None:
    before = lab.api.get("/status")
    pid = before["nodes"][0]["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        node = lab.api.get("/status")["nodes"][0]
        return bool(node["daemon"] == "up" and node["pid"] != pid)

    until(back, "the daemon is back")
    after = lab.api.get("/status")
    assert after["nodes"][0]["generation"] == after["generation"]
    daemon = Client(lab.paths.node("node1").api)
    assert daemon.get("/healthz")["number"] == after["generation"]


BAD = {
    "a port that is none": (
        FRESH.replace("port: 80,", "port: 99999,"),
        "spec.ports[0].port",
    ),
    "an unknown node": (FRESH.replace("node1", "node9"), "node9"),
    "an unknown image": (FRESH.replace("echoserver", "redis"), "image 'redis'"),
    "a taken name": (FRESH.replace("web-3", "node1"), "'node1'"),
    "a taken address": (FRESH.replace("10.96.0.99", "10.96.0.10"), "10.96.0.10"),
    "Local on a ClusterIP Service": (
        FRESH.replace(
            "clusterIP: 10.96.0.99", "clusterIP: 10.96.0.99, externalTrafficPolicy: Local"
        ),
        "spec.externalTrafficPolicy",
    ),
    "another podCIDR": (
        """
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDR: 10.244.3.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.50.12}]}
""",
        "Node",
    ),
    "another Lab": (
        """
apiVersion: pylb.io/v1alpha1
kind: Lab
spec: {underlay: {mtu: 1400}}
""",
        "Lab",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_manifest_changes_nothing(lab: Lab, name: str) -> None:
    text, word = BAD[name]
    before, names = lab.api.get("/status"), namespaces()
    with pytest.raises(ApiError) as caught:
        lab.apply(text)
    assert caught.value.status == 422
    assert word in " ".join(caught.value.errors or [caught.value.message])
    after = lab.api.get("/status")
    assert after["generation"] == before["generation"]
    assert after["pods"] == before["pods"]
    assert namespaces() == names


@pytest.mark.parametrize("more", [(), (("Pod", "default", "idle"),)])
def test_the_nodes_of_a_running_lab_cannot_be_deleted(
    lab: Lab, more: tuple[tuple[str, str, str], ...]
) -> None:
    """Which is why, and not that this or that pod is on the node."""
    before = lab.api.get("/status")["generation"]
    with pytest.raises(ApiError) as caught:
        lab.delete(("Node", "", "node1"), *more)
    assert caught.value.message == (
        "Node node1: the Nodes of a running lab cannot be changed: take it down first"
    )
    assert lab.api.get("/status")["generation"] == before


def test_a_pod_whose_namespace_somebody_else_has_changes_nothing(lab: Lab) -> None:
    before, made = lab.api.get("/status"), dict[str, int]()
    name = f"{LAB}-web-3"
    netns.create([name], made.update)
    try:
        with pytest.raises(ApiError) as caught:
            lab.apply(FRESH)
        assert f"{name} exists already" in caught.value.message
        assert lab.api.get("/status")["generation"] == before["generation"]
        assert netns.inode(name) == made[name]
    finally:
        netns.remove(name, made[name])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/apply", None),
        ("/apply", {"objects": 1}),
        ("/apply", {"objects": [1]}),
        ("/delete", {"refs": [{"kind": "Pod"}]}),
        ("/delete", []),
    ],
)
def test_a_request_that_is_none_is_refused(lab: Lab, path: str, body: object) -> None:
    with pytest.raises(ApiError) as caught:
        lab.api.post(path, body)
    assert caught.value.status == 400
