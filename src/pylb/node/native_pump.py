"""The native dataplane's pump: a thread of its own that runs C and never waits for Python.

It stands where `pylb.node.pump.Pump` stands for the Python dataplane.  Packets stay in
C (csrc/pump.c), which cffi enters without the interpreter's lock; what comes up here is
conntrack events, through an eventfd, and counters when they are asked for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pylb import _core
from pylb.dataplane.base import NODE_TUN, Event, Output, TunPort
from pylb.dataplane.native.datapath import NativeDataplane
from pylb.node.errors import NodeError
from pylb.node.logs import Log
from pylb.node.overlay_sockets import Batching, OverlaySockets, OverlayUser
from pylb.node.tun import EVERY_OFFLOAD, Offloads, Tun

log = Log(__name__)

_lib, _ffi = _core.lib, _core.ffi

# In the order of enum pylb_moved.
_MOVED = ("read_tun", "write_tun", "receive_overlay", "send_overlay")
_ERRNOS = 160


class Limits(NamedTuple):
    """The most that a node's descriptors may do; what the kernel lacks is done without."""

    tun: Offloads = EVERY_OFFLOAD
    overlay: Batching = Batching()


NO_LIMITS = Limits()


class NativePump(OverlayUser):
    """Runs ``dataplane`` on a TUN and the overlay's sockets.

    ``most`` is what the overlay's sockets may do, if the kernel lets them; ``publish``
    gets the conntrack events, their times still on the monotonic clock.
    All methods belong to the thread of the running loop.
    """

    def __init__(
        self,
        dataplane: NativeDataplane,
        most: Batching,
        publish: Callable[[list[Event]], None],
    ) -> None:
        self._dataplane = dataplane
        self._most = most
        self._publish = publish
        self.now = time.monotonic_ns
        self._notify = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pump = _lib.pylb_pump_new(dataplane.handle, self._notify)
        if self._pump == _ffi.NULL:
            os.close(self._notify)
            raise NodeError(f"the pump cannot be made: {os.strerror(_ffi.errno)}")
        self._tun: Tun | None = None
        self._offloads = _ffi.new("struct pylb_offloads *")
        self._thread: threading.Thread | None = None

    def counters(self) -> Mapping[str, int]:
        """Packets moved and refusals of the system, by name (see `PumpCounters`)."""
        if self._pump == _ffi.NULL:
            return dict.fromkeys(sorted(_MOVED), 0)
        moved = _ffi.new("uint64_t[]", len(_MOVED))
        refused = _ffi.new("uint64_t[]", len(_MOVED) * _ERRNOS)
        _lib.pylb_pump_counters(self._pump, moved, refused)
        counts = dict(zip(_MOVED, moved, strict=True))
        for index, count in enumerate(refused):
            if count:
                what, number = divmod(index, _ERRNOS)
                reason = errno.errorcode.get(number, "error").lower()
                counts[f"{_MOVED[what]}_{reason}"] = count
        return dict(sorted(counts.items()))

    def use_overlay(self, sockets: OverlaySockets | None, kind: str) -> None:
        """Receive and send through ``sockets`` as ``kind`` asks from now on.

        Closes those that were in use before.
        """
        former = self._overlay
        offloads = self._offloads
        if sockets is None:
            _lib.pylb_pump_use_overlay(self._pump, -1, _ffi.NULL, 0, 0, offloads)
        else:
            offloads.udp_segment, offloads.udp_gro = sockets.offload(self._most)
            senders = [sock.fileno() for sock in sockets.senders(kind)]
            number = _lib.pylb_pump_use_overlay(
                self._pump,
                sockets.receiver.fileno(),
                senders,
                len(senders),
                sockets.where.port,
                offloads,
            )
            if number:
                raise NodeError(f"the overlay's socket cannot be watched: {os.strerror(number)}")
            if sockets is not former:
                log.info(
                    "overlay",
                    udp_segment=bool(offloads.udp_segment),
                    udp_gro=bool(offloads.udp_gro),
                )
        self._overlay = sockets
        if former is not None and former is not sockets:
            former.close()

    def use_tun(self, tun: Tun, port: TunPort = NODE_TUN) -> None:
        """Read from and write to ``tun`` from now on, and keep the dataplane's time."""
        if self._tun is not None:
            raise RuntimeError(f"the pump has a TUN for {port} already")
        offloads = self._offloads
        offloads.header, offloads.tso, offloads.uso = tun.offloads
        number = _lib.pylb_pump_use_tun(self._pump, tun.fileno(), offloads)
        if number:
            raise NodeError(f"{tun.name} cannot be watched: {os.strerror(number)}")
        self._tun = tun
        log.info("tun", name=tun.name, **tun.offloads._asdict())
        if tun.offloads != EVERY_OFFLOAD:
            log.warning("the kernel lacks offloads that make the native dataplane fast")
        asyncio.get_running_loop().add_reader(self._notify, self._drain)
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and close the descriptors."""
        if self._pump == _ffi.NULL:
            return
        if self._thread is not None:
            _lib.pylb_pump_stop(self._pump)
            self._thread.join()
            self._thread = None
            asyncio.get_running_loop().remove_reader(self._notify)
        _lib.pylb_pump_free(self._pump)
        self._pump = _ffi.NULL
        os.close(self._notify)
        if self._tun is not None:
            self._tun.close()
            self._tun = None
        if self._overlay is not None:
            self._overlay.close()
            self._overlay = None

    def put_out(self, output: Output) -> None:
        """Publish what a call of the dataplane produced; such calls make no packets."""
        if output.events:
            self._publish(output.events)

    def want_events(self, wanted: bool) -> None:
        """Have events recorded, or not while nobody listens."""
        self._dataplane.want_events(wanted)

    def _run(self) -> None:
        number = _lib.pylb_pump_run(self._pump)
        if number:
            log.error("the pump ended", error=os.strerror(number))

    def _drain(self) -> None:
        os.eventfd_read(self._notify)
        events = self._dataplane.take_events()
        if events:
            self._publish(events)
