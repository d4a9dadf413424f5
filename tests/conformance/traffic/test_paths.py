"""Every way of asking that the demo shows, many times over and in parallel."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter

import pytest

from pylb.dataplane.features import Feature
from pylb.lab.demo.steps import steps
from pylb.policy.objects import read
from pylb.policy.store import Store
from tests.conformance import PYTHON
from tests.conformance.traffic.conftest import MANIFEST, Lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.tools("curl")]

CURLS = [
    step
    for step in steps(Store.empty().apply(read([MANIFEST])).policy)
    if step.command[0] == "curl"
]


def drops(lab: Lab) -> dict[str, int]:
    """Every drop so far by node and name, but for INVALID ones.

    On a busy machine a segment that was sent again now and then comes after its
    connection's reset.  Then the kernel calls it INVALID too.
    """
    return {
        f"{node} {name}": count
        for node in ("node1", "node2")
        for name, count in lab.counters(node).items()
        if name.startswith("drop_") and count and name != "drop_invalid_state"
    }


@pytest.mark.parametrize("step", CURLS, ids=[step.title for step in CURLS])
def test_a_thousand_requests_in_turn_and_sixty_four_at_once(lab: Lab, step: object) -> None:
    """Each request is a connection of its own; not one may fail."""
    url = step.command[-1]  # type: ignore[attr-defined]
    where = step.where  # type: ignore[attr-defined]
    common = ("-sS", "--max-time", "20", "-H", "Connection: close", "-o", "/dev/null")
    written = ("-w", "%{http_code}\\n")
    before = drops(lab)
    told = lab.run(where, "curl", *common, *written, f"{url}[1-1000]")
    assert Counter(told.split()) == {"200": 1000}
    parallel = ("-Z", "--parallel-immediate", "--parallel-max", "64", "--no-progress-meter")
    told = lab.run(where, "curl", *parallel, *common, *written, f"{url}[1-640]")
    assert Counter(told.split()) == {"200": 640}
    assert drops(lab) == before


@pytest.mark.tools("iperf3")
def test_a_stream_through_clusterip_and_overlay_does_not_stall(lab: Lab) -> None:
    seconds = int(os.environ.get("PYLB_IPERF_SECONDS", "5"))
    manifest = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "iperf", "labels": {"app": "iperf"}},
            "spec": {
                "nodeName": "node2",
                "containers": [{"command": ["iperf3", "-s"], "ports": [{"containerPort": 5201}]}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "iperf"},
            "spec": {
                "clusterIP": "10.96.0.52",
                "selector": {"app": "iperf"},
                "ports": [
                    {"name": "tcp", "port": 5201},
                    {"name": "udp", "port": 5201, "protocol": "UDP"},
                ],
            },
        },
    ]
    lab.apply(*manifest)
    try:
        wait_for(lambda: ready(lab, "iperf"), "iperf is ready")
        wait_for(lambda: has_backend(lab, "10.96.0.52"), "node1 balances to it")
        for extra in ((), ("-R",), ("-P", "4")):
            report = json.loads(
                lab.run(
                    "client-1",
                    "iperf3",
                    "-J",
                    "-c",
                    "10.96.0.52",
                    "-t",
                    str(seconds),
                    *extra,
                    timeout=seconds + 30,
                )
            )
            per_second = [interval["sum"]["bytes"] for interval in report["intervals"]]
            assert all(per_second), f"a second without a byte: {per_second}"
        if not lab.lacks(Feature.NAMED_DROPS):
            # Not what iperf3's server says it lost: its own socket overflows on a busy machine.
            before = lab.counters("node2")["tun_out"]
            udp = json.loads(
                lab.run(
                    "client-1", "iperf3", "-J", "-u", "-b", "10M", "-c", "10.96.0.52", "-t", "2"
                )
            )
            sent = udp["end"]["sum_sent"]["packets"]
            assert lab.counters("node2")["tun_out"] - before >= sent
    finally:
        lab.delete(("Pod", "iperf"), ("Service", "iperf"))


def ready(lab: Lab, pod: str) -> bool:
    return any(p["name"] == pod and p["ready"] for p in lab.controller.get("/status")["pods"])


def has_backend(lab: Lab, address: str) -> bool:
    frontends = lab.daemon("node1").get("/plan")["frontends"]
    return any(f["address"] == address and f["active"] for f in frontends)


def test_the_largest_packet_passes_and_a_larger_one_is_told_the_mtu(lab: Lab) -> None:
    mtu = 1500 - lab.overlay.overhead
    web = lab.pod("web-2")
    lab.run("client-1", "ping", "-c1", "-W5", "-M", "do", "-s", str(mtu - 28), web)
    with pytest.raises(AssertionError, match=rf"[Mm]essage too long|mtu ?= ?{mtu}"):
        lab.run("client-1", "ping", "-c1", "-W5", "-M", "do", "-s", str(mtu - 27), web)
    node = str(lab.policy.nodes["node1"].internal_ip)
    # From outside, past the pods' MTU: curl must succeed all the same (path MTU discovery).
    told = lab.run("client", "curl", "-sS", "-m", "5", "-A", "x" * 6000, f"http://{node}:30080/")
    assert "x" * 6000 in told


def test_fragments_through_every_kind_of_translation(lab: Lab) -> None:
    """Pings of 4000 bytes: to a pod of the other node, and out through masquerade."""
    for target in (lab.pod("web-2"), "203.0.113.80"):
        lab.run("client-1", "ping", "-c2", "-W5", "-s", "4000", target)


@pytest.mark.tools("dig")
def test_dns_over_udp_and_tcp_through_its_service(lab: Lab) -> None:
    for extra in ((), ("+tcp",)):
        said = lab.run(
            "client-1", "dig", "+short", "+tries=1", *extra, "@10.96.0.53", "x.pylb.example"
        )
        assert said.strip() == "192.0.2.1"


CONNECT = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM)
s.settimeout(5)
try:
    s.connect((sys.argv[2], int(sys.argv[3])))
    s.send(b"x")
    s.recv(1)
    print("answered")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("protocol", "address", "port"),
    [
        ("tcp", "10.96.0.10", 81),
        ("udp", "10.96.0.10", 81),
        ("udp", "203.0.113.80", 9),
        ("tcp", "203.0.113.80", 9),
        ("udp", "web-2", 9),
        ("tcp", "web-2", 9),
    ],
)
def test_a_closed_port_refuses_at_once_through_any_translation(
    lab: Lab, protocol: str, address: str, port: int
) -> None:
    """Resets and port unreachables, ours and the far host's, reach the asking socket."""
    target = lab.pod(address) if address == "web-2" else address
    told = lab.run("client-1", PYTHON, "-c", CONNECT, protocol, target, str(port))
    assert told.strip() == "ConnectionRefusedError"


def test_a_router_on_the_way_is_seen_through_masquerade(lab: Lab) -> None:
    """Time exceeded from the lab's router comes back to the pod: what traceroute lives on."""
    with pytest.raises(AssertionError, match=r"192\.168\.50\.254.*Time to live exceeded"):
        lab.run("client-1", "ping", "-c1", "-W5", "-t", "2", "203.0.113.80")


def test_the_node_and_its_pods_reach_each_other_without_nat(lab: Lab) -> None:
    own = lab.pod("web-1")
    told = lab.run("node1", "curl", "-sS", "-m", "5", f"http://{own}:8080/")
    assert "client_address=10.244.1.1\n" in told
    lab.run("client-1", "ping", "-c1", "-W5", "10.244.1.1")
    lab.run("client-1", "ping", "-c1", "-W5", "192.168.50.11")


def test_a_host_process_reaches_a_remote_pod_as_its_tunnel_end(lab: Lab) -> None:
    told = lab.run("node1", "curl", "-sS", "-m", "5", f"http://{lab.pod('web-2')}:8080/")
    assert "client_address=10.244.1.0\n" in told


def test_an_outside_client_is_served_and_masqueraded_on_a_clusterip(lab: Lab) -> None:
    lab.run("client", "ip", "route", "replace", "10.96.0.0/12", "via", "192.168.50.11")
    told = lab.run("client", "curl", "-sS", "-m", "5", "http://10.96.0.20/")
    assert "client_address=10.244.1.0\n" in told


def test_a_service_whose_endpoint_is_outside_the_cluster(lab: Lab) -> None:
    lab.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "external"},
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.96.0.90",
                "ports": [{"port": 80, "nodePort": 30090}],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "external"},
            "subsets": [{"addresses": [{"ip": "203.0.113.80"}], "ports": [{"port": 80}]}],
        },
    )
    try:
        wait_for(lambda: has_backend(lab, "10.96.0.90"), "node1 balances to it")
        for where, url in (
            ("client-1", "http://10.96.0.90/"),
            ("node1", "http://10.96.0.90/"),
            ("node1", "http://127.0.0.1:30090/"),
            ("client", "http://192.168.50.11:30090/"),
        ):
            assert "internet" in lab.run(where, "curl", "-sS", "-m", "5", url)
    finally:
        lab.delete(("Service", "external"), ("Endpoints", "external"))


def test_both_backends_are_reached_about_evenly(lab: Lab) -> None:
    told = lab.run(
        "client-1",
        "curl",
        "-sS",
        "-m",
        "20",
        "-H",
        "Connection: close",
        "http://10.96.0.10/[1-400]",
    )
    hosts = Counter(line for line in told.splitlines() if line.startswith("hostname="))
    assert set(hosts) == {"hostname=web-1", "hostname=web-2"}
    # 400 throws of a fair coin leave 140 to 260 all but once in 10**8.
    assert all(140 <= count <= 260 for count in hosts.values()), hosts


def test_the_control_socket_is_roots_alone(lab: Lab) -> None:
    from pylb.control.paths import LabPaths

    path = LabPaths(lab.name).node("node1").api
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(path))
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := plain.recv(4096):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200")
