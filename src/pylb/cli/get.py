"""``pylb get``: the lab's objects, as kubectl shows them."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from typing import Any

from pylb.cli import kinds
from pylb.cli.common import add_command, add_lab, as_json, as_yaml, controller, table
from pylb.cli.errors import CliError
from pylb.cli.kinds import Kind
from pylb.cli.object_tables import Object, header, labels_of, name_of, namespace_of, row
from pylb.cli.selector import selector


def register(commands: Any) -> None:
    """Add the ``get`` command."""
    parser = add_command(
        commands,
        "get",
        "show nodes, pods, services and other objects",
        "pylb get pods -o wide -l app=web",
        "pylb get svc web -o yaml",
        "pylb get all -A",
    )
    parser.add_argument("kind", metavar="KIND", help=f"of {kinds.WORDS}")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these objects")
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    parser.add_argument("-l", "--selector", default="", help="only objects with these labels")
    parser.add_argument("-o", "--output", choices=["wide", "yaml", "json", "name"], help="format")
    parser.add_argument("--no-headers", action="store_true", help="no column titles")
    add_lab(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    wanted = kinds.spelled(args.kind)
    if args.names and (len(wanted) > 1 or args.all_namespaces or args.selector):
        raise CliError("a NAME needs one kind, and neither -A nor -l", status=2)
    try:
        matches = selector(args.selector)
    except ValueError as error:
        raise CliError(f"-l: {error}", status=2) from None
    client = controller(args.lab)
    found: list[tuple[Kind, list[Object]]] = []
    missing = []
    for kind in wanted:
        namespace = args.namespace if kind.namespaced and not args.all_namespaces else None
        answer = client.get("/objects", kind=kind.name, namespace=namespace)
        objects = [item for item in answer["objects"] if matches(labels_of(item))]
        if args.names:
            by_name = {name_of(item): item for item in objects}
            missing += [name for name in args.names if name not in by_name]
            objects = [by_name[name] for name in args.names if name in by_name]
        found.append((kind, objects))
    _print(args, found)
    sys.stdout.flush()
    for name in missing:
        print(not_found(wanted[0], name), file=sys.stderr)
    return 1 if missing else 0


def not_found(kind: Kind, name: str) -> str:
    """kubectl's sentence for an object that is not there."""
    plural = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return f'Error from server (NotFound): {plural} "{name}" not found'


def _print(args: argparse.Namespace, found: list[tuple[Kind, list[Object]]]) -> None:
    objects = [item for _, items in found for item in items]
    if args.output in ("json", "yaml"):
        # One object asked for by name is given as itself, anything else as a List.
        single = len(args.names) == 1
        if single and not objects:
            return
        document = objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}
        print(as_json(document) if args.output == "json" else as_yaml(document))
    elif args.output == "name":
        for kind, items in found:
            for item in items:
                print(f"{kind.resource}/{name_of(item)}")
    elif objects:
        tables = [_table(args, kind, items, len(found) > 1) for kind, items in found if items]
        print("\n\n".join(tables))
    elif not args.names:
        where = "" if args.all_namespaces else f" in {args.namespace} namespace"
        print(f"No resources found{where}", file=sys.stderr)


def _table(args: argparse.Namespace, kind: Kind, items: list[Object], prefixed: bool) -> str:
    wide = args.output == "wide"
    spaces = args.all_namespaces and kind.namespaced
    now = datetime.now(UTC)
    rows = []
    for item in items:
        cells = row(kind, item, now, wide=wide)
        if prefixed:
            cells[0] = f"{kind.resource}/{cells[0]}"
        rows.append([namespace_of(item), *cells] if spaces else cells)
    titles = [*(["NAMESPACE"] if spaces else []), *header(kind, wide=wide)]
    text = table(titles, rows)
    return text.partition("\n")[2] if args.no_headers else text
