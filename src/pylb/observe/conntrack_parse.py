"""Reads the lines that conntrack-tools prints back into flows.

What the tool says of the real kernel becomes the same values that pylb's own
dataplanes give, so that the two can be compared.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import NamedTuple

from pylb.dataplane.base import EventKind, FlowTuple, FlowView
from pylb.observe.protocols import GRE, ICMP

_LINE = re.compile(
    r"(?:\[(?P<seconds>\d+)\.(?P<micros>\d+)\s*\]\t)?"
    r"(?:\s*\[(?P<kind>NEW|UPDATE|DESTROY)\]\s+)?"
    r"(?:ipv4\s+2\s+)?"
    r"(?P<name>[a-z]+)\s+(?P<protocol>\d+)"
    r"(?: (?P<timeout>\d+))?"
    r"(?: (?P<state>[A-Z][A-Z0-9_]*))?"
    r" (?P<rest>src=.*)"
)


class Parsed(NamedTuple):
    """A line's flow; ``kind`` and ``at`` (nanoseconds since the epoch) of an event."""

    flow: FlowView
    kind: EventKind | None = None
    at: int | None = None


def parse_line(line: str) -> Parsed:
    """The flow, and event if it is one, that a line of ``conntrack`` tells of.

    What the line does not tell is 0 in the flow (id, counters, a DESTROY's
    timeout).  Raises ValueError when it is not such a line.
    """
    match = _LINE.fullmatch(line.rstrip("\n"))
    if match is None:
        raise ValueError(f"not a line of conntrack: {line!r}")
    protocol = int(match["protocol"])
    sides: list[dict[str, str]] = []
    flags: set[str] = set()
    tail: dict[str, str] = {}
    icmp_ids = 2 if protocol == ICMP else 0
    for word in match["rest"].split():
        if word.startswith("["):
            flags.add(word.strip("[]"))
            continue
        name, _, value = word.partition("=")
        if name == "src":
            sides.append({})
        if name in _OF_A_SIDE:
            sides[-1][name] = value
        elif name == "id" and icmp_ids:
            sides[-1][name] = value
            icmp_ids -= 1
        else:
            tail[name] = value
    if len(sides) != 2:
        raise ValueError(f"not two directions in a line of conntrack: {line!r}")
    original, reply = sides
    flow = FlowView(
        id=int(tail.get("id", 0)),
        original=_tuple(original, protocol),
        reply=_tuple(reply, protocol),
        timeout=int(match["timeout"] or 0),
        state=match["state"] or "",
        seen_reply="UNREPLIED" not in flags,
        assured="ASSURED" in flags,
        packets=(int(original.get("packets", 0)), int(reply.get("packets", 0))),
        bytes=(int(original.get("bytes", 0)), int(reply.get("bytes", 0))),
        mark=int(tail.get("mark", 0)),
    )
    at = None
    if match["seconds"]:
        at = int(match["seconds"]) * 1_000_000_000 + int(match["micros"]) * 1000
    return Parsed(flow, EventKind(match["kind"]) if match["kind"] else None, at)


_OF_A_SIDE = frozenset(
    {"src", "dst", "sport", "dport", "type", "code", "srckey", "dstkey", "packets", "bytes"}
)


def _tuple(side: dict[str, str], protocol: int) -> FlowTuple:
    if protocol == ICMP:
        ports = int(side["id"]), int(side["type"]) << 8 | int(side["code"])
    elif protocol == GRE:
        ports = int(side["srckey"], 16), int(side["dstkey"], 16)
    else:
        ports = int(side.get("sport", 0)), int(side.get("dport", 0))
    src, dst = int(IPv4Address(side["src"])), int(IPv4Address(side["dst"]))
    return FlowTuple(src, dst, protocol, *ports)
