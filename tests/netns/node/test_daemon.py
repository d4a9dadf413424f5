"""The daemon at work on one node, with real programs around it."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from pylb.control.client import ApiError, Unreachable
from tests.netns.node.world import (
    CLIENT_IP,
    DEADLINE,
    NODE_IP,
    ON_BOTH,
    Namespace,
    World,
    environment,
    until,
)
from tests.unit.node.cluster import Body, cluster, endpoints, pod, ref, service

pytestmark = pytest.mark.root

WEB = "10.96.0.10"
ONE, TWO = "10.244.1.2", "10.244.1.3"


def objects(*more: Body) -> list[Body]:
    web = service("web", WEB)
    web["spec"] |= {"type": "NodePort"}
    web["spec"]["ports"] = [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]
    slices = endpoints("web", TWO)
    slices["ports"] = [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
    ]
    pods = [pod("one", "node1", ONE), pod("two", "node1", TWO)]
    return cluster(*pods, web, slices, *more)


def write(here: World, *more: Body) -> None:
    (here.folder / "cluster.yaml").write_text(yaml.safe_dump_all(objects(*more)))


def pods(here: World) -> tuple[Namespace, Namespace]:
    one, two = here.pod(2), here.pod(3)
    here.serve(two, 8080, "two")
    here.serve(two, 5353, "two", "udp")
    return one, two


@ON_BOTH
def test_packets_of_services_pass_through_it(here: World) -> None:
    write(here)
    daemon = here.daemon()
    one, two = pods(here)
    here.serve(here.client, 9000, "outside", "udp")
    assert here.ask(one, WEB, 80) == f"two {ONE}"
    assert here.ask(one, WEB, 53, "udp") == f"two {ONE} 5"
    assert here.ask(one, WEB, 53, "udp", size=4000) == f"two {ONE} 4000"
    assert here.ask(two, WEB, 80) == "two 10.244.1.0", "hairpin"
    assert here.ask(here.node, WEB, 80) == "two 10.244.1.0"
    assert here.ask(here.node, "127.0.0.1", 30080) == "two 10.244.1.0"
    assert here.ask(here.client, NODE_IP, 30080) == f"two {NODE_IP}"
    assert here.ask(here.client, NODE_IP, 30053, "udp") == f"two {NODE_IP} 5"
    assert here.ask(here.client, NODE_IP, 30053, "udp", size=4000) == f"two {NODE_IP} 4000"
    assert here.ask(one, TWO, 8080) == f"two {ONE}"
    assert here.ask(one, CLIENT_IP, 9000, "udp") == f"outside {NODE_IP} 5"
    assert here.ask(here.node, TWO, 8080) == "two 10.244.1.1"
    assert here.no_answer(one, "10.96.0.99", 80)
    flows = daemon.api.get("/conntrack", protocol=6, dst=WEB)["flows"]
    assert {flow["service"] for flow in flows} == {"default/web:http"}
    counters = daemon.api.get("/counters")["counters"]
    assert counters["pump_read_tun"] > 0
    assert counters["pump_write_tun"] > 0
    assert not [name for name in counters if name.startswith("pump_write_tun_")]


@ON_BOTH
def test_it_ends_cleanly_and_its_plumbing_outlives_it(here: World) -> None:
    write(here)
    before = here.node.state()
    daemon = here.daemon()
    one, _two = pods(here)
    assert here.ask(one, WEB, 80) == f"two {ONE}"
    secret = (here.folder / "run" / "secret").read_bytes()
    assert daemon.end(signal.SIGTERM) == 0
    assert not (here.folder / "run" / "api.sock").exists()
    assert [line["event"] for line in daemon.logged()][-1] == "ending"
    assert here.ask(one, TWO, 8080) == f"two {ONE}"
    assert here.no_answer(one, WEB, 80)
    again = here.daemon()
    assert here.ask(one, WEB, 80) == f"two {ONE}"
    assert (here.folder / "run" / "secret").read_bytes() == secret
    assert again.end(signal.SIGINT) == 0
    here.node.sh("ip link del veth2; ip link del veth3")
    assert here.run_daemon("--clean").returncode == 0
    assert here.node.state() == before


@ON_BOTH
def test_a_killed_daemon_is_replaced(here: World) -> None:
    write(here)
    daemon = here.daemon()
    one, _two = pods(here)
    daemon.end(signal.SIGKILL)
    assert here.ask(one, TWO, 8080) == f"two {ONE}"
    here.daemon()
    assert here.ask(one, WEB, 80) == f"two {ONE}"


@ON_BOTH
def test_a_controlled_daemon_leaves_the_kernel_alone_until_its_first_policy(here: World) -> None:
    before = here.node.state()
    daemon = here.daemon("--controlled", files=False)
    assert here.node.state() == before
    with pytest.raises(ApiError):
        daemon.api.post("/policy", {"number": 3, "objects": [{"kind": "Service"}]})
    assert here.node.state() == before
    daemon.api.post("/policy/validate", {"number": 3, "objects": objects()})
    assert here.node.state() == before
    answer = daemon.api.post("/policy/commit", {"number": 3})
    assert answer == {"generation": 1, "number": 3}
    one, _two = pods(here)
    assert here.ask(one, WEB, 80) == f"two {ONE}"
    other = endpoints("web", ONE)
    other["ports"] = [{"name": "http", "port": 8081, "protocol": "TCP"}]
    here.serve(one, 8081, "one")
    daemon.api.post("/policy", {"number": 4, "base": 3, "apply": [other]})
    assert here.ask(here.client, NODE_IP, 30080) == f"one {NODE_IP}"
    web = {"delete": [ref(service("web")), ref(other)]}
    daemon.api.post("/policy", web)
    assert here.no_answer(one, WEB, 80)
    health = daemon.api.get("/healthz")
    assert (health["node"], health["number"], health["overlay"]) == ("node1", 5, "vxlan")


@ON_BOTH
def test_the_overlay_can_change_while_it_runs(here: World) -> None:
    write(here)
    daemon = here.daemon("--overlay", "udp")
    assert daemon.api.get("/plan")["overlay"]["kind"] == "udp"
    listening = here.node.sh("ss -lun").stdout
    assert f"{NODE_IP}:8285" in listening
    assert "1472" in here.node.sh("ip link show pylb0").stdout
    daemon.end()
    daemon = here.daemon("--controlled", files=False)
    for kind, port, mtu in (("vxlan", 8472, 1450), ("udp", 8285, 1472), ("host-gw", 0, 1500)):
        lab = {
            "apiVersion": "pylb.io/v1alpha1",
            "kind": "Lab",
            "metadata": {"name": "lab"},
            "spec": {"overlay": {"type": kind}},
        }
        daemon.api.post("/policy", {"objects": objects(lab)})
        listening = here.node.sh("ss -lun").stdout
        assert (f"{NODE_IP}:{port}" in listening) is bool(port)
        assert listening.count(f"{NODE_IP}:8") == (1 if port else 0)
        assert f"mtu {mtu}" in here.node.sh("ip link show pylb0").stdout


@ON_BOTH
def test_events_are_told_as_they_happen(here: World) -> None:
    write(here)
    daemon = here.daemon()
    one, _two = pods(here)
    came: queue.Queue[dict[str, Any]] = queue.Queue()
    stream = daemon.api.stream("/conntrack/events", protocol=17)

    def follow() -> None:
        try:
            for event in stream:
                came.put(event)
        except Unreachable:
            pass

    thread = threading.Thread(target=follow)
    thread.start()

    def new() -> bool:
        here.ask(one, WEB, 53, "udp")
        return not came.empty()

    until(new, "an event")
    event = came.get()
    assert event["kind"] == "NEW"
    assert event["flow"]["original"]["dst"] == WEB
    daemon.api.delete("/conntrack")
    until(lambda: not came.empty() and came.get()["kind"] == "DESTROY", "its end")
    daemon.end()
    thread.join()


def test_bad_starts_are_one_sentence(here: World, tmp_path: Path) -> None:
    write(here)
    manifest = str(here.folder / "cluster.yaml")
    before = here.node.state()

    def refused(*options: str) -> str:
        done = here.run_daemon(*options)
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "interface eth7 is not in this" in refused("-f", manifest, "--uplink", "eth7")
    (tmp_path / "bad.yaml").write_text("kind: Service\n")
    assert "apiVersion" in refused("-f", str(tmp_path / "bad.yaml"))
    (tmp_path / "few.yaml").write_text(yaml.safe_dump_all(cluster()[1:]))
    assert "node node1: the policy has no such node" in refused("-f", str(tmp_path / "few.yaml"))
    assert here.node.state() == before
    here.node.sh("ip link add cni0 type veth peer name other0")
    assert "cni0 is there but is not a bridge" in refused("-f", manifest)
    here.node.sh("ip link del cni0")
    assert here.node.state() == before
    assert not (here.folder / "run").exists()
    daemon = here.daemon()
    assert "a daemon of node node1 is running already" in refused("-f", manifest)
    assert "a daemon of node node1 is running already" in refused("--clean")
    assert daemon.api.get("/healthz")["node"] == "node1"


def test_nothing_of_a_lone_daemon_is_in_the_way_of_a_lab(here: World) -> None:
    """Without --run-dir its files are where a lab of that name would have them."""
    write(here)
    runs = here.folder / "labs"
    lone = ["env", f"PYLB_RUN={runs}", sys.executable, "-m", "pylb.cli.main", "daemon"]
    given = ["--node", "node1", "-f", str(here.folder / "cluster.yaml")]

    def ran(*options: str) -> int:
        argv = ["ip", "netns", "exec", here.node.name, *lone, *options]
        return subprocess.run(argv, env=environment(), capture_output=True, timeout=60).returncode

    assert ran("--node", "nodeX", *given[2:]) == 1
    assert ran(*given, "--uplink", "nolink") == 1
    assert ran(*given, "--uplink", "nolink", "--dataplane", "kernel") == 1
    assert not (runs / "pylb").exists()
    assert "pylb" not in here.node.sh("nft list tables").stdout
    daemon = here.node.start(*lone, *given, env=environment(), stderr=subprocess.DEVNULL)
    try:
        until((runs / "pylb" / "nodes" / "node1" / "api.sock").exists, "the daemon")
    finally:
        daemon.terminate()
        assert daemon.wait(DEADLINE) == 0
    assert (runs / "pylb" / "nodes" / "node1" / "secret").exists()
    assert ran("--node", "node1", "--clean") == 0
    assert not (runs / "pylb").exists()


def test_the_machines_own_namespace_is_refused(here: World) -> None:
    write(here)
    argv = here.daemon_argv("-f", str(here.folder / "cluster.yaml"))
    assert argv[0] == sys.executable
    done = subprocess.run(argv, capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 1
    assert "this is the machine's own network namespace" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_socket_and_the_folder_are_roots_alone(here: World) -> None:
    write(here)
    daemon = here.daemon()
    run = here.folder / "run"
    assert run.stat().st_mode & 0o777 == 0o700
    assert (run / "api.sock").stat().st_mode & 0o777 == 0o600
    assert daemon.api.get("/healthz")["pid"] > 0
    for line in daemon.logged():
        assert {"time", "level", "event"} <= line.keys(), json.dumps(line)
