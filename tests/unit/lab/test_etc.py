"""/etc/hosts and /etc/resolv.conf of a place."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from pylb.lab import etc
from pylb.lab.names import Place
from pylb.policy.model import Endpoint, EndpointSlice, Policy, Service
from tests.unit.lab.policies import pod, policy

WEB = Service("default", "web", cluster_ip=IPv4Address("10.96.0.10"))
CART = Service("shop", "cart", cluster_ip=IPv4Address("10.96.0.20"))
HEADLESS = Service("default", "none")
DNS = Service("kube-system", "kube-dns", cluster_ip=IPv4Address("10.96.0.53"))


def _names(text: str) -> dict[str, str]:
    lines = (line.split() for line in text.splitlines())
    return {name: address for address, *names in lines for name in names if ":" not in address}


def _hosts(own: str, hostname: str, of: Policy, namespace: str = "default") -> str:
    return etc.hosts(IPv4Address(own), hostname, of, etc.services(namespace, of))


def test_hosts_has_the_place_the_nodes_and_the_services() -> None:
    found = _names(_hosts("10.244.1.2", "web-1", policy(services=[WEB, CART, HEADLESS])))
    assert found["localhost"] == "127.0.0.1"
    assert found["web-1"] == "10.244.1.2"
    assert found["node1"] == "192.168.50.11"
    for name in ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local"):
        assert found[name] == "10.96.0.10"
    assert found["cart.shop"] == "10.96.0.20"
    assert "cart" not in found
    assert "none" not in found


def test_a_headless_service_is_its_ready_endpoints() -> None:
    endpoints = (
        Endpoint(IPv4Address("10.244.1.9")),
        Endpoint(IPv4Address("10.244.1.8")),
        Endpoint(IPv4Address("10.244.1.7"), ready=False),
    )
    made = policy(services=[HEADLESS])
    made = replace(
        made, slices={HEADLESS.key: (EndpointSlice("default", "e", "none", (), endpoints),)}
    )
    text = _hosts("10.244.1.2", "p", made)
    assert [line.split()[0] for line in text.splitlines() if " none.default " in line] == [
        "10.244.1.8",
        "10.244.1.9",
    ]


def test_a_service_has_its_short_name_in_its_own_namespace() -> None:
    found = _names(_hosts("10.244.1.2", "p", policy(services=[WEB, CART]), "shop"))
    assert found["cart"] == "10.96.0.20"
    assert "web" not in found


def test_a_node_is_in_its_own_hosts_once() -> None:
    text = _hosts("192.168.50.11", "node1", policy())
    assert sum("node1" in line.split() for line in text.splitlines()) == 1


def test_resolv_conf_asks_cluster_dns_when_there_is_one() -> None:
    assert "nameserver" not in etc.resolv("shop", policy())
    text = etc.resolv("shop", policy(services=[DNS]))
    assert "nameserver 10.96.0.53\n" in text
    assert "search shop.svc.cluster.local svc.cluster.local cluster.local\n" in text


def test_a_file_is_rewritten_in_place_as_a_bind_mount_needs(tmp_path: Path) -> None:
    place = Place("web-1", "lab-web-1", tmp_path / "default.web-1", "web-1")
    etc.write([place], policy(pods=[pod("web-1")], services=[WEB, CART]))
    hosts = place.folder / "hosts"
    inode, size = hosts.stat().st_ino, hosts.stat().st_size
    assert hosts.stat().st_mode & 0o777 == 0o644
    etc.write([place], policy(pods=[pod("web-1")], services=[WEB]))
    assert hosts.stat().st_ino == inode
    assert hosts.stat().st_size < size
    assert "cart" not in hosts.read_text()
    assert (place.folder / "hostname").read_text() == "web-1\n"
