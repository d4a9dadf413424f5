"""``pylb daemon``: the daemon of one node, in the network namespace it is started in."""

from __future__ import annotations

import argparse
from typing import Any

from pylb.cli.common import add_command, add_lab
from pylb.cli.errors import CliError
from pylb.cli.lab import add_dataplane, need_root


def register(commands: Any) -> None:
    """Add the ``daemon`` command."""
    parser = add_command(
        commands,
        "daemon",
        "run the daemon of one node in this network namespace",
        "ip netns exec node1 pylb daemon --node node1 -f cluster.yaml",
        "ip netns exec node1 pylb daemon --node node1 --clean",
    )
    parser.add_argument("--node", required=True, metavar="NODE", help="which Node this is")
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="a manifest or a folder of them; may be repeated",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="where socket, log and secret are kept")
    parser.add_argument(
        "--uplink", metavar="LINK", default="eth0", help="the underlay's link (default: eth0)"
    )
    parser.add_argument(
        "--clean", action="store_true", help="remove what a daemon left in this namespace, and end"
    )
    parser.add_argument(
        "--controlled", action="store_true", help="the policy comes over the control socket"
    )
    add_lab(parser)
    add_dataplane(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if not args.clean and args.controlled == bool(args.files):
        raise CliError("expected either -f FILE or --controlled", status=2)
    need_root("pylb daemon")
    from pylb.node.daemon import run

    return int(
        run(
            args.node,
            args.files,
            args.lab,
            run_dir=args.run_dir,
            dataplane=args.dataplane,
            overlay=args.overlay,
            uplink=args.uplink,
            clean=args.clean,
            controlled=args.controlled,
        )
    )
