"""``pylb sets``: the ipsets that kube-proxy's IPVS mode would keep, as ipset lists them."""

from __future__ import annotations

import argparse
from typing import Any

from pylb.cli.common import add_command, add_nodes, as_json, of_each, show_each
from pylb.cli.errors import CliError
from pylb.cli.service import load_balancers


def register(commands: Any) -> None:
    """Add the ``sets`` command."""
    parser = add_command(
        commands,
        "sets",
        "show what would be in kube-proxy's ipsets, in ipset's layout",
        "pylb sets KUBE-CLUSTER-IP --node node1",
        "pylb sets -t",
    )
    parser.add_argument("name", metavar="SET", nargs="?", help="only this (default: every set)")
    parser.add_argument("-n", "--name", dest="names", action="store_true", help="names alone")
    parser.add_argument("-t", "--terse", action="store_true", help="without the members")
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_nodes(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pylb.observe import ipsets

    if args.name is not None and args.name not in ipsets.TYPES:
        known = ", ".join(ipsets.TYPES)
        raise CliError(f"there is no set {args.name!r}: expected one of {known}")
    plans, failed = of_each(args, lambda node, client: client.get("/plan"))
    services = load_balancers(args, plans)
    found = [
        (node, [s for s in ipsets.ipsets(plan, services) if args.name in (None, s.name)])
        for node, plan in plans
    ]
    if args.output == "json":
        print(as_json([{"node": n, "sets": [s.to_json() for s in sets]} for n, sets in found]))
    elif args.names:
        show_each([(node, "\n".join(s.name for s in sets)) for node, sets in found])
    else:
        show_each([(node, ipsets.listing(sets, terse=args.terse)) for node, sets in found])
    return failed
