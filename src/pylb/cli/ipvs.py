"""``pylb ipvs``: what the daemons balance, as ipvsadm shows it."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from pylb.cli.common import add_command, add_nodes, as_json, of_each, show_each
from pylb.cli.errors import CliError

if TYPE_CHECKING:
    from pylb.control.client import Client
    from pylb.dataplane.base import FlowView
    from pylb.observe.ipvs import Sample, VirtualServer


def register(commands: Any) -> None:
    """Add the ``ipvs`` command."""
    parser = add_command(
        commands,
        "ipvs",
        "show virtual servers and their real servers in ipvsadm's layout",
        "pylb ipvs -ln --node node1",
        "pylb ipvs -ln --stats -t 10.96.0.10:80",
        "pylb ipvs -ln --rate --interval 5",
    )
    parser.add_argument("-l", "-L", "--list", action="store_true", help="list: there is no other")
    parser.add_argument("-n", "--numeric", action="store_true", help="numbers: there is no other")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--stats", action="store_true", help="connections, packets and bytes of tracked flows"
    )
    what.add_argument("--rate", action="store_true", help="each of them a second, as of now")
    what.add_argument("-c", "--connection", action="store_true", help="the connections")
    parser.add_argument("--exact", action="store_true", help="spell large numbers out")
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="S", help="what --rate measures (default: 1)"
    )
    service = parser.add_mutually_exclusive_group()
    for short, name in (("-t", "tcp"), ("-u", "udp")):
        service.add_argument(
            short, f"--{name}-service", dest=name, metavar="IP:PORT", help=f"only this, of {name}"
        )
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_nodes(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.interval <= 0:
        raise CliError(f"--interval {args.interval:g}: expected more than 0", status=2)
    only = _only(args)
    before: dict[str, list[FlowView]] = {}
    if args.rate:
        answers, failed = of_each(args, _flows)
        if failed:
            return failed
        before = dict(answers)
        time.sleep(args.interval)
    taken: list[tuple[str, tuple[list[VirtualServer], list[Sample]]]]
    taken, failed = of_each(args, lambda node, client: _servers(args, client, before.get(node)))
    shown = [
        (node, ([s for s in servers if only in (None, (s.protocol, s.at))], samples))
        for node, (servers, samples) in taken
    ]
    if only is not None and not failed:
        some = [each for each in shown if each[1][0]]
        if not some:
            print("No such service", file=sys.stderr)
            return 1
        # A node port at a node's address is that node's alone.
        shown = some
    if args.output == "json":
        told = [
            {"node": node, "services": [server.to_json() for server in servers]}
            for node, (servers, _) in shown
        ]
        print(as_json(told))
    else:
        show_each([(node, _text(args, *found)) for node, found in shown])
    return failed


def _only(args: argparse.Namespace) -> tuple[int, str] | None:
    if args.tcp is not None:
        return 6, args.tcp
    return None if args.udp is None else (17, args.udp)


def _flows(node: str, client: Client) -> list[FlowView]:
    from pylb.observe.flowjson import flow_from_json

    return [flow_from_json(flow) for flow in client.get("/conntrack")["flows"]]


def _servers(
    args: argparse.Namespace, client: Client, before: list[FlowView] | None
) -> tuple[list[VirtualServer], list[Sample]]:
    from pylb.observe import ipvs

    flows = _flows("", client)
    samples = ipvs.totals(flows) if before is None else ipvs.between(before, flows)
    seconds = args.interval if args.rate else 1
    return ipvs.virtual_servers(client.get("/plan"), samples, seconds), samples


def _text(args: argparse.Namespace, servers: list[VirtualServer], samples: list[Sample]) -> str:
    from pylb.observe import ipvs

    if args.connection:
        return ipvs.connections(servers, samples)
    if args.stats or args.rate:
        return ipvs.counters(servers, ipvs.STATS if args.stats else ipvs.RATE, exact=args.exact)
    return ipvs.listing(servers)
