"""The order of a run, and how it ends, with blocks that measure nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, cast

import pytest

from pylb.bench import engine as engines
from pylb.bench.blocks import Block, blocks
from pylb.bench.catalog import PARTS
from pylb.bench.engine import Engine, Options
from pylb.bench.errors import BenchError, Failed, NotAvailable
from pylb.bench.labs import Labs
from pylb.bench.measures import Figure
from pylb.bench.progress import Progress, clock
from pylb.bench.results import Key, Results
from pylb.bench.subjects import SUBJECTS, Subject, choose

A, B = SUBJECTS["python"], SUBJECTS["kernel"]
Value = Callable[[Subject], float]


class NoLabs:
    """Labs that come up at once, but for those named."""

    def __init__(self, *broken: str) -> None:
        self._broken = broken

    def get(self, subject: Subject) -> object:
        if subject.name in self._broken:
            raise NotAvailable("it does not come up")
        return object()


class Tape:
    """Blocks that write down when they run."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []

    def block(
        self, metric: str, value: Value = lambda subject: 1.0, warm: bool = True, cost: float = 0.0
    ) -> Block:
        def run(labs: Labs, subject: Subject, seconds: float) -> Iterator[tuple[Key, Figure]]:
            self.ran.append((metric, subject.name))
            yield Key("cluster", metric), Figure(value(subject))

        return Block(
            "tcp", metric, (Key("cluster", metric),), run, lambda seconds: cost + seconds, warm
        )


@pytest.fixture(autouse=True)
def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "unavailable", lambda subject: "")


def run(
    *found: Block, subjects: tuple[Subject, ...] = (A, B), labs: Any = None, **options: Any
) -> Results:
    asked = {"parts": ("tcp",), "rounds": 3, "seconds": 0.0, "budget": 1000.0, "quick": False}
    engine = Engine(
        Options(**{**asked, **options}),
        subjects,
        found,
        cast(Labs, labs or NoLabs()),
        Progress(None),
    )
    return engine.run()


def test_subjects_are_interleaved_in_rounds_after_a_warm_up() -> None:
    tape = Tape()
    found = run(tape.block("tcp"), tape.block("connections"))
    once = [(m, s.name) for m in ("tcp", "connections") for s in (A, B)]
    assert tape.ran == once * 4
    assert [(s.metric, s.subject, s.round) for s in found.samples] == [
        (metric, name, number) for number in (1, 2, 3) for metric, name in once
    ]
    assert found.ended == "complete"


def test_what_is_not_warmed_up_runs_once_a_round() -> None:
    tape = Tape()
    run(tape.block("services", warm=False), rounds=2)
    assert len(tape.ran) == 4


def test_a_subject_whose_lab_does_not_come_up_is_left_out_with_the_reason() -> None:
    found = run(Tape().block("tcp"), labs=NoLabs("python"))
    assert {s.subject for s in found.samples} == {"kernel"}
    assert found.subjects[0].reason == "it does not come up"
    assert found.ended == "complete"


def test_without_any_subject_the_reasons_are_told() -> None:
    with pytest.raises(BenchError, match="python: it does not come up; kernel: it does"):
        run(Tape().block("tcp"), labs=NoLabs("python", "kernel"))


def test_a_metric_that_is_not_available_is_tried_once() -> None:
    tape = Tape()

    def value(subject: Subject) -> float:
        if subject is A:
            raise NotAvailable("it proxies no UDP")
        return 1.0

    found = run(tape.block("packets", value))
    assert tape.ran.count(("packets", "python")) == 1
    assert found.reason(Key("cluster", "packets"), "python") == "it proxies no UDP"
    assert found.summary(Key("cluster", "packets"), "kernel") is not None


def test_a_failure_loses_one_sample_and_a_second_one_in_a_row_ends_it() -> None:
    calls = count()

    def value(subject: Subject) -> float:
        # The warm-up and the first round are well.
        if subject is A and next(calls) in (2, 3):
            raise Failed("nothing arrived")
        return 1.0

    found = run(Tape().block("tcp", value), rounds=5)
    assert len(found.values(Key("cluster", "tcp"), "python")) == 1
    assert [(m.round, m.reason) for m in found.missing] == [
        (2, "nothing arrived"), (3, "nothing arrived"),
    ]  # fmt: skip


def test_a_single_failed_reading_does_not_end_its_block() -> None:
    def run_block(labs: Labs, subject: Subject, seconds: float) -> Iterator[Any]:
        yield Key("cluster", "apply"), Failed("too slow")
        yield Key("cluster", "change"), Figure(1.0)

    keys = (Key("cluster", "apply"), Key("cluster", "change"))
    block = Block("services", "both", keys, run_block, lambda seconds: 0.0)
    found = run(block, subjects=(A,))
    assert len(found.values(keys[1], "python")) == 3
    assert found.reason(keys[0], "python") == "too slow"


def test_unstable_rows_get_further_rounds_for_all_subjects() -> None:
    tape, values = Tape(), count()

    def value(subject: Subject) -> float:
        return float(next(values)) if subject is A else 1.0

    found = run(tape.block("tcp", value), tape.block("connections"))
    assert len(found.values(Key("cluster", "tcp"), "python")) == 7
    assert len(found.values(Key("cluster", "tcp"), "kernel")) == 7
    assert len(found.values(Key("cluster", "connections"), "kernel")) == 3


def test_ctrl_c_ends_it_with_what_was_measured() -> None:
    calls = count()

    def value(subject: Subject) -> float:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return 1.0

    found = run(Tape().block("tcp", value))
    assert found.ended == "interrupted"
    assert len(found.samples) == 3


def test_the_end_of_the_time_ends_it_with_what_was_measured() -> None:
    tape = Tape()
    found = run(tape.block("services", warm=False, cost=10_000.0))
    assert (found.ended, found.samples, tape.ran) == ("out of time", [], [])


def test_samples_are_shortened_to_fit() -> None:
    given: list[float] = []

    def run_block(labs: Labs, subject: Subject, seconds: float) -> Iterator[Any]:
        given.append(seconds)
        yield Key("cluster", "tcp"), Figure(1.0)

    block = Block("tcp", "tcp", (Key("cluster", "tcp"),), run_block, lambda seconds: seconds)
    found = run(block, subjects=(A,), seconds=100.0, budget=32.0)
    assert given[1] < 10
    assert found.options["seconds"] == given[1]


def test_every_part_has_blocks_and_every_key_is_in_the_catalog() -> None:
    for quick in (False, True):
        found = blocks(tuple(PARTS), quick=quick)
        assert {block.part for block in found} == set(PARTS)
        assert all(block.cost(1.0) > 0 for block in found)
        results = Results({}, {}, "")
        results.samples = [
            engines.Sample(b.part, *key, "kernel", 1, 1.0, 0.0) for b in found for key in b.keys
        ]
        assert set(results.rows()) == {key for block in found for key in block.keys}


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(BenchError, match="part 'speed': expected some of tcp, packets"):
        blocks(["speed"], quick=False)
    with pytest.raises(BenchError, match="subject 'ovs': expected some of python"):
        choose(["python", "ovs"])


def test_too_few_descriptors_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.resource, "getrlimit", lambda which: (100, 200))
    with pytest.raises(BenchError, match="the limit of open files is 200: expected at least"):
        engines.raise_descriptors()


def test_the_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "60:00"]
