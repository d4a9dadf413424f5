"""``pylb``: one command, a module for each of its words.

A module's ``register`` adds its parsers and sets ``run``, a function from the
parsed arguments to an exit status: 0 done, 1 failed, 2 asked wrongly.  What a
command needs beyond argparse is imported when it runs, so that help is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

import pylb
from pylb.cli import (
    apply,
    bench,
    conntrack,
    counters,
    create,
    daemon,
    demo,
    expose,
    get,
    ipvs,
    lab,
    logs,
    patch,
    plan,
    run,
    service,
    sets,
    trace,
)
from pylb.cli.common import Parser
from pylb.cli.errors import CliError

_COMMANDS = (
    *(lab, apply, get, create, run, expose, patch, logs),
    *(service, ipvs, sets, trace, conntrack, counters, plan),
    *(daemon, demo, bench),
)
"""In the order of the help: the lab and its objects, what daemons do, the rest."""

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="pylb",
        description="Kubernetes Services, NAT and overlays in userspace, in a lab of namespaces.",
        epilog="example: pylb lab up -f cluster.yaml && pylb get pods -o wide",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"pylb {pylb.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's) and give its exit status.

    Raises SystemExit only for what argparse ends by itself: help, version and a
    wrong command line.
    """
    args: Any = parser().parse_args(argv)
    try:
        status = args.run(args)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:
        # The reader has gone; what is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        explained = _explained(error)
        if explained is None:
            raise
        for sentence in explained.sentences:
            print(f"pylb: {sentence}", file=sys.stderr)
        return explained.status


def _explained(error: Exception) -> CliError | None:
    """What a foreseen error says to the user; None for one that is a bug of pylb."""
    if isinstance(error, CliError):
        return error
    from pylb.control.client import ApiError, Unreachable
    from pylb.lab.errors import LabError
    from pylb.node.errors import NodeError

    if isinstance(error, ApiError):
        return CliError(*(error.errors or [error.message]))
    if isinstance(error, (Unreachable, LabError, NodeError)):
        return CliError(*str(error).splitlines())
    problems = getattr(error, "problems", None)
    if problems is not None:
        return CliError(*(str(problem) for problem in problems))
    if isinstance(error, OSError) and error.filename is not None:
        return CliError(f"{error.filename}: {error.strerror}")
    return None


if __name__ == "__main__":
    sys.exit(main())
