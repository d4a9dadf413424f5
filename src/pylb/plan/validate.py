"""What a plan must hold before a dataplane loads it.

A plan that `pylb.plan.compile` made from a policy whose objects agree always
passes; one that came from a hand need not.  A delta is checked by what it
touches alone, so that a small change of a large plan stays cheap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from pylb.plan.tables import Delta, Frontend, FrontendKey, Peer, Plan, PlanError, Prefix

SCHEDULERS = frozenset(("random", "rr", "wrr", "lc", "wlc", "sh", "mh"))
WEIGHING = frozenset(("wrr", "wlc", "sh", "mh"))
"""Of these, the schedulers that look at weights."""
MOST_MAGLEV = 128 << 20
"""Bytes that the Maglev tables of all Services may take, 2 for each slot."""
LARGEST_MAGLEV = 1 << 24
OVERLAYS = frozenset(("vxlan", "udp", "host-gw"))
SMALLEST_MTU = 68
"""RFC 791: every link must carry this."""
LARGEST_MTU = 65535
LONGEST_TIMEOUT = 31_536_000
"""Seconds: a year.  The native flow table has 56 bits for a deadline, 833 days of uptime."""
MOST_BACKENDS = 65535
"""Of one frontend: an index into its backends has 16 bits."""
LONGEST_AFFINITY = 86400
"""Seconds; Kubernetes allows no more."""
MOST_SOURCES = 255


def validate(plan: Plan) -> None:
    """Raises `PlanError` naming the first thing that is wrong."""
    _prefix("podCIDR", plan.pod_cidr)
    _prefix("underlay", plan.underlay)
    _prefix("serviceCIDR", plan.service_cidr)
    for name in ("node_ip", "bridge_ip", "tunnel_ip"):
        _address(name, getattr(plan, name))
    for name in ("bridge_ip", "tunnel_ip"):
        address = getattr(plan, name)
        if address not in plan.pod_cidr:
            raise PlanError(
                f"{name}: expected an address of the podCIDR {plan.pod_cidr}, got {_quad(address)}"
            )
    for name in ("node_ports", "masquerade_ports"):
        low, high = getattr(plan, name)
        if not 1 <= low <= high <= 65535:
            raise PlanError(f"{name}: expected a range within 1 to 65535, got {low}-{high}")
    if _overlap(plan.node_ports, plan.masquerade_ports):
        raise PlanError("masquerade_ports: expected a range apart from node_ports")
    _overlay(plan)
    _timeouts(plan)
    for name, peer in plan.peers.items():
        _peer(name, peer)
    _peers_apart(plan, plan.peers.values())
    for address in plan.pods:
        _pod(plan, address)
    for pod, address in plan.cluster_pods.items():
        _address(f"pod {pod}", address)
    for key, frontend in plan.frontends.items():
        _frontend(key, frontend)
    _maglev(plan.maglev_size, plan.frontends.values())
    for service, keys in plan.services.items():
        for key in keys:
            if key not in plan.frontends:
                raise PlanError(f"service {service}: its frontend {_name(key)} is not in the plan")
    for address, count in plan.addresses.items():
        _address("addresses", address)
        if count < 1:
            raise PlanError(f"addresses: {_quad(address)}: expected 1 or more, got {count}")


def validate_delta(plan: Plan, delta: Delta) -> None:
    """Raises `PlanError` when ``delta`` cannot be applied to ``plan``."""
    if delta.replace is not None:
        if delta.replace.node != plan.node:
            raise PlanError(f"plan of node {delta.replace.node}: expected one of node {plan.node}")
        validate(delta.replace)
        return
    for name, peer in delta.peers.items():
        if peer is not None:
            _peer(name, peer)
        elif name not in plan.peers:
            raise PlanError(f"peer {name}: to be removed but not in the plan")
    if delta.peers:
        after = {**plan.peers, **delta.peers}
        _peers_apart(plan, (peer for peer in after.values() if peer is not None))
    for address, pod in delta.pods.items():
        if pod is not None:
            _pod(plan, address)
        elif address not in plan.pods:
            raise PlanError(f"pod {_quad(address)}: to be removed but not in the plan")
    for pod, pod_address in delta.cluster_pods.items():
        if pod_address is not None:
            _address(f"pod {pod}", pod_address)
        elif pod not in plan.cluster_pods:
            raise PlanError(f"pod {pod}: to be removed but not in the plan")
    for key, frontend in delta.frontends.items():
        if frontend is not None:
            _frontend(key, frontend)
        elif key not in plan.frontends:
            raise PlanError(f"frontend {_name(key)}: to be removed but not in the plan")
        else:
            _not_orphaned(plan, delta, key)
    if any(f is not None and f.scheduler == "mh" for f in delta.frontends.values()):
        kept = (f for key, f in plan.frontends.items() if key not in delta.frontends)
        fresh = (f for f in delta.frontends.values() if f is not None)
        _maglev(plan.maglev_size, itertools.chain(kept, fresh))
    for service, keys in delta.services.items():
        if keys is None and service not in plan.services:
            raise PlanError(f"service {service}: to be removed but not in the plan")
        for key in keys or ():
            in_plan = plan.frontends.get(key)
            if delta.frontends.get(key, in_plan) is None:
                raise PlanError(f"service {service}: its frontend {_name(key)} is not in the plan")
    for address, count in delta.addresses.items():
        _address("addresses", address)
        if count < 0:
            raise PlanError(f"addresses: {_quad(address)}: expected 0 or more, got {count}")


def _not_orphaned(plan: Plan, delta: Delta, key: FrontendKey) -> None:
    """A frontend may go only if its Service lets go of it."""
    owner = plan.frontends[key].service.partition(":")[0]
    keys = delta.services.get(owner, plan.services.get(owner))
    if keys is not None and key in keys:
        raise PlanError(f"frontend {_name(key)}: to be removed but service {owner} has it")


def _overlay(plan: Plan) -> None:
    table = plan.overlay
    if table.kind not in OVERLAYS:
        raise PlanError(f"overlay: expected one of {sorted(OVERLAYS)}, got {table.kind!r}")
    if table.kind != "host-gw" and not 1 <= table.port <= 65535:
        raise PlanError(f"overlay port: expected 1 to 65535, got {table.port}")
    if not 0 <= table.vni < 1 << 24:
        raise PlanError(f"overlay VNI: expected 24 bits, got {table.vni}")
    if not SMALLEST_MTU <= plan.underlay_mtu <= LARGEST_MTU:
        raise PlanError(
            f"underlay MTU: expected {SMALLEST_MTU} to {LARGEST_MTU}, got {plan.underlay_mtu}"
        )
    if not SMALLEST_MTU <= table.mtu <= plan.underlay_mtu:
        raise PlanError(
            f"overlay MTU: expected {SMALLEST_MTU} to {plan.underlay_mtu}, got {table.mtu}"
        )
    if len(table.mac) != 6:
        raise PlanError(f"overlay MAC: expected 6 bytes, got {len(table.mac)}")


def _timeouts(plan: Plan) -> None:
    for name in plan.timeouts.__slots__:
        seconds = getattr(plan.timeouts, name)
        if not 1 <= seconds <= LONGEST_TIMEOUT:
            raise PlanError(
                f"timeouts: {name}: expected 1 to {LONGEST_TIMEOUT} seconds, got {seconds}"
            )


def _peer(name: str, peer: Peer) -> None:
    if peer.name != name:
        raise PlanError(f"peer {name}: stored under another name than its own {peer.name}")
    _address(f"peer {name}: address", peer.address)
    _prefix(f"peer {name}: subnet", peer.subnet)
    if len(peer.mac) != 6:
        raise PlanError(f"peer {name}: MAC: expected 6 bytes, got {len(peer.mac)}")


def _peers_apart(plan: Plan, peers: Iterable[Peer]) -> None:
    """No two nodes share an address or have subnets that overlap."""
    at = {plan.node_ip: plan.node}
    subnets = [(plan.pod_cidr, plan.node)]
    for peer in peers:
        if peer.address in at:
            raise PlanError(
                f"peer {peer.name}: address {_quad(peer.address)}: "
                f"expected another than that of {at[peer.address]}"
            )
        at[peer.address] = peer.name
        subnets.append((peer.subnet, peer.name))
    # In order of (address, length) a prefix that overlaps one before it lies inside it.
    subnets.sort()
    for (prefix, name), (inner, other) in itertools.pairwise(subnets):
        if inner.address in prefix:
            raise PlanError(
                f"peers {name} and {other}: expected subnets apart, got {prefix} and {inner}"
            )


def _pod(plan: Plan, address: int) -> None:
    if address not in plan.pod_cidr:
        raise PlanError(f"pod {_quad(address)}: expected an address of the podCIDR {plan.pod_cidr}")


def _frontend(key: FrontendKey, frontend: Frontend) -> None:
    if frontend.key != key:
        raise PlanError(
            f"frontend {_name(key)}: stored under another key than its own {_name(frontend.key)}"
        )
    address, port, protocol = key
    if not (0 < address <= 0xFFFFFFFF and 1 <= port <= 65535 and 0 <= protocol <= 255):
        raise PlanError(
            f"frontend {address}:{port}/{protocol}: expected an IPv4 address, "
            "a port from 1 to 65535 and a protocol from 0 to 255"
        )
    if frontend.scheduler not in SCHEDULERS:
        raise PlanError(
            f"frontend {_name(key)}: scheduler: expected one of {sorted(SCHEDULERS)}, "
            f"got {frontend.scheduler!r}"
        )
    if not 0 <= frontend.affinity <= LONGEST_AFFINITY:
        raise PlanError(
            f"frontend {_name(key)}: affinity: expected 0 to {LONGEST_AFFINITY} seconds, "
            f"got {frontend.affinity}"
        )
    for prefix in frontend.sources:
        _prefix(f"frontend {_name(key)}: sources", prefix)
    if len(frontend.sources) > MOST_SOURCES:
        raise PlanError(f"frontend {_name(key)}: expected at most {MOST_SOURCES} sources")
    _backends(key, frontend)


def _maglev(size: int, frontends: Iterable[Frontend]) -> None:
    """A size that can be, and no more tables than there is memory for."""
    if not (2 <= size <= LARGEST_MAGLEV and is_prime(size)):
        raise PlanError(f"maglev size: expected a prime of at most {LARGEST_MAGLEV}, got {size}")
    tables = {
        tuple((b.address, b.port, b.weight) for b in (frontend.backends[i] for i in choice))
        for frontend in frontends
        if frontend.scheduler == "mh"
        for choice in (frontend.active, frontend.other)
        if choice
    }
    if len(tables) * size * 2 > MOST_MAGLEV:
        raise PlanError(
            f"scheduler mh: {len(tables)} Maglev tables of {size} slots need "
            f"{len(tables) * size * 2 >> 20} MiB, expected at most {MOST_MAGLEV >> 20}"
        )


def is_prime(number: int) -> bool:
    """By trial division: tables are small."""
    return number > 1 and all(number % d for d in range(2, math.isqrt(number) + 1))


def _backends(key: FrontendKey, frontend: Frontend) -> None:
    count = len(frontend.backends)
    if count > MOST_BACKENDS:
        raise PlanError(f"frontend {_name(key)}: expected at most {MOST_BACKENDS} backends")
    before = (0, 0)
    if frontend.scheduler in WEIGHING:
        for index in {*frontend.active, *frontend.other}:
            if 0 <= index < count and not frontend.backends[index].weight:
                raise PlanError(
                    f"frontend {_name(key)}: backend {_quad(frontend.backends[index].address)}: "
                    f"expected a weight of 1 or more, for scheduler {frontend.scheduler} weighs"
                )
    for address, port, weight, _, _ in frontend.backends:
        if not (0 < address <= 0xFFFFFFFF and 1 <= port <= 65535 and 0 <= weight <= 65535):
            raise PlanError(
                f"frontend {_name(key)}: backend {address}:{port}: expected an IPv4 address, "
                "a port from 1 to 65535 and a weight from 0 to 65535"
            )
        if (address, port) <= before:
            raise PlanError(
                f"frontend {_name(key)}: backend {_quad(address)}:{port}: expected each "
                "once, in order of (address, port)"
            )
        before = (address, port)
    for name, indices in (("active", frontend.active), ("other", frontend.other)):
        last = -1
        for index in indices:
            if not last < index < count:
                raise PlanError(
                    f"frontend {_name(key)}: {name}: expected rising indices below {count}, "
                    f"got {index} after {last}"
                )
            last = index


def _address(name: str, address: int) -> None:
    if not 0 < address <= 0xFFFFFFFF:
        raise PlanError(f"{name}: expected an IPv4 address, got {address}")


def _prefix(name: str, prefix: Prefix) -> None:
    if not 0 <= prefix.length <= 32 or prefix.address & ~prefix.mask:
        raise PlanError(
            f"{name}: expected a prefix without host bits, "
            f"got {_quad(prefix.address)}/{prefix.length}"
        )


def _quad(address: int) -> str:
    """Dotted, or the bare number where it is no address."""
    if not 0 <= address <= 0xFFFFFFFF:
        return str(address)
    return ".".join(str(octet) for octet in address.to_bytes(4, "big"))


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _name(key: FrontendKey) -> str:
    return f"{_quad(key.address)}:{key.port}/{key.protocol}"
