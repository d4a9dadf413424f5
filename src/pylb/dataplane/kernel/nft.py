"""The plan as nftables, in kube-proxy's shape; a delta as what changes of it.

A packet's way::

    prerouting, output:  daddr . protocol . dport ─vmap─► a chain for each frontend
                         that chain rolls the dice (numgen) into the mark ─► translate
    translate:           daddr . protocol . dport . mark ─map─► dnat to the endpoint
    forward, input,      what should have been translated and was not is rejected
    output (filter):     or dropped, under a counter's name
    postrouting:         who sees which source: ``snat to ADDRESS``, never masquerade

The chains end in one map of all endpoints where kube-proxy's have a map each:
the kernel looks through every anonymous map for each new one, and through a whole
map for every rule that uses it, so that 10 000 Services took 27 s to load that
way and take one second this way.  What a packet costs is the same.

Marks: the number that was thrown, plus `MASQUERADE` where the source is not to be kept
or `KEEP` where it is, also that of who is no pod, plus `OTHER` where it is one of
`Frontend.other`.  An endpoint that weighs more has several numbers.  With affinity the
map dice turns the number into one of the endpoint's own
(`pylb.dataplane.kernel.affinity`).  Both functions are pure and give one transaction
for ``nft -f``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import gcd

from pylb.dataplane.kernel import affinity
from pylb.dataplane.kernel.names import (
    COUNTED,
    INVALID,
    OTHER_COUNTERS,
    TABLE,
    Options,
    allowed,
    check_overlay,
    chosen,
    keeps_pods_source,
    masquerades_all,
    overlay_device,
    protocol,
    quad,
    virtual,
)
from pylb.plan.apply import apply
from pylb.plan.tables import Backend, Delta, Frontend, FrontendKey, Others, Plan
from pylb.plan.validate import WEIGHING

MASQUERADE = 0x10000
"""The mark's bit for "not with its own source"; the bits below it are an index."""
OTHER = 0x20000
"""The mark's bit for an index into what `Frontend.other` chooses from."""
KEEP = 0x40000
"""The mark's bit for "with its own source", of a frontend with policy Local."""

MOST_NUMBERS = 256
"""Numbers that one choice may have in the shared maps; beyond it a rule has a map of its own."""
SEED = 0x70796C62

_FROM = f"ip {TABLE}"
_COMMENT = 128
"""Bytes that nft takes of a comment, the end's zero among them."""


def ruleset(plan: Plan, options: Options = Options()) -> str:  # noqa: B008
    """The whole table for ``plan``, in place of whatever table there was.

    Raises `PlanError` for an overlay that the kernel has not got.
    """
    check_overlay(plan.overlay.kind)
    lines = [f"table {_FROM} {{}}", f"delete table {_FROM}", f"table {_FROM} {{"]
    for name in (*(f"drop_{reason.value}" for reason in COUNTED), *OTHER_COUNTERS):
        lines.append(f"\tcounter {name} {{ }}")
    frontends = [frontend for _, frontend in sorted(plan.frontends.items())]
    lines += _sets(plan, frontends)
    for frontend in frontends:
        for name, rules in _chains_of(frontend).items():
            lines += ["", *_block(name, rules, frontend.service)]
    for name, rules in _chains(plan, options):
        lines += ["", *_block(name, rules)]
    lines.append("}")
    return "\n".join(lines) + "\n"


def change(plan: Plan, delta: Delta, options: Options = Options()) -> str:  # noqa: B008
    """What turns the table of ``plan`` into that of ``apply(plan, delta)``; "" for nothing.

    Only chains and elements that differ are named.
    """
    if delta.replace is not None:
        return ruleset(delta.replace, options)
    after = apply(plan, delta)
    removed: list[str] = []
    added: list[str] = []
    gone: list[str] = []
    for name, old, new in _differing_sets(plan, after, delta):
        removed += _elements("delete", name, old)
        added += _elements("add", name, new)
    for key, frontend in delta.frontends.items():
        _change_frontend(plan.frontends.get(key), frontend, removed, added, gone)
    # Elements go before the chains that they lead to, and come after them.
    return "".join(f"{line}\n" for line in (*removed, *added, *gone))


def _change_frontend(
    old: Frontend | None,
    new: Frontend | None,
    removed: list[str],
    added: list[str],
    gone: list[str],
) -> None:
    before, after = _entries(old), _entries(new)
    chains_before, chains_after = _chains_of(old), _chains_of(new)
    if new is not None:
        # All chains first: they lead to each other.
        for name in chains_after:
            if name not in chains_before:
                added.append(f"add chain {_FROM} {name} {{ {_comment(new.service)}; }}")
        for name, rules in chains_after.items():
            if chains_before.get(name) == rules:
                continue
            if name in chains_before:
                added.append(f"flush chain {_FROM} {name}")
            added += [f"add rule {_FROM} {name} {rule}" for rule in rules]
    for name in _OF_FRONTENDS:
        removed += _elements("delete", name, before[name] - after[name])
        added += _elements("add", name, after[name] - before[name])
    stale = [name for name in chains_before if name not in chains_after]
    gone += [f"flush chain {_FROM} {name}" for name in stale]
    gone += [f"delete chain {_FROM} {name}" for name in stale]


_OF_FRONTENDS = ("endpoints", "dice", "services", "no-endpoints")
"""The maps whose elements belong to one frontend each."""


def _entries(frontend: Frontend | None) -> dict[str, set[str]]:
    """A frontend's elements in the maps of `_OF_FRONTENDS`."""
    found: dict[str, set[str]] = {name: set() for name in _OF_FRONTENDS}
    if frontend is None:
        return found
    key = _key(frontend.key)
    if not frontend.active:
        chain = "no-local-endpoint" if frontend.elsewhere else "no-endpoint"
        found["no-endpoints"].add(f"{key} : goto {chain}")
    if _rules(frontend):
        found["services"].add(f"{key} : goto {_chain(frontend)}")
    for offset, indices in _choices(frontend):
        backends = chosen(frontend, indices)
        marks = _marks(frontend, offset, indices)
        thrown = list(enumerate(_numbered(_ways(frontend, backends)), offset))
        if frontend.affinity:
            found["dice"] |= {f"{key} . {number} : {marks[i]}" for number, i in thrown}
        pairs = list(zip(marks, backends, strict=True))
        if thrown and not frontend.affinity:
            pairs = [(number, backends[i]) for number, i in thrown]
        for mark, backend in pairs:
            found["endpoints"].add(f"{key} . {mark} : {quad(backend.address)} . {backend.port}")
    return found


def _marks(frontend: Frontend, offset: int, indices: tuple[int, ...]) -> list[int]:
    """The marks that stand for some of a frontend's backends."""
    if not frontend.affinity:
        return list(range(offset, offset + len(indices)))
    numbers = affinity.ids(frontend)
    return [offset + numbers[index] for index in indices]


def _key(key: FrontendKey) -> str:
    return f"{quad(key.address)} . {protocol(key.protocol)} . {key.port}"


def _choices(frontend: Frontend) -> list[tuple[int, tuple[int, ...]]]:
    """What a frontend's clients may get, and where the marks of each begin."""
    active = _bits(frontend)
    found = [(active, frontend.active), (active | OTHER, frontend.other)]
    return [(offset, indices) for offset, indices in found if indices]


def _bits(frontend: Frontend) -> int:
    """What all of a frontend's marks say of the source; 0: pods keep theirs, and no others."""
    if masquerades_all(frontend):
        return MASQUERADE
    return KEEP if frontend.local_only else 0


def _chain(frontend: Frontend) -> str:
    """The frontend's chain: what it is, where, and whose."""
    key = frontend.key
    kind = "service" if keeps_pods_source(frontend) else "external"
    if frontend.local_only:
        kind = "local"
    # A plan from elsewhere may say anything here; nft takes these letters.
    service = re.sub(r"[^A-Za-z0-9/._-]", "_", frontend.service.replace(":", "/"))[:160]
    return f"{kind}-{quad(key.address)}/{protocol(key.protocol)}/{key.port}-{service}"


def _chains_of(frontend: Frontend | None) -> dict[str, list[str]]:
    """A frontend's own chains with their rules, the one that leads to the others first."""
    if frontend is None or not _rules(frontend):
        return {}
    chains = {_chain(frontend): _rules(frontend)}
    if frontend.affinity:
        chains[affinity.chain(_chain(frontend))] = affinity.rules(frontend)
    return chains


def _rules(frontend: Frontend) -> list[str]:
    """The rules of a frontend's chain: who may, who gets which endpoints, and the dice."""
    rules = []
    ranges = allowed(frontend)
    if ranges:
        listed = ranges[0] if len(ranges) == 1 else f"{{ {', '.join(ranges)} }}"
        rules.append(f"ip saddr != {listed} counter name drop_source_range drop")
    if frontend.others is Others.INSIDE:
        rules += _dice(frontend, OTHER, frontend.other, "ip saddr @inside ")
    elif frontend.others is not Others.NOBODY:
        for backend in chosen(frontend, frontend.active):
            one = f"ip saddr {quad(backend.address)} "
            rules += _dice(frontend, OTHER, frontend.other, one) or [f"{one}return"]
    return rules + _dice(frontend, 0, frontend.active, "")


def _dice(frontend: Frontend, extra: int, indices: tuple[int, ...], match: str) -> list[str]:
    """An endpoint's index into the mark, for what ``match`` matches; none without endpoints."""
    if not indices:
        return []
    offset = extra | _bits(frontend)
    backends = chosen(frontend, indices)
    ways = _ways(frontend, backends)
    dice = _throw(frontend.scheduler, sum(ways))
    marks = _marks(frontend, offset, indices)
    shared = bool(_numbered(ways))
    if shared:
        dice += f" offset {offset}" if offset else ""
    else:
        dice += f" map {{ {', '.join(_spans(ways, marks))} }}"
    thrown = f"{match}meta mark set {dice}"
    if not frontend.affinity:
        return [f"{thrown} goto translate"]
    kept = affinity.chain(_chain(frontend))
    found = f"{affinity.FIELDS} @affinity goto {kept}"
    rules = [f"{match}meta mark set {mark} {found}" for mark in marks]
    if not shared:
        return [*rules, f"{thrown} goto {kept}"]
    key = "ip daddr . meta l4proto . th dport . meta mark"
    return [*rules, thrown, f"{match}meta mark set {key} map @dice goto {kept}"]


def _throw(scheduler: str, numbers: int) -> str:
    """What gives one of so many numbers for a new flow.

    The kernel has neither loads nor Maglev's tables: lc and wlc are random, mh a plain
    hash of the flow.  Hashes have one seed, so that all nodes choose alike.
    """
    how = {
        "rr": f"numgen inc mod {numbers}",
        "wrr": f"numgen inc mod {numbers}",
        "sh": f"jhash ip saddr mod {numbers} seed {SEED:#x}",
        "mh": f"jhash ip saddr . ip daddr . th sport . th dport mod {numbers} seed {SEED:#x}",
    }
    return how.get(scheduler, f"numgen random mod {numbers}")


def _ways(frontend: Frontend, backends: list[Backend]) -> list[int]:
    """How many of the numbers are each backend's."""
    weighs = frontend.scheduler in WEIGHING
    weights = [backend.weight if weighs else 1 for backend in backends]
    unit = gcd(*weights)
    return [weight // unit for weight in weights]


def _numbered(ways: list[int]) -> list[int]:
    """Whose each number is, in order; [] where weights make too many of them to be listed."""
    if sum(ways) > MOST_NUMBERS and max(ways) > 1:
        return []
    return [i for i, count in enumerate(ways) for _ in range(count)]


def _spans(ways: list[int], marks: list[int]) -> Iterator[str]:
    """The numbers of each backend as a range, and its mark."""
    for end, count, mark in zip(accumulate(ways), ways, marks, strict=True):
        yield f"{end - count}-{end - 1} : {mark}" if count > 1 else f"{end - 1} : {mark}"


def _sets(plan: Plan, frontends: list[Frontend]) -> Iterator[str]:
    entries: dict[str, list[str]] = {name: [] for name in _OF_FRONTENDS}
    for frontend in frontends:
        for name, elements in _entries(frontend).items():
            entries[name] += sorted(elements)
    local = (a for a in plan.addresses if a in plan.pod_cidr)
    vips = virtual(plan)
    kept = {f.key.address for f in frontends if keeps_pods_source(f)}
    key = "ipv4_addr . inet_proto . inet_service"
    yield from _set("set peer-pods", "ipv4_addr", _peer_pods(plan), "flags interval")
    yield from _set("set inside", "ipv4_addr", _inside(plan), "flags interval")
    yield from _set("set hairpin", "ipv4_addr . ipv4_addr", [_hairpin(a) for a in sorted(local)])
    yield from _set("set vips", "ipv4_addr", [quad(a) for a in sorted(vips)])
    yield from _set("set cluster-ips", "ipv4_addr", [quad(a) for a in sorted(kept)])
    yield from _set("map services", f"{key} : verdict", entries["services"])
    yield from _set("map no-endpoints", f"{key} : verdict", entries["no-endpoints"])
    target = f"{key} . mark : ipv4_addr . inet_service"
    yield from _set("map endpoints", target, entries["endpoints"])
    yield from _set("map dice", f"{key} . mark : mark", entries["dice"])
    yield ""
    yield from _block_of("set", "affinity", affinity.SET)


def _differing_sets(
    plan: Plan, after: Plan, delta: Delta
) -> Iterator[tuple[str, set[str], set[str]]]:
    """(set, elements to remove, elements to add) of the sets that several things share."""
    if delta.peers:
        before, now = set(_peer_pods(plan)), set(_peer_pods(after))
        yield "peer-pods", before - now, now - before
    local = [a for a in delta.addresses if a in plan.pod_cidr]
    yield (
        "hairpin",
        {_hairpin(a) for a in local if a in plan.addresses and a not in after.addresses},
        {_hairpin(a) for a in local if a not in plan.addresses and a in after.addresses},
    )
    touched = {
        key.address
        for key, frontend in delta.frontends.items()
        if frontend is None
        or key not in plan.frontends
        or keeps_pods_source(frontend) != keeps_pods_source(plan.frontends[key])
    }
    if delta.peers:
        # An address that a node has is not a virtual one.
        touched |= {key.address for key in (*plan.frontends, *after.frontends)}
    if touched:
        before_vips, before_kept = _vips(plan, touched)
        now_vips, now_kept = _vips(after, touched)
        yield "vips", before_vips - now_vips, now_vips - before_vips
        yield "cluster-ips", before_kept - now_kept, now_kept - before_kept


def _vips(plan: Plan, touched: set[int]) -> tuple[set[str], set[str]]:
    vips = {quad(address) for address in virtual(plan) & touched}
    kept = {
        quad(key.address)
        for key, frontend in plan.frontends.items()
        if key.address in touched and keeps_pods_source(frontend)
    }
    return vips, kept


def _peer_pods(plan: Plan) -> list[str]:
    return [str(subnet) for subnet in sorted({peer.subnet for peer in plan.peers.values()})]


def _inside(plan: Plan) -> list[str]:
    """This node's pods and processes: for them an outside address is no policy's matter."""
    return [str(plan.pod_cidr), quad(plan.node_ip), "127.0.0.0/8"]


def _hairpin(address: int) -> str:
    return f"{quad(address)} . {quad(address)}"


def _set(name: str, kind: str, elements: list[str], *more: str) -> Iterator[str]:
    yield f"\n\t{name} {{"
    yield f"\t\ttype {kind}"
    yield from (f"\t\t{line}" for line in more)
    if elements:
        yield "\t\telements = {\n\t\t\t" + ",\n\t\t\t".join(elements) + "\n\t\t}"
    yield "\t}"


def _elements(verb: str, name: str, elements: Iterable[str]) -> list[str]:
    listed = ", ".join(sorted(elements))
    return [f"{verb} element {_FROM} {name} {{ {listed} }}"] if listed else []


def _block_of(kind: str, name: str, lines: Iterable[str]) -> list[str]:
    return [f"\t{kind} {name} {{", *(f"\t\t{line}" for line in lines), "\t}"]


def _block(name: str, rules: Iterable[str], comment: str = "") -> list[str]:
    told = [_comment(comment)] if comment else []
    return _block_of("chain", name, [*told, *rules])


def _comment(text: str) -> str:
    printable = re.sub(r'[^ -~]|["\\]', "_", text)[: _COMMENT - 1]
    return f'comment "{printable}"'


def _chains(plan: Plan, options: Options) -> Iterator[tuple[str, list[str]]]:
    """The chains that do not depend on any frontend."""
    vxlan = f'iifname "{overlay_device(plan)}"' if plan.overlay.kind == "vxlan" else ""
    balance = "ip daddr . meta l4proto . th dport vmap @services"
    endpoint = "ip daddr . meta l4proto . th dport . meta mark map @endpoints"
    yield "translate", [f"meta l4proto {{ tcp, udp, sctp }} dnat ip to {endpoint}"]
    # What comes from a peer has been balanced there.
    arriving = [f"{vxlan} return"] if vxlan else []
    yield (
        "prerouting",
        ["type nat hook prerouting priority dstnat; policy accept;", *arriving, balance],
    )
    yield "output", ["type nat hook output priority -100; policy accept;", balance]
    yield from _sources(plan, options)
    yield from _filters(plan, vxlan)
    if vxlan and not options.track_overlay:
        outer = f"udp dport {plan.overlay.port} notrack"
        hook = "type filter hook {} priority raw; policy accept;"
        yield "untracked-in", [hook.format("prerouting"), f"fib daddr type local {outer}"]
        yield "untracked-out", [hook.format("output"), f"fib saddr type local {outer}"]


def _sources(plan: Plan, options: Options) -> Iterator[tuple[str, list[str]]]:
    """Who sees which source address; DESIGN decision 3 read downward."""
    pods = str(plan.pod_cidr)
    flags = " random,fully-random" if options.random_fully else ""
    own = f"ip saddr {{ {quad(plan.node_ip)}, {quad(plan.bridge_ip)}, 127.0.0.0/8 }}"
    tunnel, node = f"snat to {quad(plan.tunnel_ip)}{flags}", f"snat to {quad(plan.node_ip)}{flags}"
    first, last = plan.masquerade_ports
    leaving = f"ip saddr {pods} ip daddr != {pods} ip daddr != @peer-pods"
    outside = []
    if plan.masquerade:
        ports = f"snat to {quad(plan.node_ip)}:{first}-{last}{flags}"
        # An ICMP identifier is treated as a port is.
        outside = [
            f"{leaving} meta l4proto {{ tcp, udp, sctp }} {ports}",
            f"{leaving} meta l4proto icmp {ports}",
            f"{leaving} {node}",
        ]
    yield (
        "postrouting",
        [
            "type nat hook postrouting priority srcnat; policy accept;",
            "ct status dnat jump balanced",
            f"{own} ip daddr @peer-pods {tunnel}",
            *outside,
        ],
    )
    yield (
        "balanced",
        [
            f"{own} ip daddr {pods} {tunnel}",
            f"{own} ip daddr @peer-pods {tunnel}",
            f"{own} {node}",
            f"ip saddr . ip daddr @hairpin {tunnel}",
            f"ip saddr != {pods} meta mark & {KEEP:#x} == 0 "
            f"ct original ip daddr @cluster-ips meta mark set {MASQUERADE:#x}",
            f"meta mark & {MASQUERADE:#x} == 0 return",
            f"ip daddr @peer-pods {tunnel}",
            *([f"ip daddr != {pods} ip saddr {pods} return"] if plan.masquerade else []),
            node,
        ],
    )


def _filters(plan: Plan, vxlan: str) -> Iterator[tuple[str, list[str]]]:
    """What goes no further, and why."""
    known = "ct state established,related accept"
    of_overlay = [f"{vxlan} jump from-overlay"] if vxlan else []
    invalid = f"ct state invalid counter name {INVALID}"
    hook = "type filter hook {} priority filter; policy accept;"
    yield "forward", [hook.format("forward"), known, invalid, *of_overlay, "jump untranslated"]
    yield (
        "input",
        [
            hook.format("input"),
            known,
            *of_overlay,
            # route_localnet lets the node's own NodePorts answer on 127.0.0.1, and nobody else in.
            'iifname != "lo" ip daddr 127.0.0.0/8 drop',
            "jump untranslated",
        ],
    )
    yield "output-filter", [hook.format("output"), known, "jump untranslated"]
    if vxlan:
        yield (
            "from-overlay",
            [
                f"ip daddr != {plan.pod_cidr} counter name drop_not_for_this_node drop",
                "ip saddr != @peer-pods counter name drop_spoofed_inner_source drop",
            ],
        )
    yield (
        "untranslated",
        [
            "ct state invalid ip daddr @vips counter name drop_invalid_state drop",
            "ip daddr . meta l4proto . th dport vmap @no-endpoints",
            "ip daddr @vips goto no-such-frontend",
            f"ip daddr {quad(plan.tunnel_ip)} goto no-such-frontend",
            f"ip daddr {plan.service_cidr} counter name drop_unallocated_vip drop",
        ],
    )
    yield "no-local-endpoint", ["counter name drop_no_local_endpoint drop"]
    for name in ("no-endpoint", "no-such-frontend"):
        counter = f"counter name drop_{name.replace('-', '_')}"
        rules = [f"{counter} counter name rejected"]
        yield name, [*rules, "meta l4proto tcp reject with tcp reset", "reject"]
