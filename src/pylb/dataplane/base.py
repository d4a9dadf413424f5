"""The two interfaces of a dataplane, and the values that cross them.

Every dataplane loads plans (:class:`Loadable`).  The Python and the native one
also process packets (:class:`Dataplane`), sans-IO: packets and a clock go in,
packets, drops and conntrack events come out.  No descriptor, no thread, no
clock, no global lives behind these methods, so the same code runs under the
daemon's pump, in a test whose clock jumps, and in a cluster simulated in one
process.

Times are integer nanoseconds on one monotonic clock of the caller's choice.
Addresses and ports are integers in host order.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pylb.plan.tables import Delta, FrontendKey, Plan, Prefix


class TunPort(NamedTuple):
    """A TUN device of this node; ``number`` tells several apart, 0 is the node's own."""

    number: int = 0


class OverlayPort(NamedTuple):
    """The overlay's UDP socket towards, or from, the peer at ``address``.

    Data on it is the UDP payload.  ``spread`` picks the source port that the
    pump sends from: the inner flow's hash, 32 bits (0 on ingress).
    """

    address: int
    spread: int = 0


Port = TunPort | OverlayPort

NODE_TUN = TunPort(0)


class Packet(NamedTuple):
    """Bytes and the port that they came in by or are to leave by."""

    port: Port
    data: bytes


class DropReason(enum.Enum):
    """Why a packet was dropped; the value is the counter's name (``drop_`` + value).

    BAD_OFFLOAD is a virtio-net header that cannot be: only the native dataplane's
    pump has such headers, so elsewhere it stays 0.
    """

    TRUNCATED = "truncated"
    BAD_VERSION = "bad_version"
    BAD_HEADER_LENGTH = "bad_header_length"
    BAD_TOTAL_LENGTH = "bad_total_length"
    BAD_IP_CHECKSUM = "bad_ip_checksum"
    BAD_ADDRESS = "bad_address"
    BAD_L4_HEADER = "bad_l4_header"
    BAD_L4_CHECKSUM = "bad_l4_checksum"
    BAD_FRAGMENT = "bad_fragment"
    FRAGMENT_LIMIT = "fragment_limit"
    FRAGMENT_TIMEOUT = "fragment_timeout"
    UNKNOWN_PEER = "unknown_peer"
    BAD_ENCAPSULATION = "bad_encapsulation"
    WRONG_VNI = "wrong_vni"
    SPOOFED_INNER_SOURCE = "spoofed_inner_source"
    NOT_FOR_THIS_NODE = "not_for_this_node"
    INVALID_STATE = "invalid_state"
    NO_ENDPOINT = "no_endpoint"
    NO_LOCAL_ENDPOINT = "no_local_endpoint"
    NO_SUCH_FRONTEND = "no_such_frontend"
    UNALLOCATED_VIP = "unallocated_vip"
    SNAT_EXHAUSTED = "snat_exhausted"
    TABLE_FULL = "table_full"
    BACKEND_GONE = "backend_gone"
    TOO_BIG = "too_big"
    BAD_OFFLOAD = "bad_offload"
    NO_PLAN = "no_plan"
    SOURCE_RANGE = "source_range"


class Dropped(NamedTuple):
    """A packet that went no further, as it came in, and why."""

    reason: DropReason
    packet: Packet


class FlowTuple(NamedTuple):
    """One direction of a flow.

    For ICMP ``sport`` is the identifier and ``dport`` is ``type << 8 | code``;
    for GRE version 1 they are the keys; for other protocols without ports both
    are 0.
    """

    src: int
    dst: int
    protocol: int
    sport: int
    dport: int


class EventKind(enum.Enum):
    """As ``conntrack -E`` prints them."""

    NEW = "NEW"
    UPDATE = "UPDATE"
    DESTROY = "DESTROY"


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow as it was at one moment; what `pylb conntrack` prints.

    ``timeout`` is seconds left, rounded down, 0 when dead.  ``state`` is TCP's
    (``ESTABLISHED``), "" for protocols without one.  ``packets`` and ``bytes``
    are (original, reply), bytes counted from the IP header.  ``service`` (as
    `Frontend.service`), ``frontend`` and ``generation`` say why the flow is
    translated; they are "" , None and 0 when it is not.
    """

    id: int
    original: FlowTuple
    reply: FlowTuple
    timeout: int
    state: str
    seen_reply: bool
    assured: bool
    packets: tuple[int, int]
    bytes: tuple[int, int]
    service: str = ""
    frontend: FrontendKey | None = None
    generation: int = 0
    mark: int = 0

    @property
    def dnat(self) -> bool:
        """The destination is translated."""
        o, r = self.original, self.reply
        if o.protocol == 1:
            return o.dst != r.src
        return o.dst != r.src or o.dport != r.sport

    @property
    def snat(self) -> bool:
        """The source is translated."""
        o, r = self.original, self.reply
        if o.protocol == 1:
            return o.src != r.dst or o.sport != r.sport
        return o.src != r.dst or o.sport != r.dport


class Event(NamedTuple):
    """A conntrack event; ``at`` is the ``now`` of the call that caused it."""

    kind: EventKind
    flow: FlowView
    at: int


@dataclass(slots=True)
class Output:
    """What one call produced, each list in order."""

    sent: list[Packet] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows; a field that is None does not restrict.

    Prefixes match the tuple's address in the named direction; ports match the
    original direction unless ``reply_`` says otherwise, as conntrack(8)'s
    options do.
    """

    protocol: int | None = None
    src: Prefix | None = None
    dst: Prefix | None = None
    reply_src: Prefix | None = None
    reply_dst: Prefix | None = None
    sport: int | None = None
    dport: int | None = None
    reply_sport: int | None = None
    reply_dport: int | None = None
    state: str | None = None
    assured: bool | None = None
    seen_reply: bool | None = None
    snat: bool | None = None
    dnat: bool | None = None
    id: int | None = None
    mark: int | None = None

    def matches(self, flow: FlowView) -> bool:
        """True when every given field agrees with ``flow``."""
        o, r = flow.original, flow.reply
        exact: tuple[tuple[object, object], ...] = (
            (self.protocol, o.protocol),
            (self.sport, o.sport),
            (self.dport, o.dport),
            (self.reply_sport, r.sport),
            (self.reply_dport, r.dport),
            (self.state, flow.state),
            (self.assured, flow.assured),
            (self.seen_reply, flow.seen_reply),
            (self.snat, flow.snat),
            (self.dnat, flow.dnat),
            (self.id, flow.id),
            (self.mark, flow.mark),
        )
        within = (
            (self.src, o.src),
            (self.dst, o.dst),
            (self.reply_src, r.src),
            (self.reply_dst, r.dst),
        )
        return all(want is None or want == have for want, have in exact) and all(
            prefix is None or address in prefix for prefix, address in within
        )


ALL_FLOWS = FlowFilter()


class Loadable(Protocol):
    """A dataplane that obeys plans.  `load` and `change` take effect whole or not at all."""

    def load(self, plan: Plan, now: int) -> Output:
        """Replace the plan; raises `PlanError` and changes nothing if it is not valid."""
        ...

    def change(self, delta: Delta, now: int) -> Output:
        """Apply a delta to the loaded plan; raises `PlanError` likewise."""
        ...

    def flows(self, now: int, where: FlowFilter = ALL_FLOWS) -> Iterator[FlowView]:
        """Live flows in order of creation."""
        ...

    def delete(self, where: FlowFilter, now: int) -> tuple[int, Output]:
        """Delete matching flows; gives how many, and their DESTROY events."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Every counter by name, drops as ``drop_`` and the reason, zeros included."""
        ...


class Dataplane(Loadable, Protocol):
    """A dataplane that processes packets itself, sans-IO."""

    def process(self, batch: Sequence[Packet] | Iterable[Packet], now: int) -> Output:
        """Handle packets in order; never raises for anything that a packet holds."""
        ...

    def advance(self, now: int) -> Output:
        """Let time pass: flows whose deadline is at or before ``now`` are destroyed.

        Their DESTROY events are ordered by (deadline, creation).
        """
        ...

    def next_deadline(self) -> int | None:
        """When `advance` is next worth calling, or None while nothing can expire."""
        ...
