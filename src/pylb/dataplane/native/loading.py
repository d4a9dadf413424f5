"""From a plan or a delta to what csrc/pylb.h takes of it, in a few long buffers.

C knows a Service by a number.  `Names` gives the numbers out; a flow keeps its own
for as long as it lives, so a number is not given to another name while a flow, or
an event that was not yet taken, may have it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from pylb import _core
from pylb.plan.tables import Backend, Delta, Frontend, FrontendKey, Peer, Plan
from pylb.plan.virtual import is_virtual, machines

_ffi, _lib = _core.ffi, _core.lib

_FRONTEND = struct.Struct("=IHBBBBBBIIIIIIII")
_BACKEND = struct.Struct("=IHHI")
_PEER = struct.Struct("=III6s2x")
_PREFIX = struct.Struct("=II")
for _name, _layout in (
    ("frontend", _FRONTEND),
    ("backend", _BACKEND),
    ("peer", _PEER),
    ("prefix", _PREFIX),
):
    assert _ffi.sizeof(f"struct pylb_{_name}") == _layout.size, _name
assert array("I").itemsize == 4

_SCHEDULERS = {
    "random": _lib.PYLB_RANDOM,
    "rr": _lib.PYLB_ROUND_ROBIN,
    "wrr": _lib.PYLB_WEIGHTED_ROUND_ROBIN,
    "lc": _lib.PYLB_LEAST_CONNECTION,
    "wlc": _lib.PYLB_WEIGHTED_LEAST_CONNECTION,
    "sh": _lib.PYLB_SOURCE_HASH,
    "mh": _lib.PYLB_MAGLEV,
}
_OVERLAYS = {
    "vxlan": _lib.PYLB_VXLAN,
    "udp": _lib.PYLB_FLANNEL_UDP,
    "host-gw": _lib.PYLB_HOST_GW,
}

MOST_NAMES = 1 << 24
SLACK = 1024
"""Names that may be kept in vain before `Names.compact` is worth its time."""


class Names:
    """Services' names and their numbers."""

    def __init__(self) -> None:
        self._names: list[str | None] = []
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._unused: set[int] = set()
        self._looked = 0

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> str:
        # "" for one that was forgotten: an event may have waited in C for longer than
        # `compact` expects, when whole plans followed each other closely.
        return self._names[number] or ""

    def number(self, name: str) -> int:
        """The name's number, a new one if it has none; raises OverflowError without one left."""
        number = self._numbers.get(name)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._names[number] = name
            else:
                number = len(self._names)
                if number == MOST_NAMES:
                    raise OverflowError(f"expected fewer than {MOST_NAMES} names of Services")
                self._names.append(name)
            self._numbers[name] = number
        return number

    def worth_compacting(self, live: int) -> bool:
        """There are many more names than the ``live`` ones, and than at the last look."""
        return len(self._numbers) > max(2 * live, self._looked) + SLACK

    def compact(self, used: set[int]) -> None:
        """Forget names that have no number in ``used``, and had none the last time.

        A dead flow whose DESTROY was not yet told is in no list, so one look is not
        enough; by the next one it has been told.
        """
        unused = set(self._numbers.values()) - used
        for number in unused & self._unused:
            name = self._names[number]
            assert name is not None
            del self._numbers[name]
            self._names[number] = None
            self._free.append(number)
        self._unused = unused - self._unused
        self._looked = len(self._numbers)


class Packed:
    """A ``struct pylb_change`` and the memory that it points to."""

    def __init__(self) -> None:
        self.change = _ffi.new("struct pylb_change *")
        self._held: list[object] = []

    def array(self, of: str, data: bytes | array[int]) -> Any:
        """``data`` as an array of ``struct``s or integers, kept as long as this is."""
        pointer = _ffi.from_buffer(f"{of}[]", data)
        self._held.append(pointer)
        return pointer

    def node(self, plan: Plan) -> None:
        """What the plan says of the node itself."""
        overlay = plan.overlay
        low, high = plan.masquerade_ports
        node = _ffi.new(
            "struct pylb_node_config *",
            {
                "node_ip": plan.node_ip,
                "bridge_ip": plan.bridge_ip,
                "tunnel_ip": plan.tunnel_ip,
                "pod_cidr": plan.pod_cidr.address,
                "pod_mask": plan.pod_cidr.mask,
                "service_cidr": plan.service_cidr.address,
                "service_mask": plan.service_cidr.mask,
                "vni": overlay.vni,
                "mtu": overlay.mtu,
                "maglev_size": plan.maglev_size,
                "timeouts": astuple(plan.timeouts),
                "masquerade_low": low,
                "masquerade_high": high,
                "masquerade": plan.masquerade,
                "overlay": _OVERLAYS[overlay.kind],
                "mac": overlay.mac,
            },
        )
        self._held.append(node)
        self.change.node = node

    def peers(self, peers: Iterable[Peer]) -> None:
        """All peers."""
        packed = [_PEER.pack(p.address, *_prefix(p), p.mac) for p in peers]
        self.change.peers = self.array("struct pylb_peer", b"".join(packed))
        self.change.n_peers = len(packed)
        self.change.set_peers = 1

    def frontends(self, plan: Plan, frontends: Iterable[Frontend], names: Names) -> None:
        """Frontends to set, of ``plan``, each with those of its backends that may be chosen."""
        pack_frontend, pack_backend = _FRONTEND.pack, _BACKEND.pack
        number, real = names.number, machines(plan)
        packed: list[bytes] = []
        packed_backends: list[bytes] = []
        sources: list[bytes] = []
        first = 0
        for frontend in frontends:
            backends, active, other = frontend.backends, frontend.active, frontend.other
            for i in active + other if other else active:
                address, port, weight, local, _ = backends[i]
                packed_backends.append(pack_backend(address, port, weight, local))
            first_source = len(sources)
            sources += [_PREFIX.pack(prefix.address, prefix.mask) for prefix in frontend.sources]
            packed.append(
                pack_frontend(
                    *frontend.key,
                    frontend.kind,
                    _SCHEDULERS[frontend.scheduler],
                    frontend.others,
                    frontend.local_only,
                    frontend.elsewhere,
                    is_virtual(plan, frontend, real),
                    number(frontend.service),
                    frontend.affinity,
                    first,
                    len(active),
                    len(other),
                    first_source,
                    len(frontend.sources),
                )
            )
            first += len(active) + len(other)
        change = self.change
        change.frontends = self.array("struct pylb_frontend", b"".join(packed))
        change.n_frontends = len(packed)
        change.backends = self.array("struct pylb_backend", b"".join(packed_backends))
        change.n_backends = first
        change.sources = self.array("struct pylb_prefix", b"".join(sources))
        change.n_sources = len(sources)

    def removed(self, keys: Iterable[FrontendKey]) -> None:
        """Frontends that are no more."""
        packed = [_FRONTEND.pack(*key, *[0] * 13) for key in keys]
        self.change.removed = self.array("struct pylb_frontend", b"".join(packed))
        self.change.n_removed = len(packed)

    def addresses(self, addresses: Mapping[int, int]) -> None:
        """How many pods and endpoints have an address; 0: none any more."""
        change = self.change
        change.addresses = self.array("uint32_t", array("I", addresses.keys()))
        change.holders = self.array("uint32_t", array("I", addresses.values()))
        change.n_addresses = len(addresses)


def pack_backends(backends: Iterable[Backend]) -> bytes:
    """An array of ``struct pylb_backend``."""
    return b"".join(_BACKEND.pack(b.address, b.port, b.weight, b.local) for b in backends)


def pack_plan(plan: Plan, names: Names) -> Packed:
    """A whole plan; of what was before, only the turns of ``rr`` stay."""
    packed = Packed()
    packed.change.whole = 1
    packed.node(plan)
    packed.peers(plan.peers.values())
    packed.frontends(plan, plan.frontends.values(), names)
    packed.addresses(plan.addresses)
    return packed


def pack_delta(plan: Plan, delta: Delta, names: Names) -> Packed:
    """What a delta without ``replace`` changes; ``plan`` is what it leads to."""
    if delta.peers:
        # Which addresses are virtual depends on the peers' own.
        return pack_plan(plan, names)
    packed = Packed()
    packed.frontends(plan, (f for f in delta.frontends.values() if f is not None), names)
    packed.removed(key for key, f in delta.frontends.items() if f is None)
    packed.addresses(delta.addresses)
    return packed


def _prefix(peer: Peer) -> tuple[int, int]:
    return peer.subnet.address, peer.subnet.mask
