"""What a packet costs in the Python dataplane: parsed, looked up, translated.

On the fixtures of the dataplane's own tests.  The clock stands still, so no flow
ends between two packets.
"""

from __future__ import annotations

import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from tests.unit.dataplane import net

from pylb.dataplane.base import Packet
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.dataplane.python.packet import parse

FLOWS = 10_000
"""Flows that are tracked while one is looked up."""
PORT = 40_000


def connected(flows: int = 1) -> PythonDataplane:
    """A dataplane with flows from a pod to a Service, from ports ``PORT`` on."""
    service = net.frontend(net.VIP_UDP, 53, [net.backend(net.POD_B, 53)], protocol=net.UDP)
    made = net.dataplane(service, max_flows=2 * FLOWS)
    packets = [net.tun(net.datagram(net.POD_A, PORT + n, net.VIP_UDP, 53)) for n in range(flows)]
    made.process(packets, 0)
    return made


@pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
def test_parse(benchmark: BenchmarkFixture, kind: str) -> None:
    benchmark.group = "parse a packet"
    packet = {
        "tcp": net.syn(net.POD_A, PORT, net.VIP, 80),
        "udp": net.datagram(net.POD_A, PORT, net.VIP_UDP, 53),
        "icmp": net.ping(net.POD_A, net.POD_REMOTE),
    }[kind]
    assert benchmark(parse, packet).src == net.POD_A


@pytest.mark.parametrize("flows", [1, FLOWS])
def test_look_up_and_translate(benchmark: BenchmarkFixture, flows: int) -> None:
    """A datagram of a flow that is there, to the pod next door: TUN to TUN."""
    benchmark.group = "translate a packet of a known flow"
    dataplane = connected(flows)
    batch = [net.tun(net.datagram(net.POD_A, PORT + flows // 2, net.VIP_UDP, 53))]
    out = benchmark(dataplane.process, batch, 0)
    assert net.only(out).dst == net.POD_B


def test_translate_and_encapsulate(benchmark: BenchmarkFixture) -> None:
    """The same to a pod on the other node, in VXLAN."""
    benchmark.group = "translate a packet of a known flow"
    backend = net.backend(net.POD_REMOTE, 53)
    dataplane = net.dataplane(net.frontend(net.VIP_UDP, 53, [backend], protocol=net.UDP))
    batch = [net.tun(net.datagram(net.POD_A, PORT, net.VIP_UDP, 53))]
    out = benchmark(dataplane.process, batch, 0)
    assert net.only(out).dst == net.POD_REMOTE


def test_new_flow(benchmark: BenchmarkFixture) -> None:
    """The first datagram of a flow: a backend is chosen and a flow is made."""
    benchmark.group = "open a flow"
    dataplane = connected(1)
    ports = itertools.cycle(range(1024, 65536))

    def fresh() -> tuple[tuple[list[Packet], int], dict[str, object]]:
        packet = net.datagram(net.POD_A, next(ports), net.VIP_UDP, 53)
        return ([net.tun(packet)], 0), {}

    out = benchmark.pedantic(dataplane.process, setup=fresh, rounds=5000)
    assert net.only(out).dst == net.POD_B


@pytest.mark.parametrize("size", [1, 32])
def test_batch(benchmark: BenchmarkFixture, size: int) -> None:
    """What a batch saves: datagrams of as many flows in one call."""
    benchmark.group = "a batch of packets of known flows"
    dataplane = connected(size)
    batch = [net.tun(net.datagram(net.POD_A, PORT + n, net.VIP_UDP, 53)) for n in range(size)]
    assert len(benchmark(dataplane.process, batch, 0).sent) == size
