"""``pylb apply`` and ``pylb delete``: change what a running lab is to be."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pylb.cli.common import CHANGE, add_command, add_dry_run, add_lab, as_json, controller
from pylb.cli.errors import CliError
from pylb.cli.get import not_found
from pylb.cli.kinds import WORDS, named, spelled
from pylb.cli.object_tables import labels_of, name_of, namespace_of
from pylb.cli.selector import read_selector

if TYPE_CHECKING:
    from pylb.control.client import Client


def register(commands: Any) -> None:
    """Add the ``apply`` and ``delete`` commands."""
    parser = add_command(
        commands,
        "apply",
        "create or change objects from manifests, all of them or none",
        "pylb apply -f web.yaml",
        "pylb apply -f manifests/ -f extra.yaml",
    )
    add_files(parser, required=True)
    add_dry_run(parser)
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_lab(parser)
    parser.set_defaults(run=_apply)

    parser = add_command(
        commands,
        "delete",
        "delete objects by manifest, by name or by label",
        "pylb delete -f web.yaml",
        "pylb delete svc web -n shop",
        "pylb delete pods,svc -l app=web",
    )
    parser.add_argument("kind", metavar="KIND", nargs="?", help=f"of {WORDS}; or KIND/NAME")
    parser.add_argument("names", metavar="NAME", nargs="*", help="which")
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    parser.add_argument("-l", "--selector", help="every object of KIND with these labels")
    parser.add_argument("--all", action="store_true", help="every object of KIND")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="with -l or --all")
    parser.add_argument("--ignore-not-found", action="store_true", help="what is not there is fine")
    add_files(parser, required=False)
    add_dry_run(parser)
    parser.add_argument("-o", "--output", choices=["json"], help="format")
    add_lab(parser)
    parser.set_defaults(run=_delete)


def add_files(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``-f``: manifests."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        required=required,
        default=None if required else [],
        help="a manifest, a folder of them, or - for standard input; may be repeated",
    )


def read_manifests(files: list[str]) -> list[Any]:
    """The raw objects of manifests; raises `pylb.policy.objects.ManifestError`."""
    from pathlib import Path

    from pylb.policy.store import read_all

    return list(read_all([Path("/dev/stdin" if file == "-" else file) for file in files]))


def sent(files: list[str], verb: str) -> list[dict[str, Any]]:
    """Manifests as the controller takes them; raises `CliError` when there is nothing in them."""
    return [
        {"file": o.file, "document": o.document, "body": o.body} for o in _manifests(files, verb)
    ]


def _manifests(files: list[str], verb: str) -> list[Any]:
    found = read_manifests(files)
    if not found:
        raise CliError(f"no objects passed to {verb}")
    return found


def warn(answer: dict[str, Any]) -> None:
    """Print the warnings of a controller's answer."""
    for warning in answer.get("warnings", []):
        print(f"Warning: {warning}", file=sys.stderr)


def _apply(args: argparse.Namespace) -> int:
    if args.dry_run == "client":
        answer = _would_apply(args)
    else:
        objects = sent(args.files, "apply")
        answer = controller(args.lab, CHANGE).post("/apply", {"objects": objects})
    warn(answer)
    if args.output == "json":
        print(as_json(answer))
        return 0
    for result in answer["results"]:
        action = result["action"] + _dry(args)
        print(f"{named(result['kind']).resource}/{result['name']} {action}")
    return 0


def _dry(args: argparse.Namespace) -> str:
    return " (dry run)" if args.dry_run == "client" else ""


def _would_apply(args: argparse.Namespace) -> dict[str, Any]:
    """What would come of `_apply`; as kubectl's, it does not look for what would change."""
    refs = [_ref(each) for each in _manifests(args.files, "apply")]
    there = _there(controller(args.lab), refs)
    results = [
        {**ref, "action": "configured" if known else "created"}
        for ref, known in zip(refs, there, strict=True)
    ]
    return {"results": results, "warnings": []}


def _would_delete(client: Client, refs: list[dict[str, str]]) -> dict[str, Any]:
    results = [
        {**ref, "action": "deleted" if known else "not found"}
        for ref, known in zip(refs, _there(client, refs), strict=True)
    ]
    return {"results": results}


def _there(client: Client, refs: list[dict[str, str]]) -> list[bool]:
    """Whether the lab shows each object; of kinds that are not acted on it shows none."""
    asked = sorted({(ref["kind"], ref["namespace"]) for ref in refs})
    known = {
        (kind, namespace, name_of(item))
        for kind, namespace in asked
        for item in client.get("/objects", kind=kind, namespace=namespace or None)["objects"]
    }
    return [(ref["kind"], ref["namespace"], ref["name"]) in known for ref in refs]


def _ref(raw: Any) -> dict[str, str]:
    return {"kind": raw.kind, "namespace": raw.namespace, "name": raw.name}


def _delete(args: argparse.Namespace) -> int:
    if bool(args.files) == (args.kind is not None):
        raise CliError("expected either -f FILE or KIND NAME", status=2)
    by_label = args.selector is not None or args.all
    if by_label and (args.files or args.names or "/" in args.kind):
        raise CliError("-l and --all need a KIND, and neither -f FILE nor NAME", status=2)
    if args.all_namespaces and not by_label:
        raise CliError("-A goes with -l or --all", status=2)
    if by_label:
        refs = _labelled(args)
    elif args.files:
        refs = [_ref(each) for each in read_manifests(args.files)]
    else:
        refs = _refs(args)
    if not refs:
        print("No resources found", file=sys.stderr)
        return 0
    client = controller(args.lab, CHANGE)
    if args.dry_run == "client":
        answer = _would_delete(client, refs)
    else:
        answer = client.post("/delete", {"refs": refs})
        warn(answer)
    if args.output == "json":
        print(as_json(answer))
    results = answer["results"]
    # Of several kinds a name is fine if one has it.
    there = {result["name"] for result in results if result["action"] == "deleted"}
    several = not args.files and "/" not in args.kind and len(spelled(args.kind)) > 1
    missing = []
    for result in results:
        kind = named(result["kind"])
        if result["action"] != "deleted":
            if not several or result["name"] not in there:
                missing.append(not_found(kind, result["name"]))
        elif args.output != "json":
            print(f'{kind.resource} "{result["name"]}" deleted{_dry(args)}')
    if not missing or args.ignore_not_found:
        return 0
    sys.stdout.flush()
    print("\n".join(missing), file=sys.stderr)
    return 1


def _labelled(args: argparse.Namespace) -> list[dict[str, str]]:
    """The objects of a kind, or of several, whose labels match."""
    matches = read_selector(args.selector or "")
    client = controller(args.lab)
    refs = []
    for kind in spelled(args.kind):
        namespace = args.namespace if kind.namespaced and not args.all_namespaces else None
        found = client.get("/objects", kind=kind.name, namespace=namespace)["objects"]
        refs += [
            {"kind": kind.name, "namespace": namespace_of(item), "name": name_of(item)}
            for item in found
            if matches(labels_of(item))
        ]
    return refs


def _refs(args: argparse.Namespace) -> list[dict[str, str]]:
    pairs = [(args.kind, name) for name in args.names]
    if any(("/" in name) != ("/" in args.kind) for name in args.names):
        raise CliError("expected KIND/NAME everywhere or nowhere", status=2)
    if "/" in args.kind:
        pairs = [tuple(word.split("/", 1)) for word in (args.kind, *args.names)]
    if not pairs:
        which = ", ".join(kind.plural for kind in spelled(args.kind))
        raise CliError(f"which of the {which}? expected a NAME", status=2)
    return [
        {
            "kind": kind.name,
            "namespace": args.namespace if kind.namespaced else "",
            "name": name,
        }
        for word, name in pairs
        for kind in spelled(word)
    ]
