"""The command line itself: help, statuses, interruptions."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import pylb
from pylb.cli import get
from pylb.cli.main import main, parser

from .conftest import Lab


def commands(top: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            named = {id(sub): name for name, sub in reversed(action.choices.items())}
            for name, sub in (
                (named[id(sub)], sub) for sub in dict.fromkeys(action.choices.values())
            ):
                yield (*path, name)
                yield from commands(sub, (*path, name))


@pytest.mark.parametrize("command", [(), *commands(parser())], ids=" ".join)
def test_every_help_has_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert " ".join(("pylb", *command)) in capsys.readouterr().out.partition("example")[2]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"pylb {pylb.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["nope"], ["get"], ["conntrack"], ["conntrack", "-L", "-E"]])
def test_a_wrong_command_line_is_status_2(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pylb")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pylb.cli.main import parser; parser().format_help();"
        "print(*[m for m in ('asyncio', 'h11', 'yaml', 'pyroute2', 'dpkt') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_ctrl_c(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(get, "controller", interrupted)
    assert main(["get", "pods"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away(lab: Lab) -> None:
    pods = [{"metadata": {"name": f"pod-{n}", "namespace": "default"}} for n in range(20000)]
    lab.controller({"GET /objects": {"objects": pods}})
    command = [sys.executable, "-m", "pylb.cli.main", "get", "pods"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_what_a_daemon_and_exec_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["daemon", "--node", "n"]) == 2
    assert capsys.readouterr().err == "pylb: expected either -f FILE or --controlled\n"
    assert main(["lab", "exec", "web-1"]) == 2
    assert capsys.readouterr().err.startswith("pylb: expected a command")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["lab", "down"]) == 1
    assert capsys.readouterr().err == "pylb: pylb lab down needs root: run it with sudo\n"
