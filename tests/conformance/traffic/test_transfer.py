"""A long transfer through a ClusterIP while the cluster changes beside it: every byte arrives."""

from __future__ import annotations

import itertools

import pytest

from tests.conformance import PYTHON
from tests.conformance.traffic.conftest import Lab, wait_for
from tests.conformance.traffic.test_changes import backend, service

pytestmark = [pytest.mark.root]

PORT = 9100
GIGABYTE = 1 << 30
SLOW = 32 << 20
"""Bytes for the Python dataplane, which would need most of a minute for a gigabyte."""

_SINK = f"""
import hashlib, socket
with socket.create_server(("", {PORT})) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            digest = hashlib.sha256()
            while data := connection.recv(1 << 20):
                digest.update(data)
            connection.sendall(digest.hexdigest().encode())
"""

_SOURCE = """
import hashlib, os, socket, sys
address, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block, digest, sent = os.urandom(1 << 20), hashlib.sha256(), 0
with socket.create_connection((address, port)) as connection:
    while sent < size:
        # No two blocks are alike, so that one that takes another's place is seen.
        data = sent.to_bytes(8, "big") + block[8:]
        digest.update(data)
        connection.sendall(data)
        sent += len(data)
    connection.shutdown(socket.SHUT_WR)
    there = b""
    while more := connection.recv(64):
        there += more
print(sent, digest.hexdigest(), there.decode())
"""


def passer_by(number: int) -> dict[str, object]:
    """A Service of the same endpoints that nobody asks."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"passer-by-{number}"},
        "spec": {"selector": {"app": "churn"}, "ports": [{"port": 80 + number}]},
    }


def test_a_gigabyte_arrives_while_services_come_and_go(lab: Lab) -> None:
    size = SLOW if lab.dataplane == "python" else GIGABYTE
    lab.apply(backend("b2", "node2", PYTHON, "-c", _SINK, port=PORT), service(PORT))
    try:
        wait_for(lambda: all(p["ready"] for p in lab.controller.get("/status")["pods"]), "the sink")
        vip = "10.96.0.77"
        source = lab.start("client-1", PYTHON, "-c", _SOURCE, vip, str(PORT), str(size))
        changes = 0
        for number in itertools.cycle(range(4)):
            if source.poll() is not None:
                break
            lab.apply(passer_by(number))
            lab.delete(("Service", f"passer-by-{number}"))
            changes += 2
        said = source.communicate()[0]
        assert source.returncode == 0, said
        sent, ours, theirs = said.split()
        assert int(sent) == size
        assert ours == theirs
        assert changes >= 4
    finally:
        lab.delete(("Pod", "b2"), ("Service", "churn"))
