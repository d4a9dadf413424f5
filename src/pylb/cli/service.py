"""``pylb service list``: a node's frontends and backends as ``cilium service list`` has them."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pylb.cli.common import add_command, add_nodes, as_json, as_yaml, daemons, table

_TYPES = {
    "CLUSTER_IP": "ClusterIP",
    "NODE_PORT": "NodePort",
    "LOAD_BALANCER": "LoadBalancer",
    "EXTERNAL_IP": "ExternalIPs",
    "LOCAL_REDIRECT": "LocalRedirect",
}
_STATES = {"ACTIVE": "active", "DRAINING": "draining"}
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}
_TITLES = ("ID", "Frontend", "Service Type", "Backend")


def register(commands: Any) -> None:
    """Add the ``service`` command."""
    parser = add_command(
        commands,
        "service",
        "show what the daemons balance",
        "pylb service list --node node1",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add_command(
        actions,
        "list",
        "list frontends and their backends, as each node has them",
        "pylb service list --node node1",
        "pylb service list -o json",
    )
    listing.add_argument("-o", "--output", choices=["json", "yaml"], help="format")
    add_nodes(listing)
    listing.set_defaults(run=_run)


def entries(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The frontends of a plan (`Plan.to_json`), numbered from 1, as JSON-able values."""
    return [
        {
            "id": number,
            "frontend": _socket(f["address"], f["port"], f["protocol"]),
            "type": _TYPES.get(f["kind"], f["kind"]),
            "service": f["service"],
            "backends": [
                {
                    "address": _socket(b["address"], b["port"], f["protocol"]),
                    "state": _STATES.get(b["state"], b["state"]),
                }
                for b in f["backends"]
            ],
        }
        for number, f in enumerate(plan["frontends"], 1)
    ]


def listing_table(services: list[dict[str, Any]]) -> str:
    """The table of `entries`, each further backend in a line of its own."""
    rows = []
    for entry in services:
        backends = [
            f"{number} => {b['address']} ({b['state']})"
            for number, b in enumerate(entry["backends"], 1)
        ]
        first, *others = backends or [""]
        rows.append([str(entry["id"]), entry["frontend"], entry["type"], first])
        rows += [["", "", "", backend] for backend in others]
    return table(_TITLES, rows, least=5)


def _socket(address: str, port: int, protocol: int) -> str:
    return f"{address}:{port}/{_PROTOCOLS.get(protocol, protocol)}"


def _run(args: argparse.Namespace) -> int:
    from pylb.control.client import ApiError, Unreachable

    nodes = daemons(args)
    failed = 0
    documents = []
    for number, (node, client) in enumerate(nodes):
        try:
            services = entries(client.get("/plan"))
        except (Unreachable, ApiError) as error:
            print(f"pylb: {error}", file=sys.stderr)
            failed = 1
            continue
        if args.output is not None:
            documents.append({"node": node, "services": services})
            continue
        if len(nodes) > 1:
            print(f"{'' if not number else chr(10)}# {node}")
        print(listing_table(services))
    if args.output is not None:
        print(as_json(documents) if args.output == "json" else as_yaml(documents))
    return failed
