"""Flows of every shape, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from pylb.dataplane.base import Event, EventKind, FlowFilter, FlowTuple, FlowView
from pylb.observe.protocols import (
    GRE,
    ICMP,
    SCTP,
    STATES,
    TCP,
    WITH_PORTS,
)
from pylb.plan.tables import FrontendKey, Prefix

addresses = st.integers(0, 0xFFFFFFFF)
ports = st.integers(0, 0xFFFF)
protocols = st.sampled_from([ICMP, TCP, 17, GRE, 132, 136, 99]) | st.integers(0, 255)


def tuples(protocol: int) -> st.SearchStrategy[FlowTuple]:
    either = ports if protocol in {ICMP, GRE, *WITH_PORTS} else st.just(0)
    return st.builds(FlowTuple, addresses, addresses, st.just(protocol), either, either)


@st.composite
def flows(draw: st.DrawFn) -> FlowView:
    protocol = draw(protocols)
    pair = st.tuples(st.integers(0, 1 << 63), st.integers(0, 1 << 63))
    return FlowView(
        id=draw(st.integers(0, 0xFFFFFFFF)),
        original=draw(tuples(protocol)),
        reply=draw(tuples(protocol)),
        timeout=draw(st.integers(0, 432000)),
        state=draw(st.sampled_from(STATES.get(protocol, ("",)))),
        seen_reply=draw(st.booleans()),
        assured=draw(st.booleans()),
        packets=draw(pair),
        bytes=draw(pair),
        service=draw(st.sampled_from(["", "default/web:http", "kube-system/dns"])),
        frontend=draw(st.none() | st.builds(FrontendKey, addresses, ports, protocols)),
        generation=draw(st.integers(0, 1 << 40)),
        mark=draw(st.integers(0, 0xFFFFFFFF)),
    )


events = st.builds(Event, st.sampled_from(EventKind), flows(), st.integers(0, 1 << 62))

prefixes = st.integers(0, 32).flatmap(
    lambda length: addresses.map(
        lambda a: Prefix(a & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF, length)
    )
)

filters = st.builds(
    FlowFilter,
    protocol=st.none() | st.integers(0, 255),
    src=st.none() | prefixes,
    dst=st.none() | prefixes,
    reply_src=st.none() | prefixes,
    reply_dst=st.none() | prefixes,
    sport=st.none() | ports,
    dport=st.none() | ports,
    reply_sport=st.none() | ports,
    reply_dport=st.none() | ports,
    state=st.none() | st.sampled_from(STATES[TCP] + STATES[SCTP]),
    assured=st.none() | st.booleans(),
    seen_reply=st.none() | st.booleans(),
    snat=st.none() | st.booleans(),
    dnat=st.none() | st.booleans(),
    id=st.none() | st.integers(0, 1 << 60),
    mark=st.none() | st.integers(0, 0xFFFFFFFF),
)
