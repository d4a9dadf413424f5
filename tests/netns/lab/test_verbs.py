"""The verbs that kubectl's users know, on a lab that runs, with programs that answer."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pylb.cli.main import main
from pylb.lab import lifetime
from tests.netns.lab.conftest import LAB, Lab, until

pytestmark = [pytest.mark.root, pytest.mark.tools("curl")]


class Shell:
    """`pylb` with the tests' lab, and what it printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.err = ""

    def __call__(self, *words: str, status: int = 0) -> str:
        self._capfd.readouterr()
        head, dashes, tail = [*words], [], []
        if "--" in words:
            at = words.index("--")
            head, dashes, tail = [*words[:at]], ["--"], [*words[at + 1 :]]
        found = main([*head, "--lab", LAB, *dashes, *tail])
        out, self.err = self._capfd.readouterr()
        assert found == status, (words, out, self.err)
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))


@pytest.fixture
def pylb(lab: Lab, capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


def _ready(pylb: Shell, name: str, count: int) -> None:
    path = "jsonpath={.status.readyReplicas}"
    until(lambda: pylb("get", "deploy", name, "-o", path) == str(count), f"{count} pods are ready")


def test_a_deployment_is_made_exposed_scaled_and_deleted(lab: Lab, pylb: Shell) -> None:
    image = "--image=registry.k8s.io/echoserver:1.10"
    assert pylb("create", "deployment", "echo", image) == "deployment.apps/echo created\n"
    pylb("create", "deployment", "echo", image, status=1)
    assert pylb.err == (
        'Error from server (AlreadyExists): deployments.apps "echo" already exists\n'
    )
    told = pylb("expose", "deployment", "echo", "--name=in", "--port=80", "--target-port=8080")
    assert told == "service/in exposed\n"
    _ready(pylb, "echo", 1)
    address = pylb("get", "svc", "in", "-o", "jsonpath={.spec.clusterIP}")
    assert "hostname=echo-0" in lab.output("idle", "curl", "-sS", "-m", "5", f"http://{address}/")

    assert pylb("scale", "deployment", "echo", "--replicas=4") == "deployment.apps/echo scaled\n"
    _ready(pylb, "echo", 4)
    nodes = pylb("get", "pods", "-l", "app=echo", "-o", "jsonpath={.items[*].spec.nodeName}")
    assert sorted(nodes.split()) == ["node1", "node1", "node2", "node2"]
    row = pylb("get", "deploy", "echo", "-o", "wide").splitlines()[1].split()
    assert row[:4] == ["echo", "4/4", "4", "4"]
    assert row[5:] == ["echoserver", "registry.k8s.io/echoserver:1.10", "app=echo"]
    endpoints = pylb("get", "ep", "in", "-o", "jsonpath={.subsets[0].addresses[*].ip}").split()
    assert len(endpoints) == 4

    before = lab.pod("echo-2")
    assert pylb("delete", "pod", "echo-2") == 'pod "echo-2" deleted\n'
    _ready(pylb, "echo", 4)
    assert lab.pod("echo-2") == before
    pylb("delete", "all", "-l", "app=echo")
    assert (lab.pod("echo-0"), lab.pod("echo-3")) == (None, None)
    assert pylb("get", "deploy,svc", "-l", "app=echo") == ""


def test_a_patched_policy_changes_what_servers_see(lab: Lab, pylb: Shell) -> None:
    pylb("create", "deployment", "np", "--image=echoserver")
    pylb("patch", "deploy/np", "-p", '{"spec":{"template":{"spec":{"nodeName":"node2"}}}}')
    pylb("expose", "deployment", "np", "--port=80", "--target-port=8080", "--type=NodePort")
    _ready(pylb, "np", 1)
    port = pylb("get", "svc", "np", "-o", "jsonpath={.spec.ports[0].nodePort}")

    def seen(node: str) -> str | None:
        done = lab.run("client", "curl", "-sS", "-m", "1", f"http://192.168.50.{node}:{port}/")
        found = re.search(r"client_address=(\S+)", done.stdout)
        return found and found[1]

    assert seen("11") == "10.244.1.0"
    assert seen("12") == "192.168.50.12"
    patch = '{"spec":{"externalTrafficPolicy":"Local"}}'
    assert pylb("patch", "svc", "np", "-p", patch) == "service/np patched\n"
    assert pylb("patch", "svc", "np", "-p", patch) == "service/np patched (no change)\n"
    assert seen("12") == "192.168.50.253"
    assert seen("11") is None
    listed = pylb("service", "list", "--node", "node2")
    assert re.search(rf"192\.168\.50\.12:{port}/TCP +NodePort +1 => 10\.244\.2\.", listed)
    sets = pylb("sets", "KUBE-NODE-PORT-LOCAL-TCP", "--node", "node1")
    assert sets.splitlines()[-2:] == ["Members:", port]
    assert pylb("patch", "svc", "np", "-p", '{"spec":{"type":"ClusterIP"}}')
    assert pylb("get", "svc", "np", "-o", "jsonpath={.spec.ports[0].nodePort}") == ""
    pylb("patch", "svc", "np", "-p", '{"spec":{"ports":null}}', status=1)
    assert pylb.err == "pylb: Service default/np: spec.ports: expected at least one port\n"
    pylb("delete", "svc,deploy", "-l", "app=np")


def test_a_pod_to_work_in(lab: Lab, pylb: Shell) -> None:
    command = ("run", "box", "--image=busybox:1.28", "-i", "--rm", "--restart=Never")
    out = pylb(*command, "--", "curl", "-sS", "-m", "5", "http://web/")
    assert "client_address=10.244." in out
    assert pylb.err == 'pod "box" deleted\n'
    pylb(*command, "--", "sh", "-c", "exit 7", status=7)
    assert lab.pod("box") is None
    pylb("run", "nap", "--image=busybox", "--labels=kind=nap", "--", "sh", "-c", "echo in bed; cat")
    until(lambda: "in bed" in pylb("logs", "-l", "kind=nap"), "the pod's output")
    pylb("delete", "pods", "-l", "kind=nap")


@pytest.mark.parametrize("dataplane", ["python", "kernel"])
def test_ipvs_shows_where_connections_are(
    manifest: Path, capfd: pytest.CaptureFixture[str], dataplane: str
) -> None:
    """Whatever the dataplane: plan and conntrack are there for each."""
    name = f"ptipvs{dataplane[0]}"
    lifetime.up([str(manifest)], name, dataplane, None, lambda text: None)
    try:
        lab = Lab(name, manifest)
        for _ in range(3):
            lab.output("idle", "curl", "-sS", "-m", "5", "http://10.96.0.10/")
        capfd.readouterr()
        node = next(p["node"] for p in lab.api.get("/status")["pods"] if p["name"] == "idle")
        assert main(["ipvs", "--lab", name, "-ln", "-t", "10.96.0.10:80", "--node", node]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert lines[3] == "TCP  10.96.0.10:80 random"
        servers = [line.split() for line in lines[4:]]
        assert sum(int(server[4]) + int(server[5]) for server in servers) == 3
        assert all(server[2:4] == ["Masq", "1"] for server in servers)
    finally:
        lifetime.down(name)


def test_rate_counts_what_passes_meanwhile(lab: Lab, pylb: Shell) -> None:
    node = next(p["node"] for p in lab.api.get("/status")["pods"] if p["name"] == "idle")
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do curl -s http://web/; sleep 0.1; done"
    asking = threading.Thread(target=lab.run, args=("idle", "sh", "-c", script))
    asking.start()
    time.sleep(0.2)
    told = pylb("ipvs", "--rate", "-t", "10.96.0.10:80", "--node", node)
    asking.join()
    connections, packets = (int(word) for word in told.splitlines()[3].split()[2:4])
    assert 2 <= connections <= 15
    assert packets >= 4 * connections
