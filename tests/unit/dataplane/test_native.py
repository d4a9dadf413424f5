"""What the native dataplane has besides the interface, and what it shares with its header."""

from __future__ import annotations

import gc
import re
import resource
import weakref
from dataclasses import fields, replace
from pathlib import Path

import pytest

from pylb import _core
from pylb.dataplane.base import DropReason, EventKind, FlowFilter
from pylb.dataplane.kernel import ctnetlink
from pylb.dataplane.native.datapath import MOST_FLOWS, NativeDataplane
from pylb.dataplane.native.loading import SLACK, Names
from pylb.dataplane.python import sctp, tcp
from pylb.dataplane.python.datapath import PythonDataplane
from pylb.plan.tables import Backend, Delta, FrontendKind, Plan, Timeouts
from tests.unit.dataplane.net import (
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    UDP,
    VIP,
    datagram,
    frontend,
    plan,
    tun,
)

pytestmark = pytest.mark.python_only

lib = _core.lib
CSRC = Path(__file__).resolve().parents[3] / "csrc"


def native(max_flows: int = 64) -> NativeDataplane:
    made = NativeDataplane(bytes(16), max_flows)
    made.load(plan(), 0)
    return made


class TestTheHeader:
    """csrc/pylb.h promises the order of these."""

    def test_drop_reasons(self) -> None:
        known = list(DropReason)[: lib.PYLB_DROPS]
        assert [getattr(lib, f"PYLB_DROP_{r.name}") for r in known] == list(range(lib.PYLB_DROPS))

    def test_counters(self) -> None:
        names = list(PythonDataplane(bytes(16)).counters())[: lib.PYLB_COUNTS]
        assert [getattr(lib, f"PYLB_COUNT_{n.upper()}") for n in names] == list(range(len(names)))
        assert len(names) == lib.PYLB_COUNTS
        assert list(native().counters()) == list(PythonDataplane(bytes(16)).counters())

    def test_timeouts(self) -> None:
        names = [field.name.upper() for field in fields(Timeouts)]
        assert [getattr(lib, f"PYLB_{name}") for name in names] == list(range(lib.PYLB_TIMEOUTS))

    def test_the_most_flows(self) -> None:
        header = (CSRC / "flow.h").read_text(encoding="utf-8")
        (most,) = re.findall(r"#define MOST_FLOWS\s+(0x[0-9a-f]+)u", header)
        assert int(most, 16) == MOST_FLOWS

    @pytest.mark.parametrize("kind", [*FrontendKind, *EventKind], ids=str)
    def test_kinds(self, kind: FrontendKind | EventKind) -> None:
        number = kind.value if isinstance(kind, FrontendKind) else list(EventKind).index(kind)
        assert getattr(lib, f"PYLB_{kind.name}") == number


class TestEvents:
    def test_those_that_nobody_took_are_taken_once(self) -> None:
        dataplane = native()
        dataplane.process([tun(datagram(POD_A, 1, POD_B, 53))], 0)
        assert dataplane.take_events() == []
        (flow,) = dataplane.flows(0)
        assert lib.pylb_destroy(dataplane.handle, 0xFFFF, flow.id, 0) == 0
        count, out = dataplane.delete(FlowFilter(), 5)
        assert count == 1
        assert [(e.kind, e.at, e.flow.id) for e in out.events] == [(EventKind.DESTROY, 5, flow.id)]
        assert dataplane.take_events() == []

    def test_none_are_recorded_while_none_are_wanted(self) -> None:
        dataplane = native()
        assert dataplane.want_events(False) == 0
        assert not dataplane.process([tun(datagram(POD_A, 1, POD_B, 53))], 0).events
        assert dataplane.want_events(True) == 0
        assert len(dataplane.process([tun(datagram(POD_A, 2, POD_B, 53))], 0).events) == 1


def test_a_deadline_comes_up_once_and_is_not_passed() -> None:
    dataplane = native()
    assert dataplane.next_deadline() is None
    dataplane.process([tun(datagram(POD_A, 1, POD_B, 53))], 0)
    now = calls = 0
    while (at := dataplane.next_deadline()) is not None:
        assert now < at <= 30 * SECOND
        now, calls = at, calls + 1
        gone = dataplane.advance(now).events
        assert bool(gone) is (now == 30 * SECOND)
    assert now == 30 * SECOND
    assert calls < 20, "woken up more often than timers need"


def test_its_memory_goes_with_it() -> None:
    made = native()
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


class TestNames:
    def test_a_name_keeps_its_number(self) -> None:
        names = Names()
        assert [names.number(n) for n in ("a", "b", "a")] == [0, 1, 0]
        assert (names[0], names[1], len(names)) == ("a", "b", 2)

    def test_a_number_is_free_when_two_looks_found_it_unused(self) -> None:
        names = Names()
        for name in "abc":
            names.number(name)
        names.compact({0})
        assert names[2] == "c", "a dead flow may still have to be told of"
        names.compact({0, 1})
        assert len(names) == 2
        assert names.number("d") == 2
        assert (names[0], names[1], names[2]) == ("a", "b", "d")

    def test_a_forgotten_name_is_empty(self) -> None:
        """It raised, and with it went all events that were fetched together."""
        names = Names()
        number = names.number("a/b")
        names.compact(set())
        names.compact(set())
        assert names[number] == ""

    def test_a_name_that_is_used_again_in_between_stays(self) -> None:
        names = Names()
        names.number("a")
        names.compact(set())
        names.compact({0})
        names.compact(set())
        assert names[0] == "a"
        names.compact(set())
        assert len(names) == 0

    def test_when_it_is_worth_it(self) -> None:
        names = Names()
        for i in range(SLACK + 200):
            names.number(str(i))
        assert not names.worth_compacting(100)
        assert names.worth_compacting(99)

    def test_it_is_not_worth_it_again_before_there_are_many_more(self) -> None:
        """With all in use by flows, each whole plan looked through all of them in vain."""
        names = Names()
        for i in range(3 * SLACK):
            names.number(str(i))
        names.compact(set(range(3 * SLACK)))
        assert not names.worth_compacting(0)
        for i in range(3 * SLACK, 4 * SLACK + 1):
            names.number(str(i))
        assert names.worth_compacting(0)


def test_services_that_come_and_go_leave_no_names() -> None:
    """Regression: those with affinity were kept for ever, others until a whole plan came.

    The name stays while a client is remembered by it, so that affinity holds when
    the Service comes back.
    """
    dataplane = native()
    two = [Backend(POD_B, 53), Backend(POD_REMOTE, 53)]
    kept = frontend(VIP, 53, two, protocol=UDP, service="default/kept")._replace(affinity=60)

    def ask() -> int:
        made = dataplane.process([tun(datagram(POD_A, 5000, VIP, 53))], 0)
        [event] = [each for each in made.events if each.kind is EventKind.NEW]
        dataplane.delete(FlowFilter(), 0)
        return event.flow.reply.src

    dataplane.change(Delta(frontends={kept.key: kept}), 0)
    # The first of rr is POD_B for whoever is not remembered.
    ask()
    dataplane.change(Delta(frontends={kept.key: kept._replace(active=(1,))}), 0)
    assert ask() == POD_REMOTE
    dataplane.change(Delta(frontends={kept.key: None}), 0)
    for i in range(4 * SLACK):
        other = frontend(VIP + 1, 53, two, protocol=UDP, service=f"default/s{i}")
        dataplane.change(Delta(frontends={other.key: other._replace(affinity=60 * (i % 2))}), 0)
    assert len(dataplane._names) < 3 * SLACK
    dataplane.change(Delta(frontends={kept.key: kept}), 0)
    assert [ask() for _ in range(4)] == [POD_REMOTE] * 4


def test_states_are_told_by_the_kernels_names() -> None:
    """The kernel's have one more for SCTP, which it no longer uses."""
    assert tuple(state.name for state in tcp.State) == ctnetlink.TCP_STATES
    assert (*(state.name for state in sctp.State), "HEARTBEAT_ACKED") == ctnetlink.SCTP_STATES


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def test_services_with_the_same_backends_share_a_maglev_table() -> None:
    """As `pylb.plan.validate` counts them: whatever lies between them, and when they change."""
    sets = [[Backend(POD_REMOTE + i, 8080) for i in range(n)] for n in (2, 3)]

    def made(which: int) -> Plan:
        found = [frontend(VIP + i, 80, sets[(i + which) % 2], scheduler="mh") for i in range(1000)]
        return replace(plan(), frontends={f.key: f for f in found}, services={})

    dataplane = NativeDataplane(bytes(16), 64)
    before = resident()
    dataplane.load(made(0), 0)
    dataplane.load(made(1), 0)
    dataplane.change(Delta(frontends=made(0).frontends), 0)
    assert resident() - before < 32 << 20
