"""What both ends of a connection hear when its backend is gone, number by number."""

from __future__ import annotations

import pytest

from pylb.dataplane.base import DropReason, EventKind, Output
from pylb.dataplane.python.packet import Parsed
from pylb.plan.tables import Delta, Frontend
from pylb.wire.tcp import ACK, FIN, PSH, RST, SYN
from tests.dataplanes import AnyDataplane
from tests.unit.dataplane.net import (
    POD_A,
    POD_B,
    POD_REMOTE,
    SECOND,
    VIP,
    backend,
    dataplane,
    from_peer,
    frontend,
    inner,
    plan,
    segment,
    tun,
)

PORT = 40000
BACKEND = backend(POD_REMOTE)


class Talk:
    """A connection of pod a through the VIP to a pod of another node.

    The client's numbers begin at 1000, the server's at 5000.
    """

    def __init__(self, *, answered: bool = True, scheduler: str = "rr") -> None:
        self.frontend = frontend(VIP, 80, [BACKEND], scheduler=scheduler)
        self.node: AnyDataplane = dataplane(self.frontend)
        self.now = 0
        self.client(SYN, 1000, 0)
        if answered:
            self.server(SYN | ACK, 5000, 1001)
            self.client(ACK, 1001, 5001)

    def client(self, flags: int, seq: int, ack: int, payload: bytes = b"") -> Output:
        raw = segment(POD_A, PORT, VIP, 80, flags, seq, ack, payload=payload)
        return self.node.process([tun(raw)], self.now)

    def server(self, flags: int, seq: int, ack: int, payload: bytes = b"") -> Output:
        raw = segment(POD_REMOTE, 8080, POD_A, PORT, flags, seq, ack, payload=payload)
        return self.node.process([from_peer(raw)], self.now)

    def lose(self, *left: Frontend) -> None:
        """Neither a pod nor an endpoint has the backend's address any more."""
        after = plan(*left)
        del after.addresses[POD_REMOTE]  # type: ignore[attr-defined]
        self.node.change(Delta(replace=after), self.now)

    def states(self) -> list[str]:
        return [flow.state for flow in self.node.flows(self.now)]


def resets(out: Output) -> dict[str, list[int]]:
    """The sequence numbers of the resets that each end is sent."""
    found: dict[str, list[int]] = {"client": [], "server": []}
    for sent in out.sent:
        packet = inner(sent)
        assert packet.checksum_ok()
        ends = (packet.src, packet.sport, packet.dst, packet.dport)
        assert ends in ((VIP, 80, POD_A, PORT), (POD_A, PORT, POD_REMOTE, 8080))
        assert flags_of(packet) == RST
        found["client" if packet.dst == POD_A else "server"].append(number(packet))
    assert [drop.reason for drop in out.dropped] == [DropReason.BACKEND_GONE]
    return found


def flags_of(packet: Parsed) -> int:
    return packet.data[packet.l4 + 13]


def number(packet: Parsed) -> int:
    return int.from_bytes(packet.data[packet.l4 + 4 : packet.l4 + 8], "big")


def test_with_nothing_under_way_each_end_gets_the_number_that_it_awaits() -> None:
    talk = Talk()
    talk.client(ACK | PSH, 1001, 5001, b"ask")
    talk.server(ACK | PSH, 5001, 1004, b"answer")
    talk.client(ACK, 1004, 5007)
    talk.lose()
    out = talk.client(ACK | PSH, 1004, 5007, b"more")
    assert resets(out) == {"client": [5007], "server": [1004]}


def test_what_a_receiver_has_not_acknowledged_yet_does_not_hide_the_reset() -> None:
    """A stream to the client: its last acknowledgement is behind what it will have got."""
    talk = Talk()
    for at in range(5001, 9001, 1000):
        talk.server(ACK, at, 1001, b"x" * 1000)
    talk.client(ACK, 1001, 6001)
    talk.lose()
    out = talk.server(ACK, 9001, 1001, b"x" * 1000)
    assert resets(out) == {"server": [1001], "client": [6001, 9001]}


def test_a_sender_that_is_behind_gets_both_numbers_too() -> None:
    talk = Talk()
    talk.server(ACK, 5001, 1001, b"x" * 1000)
    talk.lose()
    out = talk.client(ACK | PSH, 1001, 5001, b"more")
    assert resets(out) == {"client": [5001, 6001], "server": [1001]}


def test_who_asks_back_is_told_the_number_that_it_named() -> None:
    """Of two segments under way the first is lost: neither number was right (RFC 5961)."""
    talk = Talk()
    for at in (5001, 6001, 7001):
        talk.server(ACK, at, 1001, b"x" * 1000)
    talk.lose()
    assert resets(talk.server(ACK, 8001, 1001, b"x"))["client"] == [5001, 8001]
    out = talk.client(ACK, 1001, 6001)
    assert resets(out)["client"][0] == 6001


def test_numbers_wrap() -> None:
    talk = Talk(answered=False)
    last = 0xFFFFFFFF
    talk.server(SYN | ACK, last - 100, 1001)
    talk.client(ACK, 1001, last - 99)
    talk.server(ACK, last - 99, 1001, b"x" * 1000)
    talk.lose()
    out = talk.server(ACK, 900, 1001, b"x")
    assert resets(out)["client"] == [last - 99, 900]


def test_the_flow_stays_closed_for_ten_seconds_and_is_told_of_once() -> None:
    talk = Talk()
    talk.lose()
    events = [(e.kind, e.flow.state) for e in talk.client(ACK | PSH, 1001, 5001, b"a").events]
    assert events == [(EventKind.UPDATE, "CLOSE")]
    talk.now = 9 * SECOND
    again = talk.client(ACK | PSH, 1001, 5001, b"a")
    assert resets(again)["client"] == [5001]
    assert not again.events
    assert talk.states() == ["CLOSE"]
    ended = talk.node.advance(10 * SECOND)
    assert [e.kind for e in ended.events] == [EventKind.DESTROY]


@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_of_the_dying_server_reaches_the_client_and_is_not_answered(flags: int) -> None:
    talk = Talk()
    talk.server(ACK, 5001, 1001, b"x" * 10)
    talk.lose()
    assert resets(talk.server(flags, 5011, 1001)) == {"client": [5001, 5011], "server": []}


def test_its_farewell_is_a_reset_for_the_client() -> None:
    talk = Talk()
    talk.lose()
    assert resets(talk.server(FIN | ACK, 5001, 1001)) == {"client": [5001], "server": [1001]}


def test_a_connection_that_was_never_answered_tries_another_backend() -> None:
    talk = Talk(answered=False)
    other = frontend(VIP, 80, [backend(POD_B)])
    talk.lose(other)
    out = talk.client(SYN, 1000, 0)
    assert not out.dropped
    assert [inner(sent).dst for sent in out.sent] == [POD_B]
    assert [e.kind for e in out.events] == [EventKind.DESTROY, EventKind.NEW]


def test_a_new_connection_from_the_same_port_is_not_held_to_the_old_one() -> None:
    talk = Talk()
    talk.lose(frontend(VIP, 80, [backend(POD_B)]))
    talk.client(ACK | PSH, 1001, 5001, b"a")
    assert talk.states() == ["CLOSE"]
    out = talk.client(SYN, 90000, 0)
    assert [inner(sent).dst for sent in out.sent] == [POD_B]
    assert talk.states() == ["SYN_SENT"]


def test_its_load_is_that_of_a_closing_connection() -> None:
    talk = Talk(scheduler="lc")
    two = frontend(VIP, 80, [BACKEND, backend(POD_B)], scheduler="lc")
    talk.lose()
    talk.client(ACK | PSH, 1001, 5001, b"a")
    talk.node.change(Delta(replace=plan(two)), talk.now)
    # One closing connection weighs less than an open one, and more than none.
    first = talk.node.process([tun(segment(POD_A, 1, VIP, 80, SYN))], talk.now)
    second = talk.node.process([tun(segment(POD_A, 2, VIP, 80, SYN))], talk.now)
    assert [inner(sent).dst for out in (first, second) for sent in out.sent] == [POD_B, POD_REMOTE]


def test_a_backend_that_drains_is_not_gone() -> None:
    talk = Talk()
    idle = talk.frontend._replace(active=())
    talk.node.change(Delta(replace=plan(idle)), talk.now)
    out = talk.client(ACK | PSH, 1001, 5001, b"more")
    assert [inner(sent).dst for sent in out.sent] == [POD_REMOTE]
    assert talk.states() == ["ESTABLISHED"]
