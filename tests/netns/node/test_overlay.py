"""Two daemons and what passes between them: the client's namespace plays node2."""

from __future__ import annotations

import pytest
import yaml

from tests.netns.node.world import CLIENT_IP, ON_BOTH, World
from tests.unit.node.cluster import Body, endpoints, node, pod, service

pytestmark = pytest.mark.root

WEB = "10.96.0.10"
ONE, FAR = "10.244.1.2", "10.244.2.3"


def objects() -> list[Body]:
    second = node(2)
    second["status"]["addresses"][0]["address"] = CLIENT_IP
    lab = {
        "apiVersion": "pylb.io/v1alpha1",
        "kind": "Lab",
        "metadata": {"name": "lab"},
        "spec": {"underlay": {"client": "192.168.7.252"}},
    }
    web, slices = service("web", WEB, 80), endpoints("web", FAR)
    return [node(1), second, lab, pod("one", "node1", ONE), pod("far", "node2", FAR), web, slices]


@ON_BOTH
@pytest.mark.parametrize("overlay", ["vxlan", "udp", "host-gw"])
def test_pods_of_two_nodes_meet(here: World, overlay: str) -> None:
    (here.folder / "cluster.yaml").write_text(yaml.safe_dump_all(objects()))
    daemons = [here.daemon("--overlay", overlay, node=number) for number in (1, 2)]
    mtu = daemons[0].api.get("/plan")["overlay"]["mtu"]
    one, far = here.pod(2, mtu=mtu), here.pod(3, node=2, mtu=mtu)
    here.serve(far, 8080, "far")
    here.serve(far, 8080, "far", "udp")
    assert here.ask(one, FAR, 8080) == f"far {ONE}"
    assert here.ask(one, WEB, 80) == f"far {ONE}"
    assert here.ask(one, WEB, 80, size=60000) == f"far {ONE}"
    assert here.ask(one, FAR, 8080, "udp", mtu - 28) == f"far {ONE} {mtu - 28}"
    assert here.ask(one, FAR, 8080, "udp", 4000) == f"far {ONE} 4000"
    assert here.ask(here.node, WEB, 80) == "far 10.244.1.0"
    assert here.ask(here.node, FAR, 8080) == "far 10.244.1.0"
    for daemon in daemons:
        counters = daemon.api.get("/counters")["counters"]
        assert (counters["pump_send_overlay"] > 0) is (overlay != "host-gw")
        refused = [name for name in counters if name.startswith("pump_send_overlay_")]
        assert not refused


@ON_BOTH
def test_a_peer_that_is_down_costs_nothing_but_its_packets(here: World) -> None:
    (here.folder / "cluster.yaml").write_text(yaml.safe_dump_all(objects()))
    daemon = here.daemon("--overlay", "udp")
    one = here.pod(2, mtu=1472)
    assert here.no_answer(one, FAR, 8080)
    assert daemon.process.poll() is None
    here.daemon("--overlay", "udp", node=2)
    here.serve(here.pod(3, node=2, mtu=1472), 8080, "far")
    assert here.ask(one, FAR, 8080) == f"far {ONE}"
