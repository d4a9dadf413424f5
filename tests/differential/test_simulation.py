"""A whole cluster in one process, once on each dataplane: one seed is one history."""

from __future__ import annotations

import os

import pytest

from pylb.policy.model import Overlay
from tests.dataplanes import DATAPLANES, chosen
from tests.sim.clock import SECOND, Weather
from tests.sim.test_changes import KEY
from tests.sim.test_weather import PATHS, WEATHERS, world
from tests.sim.world import VIP2, draining, ready, with_endpoints

SEED = int(os.environ.get("PYLB_SIM_SEED", "11"))
WORLDS = [
    ("loss", Overlay.VXLAN),
    ("duplicates", Overlay.UDP),
    ("reordering", Overlay.HOST_GW),
    ("storm", Overlay.VXLAN),
]


def history(seed: int, weather: Weather, overlay: Overlay) -> list[object]:
    """Connections and datagrams on every path, while endpoints come, drain and go."""
    cluster, hosts = world(seed, overlay)
    cluster.weather(weather)
    for turn in range(4):
        for who, address, port in PATHS:
            connection = hosts[who].connect(address, port)
            connection.write(cluster.rng.randbytes(cluster.rng.randrange(1, 9000)))
            if cluster.rng.random() < 0.5:
                connection.close()
        for who in ("a", "c", "node1", "node3"):
            text = cluster.rng.randbytes(cluster.rng.randrange(1, 4000))
            hosts[who].send_udp(VIP2, 53, text, 40000 + turn)
            hosts[who].ping(VIP2)
        cluster.run(int(cluster.rng.uniform(0.1, 40) * SECOND))
        others = [draining(p) if cluster.rng.random() < 0.5 else ready(p) for p in "bc"]
        cluster.change(with_endpoints(cluster.policy, KEY, ready("d"), *others[: turn % 3]))
    cluster.run(500_000 * SECOND)
    return [
        (name, node.events, node.dropped, node.written, node.dataplane.counters())
        for name, node in sorted(cluster.nodes.items())
    ]


@pytest.mark.parametrize(("weather", "overlay"), WORLDS)
def test_both_dataplanes_give_one_history(weather: str, overlay: Overlay) -> None:
    histories = []
    for name in DATAPLANES:
        with chosen(name):
            histories.append(history(SEED, WEATHERS[weather], overlay))
    for ours, theirs in zip(*histories, strict=True):
        assert ours == theirs
