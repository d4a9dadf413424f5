"""`pylb conntrack` against daemons that answer from a table of flows."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from pylb.cli.conntrack import filters
from pylb.cli.main import main, parser
from pylb.control.http import Request, Stream
from pylb.dataplane.base import Event, EventKind, FlowFilter, FlowView
from pylb.observe.conntrack_parse import parse_line
from pylb.observe.flowjson import event_to_json, filter_from_query, flow_to_json
from pylb.plan.tables import Prefix

from .conftest import Lab

TCP = (
    "tcp      6 116 ESTABLISHED src=10.1.0.2 dst=10.96.0.10 sport=56728 dport=80 "
    "src=10.2.0.2 dst=10.2.0.1 sport=8080 dport=56728 [ASSURED] mark=0 use=1"
)
UDP = (
    "udp      17 28 src=10.1.0.2 dst=10.2.0.77 sport=33768 dport=5000 [UNREPLIED] "
    "src=10.2.0.77 dst=10.1.0.2 sport=5000 dport=33768 mark=0 use=1"
)


def flow(line: str, number: int) -> FlowView:
    return replace(parse_line(line).flow, id=number)


FLOWS = [flow(TCP, 1), flow(UDP, 2)]


def select(request: Request) -> dict[str, Any]:
    where = filter_from_query(request.query, also=("events",))
    return {"flows": [flow_to_json(f) for f in FLOWS if where.matches(f)]}


def streaming(*values: Any) -> Any:
    async def run() -> AsyncIterator[Any]:
        for value in values:
            yield value

    return lambda request: Stream(run())


def event(kind: EventKind, f: FlowView) -> dict[str, Any]:
    return event_to_json(Event(kind, f, 1795249528_000099_000))


EVENTS = [event(EventKind.NEW, FLOWS[1]), {"lost": 3}, event(EventKind.DESTROY, FLOWS[0])]

ROUTES = {
    "GET /conntrack": select,
    "DELETE /conntrack": select,
    "GET /conntrack/events": streaming(*EVENTS),
    "GET /counters": {"counters": {"new": 2, "drop_invalid_state": 1}},
}


def shown(count: int, what: str = "flow entries have been shown") -> str:
    return f"conntrack v1.4.7 (conntrack-tools): {count} {what}.\n"


def test_list(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-L"]) == 0
    assert capsys.readouterr() == (f"{TCP}\n{UDP}\n", shown(2))
    assert main(["conntrack", "-L", "-p", "udp", "--dport", "5000", "-o", "extended,id"]) == 0
    assert capsys.readouterr() == (f"ipv4     2 {UDP} id=2\n", shown(1))
    assert main(["conntrack", "-L", "-s", "192.0.2.0/24"]) == 0
    assert capsys.readouterr() == ("", shown(0))


def test_any_nat_lists_a_doubly_translated_flow_once(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-L", "-j"]) == 0
    assert capsys.readouterr().out == f"{TCP}\n"
    assert main(["conntrack", "-L", "-j", "10.2.0.1"]) == 0
    assert capsys.readouterr().out == f"{TCP}\n"


def test_several_nodes_are_told_apart(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    lab.daemon("node2", ROUTES)
    assert main(["conntrack", "-L", "-p", "tcp"]) == 0
    assert capsys.readouterr() == (f"{TCP} node=node1\n{TCP} node=node2\n", shown(2))
    assert parse_line(f"{TCP} node=node1").flow == parse_line(TCP).flow
    assert main(["conntrack", "-L", "-p", "tcp", "--node", "node2"]) == 0
    assert capsys.readouterr().out == f"{TCP}\n"
    assert main(["conntrack", "-L", "-p", "tcp", "-o", "json"]) == 0
    nodes = [(f["node"], f["original"]["dport"]) for f in json.loads(capsys.readouterr().out)]
    assert nodes == [("node1", 80), ("node2", 80)]
    assert main(["conntrack", "-L", "-o", "xml"]) == 0
    root = ET.fromstring(capsys.readouterr().out)
    assert [f.get("node") for f in root] == ["node1", "node1", "node2", "node2"]


def test_a_daemon_that_is_down_does_not_hide_the_others(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.daemon("node1", ROUTES)
    lab.paths.node("node2").root.mkdir(parents=True)
    assert main(["conntrack", "-L", "-p", "tcp"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{TCP} node=node1\n"
    assert f"pylb: no daemon of node 'node2' answers at {lab.paths.node('node2').api}" in err


@pytest.mark.parametrize("action", ["-L", "-D", "-E"])
def test_without_an_answer_there_is_no_closing_line(
    lab: Lab, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    """ "0 flow entries have been shown" would say that there is no flow."""
    api = lab.paths.node("node1").api
    api.parent.mkdir(parents=True)
    assert main(["conntrack", action]) == 1
    error = f"pylb: no daemon of node 'node1' answers at {api}: is it running?\n"
    assert capsys.readouterr() == ("", error)


@pytest.mark.parametrize(
    "command", [["conntrack", "-L"], ["service", "list"], ["logs", "web-1"]], ids=" ".join
)
def test_only_root_looks_into_a_lab(
    lab: Lab,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    """The lab's folder has mode 0700; root, as which the tests may run, would get in."""
    lab.paths.root.mkdir(parents=True)
    real = os.stat

    def private(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{lab.paths.root}/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", private)
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pylb: not allowed to use {lab.paths.root}/")
    assert err.endswith(": run it as root (sudo)\n")
    assert err.count("\n") == 1


def test_xml_has_a_frame_only_around_flows(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-L", "-o", "xml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ['<?xml version="1.0" encoding="utf-8"?>', "<conntrack>"]
    assert lines[-1] == "</conntrack>"
    assert len(lines) == 5
    assert main(["conntrack", "-L", "-o", "xml", "--dport", "1"]) == 0
    assert capsys.readouterr().out == ""


def test_delete(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-D", "-d", "10.96.0.10"]) == 0
    assert capsys.readouterr() == (f"{TCP}\n", shown(1, "flow entries have been deleted"))
    assert lab.requests[-1].method == "DELETE"
    assert lab.requests[-1].query == {"dst": "10.96.0.10/32"}
    assert main(["conntrack", "-D", "-d", "192.0.2.1"]) == 1
    assert capsys.readouterr() == ("", shown(0, "flow entries have been deleted"))


def test_count_and_statistics(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-C"]) == 0
    assert capsys.readouterr().out == "2\n"
    assert main(["conntrack", "-C", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"node": "node1", "count": 2}]
    assert main(["conntrack", "-S"]) == 0
    assert capsys.readouterr().out == (
        "cpu=0   \tfound=0 invalid=1 insert=2 insert_failed=0 drop=0 early_drop=0 error=0 "
        "search_restart=0 clash_resolve=0 chaintoolong=0 \n"
    )
    assert main(["conntrack", "-S", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["insert"] == 2


def test_events(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-E", "-e", "NEW,DESTROY", "-o", "timestamp"]) == 0
    out, err = capsys.readouterr()
    new, destroy = out.splitlines()
    assert new == "[1795249528.000099]\t    [NEW] " + UDP.removesuffix(" mark=0 use=1")
    assert destroy.startswith("[1795249528.000099]\t[DESTROY] tcp      6 116 ESTABLISHED src=")
    assert err == "pylb: 3 events of node 'node1' were lost\n" + shown(
        2, "flow events have been shown"
    )
    assert lab.requests[-1].query == {"events": "DESTROY,NEW"}
    assert main(["conntrack", "-E", "--count", "1", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "NEW"
    assert main(["conntrack", "-E", "-j", "-o", "xml"]) == 0
    root = ET.fromstring(capsys.readouterr().out)
    assert [f.get("type") for f in root] == ["destroy"]


async def endless() -> AsyncIterator[Any]:
    yield EVENTS[0]
    await asyncio.Event().wait()


ENDLESS = {"GET /conntrack/events": lambda request: Stream(endless())}


def test_ctrl_c_ends_events_as_it_should(lab: Lab) -> None:
    lab.daemon("node1", ENDLESS)
    command = [sys.executable, "-m", "pylb.cli.main", "conntrack", "-E"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("    [NEW] udp ")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("", shown(1, "flow events have been shown"))
        assert process.returncode == 0


def test_events_end_after_a_time(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.daemon("node1", ENDLESS)
    assert main(["conntrack", "-E", "--timeout", "0.05"]) == 0
    assert capsys.readouterr().err == shown(1, "flow events have been shown")


def where(*options: str) -> list[FlowFilter]:
    args: argparse.Namespace = parser().parse_args(["conntrack", "-L", *options])
    return filters(args)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ([], FlowFilter()),
        (["-p", "tcp"], FlowFilter(protocol=6)),
        (["-p", "99", "-f", "ipv4"], FlowFilter(protocol=99)),
        (["-s", "10.0.0.0/8"], FlowFilter(src=Prefix(0x0A000000, 8))),
        (["--orig-src", "10.0.0.1"], FlowFilter(src=Prefix(0x0A000001, 32))),
        (["-d", "10.0.0.1"], FlowFilter(dst=Prefix(0x0A000001, 32))),
        (["-r", "10.0.0.1"], FlowFilter(reply_src=Prefix(0x0A000001, 32))),
        (["-q", "10.0.0.1"], FlowFilter(reply_dst=Prefix(0x0A000001, 32))),
        (["--sport", "1", "--orig-port-dst", "2"], FlowFilter(sport=1, dport=2)),
        (
            ["--reply-port-src", "3", "--reply-port-dst", "4"],
            FlowFilter(reply_sport=3, reply_dport=4),
        ),
        (["--state", "syn_sent"], FlowFilter(protocol=6, state="SYN_SENT")),
        (
            ["-p", "sctp", "--state", "cookie_wait"],
            FlowFilter(protocol=132, state="COOKIE_WAIT"),
        ),
        (["-u", "ASSURED,SEEN_REPLY"], FlowFilter(assured=True, seen_reply=True)),
        (["-u", "UNREPLIED"], FlowFilter(seen_reply=False)),
        (["-u", "CONFIRMED"], FlowFilter()),
        (["-n"], FlowFilter(snat=True)),
        (["-n", "10.0.0.1"], FlowFilter(snat=True, reply_dst=Prefix(0x0A000001, 32))),
        (["-g", "10.0.0.1"], FlowFilter(dnat=True, reply_src=Prefix(0x0A000001, 32))),
        (["-m", "0x10", "--id", "7"], FlowFilter(mark=16, id=7)),
    ],
)
def test_options_become_filters(options: list[str], want: FlowFilter) -> None:
    assert where(*options) == [want]


def test_any_nat_is_either() -> None:
    assert where("-j", "-p", "udp") == [
        FlowFilter(protocol=17, snat=True),
        FlowFilter(protocol=17, dnat=True),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-L", "-p", "foo"], "`foo' unsupported protocol"),
        (["-L", "-s", "10.0.0.0/33"], "src: '10.0.0.0/33' is not an IPv4 address or prefix"),
        (["-L", "--dport", "70000"], "dport: '70000' is not a number from 0 to 65535"),
        (["-L", "-u", "FOO"], "-u FOO: expected any of ASSURED, "),
        (["-L", "--state", "FOO"], "--state FOO: expected one of NONE, SYN_SENT"),
        (["-L", "-p", "sctp", "--state", "CLOSE"], "--state CLOSE: expected one of NONE, CLOSED"),
        (["-L", "--state", "CLOSE", "-p", "udp"], "-p contradicts another filter: 17 and 6"),
        (["-L", "-m", "x"], "-m x: expected a number"),
        (["-L", "-n", "10.0.0.1", "-q", "10.0.0.2"], "-n contradicts another filter"),
        (["-L", "-o", "foo"], "-o foo: expected any of extended, id"),
        (["-L", "--count", "3"], "--count and --timeout go with -E"),
        (["-E", "-e", "FOO"], "-e: 'FOO' is no event"),
    ],
)
def test_wrong_options_are_one_sentence(
    lab: Lab, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pylb: {words}")
    assert err.count("\n") == 1


def test_no_lab_no_node_and_a_socket(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conntrack", "-L"]) == 1
    assert capsys.readouterr().err == (
        "pylb: no lab called 'pylb' is up: start one with `pylb lab up`\n"
    )
    lab.daemon("node1", ROUTES)
    assert main(["conntrack", "-L", "--node", "x"]) == 1
    assert capsys.readouterr().err == "pylb: lab 'pylb' has no node 'x': expected node1\n"
    assert main(["conntrack", "-C", "--socket", str(lab.paths.node("node1").api)]) == 0
    assert capsys.readouterr().out == "2\n"
    assert main(["conntrack", "-L", "--lab", "../x"]) == 1
    assert capsys.readouterr().err.startswith("pylb: lab name '../x': expected")
