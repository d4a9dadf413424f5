"""``pylb logs``: what the workloads of a lab have written."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from pylb.cli.common import add_command, add_lab, controller, inside
from pylb.cli.errors import CliError
from pylb.cli.kinds import POD, wanted
from pylb.cli.object_tables import at, labels_of, name_of, namespace_of
from pylb.cli.selector import read_selector

_ALL, _SOME = -1, 10
"""Lines that are shown unless --tail says otherwise, of one log and of several, as kubectl does."""
_POLL = 0.1
_CHUNK = 1 << 16


def register(commands: Any) -> None:
    """Add the ``logs`` command."""
    parser = add_command(
        commands,
        "logs",
        "print the output of a pod or of an outside host",
        "pylb logs web-1 -f",
        "pylb logs -l app=web --prefix --tail 20",
        "pylb logs deployment/web",
    )
    parser.add_argument(
        "pod",
        metavar="POD",
        nargs="?",
        help="a pod's or outside host's name; or KIND/NAME: the first pod of a deployment, …",
    )
    parser.add_argument("-n", "--namespace", default="default", help="(default: default)")
    parser.add_argument("-l", "--selector", help="every pod with these labels")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument(
        "--tail",
        type=int,
        metavar="N",
        help="only the last N lines, -1 for all of them (default: 10 with -l, else all)",
    )
    parser.add_argument("--prefix", action="store_true", help="begin each line with its pod")
    add_lab(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if (args.pod is None) == (args.selector is None):
        raise CliError("expected either POD or -l SELECTOR", status=2)
    tail = args.tail
    if tail is None:
        tail = _ALL if args.selector is None else _SOME
    if tail < _ALL:
        raise CliError(f"--tail {tail}: expected -1 or more", status=2)
    logs = _selected(args) if args.selector is not None else [_named(args)]
    if not logs:
        print(f"No resources found in {args.namespace} namespace.", file=sys.stderr)
        return 0
    readers = [Reader(path, f"[pod/{name}] " if args.prefix else "") for name, path in logs]
    for reader in readers:
        reader.start(None if tail == _ALL else tail)
    while args.follow:
        if not sum(reader.forward() for reader in readers):
            time.sleep(_POLL)
    return 0


def _named(args: argparse.Namespace) -> tuple[str, Path]:
    from pylb.control.paths import LabPaths
    from pylb.lab.names import check_lab_name

    check_lab_name(args.lab)
    paths = LabPaths(args.lab)
    if not paths.root.is_dir():
        raise CliError(f"no lab called {args.lab!r} is up: start one with `pylb lab up`")
    if "/" in args.pod:
        args.pod = _first_of(args)
    with inside():
        for folder in (f"{args.namespace}.{args.pod}", args.pod):
            log = paths.workload(folder) / "log"
            if "/" not in folder and log.is_file():
                return args.pod, log
    raise CliError(f"lab {args.lab!r} has no pod {args.pod!r} in namespace {args.namespace!r}")


def _first_of(args: argparse.Namespace) -> str:
    """The pod that ``pod/NAME`` means, or the first that a Deployment, … selects."""
    [(kind, [name])] = wanted(args.pod, ())
    if kind is POD:
        return name
    client = controller(args.lab)
    found = client.get("/objects", kind=kind.name, namespace=args.namespace)["objects"]
    item = next((item for item in found if name_of(item) == name), None)
    if item is None:
        raise CliError(f"lab {args.lab!r} has no {kind.resource} {name!r}")
    labels = at(item, "spec", "selector", default={})
    labels = labels.get("matchLabels", labels)
    pods = client.get("/objects", kind="Pod", namespace=args.namespace)["objects"]
    fitting = [name_of(pod) for pod in pods if labels and labels.items() <= labels_of(pod).items()]
    if not fitting:
        raise CliError(f"{kind.resource} {name!r} has no pod")
    if len(fitting) > 1:
        print(f"Found {len(fitting)} pods, using pod/{fitting[0]}", file=sys.stderr)
    return fitting[0]


def _selected(args: argparse.Namespace) -> list[tuple[str, Path]]:
    from pylb.control.paths import LabPaths

    matches = read_selector(args.selector)
    answer = controller(args.lab).get("/objects", kind="Pod", namespace=args.namespace)
    paths = LabPaths(args.lab)
    return [
        (name_of(pod), paths.workload(f"{namespace_of(pod)}.{name_of(pod)}") / "log")
        for pod in answer["objects"]
        if matches(labels_of(pod))
    ]


class Reader:
    """One log, printed up to where it ends and then as it grows.

    A log that was replaced or cut short is read again from its beginning.  Bytes
    that are not UTF-8 are printed as replacement characters.
    """

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._offset = 0
        self._inode = 0
        self._rest = b""

    def start(self, tail: int | None) -> None:
        """Print what is there, or its last ``tail`` lines."""
        if tail is not None:
            try:
                lines = self._path.read_bytes().splitlines(keepends=True)
            except FileNotFoundError:
                return
            self._inode = self._path.stat().st_ino
            self._offset = sum(map(len, lines))
            for line in lines[len(lines) - tail :] if tail else []:
                self._emit(line)
        while self.forward():
            pass
        if self._rest:
            self._emit(self._rest)
            self._rest = b""
        sys.stdout.flush()

    def forward(self) -> bool:
        """Print what has come since; False when nothing has."""
        try:
            with self._path.open("rb") as log:
                status = os.fstat(log.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset, self._rest = status.st_ino, 0, b""
                log.seek(self._offset)
                data = log.read(_CHUNK)
        except FileNotFoundError:
            return False
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._emit(line + b"\n")
        sys.stdout.flush()
        return bool(data)

    def _emit(self, line: bytes) -> None:
        sys.stdout.write(self._prefix + line.decode(errors="replace"))
