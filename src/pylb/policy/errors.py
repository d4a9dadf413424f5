"""What is wrong with manifests: every problem of all files at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    ``document`` counts from 1 within the file, 0 when the file as a whole is
    meant; ``object`` is "Kind namespace/name" and ``field`` a path such as
    ``spec.ports[0].port``; both may be empty, and so may ``file`` for what was
    not read from one.
    """

    file: str
    document: int
    object: str
    field: str
    message: str

    def __str__(self) -> str:
        parts = [self.file] if self.file else []
        if self.document:
            parts.append(f"document {self.document}")
        parts += [part for part in (self.object, self.field) if part]
        return ": ".join([*parts, self.message])


class ManifestError(Exception):
    """Manifests that cannot be taken; nothing of them was.  One problem a line.

    ``readable`` holds what could be read all the same (`pylb.policy.objects.RawObject`),
    so that a caller can look for what else is wrong.
    """

    def __init__(self, problems: Iterable[Problem], readable: Iterable[Any] = ()) -> None:
        self.problems = tuple(problems)
        self.readable = tuple(readable)
        super().__init__("\n".join(str(problem) for problem in self.problems))
