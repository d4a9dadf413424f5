"""``pylb patch`` and ``pylb scale``: change a part of an object that is there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pylb.cli import kinds
from pylb.cli.apply import warn
from pylb.cli.common import CHANGE, add_command, add_dry_run, add_lab, controller
from pylb.cli.creation import find, stored, tell
from pylb.cli.errors import CliError
from pylb.cli.get import not_found
from pylb.cli.kinds import DEPLOYMENT, REPLICA_SET, Kind
from pylb.cli.object_tables import at
from pylb.cli.output import DOCUMENTS, add_output


def register(commands: Any) -> None:
    """Add the ``patch`` and ``scale`` commands."""
    parser = add_command(
        commands,
        "patch",
        "change a part of an object",
        """pylb patch svc web -p '{"spec":{"externalTrafficPolicy":"Local"}}'""",
        """pylb patch svc web --type=json -p '[{"op":"remove","path":"/spec/selector"}]'""",
    )
    parser.add_argument("kind", metavar="KIND", help=f"of {kinds.WORDS}")
    parser.add_argument("names", metavar="NAME", nargs="*", help="which; or KIND/NAME")
    patch = parser.add_mutually_exclusive_group(required=True)
    patch.add_argument("-p", "--patch", metavar="PATCH", help="in JSON or YAML")
    patch.add_argument("--patch-file", metavar="FILE", help="where it stands")
    parser.add_argument(
        "--type",
        choices=["strategic", "merge", "json"],
        default="strategic",
        help="strategic merges lists by their key, merge replaces them (RFC 7386), json is a "
        "list of operations (RFC 6902) (default: strategic)",
    )
    _add_rest(parser)
    parser.set_defaults(run=_patch)

    parser = add_command(
        commands,
        "scale",
        "change how many pods a Deployment or ReplicaSet has",
        "pylb scale deployment web --replicas=3",
        "pylb scale deploy/web rs/other --replicas=0",
    )
    parser.add_argument("kind", metavar="KIND", help="deployment or replicaset")
    parser.add_argument("names", metavar="NAME", nargs="*", help="which; or KIND/NAME")
    parser.add_argument("--replicas", type=int, required=True, metavar="N", help="how many")
    parser.add_argument(
        "--current-replicas", type=int, metavar="N", help="only if there are so many now"
    )
    _add_rest(parser)
    parser.set_defaults(run=_scale)


def _add_rest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    add_dry_run(parser)
    add_output(parser, DOCUMENTS)
    add_lab(parser)


def _patch(args: argparse.Namespace) -> int:
    asked = _asked(args)
    if args.patch_file is not None:
        patch = _read(Path(args.patch_file).read_text(encoding="utf-8"), args.patch_file)
    else:
        patch = _read(args.patch, "-p")
    return max(_apply(args, kind, name, patch, args.type, "patched") for kind, name in asked)


def _read(text: str, where: str) -> Any:
    """A patch, in JSON or in YAML; raises `CliError` with status 2."""
    import yaml

    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        patch = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error)
        message = f"{where}: {line}neither JSON nor YAML: {what}"
        raise CliError(message, status=2) from None
    # Nearly any text is YAML.
    if not isinstance(patch, (dict, list)):
        raise CliError(f"{where}: expected a mapping or a list, got {text!r}", status=2)
    return patch


def _scale(args: argparse.Namespace) -> int:
    asked = _asked(args)
    for kind, _ in asked:
        if kind not in (DEPLOYMENT, REPLICA_SET):
            message = "expected deployments or replicasets"
            raise CliError(f"{kind.plural} cannot be scaled: {message}", status=2)
    if args.replicas < 0:
        raise CliError(f"--replicas {args.replicas}: expected 0 or more", status=2)
    patch = {"spec": {"replicas": args.replicas}}
    return max(_scale_one(args, kind, name, patch) for kind, name in asked)


def _scale_one(args: argparse.Namespace, kind: Kind, name: str, patch: Any) -> int:
    if args.current_replicas is not None:
        item = find(args, kind, name)
        now = at(item, "spec", "replicas", default=1)
        if item is not None and now != args.current_replicas:
            expected = f"expected {args.current_replicas} replicas, there are {now}"
            raise CliError(f"{kind.resource} {name!r}: {expected}")
    return _apply(args, kind, name, patch, "merge", "scaled")


def _asked(args: argparse.Namespace) -> list[tuple[Kind, str]]:
    asked = [(kind, name) for kind, names in kinds.wanted(args.kind, args.names) for name in names]
    if not asked:
        raise CliError("expected a NAME, or KIND/NAME", status=2)
    return asked


def _apply(
    args: argparse.Namespace, kind: Kind, name: str, patch: Any, form: str, action: str
) -> int:
    if args.dry_run == "client":
        return _would_apply(args, kind, name, patch, form, action)
    namespace = args.namespace if kind.namespaced else ""
    ref = {"kind": kind.name, "namespace": namespace, "name": name}
    body = {"ref": ref, "patch": patch, "type": form}
    answer = controller(args.lab, CHANGE).post("/patch", body)
    warn(answer)
    [result] = answer["results"]
    if result["action"] == "not found":
        sys.stdout.flush()
        print(not_found(kind, name), file=sys.stderr)
        return 1
    if result["action"] == "unchanged" and action == "patched":
        action = "patched (no change)"
    if args.output is None:
        return tell(args, kind, {"metadata": {"name": name}}, action)
    return tell(args, kind, stored(args, kind, name), action)


def _would_apply(
    args: argparse.Namespace, kind: Kind, name: str, patch: Any, form: str, action: str
) -> int:
    """Patch what the lab shows, here; whether the lab would take it is not asked."""
    from pylb.policy.patching import PatchError, patched

    item = find(args, kind, name)
    if item is None:
        sys.stdout.flush()
        print(not_found(kind, name), file=sys.stderr)
        return 1
    try:
        changed = patched(item, patch, form)
    except PatchError as error:
        raise CliError(f"the patch: {error}") from None
    if changed == item and action == "patched":
        action = "patched (no change)"
    return tell(args, kind, changed, f"{action} (dry run)")
