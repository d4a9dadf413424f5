"""``pylb counters``: what the daemons count, drops by their names above all."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from typing import Any

from pylb.cli.common import add_command, add_nodes, as_json, of_each, table
from pylb.cli.errors import CliError


def register(commands: Any) -> None:
    """Add the ``counters`` command."""
    parser = add_command(
        commands,
        "counters",
        "show what the daemons have counted, dropped packets by reason among it",
        "pylb counters 'drop_*' --node node1",
        "pylb counters --all",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="only these; * and ? match any (default: every)"
    )
    parser.add_argument("-a", "--all", action="store_true", help="also those that are still at 0")
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_nodes(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    answers, failed = of_each(args, lambda _, client: client.get("/counters")["counters"])
    known = {name for _, counters in answers for name in counters}
    if known:
        for pattern in args.names:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise CliError(f"no counter is called {pattern!r}: see `pylb counters --all`")
    shown = [
        (
            node,
            {
                name: value
                for name, value in counters.items()
                if (value or args.all)
                and (not args.names or any(fnmatchcase(name, p) for p in args.names))
            },
        )
        for node, counters in answers
    ]
    if args.output == "json":
        print(as_json([{"node": node, "counters": counters} for node, counters in shown]))
    else:
        rows = [
            (node, name, str(value)) for node, counters in shown for name, value in counters.items()
        ]
        print(table(("NODE", "COUNTER", "VALUE"), rows))
    return failed
