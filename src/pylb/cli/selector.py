"""Label selectors as ``-l`` takes them: ``a=b,c!=d,e,!f,g in (x,y),h notin (z)``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pylb.cli.errors import CliError

Matches = Callable[[Mapping[str, str]], bool]

_KEY = r"[A-Za-z0-9][A-Za-z0-9_./-]*"
_VALUE = r"[A-Za-z0-9_.-]*"
_TERMS = (
    re.compile(rf"(?P<key>{_KEY})\s*(?P<op>==|!=|=)\s*(?P<value>{_VALUE})"),
    re.compile(rf"(?P<key>{_KEY})\s+(?P<op>in|notin)\s*\((?P<value>[^()]*)\)"),
    re.compile(rf"(?P<op>!?)(?P<key>{_KEY})(?P<value>)"),
)


def selector(text: str) -> Matches:
    """A predicate on labels; true when every term of ``text`` is.

    As in Kubernetes, ``!=`` and ``notin`` also match where the label is missing.
    Raises ValueError when a term cannot be read.
    """
    terms = [_term(term.strip()) for term in re.split(r",(?![^()]*\))", text) if term.strip()]
    return lambda labels: all(term(labels) for term in terms)


def read_selector(text: str) -> Matches:
    """The predicate of a ``-l`` option; raises `CliError` with status 2."""
    try:
        return selector(text)
    except ValueError as error:
        raise CliError(f"-l: {error}", status=2) from None


def _term(text: str) -> Matches:
    for pattern in _TERMS:
        if match := pattern.fullmatch(text):
            return _matcher(match["key"], match["op"], match["value"])
    raise ValueError(f"{text!r} is no label selector: expected KEY=VALUE, KEY!=VALUE, KEY or !KEY")


def _matcher(key: str, op: str, value: str) -> Matches:
    values = {v.strip() for v in value.split(",")}
    match op:
        case "=" | "==" | "in":
            return lambda labels: key in labels and labels[key] in values
        case "!=" | "notin":
            return lambda labels: key not in labels or labels[key] not in values
        case "!":
            return lambda labels: key not in labels
    return lambda labels: key in labels
