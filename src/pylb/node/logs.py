"""Structured logs: one JSON object a line.

Each line has ``time`` (UTC, RFC 3339, microseconds), ``level``, ``event`` (what
happened, in a few words that stay the same from run to run) and the event's own
fields.  What other modules log through `logging` comes out in the same form.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any, TextIO


class JsonFormatter(logging.Formatter):
    """A record as a line of JSON; ``extra={"fields": {...}}`` adds the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line without its newline."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Log:
    """A logger whose calls take an event and its fields."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def _write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            # The event is an argument, not the format, so that a % in it stays a %.
            self._logger.log(level, "%s", event, extra={"fields": fields})

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only somebody looking for a fault wants."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log what happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what was put up with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log what failed."""
        self._write(logging.ERROR, event, fields)


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Send every log of this process to ``stream`` (stderr) as JSON lines; gives the handler."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    return handler
