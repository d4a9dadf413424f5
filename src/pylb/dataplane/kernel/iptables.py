"""The plan in iptables, in kube-proxy's layout: for teaching, and to compare with.

::

    PREROUTING, OUTPUT ─► KUBE-SERVICES ─► KUBE-SVC-X (a Service port's endpoints, by chance)
                              └► KUBE-NODEPORTS ─► KUBE-EXT-X ─► KUBE-MARK-MASQ, KUBE-SVC-X
                                   KUBE-FW-X (source ranges) ─► KUBE-EXT-X
                                                  KUBE-SVC-X ─► KUBE-SEP-Y (one endpoint: DNAT)
    POSTROUTING ─► KUBE-POSTROUTING: ``SNAT --to-source`` for what was marked
    FORWARD, INPUT, OUTPUT (filter) ─► KUBE-SERVICES: rejects where there is no endpoint

Every rule of KUBE-SERVICES is looked at in turn: that is why iptables slows down
with the number of Services.  Chains are named as kube-proxy names them, by the
first 16 letters of a base32 SHA-256.  Differences to `pylb.dataplane.kernel.nft`:
every unknown address and port of the service CIDR is rejected, INVALID packets
are dropped (kube-proxy's KUBE-FORWARD), drops are not counted by name, and
inner source addresses are not checked.  A NodePort's two addresses share chains.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator

from pylb.dataplane.kernel.names import (
    Options,
    allowed,
    check_overlay,
    chosen,
    keeps_pods_source,
    overlay_device,
    protocol,
    quad,
    virtual,
)
from pylb.plan.apply import apply
from pylb.plan.tables import Backend, BackendState, Delta, Frontend, Others, Plan
from pylb.plan.validate import WEIGHING

MARK = "0x4000/0x4000"
HAIRPIN = "0x8000/0x8000"

_JUMPS = {
    "nat": (
        ("PREROUTING", "kubernetes service portals", "KUBE-SERVICES"),
        ("OUTPUT", "kubernetes service portals", "KUBE-SERVICES"),
        ("POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
    ),
    "filter": (
        ("INPUT", "kubernetes firewall", "KUBE-FIREWALL"),
        ("INPUT", "kubernetes service portals", "KUBE-SERVICES"),
        ("FORWARD", "kubernetes forwarding rules", "KUBE-FORWARD"),
        ("FORWARD", "kubernetes service portals", "KUBE-SERVICES"),
        ("OUTPUT", "kubernetes service portals", "KUBE-SERVICES"),
    ),
}
"""By table: (built-in chain, comment, ours): how the built-in chains lead to ours, in order."""

_BUILT_IN = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
_OURS = "KUBE-"


def ruleset(plan: Plan, options: Options = Options(), saved: str = "") -> str:  # noqa: B008
    """Both tables whole, for ``iptables-restore``.

    ``saved`` is what ``iptables-save`` tells of them: rules of others are kept,
    before ours.  Raises `PlanError` for an overlay that the kernel has not got.
    """
    check_overlay(plan.overlay.kind)
    own: dict[str, list[str]] = {}
    for frontend in _sorted(plan):
        own |= _frontend_chains(plan, frontend)
    return _whole("nat", _nat(plan, options) | own, saved) + _whole("filter", _filter(plan), saved)


def change(plan: Plan, delta: Delta, options: Options = Options()) -> str:  # noqa: B008
    """What turns the rules of ``plan`` into those of ``apply(plan, delta)``; "" for nothing.

    For ``iptables-restore --noflush``; ``delta`` must not replace the plan.  A change
    of endpoints touches their chains alone; when a frontend comes, goes or loses
    its last endpoint, the chains that list all of them are written anew.
    """
    after = apply(plan, delta)
    if delta.replace is not None:
        raise ValueError("a delta that replaces the plan: expected its plan to be loaded whole")
    old: dict[str, list[str]] = {}
    new: dict[str, list[str]] = {}
    listed = bool(delta.peers)
    for key, frontend in delta.frontends.items():
        before = plan.frontends.get(key)
        listed = listed or _listing(before) != _listing(frontend)
        old |= _frontend_chains(plan, before) if before is not None else {}
        new |= _frontend_chains(after, frontend) if frontend is not None else {}
    kept = _chains_shared(after, delta, set(old) - set(new))
    stale = sorted(set(old) - set(new) - kept)
    changed = {name: rules for name, rules in new.items() if old.get(name) != rules}
    if listed:
        return _text("nat", _nat(after, options) | changed, stale) + _text(
            "filter", _filter(after), []
        )
    return _text("nat", changed, stale) if changed or stale else ""


def removal(saved: str) -> str:
    """Both tables without our rules, for ``iptables-restore``; "" when there are none.

    ``saved`` is what ``iptables-save`` tells.
    """
    if f":{_OURS}" not in saved:
        return ""
    return "".join(_whole(table, {}, saved) for table in _BUILT_IN)


def _whole(table: str, chains: dict[str, list[str]], saved: str) -> str:
    """A table with the rules of others and ours; without ``chains``, of others alone."""
    theirs = _theirs(table, saved)
    declared = [line for line in theirs if line.startswith(":")]
    known = {line.split()[0] for line in declared}
    built_in = [f":{name} ACCEPT [0:0]" for name in _BUILT_IN[table] if f":{name}" not in known]
    lines = [f"*{table}", *built_in, *declared, *(f":{name} - [0:0]" for name in chains)]
    lines += [line for line in theirs if line.startswith("-A")]
    if chains:
        lines += [f'-A {c} -m comment --comment "{told}" -j {to}' for c, told, to in _JUMPS[table]]
    for name, rules in chains.items():
        lines += [f"-A {name} {rule}" for rule in rules]
    return "\n".join([*lines, "COMMIT", ""])


def _theirs(table: str, saved: str) -> list[str]:
    """The chains and rules of a table that are not ours, nor lead to ours."""
    found = []
    current = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            current = line[1:]
        elif current == table and line.startswith((":", "-A ")):
            chain = line[1:].removeprefix("A ").split()[0]
            if not chain.startswith(_OURS) and f" -j {_OURS}" not in line:
                found.append(line)
    return found


def _text(table: str, chains: dict[str, list[str]], stale: list[str]) -> str:
    lines = [f"*{table}", *(f":{name} - [0:0]" for name in (*chains, *stale))]
    for name, rules in chains.items():
        lines += [f"-A {name} {rule}" for rule in rules]
    lines += [f"-X {name}" for name in stale]
    return "\n".join([*lines, "COMMIT", ""])


def _sorted(plan: Plan) -> list[Frontend]:
    return [frontend for _, frontend in sorted(plan.frontends.items())]


def _listing(frontend: Frontend | None) -> object:
    """What KUBE-SERVICES and its like say of a frontend: it is listed anew when this differs."""
    if frontend is None:
        return None
    spared = chosen(frontend, frontend.active) if _spares(frontend) else None
    return (
        frontend.service,
        frontend.kind,
        _target(frontend),
        bool(frontend.active),
        bool(frontend.other),
        frontend.elsewhere,
        bool(frontend.sources),
        spared,
    )


def _spares(frontend: Frontend) -> bool:
    """Its own backends are not redirected to it."""
    return frontend.others in (Others.BACKENDS, Others.PASSING)


def _hash(*words: object) -> str:
    digest = hashlib.sha256("".join(map(str, words)).encode()).digest()
    return base64.b32encode(digest).decode()[:16]


def _chain(frontend: Frontend, indices: tuple[int, ...]) -> str:
    """The chain of some of a Service port's endpoints.

    KUBE-SVC- and kube-proxy's hash for all that are ready; what a traffic policy,
    hints or a redirection leave of them has a name by its members, KUBE-SVL- if
    they are all of this node.
    """
    of = (frontend.service, protocol(frontend.key.protocol))
    backends = frontend.backends
    ready = tuple(i for i, b in enumerate(backends) if b.state is BackendState.ACTIVE)
    if indices == ready:
        return "KUBE-SVC-" + _hash(*of)
    members = [f"{quad(b.address)}:{b.port}" for b in chosen(frontend, indices)]
    local = all(backends[i].local for i in indices)
    return ("KUBE-SVL-" if local else "KUBE-SVC-") + _hash(*of, *members)


def _external(frontend: Frontend) -> str:
    """Where a packet to the frontend goes, whoever sent it."""
    if keeps_pods_source(frontend):
        return _chain(frontend, frontend.active)
    return "KUBE-EXT-" + _hash(frontend.service, protocol(frontend.key.protocol))


def _target(frontend: Frontend) -> str:
    """Where a packet to the frontend goes first."""
    if allowed(frontend):
        return "KUBE-FW-" + _hash(frontend.service, protocol(frontend.key.protocol))
    return _external(frontend)


def _endpoint_chain(frontend: Frontend, backend: Backend) -> str:
    of = (frontend.service, protocol(frontend.key.protocol))
    return "KUBE-SEP-" + _hash(*of, f"{quad(backend.address)}:{backend.port}")


def _frontend_chains(plan: Plan, frontend: Frontend) -> dict[str, list[str]]:
    """The chains of one frontend; those of a Service port share what they have in common."""
    made: dict[str, list[str]] = {}
    for indices in (frontend.active, frontend.other):
        if indices:
            made |= _choice(frontend, indices)
    if not made:
        return {}
    told = _comment(frontend.service)
    if not keeps_pods_source(frontend):
        made[_external(frontend)] = _external_rules(plan, frontend)
    if allowed(frontend):
        made[_target(frontend)] = [
            f"-s {each} {told} -j {_external(frontend)}" for each in allowed(frontend)
        ]
    return made


def _external_rules(plan: Plan, frontend: Frontend) -> list[str]:
    """KUBE-EXT-: a policy Local is for packets from outside; who asks inside gets any endpoint."""
    told = _comment(frontend.service)
    rules = []
    if not frontend.local_only:
        rules.append(f"{told} -j KUBE-MARK-MASQ")
    elif frontend.other:
        cluster = _chain(frontend, frontend.other)
        rules.append(f"-s {plan.pod_cidr} {told} -j {cluster}")
        rules.append(f"{told} -m addrtype --src-type LOCAL -j {cluster}")
    if frontend.active:
        rules.append(f"-j {_chain(frontend, frontend.active)}")
    return rules


def _choice(frontend: Frontend, indices: tuple[int, ...]) -> dict[str, list[str]]:
    """The chain that rolls the dice, and those of its endpoints."""
    told = _comment(frontend.service)
    proto = protocol(frontend.key.protocol)
    made: dict[str, list[str]] = {}
    kept, rules = [], []
    backends = chosen(frontend, indices)
    # Only rr is more than chance here; who weighs has chances by weight.
    weights = [b.weight if frontend.scheduler in WEIGHING else 1 for b in backends]
    for index, backend in enumerate(backends):
        chain = _endpoint_chain(frontend, backend)
        left = len(backends) - index
        if frontend.scheduler == "rr":
            chance = f"-m statistic --mode nth --every {left} --packet 0 "
        else:
            share = weights[index] / sum(weights[index:])
            chance = f"-m statistic --mode random --probability {share:.10f} "
        rules.append(f"{told} {chance if left > 1 else ''}-j {chain}")
        address = quad(backend.address)
        remember = ""
        if frontend.affinity:
            recent = f"-m recent --name {chain}"
            seconds = f"--rcheck --seconds {frontend.affinity} --reap"
            kept.append(f"{told} {recent} {seconds} -j {chain}")
            remember = f"{recent} --set "
        made[chain] = [
            f"-s {address}/32 {told} -j MARK --or-mark 0xc000",
            f"-p {proto} {told} {remember}-m {proto} "
            f"-j DNAT --to-destination {address}:{backend.port}",
        ]
    return {**made, _chain(frontend, indices): kept + rules}


def _chains_shared(after: Plan, delta: Delta, candidates: set[str]) -> set[str]:
    """Of ``candidates``, those that a frontend still needs which the delta does not name."""
    kept: set[str] = set()
    if not candidates:
        return kept
    services = {f.service for f in delta.frontends.values() if f is not None}
    services |= set(delta.services)
    for name in {service.partition(":")[0] for service in services}:
        for key in after.services.get(name, ()):
            frontend = after.frontends[key]
            kept |= candidates & set(_frontend_chains(after, frontend))
    return kept


def _comment(service: str) -> str:
    return f'-m comment --comment "{re.sub(r"[^ -~]|[^A-Za-z0-9/:._-]", "_", service)[:250]}"'


def _to(frontend: Frontend) -> str:
    key = frontend.key
    proto = protocol(key.protocol)
    told = _comment(frontend.service)
    return f"-d {quad(key.address)}/32 -p {proto} {told} -m {proto} --dport {key.port}"


def _nat(plan: Plan, options: Options) -> dict[str, list[str]]:
    """The chains of the nat table that list all frontends, and those that list none."""
    services: list[str] = []
    node_ports: list[str] = []
    # What comes from a peer has been balanced there.
    if plan.overlay.kind == "vxlan":
        services.append(f"-i {overlay_device(plan)} -j RETURN")
    own = (plan.node_ip, plan.bridge_ip)
    for frontend in _sorted(plan):
        if not frontend.active and not frontend.other:
            continue
        address = frontend.key.address
        if address in own or address >> 24 == 127:
            node_ports.append(f"{_to(frontend)} -j {_target(frontend)}")
            continue
        if _spares(frontend):
            way = _chain(frontend, frontend.other) if frontend.other else "RETURN"
            services += [
                f"-s {quad(backend.address)}/32 {_to(frontend)} -j {way}"
                for backend in chosen(frontend, frontend.active)
            ]
        if keeps_pods_source(frontend):
            services.append(f"{_to(frontend)} ! -s {plan.pod_cidr} -j KUBE-MARK-MASQ")
        if frontend.active or frontend.others is Others.INSIDE:
            services.append(f"{_to(frontend)} -j {_target(frontend)}")
    services.append(
        '-m comment --comment "kubernetes service nodeports; this must be the last rule" '
        "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    )
    return {
        "KUBE-SERVICES": services,
        "KUBE-NODEPORTS": node_ports,
        "KUBE-MARK-MASQ": ["-j MARK --or-mark 0x4000"],
        "KUBE-POSTROUTING": list(_postrouting(plan, options)),
    }


def _postrouting(plan: Plan, options: Options) -> Iterator[str]:
    """Who sees which source address; DESIGN decision 3 read downward."""
    fully = " --random-fully" if options.random_fully else ""
    tunnel = f"-j SNAT --to-source {quad(plan.tunnel_ip)}{fully}"
    node = f"-j SNAT --to-source {quad(plan.node_ip)}{fully}"
    peers = sorted({str(peer.subnet) for peer in plan.peers.values()})
    balanced = "-m conntrack --ctstate DNAT"
    for own in (quad(plan.node_ip), quad(plan.bridge_ip), "127.0.0.0/8"):
        yield from (f"-s {own} -d {subnet} {tunnel}" for subnet in peers)
        yield f"-s {own} -d {plan.pod_cidr} {balanced} {tunnel}"
        yield f"-s {own} {balanced} {node}"
    yield f"-m mark --mark {HAIRPIN} {tunnel}"
    for subnet in peers:
        yield f"-d {subnet} -m mark --mark {MARK} {tunnel}"
        yield f"-d {subnet} -j RETURN"
    yield f"-d {plan.pod_cidr} -m mark --mark {MARK} {node}"
    yield f"-d {plan.pod_cidr} -j RETURN"
    if plan.masquerade:
        first, last = plan.masquerade_ports
        for proto in ("tcp", "udp", "sctp", "icmp"):
            ports = f"{quad(plan.node_ip)}:{first}-{last}"
            yield f"-s {plan.pod_cidr} -p {proto} -j SNAT --to-source {ports}{fully}"
        yield f"-s {plan.pod_cidr} {node}"
    yield f"-m mark --mark {MARK} {node}"


def _filter(plan: Plan) -> dict[str, list[str]]:
    """What goes no further."""
    rejected: list[str] = []
    vips = {f"{quad(a)}/32" for a in virtual(plan) if a not in plan.service_cidr}
    for frontend in _sorted(plan):
        if allowed(frontend):
            # Whoever may has been translated by now.
            rejected.append(f"{_to(frontend)} -j DROP")
        elif not frontend.active:
            rejected += _refused(_to(frontend), frontend.key.protocol, frontend.elsewhere)
    for target in (str(plan.service_cidr), *sorted(vips), f"{quad(plan.tunnel_ip)}/32"):
        rejected += _refused(f"-d {target} -p tcp", 6, False)
        rejected.append(f"-d {target} -j REJECT")
    forward = ["-m conntrack --ctstate INVALID -j DROP"]
    if plan.overlay.kind == "vxlan":
        device = overlay_device(plan)
        forward.append(f"-i {device} ! -d {plan.pod_cidr} -m conntrack --ctstate NEW -j DROP")
    return {
        "KUBE-SERVICES": ["-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN", *rejected],
        "KUBE-FORWARD": forward,
        "KUBE-FIREWALL": [
            "! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT "
            "-j DROP"
        ],
    }


def _refused(match: str, number: int, silent: bool) -> Iterable[str]:
    if silent:
        return [f"{match} -j DROP"]
    how = "-j REJECT --reject-with tcp-reset" if number == 6 else "-j REJECT"
    return [f"{match} {how}"]
