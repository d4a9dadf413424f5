"""What ``-o`` means: documents, names, tables, and what is made of templates."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylb.cli import jsonpath
from pylb.cli.common import as_json, as_yaml, table
from pylb.cli.errors import CliError
from pylb.cli.jsonpath import JsonPathError
from pylb.cli.kinds import Kind
from pylb.cli.object_tables import Object, name_of

DOCUMENTS = ("json", "yaml", "name", "jsonpath=TEMPLATE", "jsonpath-file=FILE")
TABLES = ("wide", *DOCUMENTS, "custom-columns=TITLE:PATH,...")

Found = Sequence[tuple[Kind, Sequence[Object]]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that ``-o`` names; ``template`` or ``columns`` for those that have one."""

    name: str
    template: jsonpath.Template | None = None
    columns: tuple[tuple[str, jsonpath.Path], ...] = ()

    @property
    def tabular(self) -> bool:
        """True when objects come as a table of their kind."""
        return self.name == "wide"


def add_output(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """``-o``: one of ``formats``, each with what follows its "=" if it has one."""

    def read(text: str) -> Format:
        word, equals, rest = text.partition("=")
        for known in formats:
            if known.partition("=")[0] == word and ("=" in known) == bool(equals):
                return _format(word, rest)
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(formats)}, got {text!r}")

    listed = ", ".join(formats)
    parser.add_argument("-o", "--output", type=read, metavar="FORMAT", help=f"one of {listed}")


def _format(word: str, rest: str) -> Format:
    try:
        match word:
            case "jsonpath":
                return Format(word, jsonpath.Template(rest))
            case "jsonpath-file":
                text = Path(rest).read_text(encoding="utf-8").rstrip("\n")
                return Format("jsonpath", jsonpath.Template(text))
            case "custom-columns":
                return Format(word, columns=tuple(map(_column, rest.split(","))))
    except JsonPathError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise argparse.ArgumentTypeError(f"{rest}: {reason}") from None
    return Format(word)


def _column(text: str) -> tuple[str, jsonpath.Path]:
    title, colon, path = text.partition(":")
    if not title or not colon:
        raise argparse.ArgumentTypeError(f"{text!r}: expected TITLE:PATH")
    return title, jsonpath.path(path)


def path_option(text: str) -> tuple[str, jsonpath.Path]:
    """The path of an option of its own, as given and as read."""
    try:
        return text, jsonpath.path(text)
    except JsonPathError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def document_of(found: Found, *, single: bool) -> Any:
    """The one object, or a List of all."""
    objects = [item for _, items in found for item in items]
    return objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}


def show(format_: Format, found: Found, *, single: bool, headers: bool = True) -> None:
    """Print objects in a format that is no table of a kind; raises `CliError`.

    ``single``: there is one object, and it is given as itself and not in a List.
    """
    if format_.name == "name":
        for kind, items in found:
            for item in items:
                print(f"{kind.resource}/{name_of(item)}")
    elif format_.columns:
        text = _columns(format_.columns, [item for _, items in found for item in items])
        print(text if headers else text.partition("\n")[2])
    elif format_.template is not None:
        try:
            print(format_.template.render(document_of(found, single=single)), end="")
        except JsonPathError as error:
            raise CliError(f"-o jsonpath: {error}") from None
    else:
        document = document_of(found, single=single)
        print(as_json(document) if format_.name == "json" else as_yaml(document))


def _columns(columns: Sequence[tuple[str, jsonpath.Path]], objects: Sequence[Object]) -> str:
    rows = []
    for item in objects:
        try:
            found = [path.find(item, item) for _, path in columns]
        except JsonPathError as error:
            raise CliError(f"-o custom-columns: {name_of(item)}: {error}") from None
        rows.append([",".join(map(jsonpath.text_of, values)) or "<none>" for values in found])
    return table([title for title, _ in columns], rows)
