"""Templates as ``kubectl get -o jsonpath=`` takes them.

Text stands for itself; what is between braces is evaluated::

    {.metadata.name}                      a field; \\. for a dot in its name
    {.spec.ports[0].port}  {.items[-1]}   an element, counted from the end below 0
    {.items[*].metadata.name}             every element, or every value of a mapping
    {.spec.ports[0:2]}  {.items[::2]}     a slice: from, to (exclusive), step
    {.spec.ports[0,2]}  {.spec['a','b']}  several elements or fields
    {.items[?(@.status.phase=="Running")].metadata.name}
                                          those for which it holds: == != < <= > >=,
                                          or [?(@.field)] for those that have one
    {..port}                              at any depth
    {$.kind}  {@}                         from the document's root; the current value
    {range .items[*]}{.metadata.name}{"\\n"}{end}
                                          once for each, which is the current value inside
    {"\\t"}                                text in quotes, with \\n and \\t

What is not there gives nothing; several values are joined by a blank; mappings
and lists are given as JSON.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


class JsonPathError(ValueError):
    """A template that cannot be read, or a value that it cannot be used on."""


_Step = Callable[[Any, Any], Iterator[Any]]
"""From one value, and the document's root, to those that a part of a path leads to."""


@dataclass(frozen=True, slots=True)
class Path:
    """What leads from a value, or from the root, to others."""

    steps: tuple[_Step, ...] = ()
    from_root: bool = False

    def find(self, current: Any, root: Any) -> list[Any]:
        """Every value that the path leads to, in order; raises `JsonPathError`."""
        values = [root if self.from_root else current]
        for step in self.steps:
            values = [found for value in values for found in step(value, root)]
        return values


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a template that is repeated for every value of a path."""

    path: Path
    body: list[_Node] = field(default_factory=list)


_Node = str | Path | Range


class Template:
    """A template that was read."""

    def __init__(self, text: str) -> None:
        """Raises `JsonPathError`."""
        self._nodes = _Parser(text).template()

    def render(self, document: Any) -> str:
        """The text that it makes of a document; raises `JsonPathError`."""
        return "".join(_rendered(self._nodes, document, document))


def path(text: str) -> Path:
    """The path of a custom column: ``.a.b``, ``a.b`` or ``{.a.b}``; raises `JsonPathError`."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    if inner[:1] not in (".", "[", "$", "@"):
        inner = f".{inner}"
    parser = _Parser(inner)
    found = parser.path()
    if parser.rest:
        raise parser.error(f"{parser.rest[0]!r} is not part of a path")
    return found


def text_of(value: Any) -> str:
    """A value as templates print it."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _rendered(nodes: list[_Node], current: Any, root: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Path):
            yield " ".join(map(text_of, node.find(current, root)))
        else:
            for value in node.path.find(current, root):
                yield from _rendered(node.body, value, root)


_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?")
_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
_FIELD = re.compile(r"(?:\\.|[^\s.\[\]{}(),$@=!<>\\])+")
_WORD = re.compile(r"(range|end|true|false)(?![\w.-])")
_OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def rest(self) -> str:
        """What was not read yet."""
        return self._text[self._at :]

    def error(self, message: str) -> JsonPathError:
        return JsonPathError(f"{self._text!r}: {message}")

    def template(self) -> list[_Node]:
        open_: list[list[_Node]] = [[]]
        while self._at < len(self._text):
            end = self._text.find("{", self._at)
            if end != self._at:
                end = len(self._text) if end < 0 else end
                open_[-1].append(self._text[self._at : end])
                self._at = end
                continue
            self._at += 1
            self._action(open_)
        return open_[0]

    def _action(self, open_: list[list[_Node]]) -> None:
        self._blanks()
        word = self._match(_WORD)
        if word == "range":
            self._blanks()
            ranged = Range(self.path())
            open_[-1].append(ranged)
            open_.append(ranged.body)
        elif word == "end":
            if len(open_) == 1:
                raise self.error("{end} without {range}")
            open_.pop()
        elif word:
            open_[-1].append(word)
        elif (quoted := self._quoted()) is not None:
            open_[-1].append(quoted)
        elif number := self._match(_NUMBER):
            open_[-1].append(number)
        elif not self.rest.startswith("}"):
            open_[-1].append(self.path())
        self._blanks()
        if not self._skip("}"):
            what = f"unexpected {self.rest[0]!r}" if self.rest else "a { is not closed"
            raise self.error(what)

    def path(self) -> Path:
        from_root = self._skip("$")
        if not from_root:
            self._skip("@")
        steps: list[_Step] = []
        while self.rest:
            if self._skip(".."):
                steps.append(_descend)
                if name := self._match(_FIELD):
                    steps.append(_named(name))
            elif self._skip("["):
                steps.append(self._bracket())
            elif self._skip("."):
                if name := self._match(_FIELD):
                    steps.append(_named(name))
                elif steps and not self.rest.startswith("["):
                    raise self.error("a field's name is missing after a dot")
            else:
                break
        if not steps and not from_root and self._text[self._at - 1 : self._at] not in (".", "@"):
            raise self.error(f"{self.rest[:1]!r} begins no path: expected a dot")
        return Path(tuple(steps), from_root)

    def _bracket(self) -> _Step:
        self._blanks()
        step: _Step
        if self._skip("*"):
            step = _every
        elif self._skip("?("):
            step = self._filter()
        elif found := _SLICE.match(self._text, self._at):
            self._at = found.end()
            step = self._slice(*(int(n) if n else None for n in found.groups()))
        else:
            step = self._union()
        self._blanks()
        if not self._skip("]"):
            raise self.error("a [ is not closed, or there is no such index")
        return step

    def _slice(self, start: int | None, stop: int | None, by: int | None) -> _Step:
        if by is not None and by <= 0:
            raise self.error("a slice's step must be above 0")
        return _slice(slice(start, stop, by))

    def _union(self) -> _Step:
        names: list[str] = []
        indices: list[int] = []
        while True:
            self._blanks()
            if (quoted := self._quoted()) is not None:
                names.append(quoted)
            elif (number := self._match(_NUMBER)) and "." not in number:
                indices.append(int(number))
            else:
                raise self.error("expected an index, or a name in quotes, after [")
            self._blanks()
            if not self._skip(","):
                break
        if names and indices:
            raise self.error("expected either indices or names between [ and ]")
        return _fields(names) if names else _elements(indices)

    def _filter(self) -> _Step:
        left = self._operand()
        self._blanks()
        # The longer of two that begin alike stand first.
        sign = next((sign for sign in _OPERATORS if self._skip(sign)), None)
        right = None if sign is None else self._operand()
        self._blanks()
        if not self._skip(")"):
            raise self.error("expected [?(PATH)] or [?(PATH OPERATOR VALUE)]")
        return _filter(left, sign, right)

    def _operand(self) -> Path | Any:
        self._blanks()
        if (quoted := self._quoted()) is not None:
            return quoted
        if word := self._match(_WORD):
            return word == "true"
        if number := self._match(_NUMBER):
            return float(number) if "." in number else int(number)
        return self.path()

    def _quoted(self) -> str | None:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return _unescaped(found[1] if found[1] is not None else found[2])

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _skip(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _blanks(self) -> None:
        while self.rest[:1].isspace():
            self._at += 1


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[1]), text)


def _named(word: str) -> _Step:
    """The step of a word after a dot; a lone ``*`` is every field."""
    return _every if word == "*" else _fields([_unescaped(word)])


def _fields(names: list[str]) -> _Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield from (value[name] for name in names if name in value)

    return step


def _elements(indices: list[int]) -> _Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        for index in indices:
            if not isinstance(value, list):
                raise JsonPathError(f"[{index}]: {text_of(value)!r} is not a list")
            if not -len(value) <= index < len(value):
                raise JsonPathError(f"[{index}]: the list has {len(value)} elements")
            yield value[index]

    return step


def _slice(which: slice) -> _Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            raise JsonPathError(f"{text_of(value)!r} is not a list")
        yield from value[which]

    return step


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (value[name] for name in sorted(value))
    elif isinstance(value, list):
        yield from value


def _every(value: Any, root: Any) -> Iterator[Any]:
    yield from _children(value)


def _descend(value: Any, root: Any) -> Iterator[Any]:
    yield value
    for child in _children(value):
        yield from _descend(child, root)


def _filter(left: Path | Any, sign: str | None, right: Path | Any) -> _Step:
    def step(value: Any, root: Any) -> Iterator[Any]:
        if not isinstance(value, list):
            raise JsonPathError(f"[?()]: {text_of(value)!r} is not a list")
        for each in value:
            found = _operand_values(left, each, root)
            others = [None] if sign is None else _operand_values(right, each, root)
            if found and others and (sign is None or _holds(sign, found, others)):
                yield each

    return step


def _operand_values(operand: Path | Any, current: Any, root: Any) -> list[Any]:
    return operand.find(current, root) if isinstance(operand, Path) else [operand]


def _holds(sign: str, left: list[Any], right: list[Any]) -> bool:
    if len(left) > 1 or len(right) > 1:
        raise JsonPathError("[?()]: can only compare one value with one other")
    one, other = left[0], right[0]
    if _comparable(one) is None or _comparable(one) is not _comparable(other):
        raise JsonPathError(f"[?()]: cannot compare {json.dumps(one)} with {json.dumps(other)}")
    return bool(_OPERATORS[sign](one, other))


def _comparable(value: Any) -> type | None:
    """What a value can be compared with: others for which this is the same."""
    for kind in (str, bool):
        if isinstance(value, kind):
            return kind
    return float if isinstance(value, int | float) else None
