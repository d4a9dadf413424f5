"""Flows, events and filters survive JSON and query strings."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given

from pylb.dataplane.base import ALL_FLOWS, Event, EventKind, FlowFilter, FlowTuple, FlowView
from pylb.observe.flowjson import (
    event_from_json,
    event_to_json,
    events_from_text,
    filter_from_query,
    filter_to_query,
    flow_from_json,
    flow_to_json,
    prefix_from_text,
)
from pylb.plan.tables import FrontendKey, Prefix

from .strategies import events, filters, flows

FLOW = FlowView(
    id=7,
    original=FlowTuple(0x0A010002, 0x0A60000A, 6, 56728, 80),
    reply=FlowTuple(0x0A020002, 0x0A010002, 6, 8080, 56728),
    timeout=116,
    state="TIME_WAIT",
    seen_reply=True,
    assured=True,
    packets=(5, 4),
    bytes=(270, 600),
    service="default/web:http",
    frontend=FrontendKey(0x0A60000A, 80, 6),
    generation=3,
)


@given(flows())
def test_a_flow_survives_json(flow: FlowView) -> None:
    assert flow_from_json(json.loads(json.dumps(flow_to_json(flow)))) == flow


@given(events)
def test_an_event_survives_json(event: Event) -> None:
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


@given(filters)
def test_a_filter_survives_a_query(where: FlowFilter) -> None:
    query = dict(parse_qsl(urlencode(filter_to_query(where))))
    assert filter_from_query(query) == where


def test_what_a_flow_looks_like() -> None:
    assert flow_to_json(FLOW) == {
        "id": 7,
        "protocol": 6,
        "protoname": "tcp",
        "original": {"src": "10.1.0.2", "dst": "10.96.0.10", "sport": 56728, "dport": 80},
        "reply": {"src": "10.2.0.2", "dst": "10.1.0.2", "sport": 8080, "dport": 56728},
        "timeout": 116,
        "state": "TIME_WAIT",
        "seenReply": True,
        "assured": True,
        "packets": [5, 4],
        "bytes": [270, 600],
        "dnat": True,
        "snat": False,
        "service": "default/web:http",
        "frontend": {"address": "10.96.0.10", "port": 80, "protocol": 6},
        "generation": 3,
        "mark": 0,
    }


def test_the_epoch_is_added_to_an_events_time() -> None:
    assert event_to_json(Event(EventKind.NEW, FLOW, 5), epoch=100)["at"] == 105


def test_no_filter_is_an_empty_query() -> None:
    assert filter_to_query(ALL_FLOWS) == {}
    assert filter_from_query({"events": "NEW", "x": "y"}, also=("events", "x")) == ALL_FLOWS


def test_names_in_a_query() -> None:
    where = FlowFilter(reply_src=Prefix(0x0A000000, 8), seen_reply=False, dport=80)
    assert filter_to_query(where) == {
        "replySrc": "10.0.0.0/8",
        "seenReply": "false",
        "dport": "80",
    }


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"port": "80"}, "no filter is called 'port': expected one of assured, "),
        ({"dport": "65536"}, "dport: '65536' is not a number from 0 to 65535"),
        ({"dport": "-1"}, "dport: '-1' is not"),
        ({"dport": "http"}, "dport: 'http' is not"),
        ({"protocol": "256"}, "protocol: '256' is not"),
        ({"src": "10.0.0.0/33"}, "src: '10.0.0.0/33' is not an IPv4 address or prefix"),
        ({"src": "::1"}, "src: '::1' is not"),
        ({"assured": "yes"}, "assured: 'yes' is neither true nor false"),
    ],
)
def test_a_wrong_query_is_one_sentence(query: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=r".") as wrong:
        filter_from_query(query)
    assert str(wrong.value).startswith(words)


@pytest.mark.parametrize("missing", ["id", "protocol", "original", "frontend", "packets"])
def test_a_flow_that_lacks_a_field(missing: str) -> None:
    data = flow_to_json(FLOW)
    del data[missing]
    with pytest.raises(ValueError, match=f"a flow without '{missing}'"):
        flow_from_json(data)


def test_prefixes() -> None:
    assert prefix_from_text("10.1.2.3") == Prefix(0x0A010203, 32)
    assert prefix_from_text("10.1.2.3/8") == Prefix(0x0A000000, 8)
    assert prefix_from_text("10.1.2.3/255.255.0.0") == Prefix(0x0A010000, 16)
    assert prefix_from_text("0.0.0.0/0") == Prefix(0, 0)


def test_kinds_of_event() -> None:
    assert events_from_text("NEW,updates") == {EventKind.NEW, EventKind.UPDATE}
    assert events_from_text("ALL") == set(EventKind)
    with pytest.raises(ValueError, match="'X' is no event"):
        events_from_text("NEW,X")
