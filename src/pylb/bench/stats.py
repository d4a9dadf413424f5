"""Medians, the interval that holds them, and when two of them differ.

No distribution is assumed: the interval is between two order statistics of the
samples.  With up to six samples it is all of them, from the least to the most,
which for n samples holds the true median with probability 1 - 2^(1-n) (0.75 for
3, 0.94 for 5).  With more the outermost may be left out, as long as at least
0.85 remains.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import comb

_CONFIDENCE = 0.85
_ALL_UP_TO = 6


@dataclass(frozen=True, slots=True)
class Summary:
    """Samples of one quantity: ``low`` to ``high`` is the interval that holds their median."""

    count: int
    median: float
    least: float
    most: float
    low: float
    high: float

    def stable(self, tolerance: float) -> bool:
        """Whether the interval stays within ``tolerance``, a part of the median, of it."""
        margin = tolerance * abs(self.median)
        return self.high - self.median <= margin and self.median - self.low <= margin


def summary(values: Sequence[float]) -> Summary:
    """The summary of at least one sample."""
    ordered = sorted(values)
    drop = _left_out(len(ordered))
    return Summary(
        len(ordered),
        statistics.median(ordered),
        ordered[0],
        ordered[-1],
        ordered[drop],
        ordered[-1 - drop],
    )


def _left_out(count: int) -> int:
    """How many samples may be left out at each end of ``count``."""
    drop = 0
    if count > _ALL_UP_TO:
        # P(fewer than k+1 of n samples on one side of the median), twice.
        while 1 - 2 * sum(comb(count, i) for i in range(drop + 2)) / 2**count >= _CONFIDENCE:
            drop += 1
    return drop


class Verdict(StrEnum):
    """What can be said of one median against another."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "within the spread"
    UNSTABLE = "unstable"
    FEW = "too few rounds"


LEAST_ROUNDS = 3
"""Samples without which nothing is said."""


def verdict(own: Summary, base: Summary, tolerance: float, *, more_is_better: bool) -> Verdict:
    """``own`` against ``base``: different only where their intervals do not meet."""
    if min(own.count, base.count) < LEAST_ROUNDS:
        return Verdict.FEW
    if not (own.stable(tolerance) and base.stable(tolerance)):
        return Verdict.UNSTABLE
    if own.low > base.high:
        return Verdict.BETTER if more_is_better else Verdict.WORSE
    if own.high < base.low:
        return Verdict.WORSE if more_is_better else Verdict.BETTER
    return Verdict.SAME
