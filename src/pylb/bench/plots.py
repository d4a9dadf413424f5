"""Pictures of the results, as SVG and PNG: bars with their spread, and curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pylb.bench.catalog import METRICS, PATHS
from pylb.bench.errors import NotAvailable
from pylb.bench.results import Key, Results

_COLOURS = {
    "python": "#3572a5",
    "python-udp": "#8fb8d8",
    "native": "#c1440e",
    "native-udp": "#e59866",
    "kernel": "#4d4d4d",
    "kernel-notrack": "#9a9a9a",
    "kernel-iptables": "#c9c9c9",
    "haproxy": "#2e8b57",
    "nginx-stream": "#90c8a4",
}
_OTHER = "#b0b0b0"


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw everything that there are figures for; gives the files.

    Raises `NotAvailable` without matplotlib, and OSError.
    """
    pyplot = _pyplot()
    files: list[Path] = []
    keys = [key for key in results.rows() if any(s.key == key for s in results.samples)]
    for metric in dict.fromkeys(key.metric for key in keys):
        own = [key for key in keys if key.metric == metric]
        if METRICS[metric].unit == "%":
            continue
        figure, axes = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        if any(key.x is not None for key in own):
            _curve(axes, results, own)
        else:
            _bars(axes, results, own)
        axes.set_title(METRICS[metric].title, loc="left", fontsize=11)
        axes.set_ylabel(METRICS[metric].unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for kind in ("svg", "png"):
            path = folder / f"{metric}.{kind}"
            # Without a date or random identifiers the same results give the same file.
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(path, dpi=120, metadata=metadata)
            files.append(path)
        pyplot.close(figure)
    return files


def _pyplot() -> Any:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        mpl.rcParams["svg.hashsalt"] = "pylb"
        from matplotlib import pyplot
    except ImportError:
        raise NotAvailable(
            "matplotlib is not installed: `pip install 'pylb[bench]'` brings it"
        ) from None
    return pyplot


def _names(results: Results, keys: list[Key]) -> list[str]:
    """The subjects that have figures in some of the rows."""
    return [s.name for s in results.subjects if any(results.values(key, s.name) for key in keys)]


def _bars(axes: Any, results: Results, keys: list[Key]) -> None:
    """A group of bars for each path; a line from the least to the most sample."""
    names = _names(results, keys)
    width = 0.8 / max(1, len(names))
    least, most = float("inf"), 0.0
    for number, name in enumerate(names):
        places, heights, below, above = [], [], [], []
        for group, key in enumerate(keys):
            found = results.summary(key, name)
            if found is None:
                continue
            places.append(group + (number - (len(names) - 1) / 2) * width)
            heights.append(found.median)
            below.append(found.median - found.least)
            above.append(found.most - found.median)
            least, most = min(least, found.median), max(most, found.median)
        axes.bar(
            places,
            heights,
            width * 0.92,
            yerr=[below, above],
            capsize=2,
            color=_COLOURS.get(name, _OTHER),
            error_kw={"linewidth": 0.8},
            label=name,
        )
    if least > 0 and most / least > 30:
        axes.set_yscale("log")
    # With several there is no room for more than their names.
    titles = [key.path if len(keys) > 1 else PATHS[key.path].title for key in keys]
    axes.set_xticks(range(len(keys)), titles, fontsize=9)


def _curve(axes: Any, results: Results, keys: list[Key]) -> None:
    """A line for each subject over the curve's axis."""
    for name in _names(results, keys):
        points = [
            (key.x, found)
            for key in keys
            if key.x is not None and (found := results.summary(key, name)) is not None
        ]
        axes.errorbar(
            [x for x, _ in points],
            [found.median for _, found in points],
            yerr=[
                [found.median - found.least for _, found in points],
                [found.most - found.median for _, found in points],
            ],
            marker="o",
            capsize=3,
            color=_COLOURS.get(name, _OTHER),
            label=name,
        )
    axes.set_xscale("log")
    ticks = sorted({key.x for key in keys if key.x is not None})
    axes.set_xticks(ticks, [f"{tick:,}".replace(",", " ") for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tracked flows" if keys[0].metric == "memory" else "Services")
