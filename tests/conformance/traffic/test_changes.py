"""Backends that come and go under traffic."""

from __future__ import annotations

import pytest

from pylb.dataplane.features import Feature
from tests.conformance import PYTHON
from tests.conformance.traffic.conftest import Lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.tools("curl")]

VIP = "10.96.0.77"


def backend(
    name: str, node: str, *command: str, port: int, protocol: str = "TCP"
) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "churn"}},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    **({"command": list(command)} if command else {"image": "echoserver"}),
                    "ports": [{"containerPort": port, "protocol": protocol}],
                }
            ],
        },
    }


def service(port: int, protocol: str = "TCP") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "churn"},
        "spec": {
            "clusterIP": VIP,
            "selector": {"app": "churn"},
            "ports": [{"port": port, "protocol": protocol}],
        },
    }


def active(lab: Lab) -> set[str]:
    """The backends that node1 gives new flows to."""
    found: set[str] = set()
    for frontend in lab.daemon("node1").get("/plan")["frontends"]:
        if frontend["address"] == VIP:
            found |= {frontend["backends"][i]["address"] for i in frontend["active"]}
    return found


def curl(lab: Lab, status: int = 0) -> str:
    import subprocess

    done = subprocess.run(
        lab.argv("client-1", "curl", "-sS", "-m", "5", f"http://{VIP}:8080/"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def test_scale_to_zero_refuses_and_scale_up_answers(lab: Lab, clean: None) -> None:
    lab.apply(backend("b1", "node1", port=8080), service(8080))
    wait_for(lambda: len(active(lab)) == 1, "one backend")
    assert "hostname=b1" in curl(lab)
    lab.delete(("Pod", "b1"))
    wait_for(lambda: not active(lab), "no backend")
    assert curl(lab, status=7) == "", "refused at once, not timed out"
    lab.apply(backend("b2", "node2", port=8080))
    wait_for(lambda: len(active(lab)) == 1, "another backend")
    assert "hostname=b2" in curl(lab)


SLOW = """
import socket, time
s = socket.create_server(("", 8080), backlog=16)
while True:
    c, _ = s.accept()
    c.sendall(b"first")
    c.recv(1 << 20)
    c.recv(1 << 20)
"""

HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], 8080), timeout=10)
print(s.recv(5).decode(), flush=True)
sys.stdin.readline()
s.settimeout(3)
try:
    s.sendall(b"more")
    s.recv(1)
    print("closed")
except ConnectionResetError:
    print("reset")
except TimeoutError:
    print("silence")
except OSError as error:
    print(error)
"""


def test_a_connection_whose_backend_is_gone_is_reset_not_left_hanging(
    lab: Lab, clean: None
) -> None:
    import subprocess

    lab.apply(backend("b1", "node2", PYTHON, "-c", SLOW, port=8080), service(8080))
    wait_for(lambda: len(active(lab)) == 1, "one backend")
    client = subprocess.Popen(
        lab.argv("client-1", PYTHON, "-c", HOLD, VIP),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "first\n"
    lab.delete(("Pod", "b1"))
    wait_for(lambda: not active(lab), "no backend")
    told, _ = client.communicate("go\n", timeout=20)
    if lab.lacks(Feature.GONE_BACKEND_RESETS):
        # A pod that ends closes its sockets itself, if it still can; or nothing is heard.
        assert told.strip() in ("reset", "closed", "silence", "[Errno 113] No route to host")
    else:
        assert told.strip() in ("reset", "closed")


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 8080))
name = socket.gethostname().encode()
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(name, peer)
"""

ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 8080))
s.settimeout(2)
for line in sys.stdin:
    try:
        s.send(b"?")
        print(s.recv(100).decode(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


def test_a_udp_flow_moves_to_another_backend_when_its_own_is_gone(lab: Lab, clean: None) -> None:
    """The story of kubernetes issue 48370 and its kin: one socket, kept open, keeps asking."""
    import subprocess

    command = (PYTHON, "-c", ECHO)
    lab.apply(backend("b1", "node2", *command, port=8080, protocol="UDP"), service(8080, "UDP"))
    wait_for(lambda: len(active(lab)) == 1, "one backend")
    with subprocess.Popen(
        lab.argv("client-1", PYTHON, "-c", ASK, VIP),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None

        def ask() -> str:
            print(file=client.stdin, flush=True)
            return str(client.stdout.readline()).strip()  # type: ignore[union-attr]

        assert ask() == "b1"
        lab.apply(backend("b2", "node1", *command, port=8080, protocol="UDP"))
        wait_for(lambda: len(active(lab)) == 2, "two backends")
        lab.delete(("Pod", "b1"))
        wait_for(lambda: len(active(lab)) == 1, "the other backend")
        if lab.lacks(Feature.UDP_MOVES):
            assert ask() != "b2", "the kernel sends into the hole"
        else:
            assert ask() == "b2"
        client.stdin.close()
