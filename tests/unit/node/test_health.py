"""What the node tells of itself and of Services on its ports."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pylb.node import health
from pylb.node.health import Check, Health, answer, checks
from pylb.policy.objects import from_bodies
from pylb.policy.store import Store
from tests.unit.node.cluster import Body, cluster, endpoints, pod, service
from tests.unit.node.test_api import HOST_GW, Daemon


def free_port(low: int = 30000, high: int = 32767) -> int:
    """A port of this machine's loopback that nobody has."""
    for port in random.sample(range(low, high + 1), 100):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("no port is free")


def local(port: int, name: str = "web") -> Body:
    made = service(name)
    made["spec"] |= {
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": port,
        "loadBalancerIP": "192.0.2.1",
    }
    return made


def test_ready_endpoints_of_the_node_are_counted_once() -> None:
    ready = endpoints("web", "10.244.1.5", "10.244.1.6", "10.244.2.5")
    again = endpoints("web", "10.244.1.5", port=9)
    again["metadata"]["name"] = "again"
    unready = endpoints("web", "10.244.1.7")
    unready["metadata"]["name"] = "unready"
    unready["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    bodies = cluster(local(30001), service("other", "10.96.0.11"), ready, again, unready)
    policy = Store.empty().apply(from_bodies(bodies)).policy
    assert checks(policy, "node1") == {30001: Check(("default", "web"), 2)}
    assert checks(policy, "node2") == {30001: Check(("default", "web"), 1)}


def test_endpoints_that_take_nothing_new_are_not_counted() -> None:
    """A node with such ones alone drops what a load balancer would send it."""
    asked = local(30001)
    asked["spec"]["selector"] = {"app": "web"}
    pods = [pod("a", "node1", "10.244.1.5"), pod("b", "node2", "10.244.2.5")]
    for each, weight in zip(pods, ("0", "1"), strict=True):
        each["metadata"] |= {"labels": {"app": "web"}, "annotations": {"pylb.io/weight": weight}}
    policy = Store.empty().apply(from_bodies(cluster(asked, *pods))).policy
    assert checks(policy, "node1") == {30001: Check(("default", "web"), 0)}
    assert checks(policy, "node2") == {30001: Check(("default", "web"), 1)}
    assert policy.takers == {("default", "web"): ("node2",)}


@pytest.mark.parametrize(
    ("count", "healthy", "status", "text"),
    [
        (2, True, 200, "2 Service Endpoints found\n"),
        (1, False, 503, "1 Service Endpoints found\n"),
        (0, True, 503, "No Service Endpoints Found\n"),
    ],
)
def test_text_for_people_and_json_for_who_asks_for_it(
    count: int, healthy: bool, status: int, text: str
) -> None:
    check = Check(("default", "web"), count)
    said = answer(check, healthy, "*/*")
    assert (said.status, said.body) == (status, text)
    told = answer(check, healthy, "application/json, text/*")
    assert told.status == status
    assert told.body == (
        '{\n\t"service": {\n\t\t"namespace": "default",\n\t\t"name": "web"\n\t},\n'
        f'\t"localEndpoints": {count},\n\t"serviceProxyHealthy": {str(healthy).lower()}\n}}'
    )
    assert told.headers["content-type"] == "application/json"
    assert told.headers["x-load-balancing-endpoint-weight"] == str(count)


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str]:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(asked, timeout=5) as told:
            return told.status, told.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Run a test with a daemon without a policy and its health servers, on loopback alone."""
    monkeypatch.setattr(health, "EVERYWHERE", "127.0.0.1")
    monkeypatch.setattr(health, "METRICS_PORT", free_port(20000, 29999))
    monkeypatch.setattr(health, "HEALTH_PORT", free_port(20000, 29999))

    def run(test: Any) -> None:
        async def within() -> None:
            daemon = Daemon(tmp_path)
            servers = Health(daemon.node)
            await servers.start()
            try:
                await asyncio.wait_for(test(daemon), 10)
            finally:
                await servers.close()
                daemon.node.close()

        asyncio.run(within())

    return run


async def ask(port: int, path: str, accept: str = "*/*") -> tuple[int, str]:
    return await asyncio.to_thread(get, port, path, accept)


async def commit(daemon: Daemon, number: int, *bodies: Body) -> None:
    staged = daemon.node.desired.whole(number, cluster(HOST_GW, *bodies))
    await daemon.node.commit(staged)


def test_the_ports_follow_the_policy(serving: Callable[[Any], None]) -> None:
    first, second = free_port(), free_port()

    async def test(daemon: Daemon) -> None:
        assert (await ask(health.METRICS_PORT, "/proxyMode")) == (200, "recorder")
        assert (await ask(health.METRICS_PORT, "/healthz")) == (200, "ok")
        status, text = await ask(health.HEALTH_PORT, "/healthz")
        assert (status, json.loads(text)["nodeEligible"]) == (503, True)
        await commit(daemon, 1, local(first), endpoints("web", "10.244.1.5"))
        assert (await ask(health.HEALTH_PORT, "/healthz"))[0] == 200
        assert (await ask(health.HEALTH_PORT, "/livez"))[0] == 200
        assert await ask(first, "/healthz") == (200, "1 Service Endpoints found\n")
        await commit(daemon, 2, local(first), endpoints("web", "10.244.2.5"))
        assert await ask(first, "/healthz") == (503, "No Service Endpoints Found\n")
        status, text = await ask(first, "/", accept="application/json")
        assert (status, json.loads(text)["localEndpoints"]) == (503, 0)
        await commit(daemon, 3, local(second))
        with pytest.raises(OSError, match="refused"):
            await ask(first, "/healthz")
        assert (await ask(second, "/healthz"))[0] == 503

    serving(test)


def test_a_port_that_is_taken_is_tried_again(serving: Callable[[Any], None]) -> None:
    port = free_port()

    async def test(daemon: Daemon) -> None:
        with socket.create_server(("127.0.0.1", port)):
            await commit(daemon, 1, local(port), endpoints("web", "10.244.1.5"))
        await commit(daemon, 2, local(port), endpoints("web", "10.244.1.5", "10.244.1.6"))
        assert await ask(port, "/healthz") == (200, "2 Service Endpoints found\n")

    serving(test)


def test_clients_that_only_connect_take_no_more_than_their_share(
    serving: Callable[[Any], None],
) -> None:
    """Whoever reaches the node reaches these ports; the daemon needs its descriptors."""

    async def test(daemon: Daemon) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", health.HEALTH_PORT) for _ in range(100)]
        assert (await ask(health.HEALTH_PORT, "/livez"))[0] == 503
        ended = 0
        for reader, _ in idle[:60]:
            async with asyncio.timeout(5):
                ended += await reader.read() == b""
        assert ended == 60
        for _, writer in idle:
            writer.close()

    serving(test)
