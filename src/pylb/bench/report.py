"""The results as Markdown: what was measured on what, and a table for each metric."""

from __future__ import annotations

from pylb.bench.catalog import METRICS, PATHS
from pylb.bench.progress import clock
from pylb.bench.results import Key, Results, SubjectState
from pylb.bench.stats import LEAST_ROUNDS, Summary, Verdict, verdict
from pylb.bench.subjects import BASE, BASES, SUBJECTS

NOTE = (
    "Medians; least and most of all samples beside them. A ratio is of medians of this run. "
    "A verdict is given only where the spreads do not meet; a figure whose spread is wider than "
    "{tolerance:.0%} (packets {packets:.0%}) is *unstable* and not given."
)


def figure(value: float) -> str:
    """A value with three or four significant digits."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}" if size else "0"


def markdown(results: Results) -> str:
    """The whole report."""
    keys = results.rows()
    lines = ["# pylb bench", "", *_header(results), ""]
    missing = [s for s in results.subjects if s.reason]
    if missing:
        lines += ["Not available:", ""]
        lines += [f"- {s.name} ({s.title}): {s.reason}" for s in missing]
        lines.append("")
    for path in dict.fromkeys(key.path for key in keys):
        lines += [f"## {PATHS[path].title[0].upper()}{PATHS[path].title[1:]}", ""]
        own = [key for key in keys if key.path == path]
        for metric in dict.fromkeys(key.metric for key in own):
            lines += _table(results, [key for key in own if key.metric == metric])
    return "\n".join(lines).rstrip() + "\n"


def _header(results: Results) -> list[str]:
    machine = results.machine
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items() if v)
    virtual = ", virtual" if machine.get("virtual") else ""
    options = results.options
    tolerances = sorted({metric.tolerance for metric in METRICS.values()})
    return [
        f"{results.started}, {clock(results.seconds)} minutes, {results.ended}; "
        f"{options['rounds']} rounds, {options['seconds']:.1f} s a sample.",
        "",
        f"Linux {machine['kernel']}, {machine['cpus']} CPUs of {machine['cpu']}{virtual}, "
        f"{machine['system']}; load {machine['load']:.2f} at the start, "
        f"{machine.get('stolen', 0):.1f} s stolen by the hypervisor. {versions}.",
        "",
        NOTE.format(tolerance=tolerances[0], packets=tolerances[-1]),
    ]


def _table(results: Results, keys: list[Key]) -> list[str]:
    metric = METRICS[keys[0].metric]
    curve = any(key.x is not None for key in keys)
    axis = ["flows" if metric.name == "memory" else "Services"] if curve else []
    head = [*axis, "subject", metric.unit, "least to most", "rounds"]
    head += [f"x {base}" for base in BASES]
    head += [f"against {BASE}"]
    more = "more is better" if metric.more_is_better else "less is better"
    lines = [
        f"**{metric.title}**, {more}",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for key in keys:
        for state in results.subjects:
            row = _row(results, key, state)
            if row is not None:
                first = (
                    [f"{key.x:,}".replace(",", " ") if key.x is not None else ""] if curve else []
                )
                lines.append(f"| {' | '.join([*first, *row])} |")
    return [*lines, ""]


def _row(results: Results, key: Key, state: SubjectState) -> list[str] | None:
    """A subject's cells; None when it has no part in the row."""
    own = results.summary(key, state.name)
    if own is None:
        known = any(m.key == key and m.subject == state.name for m in results.missing)
        if not known:
            return None
        return [state.name, "n/a", "", "", *("" for _ in BASES), results.reason(key, state.name)]
    tolerance = METRICS[key.metric].tolerance
    value = figure(own.median) if own.stable(tolerance) else "*unstable*"
    cells = [state.name, value, f"{figure(own.least)} to {figure(own.most)}", str(own.count)]
    cells += [_ratio(results, key, state, own, base) for base in BASES]
    return [*cells, said(results, key, state, own)]


def _ratio(results: Results, key: Key, state: SubjectState, own: Summary, base: str) -> str:
    subject = SUBJECTS.get(state.name)
    other = results.summary(key, base)
    if other is None or not other.median or (subject and not subject.compared):
        return ""
    tolerance = METRICS[key.metric].tolerance
    if not (own.stable(tolerance) and other.stable(tolerance)):
        return ""
    return f"{own.median / other.median:.2f}"


def said(results: Results, key: Key, state: SubjectState, own: Summary) -> str:
    """The last cell: what can be said of a subject against the kernel."""
    subject, metric = SUBJECTS.get(state.name), METRICS[key.metric]
    base = results.summary(key, BASE)
    if state.name == BASE:
        return "" if own.count >= LEAST_ROUNDS else Verdict.FEW
    if subject and not subject.compared:
        return f"another overlay ({state.overlay})"
    if base is None:
        return ""
    return verdict(own, base, metric.tolerance, more_is_better=metric.more_is_better)
