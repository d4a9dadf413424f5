"""``pylb lab``: a cluster in network namespaces, up, down and entered."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from pylb.cli.common import add_command, as_json, as_yaml, controller, table
from pylb.cli.errors import CliError

OVERLAYS = ("vxlan", "udp", "host-gw")
DATAPLANES = ("native", "python", "kernel", "kernel-notrack", "kernel-iptables")


def register(commands: Any) -> None:
    """Add the ``lab`` command and its actions."""
    parser = add_command(
        commands,
        "lab",
        "start, stop and enter a cluster of network namespaces",
        "pylb lab up -f cluster.yaml",
        "pylb lab exec client -- curl -s http://10.96.0.10/",
        "pylb lab down",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    up = add_command(
        actions,
        "up",
        "start a lab from manifests",
        "pylb lab up -f cluster.yaml",
        "pylb lab up -f nodes.yaml -f web/ --overlay udp --name two",
    )
    up.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        required=True,
        help="a manifest or a folder of them; may be repeated",
    )
    _add_name(up)
    add_dataplane(up)
    up.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    up.set_defaults(run=_up)

    down = add_command(
        actions, "down", "stop a lab and remove all that it made", "pylb lab down --name two"
    )
    _add_name(down)
    down.set_defaults(run=_down)

    status = add_command(
        actions, "status", "show a lab's nodes, daemons and pods", "pylb lab status -o json"
    )
    status.add_argument("-o", "--output", choices=["json", "yaml"], help="format")
    _add_name(status)
    status.set_defaults(run=_status)

    enter = add_command(
        actions,
        "exec",
        "run a command in a pod, a node, client, router or an outside host",
        "pylb lab exec web-1 -- ip route",
        "pylb lab exec shop/cart -- sh",
    )
    _add_name(enter)
    enter.add_argument("where", metavar="WHERE", help="POD, NAMESPACE/POD, NODE, client, …")
    enter.add_argument("argv", metavar="-- CMD", nargs=argparse.REMAINDER, help="what to run")
    enter.set_defaults(run=_exec)


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        "--lab",
        dest="lab",
        metavar="NAME",
        default=os.environ.get("PYLB_LAB", "pylb"),
        help="the lab's name (default: $PYLB_LAB, else pylb)",
    )


def add_dataplane(parser: argparse.ArgumentParser) -> None:
    """``--dataplane`` and ``--overlay``."""
    parser.add_argument(
        "--dataplane",
        choices=DATAPLANES,
        default="native",
        help="native is C, python the same to be read, kernel is nftables, kernel-notrack that "
        "without tracking the outer VXLAN flows, kernel-iptables kube-proxy's chains "
        "(default: native)",
    )
    parser.add_argument(
        "--overlay", choices=OVERLAYS, help="(default: the Lab document's, else vxlan)"
    )


def need_root(what: str) -> None:
    """Raise `CliError` unless the process may make namespaces and devices."""
    if os.geteuid() != 0:
        raise CliError(f"{what} needs root: run it with sudo")


def _up(args: argparse.Namespace) -> int:
    need_root("pylb lab up")
    from pylb.lab.lifetime import up

    def progress(step: str) -> None:
        if not args.quiet:
            print(step, file=sys.stderr, flush=True)

    up(args.files, args.lab, args.dataplane, args.overlay, progress)
    return 0


def _down(args: argparse.Namespace) -> int:
    need_root("pylb lab down")
    from pylb.lab.lifetime import down

    for removed in down(args.lab):
        print(f"removed {removed}")
    return 0


def _status(args: argparse.Namespace) -> int:
    status = controller(args.lab).get("/status")
    if args.output is not None:
        print(as_json(status) if args.output == "json" else as_yaml(status))
        return 0
    pods = status["pods"]
    ready = sum(1 for pod in pods if pod.get("ready"))
    print(
        f"lab {status['lab']}: dataplane {status['dataplane']}, overlay {status['overlay']}, "
        f"generation {status['generation']}, {ready} of {len(pods)} pods ready\n"
    )
    rows = [
        [
            node["name"],
            node["ip"],
            node["podCIDR"],
            node["daemon"],
            str(node.get("pid") or "<none>"),
            str(node["generation"]),
        ]
        for node in status["nodes"]
    ]
    print(table(("NODE", "IP", "POD-CIDR", "DAEMON", "PID", "GENERATION"), rows))
    if pods:
        print(f"\n{table(('NAME', 'NODE', 'IP', 'READY', 'RESTARTS'), [_pod(p) for p in pods])}")
    return 0


def _pod(pod: dict[str, Any]) -> list[str]:
    namespace = pod.get("namespace", "default")
    name = pod["name"] if namespace == "default" else f"{namespace}/{pod['name']}"
    ready = "yes" if pod.get("ready") else "no"
    return [name, pod["node"], pod["ip"], ready, str(pod["restarts"])]


def _exec(args: argparse.Namespace) -> int:
    argv = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if not argv:
        raise CliError("expected a command: pylb lab exec WHERE -- CMD...", status=2)
    need_root("pylb lab exec")
    from pylb.lab.enter import exec_in

    return int(exec_in(args.lab, args.where, argv))
