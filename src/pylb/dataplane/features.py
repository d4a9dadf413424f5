"""What dataplanes differ in, and which lacks what.

The conformance suite runs one body of tests over all of them.  Where a dataplane
lacks a feature, the tests hold it to the behaviour that is written here instead,
and docs/conformance.md is made from this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Feature(enum.Enum):
    """What a dataplane can do that another cannot; the value says it in a line."""

    FLANNEL_UDP = "overlay udp: flannel's bare IP packet in UDP"
    INVALID_DROPPED = "INVALID packets of translated flows are dropped under a name"
    UDP_MOVES = "a UDP flow whose backend is gone is balanced anew with its next packet"
    GONE_BACKEND_RESETS = "a TCP flow whose backend is gone is reset on both sides"
    NAMED_DROPS = "every drop has a named reason and a counter"
    KEYED_CHOICES = "backend and SNAT port are keyed functions of the flow, the same anew"
    SCHEDULERS = "schedulers lc, wlc and mh are what IPVS has under these names"
    SCTP_ABORTS = "an SCTP association whose backend is gone is aborted on both sides"
    SHARED_AFFINITY = "affinity holds whichever of its addresses a client asks a Service by"
    FLOWS_OUTLIVE_DAEMON = "flows survive a restart of the daemon"


_DAEMONS_MEMORY = "they are the daemon's memory; TCP is picked up midstream"

LACKS: Mapping[str, Mapping[Feature, str]] = {
    "python": {Feature.FLOWS_OUTLIVE_DAEMON: _DAEMONS_MEMORY},
    "native": {Feature.FLOWS_OUTLIVE_DAEMON: _DAEMONS_MEMORY},
    "kernel": {
        Feature.FLANNEL_UDP: "the kernel has no such device; choose vxlan or host-gw",
        Feature.INVALID_DROPPED: "they are forwarded untranslated, and leak private addresses",
        Feature.UDP_MOVES: "conntrack keeps the old backend until the flow is silent for 30 s",
        Feature.GONE_BACKEND_RESETS: "packets run into a missing neighbour; the sender waits",
        Feature.NAMED_DROPS: "drops are spread over nftables, conntrack and device counters",
        Feature.KEYED_CHOICES: "numgen and NAT ports are random",
        Feature.SCHEDULERS: "lc and wlc are random, mh is a hash of the flow without a table",
        Feature.SCTP_ABORTS: "packets run into a missing neighbour; the sender waits",
        Feature.SHARED_AFFINITY: "nftables has a memory for each address and port of a Service",
    },
}
"""By dataplane: what it lacks, and what it does instead."""


def lacks(dataplane: str, feature: Feature) -> bool:
    """True when the dataplane declares that it has no such feature."""
    return feature in LACKS.get(dataplane.partition("-")[0], {})


def table() -> str:
    """The features and who has them, as Markdown; what a dataplane does instead, below."""
    names = list(LACKS)
    lines = [
        "| feature | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for feature in Feature:
        cells = ("no" if lacks(name, feature) else "yes" for name in names)
        lines.append(f"| {feature.value} | " + " | ".join(cells) + " |")
    for name in names:
        lines += ["", f"What `{name}` does instead:", ""]
        lines += [f"- {feature.value}: {instead}." for feature, instead in LACKS[name].items()]
    return "\n".join(lines) + "\n"
