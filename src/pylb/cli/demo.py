"""``pylb demo``: every kind of traffic through a lab, and whether it is as it must be."""

from __future__ import annotations

import argparse
from typing import Any

from pylb.cli.common import add_command
from pylb.cli.lab import add_dataplane, need_root


def register(commands: Any) -> None:
    """Add the ``demo`` command."""
    parser = add_command(
        commands,
        "demo",
        "start a lab, send all kinds of traffic through it and tell what happened",
        "pylb demo --overlay udp",
    )
    parser.add_argument("--name", metavar="NAME", default="demo", help="lab's name (default: demo)")
    parser.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    add_dataplane(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    need_root("pylb demo")
    from pylb.lab.demo import run

    return int(run(args.name, args.dataplane, args.overlay, keep=args.keep))
