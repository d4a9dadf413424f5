"""Kubernetes objects as they stand in files: read, but not yet understood."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from pylb.policy.errors import ManifestError, Problem
from pylb.policy.loader import load_documents

_SUFFIXES = (".yaml", ".yml", ".json")
CLUSTER_SCOPED = frozenset(("Node", "Namespace", "Lab", "PersistentVolume", "StorageClass"))


class Ref(NamedTuple):
    """What tells one object from another; ``namespace`` is "" for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} " + "/".join(part for part in (self.namespace, self.name) if part)


@dataclass(frozen=True, slots=True)
class RawObject:
    """One object: where it stands and what it says."""

    file: str
    document: int
    kind: str
    api_version: str
    namespace: str
    name: str
    body: Mapping[str, Any]

    @property
    def ref(self) -> Ref:
        """The object's identity."""
        return Ref(self.kind, self.namespace, self.name)

    def problem(self, field: str, message: str) -> Problem:
        """A problem of this object."""
        return Problem(self.file, self.document, str(self.ref), field, message)


def read(paths: Sequence[Path | str]) -> list[RawObject]:
    """The objects of files, folders (their .yaml, .yml and .json files, sorted) or "-".

    A ``List`` is taken apart.  Raises `ManifestError` with every problem of every
    file: unreadable files, YAML errors, things that are not objects, and an object
    that is there twice.
    """
    problems: list[Problem] = []
    found: list[RawObject] = []
    for path in _files(paths, problems):
        found += _read_file(path, problems)
    return _finish(found, problems)


def from_bodies(bodies: Iterable[Mapping[str, Any]], file: str = "<api>") -> list[RawObject]:
    """Objects that are at hand already; raises `ManifestError` as `read` does."""
    problems: list[Problem] = []
    found: list[RawObject] = []
    for document, body in enumerate(bodies, 1):
        found += _objects(file, document, body, problems)
    return _finish(found, problems)


def raw(file: str, document: int, body: Mapping[str, Any]) -> list[RawObject]:
    """The objects of one document; raises `ManifestError`."""
    problems: list[Problem] = []
    return _finish(_objects(file, document, body, problems), problems)


def _finish(found: list[RawObject], problems: list[Problem]) -> list[RawObject]:
    seen: dict[Ref, RawObject] = {}
    for each in found:
        first = seen.setdefault(each.ref, each)
        if first is not each:
            where = f"{first.file}, document {first.document}"
            problems.append(each.problem("", f"is there twice; it stands in {where} already"))
    if problems:
        raise ManifestError(problems, seen.values())
    return found


def _files(paths: Sequence[Path | str], problems: list[Problem]) -> Iterator[Path]:
    for given in paths:
        path = Path(given)
        if str(given) == "-" or not path.is_dir():
            yield path
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES and p.is_file())
        if not inside:
            expected = ", ".join(_SUFFIXES)
            problems.append(Problem(str(given), 0, "", "", f"no file in it ends in {expected}"))
        yield from inside


def _read_file(path: Path, problems: list[Problem]) -> list[RawObject]:
    name = "<stdin>" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if name == "<stdin>" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(Problem(name, 0, "", "", f"cannot be read: {reason}"))
        return []
    found: list[RawObject] = []
    try:
        documents = [json.loads(text)] if path.suffix == ".json" else load_documents(text)
        for number, body in enumerate(documents, 1):
            if body is not None:
                found += _objects(name, number, body, problems)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error)
        problems.append(Problem(name, 0, "", "", f"{line}not YAML: {what}"))
    except json.JSONDecodeError as error:
        problems.append(Problem(name, 0, "", "", f"line {error.lineno}: not JSON: {error.msg}"))
    except RecursionError:
        problems.append(Problem(name, 0, "", "", "is nested too deeply"))
    return found


def _objects(file: str, document: int, body: Any, problems: list[Problem]) -> list[RawObject]:
    def wrong(field: str, message: str, what: str = "") -> list[RawObject]:
        problems.append(Problem(file, document, what, field, message))
        return []

    if not isinstance(body, Mapping):
        return wrong("", f"expected a Kubernetes object, got {_kind_of(body)}")
    kind = body.get("kind")
    if not isinstance(kind, str) or not kind:
        return wrong("kind", "expected the object's kind, such as Service")
    if kind.endswith("List") and "items" in body:
        items = body["items"]
        if not isinstance(items, list):
            return wrong("items", f"expected a list, got {_kind_of(items)}", kind)
        found: list[RawObject] = []
        for item in items:
            found += _objects(file, document, item, problems)
        return found
    api_version = body.get("apiVersion")
    if not isinstance(api_version, str) or not api_version:
        return wrong("apiVersion", "expected the object's API version, such as v1", kind)
    metadata = body.get("metadata", {})
    if not isinstance(metadata, Mapping):
        return wrong("metadata", f"expected a mapping, got {_kind_of(metadata)}", kind)
    name = metadata.get("name", "lab" if kind == "Lab" else None)
    if not isinstance(name, str) or not name:
        return wrong("metadata.name", "expected the object's name", kind)
    namespace = metadata.get("namespace", "default")
    if not isinstance(namespace, str) or not namespace:
        return wrong("metadata.namespace", "expected a namespace's name", f"{kind} {name}")
    if kind in CLUSTER_SCOPED:
        namespace = ""
    return [RawObject(file, document, kind, api_version, namespace, name, body)]


def _kind_of(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}
    return names.get(type(value), repr(value))
