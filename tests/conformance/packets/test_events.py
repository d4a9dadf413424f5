"""``conntrack -E`` of both dataplanes, line for line."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pylb.control.client import Client
from pylb.control.paths import LabPaths
from pylb.observe.conntrack import event_line
from pylb.observe.flowjson import event_from_json
from pylb.wire import udp
from tests.conformance.packets.conftest import Pair, Side
from tests.conformance.packets.test_packets import ACK, FAR, FIN, SYN, A, C, segment

pytestmark = [pytest.mark.root, pytest.mark.tools("nft")]

DEADLINE = 10.0


class Heard:
    """The event lines of one node, as they come, less timeouts."""

    def __init__(self, side: Side, node: str, sport: int) -> None:
        self.lines: list[str] = []
        client = Client(LabPaths(side.lab).node(node).api)
        self._stream = client.stream("/conntrack/events", sport=str(sport))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # The stream breaks off when its lab goes down; what a test wants is there by then.
        with suppress(Exception):
            self._collect()

    def _collect(self) -> None:
        for item in self._stream:
            if "lost" not in item:
                words = event_line(event_from_json(item)).split()
                at = 3
                self.lines.append(
                    " ".join(w for i, w in enumerate(words) if i != at or not w.isdigit())
                )

    def until(self, count: int) -> list[str]:
        end = time.monotonic() + DEADLINE
        while len(self.lines) < count:
            assert time.monotonic() < end, f"expected {count} events: {self.lines}"
            time.sleep(0.01)
        return self.lines


@contextmanager
def listening(pair: Pair, sport: int) -> Iterator[list[Heard]]:
    pair.ours.forget()
    pair.kernel.forget()
    yield [Heard(side, "node1", sport) for side in (pair.ours, pair.kernel)]


def test_a_tcp_connection(pair: Pair) -> None:
    with listening(pair, 41001) as heard:
        pair.same("a", segment(A, FAR, 41001, 80, SYN, 100), "c")
        pair.same("c", segment(C, A, 8080, 41001, SYN | ACK, 900, 101), "a")
        pair.same("a", segment(A, FAR, 41001, 80, ACK, 101, 901), "c")
        pair.same("a", segment(A, FAR, 41001, 80, FIN | ACK, 101, 901), "c")
        pair.same("c", segment(C, A, 8080, 41001, ACK, 901, 102), "a")
        pair.same("c", segment(C, A, 8080, 41001, FIN | ACK, 901, 102), "a")
        pair.same("a", segment(A, FAR, 41001, 80, ACK, 102, 902), "c")
        pair.ours.forget()
        pair.kernel.forget()
        ours, theirs = (each.until(8) for each in heard)
    assert ours == theirs
    assert [line.split()[0] for line in ours] == ["[NEW]", *["[UPDATE]"] * 6, "[DESTROY]"]


def test_a_udp_flow(pair: Pair) -> None:
    with listening(pair, 41002) as heard:
        pair.same("a", udp.build(A, FAR, 41002, 80, b"q", ident=1), "c")
        pair.same("c", udp.build(C, A, 8080, 41002, b"a", ident=2), "a")
        started = time.monotonic()
        while len(heard[0].lines) < 3 or len(heard[1].lines) < 3:
            # Assured comes with the first packet more than two seconds after the start.
            assert time.monotonic() - started < DEADLINE
            pair.same("a", udp.build(A, FAR, 41002, 80, b"q", ident=3), "c")
        pair.ours.forget()
        pair.kernel.forget()
        ours, theirs = (each.until(4) for each in heard)
    assert ours == theirs
    assert [line.split()[0] for line in ours] == ["[NEW]", "[UPDATE]", "[UPDATE]", "[DESTROY]"]
