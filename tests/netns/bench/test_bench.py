"""A very small run on real labs: figures come out, files are there, nothing stays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylb.bench import results
from pylb.bench.errors import BenchError
from pylb.bench.labs import RunningLab, labs
from pylb.bench.measures import packets, tcp_intact, udp_intact
from pylb.bench.progress import Progress
from pylb.bench.report import markdown
from pylb.bench.results import Key
from pylb.bench.run import Asked, run
from pylb.bench.subjects import SUBJECTS
from pylb.cli.main import main
from pylb.control.paths import LabPaths, run_root
from pylb.lab import lifetime, netns
from tests.names import drawn

pytestmark = [pytest.mark.root, pytest.mark.tools("nft", "cc")]

PREFIX = drawn("ptbench")


@pytest.fixture(autouse=True)
def own_run_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYLB_RUN", str(tmp_path / "run"))
    yield
    assert not run_root().exists() or not list(run_root().iterdir())
    assert not list(netns.FOLDER.glob(f"{PREFIX}*"))


def test_a_run_leaves_figures_and_files_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = io.StringIO()
    # On a busy machine 0.3 s may be too short for a figure, and that is said; then longer.
    for seconds in (0.3, 1.2, 5.0):
        asked = Asked(
            ["connections", "latency"],
            ["python", "kernel"],
            rounds=1,
            seconds=seconds,
            out=out,
            prefix=PREFIX,
        )
        done = run(asked, Progress(told))
        if not done.missing:
            break
    assert done.ended == "complete", done.missing
    for metric in ("connections", "udp-p50", "udp-p99", "tcp-p50", "tcp-p99"):
        for name in ("python", "kernel"):
            found = done.summary(Key("cluster", metric), name)
            assert found is not None, (metric, name, done.missing)
            assert found.median > 0
    assert results.load(out / "results.json").samples == done.samples
    assert (out / "report.md").read_text() == markdown(done)
    assert "starting the lab of kernel" in told.getvalue()


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[RunningLab]:
    with labs(PREFIX) as found:
        yield found.get(SUBJECTS[request.param])


@pytest.mark.parametrize("lab", ["python", "python-udp", "kernel"], indirect=True)
def test_what_arrives_is_what_was_sent(lab: RunningLab) -> None:
    assert tcp_intact(lab, "cluster", 0.3)["tcp-intact"].value == 100
    assert udp_intact(lab, "cluster", 0.8)["udp-intact"].value == 100


@pytest.mark.parametrize("lab", ["kernel"], indirect=True)
@pytest.mark.parametrize(
    "path", ["cluster", "node", "hairpin", "nodeport", "masquerade", "overlay"]
)
def test_many_flows_arrive_on_every_path(lab: RunningLab, path: str) -> None:
    figure = packets(256)(lab, path, 0.3)["packets-many"]
    assert figure.value > 0
    assert figure.detail["cut"]


def test_a_lab_of_that_name_is_one_sentence(tmp_path: Path) -> None:
    LabPaths(f"{PREFIX}.kernel").root.mkdir(parents=True)
    with pytest.raises(BenchError, match=rf"lab .{PREFIX}\.kernel. is up already: take it down"):
        run(Asked(["tcp"], ["kernel"], out=tmp_path, prefix=PREFIX), Progress(None))
    LabPaths(f"{PREFIX}.kernel").root.rmdir()


def test_a_daemon_that_cannot_be_measured_is_a_reason_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def up(*arguments: object) -> None:
        raise lifetime.LabError("the kernel has no VXLAN")

    monkeypatch.setattr(lifetime, "up", up)
    status = main(
        ["bench", "tcp", "--subjects", "kernel", "--name", PREFIX, "--out", str(tmp_path), "-q"]
    )
    assert status == 1
    assert "no subject can be measured here: kernel: the kernel has no VXLAN" in (
        capsys.readouterr().err
    )
