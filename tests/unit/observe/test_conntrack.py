"""conntrack's formats: lines of the tool itself, read and written again.

The samples were printed by conntrack v1.4.7 on Linux 6.18; tests/kernel_facts
does the same against the kernel that is running.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given

from pylb.dataplane.base import Event, EventKind, FlowView
from pylb.observe.conntrack import Style, count_line, event_line, flow_line
from pylb.observe.conntrack_parse import parse_line
from pylb.observe.conntrack_xml import FOOTER, HEADER, event_element, flow_element
from pylb.observe.protocols import number_of
from pylb.observe.stats import statistics, statistics_line

from .strategies import events, flows

LISTED = """\
tcp      6 399 SYN_SENT src=10.1.0.3 dst=10.96.0.10 sport=56728 dport=80 [UNREPLIED] src=10.96.0.10 dst=10.1.0.3 sport=80 dport=56728 mark=0 use=1
tcp      6 399 ESTABLISHED src=10.1.0.2 dst=10.96.0.10 sport=56728 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=56728 [ASSURED] mark=0 use=1
udp      17 399 src=10.1.0.2 dst=10.96.0.10 sport=1 dport=2 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 sport=2 dport=1 mark=5 use=1
udp      17 399 src=10.1.0.2 dst=10.96.0.10 sport=1 dport=3 src=10.96.0.10 dst=10.1.0.2 sport=3 dport=1 mark=0 use=1
udp      17 399 src=10.1.0.2 dst=10.96.0.10 sport=1 dport=4 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 sport=4 dport=1 [ASSURED] mark=0 use=1
udplite  136 399 src=10.1.0.2 dst=10.96.0.10 sport=1 dport=4 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 sport=4 dport=1 mark=0 use=1
gre      47 399 src=10.1.0.2 dst=10.96.0.10 srckey=0x7 dstkey=0x8 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 srckey=0x8 dstkey=0x7 mark=0 use=1
sctp     132 399 ESTABLISHED src=10.1.0.2 dst=10.96.0.10 sport=7 dport=8 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 sport=8 dport=7 mark=0 use=1
icmp     1 29 src=10.1.0.2 dst=10.96.0.10 type=8 code=0 id=77 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 type=0 code=0 id=77 mark=0 use=1
unknown  99 399 src=10.1.0.2 dst=10.96.0.10 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 mark=0 use=1
unknown  0 399 src=10.1.0.2 dst=10.96.0.10 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 mark=0 use=1
""".splitlines()  # noqa: E501

COUNTED = "icmp     1 30 src=127.0.0.1 dst=127.0.0.2 type=8 code=0 id=6287 packets=2 bytes=168 src=127.0.0.2 dst=127.0.0.1 type=0 code=0 id=6287 packets=3 bytes=169 mark=0 use=1"  # noqa: E501

EVENTS = """\
    [NEW] icmp     1 30 src=127.0.0.1 dst=127.0.0.1 type=8 code=0 id=6253 [UNREPLIED] src=127.0.0.1 dst=127.0.0.1 type=0 code=0 id=6253
 [UPDATE] icmp     1 30 src=127.0.0.1 dst=127.0.0.1 type=8 code=0 id=6253 src=127.0.0.1 dst=127.0.0.1 type=0 code=0 id=6253
    [NEW] udp      17 400 src=10.1.0.2 dst=10.96.0.10 sport=1 dport=2 [UNREPLIED] src=10.96.0.10 dst=10.1.0.2 sport=2 dport=1 mark=5
 [UPDATE] tcp      6 432000 ESTABLISHED src=10.1.0.2 dst=10.96.0.10 sport=56728 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=56728 [ASSURED]
[DESTROY] tcp      6 399 SYN_SENT src=10.1.0.3 dst=10.96.0.10 sport=56728 dport=80 [UNREPLIED] src=10.96.0.10 dst=10.1.0.3 sport=80 dport=56728
[DESTROY] tcp      6 LAST_ACK src=10.1.0.2 dst=10.96.0.10 sport=56728 dport=80 src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=56728 [ASSURED]
[DESTROY] icmp     1 src=127.0.0.1 dst=127.0.0.1 type=8 code=0 id=6431 src=127.0.0.1 dst=127.0.0.1 type=0 code=0 id=6431
""".splitlines()  # noqa: E501

STAMPED = "[1795249528.000099]\t[DESTROY] tcp      6 120 CLOSE src=127.0.0.1 dst=127.0.0.1 sport=48936 dport=99 packets=1 bytes=60 [UNREPLIED] src=127.0.0.1 dst=127.0.0.1 sport=99 dport=48936 packets=1 bytes=40 id=684158221"  # noqa: E501

ELEMENT = '<flow><meta direction="original"><layer3 protonum="2" protoname="ipv4"><src>10.1.0.2</src><dst>10.96.0.10</dst></layer3><layer4 protonum="6" protoname="tcp"><sport>56728</sport><dport>80</dport></layer4></meta><meta direction="reply"><layer3 protonum="2" protoname="ipv4"><src>10.2.0.2</src><dst>10.2.0.1</dst></layer3><layer4 protonum="6" protoname="tcp"><sport>8080</sport><dport>56728</dport></layer4></meta><meta direction="independent"><state>ESTABLISHED</state><timeout>399</timeout><mark>0</mark><use>1</use><id>2711422820</id><assured/></meta></flow>'  # noqa: E501


def as_event(line: str) -> Event:
    parsed = parse_line(line)
    assert parsed.kind is not None
    return Event(parsed.kind, parsed.flow, parsed.at or 0)


@pytest.mark.parametrize("line", LISTED)
def test_the_tools_lines(line: str) -> None:
    flow = parse_line(line).flow
    assert flow_line(flow) == line
    extended = Style(extended=True, id=True)
    assert flow_line(replace(flow, id=9), extended) == f"ipv4     2 {line} id=9"
    assert parse_line(flow_line(replace(flow, id=9), extended)).flow == replace(flow, id=9)


def test_counters_stand_after_each_tuple() -> None:
    flow = parse_line(COUNTED).flow
    assert (flow.packets, flow.bytes) == ((2, 3), (168, 169))
    assert flow_line(flow, Style(counters=True)) == COUNTED
    assert "packets" not in flow_line(flow)


@pytest.mark.parametrize("line", EVENTS)
def test_the_tools_events(line: str) -> None:
    assert event_line(as_event(line)) == line


def test_an_events_time_id_and_counters() -> None:
    style = Style(timestamp=True, id=True, counters=True)
    assert event_line(as_event(STAMPED), style) == STAMPED
    new = as_event(EVENTS[0])
    assert event_line(new, Style(counters=True)) == EVENTS[0]


@given(flows())
def test_every_flow_reads_back(flow: FlowView) -> None:
    style = Style(id=True, counters=True, extended=True)
    shown = replace(flow, service="", frontend=None, generation=0)
    assert parse_line(flow_line(flow, style)).flow == shown


@given(events)
def test_every_event_reads_back(event: Event) -> None:
    parsed = parse_line(event_line(event, Style(timestamp=True)))
    assert parsed.kind is event.kind
    assert parsed.flow.original == event.flow.original
    assert parsed.at == event.at // 1000 * 1000


@pytest.mark.parametrize(
    "line", ["", "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.", "tcp 6"]
)
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of conntrack"):
        parse_line(line)


def test_the_tools_xml() -> None:
    flow = replace(parse_line(LISTED[1]).flow, id=2711422820)
    assert flow_element(flow) == ELEMENT


def test_xml_of_other_protocols() -> None:
    gre = flow_element(parse_line(LISTED[6]).flow)
    assert '<layer4 protonum="47" protoname="gre"><srckey>0x7</srckey><dstkey>0x8</dstkey>' in gre
    icmp = flow_element(parse_line(COUNTED).flow, Style(counters=True))
    counters = "<counters><packets>2</packets><bytes>168</bytes></counters>"
    assert f'<layer4 protonum="1" protoname="icmp"></layer4>{counters}</meta>' in icmp
    unknown = flow_element(parse_line(LISTED[-1]).flow)
    assert '<layer4 protonum="0" protoname="unknown"></layer4>' in unknown


def test_xml_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    new = event_element(as_event(EVENTS[0]))
    assert new.startswith('<flow type="new"><meta direction="original">')
    assert new.endswith("<timeout>30</timeout><id>0</id><unreplied/></meta></flow>")
    gone = event_element(as_event(EVENTS[-1]))
    assert '<meta direction="independent"><id>0</id></meta></flow>' in gone
    sunday = Event(EventKind.NEW, as_event(EVENTS[0]).flow, 1795249494 * 10**9)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        stamped = event_element(sunday, Style(timestamp=True))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stamped.endswith(
        "<when><hour>8</hour><min>24</min><sec>54</sec><wday>7</wday>"
        "<day>21</day><month>11</month><year>2026</year></when></flow>"
    )


@given(flows())
def test_xml_is_well_formed(flow: FlowView) -> None:
    root = ET.fromstring(f"{HEADER}\n{flow_element(flow, Style(counters=True))}\n{FOOTER}")
    assert [meta.get("direction") for meta in root[0]] == ["original", "reply", "independent"]


def test_the_closing_line() -> None:
    assert count_line(3, "flow entries have been shown") == (
        "conntrack v1.4.7 (conntrack-tools): 3 flow entries have been shown."
    )


def test_statistics() -> None:
    counted = statistics(
        {"new": 12, "drop_invalid_state": 2, "drop_table_full": 3, "early_drop": 4}
    )
    assert statistics_line(counted) == (
        "cpu=0   \tfound=0 invalid=2 insert=12 insert_failed=0 drop=3 early_drop=4 error=0 "
        "search_restart=0 clash_resolve=0 chaintoolong=0 "
    )


def test_protocol_names() -> None:
    assert [number_of(p) for p in ("tcp", "UDP", "icmp", "gre", "99")] == [6, 17, 1, 47, 99]
    for wrong in ("400", "foo", "-1", ""):
        with pytest.raises(ValueError, match="unsupported protocol"):
            number_of(wrong)
