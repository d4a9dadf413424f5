"""The control API over a real socket, on a node without a kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pylb.control.client import ApiError, AsyncClient, Client
from pylb.control.http import Server
from pylb.dataplane.base import (
    ALL_FLOWS,
    Event,
    EventKind,
    FlowFilter,
    FlowTuple,
    FlowView,
    Output,
)
from pylb.node.api import routes
from pylb.node.desired import Desired
from pylb.node.errors import NodeError
from pylb.node.node import Node
from pylb.node.plumbing import Names, Plumbing
from pylb.plan.tables import Delta, Plan, PlanError
from tests.unit.node.cluster import cluster, endpoints, node, ref, service
from tests.unit.node.plans import ip
from tests.unit.node.test_pump import Pair, Scripted

HOST_GW = {
    "apiVersion": "pylb.io/v1alpha1",
    "kind": "Lab",
    "metadata": {"name": "lab"},
    "spec": {"overlay": {"type": "host-gw"}},
}
"""The overlay that needs no address of this machine."""

WHOLE = {"number": 5, "objects": cluster(HOST_GW, service(), endpoints("web", "10.244.1.5"))}


def flow(number: int, protocol: int = 6) -> FlowView:
    original = FlowTuple(ip("10.244.1.5"), ip("10.96.0.10"), protocol, number, 80)
    reply = FlowTuple(ip("10.244.2.5"), ip("10.244.1.5"), protocol, 8080, number)
    return FlowView(number, original, reply, 9, "", False, False, (1, 0), (40, 0))


class Recorder(Scripted):
    """A dataplane that keeps the plans it is given, and has two flows."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Plan | Delta] = []
        self.refuse = False
        self.table = [flow(1), flow(2, 17)]

    def _take(self, given: Plan | Delta) -> Output:
        if self.refuse:
            raise PlanError("frontend 10.96.0.10:80: refused by the test")
        self.given.append(given)
        return Output()

    def load(self, plan: Plan, now: int) -> Output:
        return self._take(plan)

    def change(self, delta: Delta, now: int) -> Output:
        return self._take(delta)

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        return (each for each in self.table if where.matches(each))

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        gone = [each for each in self.table if where.matches(each)]
        self.table = [each for each in self.table if each not in gone]
        return len(gone), Output(events=[Event(EventKind.DESTROY, each, now) for each in gone])

    def counters(self) -> dict[str, int]:
        return {"drop_truncated": 3}


class FakePlumbing:
    names = Names()

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.failures = 0
        self.present = False
        self.cleaned = 0

    def apply(self, plan: Plan) -> list[str]:
        if self.failures:
            self.failures -= 1
            raise NodeError("interface eth0 is not in this network namespace")
        self.plans.append(plan)
        self.present = True
        return ["changed something"]

    def clean(self) -> list[str]:
        self.present = False
        self.cleaned += 1
        return []


class Daemon:
    def __init__(self, path: Path) -> None:
        self.dataplane = Recorder()
        self.plumbing = FakePlumbing()
        self.tuns: list[str] = []
        self.node = Node(
            Desired("node1"),
            "recorder",
            self.dataplane,
            cast(Plumbing, self.plumbing),
            self._open_tun,
        )
        self.path = path / "api.sock"
        self.api = AsyncClient(self.path)

    def _open_tun(self, name: str) -> Any:
        self.tuns.append(name)
        return Pair()


Test = Callable[[Daemon], Coroutine[Any, Any, None]]
Serve = Callable[[Test], None]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    async def serving(test: Test) -> None:
        daemon = Daemon(tmp_path)
        server = Server(daemon.path, routes(daemon.node))
        await server.start()
        try:
            await asyncio.wait_for(test(daemon), 10)
        finally:
            await server.close()
            daemon.node.close()

    return lambda test: asyncio.run(serving(test))


async def refusal(call: Coroutine[Any, Any, Any]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await call
    return raised.value


def test_two_phases(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        assert await daemon.api.post("/policy/validate", WHOLE) == {"number": 5}
        health = await daemon.api.get("/healthz")
        assert (health["number"], health["generation"], health["overlay"]) == (0, 0, None)
        assert (daemon.dataplane.given, daemon.tuns, daemon.plumbing.plans) == ([], [], [])
        answer = await daemon.api.post("/policy/commit", {"number": 5})
        assert answer == {"generation": 1, "number": 5}
        health = await daemon.api.get("/healthz")
        assert (health["node"], health["dataplane"], health["overlay"]) == (
            "node1",
            "recorder",
            "host-gw",
        )
        assert daemon.tuns == ["pylb0"]
        assert len(daemon.plumbing.plans) == 1
        plan = await daemon.api.get("/plan")
        assert plan["node"] == "node1"
        assert plan == daemon.plumbing.plans[0].to_json()

    serve(test)


def test_a_change_reaches_the_dataplane_as_a_delta(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        await daemon.api.post("/policy", WHOLE)
        more = endpoints("web", "10.244.1.5", "10.244.2.5")
        body = {"number": 6, "base": 5, "apply": [more], "delete": []}
        await daemon.api.post("/policy/validate", body)
        answer = await daemon.api.post("/policy/commit", {"number": 6})
        assert answer == {"generation": 2, "number": 6}
        assert isinstance(daemon.dataplane.given[-1], Delta)
        assert len(daemon.plumbing.plans) == 1, "nothing to plumb"
        await daemon.api.post("/policy", {"delete": [ref(node(2))]})
        assert len(daemon.plumbing.plans) == 2
        assert not daemon.plumbing.plans[-1].peers
        assert (await daemon.api.get("/healthz"))["number"] == 7

    serve(test)


def test_what_cannot_be_taken_changes_nothing(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        await daemon.api.post("/policy", WHOLE)
        before = await daemon.api.get("/plan")
        error = await refusal(daemon.api.post("/policy", {"apply": [service("twin")]}))
        assert error.status == 422
        assert any("10.96.0.10" in sentence for sentence in error.errors)
        body = {"number": 6, "base": 4, "apply": [], "delete": []}
        assert (await refusal(daemon.api.post("/policy/validate", body))).status == 409
        assert (await refusal(daemon.api.post("/policy/commit", {"number": 6}))).status == 409
        daemon.dataplane.refuse = True
        error = await refusal(daemon.api.post("/policy", {"delete": [ref(service())]}))
        assert (error.status, error.errors) == (
            422,
            ["frontend 10.96.0.10:80: refused by the test"],
        )
        assert await daemon.api.get("/plan") == before
        assert (await daemon.api.get("/healthz"))["generation"] == 1

    serve(test)


def test_plumbing_that_fails_puts_the_policy_before_back(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        await daemon.api.post("/policy", WHOLE)
        daemon.plumbing.failures = 1
        error = await refusal(daemon.api.post("/policy", {"delete": [ref(node(2))]}))
        assert error.status == 500
        assert "eth0" in error.message
        assert sorted(daemon.plumbing.plans[-1].peers) == ["node2"]
        assert daemon.dataplane.given[-1] == daemon.plumbing.plans[-1]
        assert (await daemon.api.get("/healthz"))["number"] == 5

    serve(test)


def test_a_first_policy_that_fails_can_be_tried_again(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        daemon.plumbing.failures = 1
        assert (await refusal(daemon.api.post("/policy", WHOLE))).status == 500
        assert (await daemon.api.get("/healthz"))["number"] == 0
        assert daemon.plumbing.cleaned == 1
        assert (await daemon.api.post("/policy", WHOLE))["number"] == 5
        assert daemon.tuns == ["pylb0", "pylb0"]

    serve(test)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/policy", None, "expected a JSON object"),
        ("/policy/validate", {"objects": []}, "number: expected a whole number, got null"),
        ("/policy/validate", {"number": True, "objects": []}, "expected a whole number"),
        ("/policy", {"objects": {}}, "objects: expected a list"),
        ("/policy", {"objects": [], "base": 1}, "base: expected only number, objects"),
        ("/policy", {"delete": [1]}, "delete: expected"),
        ("/policy", {"delete": [{"kind": "Service", "name": 7}]}, "delete: expected"),
        ("/policy/commit", {}, "number"),
    ],
)
def test_requests_that_make_no_sense(serve: Serve, path: str, body: Any, words: str) -> None:
    async def test(daemon: Daemon) -> None:
        error = await refusal(daemon.api.post(path, body))
        assert error.status == 400
        assert words in error.message

    serve(test)


def test_there_is_no_plan_at_first(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        assert (await refusal(daemon.api.get("/plan"))).status == 404

    serve(test)


def test_flows_are_shown_deleted_and_counted(serve: Serve) -> None:
    async def test(daemon: Daemon) -> None:
        assert [f["id"] for f in (await daemon.api.get("/conntrack"))["flows"]] == [1, 2]
        udp = await daemon.api.get("/conntrack", protocol=17)
        assert [f["id"] for f in udp["flows"]] == [2]
        assert (await refusal(daemon.api.get("/conntrack", colour="red"))).status == 400
        gone = await daemon.api.delete("/conntrack", protocol=17)
        assert (gone["deleted"], [f["id"] for f in gone["flows"]]) == (1, [2])
        assert len((await daemon.api.get("/conntrack"))["flows"]) == 1
        counters = (await daemon.api.get("/counters"))["counters"]
        assert counters["drop_truncated"] == 3
        assert counters["pump_read_tun"] == 0

    serve(test)


def test_events_come_as_lines(serve: Serve) -> None:
    def first(path: Path) -> Any:
        return next(iter(Client(path).stream("/conntrack/events", events="DESTROY", protocol=17)))

    async def test(daemon: Daemon) -> None:
        line = asyncio.ensure_future(asyncio.to_thread(first, daemon.path))
        while not daemon.node.events.listeners:  # noqa: ASYNC110 - nothing tells of a listener
            await asyncio.sleep(0.001)
        await daemon.api.delete("/conntrack")
        event = await line
        assert (event["kind"], event["flow"]["id"]) == ("DESTROY", 2)
        assert event["at"] > 1_700_000_000_000_000_000
        error = await refusal(daemon.api.get("/conntrack/events", events="OLD"))
        assert error.status == 400

    serve(test)
