"""The pump: moves packets between descriptors and a dataplane, on the event loop.

A wake-up reads at most `BATCH` packets, hands them to the dataplane in one call
and sends what comes back; then the loop's other work has its turn, so that
packets never keep the control API waiting for longer than a batch takes.
Nothing is ever held back for a later batch.  What the system does not take is
counted and forgotten, as a full queue of a network card would: nothing raises,
nothing is tried again, nothing spins.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from pylb.dataplane.base import NODE_TUN, Dataplane, Event, Output, OverlayPort, Packet, TunPort
from pylb.node.counters import PumpCounters
from pylb.node.overlay_sockets import OverlaySockets, OverlayUser
from pylb.node.tun import Tun

BATCH = 64
"""Packets that one wake-up reads from one descriptor."""

_LARGEST = 65535
_SHORTEST_TICK = 0.05
_LONGEST_TICK = 1.0
"""Seconds between calls of `Dataplane.advance`: no sooner, no later."""
_REMEMBERED = 4096
"""Senders whose address has been parsed before; bounded, for anybody may send."""


class Pump(OverlayUser):
    """Runs ``dataplane`` on a TUN and the overlay's sockets.

    ``publish`` gets the conntrack events of every call, their times still on the
    monotonic clock.  ``clock`` gives nanoseconds.  All methods belong to the
    thread of the running loop.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        publish: Callable[[list[Event]], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._dataplane = dataplane
        self._publish = publish
        self.now = clock
        self._counters = PumpCounters()
        self._tuns: dict[TunPort, Tun] = {}
        self._senders: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._origins: dict[str, OverlayPort] = {}
        self._destinations: dict[int, tuple[str, int]] = {}

    def counters(self) -> Mapping[str, int]:
        """Packets moved and refusals of the system, by name."""
        return self._counters.snapshot()

    def use_overlay(self, sockets: OverlaySockets | None, kind: str) -> None:
        """Receive and send through ``sockets`` as ``kind`` asks from now on.

        Closes those that were in use before.
        """
        former = self._overlay
        if sockets is not former:
            loop = asyncio.get_running_loop()
            if former is not None:
                loop.remove_reader(former.receiver.fileno())
                former.close()
            if sockets is not None:
                loop.add_reader(sockets.receiver.fileno(), self._overlay_readable, sockets)
            self._overlay = sockets
        self._senders = [] if sockets is None else sockets.senders(kind)
        self._destinations.clear()

    def use_tun(self, tun: Tun, port: TunPort = NODE_TUN) -> None:
        """Read from and write to ``tun`` as ``port`` from now on, and keep the dataplane's time."""
        if port in self._tuns:
            raise RuntimeError(f"the pump has a TUN for {port} already")
        self._tuns[port] = tun
        asyncio.get_running_loop().add_reader(tun.fileno(), self._tun_readable, tun, port)
        if self._timer is None:
            self._tick()

    def close(self) -> None:
        """Stop, and close the descriptors."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        for tun in self._tuns.values():
            loop.remove_reader(tun.fileno())
            tun.close()
        self._tuns.clear()
        self.use_overlay(None, "")

    def _tun_readable(self, tun: Tun, port: TunPort) -> None:
        """Read a batch from a TUN and process it."""
        fd, read = tun.fileno(), os.read
        batch: list[Packet] = []
        try:
            for _ in range(BATCH):
                batch.append(Packet(port, read(fd, _LARGEST)))
        except BlockingIOError:
            pass
        except OSError as error:
            # Nothing was read (EBADFD: the device is gone), so the loop would come
            # straight back.
            self._counters.refused("read_tun", error)
            self._rest(tun, port)
        self._counters.add("read_tun", len(batch))
        if batch:
            self.put_out(self._dataplane.process(batch, self.now()))

    def _rest(self, tun: Tun, port: TunPort) -> None:
        """Leave ``tun`` alone for a moment."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(tun.fileno())

        def resume() -> None:
            if self._tuns.get(port) is tun:
                loop.add_reader(tun.fileno(), self._tun_readable, tun, port)

        loop.call_later(_LONGEST_TICK, resume)

    def _overlay_readable(self, sockets: OverlaySockets) -> None:
        """Receive a batch from the overlay and process it."""
        receive, origins = sockets.receiver.recvfrom, self._origins
        batch: list[Packet] = []
        try:
            for _ in range(BATCH):
                data, (sender, _port) = receive(_LARGEST)
                port = origins.get(sender)
                if port is None:
                    port = self._remember(sender)
                batch.append(Packet(port, data))
        except BlockingIOError:
            pass
        except OSError as error:
            # An ICMP error for something sent (a peer whose daemon is down): reading it
            # has taken it off the socket.
            self._counters.refused("receive_overlay", error)
        self._counters.add("receive_overlay", len(batch))
        if batch:
            self.put_out(self._dataplane.process(batch, self.now()))

    def _remember(self, sender: str) -> OverlayPort:
        if len(self._origins) >= _REMEMBERED:
            self._origins.clear()
        port = self._origins[sender] = OverlayPort(int(IPv4Address(sender)))
        return port

    def put_out(self, output: Output) -> None:
        """Send and publish what a call of the dataplane produced."""
        if output.sent:
            self._send(output.sent)
        if output.events:
            self._publish(output.events)

    def want_events(self, wanted: bool) -> None:
        """The Python dataplane makes events whether or not somebody listens."""

    def _send(self, packets: list[Packet]) -> None:
        counters, write, tuns = self._counters, os.write, self._tuns
        senders, destinations = self._senders, self._destinations
        written = sent = 0
        for port, data in packets:
            if isinstance(port, TunPort):
                tun = tuns.get(port)
                if tun is None:
                    counters.add("write_tun_closed", 1)
                    continue
                try:
                    write(tun.fileno(), data)
                    written += 1
                except OSError as error:
                    counters.refused("write_tun", error)
                continue
            if not senders:
                counters.add("send_overlay_closed", 1)
                continue
            address, spread = port
            destination = destinations.get(address)
            if destination is None:
                destination = self._destination(address)
            try:
                senders[spread % len(senders)].sendto(data, destination)
                sent += 1
            except OSError as error:
                counters.refused("send_overlay", error)
        counters.add("write_tun", written)
        counters.add("send_overlay", sent)

    def _destination(self, address: int) -> tuple[str, int]:
        """A peer's address as sendto takes it; there are as many as the plan has peers."""
        assert self._overlay is not None
        destination = (str(IPv4Address(address)), self._overlay.where.port)
        self._destinations[address] = destination
        return destination

    def _tick(self) -> None:
        """Let the dataplane's time pass, and come back when it next has something to do."""
        now = self.now()
        wait = _LONGEST_TICK
        try:
            self.put_out(self._dataplane.advance(now))
            deadline = self._dataplane.next_deadline()
            if deadline is not None:
                wait = min(max((deadline - now) / 1e9, _SHORTEST_TICK), _LONGEST_TICK)
        finally:
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)
