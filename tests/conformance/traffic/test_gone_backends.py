"""A connection whose backend's pod is deleted, with real programs at both ends.

The daemons know that the pod is gone before its program is told to end, and the program
takes no notice: what it hears, it hears from the dataplane.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pylb.dataplane.features import Feature
from tests.conformance import PYTHON
from tests.conformance.traffic.conftest import Lab, wait_for
from tests.conformance.traffic.test_changes import VIP, active, backend, service

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("clean")]

PORT = 8080

SERVER = f"""
import signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sends, told = sys.argv[1] == "down", sys.argv[2]
with socket.create_server(("", {PORT})) as server:
    connection, _ = server.accept()
    try:
        connection.sendall(b"first")
        while connection.send(bytes(4096)) if sends else connection.recv(65536):
            pass
        end = "closed"
    except OSError as error:
        end = type(error).__name__
    with open(told, "w") as file:
        file.write(end)
"""

CLIENT = f"""
import socket, sys
sends = sys.argv[1] == "up"
with socket.create_connection((sys.argv[2], {PORT}), timeout=20) as connection:
    connection.recv(5)
    print("open", flush=True)
    try:
        if sys.argv[1] == "idle":
            sys.stdin.readline()
            connection.sendall(b"more")
        while connection.send(bytes(4096)) if sends else connection.recv(65536):
            pass
        print("closed")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.parametrize(
    ("who", "node", "way", "also"),
    [
        ("client-1", "node2", "down", ()),
        ("client-1", "node2", "up", ()),
        ("client-1", "node2", "idle", ()),
        ("client-1", "node1", "down", (("Service", "churn"),)),
        ("node1", "node2", "down", ()),
        ("client", "node2", "down", ()),
    ],
    ids=[
        "stream from it",
        "stream to it",
        "silence",
        "its Service gone too, same node",
        "to a process of the node",
        "to a client outside",
    ],
)
def test_both_ends_are_reset(
    lab: Lab, tmp_path: Path, who: str, node: str, way: str, also: tuple[tuple[str, str], ...]
) -> None:
    """A stream from the server, one to it, and a client that speaks when all is over."""
    if lab.lacks(Feature.GONE_BACKEND_RESETS):
        pytest.skip("its flows live on until the server is killed, and then its kernel ends them")
    lab.run("client", "ip", "route", "replace", "10.96.0.0/12", "via", "192.168.50.11")
    told = tmp_path / "server"
    lab.apply(backend("b1", node, PYTHON, "-c", SERVER, way, str(told), port=PORT), service(PORT))
    wait_for(lambda: len(active(lab)) == 1, "one backend")
    with subprocess.Popen(
        lab.argv(who, PYTHON, "-c", CLIENT, way, VIP),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "open\n"
        lab.delete(("Pod", "b1"), *also)
        heard, _ = client.communicate("go\n", timeout=60)
    assert heard.strip() == "ConnectionResetError"
    if way != "idle":
        assert told.read_text() == "ConnectionResetError"
