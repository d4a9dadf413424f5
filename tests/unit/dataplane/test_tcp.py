"""The TCP tracker against what Linux was seen to do (tests/kernel_facts shows it live)."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, EventKind
from pylb.dataplane.python import tcp
from tests.unit.dataplane.net import (
    INTERNET,
    POD_A,
    POD_B,
    SECOND,
    VIP,
    backend,
    dataplane,
    frontend,
    only,
    segment,
    tun,
)

S, A, F, R, P = 0x02, 0x10, 0x01, 0x04, 0x08


class Connection:
    """A pod's connection to a Service of a local backend, segment by segment."""

    def __init__(self) -> None:
        self.dp = dataplane(frontend(VIP, 80, [backend(POD_B)]))
        self.events: list[tuple[EventKind, str, int, bool, bool]] = []
        self.dropped: list[DropReason] = []
        self.sent = 0

    def go(self, *steps: tuple[str, int, int, int] | tuple[str, int, int, int, bytes]) -> None:
        """Each step: "c" or "s" sends, flags, seq, ack, and maybe a payload."""
        for step in steps:
            self.at(0, step)

    def at(
        self, now: int, step: tuple[str, int, int, int] | tuple[str, int, int, int, bytes]
    ) -> None:
        who, flags, seq, ack = step[:4]
        payload = step[4] if len(step) > 4 else b""
        ends = (POD_A, 40000, VIP, 80) if who == "c" else (POD_B, 8080, POD_A, 40000)
        out = self.dp.process([tun(segment(*ends, flags, seq, ack, 1000, payload))], now)
        self.sent += len(out.sent)
        self.dropped += [d.reason for d in out.dropped]
        for e in out.events:
            f = e.flow
            self.events.append((e.kind, f.state, f.timeout, f.seen_reply, f.assured))

    @property
    def flow(self) -> tuple[str, int, bool, bool]:
        (f,) = self.dp.flows(0)
        return f.state, f.timeout, f.seen_reply, f.assured

    def handshake(self) -> None:
        self.go(("c", S, 100, 0), ("s", S | A, 500, 101), ("c", A, 101, 501))


@pytest.fixture
def conn() -> Connection:
    return Connection()


def test_the_events_of_a_connection_are_the_kernels(conn: Connection) -> None:
    conn.handshake()
    conn.go(("c", F | A, 101, 501), ("s", F | A, 501, 102), ("c", A, 102, 502))
    new, update = EventKind.NEW, EventKind.UPDATE
    assert conn.events == [
        (new, "SYN_SENT", 120, False, False),
        (update, "SYN_RECV", 60, True, False),
        (update, "ESTABLISHED", 432000, True, True),
        (update, "FIN_WAIT", 120, True, True),
        (update, "LAST_ACK", 30, True, True),
        (update, "TIME_WAIT", 120, True, True),
    ]
    assert not conn.dropped


def test_a_half_close_waits_in_close_wait(conn: Connection) -> None:
    conn.handshake()
    conn.go(("c", F | A, 101, 501), ("s", A, 501, 102))
    assert conn.flow == ("CLOSE_WAIT", 60, True, True)


def test_unacknowledged_data_lowers_the_timeout_to_300(conn: Connection) -> None:
    conn.handshake()
    conn.go(("c", P | A, 101, 501, b"x" * 10))
    assert conn.flow == ("ESTABLISHED", 300, True, True)
    conn.go(("s", A, 501, 111))
    assert conn.flow == ("ESTABLISHED", 432000, True, True)


def test_three_retransmissions_lower_the_timeout(conn: Connection) -> None:
    conn.handshake()
    for _ in range(4):
        conn.go(("c", A, 101, 501, b"x" * 10))
    assert conn.flow == ("ESTABLISHED", 300, True, True)


def test_many_more_retransmissions_change_nothing(conn: Connection) -> None:
    conn.handshake()
    for _ in range(300):
        conn.go(("c", A, 101, 501, b"x" * 10))
    assert conn.flow == ("ESTABLISHED", 300, True, True)
    conn.go(("s", A, 501, 111))
    assert conn.flow == ("ESTABLISHED", 432000, True, True)


def test_simultaneous_open(conn: Connection) -> None:
    conn.go(("c", S, 100, 0), ("s", S, 500, 0))
    assert conn.flow[0] == "SYN_SENT2"
    conn.go(("c", S | A, 100, 501))
    assert conn.flow[0] == "SYN_RECV"
    conn.go(("s", A, 501, 101))
    assert conn.flow[0] == "ESTABLISHED"


def test_a_reset_answering_a_syn_deletes_the_flow_only_after_a_reply(conn: Connection) -> None:
    """The RST is the first reply: the kernel deletes the entry at once."""
    conn.go(("c", S, 100, 0), ("s", R | A, 0, 101))
    assert not list(conn.dp.flows(0))
    assert conn.events[-1][0] is EventKind.DESTROY
    assert conn.sent == 2


def test_an_exact_reset_closes_in_ten_seconds(conn: Connection) -> None:
    conn.handshake()
    conn.go(("s", R, 501, 0))
    assert conn.flow == ("CLOSE", 10, True, True)


def test_a_reset_in_the_window_but_not_exact_only_lowers_the_timeout(conn: Connection) -> None:
    """RFC 5961: the receiver answers it with a challenge ACK, so the state stays."""
    conn.handshake()
    conn.go(("s", R, 520, 0))
    assert conn.flow == ("ESTABLISHED", 10, True, True)


def test_a_reset_outside_the_window_is_invalid_and_changes_nothing(conn: Connection) -> None:
    conn.handshake()
    conn.go(("s", R, 501 + 100000, 0))
    assert conn.flow == ("ESTABLISHED", 432000, True, True)
    assert conn.dropped == [DropReason.INVALID_STATE]


@pytest.mark.parametrize("flags", [F | A, F, R, R | A, S | A, 0, S | F, P], ids=hex)
def test_what_cannot_open_a_connection_makes_no_entry(conn: Connection, flags: int) -> None:
    conn.go(("c", flags, 100, 1))
    assert not list(conn.dp.flows(0))
    assert conn.dropped == [DropReason.INVALID_STATE]


def test_midstream_pick_up_is_established_unreplied_300(conn: Connection) -> None:
    conn.go(("c", A, 100, 900))
    assert conn.flow == ("ESTABLISHED", 300, False, False)
    conn.go(("s", A, 900, 100))
    assert conn.flow == ("ESTABLISHED", 300, True, False)
    conn.go(("c", A, 100, 900))
    assert conn.flow == ("ESTABLISHED", 432000, True, True)


def test_a_syn_in_time_wait_makes_a_new_entry(conn: Connection) -> None:
    conn.handshake()
    conn.go(("c", F | A, 101, 501), ("s", F | A, 501, 102), ("c", A, 102, 502))
    before = next(conn.dp.flows(0)).id
    conn.go(("c", S, 90000, 0))
    (flow,) = conn.dp.flows(0)
    assert flow.id != before
    assert flow.state == "SYN_SENT"
    assert [e[0] for e in conn.events[-2:]] == [EventKind.DESTROY, EventKind.NEW]


def test_a_retransmitted_syn_does_not_renew_an_unanswered_flow(conn: Connection) -> None:
    conn.at(0, ("c", S, 100, 0))
    conn.at(60 * SECOND, ("c", S, 100, 0))
    (flow,) = conn.dp.flows(60 * SECOND)
    assert flow.timeout == 60


def test_a_syn_on_an_established_flow_is_passed_and_believed_only_when_answered(
    conn: Connection,
) -> None:
    conn.handshake()
    conn.go(("c", S, 70000, 0))
    assert conn.flow[0] == "ESTABLISHED"
    conn.go(("s", S | A, 9000, 70001))
    assert conn.flow[0] == "SYN_RECV"
    conn.go(("c", A, 70001, 9001))
    assert conn.flow[0] == "ESTABLISHED"


def test_out_of_window_data_of_a_translated_flow_is_dropped(conn: Connection) -> None:
    conn.handshake()
    conn.go(("s", A, 501 + 2000000, 101, b"x" * 100))
    assert conn.dropped == [DropReason.INVALID_STATE]


def test_sequence_numbers_wrap(conn: Connection) -> None:
    top = 0xFFFFFFF0
    conn.go(("c", S, top, 0), ("s", S | A, 500, top + 1), ("c", A, top + 1, 501))
    conn.go(("c", P | A, top + 1, 501, b"x" * 100), ("s", A, 501, (top + 101) & 0xFFFFFFFF))
    assert conn.flow == ("ESTABLISHED", 432000, True, True)
    assert not conn.dropped


def test_window_scaling_is_honoured_only_when_both_offer_it() -> None:
    scale = bytes((3, 3, 7, 1))
    dp = dataplane()
    steps = [
        (POD_A, 40000, POD_B, 80, S, 100, 0, 1000, b"", scale),
        (POD_B, 80, POD_A, 40000, S | A, 500, 101, 1000, b"", scale),
        (POD_A, 40000, POD_B, 80, A, 101, 501, 1000, b"", b""),
        (POD_B, 80, POD_A, 40000, A, 501, 101, 1000, b"x" * 1000, b""),
    ]
    for step in steps:
        only(dp.process([tun(segment(*step))], 0))
    # 1000 << 7 lets the server send far ahead.
    ahead = segment(POD_B, 80, POD_A, 40000, A, 501 + 100000, 101, 1000, b"x" * 100)
    dp.process([tun(ahead)], 0)
    (flow,) = dp.flows(0)
    assert flow.packets == (2, 3)
    assert dp.counters()["invalid"] == 0


@pytest.mark.python_only
def test_every_cell_of_the_table_is_a_state_or_a_verdict() -> None:
    for direction in tcp.TRANSITIONS:
        assert len(direction) == len(tcp.Kind)
        for row in direction:
            assert len(row) == len(tcp.State)
            assert all(cell in (-2, -1) or cell in list(tcp.State) for cell in row)


@pytest.mark.parametrize("options", [b"\x05", b"\x05\x00", b"\x05\xff", b"\x03\x03", b"\x08\x01"])
def test_malformed_options_are_read_as_far_as_they_go(options: bytes) -> None:
    padded = options.ljust(4, b"\x00")
    dp = dataplane()
    only(dp.process([tun(segment(POD_A, 1, INTERNET, 80, S, 1, 0, 100, b"", padded))], 0))
