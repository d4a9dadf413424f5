"""Logs are one JSON object a line, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pylb.node import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    out = io.StringIO()
    logs.configure(out)
    yield out
    root.handlers[:] = before
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_has_its_fields(stream: io.StringIO) -> None:
    log = logs.Log("pylb.test")
    log.info("100% done", number=7, where="two\nlines")
    log.warning("careful")
    log.error("failed")
    log.debug("not shown")
    first, *others = lines(stream)
    assert first.pop("time").endswith("Z")
    assert first == {"level": "info", "event": "100% done", "number": 7, "where": "two\nlines"}
    assert [line["level"] for line in others] == ["warning", "error"]


def test_other_modules_logs_and_their_tracebacks_take_the_same_form(stream: io.StringIO) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("elsewhere").exception("%s failed", "it")
    [line] = lines(stream)
    assert line["event"] == "it failed"
    assert "ValueError: why" in line["traceback"]
