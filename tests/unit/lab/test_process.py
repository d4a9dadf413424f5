"""When what ended is started again."""

from __future__ import annotations

from pylb.lab.process import Backoff, python_path


def test_backoff_is_at_once_then_doubles_up_to_the_most() -> None:
    backoff = Backoff(first=1, most=8, calm=60)
    assert [backoff.after(0.1) for _ in range(6)] == [0, 1, 2, 4, 8, 8]


def test_a_long_run_forgets_what_was_before() -> None:
    backoff = Backoff(first=1, most=8, calm=60)
    assert [backoff.after(ran) for ran in (0, 0, 0, 60, 0)] == [0, 1, 2, 0, 1]


def test_a_new_interpreter_finds_this_pylb() -> None:
    assert python_path()["PYTHONPATH"].split(":")[0].endswith("src")
