"""The run: subjects interleaved, in rounds, within a time.

A round has every block once, and within a block the subjects follow each other,
A B C; so what drifts on the machine drifts for all of them.  Before the first
round everything is run once, shortly, and thrown away: that warms caches up and
tells what there can be no figure for.  When the rounds are done and time is
left, blocks with a figure that is not stable get further rounds.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pylb.bench import machine
from pylb.bench.blocks import Block
from pylb.bench.catalog import METRICS
from pylb.bench.errors import BenchError, Failed, NotAvailable
from pylb.bench.labs import Labs
from pylb.bench.measures import Figure
from pylb.bench.progress import Progress, clock
from pylb.bench.results import Key, Missing, Results, Sample, SubjectState
from pylb.bench.subjects import Subject, unavailable

FILES = 4096
"""Descriptors that the load programs need at most, sockets of a thousand streams included."""
WARM_SECONDS = 0.3
"""Seconds of a sample that is thrown away."""
LEAST_SECONDS = 0.4
"""Seconds that a sample is shortened to at most, for the run to end in time."""
_MOST_EXTRA = 4
_MOST_FAILURES = 2
_ENDING = 2.0
"""Seconds for each lab that is to be taken down within the time."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is made: ``seconds`` for a sample, ``budget`` seconds for everything."""

    parts: tuple[str, ...]
    rounds: int
    seconds: float
    budget: float
    quick: bool


Saved = Callable[[Results], None]


class OutOfTime(Exception):
    """There is no time for the next block."""


@dataclass(slots=True)
class Pair:
    """A block for a subject: how long it takes, and how often it gave nothing in a row."""

    block: Block
    subject: Subject
    took: float | None = None
    failures: int = 0
    dropped: bool = False
    sampled: int = 0

    def cost(self, seconds: float) -> float:
        """Seconds that it takes, as far as is known."""
        return self.block.cost(seconds) if self.took is None else self.took


def raise_descriptors() -> None:
    """Have as many descriptors as the load programs need; raises `BenchError`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        if hard != resource.RLIM_INFINITY and hard < FILES:
            raise BenchError(
                f"the limit of open files is {hard}: expected at least {FILES}; "
                f"raise it with `ulimit -n {FILES}`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))


class Engine:
    """One run."""

    def __init__(
        self,
        options: Options,
        subjects: Sequence[Subject],
        blocks: Sequence[Block],
        labs: Labs,
        progress: Progress,
        saved: Saved = lambda results: None,
    ) -> None:
        """``saved`` is called after every round."""
        self._options = options
        self._blocks = blocks
        self._subjects = list(subjects)
        self._labs = labs
        self._progress = progress
        self._saved = saved
        self._began = time.monotonic()
        self._stolen = machine.stolen()
        self._seconds = options.seconds
        self._pairs: list[list[Pair]] = []
        self._left: list[Pair] = []
        self.results = Results(
            machine.describe(),
            {
                "parts": list(options.parts),
                "rounds": options.rounds,
                "seconds": options.seconds,
                "quick": options.quick,
            },
            datetime.now(UTC).isoformat(timespec="seconds"),
        )

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def run(self) -> Results:
        """Measure; Ctrl-C and the end of the time end it with what there is by then.

        Raises `BenchError` when nothing can be measured.
        """
        results = self.results
        try:
            self._bring_up()
            self._warm_up()
            self._fit()
            self._rounds()
            self._extra()
            results.ended = "complete"
        except OutOfTime:
            enough = all(p.dropped or p.sampled >= self._options.rounds for p in self._all())
            results.ended = "complete" if enough else "out of time"
        except KeyboardInterrupt:
            results.ended = "interrupted"
        finally:
            self._progress.clear()
            results.seconds = self._elapsed
            results.machine = {
                **results.machine,
                "stolen": machine.stolen() - self._stolen,
            }
            results.options = {**results.options, "seconds": self._seconds}
        return results

    def _bring_up(self) -> None:
        found = []
        for subject in self._subjects:
            reason = unavailable(subject)
            if not reason:
                self._progress.note(f"starting the lab of {subject.name}")
                try:
                    self._labs.get(subject)
                except NotAvailable as error:
                    reason = str(error)
            if not reason:
                found.append(subject)
            self.results.subjects.append(
                SubjectState(subject.name, subject.title, subject.overlay, reason)
            )
        if not found:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in self.results.subjects)
            raise BenchError(f"no subject can be measured here: {reasons}")
        for block in self._blocks:
            self._pairs.append([Pair(block, s) for s in found if block.suits(s)])

    def _all(self) -> Iterator[Pair]:
        return (pair for pairs in self._pairs for pair in pairs)

    def _warm_up(self) -> None:
        self._left = [p for p in self._all() if p.block.warm]
        while self._left:
            pair = self._left[0]
            self._tell("warm-up", pair, WARM_SECONDS)
            self._measure(pair, 0, WARM_SECONDS)
            del self._left[0]

    def _fit(self) -> None:
        """Shorten the samples until all rounds fit into the time."""
        pairs = [p for p in self._all() if not p.dropped]
        for pair in pairs:
            if pair.took is not None:
                # What the warm-up took beyond its sample, the next ones take too.
                over = max(0.0, pair.took - pair.block.cost(WARM_SECONDS))
                pair.took = None
                pair.block = replace(pair.block, cost=_plus(pair.block.cost, over))
        left = self._options.budget - self._elapsed - _ENDING * len(self._subjects)

        def total() -> float:
            return self._options.rounds * sum(p.cost(self._seconds) for p in pairs)

        while total() > left and self._seconds > LEAST_SECONDS:
            self._seconds = max(LEAST_SECONDS, self._seconds * 0.9)
        self._progress.note(
            f"{self._options.rounds} rounds of {len(pairs)} measurements, "
            f"{self._seconds:.1f} s a sample, about {clock(total())}"
        )

    def _rounds(self) -> None:
        rounds = self._options.rounds
        self._left = [p for _ in range(rounds) for p in self._all()]
        for number in range(1, rounds + 1):
            for pairs in self._pairs:
                self._round(pairs, number, f"round {number} of {rounds}")
            self._saved(self.results)

    def _extra(self) -> None:
        for number in range(self._options.rounds + 1, self._options.rounds + _MOST_EXTRA + 1):
            again = [pairs for pairs in self._pairs if self._unstable(pairs)]
            if not again:
                return
            self._left = [p for pairs in again for p in pairs]
            for pairs in again:
                self._round(pairs, number, f"once more, {number}")
            self._saved(self.results)

    def _unstable(self, pairs: list[Pair]) -> bool:
        """Whether a block has a figure that a further round could make stable."""
        for pair in pairs:
            if pair.dropped or not pair.block.warm:
                continue
            for key in pair.block.keys:
                found = self.results.summary(key, pair.subject.name)
                if found is not None and not found.stable(METRICS[key.metric].tolerance):
                    return True
        return False

    def _round(self, pairs: list[Pair], number: int, title: str) -> None:
        for pair in pairs:
            if self._left:
                del self._left[0]
            if pair.dropped:
                continue
            needed = pair.cost(self._seconds) + _ENDING * len(self._subjects)
            if self._elapsed + needed > self._options.budget:
                raise OutOfTime
            self._tell(title, pair, self._seconds)
            self._measure(pair, number, self._seconds)

    def _tell(self, title: str, pair: Pair, seconds: float) -> None:
        left = pair.cost(seconds) + sum(p.cost(seconds) for p in self._left if not p.dropped)
        self._progress.at(self._elapsed, left, f"{title}  {pair.block.title}: {pair.subject.name}")

    def _measure(self, pair: Pair, number: int, seconds: float) -> None:
        """Run a block for a subject; round 0 is the warm-up, whose figures are not kept."""
        began = time.monotonic()
        try:
            for key, figure in pair.block.run(self._labs, pair.subject, seconds):
                if isinstance(figure, Failed):
                    self._miss(pair, number, str(figure), [key])
                elif number:
                    self._keep(pair, number, key, figure)
            pair.failures = 0
            pair.sampled += number > 0
        except NotAvailable as error:
            pair.dropped = True
            self._miss(pair, 0, str(error), pair.block.keys)
        except Failed as error:
            pair.failures += 1
            pair.dropped = pair.failures >= _MOST_FAILURES
            if number or pair.dropped:
                self._miss(pair, number, str(error), pair.block.keys)
        pair.took = time.monotonic() - began

    def _keep(self, pair: Pair, number: int, key: Key, figure: Figure) -> None:
        at = round(self._elapsed, 3)
        part, name = pair.block.part, pair.subject.name
        self.results.samples.append(
            Sample(part, *key, name, number, figure.value, at, figure.detail)
        )

    def _miss(self, pair: Pair, number: int, reason: str, keys: Sequence[Key]) -> None:
        """Say why ``keys`` have no figure in this round, those that have one excepted."""
        own = [s for s in self.results.samples if s.subject == pair.subject.name]
        have = {s.key for s in own if s.round == number}
        part, name = pair.block.part, pair.subject.name
        self.results.missing += [
            Missing(part, *key, name, number, reason) for key in keys if key not in have
        ]


def _plus(cost: Callable[[float], float], more: float) -> Callable[[float], float]:
    return lambda seconds: cost(seconds) + more


def make_folder(path: Path) -> None:
    """Make the folder of the results; raises `BenchError` when that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}: expected a folder to write to") from None
    if not os.access(path, os.W_OK):
        raise BenchError(f"{path}: expected a folder that can be written to")
