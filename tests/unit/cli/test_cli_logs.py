"""`pylb logs`: whose, how much, and what comes afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from pylb.cli.main import main

from .conftest import Lab


def write_log(lab: Lab, name: str, text: str) -> Path:
    log = lab.paths.workload(name) / "log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    return log


def test_logs(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(cluster, "default.web-1", "one\ntwo\nthree")
    write_log(cluster, "internet", "hello\n")
    assert main(["logs", "web-1"]) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree"
    assert main(["logs", "web-1", "--tail", "2"]) == 0
    assert capsys.readouterr().out == "two\nthree"
    assert main(["logs", "web-1", "--tail", "0"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["logs", "internet"]) == 0
    assert capsys.readouterr().out == "hello\n"
    assert main(["logs", "-l", "app=web", "--prefix"]) == 0
    assert capsys.readouterr().out == "[pod/web-1] one\n[pod/web-1] two\n[pod/web-1] three"
    assert main(["logs", "nope"]) == 1
    assert capsys.readouterr().err == (
        "pylb: lab 'pylb' has no pod 'nope' in namespace 'default'\n"
    )
    for more in ([], ["-f"]):
        assert main(["logs", "-l", "app=nope", *more]) == 0
        assert capsys.readouterr() == ("", "No resources found in default namespace.\n")
    assert main(["logs"]) == 2
    assert main(["logs", "../../etc"]) == 2
    assert main(["logs", "pod/../../etc"]) == 1


def test_the_logs_of_what_has_pods(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(cluster, "default.web-1", "".join(f"{n}\n" for n in range(12)))
    for word in ("pod/web-1", "deployment/web", "svc/web"):
        assert main(["logs", word, "--tail", "1"]) == 0
        assert capsys.readouterr() == ("11\n", "")
    # Of many pods kubectl shows ten lines each unless told otherwise.
    assert main(["logs", "-l", "app=web"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(n) for n in range(2, 12)]
    assert main(["logs", "-l", "app=web", "--tail", "-1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert main(["logs", "web-1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert main(["logs", "rs/idle"]) == 1
    assert capsys.readouterr().err == "pylb: replicaset.apps 'idle' has no pod\n"
    assert main(["logs", "rs/nope"]) == 1
    assert main(["logs", "web-1", "--tail", "-2"]) == 2


def test_following_a_log(cluster: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    from pylb.cli.logs import Reader

    log = write_log(cluster, "default.web-1", "old\nnew\n")
    reader = Reader(log, "")
    reader.start(1)
    assert capsys.readouterr().out == "new\n"
    assert not reader.forward()
    with log.open("a") as more:
        more.write("a\nb")
    assert reader.forward()
    with log.open("a") as more:
        more.write("c\n")
    assert reader.forward()
    assert capsys.readouterr().out == "a\nbc\n"
    log.unlink()
    assert not reader.forward()
    write_log(cluster, "default.web-1", "again\n")
    assert reader.forward()
    assert capsys.readouterr().out == "again\n"
