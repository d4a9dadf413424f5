"""The Maglev paper's figures 11 and 12, from the tables that pylb's scheduler ``mh`` looks into.

Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
section 5.3: how evenly a table is shared among 1 000 backends, and how much of it changes when
some of them fail together.  Run as ``python bench/maglev.py --out results`` (ten minutes;
``--quick`` is one): it prints the tables of docs/benchmarks/maglev.md and draws its
pictures.

Maglev's tables are the native dataplane's own.  Karger's ring and rendezvous hashing are here
alone, to compare with.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from array import array
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import ne
from pathlib import Path
from random import Random
from statistics import fmean, median, stdev
from typing import Any

from pylb.dataplane.native import maglev
from pylb.dataplane.python import maglev as in_python
from pylb.plan.tables import Backend
from pylb.wire.hash import siphash

BACKENDS = 1000
SMALL, LARGE = 65537, 655373
"""The paper's two sizes; both are prime."""
SIZES = (1009, 5003, 20011, SMALL, LARGE)
VIEWS = 1000
"""Points of each backend on Karger's ring, as in the paper."""
FAILED = (1, 2, 5, 10, 15, 20, 50)
REPEATS = 200
TRIALS = 3
"""Tables of each kind and size, by other hashes: chance has a large part in two of the kinds."""
FLOWS = 20_000
SEED = 2016

OVERPROVISIONED = {
    ("karger", SMALL): 0.297,
    ("rendezvous", SMALL): 0.495,
    ("karger", LARGE): 0.103,
    ("rendezvous", LARGE): 0.123,
}
"""What the paper's text says: by how much the busiest backend is above the average."""
GENERATED = {SMALL: 1.8, LARGE: 22.9}
"""Milliseconds that the paper's text gives for making one table."""

Table = Sequence[int]
"""Slots, each a position among the backends."""


def pool(count: int, heaviest: int = 1) -> list[Backend]:
    """Backends on consecutive addresses; weights go from 1 to ``heaviest`` in turn."""
    return [Backend((10 << 24) + n, 8080, 1 + n % heaviest) for n in range(1, count + 1)]


def karger(backends: Sequence[Backend], size: int, trial: int = 0) -> Table:
    """A table read off Karger's ring: slots are evenly spaced, the next point owns each.

    ``trial`` is part of what is hashed, so another one is another ring.
    """
    points = ring(tuple(backends), trial)
    owners = (points[bisect(points, (slot << 64) // size) % len(points)] for slot in range(size))
    return array("H", (point & 0xFFFF for point in owners))


@lru_cache(maxsize=1)
def ring(backends: tuple[Backend, ...], trial: int) -> list[int]:
    """`VIEWS` points of each backend: 48 bits of hash, below it the backend's position."""
    return sorted(
        siphash(b"karger's backend", b"%d %d %d %d" % (trial, b.address, b.port, view)) >> 16 << 16
        | i
        for i, b in enumerate(backends)
        for view in range(VIEWS)
    )


def rendezvous(backends: Sequence[Backend], size: int, trial: int = 0) -> Table:
    """A table by highest random weight (Thaler and Ravishankar).

    A slot's scores are one long digest of its number (and of ``trial``); a backend's is
    always at the same place, found by its address, so that another backend's absence
    does not change it.
    """
    first = min(b.address for b in backends)
    places = [b.address - first for b in backends]
    table = array("H", bytes(2 * size))
    for slot in range(size):
        digest = hashlib.shake_128(b"%d %d" % (trial, slot)).digest(4 * (max(places) + 1))
        scores = array("I", digest)
        own = [scores[place] for place in places]
        table[slot] = own.index(max(own))
    return table


def of_maglev(backends: Sequence[Backend], size: int, trial: int = 0) -> Table:
    """The native dataplane's table.  Its hash has no seed: another ``trial`` is other ports."""
    return maglev.build([b._replace(port=b.port + trial) for b in backends], size)


METHODS: dict[str, Callable[[Sequence[Backend], int, int], Table]] = {
    "maglev": of_maglev,
    "karger": karger,
    "rendezvous": rendezvous,
}


@dataclass(frozen=True, slots=True)
class Evenness:
    """The least and the most slots of a backend.

    ``low`` and ``high`` are shares of the whole table; ``under`` and ``over`` are
    ratios to what the backend's weight asks for, 1 being exact.
    """

    low: float
    high: float
    under: float
    over: float


def evenness(table: Table, backends: Sequence[Backend]) -> Evenness:
    """How a table is shared among its backends."""
    counts = Counter(table)
    shares = [counts[i] / len(table) for i in range(len(backends))]
    weight = sum(b.weight for b in backends)
    ratios = [share * weight / b.weight for share, b in zip(shares, backends, strict=True)]
    return Evenness(min(shares), max(shares), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Moved:
    """What changes when backends fail together, as shares: means of the repetitions.

    ``entries`` are all slots whose backend is another one now, ``spared`` those of
    them whose backend had not failed.  ``flows`` and ``spared_flows`` are the same of
    flows.  ``spread`` is the standard deviation of ``spared``.
    """

    failed: int
    entries: float
    spared: float
    flows: float
    spared_flows: float
    spread: float


def slots_of(flows: int, size: int) -> list[int]:
    """The slots of flows from as many clients to one Service, chosen as `mh` chooses them."""
    key = in_python.PUBLIC_KEY
    client, to = (198 << 24) + (18 << 16), b"\x0a\x60\0\x0a" + b"\xc0\0" + b"\0\x50" + b"\6"
    return [siphash(key, (client + n).to_bytes(4, "big") + to) % size for n in range(flows)]


def moved(
    backends: Sequence[Backend], size: int, failed: int, repeats: int, flows: int, rng: Random
) -> Moved:
    """Remove ``failed`` backends at random, make the table anew, and compare; ``repeats`` times."""
    before = maglev.build(backends, size)
    counts = Counter(before)
    slots = slots_of(flows, size)
    counted = Counter(before[slot] for slot in slots)
    entries, spared, moving, spared_flows = [], [], [], []
    for _ in range(repeats):
        gone = frozenset(rng.sample(range(len(backends)), failed))
        left = [i for i in range(len(backends)) if i not in gone]
        table = maglev.build([backends[i] for i in left], size)
        after = array("H", map(left.__getitem__, table))
        changed = sum(map(ne, before, after))
        entries.append(changed / size)
        spared.append((changed - sum(counts[i] for i in gone)) / size)
        changed = sum(before[slot] != after[slot] for slot in slots)
        moving.append(changed / flows)
        spared_flows.append((changed - sum(counted[i] for i in gone)) / flows)
    return Moved(
        failed,
        fmean(entries),
        fmean(spared),
        fmean(moving),
        fmean(spared_flows),
        stdev(spared) if repeats > 1 else 0.0,
    )


def milliseconds(build: Callable[[Sequence[Backend], int], Table], size: int) -> float:
    """The median of five tables of 1 000 backends."""
    backends, taken = pool(BACKENDS), []
    for _ in range(5):
        began = time.perf_counter()
        build(backends, size)
        taken.append(time.perf_counter() - began)
    return median(taken) * 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is reported: evenness by method and size, moves by size, and how long it takes.

    ``even`` is ordered by how far the busiest backend is above the average, so that the
    middle one is the median.  ``weighted`` are Maglev's figures with weights of 1 to 4;
    ``generated`` are milliseconds in C and in Python by size.
    """

    backends: int
    even: dict[tuple[str, int], list[Evenness]]
    moves: dict[int, list[Moved]]
    weighted: dict[int, Evenness]
    weighted_moves: list[Moved]
    generated: dict[int, tuple[float, float]]


def measure(
    count: int, sizes: Sequence[int], failed: Sequence[int], repeats: int, flows: int = FLOWS
) -> Figures:
    """Everything, for ``count`` backends; moves are looked at for the paper's sizes that are given.

    With none of those among ``sizes`` it is the largest that is looked at.
    """
    backends, weighted = pool(count), pool(count, heaviest=4)
    closer = [size for size in sizes if size in (SMALL, LARGE)] or [max(sizes)]
    even: dict[tuple[str, int], list[Evenness]] = {}
    for name, build in METHODS.items():
        for trial in range(TRIALS):
            for size in sizes:
                table = build(backends, size, trial)
                even.setdefault((name, size), []).append(evenness(table, backends))
    for trials in even.values():
        trials.sort(key=lambda each: each.over)
    moves = {
        size: [moved(backends, size, k, repeats, flows, Random(SEED + k)) for k in failed]
        for size in closer
    }
    return Figures(
        count,
        even,
        moves,
        {size: evenness(maglev.build(weighted, size), weighted) for size in closer},
        [moved(weighted, closer[0], k, repeats, flows, Random(SEED + k)) for k in failed],
        {s: (milliseconds(maglev.build, s), milliseconds(in_python.build, s)) for s in closer},
    )


def report(figures: Figures) -> str:
    """The figures as Markdown tables."""
    closer = list(figures.moves)
    lines = [
        "| table | entries | least, % of entries | most, % | above the average, % | paper, % |",
        "|---|---|---|---|---|---|",
    ]
    for name in METHODS:
        for size in closer:
            trials = figures.even[name, size]
            of, least, most = trials[len(trials) // 2], trials[0], trials[-1]
            paper = OVERPROVISIONED.get((name, size))
            lines.append(
                f"| {name} | {number(size)} | {percent(of.low, 4)} | {percent(of.high, 4)} "
                f"| {percent(of.over - 1)} ({percent(least.over - 1)} to "
                f"{percent(most.over - 1)}) | {'-' if paper is None else percent(paper)} |"
            )
    for size in closer:
        of = figures.weighted[size]
        lines.append(
            f"| maglev, weights 1 to 4 | {number(size)} | {percent(of.low, 4)} "
            f"| {percent(of.high, 4)} | {percent(of.over - 1)}, its weight's share | - |"
        )
    lines += [
        "",
        "| entries | failed, % | entries changed, % | of live backends, % | deviation "
        "| flows moved, % | of live backends, % |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [(number(size), each) for size in closer for each in figures.moves[size]]
    rows += [(f"{number(closer[0])}, weights", each) for each in figures.weighted_moves]
    lines += [
        f"| {name} | {percent(m.failed / figures.backends)} | {percent(m.entries, 2)} "
        f"| {percent(m.spared, 2)} | {percent(m.spread, 2)} | {percent(m.flows, 2)} "
        f"| {percent(m.spared_flows, 2)} |"
        for name, m in rows
    ]
    lines += ["", "| entries | C, ms | Python, ms | paper, ms |", "|---|---|---|---|"]
    lines += [
        f"| {number(size)} | {c:.1f} | {python:.0f} | {GENERATED.get(size, '-')} |"
        for size, (c, python) in figures.generated.items()
    ]
    return "\n".join(lines) + "\n"


def percent(share: float, digits: int = 1) -> str:
    """A share in hundredths, without a sign."""
    return f"{100 * share:.{digits}f}"


def number(of: int) -> str:
    """Digits in threes."""
    return f"{of:,}".replace(",", " ")


_COLOURS = {"maglev": "#c1440e", "karger": "#3572a5", "rendezvous": "#2e8b57"}
_PAPER = {"color": "black", "marker": "x", "linestyle": "none", "zorder": 5}


def draw(figures: Figures, folder: Path) -> None:
    """The pictures, as SVG and PNG; raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "pylb"
    from matplotlib import pyplot

    for name, fill in (("maglev-even", _even), ("maglev-moved", _moved)):
        figure = pyplot.figure(figsize=(9, 4.2), layout="constrained")
        fill(figure, figures)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        for kind in ("svg", "png"):
            # Without a date the same figures give the same file.
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(folder / f"{name}.{kind}", dpi=120, metadata=metadata)
        pyplot.close(figure)


def _even(figure: Any, figures: Figures) -> None:
    """On the left figure 11; on the right how far the busiest backend is above the average."""
    bars, curve = figure.subplots(1, 2)
    places: list[int] = []
    labels: list[str] = []
    for size in figures.moves:
        for name in METHODS:
            of, place = figures.even[name, size][TRIALS // 2], len(places)
            height = max(of.high - of.low, 0.0006 / 100)
            bars.bar(place, 100 * height, 0.55, 100 * of.low, color=_COLOURS[name])
            for at, align in ((of.low, "top"), (of.high, "bottom")):
                shift = -0.002 if align == "top" else 0.002
                bars.text(place, 100 * at + shift, f"{at:.3%}", ha="center", va=align, fontsize=7)
            places.append(place)
            labels.append(f"{name.capitalize()}\n{number(size)}")
    bars.set_xticks(places, labels, fontsize=7)
    bars.margins(y=0.12)
    bars.set_ylim(bottom=0)
    bars.set_ylabel("% of the entries")
    bars.set_title("Least and most entries of a backend", loc="left", fontsize=10)
    for name in METHODS:
        points = [
            (size, 100 * (trials[TRIALS // 2].over - 1))
            for (method, size), trials in figures.even.items()
            if method == name
        ]
        curve.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=4,
            label=name.capitalize(),
            c=_COLOURS[name],
        )
    paper = [(size, 100 * over) for (_, size), over in OVERPROVISIONED.items()]
    curve.plot(*zip(*paper, strict=True), **_PAPER, label="the paper's text")
    curve.set_xscale("log")
    curve.set_yscale("log")
    curve.set_yticks([0.01, 0.1, 1, 10, 100, 1000], ["0.01", "0.1", "1", "10", "100", "1000"])
    curve.set_xlabel("entries of the table")
    curve.set_ylabel("%")
    curve.set_title("The busiest backend above the average", loc="left", fontsize=10)
    curve.legend(frameon=False, fontsize=8)


def _moved(figure: Any, figures: Figures) -> None:
    """Figure 12: all changed entries on the left, those of live backends on the right."""
    whole, spared = figure.subplots(1, 2)
    colours = ("#c1440e", "#3572a5")
    for (size, moves), colour in zip(figures.moves.items(), colours, strict=False):
        failed = [100 * each.failed / figures.backends for each in moves]
        style = {"marker": "o", "markersize": 4, "color": colour, "label": number(size)}
        whole.plot(failed, [100 * each.entries for each in moves], **style)
        spared.plot(failed, [100 * each.spared for each in moves], **style)
    failed = [100 * each.failed / figures.backends for each in figures.weighted_moves]
    style = {"color": colours[0], "linestyle": ":", "label": f"{number(SMALL)}, weights 1 to 4"}
    spared.plot(failed, [100 * each.spared for each in figures.weighted_moves], **style)
    whole.plot(failed, failed, color="#9a9a9a", linestyle="--", label="the failed backends' own")
    titles = ("All entries that change", "Those of backends that live on")
    for axes, title in zip((whole, spared), titles, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("backends that fail together, %")
        axes.set_ylabel("% of the entries")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=8)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("results"))
    parser.add_argument("--quick", action="store_true", help="few sizes and repetitions")
    args = parser.parse_args()
    if args.quick:
        figures = measure(BACKENDS, (5003, SMALL), (1, 10, 20), 20)
    else:
        figures = measure(BACKENDS, SIZES, FAILED, REPEATS)
    args.out.mkdir(parents=True, exist_ok=True)
    text = report(figures)
    (args.out / "maglev.md").write_text(text, encoding="utf-8")
    print(text, end="")
    try:
        draw(figures, args.out)
    except ImportError:
        print("no pictures: matplotlib is not installed (`pip install 'pylb[bench]'`)")


if __name__ == "__main__":
    main()
