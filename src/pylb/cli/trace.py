"""``pylb trace``: which decisions a node takes about a new flow, and what came of those it has."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Any

from pylb.cli.common import add_command, add_nodes, as_json, controller, daemons, table
from pylb.cli.errors import CliError
from pylb.cli.object_tables import Object, at, name_of
from pylb.cli.service import TYPES

if TYPE_CHECKING:
    from pylb.control.client import Client
    from pylb.dataplane.base import FlowTuple, FlowView
    from pylb.plan.tables import Plan

_PROTOCOLS = ("sctp", "tcp", "udp")
_END = re.compile(r"(?P<host>[^:]+)(:(?P<port>[0-9]{1,5}))?")
_MASQUERADE = {"some": "for some backends", "": "-"}
_POLICY = ("NODE_PORT", "LOAD_BALANCER", "EXTERNAL_IP")
"""The kinds that externalTrafficPolicy is about."""


def register(commands: Any) -> None:
    """Add the ``trace`` command."""
    parser = add_command(
        commands,
        "trace",
        "explain what a node does with a new flow",
        "pylb trace client-1 web:80",
        "pylb trace client 198.51.100.10:80 --node node1",
        "pylb trace 192.168.50.253 192.168.50.11:30080 -p udp",
        "pylb trace 203.0.113.80:40001 198.51.100.10:80 --node node1",
    )
    parser.add_argument(
        "source",
        metavar="FROM",
        help="ADDRESS, POD, NAMESPACE/POD, NODE, client, router or outside host; :PORT or not",
    )
    parser.add_argument(
        "target",
        metavar="TO",
        help="the same, or SERVICE or NAMESPACE/SERVICE for its cluster IP, with :PORT",
    )
    parser.add_argument(
        "-p", "--protocol", choices=_PROTOCOLS, default="tcp", help="(default: tcp)"
    )
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_nodes(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from pylb.dataplane.base import FlowTuple
    from pylb.observe import trace
    from pylb.observe.flowjson import flow_to_json
    from pylb.observe.protocols import number_of

    from_name, sport = _end(args.source)
    to_name, dport = _end(args.target)
    if dport is None:
        raise CliError(f"{args.target!r}: expected a port too, as in 10.96.0.10:80", status=2)
    client, plan = _plan(daemons(args)[0])
    src = _address(args, from_name, trace.address_of(plan, from_name))
    named = trace.cluster_ip_of(plan, to_name) or trace.address_of(plan, to_name)
    dst = _address(args, to_name, named, target=True)
    if args.node is None and args.socket is None:
        node = trace.enters_at(plan, src, dst)
        if node is None:
            raise CliError(f"{args.source} may come to any node: say which with --node", status=2)
        if node != plan.node:
            args.node = node
            client, plan = _plan(daemons(args)[0])
    protocol = number_of(args.protocol)
    found = trace.explain(plan, FlowTuple(src, dst, protocol, sport or trace.ANY_PORT, dport))
    flows = _flows(client, found.original, sport)
    if args.output == "json":
        print(as_json({**trace.describe(found), "flows": [flow_to_json(f) for f in flows]}))
    else:
        print(text(trace.describe(found), flows))
    return 0


def _end(text: str) -> tuple[str, int | None]:
    """NAME and port of one end."""
    match = _END.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 1) < 65536:
        raise CliError(f"{text!r}: expected NAME:PORT, with a port from 1 to 65535", status=2)
    return match["host"], int(match["port"]) if match["port"] else None


def _address(
    args: argparse.Namespace, name: str, known: int | None, *, target: bool = False
) -> int:
    """The address that a name means; ``known`` is what the plan says of it."""
    if known is not None:
        return known
    with contextlib.suppress(AddressValueError):
        return int(IPv4Address(name))
    outside = _outside(args)
    if name in outside:
        return int(IPv4Address(outside[name]))
    if target:
        _check_service(args, name)
    what = f"{'Service, ' if target else ''}pod, node or outside host"
    raise CliError(f"{name!r} is no IPv4 address, and no {what} has this name")


def _outside(args: argparse.Namespace) -> dict[str, str]:
    """The addresses of the places outside the cluster, which no plan has."""
    found: dict[str, str] = {}
    for lab in _objects(args, "Lab"):
        underlay = at(lab, "spec", "underlay", default={})
        found |= {name: underlay[name] for name in ("client", "router") if name in underlay}
        found |= {host["name"]: host["ip"] for host in at(lab, "spec", "outsideHosts", default=[])}
    return found


def _check_service(args: argparse.Namespace, name: str) -> None:
    """Raises `CliError` for a Service that has no cluster IP."""
    namespace, slash, bare = name.partition("/")
    for service in _objects(args, "Service", namespace if slash else "default"):
        if name_of(service) == (bare if slash else name):
            headless = at(service, "spec", "type") != "ExternalName"
            why = "headless" if headless else "of type ExternalName"
            instead = ": name one of its pods" if headless else ""
            raise CliError(f"Service {name!r} is {why} and has no address{instead}")


def _objects(args: argparse.Namespace, kind: str, namespace: str | None = None) -> list[Object]:
    """Objects of the lab, none where no controller can be asked."""
    from pylb.control.client import Unreachable

    if args.socket is not None:
        return []
    try:
        found = controller(args.lab).get("/objects", kind=kind, namespace=namespace)
    except Unreachable:
        return []
    return list(found["objects"])


def _plan(daemon: tuple[str, Client]) -> tuple[Client, Plan]:
    from pylb.plan.reading import plan_from_json

    return daemon[1], plan_from_json(daemon[1].get("/plan"))


def _flows(client: Client, wanted: FlowTuple, sport: int | None) -> list[FlowView]:
    """The tracked flows of this kind, in the order of their creation."""
    from pylb.dataplane.base import FlowFilter
    from pylb.observe.flowjson import filter_to_query, flow_from_json
    from pylb.plan.tables import Prefix

    where = FlowFilter(
        protocol=wanted.protocol,
        src=Prefix(wanted.src, 32),
        dst=Prefix(wanted.dst, 32),
        sport=sport,
        dport=wanted.dport,
    )
    return [flow_from_json(f) for f in client.get("/conntrack", **filter_to_query(where))["flows"]]


def text(found: Mapping[str, Any], flows: Sequence[FlowView]) -> str:
    """What `pylb.observe.trace.describe` says, a decision a line; then who may get the flow."""
    from pylb.observe.protocols import name_of

    protocol = name_of(found["protocol"])
    came = {"pod": "of a pod", "host": "of the node itself", "outside": "from outside"}
    lines = [
        f"packet      {protocol} {found['src']} -> {found['dst']}:{found['dport']}, "
        f"{came[found['client']]}, at {found['node']}",
        f"frontend    {_frontend(found['frontend'])}",
        f"sets        {', '.join(found['sets']) or '-'}",
        f"masquerade  {_MASQUERADE.get(found['masquerade'], found['masquerade'])}",
        f"verdict     {_verdict(found)}",
    ]
    blocks = ["\n".join(lines)]
    if found["backends"]:
        rows = [
            [f"{b['address']}:{b['port']}", b["node"] or "<none>", b["source"]]
            for b in found["backends"]
        ]
        blocks.append(table(("BACKEND", "NODE", "SEES"), rows))
    if flows:
        blocks.append(table(("FLOW", "BACKEND", "SEES", "STATE"), [_flow(f) for f in flows]))
    return "\n\n".join(blocks)


def _frontend(frontend: Mapping[str, Any] | None) -> str:
    if frontend is None:
        return "-"
    told = f"{TYPES[frontend['kind']]} of {frontend['service']}"
    if frontend["kind"] in _POLICY:
        told += f", externalTrafficPolicy {'Local' if frontend['localOnly'] else 'Cluster'}"
    return told


def _verdict(found: Mapping[str, Any]) -> str:
    frontend, verdict = found["frontend"], found["verdict"]
    if found["reason"] is not None:
        return f"{verdict}, counted as drop_{found['reason']}"
    if verdict == "balanced":
        affinity = f", affinity {frontend['affinity']} s" if frontend["affinity"] else ""
        return f"balanced by {frontend['scheduler']}{affinity}"
    return f"{verdict}, from {found['source']}" if verdict == "tracked" else str(verdict)


def _flow(flow: FlowView) -> list[str]:
    original, reply = flow.original, flow.reply
    return [
        f"{IPv4Address(original.src)}:{original.sport}",
        f"{IPv4Address(reply.src)}:{reply.sport}",
        f"{IPv4Address(reply.dst)}:{reply.dport}",
        flow.state or ("replied" if flow.seen_reply else "unreplied"),
    ]
