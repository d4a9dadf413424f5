"""``pylb plan``: what a node has to do, and the rules that would make the kernel do it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from pylb.cli.common import add_command, add_lab, as_json, daemons
from pylb.cli.errors import CliError

if TYPE_CHECKING:
    from pylb.plan.tables import Plan

FORMATS = ("json", "nft", "iptables")


def register(commands: Any) -> None:
    """Add the ``plan`` command and its action."""
    parser = add_command(
        commands,
        "plan",
        "show what a node has to do",
        "pylb plan show --node node1 --as nft",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    show = add_command(
        actions,
        "show",
        "show a node's plan, or the rules that it is for the kernel",
        "pylb plan show --node node1 --as nft -f cluster.yaml",
        "pylb plan show --node node1 --as iptables --lab two",
    )
    show.add_argument("--node", required=True, metavar="NODE", help="whose plan")
    show.add_argument(
        "--as",
        dest="format",
        choices=FORMATS,
        default="json",
        help="json is the plan itself, nft and iptables what it is for nft -f and "
        "iptables-restore (default: json)",
    )
    show.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="a manifest or a folder of them; may be repeated (default: the lab's policy)",
    )
    show.add_argument(
        "--overlay",
        choices=("vxlan", "udp", "host-gw"),
        help="with -f (default: the Lab document's, else vxlan)",
    )
    show.add_argument(
        "--random-fully",
        action="store_true",
        help="rules that choose every source port at random, as kube-proxy's may",
    )
    show.add_argument(
        "--no-track-overlay",
        action="store_true",
        help="with --as nft: rules that keep the outer VXLAN flows out of conntrack",
    )
    add_lab(show)
    show.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    from pylb.dataplane.kernel import iptables, nft
    from pylb.dataplane.kernel.names import Options
    from pylb.plan.tables import PlanError

    if args.overlay is not None and not args.files:
        raise CliError("--overlay goes with -f: a lab has its overlay", status=2)
    options = Options(args.random_fully, not args.no_track_overlay)
    try:
        plan = _of_files(args) if args.files else _of_lab(args)
        if args.format == "json":
            print(as_json(plan.to_json()))
        elif args.format == "nft":
            print(nft.ruleset(plan, options), end="")
        else:
            print(iptables.ruleset(plan, options), end="")
    except PlanError as error:
        raise CliError(str(error)) from None
    return 0


def _of_files(args: argparse.Namespace) -> Plan:
    from pylb.plan.compile import compile
    from pylb.policy.model import Overlay
    from pylb.policy.store import Store, read_all

    overlay = Overlay(args.overlay) if args.overlay is not None else None
    return compile(Store.empty(overlay).apply(read_all(args.files)).policy, args.node)


def _of_lab(args: argparse.Namespace) -> Plan:
    from pylb.plan.reading import plan_from_json

    args.socket = None
    [(_, client)] = daemons(args)
    return plan_from_json(client.get("/plan"))
