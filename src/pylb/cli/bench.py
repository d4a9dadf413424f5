"""``pylb bench``: dataplanes side by side on one lab, and two such runs against each other."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from pylb.cli.common import add_command, as_json
from pylb.cli.errors import CliError
from pylb.cli.lab import need_root

_INTERRUPTED = 130


def register(commands: Any) -> None:
    """Add the ``bench`` command."""
    parser = add_command(
        commands,
        "bench",
        "measure dataplanes side by side, or compare two such runs",
        "pylb bench --quick",
        "pylb bench run tcp latency --subjects python,kernel --out results",
        "pylb bench compare old/results.json new/results.json",
    )
    parser.description = (
        "Measure dataplanes side by side, or compare two such runs.\n\n"
        "PART is any of tcp, packets, connections, latency, paths, services, memory and\n"
        "integrity (default: all; with --quick the first four)."
    )
    parser.add_argument(
        "words",
        metavar="[run] PART... | compare OLD NEW",
        nargs="*",
        help="what to measure, or two results.json to compare",
    )
    parser.add_argument("--quick", action="store_true", help="under 3 minutes instead of under 40")
    parser.add_argument(
        "--subjects", metavar="A,B", help="which of them (default: every one that there is)"
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=3, help="(default: 3)")
    parser.add_argument(
        "--seconds", metavar="S", type=float, help="of one sample (default: 1.5; quick 0.6)"
    )
    parser.add_argument(
        "--out", metavar="DIR", default="pylb-bench", help="for the files (default: pylb-bench)"
    )
    parser.add_argument(
        "--name", metavar="NAME", default="bench", help="what the labs' names begin with"
    )
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    parser.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pylb.bench.errors import BenchError

    words = list(args.words)
    try:
        if words[:1] == ["compare"]:
            return _compare(args, words[1:])
        return _bench(args, words[1:] if words[:1] == ["run"] else words)
    except BenchError as error:
        raise CliError(str(error)) from None


def _compare(args: argparse.Namespace, files: list[str]) -> int:
    if len(files) != 2:
        raise CliError("expected two files: pylb bench compare OLD NEW", status=2)
    from pylb.bench import compare, results

    old, new = (results.load(Path(file)) for file in files)
    rows = list(compare.compare(old, new))
    if args.output == "json":
        print(as_json(compare.to_json(rows)))
    else:
        print(compare.markdown(old, new, rows), end="")
    return 1 if any(row.change is compare.Change.WORSE for row in rows) else 0


def _bench(args: argparse.Namespace, parts: list[str]) -> int:
    if not 1 <= args.rounds <= 100:
        raise CliError(f"--rounds {args.rounds}: expected 1 to 100", status=2)
    if args.seconds is not None and not 0.3 <= args.seconds <= 60:
        raise CliError(f"--seconds {args.seconds:g}: expected 0.3 to 60", status=2)
    need_root("pylb bench")
    from pylb.bench import report
    from pylb.bench.progress import Progress
    from pylb.bench.run import Asked, run

    asked = Asked(
        parts,
        None if args.subjects is None else [name for name in args.subjects.split(",") if name],
        args.quick,
        args.rounds,
        args.seconds,
        Path(args.out),
        args.name,
    )
    signal.signal(signal.SIGTERM, _interrupt)
    done = run(asked, Progress(None if args.quiet else sys.stderr))
    if args.output == "json":
        print(as_json(done.to_json()))
    else:
        print(report.markdown(done), end="")
    return _INTERRUPTED if done.ended == "interrupted" else 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: with what there is, and nothing left behind."""
    raise KeyboardInterrupt
