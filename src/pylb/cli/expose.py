"""``pylb expose``: a Service for the pods of a Deployment, a ReplicaSet, a pod or a Service."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pylb.cli import kinds
from pylb.cli.common import add_command
from pylb.cli.creation import add_creation, create, find, metadata, pairs
from pylb.cli.errors import CliError
from pylb.cli.get import not_found
from pylb.cli.kinds import DEPLOYMENT, POD, REPLICA_SET, SERVICE, Kind
from pylb.cli.object_tables import Object, at, labels_of, name_of

_EXPOSABLE = (DEPLOYMENT, REPLICA_SET, POD, SERVICE)


def register(commands: Any) -> None:
    """Add the ``expose`` command."""
    parser = add_command(
        commands,
        "expose",
        "make a Service for what runs already",
        "pylb expose deployment web --port=80 --target-port=8080",
        "pylb expose deployment web --name=outside --port=80 --type=NodePort",
    )
    parser.add_argument("kind", metavar="KIND", help="deployment, replicaset, pod or service")
    parser.add_argument("names", metavar="NAME", nargs="*", help="which; or KIND/NAME")
    parser.add_argument("--name", help="the Service's name (default: NAME)")
    parser.add_argument(
        "--port", metavar="PORT,...", help="the Service's (default: every one that is declared)"
    )
    parser.add_argument("--target-port", metavar="PORT", help="the pods', by number or name")
    parser.add_argument("--protocol", type=str.upper, choices=["TCP", "UDP", "SCTP"])
    parser.add_argument(
        "--type", choices=["ClusterIP", "NodePort", "LoadBalancer"], help="(default: ClusterIP)"
    )
    parser.add_argument("--cluster-ip", metavar="IP", help="or None for a headless Service")
    parser.add_argument("--external-ip", metavar="IP", help="one more address that it answers at")
    parser.add_argument("--load-balancer-ip", metavar="IP", help="the LoadBalancer's address")
    parser.add_argument("--session-affinity", choices=["None", "ClientIP"])
    parser.add_argument(
        "-l",
        "--labels",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help="of the Service (default: those of what is exposed)",
    )
    parser.add_argument(
        "--selector",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help="of the pods (default: that of what is exposed)",
    )
    add_creation(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    asked = [(kind, name) for kind, names in kinds.wanted(args.kind, args.names) for name in names]
    if len(asked) != 1:
        raise CliError("expected one KIND NAME, or KIND/NAME", status=2)
    kind, name = asked[0]
    if kind not in _EXPOSABLE:
        known = ", ".join(each.plural for each in _EXPOSABLE)
        raise CliError(f"{kind.plural} cannot be exposed: expected one of {known}", status=2)
    item = find(args, kind, name)
    if item is None:
        print(not_found(kind, name), file=sys.stderr)
        return 1
    return create(args, service(args, kind, item), "exposed")


def service(args: argparse.Namespace, kind: Kind, item: Object) -> dict[str, Any]:
    """The Service for an object; raises `CliError`."""
    selector = pairs(args.selector, "--selector") or _selector(kind, item)
    if not selector:
        raise CliError(f"{kind.resource} {name_of(item)!r} selects no pods: give a --selector")
    spec: dict[str, Any] = {"selector": selector, "ports": _ports(args, kind, item)}
    given = {
        "type": args.type,
        "clusterIP": args.cluster_ip,
        "externalIPs": [args.external_ip] if args.external_ip else None,
        "loadBalancerIP": args.load_balancer_ip,
        "sessionAffinity": args.session_affinity,
    }
    spec |= {name: value for name, value in given.items() if value is not None}
    labels = pairs(args.labels, "--labels") or dict(labels_of(item))
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(args, args.name or name_of(item), labels),
        "spec": spec,
    }


def _selector(kind: Kind, item: Object) -> dict[str, str]:
    """The labels of the pods that are meant."""
    if kind is POD:
        return dict(labels_of(item))
    if kind is SERVICE:
        return dict(at(item, "spec", "selector", default={}))
    if at(item, "spec", "selector", "matchExpressions"):
        raise CliError(f"{kind.resource} {name_of(item)!r}: matchExpressions cannot be exposed")
    return dict(at(item, "spec", "selector", "matchLabels", default={}))


def _ports(args: argparse.Namespace, kind: Kind, item: Object) -> list[dict[str, Any]]:
    declared = _declared(kind, item)
    wanted = declared
    if args.port is not None:
        try:
            numbers = [int(text) for text in args.port.split(",")]
        except ValueError:
            raise CliError(f"--port {args.port!r}: expected numbers", status=2) from None
        # A port that is declared for TCP and for UDP is exposed for both.
        known = {n: [p for port, p in declared if port == n] or ["TCP"] for n in numbers}
        wanted = [(n, protocol) for n in numbers for protocol in known[n]]
    if args.protocol is not None:
        wanted = list(dict.fromkeys((number, args.protocol) for number, _ in wanted))
    if not wanted:
        raise CliError(f"{kind.resource} {name_of(item)!r} declares no port: give a --port")
    made = []
    for i, (number, protocol) in enumerate(wanted, 1):
        name = {"name": f"port-{i}"} if len(wanted) > 1 else {}
        target = _target(args.target_port, number)
        made.append({**name, "port": number, "protocol": protocol, "targetPort": target})
    return made


def _target(given: str | None, port: int) -> int | str:
    if given is None:
        return port
    return int(given) if given.isdigit() else given


def _declared(kind: Kind, item: Object) -> list[tuple[int, str]]:
    """The ports that an object has, each with its protocol."""
    if kind is SERVICE:
        found = [(at(p, "port"), p) for p in at(item, "spec", "ports", default=[])]
    else:
        pod = at(item, "spec") if kind is POD else at(item, "spec", "template", "spec")
        found = [
            (at(port, "containerPort"), port)
            for container in at(pod, "containers", default=[])
            for port in at(container, "ports", default=[])
        ]
    pairs_ = [(number, at(port, "protocol", default="TCP")) for number, port in found]
    return list(dict.fromkeys(pairs_))
