"""Patches of objects, in the three forms that Kubernetes knows.

- *strategic*: a mapping that is laid over the object; lists whose elements have a
  key (a Service's ports, containers, environment variables) are merged by it, and
  ``$patch: delete`` or ``replace`` says what merging cannot;
- *merge*: RFC 7386; a list replaces a list, null removes;
- *json*: RFC 6902; a list of operations.

All pure: what is given is not changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Body = dict[str, Any]

FORMS = ("strategic", "merge", "json")

_BUILT_IN = ("v1", "apps/v1", "discovery.k8s.io/v1")
"""API versions whose types say how their lists are merged; others know no strategic patch."""

_MERGE_KEYS: Mapping[tuple[str, str], str] = {
    ("spec", "ports"): "port",
    ("containers", "ports"): "containerPort",
    ("initContainers", "ports"): "containerPort",
    ("spec", "containers"): "name",
    ("spec", "initContainers"): "name",
    ("spec", "volumes"): "name",
    ("containers", "env"): "name",
    ("containers", "volumeMounts"): "mountPath",
    ("metadata", "ownerReferences"): "uid",
    ("status", "conditions"): "type",
    ("status", "addresses"): "type",
    ("status", "podIPs"): "ip",
}
"""By the last two names of a list's path, the field that tells its elements apart."""

_DIRECTIVE = "$patch"
_IDENTITY = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"))


class PatchError(ValueError):
    """A patch that cannot be applied; the message is one sentence."""


def patched(body: Mapping[str, Any], patch: Any, form: str) -> Body:
    """``body`` with a patch of one of the `FORMS` applied.

    A Service whose type changes loses what its new type may not have, unless the
    patch changed that too.  Raises `PatchError`, also when the patch would make
    another object of it.
    """
    if form == "json":
        after = json_patch(body, patch)
    elif not isinstance(patch, Mapping):
        raise PatchError("expected a mapping")
    elif form == "merge":
        after = merge(body, patch)
    elif body.get("apiVersion") in _BUILT_IN:
        after = _strategic(body, patch, ("", ""))
    else:
        raise PatchError(f"a {body.get('kind')} knows no strategic patch: expected merge or json")
    if not isinstance(after, dict):
        raise PatchError("it leaves no object")
    for path in _IDENTITY:
        if _at(after, path) != _at(body, path):
            raise PatchError(f"{'.'.join(path)} cannot be changed")
    if after["kind"] == "Service":
        _drop_leftovers(body, after)
    return after


def merge(body: Any, patch: Any) -> Any:
    """RFC 7386: ``patch`` laid over ``body``."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    after = copy.deepcopy(dict(body)) if isinstance(body, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = merge(after.get(name), value)
    return after


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> Body:
    """The merge patch that makes ``after`` of ``before``."""
    patch: Body = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            if inner := difference(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def _strategic(body: Any, patch: Mapping[str, Any], path: tuple[str, str]) -> Any:
    """``patch`` laid over ``body``, which stands at ``path``: the last two names to it."""
    directive = patch.get(_DIRECTIVE, "merge")
    if directive == "replace":
        return {name: copy.deepcopy(v) for name, v in patch.items() if name != _DIRECTIVE}
    if directive == "delete":
        return {}
    if directive != "merge":
        raise PatchError(f"{_DIRECTIVE}: expected merge, replace or delete, got {directive!r}")
    after = copy.deepcopy(dict(body)) if isinstance(body, Mapping) else {}
    for name, value in patch.items():
        if name == _DIRECTIVE:
            continue
        if name.startswith("$"):
            raise PatchError(f"{name}: of the directives only {_DIRECTIVE} is known")
        inner = (path[1], name)
        if value is None:
            after.pop(name, None)
        elif isinstance(value, Mapping):
            after[name] = _strategic(after.get(name), value, inner)
        elif isinstance(value, list) and inner in _MERGE_KEYS:
            after[name] = _merged_list(after.get(name) or [], value, inner)
        else:
            after[name] = copy.deepcopy(value)
    return after


def _merged_list(before: list[Any], patch: list[Any], path: tuple[str, str]) -> list[Any]:
    """A list merged by its elements' key, in Kubernetes' order.

    The patch's elements keep the patch's order, and the others theirs; of one of
    each, whichever stood first before comes first, and what is new before all.
    """
    key = _MERGE_KEYS[path]
    replace = any(isinstance(each, Mapping) and each == {_DIRECTIVE: "replace"} for each in patch)
    old = [] if replace else list(before)
    first: list[tuple[int, Any]] = []
    named: set[int] = set()
    for each in patch:
        if isinstance(each, Mapping) and each == {_DIRECTIVE: "replace"}:
            continue
        if not isinstance(each, Mapping) or key not in each:
            raise PatchError(
                f"{'.'.join(filter(None, path))}: expected each element with its {key}"
            )
        where = next((i for i, o in enumerate(old) if _is(o, key, each[key])), -1)
        named.add(where)
        if each.get(_DIRECTIVE) != "delete":
            first.append((where, _strategic(old[where] if where >= 0 else None, each, path)))
    others = [(where, each) for where, each in enumerate(old) if where not in named]
    merged = []
    while first or others:
        take = first if first and (not others or first[0][0] < others[0][0]) else others
        merged.append(take.pop(0)[1])
    return merged


def _is(element: Any, key: str, value: Any) -> bool:
    return isinstance(element, Mapping) and element.get(key) == value


def json_patch(body: Any, operations: Any) -> Any:
    """RFC 6902: ``operations`` applied one after the other; raises `PatchError`."""
    if not isinstance(operations, list):
        raise PatchError("expected a list of operations")
    # Under one name, so that the document itself is a place like any other.
    holder = {"": copy.deepcopy(body)}
    for number, operation in enumerate(operations):
        try:
            _operate(holder, operation)
        except PatchError as error:
            raise PatchError(f"operation {number}: {error}") from None
    return holder.get("")


def _operate(holder: Body, operation: Any) -> None:
    if not isinstance(operation, Mapping):
        raise PatchError("expected a mapping with op and path")
    op = operation.get("op")
    path = _pointer(operation, "path")
    match op:
        case "add":
            _add(holder, path, copy.deepcopy(_value(operation)))
        case "remove":
            _remove(holder, path)
        case "replace":
            value = copy.deepcopy(_value(operation))
            _remove(holder, path)
            _add(holder, path, value)
        case "move":
            _add(holder, path, _remove(holder, _pointer(operation, "from")))
        case "copy":
            _add(holder, path, copy.deepcopy(_get(holder, _pointer(operation, "from"))))
        case "test":
            if (found := _get(holder, path)) != _value(operation):
                raise PatchError(f"test of {_spelled(path)}: it is {found!r}")
        case _:
            raise PatchError(f"op {op!r}: expected add, remove, replace, move, copy or test")


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError("its value is missing")
    return operation["value"]


def _pointer(operation: Mapping[str, Any], name: str) -> list[str]:
    """RFC 6901: the names of a pointer, that of the document itself before them."""
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"{name}: expected a pointer such as /spec/type, got {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")]


def _spelled(path: list[str]) -> str:
    return "/".join(path) or "the document"


def _get(holder: Any, path: list[str]) -> Any:
    at = holder
    for i, name in enumerate(path):
        if isinstance(at, dict) and name in at:
            at = at[name]
        elif isinstance(at, list):
            at = at[_index(at, name, path, len(at) - 1)]
        else:
            raise PatchError(f"there is no {_spelled(path[: i + 1])}")
    return at


def _index(at: list[Any], name: str, path: list[str], last: int) -> int:
    if not (name.isascii() and name.isdigit()) or int(name) > last:
        raise PatchError(f"{_spelled(path)}: {name!r} is no index from 0 to {last}")
    return int(name)


def _add(holder: Any, path: list[str], value: Any) -> None:
    at = _get(holder, path[:-1])
    name = path[-1]
    if isinstance(at, dict):
        at[name] = value
    elif isinstance(at, list):
        at.insert(len(at) if name == "-" else _index(at, name, path, len(at)), value)
    else:
        raise PatchError(f"there is no {_spelled(path[:-1])} to add to")


def _remove(holder: Any, path: list[str]) -> Any:
    value = _get(holder, path)
    at = _get(holder, path[:-1])
    del at[int(path[-1]) if isinstance(at, list) else path[-1]]
    return value


def _at(body: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


_OF_NODE_PORT = ("externalTrafficPolicy",)
_OF_LOAD_BALANCER = ("healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass")
_EXPOSED = ("NodePort", "LoadBalancer")


def _drop_leftovers(before: Mapping[str, Any], after: Body) -> None:
    """Take out of a Service what only its type before could have and the patch left as it was.

    As the API server does it (kubernetes pkg/registry/core/service, dropTypeDependentFields;
    the affinity's timeout is taken out by its defaults, SetDefaults_Service).
    """
    old, new = before.get("spec") or {}, after.get("spec") or {}
    if not isinstance(new, dict) or not isinstance(old, Mapping):
        return
    kind = new.get("type", "ClusterIP")
    gone = list(_leftovers(old, new, kind))
    for name in gone:
        if new.get(name) == old.get(name):
            new.pop(name, None)
    if kind not in _EXPOSED:
        had = [port.get("nodePort") for port in _mappings(old.get("ports"))]
        for port in _mappings(new.get("ports")):
            if port.get("nodePort") in had:
                port.pop("nodePort", None)


def _leftovers(old: Mapping[str, Any], new: Mapping[str, Any], kind: Any) -> Iterator[str]:
    if kind == "ExternalName":
        yield from ("clusterIP", "clusterIPs")
    if old.get("type", "ClusterIP") in _EXPOSED and kind not in _EXPOSED:
        yield from _OF_NODE_PORT
    if old.get("type") == "LoadBalancer" and kind != "LoadBalancer":
        yield from _OF_LOAD_BALANCER
    if new.get("externalTrafficPolicy", "Cluster") != "Local":
        yield "healthCheckNodePort"
    if new.get("sessionAffinity", "None") != "ClientIP":
        yield "sessionAffinityConfig"


def _mappings(values: Any) -> Iterator[Body]:
    return (each for each in values or () if isinstance(each, dict))
