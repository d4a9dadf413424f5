"""What the commands share: options, whom to talk to, tables and documents."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pylb.cli.errors import CliError

if TYPE_CHECKING:
    from pylb.control.client import Client

T = TypeVar("T")

EXAMPLE = argparse.RawDescriptionHelpFormatter

READ = 10.0
"""Seconds that a controller may take to say what there is."""
CHANGE = 120.0
"""Seconds that it may take to change that: daemons agree, pods end and start."""


class Parser(argparse.ArgumentParser):
    """A parser that can take a command after ``--``, options standing before it in any order.

    ``args.command`` is then that command's words.
    """

    takes_command = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; argparse itself would look for options in the command too."""
        words = list(sys.argv[1:] if args is None else args)
        if not self.takes_command:
            return super().parse_known_args(words, namespace)
        at = words.index("--") if "--" in words else len(words)
        found, unknown = super().parse_known_args(words[:at], namespace)
        found.command = words[at + 1 :]
        return found, unknown

    def format_usage(self) -> str:
        """With the command at the end, where there can be one."""
        usage = super().format_usage()
        return f"{usage.rstrip()} [-- CMD...]\n" if self.takes_command else usage


def add_command(
    commands: Any,
    name: str,
    summary: str,
    *examples: str,
    aliases: Sequence[str] = (),
    takes_command: bool = False,
) -> Parser:
    """A sub-command's parser, with its examples below its options."""
    listed = "\n".join(f"  {example}" for example in examples)
    parser: Parser = commands.add_parser(
        name,
        aliases=aliases,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"{'examples' if len(examples) > 1 else 'example'}:\n{listed}",
        formatter_class=EXAMPLE,
        allow_abbrev=False,
    )
    parser.takes_command = takes_command
    return parser


def add_lab(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """``--lab``: which lab is meant.  ``again``: the parser above takes it too."""
    default = os.environ.get("PYLB_LAB", "pylb")
    parser.add_argument(
        "--lab",
        metavar="NAME",
        default=argparse.SUPPRESS if again else default,
        help="the lab's name (default: $PYLB_LAB, else pylb)",
    )


def add_dry_run(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """``--dry-run``.  ``again``: the parser above takes it too."""
    parser.add_argument(
        "--dry-run",
        choices=["none", "client"],
        nargs="?",
        const="client",
        default=argparse.SUPPRESS if again else "none",
        help="client: only say what would be done",
    )


def add_nodes(parser: argparse.ArgumentParser) -> None:
    """``--lab``, ``--node`` and ``--socket``: which daemons are meant."""
    add_lab(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--node", metavar="NODE", help="only this node (default: every node)")
    which.add_argument(
        "--socket", metavar="PATH", help="a daemon's control socket, for one outside a lab"
    )


def controller(lab: str, timeout: float | None = None) -> Client:
    """A client of the lab's controller, with ``timeout`` (default: `READ`) seconds for an answer.

    Raises `CliError` when there is no such lab.
    """
    from pylb.control.client import Client

    paths = _paths(lab)
    if not paths.root.is_dir():
        raise CliError(f"no lab called {lab!r} is up: start one with `pylb lab up`")
    return Client(paths.api, who=f"controller of lab {lab!r}", timeout=timeout or READ)


def daemons(args: argparse.Namespace) -> list[tuple[str, Client]]:
    """(node, client) of each daemon that the options name, ordered by node.

    Raises `CliError` when the lab is not up or has no such node.
    """
    from pylb.control.client import Client

    if args.socket is not None:
        return [("", Client(args.socket))]
    paths = _paths(args.lab)
    folder = paths.root / "nodes"
    with inside():
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise CliError(f"no lab called {args.lab!r} is up: start one with `pylb lab up`")
    if args.node is not None:
        if args.node not in names:
            listed = ", ".join(names)
            raise CliError(f"lab {args.lab!r} has no node {args.node!r}: expected {listed}")
        names = [args.node]
    return [(name, Client(paths.node(name).api, who=f"daemon of node {name!r}")) for name in names]


def of_each(
    args: argparse.Namespace, ask: Callable[[str, Client], T]
) -> tuple[list[tuple[str, T]], int]:
    """(node, answer) of each daemon that the options name, and the exit status.

    A daemon that does not answer is told of on stderr, and makes the status 1.
    """
    from pylb.control.client import ApiError, Unreachable

    answers, failed = [], 0
    for node, client in daemons(args):
        try:
            answers.append((node, ask(node, client)))
        except (Unreachable, ApiError) as error:
            print(f"pylb: {error}", file=sys.stderr)
            failed = 1
    return answers, failed


def show_each(texts: Sequence[tuple[str, str]]) -> None:
    """Print a text for each node, below its name when there are several."""
    for number, (node, text) in enumerate(texts):
        if len(texts) > 1:
            print(f"{chr(10) if number else ''}# {node}")
        print(text)


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """For looks into a lab's folder: raises `CliError` when only root may take them."""
    try:
        yield
    except PermissionError as error:
        raise CliError(f"not allowed to use {error.filename}: run it as root (sudo)") from None


def _paths(lab: str) -> Any:
    from pylb.control.paths import LabPaths
    from pylb.lab.names import check_lab_name

    check_lab_name(lab)
    return LabPaths(lab)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], least: int = 6) -> str:
    """Rows under their header as kubectl aligns them: at least ``least`` wide, 3 apart."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [
        max(least, max(len(line[column]) for line in lines) + 3) for column in range(len(header))
    ]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_json(value: Any) -> str:
    """A document for a program to read."""
    return json.dumps(value, indent=2)


def as_yaml(value: Any) -> str:
    """The same as YAML, in the order that the keys have."""
    import yaml

    class Plain(yaml.SafeDumper):
        """Without aliases, as kubectl prints what stands twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    text = yaml.dump(value, Dumper=Plain, sort_keys=False, default_flow_style=False)
    return str(text).rstrip("\n")
