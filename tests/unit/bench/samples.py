"""Results in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pylb.bench.results import Missing, Results, Sample, SubjectState
from pylb.bench.subjects import SUBJECTS

MACHINE = {
    "kernel": "6.18.0",
    "cpu": "a CPU",
    "cpus": 2,
    "memory": "1 kB",
    "virtual": True,
    "load": 0.5,
    "system": "Debian",
    "versions": {"pylb": "0.1.0", "haproxy": ""},
}


def results(
    figures: Mapping[str, Sequence[float]],
    metric: str = "tcp",
    path: str = "cluster",
    x: int | None = None,
    unavailable: Mapping[str, str] | None = None,
) -> Results:
    """One row: the samples of each subject, a round each."""
    reasons = unavailable or {}
    names = [*figures, *reasons]
    return Results(
        MACHINE,
        {"rounds": 3, "seconds": 1.5},
        "2026-01-01T00:00:00+00:00",
        [
            SubjectState(n, SUBJECTS[n].title, SUBJECTS[n].overlay, reasons.get(n, ""))
            for n in names
        ],
        [
            Sample("tcp", path, metric, x, name, number, value, float(number), {"counts": [1]})
            for name, values in figures.items()
            for number, value in enumerate(values, 1)
        ],
        [Missing("tcp", path, metric, x, name, 0, "why") for name in reasons],
        12.0,
        "complete",
    )
