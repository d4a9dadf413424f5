"""Policy routing rules: which packets go to the daemon before the kernel delivers them.

The priorities are one list read downward.  Two ideas carry it: what the daemon
writes back (``iif pylb0``) jumps over everything that captures, and the rule for
the local table moves from 0 to 1000, so that packets *to* the node can be
captured too.  While the TUN has no carrier its tables match nothing and look-up
goes on: that is what rules 101 to 103 are for.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pylb.node.plumbing import names as n
from pylb.node.plumbing.names import Names
from pylb.node.plumbing.targets import Targets
from pylb.plan.tables import Plan, Prefix

REINJECTED = 10
PODS = 100
PODS_TO_NODE = 101
PODS_TO_PODS = 102
PODS_ELSEWHERE = 103
NODE_PORTS = 110
NODE_FRONTENDS = 115
MASQUERADED = 120
ICMP = 125
OTHER_PROTOCOLS = 126
FROM_OUTSIDE = 130
FROM_NODE = 140
NODE_TO_NODE_PORTS = 150
NODE_TO_LOOPBACK_NODE_PORTS = 151
NODE_TO_FRONTENDS = 155
LOCAL = 1000

_TCP, _UDP, _ICMP = socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP
_SCTP = socket.IPPROTO_SCTP
_LOOPBACK = Prefix(0x7F000001, 32)
_MASQUERADABLE = (2, 4, 33, 41, 47, 50, 51, 94, 108, 115, 132, 136)
"""IGMP, IP in IP, DCCP, IPv6 in IP, GRE, ESP, AH, IPIP, IPComp, L2TP, SCTP, UDP-Lite."""

# linux/fib_rules.h: enum FR_ACT_*
_TO_TABLE, _GOTO, _UNREACHABLE = 1, 2, 7


class Rule(NamedTuple):
    """One IPv4 rule.  ``dst`` None is anywhere, ``protocol`` 0 any, ``ports`` inclusive.

    ``action`` is FR_ACT_*; ``target`` is its table, or the priority to go to.
    """

    priority: int
    iif: str = ""
    dst: Prefix | None = None
    protocol: int = 0
    ports: tuple[int, int] | None = None
    action: int = _TO_TABLE
    target: int = 0

    def __str__(self) -> str:
        words = [f"{self.priority}:"]
        words += ["iif", self.iif] if self.iif else []
        words += ["to", str(self.dst)] if self.dst is not None else []
        words += ["ipproto", str(self.protocol)] if self.protocol else []
        words += ["dport", f"{self.ports[0]}-{self.ports[1]}"] if self.ports else []
        action = {_TO_TABLE: "lookup", _GOTO: "goto"}.get(self.action, "unreachable")
        words += [action] if self.action == _UNREACHABLE else [action, str(self.target)]
        return " ".join(words)


KERNELS_OWN_LOCAL = Rule(0, target=n.TABLE_LOCAL)
"""The rule that every network namespace is born with."""


def desired(plan: Plan, names: Names, targets: Targets) -> list[Rule]:
    """Every rule that ``plan`` needs, in the order in which they are to be added.

    1000 comes first: 10 jumps to it, and it must be there before 0 goes.
    """
    tun, uplink, bridge = n.TABLE_TUN, names.uplink, names.bridge
    node, pods = Prefix(plan.node_ip, 32), plan.pod_cidr
    tunnel = Prefix(plan.tunnel_ip, 32)
    rules = [
        Rule(LOCAL, target=n.TABLE_LOCAL),
        Rule(REINJECTED, names.tun, action=_GOTO, target=LOCAL),
        Rule(PODS, bridge, target=tun),
        Rule(PODS_TO_NODE, bridge, node, target=n.TABLE_LOCAL),
        Rule(PODS_TO_NODE, bridge, Prefix(plan.bridge_ip, 32), target=n.TABLE_LOCAL),
        Rule(PODS_TO_PODS, bridge, pods, target=n.TABLE_MAIN),
        Rule(PODS_ELSEWHERE, bridge, action=_UNREACHABLE),
    ]
    for protocol in (_TCP, _UDP):
        rules += [
            Rule(NODE_PORTS, uplink, node, protocol, plan.node_ports, target=tun),
            Rule(MASQUERADED, uplink, node, protocol, plan.masquerade_ports, target=tun),
        ]
    rules += [
        Rule(NODE_FRONTENDS, uplink, node, key.protocol, (key.port, key.port), target=tun)
        for key in targets.ports
        if key.address == plan.node_ip
    ]
    rules += [
        Rule(ICMP, uplink, node, _ICMP, target=tun),
        # Port rules match none of these, yet they may be replies to masqueraded flows.  They
        # are named one by one: a rule for all the rest would match ARP requests for the
        # node's address too, which the kernel looks up as protocol 0, and silence them.
        *(Rule(OTHER_PROTOCOLS, uplink, node, each, target=tun) for each in _MASQUERADABLE),
        *(Rule(FROM_OUTSIDE, uplink, prefix, target=tun) for prefix in (*targets.vips, pods)),
        *(Rule(FROM_NODE, "lo", prefix, target=tun) for prefix in (*targets.vips, tunnel)),
    ]
    peers = sorted({peer.subnet for peer in plan.peers.values()})
    rules += [Rule(FROM_NODE, "lo", subnet, target=tun) for subnet in peers]
    for protocol in (_TCP, _UDP, _SCTP):
        rules += [
            Rule(NODE_TO_NODE_PORTS, "lo", node, protocol, plan.node_ports, target=tun),
            Rule(
                NODE_TO_LOOPBACK_NODE_PORTS,
                "lo",
                _LOOPBACK,
                protocol,
                plan.node_ports,
                target=n.TABLE_TUN_LOOPBACK,
            ),
        ]
    rules += [
        Rule(
            NODE_TO_FRONTENDS,
            "lo",
            Prefix(key.address, 32),
            key.protocol,
            (key.port, key.port),
            target=tun,
        )
        for key in targets.ports
    ]
    return rules


def existing(ipr: IPRoute) -> tuple[list[Rule], bool]:
    """The rules that plumbing made, and whether the kernel's own rule 0 is there."""
    ours: list[Rule] = []
    has_local = False
    for message in ipr.get_rules(family=socket.AF_INET):
        rule = _from_message(message)
        if message.get_attr("FRA_PROTOCOL") == n.PROTOCOL:
            ours.append(rule)
        elif rule == KERNELS_OWN_LOCAL:
            has_local = True
    return ours, has_local


def _from_message(message: Any) -> Rule:
    address = message.get_attr("FRA_DST")
    ports = message.get_attr("FRA_DPORT_RANGE")
    action = message["action"]
    first, _, last = ports.partition(":") if ports else ("", "", "")
    return Rule(
        priority=message.get_attr("FRA_PRIORITY") or 0,
        iif=message.get_attr("FRA_IIFNAME") or "",
        dst=None if address is None else Prefix(int(IPv4Address(address)), message["dst_len"]),
        protocol=message.get_attr("FRA_IP_PROTO") or 0,
        ports=(int(first), int(last)) if ports else None,
        action=action,
        target=message.get_attr("FRA_GOTO" if action == _GOTO else "FRA_TABLE") or 0,
    )


def apply(ipr: IPRoute, wanted: list[Rule]) -> list[str]:
    """Make the rules what ``wanted`` says; gives what was changed.

    Additions come first, then the kernel's rule 0 goes, then what is no longer
    wanted: at every moment some rule leads to the local table.
    """
    have, has_local = existing(ipr)
    present, needed = set(have), set(wanted)
    changes = []
    for rule in wanted:
        if rule not in present:
            _add(ipr, rule)
            present.add(rule)
            changes.append(f"added rule {rule}")
    if has_local:
        _delete(ipr, KERNELS_OWN_LOCAL, protocol=None)
        changes.append("moved rule 0 to 1000")
    for rule in have:
        if rule not in needed:
            _delete(ipr, rule)
            changes.append(f"removed rule {rule}")
    return changes


def clean(ipr: IPRoute) -> list[str]:
    """Put the kernel's rule 0 back, then remove every rule that plumbing made."""
    have, has_local = existing(ipr)
    changes = []
    if have and not has_local:
        _add(ipr, KERNELS_OWN_LOCAL, protocol=_RTPROT_KERNEL)
        changes.append("restored rule 0")
    for rule in have:
        _delete(ipr, rule)
        changes.append(f"removed rule {rule}")
    return changes


_RTPROT_KERNEL = 2


def _arguments(rule: Rule, protocol: int | None) -> dict[str, Any]:
    given: dict[str, Any] = {"priority": rule.priority, "family": socket.AF_INET}
    if protocol is not None:
        given["protocol"] = protocol
    if rule.iif:
        given["iifname"] = rule.iif
    if rule.dst is not None:
        given["dst"] = str(IPv4Address(rule.dst.address))
        given["dst_len"] = rule.dst.length
    if rule.protocol:
        given["ip_proto"] = rule.protocol
    if rule.ports:
        given["dport_range"] = f"{rule.ports[0]}:{rule.ports[1]}"
    if rule.action == _TO_TABLE:
        given["table"] = rule.target
    elif rule.action == _GOTO:
        given |= {"action": "goto", "goto": rule.target}
    else:
        given["action"] = "unreachable"
    return given


def _add(ipr: IPRoute, rule: Rule, protocol: int = n.PROTOCOL) -> None:
    ipr.rule("add", **_arguments(rule, protocol))


def _delete(ipr: IPRoute, rule: Rule, protocol: int | None = n.PROTOCOL) -> None:
    try:
        ipr.rule("del", **_arguments(rule, protocol))
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
