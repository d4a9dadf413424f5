"""``pylb create``: objects that must not be there yet, from manifests or from the command line."""

from __future__ import annotations

import argparse
from typing import Any

from pylb.cli.apply import add_files, sent, warn
from pylb.cli.common import CHANGE, add_command, add_dry_run, add_lab, controller
from pylb.cli.creation import add_creation, create, metadata, told
from pylb.cli.errors import CliError
from pylb.cli.kinds import named
from pylb.cli.object_tables import name_of


def register(commands: Any) -> None:
    """Add the ``create`` command."""
    parser = add_command(
        commands,
        "create",
        "create objects that are not there yet",
        "pylb create deployment web --image=nginx --replicas=3",
        "pylb create -f web.yaml",
    )
    add_files(parser, required=False)
    add_dry_run(parser)
    add_lab(parser)
    parser.set_defaults(run=_files)
    kinds = parser.add_subparsers(title="kinds", metavar="KIND")
    deployment = add_command(
        kinds,
        "deployment",
        "create a Deployment whose pods have the label app=NAME",
        "pylb create deployment web --image=nginx --replicas=3 --port=80",
        "pylb create deployment idle --image=busybox -- sleep 1000",
        aliases=("deploy",),
        takes_command=True,
    )
    deployment.add_argument("name", metavar="NAME")
    deployment.add_argument("--image", required=True, action="append", help="what its pods run")
    deployment.add_argument("--replicas", type=int, default=1, metavar="N", help="(default: 1)")
    deployment.add_argument("--port", type=int, help="the port that a container declares")
    add_creation(deployment, again=True)
    deployment.set_defaults(run=_deployment)


def _files(args: argparse.Namespace) -> int:
    if not args.files:
        raise CliError("expected either -f FILE or a KIND: deployment", status=2)
    objects = sent(args.files, "create")
    if args.dry_run == "client":
        for each in objects:
            body = each["body"]
            print(f"{named(body['kind']).resource}/{name_of(body)} created (dry run)")
        return 0
    answer = controller(args.lab, CHANGE).post("/create", {"objects": objects})
    warn(answer)
    if not told(answer):
        return 1
    for result in answer["results"]:
        print(f"{named(result['kind']).resource}/{result['name']} {result['action']}")
    return 0


def _deployment(args: argparse.Namespace) -> int:
    if args.files:
        raise CliError("expected either -f FILE or a KIND", status=2)
    if args.command and len(args.image) > 1:
        raise CliError("expected one --image with a command", status=2)
    labels = {"app": args.name}
    containers = [_container(image) for image in args.image]
    if args.command:
        containers[0]["command"] = args.command
    if args.port is not None:
        containers[0]["ports"] = [{"containerPort": args.port}]
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(args, args.name, labels),
        "spec": {
            "replicas": args.replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }
    return create(args, body)


def _container(image: str) -> dict[str, Any]:
    """A container called like its image, as far as that makes a DNS label."""
    base = image.rsplit("/", 1)[-1].split("@", 1)[0].split(":", 1)[0]
    return {"name": base.lower().replace("_", "-").replace(".", "-"), "image": image}
