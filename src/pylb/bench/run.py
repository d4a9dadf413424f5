"""A whole run, from what was asked for to the files that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pylb.bench import plots, report, results
from pylb.bench.blocks import blocks
from pylb.bench.catalog import PARTS, QUICK_PARTS
from pylb.bench.engine import Engine, Options, make_folder, raise_descriptors
from pylb.bench.errors import BenchError, NotAvailable
from pylb.bench.labs import labs
from pylb.bench.progress import Progress
from pylb.bench.results import Results
from pylb.bench.subjects import choose
from pylb.lab.errors import LabError
from pylb.lab.lifetime import need_root

QUICK_SUBJECTS = ("python", "native", "kernel", "kernel-notrack", "kernel-iptables")
SECONDS, QUICK_SECONDS = 1.5, 0.6
"""Seconds of a sample."""
BUDGET, QUICK_BUDGET = 38 * 60.0, 165.0
"""Seconds that everything takes at most."""
RESULTS, REPORT = "results.json", "report.md"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; None is what the kind of run has by default."""

    parts: Sequence[str] = ()
    subjects: Sequence[str] | None = None
    quick: bool = False
    rounds: int = 3
    seconds: float | None = None
    out: Path = Path("pylb-bench")
    prefix: str = "bench"


def run(asked: Asked, progress: Progress) -> Results:
    """Measure, and write results, report and pictures; raises `BenchError`."""
    names = asked.subjects
    if names is None and asked.quick:
        names = QUICK_SUBJECTS
    subjects = choose(names)
    parts = tuple(asked.parts) or (QUICK_PARTS if asked.quick else tuple(PARTS))
    chosen = blocks(parts, quick=asked.quick)
    try:
        need_root()
    except LabError as error:
        raise BenchError(str(error)) from None
    raise_descriptors()
    make_folder(asked.out)
    seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    budget = QUICK_BUDGET if asked.quick else BUDGET
    options = Options(parts, asked.rounds, seconds, budget, asked.quick)
    with labs(asked.prefix) as found:
        found.check(subjects)
        file = asked.out / RESULTS
        engine = Engine(
            options, subjects, chosen, found, progress, lambda some: results.save(some, file)
        )
        done = engine.run()
        results.save(done, file)
    write(done, asked.out, progress)
    return done


def write(done: Results, folder: Path, progress: Progress) -> None:
    """Write the report and the pictures of results."""
    (folder / REPORT).write_text(report.markdown(done), encoding="utf-8")
    try:
        files = plots.draw(done, folder)
    except NotAvailable as error:
        progress.note(f"pictures: n/a ({error})")
    else:
        progress.note(f"{RESULTS}, {REPORT} and {len(files)} pictures are in {folder}")
