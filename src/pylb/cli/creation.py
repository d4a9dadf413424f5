"""What the commands that make one new object share: how it is sent, shown and told of."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pylb.cli.apply import warn
from pylb.cli.common import CHANGE, add_dry_run, add_lab, controller
from pylb.cli.errors import CliError
from pylb.cli.kinds import Kind, named
from pylb.cli.object_tables import Object, name_of
from pylb.cli.output import DOCUMENTS, add_output, show


def add_creation(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """``-n``, ``--dry-run``, ``-o`` and ``--lab`` (``again``: see `add_lab`)."""
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    add_dry_run(parser, again=again)
    add_output(parser, DOCUMENTS)
    add_lab(parser, again=again)


def create(args: argparse.Namespace, body: dict[str, Any], action: str = "created") -> int:
    """Make ``body`` an object of the lab, and tell; gives an exit status."""
    kind = named(body["kind"])
    if args.dry_run == "client":
        return tell(args, kind, body, f"{action} (dry run)")
    answer = controller(args.lab, CHANGE).post("/create", {"objects": [made(body)]})
    warn(answer)
    if not told(answer):
        return 1
    return tell(args, kind, stored(args, kind, name_of(body)), action)


def made(body: dict[str, Any]) -> dict[str, Any]:
    """An object from the command line as the controller takes it."""
    return {"file": "", "document": 0, "body": body}


def told(answer: dict[str, Any]) -> bool:
    """False, and said so as kubectl does, when something is there already."""
    there = [result for result in answer["results"] if result["action"] == "exists"]
    for result in there:
        plural = named(result["kind"]).full_plural
        what = f'{plural} "{result["name"]}" already exists'
        print(f"Error from server (AlreadyExists): {what}", file=sys.stderr)
    return not there


def stored(args: argparse.Namespace, kind: Kind, name: str) -> Object:
    """An object as the lab has it; raises `CliError` when it has gone meanwhile."""
    found = find(args, kind, name)
    if found is None:
        raise CliError(f"{kind.resource} {name!r} has gone again")
    return found


def find(args: argparse.Namespace, kind: Kind, name: str) -> Object | None:
    """An object of the lab, None when there is no such one."""
    namespace = args.namespace if kind.namespaced else None
    answer = controller(args.lab).get("/objects", kind=kind.name, namespace=namespace)
    return next((item for item in answer["objects"] if name_of(item) == name), None)


def tell(args: argparse.Namespace, kind: Kind, item: Object, action: str) -> int:
    """Print what became of an object, or the object when ``-o`` asks for it."""
    if args.output is None:
        print(f"{kind.resource}/{name_of(item)} {action}")
    else:
        show(args.output, [(kind, [item])], single=True)
    return 0


def metadata(args: argparse.Namespace, name: str, labels: dict[str, str]) -> dict[str, Any]:
    """A new object's ``metadata``."""
    found: dict[str, Any] = {"name": name}
    if args.namespace != "default":
        found["namespace"] = args.namespace
    if labels:
        found["labels"] = labels
    return found


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` texts, also several with commas; raises `CliError` with status 2."""
    found = {}
    for text in (part for each in texts for part in each.split(",")):
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise CliError(f"{option} {text!r}: expected KEY=VALUE", status=2)
        found[key] = value
    return found
