"""The reproduction of the Maglev paper's figures, on small tables."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from bench import maglev as paper

COUNT, SMALLER, LARGER = 10, 251, 1009


@pytest.fixture(scope="module")
def figures() -> paper.Figures:
    return paper.measure(COUNT, (SMALLER, LARGER), (1, 3), repeats=4, flows=500)


@pytest.mark.parametrize("method", paper.METHODS)
def test_a_table_is_full_and_its_shares_make_a_whole(method: str) -> None:
    backends = paper.pool(COUNT)
    table = paper.METHODS[method](backends, SMALLER, 0)
    assert len(table) == SMALLER
    shares = [table.count(i) / SMALLER for i in range(COUNT)]
    assert sum(shares) == pytest.approx(1)
    found = paper.evenness(table, backends)
    assert (found.low, found.high) == (min(shares), max(shares))
    assert found.low * COUNT == pytest.approx(found.under)
    assert found.under <= 1 <= found.over


@pytest.mark.parametrize("size", [SMALLER, LARGER])
def test_maglev_is_as_even_as_a_table_can_be(figures: paper.Figures, size: int) -> None:
    for found in figures.even["maglev", size]:
        assert round(found.high * size) - round(found.low * size) == 1
    least_of_others = min(
        trials[0].over
        for (name, at), trials in figures.even.items()
        if at == size and name != "maglev"
    )
    assert figures.even["maglev", size][-1].over < least_of_others


@pytest.mark.parametrize("method", ["karger", "rendezvous"])
def test_these_move_nothing_of_backends_that_live_on(method: str) -> None:
    backends = paper.pool(COUNT)
    gone = 4
    left = [*range(gone), *range(gone + 1, COUNT)]
    build = paper.METHODS[method]
    before = build(backends, SMALLER, 0)
    after = [left[i] for i in build([backends[i] for i in left], SMALLER, 0)]
    assert all(now == then for now, then in zip(after, before, strict=True) if then != gone)
    assert gone in before


@pytest.mark.parametrize("heaviest", [1, 4])
def test_at_least_the_failed_backends_entries_move(heaviest: int) -> None:
    backends = paper.pool(COUNT, heaviest)
    none = paper.moved(backends, LARGER, 0, 2, 500, Random(1))
    assert (none.entries, none.spared, none.flows, none.spared_flows) == (0, 0, 0, 0)
    for failed in (1, 3):
        found = paper.moved(backends, LARGER, failed, 10, 500, Random(1))
        assert 0 < found.spared < found.entries < 1
        assert 0 <= found.spared_flows < found.flows < 1
        if heaviest == 1:
            # Shares differ by one slot at the most.
            own = found.entries - found.spared
            assert own == pytest.approx(failed / COUNT, abs=failed / LARGER)


def test_the_report_has_a_row_for_each(figures: paper.Figures) -> None:
    rows = [line for line in paper.report(figures).splitlines() if line.startswith("| ")]
    heads, moves, times = 3, len(figures.moves[LARGER]) * 2, 1
    assert len(rows) == heads + len(paper.METHODS) + 1 + moves + times
    assert sum(row.startswith("| 1 009 |") for row in rows) == 2 + times


def test_pictures(figures: paper.Figures, tmp_path: Path) -> None:
    paper.draw(figures, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"maglev-{name}.{kind}" for name in ("even", "moved") for kind in ("svg", "png")
    }
