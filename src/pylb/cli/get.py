"""``pylb get``: the lab's objects, as kubectl shows them."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime
from typing import Any

from pylb.cli import kinds
from pylb.cli.common import add_command, add_lab, controller, table
from pylb.cli.errors import CliError
from pylb.cli.jsonpath import JsonPathError, Path, text_of
from pylb.cli.kinds import Kind
from pylb.cli.object_tables import Object, header, labels_of, name_of, namespace_of, row
from pylb.cli.output import TABLES, add_output, path_option, show
from pylb.cli.selector import read_selector


def register(commands: Any) -> None:
    """Add the ``get`` command."""
    parser = add_command(
        commands,
        "get",
        "show nodes, pods, services and other objects",
        "pylb get pods -o wide -l app=web -L app",
        "pylb get svc web -o yaml",
        "pylb get svc web -o jsonpath='{.spec.ports[0].nodePort}'",
        "pylb get all -A",
    )
    parser.add_argument("kind", metavar="KIND", help=f"of {kinds.WORDS}; or KIND/NAME")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these objects")
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of every namespace")
    parser.add_argument("-l", "--selector", default="", help="only objects with these labels")
    parser.add_argument(
        "-L",
        "--label-columns",
        metavar="LABEL,...",
        action="append",
        default=[],
        help="a column for each of these labels",
    )
    parser.add_argument("--show-labels", action="store_true", help="a column with all labels")
    add_output(parser, TABLES)
    parser.add_argument(
        "--sort-by", type=path_option, metavar="PATH", help="order by this field, {.metadata.name}"
    )
    parser.add_argument("--no-headers", action="store_true", help="no column titles")
    add_lab(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    wanted = kinds.wanted(args.kind, args.names)
    if any(names for _, names in wanted) and (args.all_namespaces or args.selector):
        raise CliError("a NAME needs neither -A nor -l", status=2)
    matches = read_selector(args.selector)
    client = controller(args.lab)
    found: list[tuple[Kind, list[Object]]] = []
    missing = []
    for kind, names in wanted:
        namespace = args.namespace if kind.namespaced and not args.all_namespaces else None
        answer = client.get("/objects", kind=kind.name, namespace=namespace)
        objects = [item for item in answer["objects"] if matches(labels_of(item))]
        if names:
            by_name = {name_of(item): item for item in objects}
            missing += [(kind, name) for name in names if name not in by_name]
            objects = [by_name[name] for name in names if name in by_name]
        found.append((kind, objects))
    if args.sort_by is not None:
        found = _sorted(found, *args.sort_by)
    asked = [name for _, names in wanted for name in names]
    _print(args, found, asked)
    sys.stdout.flush()
    for kind, name in missing:
        print(not_found(kind, name), file=sys.stderr)
    return 1 if missing else 0


def _sorted(
    found: list[tuple[Kind, list[Object]]], spelled: str, path: Path
) -> list[tuple[Kind, list[Object]]]:
    """Each kind's objects by a field; those that do not have it come first."""
    values = {}
    for item in (item for _, items in found for item in items):
        try:
            values[id(item)] = path.find(item, item)
        except JsonPathError as error:
            raise CliError(f"--sort-by: {name_of(item)}: {error}") from None
    if values and not any(values.values()):
        raise CliError(f'couldn\'t find any field with path "{spelled}" in the list of objects')

    def order(item: Object) -> tuple[Any, ...]:
        return _rank(next(iter(values[id(item)]), None))

    return [(kind, sorted(items, key=order)) for kind, items in found]


def _rank(value: Any) -> tuple[Any, ...]:
    """Numbers by their size, text with the numbers in it by theirs: web-2 before web-10."""
    if value is None:
        return (0,)
    if isinstance(value, int | float):
        return (1, value)
    text, *rest = re.split("([0-9]+)", text_of(value))
    numbers = (number.lstrip("0") for number in rest[::2])
    return (2, text, [(len(n), n, text) for n, text in zip(numbers, rest[1::2], strict=True)])


def not_found(kind: Kind, name: str) -> str:
    """kubectl's sentence for an object that is not there."""
    return f'Error from server (NotFound): {kind.full_plural} "{name}" not found'


def _print(
    args: argparse.Namespace, found: list[tuple[Kind, list[Object]]], asked: list[str]
) -> None:
    objects = [item for _, items in found for item in items]
    output = args.output
    if output is not None and not output.tabular:
        # One object asked for by name is given as itself, anything else as a List.
        single = len(asked) == 1
        if objects or not single:
            show(output, found, single=single, headers=not args.no_headers)
    elif objects:
        tables = [_table(args, kind, items, len(found) > 1) for kind, items in found if items]
        print("\n\n".join(tables))
    elif not asked:
        within = not args.all_namespaces and any(kind.namespaced for kind, _ in found)
        where = f" in {args.namespace} namespace." if within else ""
        print(f"No resources found{where}", file=sys.stderr)


def _table(args: argparse.Namespace, kind: Kind, items: list[Object], prefixed: bool) -> str:
    wide = args.output is not None
    spaces = args.all_namespaces and kind.namespaced
    columns = [label for listed in args.label_columns for label in listed.split(",") if label]
    now = datetime.now(UTC)
    rows = []
    for item in items:
        cells = row(kind, item, now, wide=wide)
        if prefixed:
            cells[0] = f"{kind.resource}/{cells[0]}"
        labels = labels_of(item)
        if args.show_labels:
            cells.append(",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>")
        cells += [labels.get(label, "") for label in columns]
        rows.append([namespace_of(item), *cells] if spaces else cells)
    titles = [
        *(["NAMESPACE"] if spaces else []),
        *header(kind, wide=wide),
        *(["LABELS"] if args.show_labels else []),
        *(label.rsplit("/", 1)[-1].upper() for label in columns),
    ]
    text = table(titles, rows)
    return text.partition("\n")[2] if args.no_headers else text
