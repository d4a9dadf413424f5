"""Datagrams that leave together: in order, of one size, and never more than a send may hold."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.native.probe import CSRC, Ask, Datagram, Sent, sends

SEGMENTS, BYTES, BUFFERS, OPEN = 64, 65507, 192, 32
"""As in csrc/sends.h; a test holds them against it."""


def datagrams(script: list[tuple[int, int, int, int, int]]) -> list[Datagram]:
    """Of (peer, sender, size, parts, times); each has bytes of its own."""
    made = []
    for peer, sender, size, parts, times in script:
        for _ in range(times):
            number = len(made)
            data = (number.to_bytes(4, "big") * (size // 4 + 1))[:size]
            cuts = [size * n // parts for n in range(parts + 1)]
            pieces = tuple(data[a:b] for a, b in pairwise(cuts))
            made.append(Datagram(peer, sender, pieces))
    return made


def check(ask: Ask, given: list[Datagram], most: int) -> list[Sent]:
    """All that is held of them together; gives the sends."""
    made = sends(ask, given, most)
    expected: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    came: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for peer, sender, parts in given:
        expected[peer, sender].append(b"".join(parts))
    for sent in made:
        assert 1 <= sent.segments <= most
        assert sent.segments == 1 or sent.length <= BYTES
        assert sent.buffers <= BUFFERS
        assert -(-sent.length // sent.size) == sent.segments, "all but the last are equal"
        cut = [sent.data[at : at + sent.size] for at in range(0, sent.length, sent.size)]
        came[sent.peer, sent.sender].extend(cut)
    assert came == expected
    return made


_script = st.lists(
    st.tuples(
        st.integers(1, 6),
        st.integers(0, 7),
        st.sampled_from([1, 20, 90, 100, 1422, 1450, 1472, 9000]),
        st.sampled_from([1, 1, 2, 5]),
        st.sampled_from([1, 1, 2, 50]),
    ),
    max_size=40,
)


@given(_script, st.sampled_from([1, 2, SEGMENTS]))
def test_what_goes_in_comes_out_in_order(
    ask: Ask, script: list[tuple[int, int, int, int, int]], most: int
) -> None:
    check(ask, datagrams(script), most)


@given(st.lists(st.integers(1, 3), max_size=60))
@example([2, 2, 1, 2])
@example([1, 2])
def test_after_a_shorter_one_nothing_is_added(ask: Ask, sizes: list[int]) -> None:
    made = check(ask, datagrams([(1, 0, 100 * size, 1, 1) for size in sizes]), SEGMENTS)
    runs: list[list[int]] = []
    for size in sizes:
        if runs and size <= runs[-1][0] and runs[-1][-1] == runs[-1][0]:
            runs[-1].append(size)
        else:
            runs.append([size])
    full = [run[n : n + SEGMENTS] for run in runs for n in range(0, len(run), SEGMENTS)]
    assert [sent.segments for sent in made] == [len(run) for run in full]


@pytest.mark.parametrize(
    ("size", "parts", "expected"),
    [
        (100, 1, [64, 64, 2]),
        (1422, 2, [46, 46, 38]),
        (1422, 5, [38, 38, 38, 16]),
        (65507, 1, [1] * 130),
        (32753, 1, [2] * 65),
        (32754, 1, [1] * 130),
    ],
)
def test_a_send_is_full_at_its_limits(ask: Ask, size: int, parts: int, expected: list[int]) -> None:
    made = check(ask, datagrams([(1, 0, size, parts, 130)]), SEGMENTS)
    assert [sent.segments for sent in made] == expected


def test_buffers_of_a_send_are_filled_to_the_last(ask: Ask) -> None:
    made = check(ask, datagrams([(1, 0, 100, 5, 38), (1, 0, 100, 1, 3)]), SEGMENTS)
    assert [(sent.segments, sent.buffers) for sent in made] == [(40, BUFFERS), (1, 1)]


def test_without_segmentation_each_leaves_alone(ask: Ask) -> None:
    made = check(ask, datagrams([(1, 0, 100, 2, 70), (2, 0, 100, 2, 70)]), 1)
    assert {sent.segments for sent in made} == {1}
    assert len(made) == 140


def test_interleaved_senders_are_gathered_each(ask: Ask) -> None:
    script = [(peer, sender, 100, 1, 1) for _ in range(10) for peer in (1, 2) for sender in (0, 1)]
    made = check(ask, datagrams(script), SEGMENTS)
    assert [(sent.peer, sent.sender, sent.segments) for sent in made] == [
        (1, 0, 10),
        (1, 1, 10),
        (2, 0, 10),
        (2, 1, 10),
    ]


def test_more_peers_than_can_be_gathered(ask: Ask) -> None:
    check(ask, datagrams([(peer, 0, 100, 1, 1) for _ in range(3) for peer in range(100)]), SEGMENTS)


def test_the_limits_are_those_of_the_header() -> None:
    text = (CSRC / "sends.h").read_text(encoding="utf-8")
    defined = dict(re.findall(r"^#define\s+MOST_(\w+)\s+(\d+)", text, re.M))
    assert {name: int(value) for name, value in defined.items()} == {
        "SENDS": OPEN,
        "SEGMENTS": SEGMENTS,
        "BYTES": BYTES,
        "IOVECS": BUFFERS,
    }
