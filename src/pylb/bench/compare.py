"""Two runs side by side: what has become better or worse, and what cannot be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pylb.bench.catalog import METRICS, PATHS
from pylb.bench.report import figure
from pylb.bench.results import Key, Results
from pylb.bench.stats import LEAST_ROUNDS


class Change(StrEnum):
    """What is said of a row."""

    AGREES = "agrees"
    BETTER = "better"
    WORSE = "worse"
    UNSTABLE = "unstable"
    FEW = "too few rounds"
    ONLY_OLD = "only in the old run"
    ONLY_NEW = "only in the new run"


@dataclass(frozen=True, slots=True)
class Compared:
    """A row and a subject in two runs; medians in the metric's unit, None where there is none."""

    path: str
    metric: str
    x: int | None
    subject: str
    old: float | None
    new: float | None
    change: Change


def compare(old: Results, new: Results) -> Iterator[Compared]:
    """Every row of either, in the order of the catalog."""
    merged = Results({}, {}, "", samples=[*old.samples, *new.samples])
    names = dict.fromkeys(state.name for state in (*new.subjects, *old.subjects))
    for key in merged.rows():
        for name in names:
            before, after = old.summary(key, name), new.summary(key, name)
            if before is None and after is None:
                continue
            yield Compared(
                *key,
                name,
                before.median if before else None,
                after.median if after else None,
                _change(old, new, key, name),
            )


def _change(old: Results, new: Results, key: Key, name: str) -> Change:
    """Medians within the tolerance agree; beyond it they differ only if their spreads do not meet.

    A row whose medians are apart while the spreads meet is one that these runs say
    nothing about.
    """
    before, after = old.summary(key, name), new.summary(key, name)
    if before is None:
        return Change.ONLY_NEW
    if after is None:
        return Change.ONLY_OLD
    metric = METRICS[key.metric]
    if abs(after.median - before.median) <= metric.tolerance * abs(before.median):
        return Change.AGREES
    if min(before.count, after.count) < LEAST_ROUNDS:
        return Change.FEW
    stable = before.stable(metric.tolerance) and after.stable(metric.tolerance)
    if not stable or (before.low <= after.high and after.low <= before.high):
        return Change.UNSTABLE
    more = after.median > before.median
    return Change.BETTER if more == metric.more_is_better else Change.WORSE


def to_json(rows: list[Compared]) -> list[dict[str, Any]]:
    """The rows for a program to read."""
    return [asdict(row) for row in rows]


def markdown(old: Results, new: Results, rows: list[Compared]) -> str:
    """The rows as a table; unstable ones without figures, for they are none."""
    lines = ["# pylb bench compare", "", f"Old: {old.started}. New: {new.started}.", ""]
    if apart := differences(old, new):
        lines += [f"The runs were not made alike, so figures may differ for it: {apart}.", ""]
    lines += [
        "| path | metric | subject | old | new | new/old | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    counts = {change: sum(row.change == change for row in rows) for change in Change}
    told = ", ".join(f"{count} {change}" for change, count in counts.items() if count)
    return "\n".join([*lines, "", f"{told}." if told else "No rows.", ""])


def _cells(row: Compared) -> list[str]:
    metric = METRICS[row.metric]
    at = "" if row.x is None else f" at {row.x}"
    hidden = row.change is Change.UNSTABLE
    old, new = ("" if value is None or hidden else figure(value) for value in (row.old, row.new))
    ratio = "" if hidden or not row.old or row.new is None else f"{row.new / row.old:.2f}"
    said = f"*{row.change}*" if hidden else str(row.change)
    title = f"{metric.title}{at} ({metric.unit})"
    return [PATHS[row.path].title, title, row.subject, old, new, ratio, said]


_ALIKE = ("kernel", "cpu", "cpus", "virtual")


def differences(old: Results, new: Results) -> str:
    """In what the machines of two runs differ, in words; "" when in nothing that matters."""
    return ", ".join(
        f"{name} {old.machine.get(name)} and {new.machine.get(name)}"
        for name in _ALIKE
        if old.machine.get(name) != new.machine.get(name)
    )
