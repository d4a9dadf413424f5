from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylb.bench.stats import Verdict, summary, verdict

VALUES = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=30)


def test_a_summary_has_median_and_extremes() -> None:
    found = summary([3.0, 1.0, 2.0])
    assert (found.count, found.median, found.least, found.most) == (3, 2.0, 1.0, 3.0)
    assert (found.low, found.high) == (1.0, 3.0)


def test_with_seven_samples_one_may_be_left_out_at_each_end() -> None:
    found = summary([100.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0])
    assert (found.low, found.high) == (2.0, 6.0)
    assert (found.least, found.most) == (0.0, 100.0)


@pytest.mark.parametrize(("count", "left_out"), [(1, 0), (6, 0), (7, 1), (10, 2), (15, 4)])
def test_how_many_are_left_out(count: int, left_out: int) -> None:
    found = summary([float(n) for n in range(count)])
    assert (found.low, found.high) == (left_out, count - 1 - left_out)


@given(VALUES)
def test_the_interval_holds_the_median_and_lies_within_the_samples(values: list[float]) -> None:
    found = summary(values)
    assert found.least <= found.low <= found.median <= found.high <= found.most


def test_stable_is_within_the_tolerance_on_both_sides() -> None:
    assert summary([9.0, 10.0, 11.0]).stable(0.1)
    assert not summary([9.0, 10.0, 11.1]).stable(0.1)
    assert not summary([8.9, 10.0, 11.0]).stable(0.1)


@pytest.mark.parametrize(
    ("own", "base", "more_is_better", "expected"),
    [
        ([20, 21, 22], [10, 10.5, 11], True, Verdict.BETTER),
        ([20, 21, 22], [10, 10.5, 11], False, Verdict.WORSE),
        ([10, 10.5, 11], [20, 21, 22], True, Verdict.WORSE),
        ([10, 10.5, 11], [20, 21, 22], False, Verdict.BETTER),
        ([10, 10.5, 11], [10.9, 11.1, 11.5], True, Verdict.SAME),
        ([10, 20, 30], [1, 1, 1], True, Verdict.UNSTABLE),
        ([1, 1, 1], [10, 20, 30], True, Verdict.UNSTABLE),
        ([20, 21], [10, 10.5, 11], True, Verdict.FEW),
        ([20, 21, 22], [10], True, Verdict.FEW),
    ],
)
def test_verdicts(
    own: list[float], base: list[float], more_is_better: bool, expected: Verdict
) -> None:
    found = verdict(summary(own), summary(base), 0.15, more_is_better=more_is_better)
    assert found is expected


@given(VALUES, VALUES)
def test_a_verdict_turns_round_with_its_sides(own: list[float], base: list[float]) -> None:
    a = verdict(summary(own), summary(base), 0.15, more_is_better=True)
    b = verdict(summary(base), summary(own), 0.15, more_is_better=True)
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert b is turned.get(a, a)
