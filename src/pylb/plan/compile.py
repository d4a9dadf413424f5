"""From policy to plan, from change to delta, and one onto the other.

All pure.  The property that holds them together, and that the tests hold::

    apply(plan, update(plan, change)) == compile(change.policy, plan.node)

`update` looks at the policy only for the keys that the change names, so that one
endpoint among 30 000 costs what one endpoint costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import TypeVar

from pylb.plan.apply import apply
from pylb.plan.services import (
    backend_counts,
    compile_redirect,
    compile_service,
    redirect_name,
)
from pylb.plan.tables import (
    Delta,
    Frontend,
    FrontendKey,
    OverlayTable,
    Peer,
    Plan,
    PlanError,
    Prefix,
)
from pylb.plan.validate import validate, validate_delta
from pylb.policy.model import Change, Key, Node, Policy

__all__ = ["apply", "compile", "update", "validate", "validate_delta"]

VNI = 1
"""flannel's default network identifier."""

K = TypeVar("K")
V = TypeVar("V")


def compile(policy: Policy, node: str) -> Plan:
    """What ``node`` must do under ``policy``.

    The same policy gives the same plan whatever its mappings' order.  Raises
    `PlanError` when the policy has no such node.
    """
    own = policy.nodes.get(node)
    if own is None:
        known = ", ".join(sorted(policy.nodes)) or "none"
        raise PlanError(f"node {node}: the policy has no such node (it has: {known})")
    lab = policy.lab
    frontends: dict[FrontendKey, Frontend] = {}
    services: dict[str, tuple[FrontendKey, ...]] = {}
    addresses: dict[int, int] = {}
    for pod in policy.pods.values():
        _add(addresses, int(pod.ip), 1)
    for key in policy.services:
        made = compile_service(policy, key, own)
        services["/".join(key)] = tuple(made)
        frontends.update(made)
        for address, count in backend_counts(made.values()).items():
            _add(addresses, address, count)
    for key, redirect in policy.redirects.items():
        made = compile_redirect(redirect, own, lab.scheduler)
        services[redirect_name(key)] = tuple(made)
        frontends.update(made)
        for address, count in backend_counts(made.values()).items():
            _add(addresses, address, count)
    plan = Plan(
        node=node,
        node_ip=int(own.internal_ip),
        bridge_ip=int(own.bridge_ip),
        tunnel_ip=int(own.tunnel_ip),
        pod_cidr=_prefix(own.pod_cidr),
        underlay=_prefix(lab.underlay),
        underlay_mtu=lab.mtu,
        overlay=OverlayTable(
            lab.overlay.value, lab.udp_port, VNI, own.vtep_mac, lab.mtu - lab.overlay.overhead
        ),
        masquerade=lab.masquerade,
        service_cidr=_prefix(lab.service_cidr),
        peers={name: _peer(other) for name, other in policy.nodes.items() if name != node},
        pods={int(pod.ip): "/".join(pod.key) for pod in policy.pods.values() if pod.node == node},
        cluster_pods={"/".join(pod.key): int(pod.ip) for pod in policy.pods.values()},
        frontends=frontends,
        services=services,
        addresses=addresses,
        maglev_size=lab.maglev_size,
    )
    validate(plan)
    return plan


def update(plan: Plan, change: Change) -> Delta:
    """What of ``plan`` differs once ``change`` has happened.

    A change of the lab, or of the plan's own node, replaces the plan whole.
    Raises `PlanError` when the plan's own node is no more.
    """
    policy = change.policy
    own = policy.nodes.get(plan.node)
    if change.lab or plan.node in change.nodes or own is None:
        return Delta(replace=compile(policy, plan.node))
    counts: dict[int, int] = {}
    pods: dict[int, str | None] = {}
    cluster_pods: dict[str, int | None] = {}
    for key in sorted(change.pods):
        _change_pod(plan, policy, key, pods, cluster_pods, counts)
    peers: dict[str, Peer | None] = {}
    for name in sorted(change.nodes):
        other = policy.nodes.get(name)
        _note(peers, plan.peers, name, _peer(other) if other else None)

    frontends: dict[FrontendKey, Frontend | None] = {}
    services: dict[str, tuple[FrontendKey, ...] | None] = {}
    owners: list[tuple[str, dict[FrontendKey, Frontend] | None]] = []
    for key in sorted(change.services):
        exists = key in policy.services
        owners.append(("/".join(key), compile_service(policy, key, own) if exists else None))
    for key in sorted(change.redirects):
        redirect = policy.redirects.get(key)
        now = compile_redirect(redirect, own, policy.lab.scheduler) if redirect else None
        owners.append((redirect_name(key), now))
    for name, now in owners:
        old = [plan.frontends[k] for k in plan.services.get(name, ())]
        made = now or {}
        for address, count in backend_counts(old).items():
            _add(counts, address, -count)
        for address, count in backend_counts(made.values()).items():
            _add(counts, address, count)
        for frontend in old:
            # Another Service of this change may have taken the address over already.
            frontends.setdefault(frontend.key, None)
        frontends.update(made)
        _note(services, plan.services, name, None if now is None else tuple(now))
    changed = {k: f for k, f in frontends.items() if plan.frontends.get(k) != f}
    addresses = {a: plan.addresses.get(a, 0) + n for a, n in counts.items() if n}
    return Delta(
        peers=peers,
        pods={a: name for a, name in pods.items() if plan.pods.get(a) != name},
        cluster_pods=cluster_pods,
        frontends=changed,
        services=services,
        addresses=addresses,
    )


def _change_pod(
    plan: Plan,
    policy: Policy,
    key: Key,
    pods: dict[int, str | None],
    cluster_pods: dict[str, int | None],
    counts: dict[int, int],
) -> None:
    name = "/".join(key)
    before, after = plan.cluster_pods.get(name), policy.pods.get(key)
    if before is not None:
        _add(counts, before, -1)
        if plan.pods.get(before) == name:
            pods.setdefault(before, None)
    if after is not None:
        _add(counts, int(after.ip), 1)
        if after.node == plan.node:
            pods[int(after.ip)] = name
    _note(cluster_pods, plan.cluster_pods, name, int(after.ip) if after else None)


def _peer(node: Node) -> Peer:
    return Peer(node.name, int(node.internal_ip), _prefix(node.pod_cidr), node.vtep_mac)


def _prefix(network: IPv4Network) -> Prefix:
    return Prefix(int(network.network_address), network.prefixlen)


def _add(counts: dict[int, int], address: int, count: int) -> None:
    counts[address] = counts.get(address, 0) + count


def _note(delta: dict[K, V | None], old: Mapping[K, V], key: K, now: V | None) -> None:
    if old.get(key) != now:
        delta[key] = now
