"""What a command stops for."""

from __future__ import annotations


class CliError(Exception):
    """A command cannot go on: each of ``sentences`` is a line on stderr.

    ``status`` is the exit status: 1 when it failed, 2 when it was asked wrongly.
    """

    def __init__(self, *sentences: str, status: int = 1) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences
        self.status = status
