"""What one node must do: the tables that a dataplane loads.

A plan is a value.  It has no generation (loading assigns it), no secret, no
clock; the same policy always gives the same bytes (`Plan.to_bytes`).

Addresses are integers in host order (10.0.0.1 is 0x0A000001), as are ports;
what goes on the wire is for `pylb.wire` to write.  Protocols are IANA numbers.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from typing import Any, NamedTuple

MAGLEV_SIZE = 65537
"""Slots of a Maglev table unless the Lab document says otherwise; prime."""


class PlanError(ValueError):
    """A plan or a delta that cannot be loaded; nothing of it was."""


class Prefix(NamedTuple):
    """An IPv4 prefix; ``address`` has no bits set beyond ``length`` (0 to 32)."""

    address: int
    length: int

    @property
    def mask(self) -> int:
        """The netmask: ``length`` ones followed by zeros."""
        return (0xFFFFFFFF << (32 - self.length)) & 0xFFFFFFFF

    def __contains__(self, address: object) -> bool:
        return isinstance(address, int) and (address & self.mask) == self.address

    def __str__(self) -> str:
        return f"{IPv4Address(self.address)}/{self.length}"


class FrontendKey(NamedTuple):
    """What a new flow's destination is looked up by."""

    address: int
    port: int
    protocol: int


class FrontendKind(enum.IntEnum):
    """Why an address and port are a frontend; decides what the source becomes."""

    CLUSTER_IP = 1
    NODE_PORT = 2
    LOAD_BALANCER = 3
    EXTERNAL_IP = 4
    LOCAL_REDIRECT = 5


class BackendState(enum.IntEnum):
    """New flows go to ACTIVE backends only; a DRAINING one keeps what it has."""

    ACTIVE = 1
    DRAINING = 2


class Backend(NamedTuple):
    """One backend of a frontend.  ``local``: its address is in this node's podCIDR."""

    address: int
    port: int
    weight: int = 1
    local: bool = False
    state: BackendState = BackendState.ACTIVE


class Others(enum.IntEnum):
    """For which clients a frontend's ``other`` backends are, instead of its ``active`` ones.

    INSIDE are this node's pods and processes: to an outside address with policy
    Local they get any endpoint, as if they had gone out and come back (kube-proxy's
    short cut).  BACKENDS are the active backends themselves, which a local
    redirection may spare; with PASSING it is for them as if there were no frontend.
    """

    NOBODY = 0
    INSIDE = 1
    BACKENDS = 2
    PASSING = 3


class Frontend(NamedTuple):
    """An address and port that new flows are balanced from.

    ``service`` is "namespace/name:port-name" (the part from the colon on is
    absent for a port without a name); that of a redirected address is
    "namespace/policy.local-redirect".  ``backends`` is ordered by (address,
    port): a scheduler's choice depends on the order.  ``active`` holds the
    indices of backends that take new flows, ``other`` those for the clients that
    ``others`` says.  ``local_only``: a packet from outside keeps its source and
    goes to this node's backends or nowhere (externalTrafficPolicy Local).

    ``elsewhere``: without an active backend packets are dropped, not refused,
    because another node has one.  ``affinity``: seconds for which a client's next
    flow goes to the same backend, counted from its last one; 0 for not.
    ``sources``: who is served, () for everyone.  ``announced``: this node
    answers for the address in the underlay (ARP).
    """

    key: FrontendKey
    kind: FrontendKind
    service: str
    scheduler: str
    backends: tuple[Backend, ...]
    active: tuple[int, ...]
    local_only: bool = False
    others: Others = Others.NOBODY
    other: tuple[int, ...] = ()
    elsewhere: bool = False
    affinity: int = 0
    sources: tuple[Prefix, ...] = ()
    announced: bool = False


class Peer(NamedTuple):
    """Another node: its underlay address, its pods' subnet and its VTEP's MAC."""

    name: str
    address: int
    subnet: Prefix
    mac: bytes


class OverlayTable(NamedTuple):
    """How packets reach peers.  ``kind`` is "vxlan", "udp" or "host-gw"."""

    kind: str
    port: int
    vni: int
    mac: bytes
    mtu: int
    """The largest inner IP packet, bytes: the underlay's MTU less the overhead."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Conntrack timeouts in seconds, by the names of Linux's sysctls.

    Defaults are the kernel's: nf_conntrack_proto_tcp.c, _udp.c, _icmp.c, _gre.c,
    _generic.c, _sctp.c.
    """

    tcp_syn_sent: int = 120
    tcp_syn_recv: int = 60
    tcp_established: int = 432000
    tcp_fin_wait: int = 120
    tcp_close_wait: int = 60
    tcp_last_ack: int = 30
    tcp_time_wait: int = 120
    tcp_close: int = 10
    tcp_max_retrans: int = 300
    tcp_unacknowledged: int = 300
    udp: int = 30
    udp_stream: int = 120
    icmp: int = 30
    gre: int = 30
    gre_stream: int = 180
    generic: int = 600
    sctp_closed: int = 10
    sctp_cookie_wait: int = 3
    sctp_cookie_echoed: int = 3
    sctp_established: int = 210
    sctp_shutdown_sent: int = 3
    sctp_shutdown_recd: int = 3
    sctp_shutdown_ack_sent: int = 3
    sctp_heartbeat_sent: int = 30


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the daemon of ``node`` needs.

    ``tunnel_ip`` is the SNAT address that no interface has (DESIGN's D).
    ``services`` says which frontends a Service owns; ``addresses`` counts, for
    every address that a pod or an endpoint has, how many have it: a backend
    whose address is not there is gone.  ``owned`` are the prefixes whose packets
    must never be written back (service CIDR); VIPs outside them are known by
    their frontends (`pylb.plan.virtual`).  Port ranges are inclusive.
    ``maglev_size`` is the number of slots of a Maglev table.
    """

    node: str
    node_ip: int
    bridge_ip: int
    tunnel_ip: int
    pod_cidr: Prefix
    underlay: Prefix
    underlay_mtu: int
    overlay: OverlayTable
    masquerade: bool
    service_cidr: Prefix
    node_ports: tuple[int, int] = (30000, 32767)
    masquerade_ports: tuple[int, int] = (61000, 65534)
    timeouts: Timeouts = Timeouts()
    peers: Mapping[str, Peer] = field(default_factory=dict)
    pods: Mapping[int, str] = field(default_factory=dict)
    """Local pods: address to "namespace/name"."""
    cluster_pods: Mapping[str, int] = field(default_factory=dict)
    """Every pod of the cluster: "namespace/name" to address."""
    frontends: Mapping[FrontendKey, Frontend] = field(default_factory=dict)
    services: Mapping[str, tuple[FrontendKey, ...]] = field(default_factory=dict)
    """Services: "namespace/name" to its frontends."""
    addresses: Mapping[int, int] = field(default_factory=dict)
    maglev_size: int = MAGLEV_SIZE

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values, addresses as dotted quads, maps sorted."""
        return _plan_json(self)

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal plans have equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Delta:
    """The difference between two plans of one node.

    ``replace`` is a whole plan when the node itself or the lab changed, and then
    nothing else is set.  Otherwise each mapping holds what to set, with None (or
    a count of 0) for what to remove.
    """

    replace: Plan | None = None
    peers: Mapping[str, Peer | None] = field(default_factory=dict)
    pods: Mapping[int, str | None] = field(default_factory=dict)
    cluster_pods: Mapping[str, int | None] = field(default_factory=dict)
    frontends: Mapping[FrontendKey, Frontend | None] = field(default_factory=dict)
    services: Mapping[str, tuple[FrontendKey, ...] | None] = field(default_factory=dict)
    addresses: Mapping[int, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """True when there is nothing to change."""
        return self.replace is None and not (
            self.peers
            or self.pods
            or self.cluster_pods
            or self.frontends
            or self.services
            or self.addresses
        )


def _plan_json(plan: Plan) -> dict[str, Any]:
    def quad(address: int) -> str:
        return str(IPv4Address(address))

    def mac(raw: bytes) -> str:
        return raw.hex(":")

    return {
        "node": plan.node,
        "nodeIP": quad(plan.node_ip),
        "bridgeIP": quad(plan.bridge_ip),
        "tunnelIP": quad(plan.tunnel_ip),
        "podCIDR": str(plan.pod_cidr),
        "underlay": str(plan.underlay),
        "underlayMTU": plan.underlay_mtu,
        "overlay": {**plan.overlay._asdict(), "mac": mac(plan.overlay.mac)},
        "masquerade": plan.masquerade,
        "serviceCIDR": str(plan.service_cidr),
        "nodePorts": list(plan.node_ports),
        "masqueradePorts": list(plan.masquerade_ports),
        "maglevSize": plan.maglev_size,
        "timeouts": asdict(plan.timeouts),
        "peers": {
            name: {"address": quad(p.address), "subnet": str(p.subnet), "mac": mac(p.mac)}
            for name, p in sorted(plan.peers.items())
        },
        "pods": {quad(a): name for a, name in sorted(plan.pods.items())},
        "clusterPods": {name: quad(a) for name, a in sorted(plan.cluster_pods.items())},
        "frontends": [
            {
                "address": quad(f.key.address),
                "port": f.key.port,
                "protocol": f.key.protocol,
                "kind": f.kind.name,
                "service": f.service,
                "scheduler": f.scheduler,
                "localOnly": f.local_only,
                "active": list(f.active),
                "others": f.others.name,
                "other": list(f.other),
                "elsewhere": f.elsewhere,
                "affinity": f.affinity,
                "sources": [str(prefix) for prefix in f.sources],
                "announced": f.announced,
                "backends": [
                    {
                        "address": quad(b.address),
                        "port": b.port,
                        "weight": b.weight,
                        "local": b.local,
                        "state": b.state.name,
                    }
                    for b in f.backends
                ],
            }
            for _, f in sorted(plan.frontends.items())
        ],
        "services": {
            name: [f"{quad(k.address)}:{k.port}/{k.protocol}" for k in keys]
            for name, keys in sorted(plan.services.items())
        },
        "addresses": {quad(a): n for a, n in sorted(plan.addresses.items())},
    }
