"""The pump on socket pairs instead of a TUN, with a dataplane that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pytest
import uvloop

from pylb.dataplane.base import (
    ALL_FLOWS,
    NODE_TUN,
    Event,
    FlowFilter,
    FlowView,
    Output,
    OverlayPort,
    Packet,
    Port,
    TunPort,
)
from pylb.node.overlay_sockets import OverlayAddress, OverlaySockets
from pylb.node.pump import BATCH, Pump
from pylb.node.tun import Tun
from pylb.plan.tables import Delta, OverlayTable, Plan
from tests.unit.node.plans import ip, plan

LOOPBACK = ip("127.0.0.1")
DEADLINE = 10.0


class Scripted:
    """A dataplane that sends each packet where ``route`` says and remembers its calls."""

    def __init__(self, route: Callable[[Packet], Port | None] = lambda packet: packet.port) -> None:
        self.route = route
        self.batches: list[list[Packet]] = []
        self.advanced: list[int] = []
        self.deadline: int | None = None

    def load(self, plan: Plan, now: int) -> Output:
        return Output()

    def change(self, delta: Delta, now: int) -> Output:
        return Output()

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        return iter(())

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        return 0, Output()

    def counters(self) -> Mapping[str, int]:
        return {}

    def process(self, batch: Sequence[Packet] | Iterable[Packet], now: int) -> Output:
        packets = list(batch)
        self.batches.append(packets)
        ways = ((self.route(packet), packet.data) for packet in packets)
        return Output(sent=[Packet(port, data) for port, data in ways if port is not None])

    def advance(self, now: int) -> Output:
        self.advanced.append(now)
        return Output()

    def next_deadline(self) -> int | None:
        return self.deadline

    @property
    def seen(self) -> list[Packet]:
        return [packet for batch in self.batches for packet in batch]


class Pair:
    """A TUN's two ends: the pump's, and the kernel's as a test plays it."""

    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.kernel.settimeout(DEADLINE)
        self._ours = ours

    @property
    def tun(self) -> Tun:
        return cast(Tun, self)

    def fileno(self) -> int:
        return self._ours.fileno()

    def persist(self) -> None:
        pass

    def close(self) -> None:
        self._ours.close()
        self.kernel.close()


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
Main = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Main:
    """Runs a coroutine on the reference loop and on the fast one."""

    def go(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(main, DEADLINE))

    return go


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another part of the loop brings about; `run` has the deadline."""
    while not condition():  # noqa: ASYNC110 - the pump has no event to wait for
        await asyncio.sleep(0.001)


def on_loopback(kind: str = "udp", port: int = 0) -> Plan:
    return plan(node_ip=LOOPBACK, overlay=OverlayTable(kind, port, 1, b"\x02\x50\0\0\0\1", 1450))


def test_packets_of_the_tun_go_in_and_out_in_order(run: Main) -> None:
    async def main() -> None:
        dataplane, pair = Scripted(), Pair()
        pump = Pump(dataplane, lambda events: None)
        pump.use_tun(pair.tun)
        for number in range(3):
            pair.kernel.send(b"packet %d" % number)
        await until(lambda: len(dataplane.seen) == 3)
        assert [p.data for p in dataplane.seen] == [b"packet 0", b"packet 1", b"packet 2"]
        assert [pair.kernel.recv(100) for _ in range(3)] == [p.data for p in dataplane.seen]
        assert pump.counters() == {
            "read_tun": 3,
            "receive_overlay": 0,
            "send_overlay": 0,
            "write_tun": 3,
        }
        pump.close()

    run(main())


def test_a_wakeup_reads_no_more_than_a_batch(run: Main) -> None:
    async def main() -> None:
        dataplane, pair = Scripted(lambda packet: None), Pair()
        pump = Pump(dataplane, lambda events: None)
        sent = 0
        pair.kernel.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                pair.kernel.send(b"x")
                sent += 1
        assert sent > 0
        pump.use_tun(pair.tun)
        await until(lambda: len(dataplane.seen) == sent)
        assert max(len(batch) for batch in dataplane.batches) <= BATCH
        pump.close()

    run(main())


def test_overlay_payload_reaches_the_peer_and_comes_from_it(run: Main) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.2", 0))
            far.settimeout(DEADLINE)
            port = far.getsockname()[1]
            dataplane, pair = Scripted(), Pair()
            pump = Pump(dataplane, lambda events: None)
            udp = on_loopback(port=port)
            pump.use_overlay(pump.open_overlay(udp), "udp")
            pump.use_tun(pair.tun)
            far.sendto(b"encapsulated", ("127.0.0.1", port))
            await until(lambda: dataplane.seen)
            assert dataplane.seen == [Packet(OverlayPort(ip("127.0.0.2")), b"encapsulated")]
            assert far.recvfrom(100) == (b"encapsulated", ("127.0.0.1", port))
            assert pump.open_overlay(udp) is pump.open_overlay(udp)
            pump.close()

    run(main())


def test_vxlan_spreads_its_source_ports_by_the_flow(run: Main) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind(("127.0.0.2", 0))
            far.settimeout(DEADLINE)
            port = far.getsockname()[1]
            pump = Pump(Scripted(), lambda events: None)
            pump.use_overlay(pump.open_overlay(on_loopback("vxlan", port)), "vxlan")
            to = ip("127.0.0.2")
            spreads = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0xFFFFFFFF)
            pump.put_out(
                Output(sent=[Packet(OverlayPort(to, s), bytes([s & 255])) for s in spreads])
            )
            ports = [far.recvfrom(100)[1][1] for _ in spreads]
            assert len(set(ports)) == 8
            assert ports[0] == ports[8]
            assert ports[7] == ports[9]
            assert port not in ports
            pump.close()

    run(main())


def test_what_the_system_refuses_is_counted_by_name(run: Main) -> None:
    async def main() -> None:
        pair = Pair()
        pump = Pump(Scripted(), lambda events: None)
        pump.put_out(Output(sent=[Packet(NODE_TUN, b"early"), Packet(OverlayPort(1), b"early")]))
        pump.use_overlay(pump.open_overlay(on_loopback("vxlan", 0)), "vxlan")
        pump.use_tun(pair.tun)
        pair.kernel.close()
        pump.put_out(
            Output(
                sent=[
                    Packet(NODE_TUN, b"nobody"),
                    Packet(TunPort(7), b"no such device"),
                    Packet(OverlayPort(LOOPBACK), bytes(65535)),
                ]
            )
        )
        counted = pump.counters()
        assert counted["write_tun_closed"] == 2
        assert counted["send_overlay_closed"] == 1
        assert counted["write_tun_econnrefused"] == 1
        # To port 0 (EINVAL) or too long (EMSGSIZE): whichever the kernel sees first.
        assert counted.get("send_overlay_einval", 0) + counted.get("send_overlay_emsgsize", 0) == 1
        pump.close()

    run(main())


def test_time_passes_without_packets(run: Main) -> None:
    async def main() -> None:
        dataplane, pair = Scripted(), Pair()
        dataplane.deadline = 0
        pump = Pump(dataplane, lambda events: None)
        pump.use_tun(pair.tun)
        await until(lambda: len(dataplane.advanced) > 2)
        assert dataplane.advanced == sorted(dataplane.advanced)
        pump.close()

    run(main())


def test_time_goes_on_after_a_fault(run: Main) -> None:
    class Faulty(Scripted):
        def advance(self, now: int) -> Output:
            super().advance(now)
            raise ZeroDivisionError

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
        dataplane, pair = Faulty(), Pair()
        pump = Pump(dataplane, lambda events: None)
        with pytest.raises(ZeroDivisionError):
            pump.use_tun(pair.tun)
        await until(lambda: len(dataplane.advanced) > 1)
        pump.close()
        assert seen

    run(main())


def test_events_are_published(run: Main) -> None:
    async def main() -> None:
        published: list[list[Event]] = []
        pump = Pump(Scripted(), published.append)
        event = cast(Event, object())
        pump.put_out(Output(events=[event]))
        pump.put_out(Output())
        assert published == [[event]]
        pump.close()

    run(main())


def test_sockets_are_reopened_only_for_another_port(run: Main) -> None:
    async def main() -> None:
        pump = Pump(Scripted(), lambda events: None)
        first = pump.open_overlay(on_loopback("udp", 48111))
        assert first is not None
        pump.use_overlay(first, "udp")
        assert pump.open_overlay(on_loopback("vxlan", 48111)) is first
        other = pump.open_overlay(on_loopback("udp", 48112))
        assert other is not first
        pump.discard(first)
        assert first.receiver.fileno() >= 0
        pump.discard(other)
        assert other is not None
        assert other.receiver.fileno() == -1
        assert pump.open_overlay(on_loopback("host-gw")) is None
        pump.use_overlay(None, "host-gw")
        assert first.receiver.fileno() == -1
        pump.close()

    run(main())


def test_a_port_in_use_is_one_sentence() -> None:
    sockets = OverlaySockets(OverlayAddress("127.0.0.1", 0))
    port = sockets.receiver.getsockname()[1]
    with pytest.raises(Exception, match=f"UDP port {port} of 127.0.0.1 is in use"):
        OverlaySockets(OverlayAddress("127.0.0.1", port))
    sockets.close()


def test_the_outer_header_is_the_kernels() -> None:
    sockets = OverlaySockets(OverlayAddress("127.0.0.1", 0))
    assert sockets.receiver.getsockopt(socket.IPPROTO_IP, 10) == 0  # IP_PMTUDISC_DONT
    assert sockets.receiver.getsockopt(socket.SOL_SOCKET, 11) == 0  # SO_NO_CHECK
    assert all(s.getsockopt(socket.SOL_SOCKET, 11) == 1 for s in sockets.senders("vxlan"))
    assert sockets.senders("udp") == [sockets.receiver]
    if os.geteuid() == 0:
        assert sockets.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 8 << 20
    sockets.close()
