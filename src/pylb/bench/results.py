"""A run's samples, all of them, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pylb.bench.catalog import METRICS, PATHS
from pylb.bench.errors import BenchError
from pylb.bench.stats import Summary, summary

FORMAT = "pylb-bench/1"


class Key(NamedTuple):
    """A row: a metric on a path; ``x`` is where on a curve, or None."""

    path: str
    metric: str
    x: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure in the metric's unit; ``detail`` is what it was computed from."""

    part: str
    path: str
    metric: str
    x: int | None
    subject: str
    round: int
    value: float
    at: float
    """Seconds since the run began."""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """The row that it belongs to."""
        return Key(self.path, self.metric, self.x)


@dataclass(frozen=True, slots=True)
class Missing:
    """Why there is no figure (or one fewer): ``round`` is 0 when there cannot be any."""

    part: str
    path: str
    metric: str
    x: int | None
    subject: str
    round: int
    reason: str

    @property
    def key(self) -> Key:
        """The row that it belongs to."""
        return Key(self.path, self.metric, self.x)


@dataclass(frozen=True, slots=True)
class SubjectState:
    """A subject as it was found: ``reason`` says why it is not available, "" when it is."""

    name: str
    title: str
    overlay: str
    reason: str = ""


@dataclass(slots=True)
class Results:
    """Everything that a run has found out so far."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    started: str
    subjects: list[SubjectState] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    seconds: float = 0.0
    ended: str = ""
    """How it ended: ``complete``, or what cut it short."""

    def rows(self) -> list[Key]:
        """The rows that there are figures or reasons for, in the order of the catalog."""
        paths, metrics = list(PATHS), list(METRICS)
        found = {s.key for s in self.samples} | {m.key for m in self.missing}
        return sorted(found, key=lambda k: (paths.index(k.path), metrics.index(k.metric), k.x or 0))

    def values(self, key: Key, subject: str) -> list[float]:
        """The samples of a row and a subject, in the order of rounds."""
        return [s.value for s in self.samples if s.subject == subject and s.key == key]

    def summary(self, key: Key, subject: str) -> Summary | None:
        """Their summary; None without samples."""
        values = self.values(key, subject)
        return summary(values) if values else None

    def reason(self, key: Key, subject: str) -> str:
        """Why a row has no figure for a subject."""
        for state in self.subjects:
            if state.name == subject and state.reason:
                return state.reason
        reasons = [m.reason for m in self.missing if m.subject == subject and m.key == key]
        return reasons[-1] if reasons else "not measured"

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"format": FORMAT, **asdict(self)}


def save(results: Results, path: Path) -> None:
    """Write the document, whole or not at all; raises OSError."""
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(results.to_json(), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def load(path: Path) -> Results:
    """Read a document; raises `BenchError` when it is none, and OSError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BenchError(f"{path}: expected the results of a bench in JSON: {error}") from None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise BenchError(f"{path}: format: expected {FORMAT!r}, as `pylb bench` writes it")
    try:
        results = Results(
            **{
                **document,
                "subjects": list(_each(SubjectState, document, "subjects")),
                "samples": list(_each(Sample, document, "samples")),
                "missing": list(_each(Missing, document, "missing")),
            }
        )
        results.rows()
    except (TypeError, KeyError, ValueError) as error:
        raise BenchError(f"{path}: not the results of a bench of this version: {error}") from None
    return results


def _each(kind: type[Any], document: Mapping[str, Any], name: str) -> Iterator[Any]:
    return (kind(**each) for each in document[name])
