"""One cluster on every dataplane, and a Service to ask in every way that there is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pylb.lab import lifetime
from pylb.policy.model import Overlay
from pylb.policy.objects import read
from pylb.policy.store import Store
from tests.conformance.traffic.conftest import Lab, wait_for
from tests.names import drawn

MANIFEST = Path(__file__).with_name("cluster.yaml")
SUBJECTS = ("native", "python", "kernel", "kernel-iptables")

VIP, LB, EXTERNAL, NODE_PORT = "10.96.0.10", "192.0.2.10", "198.51.100.7", 30080
NODES = ("node1", "node2", "node3")
NODE1, NODE2, NODE3 = (f"192.168.50.1{i}" for i in (1, 2, 3))
TUNNEL1 = "10.244.1.0"
CLIENT, INTERNET = "192.168.50.253", "203.0.113.80"

Body = dict[str, Any]


class ServiceLab(Lab):
    """The lab, with ways to make a Service and to ask it."""

    def serve(
        self, *pods: str, name: str = "web", annotations: Body | None = None, **spec: Any
    ) -> None:
        """Make the Service that has these pods, with every kind of address.

        Its endpoints are given, so that readiness is the test's own.
        """
        kind = spec.setdefault("type", "LoadBalancer")
        port = {"name": "http", "port": 80, "targetPort": 8080}
        if kind != "ClusterIP":
            port["nodePort"] = NODE_PORT
        udp = {"name": "dns", "port": 80, "targetPort": 8080, "protocol": "UDP"}
        if kind != "ClusterIP":
            udp["nodePort"] = NODE_PORT
        fields = {
            "clusterIP": VIP,
            "ports": [port, udp],
            **({"loadBalancerIP": LB} if kind == "LoadBalancer" else {}),
            **({"externalIPs": [EXTERNAL]} if kind != "ClusterIP" else {}),
            **spec,
        }
        about = {"name": name, "annotations": annotations or {}}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": fields}
        self.apply(service, self.endpoints(*pods, name=name))

    def endpoints(self, *pods: str, name: str = "web", draining: tuple[str, ...] = ()) -> Body:
        """The EndpointSlice with these pods, some of them terminating but serving."""
        ready = {"ready": True}
        ending = {"ready": False, "serving": True, "terminating": True}
        listed = [(pod, ready) for pod in pods] + [(pod, ending) for pod in draining]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [
                {"name": "http", "port": 8080, "protocol": "TCP"},
                {"name": "dns", "port": 8080, "protocol": "UDP"},
            ],
            "endpoints": [
                {"addresses": [self.pod(pod)], "conditions": conditions}
                for pod, conditions in listed
            ],
        }

    def forget(self, *names: str) -> None:
        """Remove Services with their endpoints."""
        for name in names:
            self.delete(("Service", name), ("EndpointSlice", name))

    def curl(self, where: str, url: str, *more: str, wait: float = 2) -> tuple[int, str]:
        """Ask once; gives curl's status and what it printed."""
        argv = self.argv(where, "curl", "-sS", "-m", str(wait), *more, url)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout + done.stderr

    def ask(self, where: str, address: str, port: int = 80) -> tuple[str, str]:
        """Ask a server; gives its name and the address that it saw."""
        status, text = self.curl(where, f"http://{address}:{port}/", wait=5)
        assert status == 0, f"{where} to {address}:{port}: {text}"
        return _field(text, "hostname"), _field(text, "client_address")

    def refused(self, where: str, address: str, port: int = 80) -> bool:
        """True when the connection is refused at once, False when nothing answers."""
        status, text = self.curl(where, f"http://{address}:{port}/")
        assert status in (7, 28), text
        return status == 7


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}=(.*)$", text, re.M)
    assert found, text
    return found[1]


@pytest.fixture(scope="package", params=SUBJECTS)
def lab(request: pytest.FixtureRequest) -> Iterator[ServiceLab]:
    dataplane = request.param
    name = drawn("pts" + dataplane.replace("-", "")[:7])
    lifetime.up([str(MANIFEST)], name, dataplane, "vxlan", lambda line: None)
    try:
        policy = Store.empty(Overlay.VXLAN).apply(read([MANIFEST])).policy
        made = ServiceLab(name, dataplane, Overlay.VXLAN, policy)
        # The client goes by node1, so that one row has one answer.
        for target in ("10.96.0.0/12", f"{LB}/32", f"{EXTERNAL}/32"):
            made.run("client", "ip", "route", "replace", target, "via", NODE1)
        yield made
    finally:
        lifetime.down(name)


@pytest.fixture
def clean(lab: ServiceLab) -> Iterator[None]:
    """Whatever a test made is removed after it."""
    yield
    kinds = ("Service", "EndpointSlice", "CiliumLocalRedirectPolicy", "Pod")
    kept = {"a", "b", "c", "d"}
    for kind in kinds:
        listed = lab.controller.get("/objects", kind=kind)["objects"]
        computed = "endpointslice-controller.pylb.io"
        names = [
            body["metadata"]["name"]
            for body in listed
            if computed not in (body["metadata"].get("labels") or {}).values()
        ]
        lab.delete(*((kind, name) for name in names if name not in kept))


__all__ = ["wait_for"]
