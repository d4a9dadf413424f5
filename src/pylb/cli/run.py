"""``pylb run``: one pod from the command line, also one to work in and throw away."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from pylb.cli.apply import warn
from pylb.cli.common import CHANGE, add_command, controller
from pylb.cli.creation import add_creation, create, made, metadata, pairs, told
from pylb.cli.errors import CliError

_STAYS = ["sleep", "infinity"]
_SHELL = ["sh"]


def register(commands: Any) -> None:
    """Add the ``run`` command."""
    parser = add_command(
        commands,
        "run",
        "run an image, or a command, in a pod of its own",
        "pylb run web --image=nginx --port=80 --labels=app=web",
        "pylb run busybox --image=busybox -it --rm --restart=Never -- wget -qO- http://web/",
        takes_command=True,
    )
    parser.add_argument("name", metavar="NAME", help="the pod's name, and its label run=NAME")
    parser.add_argument("--image", required=True, help="what it runs")
    parser.add_argument("--port", type=int, help="the port that its container declares")
    parser.add_argument(
        "-l",
        "--labels",
        metavar="KEY=VALUE,...",
        action="append",
        default=[],
        help="labels in the place of run=NAME",
    )
    parser.add_argument("--annotations", metavar="KEY=VALUE", action="append", default=[])
    parser.add_argument(
        "--env", metavar="KEY=VALUE", action="append", default=[], help="may be repeated"
    )
    parser.add_argument(
        "--command",
        dest="as_command",
        action="store_true",
        help="CMD is in the place of the image's own command, not its arguments",
    )
    parser.add_argument(
        "--overrides",
        metavar="JSON",
        help="""laid over the pod, such as '{"spec": {"nodeName": "node1"}}'""",
    )
    parser.add_argument("--override-type", choices=["merge", "strategic", "json"], default="merge")
    parser.add_argument(
        "--restart",
        choices=["Always", "OnFailure", "Never"],
        help="what ends is always started again, but for CMD with -i or -t",
    )
    parser.add_argument(
        "-i", "--stdin", action="store_true", help="run CMD, else a shell, in the new pod, here"
    )
    parser.add_argument("-t", "--tty", action="store_true", help="the same as -i")
    parser.add_argument("--rm", action="store_true", help="with -i: then delete the pod")
    add_creation(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    attached = args.stdin or args.tty
    if args.rm and not attached:
        raise CliError("--rm goes with -i or -t", status=2)
    body = _pod(args, attached)
    if not attached or args.dry_run == "client":
        return create(args, body)
    if args.output is not None:
        raise CliError("-o goes with neither -i nor -t", status=2)
    # What the user sees on stdout is the command's alone.
    answer = controller(args.lab, CHANGE).post("/create", {"objects": [made(body)]})
    warn(answer)
    if not told(answer):
        return 1
    try:
        return _enter(args.lab, f"{args.namespace}/{args.name}", args.command or _SHELL)
    finally:
        if args.rm:
            _remove(args)


def _pod(args: argparse.Namespace, attached: bool) -> dict[str, Any]:
    container: dict[str, Any] = {"name": args.name, "image": args.image}
    if attached:
        container["command"] = _STAYS
    elif args.command:
        container["command" if args.as_command else "args"] = args.command
    if args.env:
        env = (text.partition("=") for text in args.env)
        container["env"] = [{"name": name, "value": value} for name, _, value in env]
    if args.port is not None:
        container["ports"] = [{"containerPort": args.port}]
    labels = pairs(args.labels, "--labels") or {"run": args.name}
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(args, args.name, labels),
        "spec": {"containers": [container]},
    }
    if args.annotations:
        body["metadata"]["annotations"] = pairs(args.annotations, "--annotations")
    if args.restart:
        body["spec"]["restartPolicy"] = args.restart
    return _overridden(args, body) if args.overrides else body


def _overridden(args: argparse.Namespace, body: dict[str, Any]) -> dict[str, Any]:
    from pylb.policy.patching import PatchError, patched

    try:
        return patched(body, json.loads(args.overrides), args.override_type)
    except json.JSONDecodeError as error:
        raise CliError(f"--overrides: not JSON: {error}", status=2) from None
    except PatchError as error:
        raise CliError(f"--overrides: {error}", status=2) from None


def _enter(lab: str, where: str, command: list[str]) -> int:
    """Run a command at a place, as `pylb lab exec` does, and come back; gives its status."""
    from pylb.lab import netns
    from pylb.lab.enter import launcher
    from pylb.lab.lifetime import find_place

    place = find_place(lab, where)
    argv = launcher(str(netns.path(place.namespace)), str(place.folder), command)
    status = subprocess.call(argv)
    return 128 - status if status < 0 else status


def _remove(args: argparse.Namespace) -> None:
    ref = {"kind": "Pod", "namespace": args.namespace, "name": args.name}
    controller(args.lab, CHANGE).post("/delete", {"refs": [ref]})
    print(f'pod "{args.name}" deleted', file=sys.stderr)
