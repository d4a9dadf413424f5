"""The simulation notices what it is there to notice."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import NODE_TUN, Output, OverlayPort, Packet
from pylb.wire import udp, vxlan
from tests.sim.clock import FAIR, SECOND, Clock, Weather
from tests.sim.cluster import Cluster
from tests.sim.hosts import echo
from tests.sim.packets import Reassembly, decode, forwarded, fragments
from tests.sim.world import CLIENT, INTERNET, NODE2, TUNNEL1, VIP, A, B, C, policy, web

GOOD = udp.build(A, B, 40000, 53, b"hello")


def damaged(at: int) -> bytes:
    data = bytearray(GOOD)
    data[at] ^= 0x40
    return bytes(data)


@pytest.mark.parametrize("at", [0, 3, 10, 12, 19, 20, 25, 26, 30])
def test_a_damaged_packet_is_noticed_on_any_hop(at: int) -> None:
    assert decode(GOOD).data == b"hello"
    with pytest.raises(AssertionError):
        decode(damaged(at))
    cluster = Cluster(policy(), 1)
    with pytest.raises(AssertionError):
        cluster.nodes["node1"].take(Output(sent=[Packet(NODE_TUN, damaged(at))]))
    with pytest.raises(AssertionError):
        cluster.pods["b"].receive(damaged(at))


@pytest.mark.parametrize(
    ("src", "dst", "says"),
    [
        (A, VIP, "to a VIP"),
        (A, TUNNEL1, "no interface has"),
        (A, C, "outside the overlay"),
        (A, INTERNET, "a pod's address leaks"),
        (0x7F000001, CLIENT, "loopback source"),
    ],
)
def test_what_must_never_be_written_is_noticed(src: int, dst: int, says: str) -> None:
    cluster = Cluster(policy(web("b")), 1)
    with pytest.raises(AssertionError, match=says):
        cluster.nodes["node1"].take(
            Output(sent=[Packet(NODE_TUN, udp.build(src, dst, 1, 80, b"x"))])
        )


def test_a_vip_inside_the_overlay_and_a_wrong_mac_are_noticed() -> None:
    node = Cluster(policy(web("b")), 1).nodes["node1"]
    mac, peer = node.plan.overlay.mac, node.plan.peers["node2"].mac
    for packet, to in ((udp.build(A, VIP, 1, 80), peer), (udp.build(A, C, 1, 80), mac)):
        payload = vxlan.encode(packet, 1, mac, to)
        with pytest.raises(AssertionError):
            node.take(Output(sent=[Packet(OverlayPort(NODE2), payload)]))


def test_fragments_come_together_in_any_order_and_twice() -> None:
    whole = udp.build(A, B, 1, 2, bytes(range(256)) * 20, ident=9)
    pieces = fragments(whole, 1450)
    assert [len(piece) <= 1450 for piece in pieces] == [True] * 4
    reassembly = Reassembly()
    came = [reassembly.add(decode(p)) for p in [*pieces[1:], pieces[2], pieces[0]]]
    assert came == [None] * 4 + [whole]
    nested = [small for piece in pieces for small in fragments(piece, 600)]
    assert [r for p in nested if (r := reassembly.add(decode(p)))] == [whole]


def test_ttl_runs_out_at_one() -> None:
    twice = forwarded(udp.build(A, B, 1, 2, ttl=2))
    assert twice is not None
    assert decode(twice).ttl == 1
    assert forwarded(twice) is None


def test_time_moves_only_as_far_as_it_is_told() -> None:
    clock, fired = Clock(), []
    clock.after(5 * SECOND, lambda: fired.append("late"))
    clock.after(SECOND, lambda: fired.append("early"))
    clock.after(2 * SECOND, lambda: fired.append("never")).cancel()
    clock.fire_next()
    assert (clock.now, fired) == (SECOND, ["early"])
    clock.fire_next()
    assert (clock.now, fired) == (5 * SECOND, ["early", "late"])
    assert clock.next_time() is None


def test_links_do_what_their_weather_says() -> None:
    cluster = Cluster(policy(), 7)
    cluster.weather(Weather(loss=1.0), "a")
    cluster.pods["b"].listen(80, echo)
    connection = cluster.pods["a"].connect(B, 80)
    cluster.settle(3600)
    assert connection.timed_out
    assert cluster.links["a"].carried == 0
    cluster.weather(FAIR)
    connection = cluster.pods["a"].connect(B, 80)
    cluster.weather(Weather(duplicate=1.0), "a")
    cluster.settle()
    assert connection.state.name == "OPEN"
    assert len(cluster.pods["b"].inbox) > 2
