"""Endpoints come and go, and Services with them, under programs that keep their sockets."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pylb.control.client import ApiError
from pylb.dataplane.features import Feature
from tests.conformance import PYTHON
from tests.conformance.services.conftest import (
    EXTERNAL,
    LB,
    NODE1,
    NODE_PORT,
    VIP,
    ServiceLab,
)

pytestmark = [pytest.mark.root, pytest.mark.tools("curl"), pytest.mark.usefixtures("clean")]

Ask = Callable[[], str]

UDP_CLIENT = """
import re, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(float(sys.argv[3]))
for line in sys.stdin:
    try:
        s.send(b"who?")
        print(re.search("hostname=(.*)", s.recv(2048).decode())[1], flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""

TCP_CLIENT = """
import http.client, re, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=float(sys.argv[3]))
connection.connect()
connection.auto_open = 0
for line in sys.stdin:
    try:
        connection.request("GET", "/")
        print(re.search("hostname=(.*)", connection.getresponse().read().decode())[1], flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


@contextmanager
def asking(
    lab: ServiceLab, who: str, program: str, address: str = VIP, port: int = 80, wait: float = 5
) -> Iterator[Ask]:
    """A client with one socket; each call asks once and gives who answers, or the error."""
    argv = lab.argv(who, PYTHON, "-c", program, address, str(port), str(wait))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:

        def ask() -> str:
            assert client.stdin is not None
            assert client.stdout is not None
            print(file=client.stdin, flush=True)
            return client.stdout.readline().strip()

        try:
            yield ask
        finally:
            client.communicate(timeout=30)


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_udp_is_refused_at_once_without_endpoints_and_at_an_unknown_port(
    lab: ServiceLab, policy: str
) -> None:
    lab.serve(externalTrafficPolicy=policy, internalTrafficPolicy=policy)
    ways = [(VIP, 80), (VIP, 81), (LB, 80), (EXTERNAL, 80), (NODE1, NODE_PORT)]
    for who in ("a", "node1", "client"):
        expected = "ConnectionRefusedError"
        if lab.dataplane.startswith("kernel"):
            # The kernel sends one host six such errors, then one a second; and what a process
            # of the node itself sends is refused on its way out.
            ways = ways[:2]
            expected = "PermissionError" if who == "node1" else expected
        for address, port in ways:
            with asking(lab, who, UDP_CLIENT, address, port) as ask:
                assert ask() == expected, f"{who} to {address}:{port}"


def test_a_udp_socket_follows_its_service(lab: ServiceLab) -> None:
    """From nothing to one endpoint, to another, to none; deleted and made again."""
    if lab.lacks(Feature.UDP_MOVES):
        pytest.skip("its flows stay with what they first met")
    lab.serve()
    with (
        asking(lab, "a", UDP_CLIENT, wait=2) as inside,
        asking(lab, "client", UDP_CLIENT, NODE1, NODE_PORT, wait=2) as outside,
        asking(lab, "node1", UDP_CLIENT, LB, wait=2) as host,
    ):
        everyone = (inside, outside, host)

        def all_hear(*expected: str) -> None:
            assert {ask() for ask in everyone} == set(expected)

        all_hear("ConnectionRefusedError")
        lab.apply(lab.endpoints("c"))
        all_hear("c")
        lab.apply(lab.endpoints("b", draining=("c",)))
        all_hear("b")
        lab.apply(lab.endpoints())
        all_hear("ConnectionRefusedError")
        lab.apply(lab.endpoints("c"))
        all_hear("c")
        lab.forget("web")
        assert inside() == "TimeoutError", "nobody has the cluster IP"
        lab.serve("b")
        all_hear("b")


def test_an_open_connection_outlives_its_endpoints_readiness(lab: ServiceLab) -> None:
    """As long as the pod is there: terminating, not ready, and no endpoint at all."""
    lab.serve("c")
    with (
        asking(lab, "a", TCP_CLIENT) as inside,
        asking(lab, "client", TCP_CLIENT, NODE1, NODE_PORT) as outside,
    ):
        assert (inside(), outside()) == ("c", "c")
        for after in (
            lab.endpoints("b", draining=("c",)),
            lab.endpoints("b"),
            lab.endpoints(),
            lab.endpoints("b"),
        ):
            lab.apply(after)
            assert (inside(), outside()) == ("c", "c")
        assert lab.ask("a", VIP)[0] == lab.ask("client", NODE1, NODE_PORT)[0] == "b"
        lab.forget("web")
        assert (inside(), outside()) == ("c", "c")


def test_one_bad_object_among_good_ones_changes_nothing(lab: ServiceLab) -> None:
    """Neither what the lab holds nor what any node does, though the first object was good."""
    lab.serve("b")
    nodes = ("node1", "node2", "node3")
    plans = [lab.daemon(node).get("/plan") for node in nodes]
    before = lab.controller.get("/objects")
    port = {"name": "p", "port": 80, "nodePort": NODE_PORT}
    for spec, field in (
        ({"externalTrafficPolicy": "Local", "ports": [{"port": 80}]}, "externalTrafficPolicy"),
        ({"type": "NodePort", "ports": [port]}, "spec.ports[0].nodePort"),
        ({"clusterIP": VIP, "ports": [{"port": 80}]}, "spec.clusterIP"),
    ):
        bad = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "z"}, "spec": spec}
        with pytest.raises(ApiError) as refused:
            lab.apply(lab.endpoints("c"), bad)
        assert refused.value.status == 422
        told = " ".join(refused.value.errors)
        assert "Service default/z" in told
        assert field in told
        assert lab.controller.get("/objects") == before
        assert [lab.daemon(node).get("/plan") for node in nodes] == plans
    assert lab.ask("a", VIP)[0] == "b"
