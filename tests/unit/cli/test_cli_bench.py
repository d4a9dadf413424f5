"""``pylb bench``'s command line: what is refused, and `compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pylb.bench.results import save
from pylb.cli.main import main
from tests.unit.bench.samples import results


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--rounds", "0"], 2, "--rounds 0: expected 1 to 100"),
        (["--seconds", "0.1"], 2, "--seconds 0.1: expected 0.3 to 60"),
        (["compare", "one.json"], 2, "expected two files: pylb bench compare OLD NEW"),
        (["compare", "no.json", "no.json"], 1, "no.json: No such file or directory"),
        (["speed"], 1, "part 'speed': expected some of tcp"),
        (["tcp", "--subjects", "ovs"], 1, "subject 'ovs': expected some of python"),
    ],
)
def test_what_is_asked_wrongly(
    arguments: list[str],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert main(["bench", *arguments]) == status
    assert said in capsys.readouterr().err


def test_compare_fails_when_something_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    save(results({"kernel": [10, 10, 10]}), old)
    save(results({"kernel": [5, 5, 5]}), new)
    assert main(["bench", "compare", str(old), str(new)]) == 1
    assert "| kernel | 10.0 | 5.00 | 0.50 | worse |" in capsys.readouterr().out
    assert main(["bench", "compare", str(new), str(old), "-o", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["subject"], row["change"]) == ("kernel", "better")
