"""ctnetlink's bytes: what the kernel says of a flow, and what it is asked."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.dataplane.base import EventKind, FlowTuple, FlowView
from pylb.dataplane.kernel import ctnetlink
from tests.unit.node.plans import ip


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def tuple_(t: FlowTuple) -> bytes:
    sides = attribute(1, struct.pack(">I", t.src)) + attribute(2, struct.pack(">I", t.dst))
    rest = attribute(1, bytes((t.protocol,)))
    if t.protocol == 1:
        rest += attribute(4, struct.pack(">H", t.sport))
        rest += attribute(5, bytes((t.dport >> 8,))) + attribute(6, bytes((t.dport & 255,)))
    else:
        rest += attribute(2, struct.pack(">H", t.sport)) + attribute(3, struct.pack(">H", t.dport))
    return attribute(0x8001, sides) + attribute(0x8002, rest)


def message(flow: FlowView, kind: int = ctnetlink.NEW, flags: int = 0, state: int = 3) -> bytes:
    status = 2 * flow.seen_reply | 4 * flow.assured
    attributes = attribute(0x8001, tuple_(flow.original)) + attribute(0x8002, tuple_(flow.reply))
    attributes += attribute(3, struct.pack(">I", status))
    attributes += attribute(7, struct.pack(">I", flow.timeout))
    attributes += attribute(8, struct.pack(">I", flow.mark))
    attributes += attribute(12, struct.pack(">I", flow.id))
    for which in (0, 1):
        counts = attribute(1, struct.pack(">Q", flow.packets[which]))
        counts += attribute(2, struct.pack(">Q", flow.bytes[which]))
        attributes += attribute(0x8000 | 9 + which, counts)
    if flow.state:
        attributes += attribute(0x8004, attribute(0x8001, attribute(1, bytes((state,)))))
    return ctnetlink.request(kind, flags, 7, attributes)


ports = st.integers(0, 0xFFFF)
addresses = st.integers(0, 0xFFFFFFFF)
tuples = st.builds(FlowTuple, addresses, addresses, st.sampled_from((1, 6, 17, 47)), ports, ports)


@st.composite
def flows(draw: st.DrawFn) -> FlowView:
    original = draw(tuples)
    reply = draw(tuples)._replace(protocol=original.protocol)
    counts = st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
    return FlowView(
        draw(addresses),
        original,
        reply,
        draw(st.integers(0, 432000)),
        "ESTABLISHED" if original.protocol == 6 else "",
        draw(st.booleans()),
        draw(st.booleans()),
        draw(counts),
        draw(counts),
        mark=draw(addresses),
    )


@given(st.lists(flows(), max_size=5))
def test_flows_are_read_as_they_were_written(told: list[FlowView]) -> None:
    data = b"".join(map(message, told))
    assert [ctnetlink.flow(each) for each in ctnetlink.messages(data)] == told


@given(flows())
def test_a_deletion_names_the_original_tuple_and_the_id(flow: FlowView) -> None:
    attributes = ctnetlink.delete_attributes(flow)
    assert attributes == attribute(0x8001, tuple_(flow.original)) + attribute(
        12, struct.pack(">I", flow.id)
    )


@given(st.binary(max_size=200))
def test_no_bytes_hang_or_break_the_reader(data: bytes) -> None:
    for each in ctnetlink.messages(data):
        assert len(each.body) <= len(data)


FLOW = FlowView(
    1,
    FlowTuple(ip("10.0.0.1"), ip("10.0.0.2"), 6, 1, 2),
    FlowTuple(ip("10.0.0.2"), ip("10.0.0.1"), 6, 2, 1),
    120,
    "SYN_SENT",
    False,
    False,
    (0, 0),
    (0, 0),
)


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        (ctnetlink.NEW, 0x600, EventKind.NEW),
        (ctnetlink.NEW, 0, EventKind.UPDATE),
        (ctnetlink.DELETE, 0, EventKind.DESTROY),
        (ctnetlink.DONE, 0, None),
    ],
)
def test_what_a_message_tells(kind: int, flags: int, expected: EventKind | None) -> None:
    [found] = ctnetlink.messages(message(FLOW, kind, flags))
    assert ctnetlink.event_kind(found) is expected


@pytest.mark.parametrize(
    ("number", "name"), [(1, "SYN_SENT"), (7, "TIME_WAIT"), (9, "SYN_SENT2"), (14, "")]
)
def test_tcp_states_by_their_numbers(number: int, name: str) -> None:
    [found] = ctnetlink.messages(message(FLOW, state=number))
    flow = ctnetlink.flow(found)
    assert flow is not None
    assert flow.state == name


def test_other_families_are_passed_over() -> None:
    data = bytearray(message(FLOW))
    data[16] = 10
    [found] = ctnetlink.messages(bytes(data))
    assert ctnetlink.flow(found) is None


def test_an_error_carries_its_errno() -> None:
    data = struct.pack("=IHHIIi", 20, ctnetlink.ERROR, 0, 7, 0, -2)
    [found] = ctnetlink.messages(data)
    assert ctnetlink.refusal(found) == 2
