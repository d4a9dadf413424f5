"""``pylb service list``: a node's frontends and backends as ``cilium service list`` has them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pylb.cli.common import (
    add_command,
    add_nodes,
    as_json,
    as_yaml,
    controller,
    of_each,
    show_each,
    table,
)
from pylb.cli.object_tables import at, name_of, namespace_of

TYPES = {
    "CLUSTER_IP": "ClusterIP",
    "NODE_PORT": "NodePort",
    "LOAD_BALANCER": "LoadBalancer",
    "EXTERNAL_IP": "ExternalIPs",
    "LOCAL_REDIRECT": "LocalRedirect",
}
_STATES = {"ACTIVE": "active", "DRAINING": "terminating"}
"""Cilium's words: a terminating backend keeps the flows that it has and gets new ones only
while there is no other.  An endpoint that is not ready is one too."""
_ANY = {"127.0.0.1": "0.0.0.0"}
"""The node port that Cilium lists for any other address of the node; pylb's is loopback's."""
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
        aliases=("ls",),
    )
    listing.add_argument("-o", "--output", choices=["json", "yaml"], help="format")
    add_nodes(listing)
    listing.set_defaults(run=_run)


def load_balancers(
    args: argparse.Namespace, plans: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """The Services of type LoadBalancer, for what of them is in no plan.

    [] where the plans have none, and for a daemon outside a lab.  A controller
    that does not answer is told of on stderr.
    """
    kinds = {frontend["kind"] for _, plan in plans for frontend in plan["frontends"]}
    if args.socket is not None or "LOAD_BALANCER" not in kinds:
        return []
    from pylb.control.client import ApiError, Unreachable

    try:
        found = controller(args.lab).get("/objects", kind="Service")["objects"]
    except (Unreachable, ApiError) as error:
        print(f"pylb: {error}: health checks and source ranges are left out", file=sys.stderr)
        return []
    return [each for each in found if at(each, "spec", "type") == "LoadBalancer"]


def entries(
    plan: Mapping[str, Any], services: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The frontends of a plan (`Plan.to_json`), numbered from 1, as JSON-able values.

    After them come the health check ports of ``services``, which the node itself answers.
    """
    found = [_entry(frontend) for frontend in plan["frontends"]]
    for each in services:
        if port := at(each, "spec", "healthCheckNodePort"):
            name = f"{namespace_of(each)}/{name_of(each)}"
            found.append(_health_check(_socket(plan["nodeIP"], port, 6), name))
    return [{"id": number, **entry} for number, entry in enumerate(found, 1)]


def _health_check(socket: str, service: str) -> dict[str, Any]:
    backends = [{"address": socket, "state": "active"}]
    return {"frontend": socket, "type": "HealthCheck", "service": service, "backends": backends}


def _entry(f: Mapping[str, Any]) -> dict[str, Any]:
    # Not those that a policy or a hint leaves to other nodes; a redirection's are its own pods.
    redirected = f["kind"] == "LOCAL_REDIRECT"
    chosen = set(f["active"]) if redirected else {*f["active"], *f.get("other", ())}
    return {
        "frontend": _socket(_ANY.get(f["address"], f["address"]), f["port"], f["protocol"]),
        "type": TYPES.get(f["kind"], f["kind"]),
        "service": f["service"],
        "backends": [
            {
                "address": _socket(b["address"], b["port"], f["protocol"]),
                "state": _STATES.get(b["state"], b["state"]),
            }
            for index, b in enumerate(f["backends"])
            if index in chosen or (b["state"] == "DRAINING" and not redirected)
        ],
    }


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
    plans, failed = of_each(args, lambda node, client: client.get("/plan"))
    services = load_balancers(args, plans)
    listed = [(node, entries(plan, services)) for node, plan in plans]
    if args.output is not None:
        documents = [{"node": node, "services": services} for node, services in listed]
        print(as_json(documents) if args.output == "json" else as_yaml(documents))
    else:
        show_each([(node, listing_table(services)) for node, services in listed])
    return failed
