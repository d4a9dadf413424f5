from __future__ import annotations

import json
from pathlib import Path

import pytest

from pylb.bench import plots, results
from pylb.bench.compare import Change, Compared, compare, markdown
from pylb.bench.errors import BenchError
from pylb.bench.report import figure
from pylb.bench.report import markdown as report
from pylb.bench.results import Key
from tests.unit.bench.samples import results as made


def row(text: str, subject: str) -> list[str]:
    """The cells of a subject's line."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {subject} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


class TestReport:
    def test_a_row_has_figure_spread_rounds_ratios_and_verdict(self) -> None:
        text = report(
            made({"python": [1, 1.1, 1.2], "kernel": [10, 11, 12], "kernel-notrack": [22, 22, 22]})
        )
        assert row(text, "python") == [
            "python", "1.10", "1.00 to 1.20", "3", "0.10", "0.05", "worse",
        ]  # fmt: skip
        assert row(text, "kernel") == ["kernel", "11.0", "10.0 to 12.0", "3", "1.00", "0.50", ""]

    def test_what_is_unstable_has_no_figure_and_no_ratio(self) -> None:
        text = report(made({"python": [1, 2, 3], "kernel": [10, 11, 12]}))
        assert row(text, "python") == [
            "python", "*unstable*", "1.00 to 3.00", "3", "", "", "unstable",
        ]  # fmt: skip

    def test_nothing_is_held_against_an_unstable_baseline(self) -> None:
        text = report(made({"python": [1, 1, 1], "kernel": [5, 10, 15]}))
        assert row(text, "python")[4:] == ["", "", "unstable"]

    def test_another_overlay_is_not_compared(self) -> None:
        text = report(made({"python-udp": [1, 1, 1], "kernel": [10, 10, 10]}))
        assert row(text, "python-udp")[4:] == ["", "", "another overlay (udp)"]

    def test_few_rounds_are_said_to_be_few(self) -> None:
        text = report(made({"python": [1, 1], "kernel": [10, 10]}))
        assert row(text, "python")[-1] == "too few rounds"
        assert row(text, "kernel")[-1] == "too few rounds"

    def test_what_is_not_available_is_named_with_its_reason(self) -> None:
        text = report(made({"kernel": [1, 1, 1]}, unavailable={"native": "not built yet"}))
        assert "- native (pylb, native dataplane): not built yet" in text
        assert row(text, "native") == ["native", "n/a", "", "", "", "", "not built yet"]

    def test_a_curve_has_its_axis(self) -> None:
        text = report(made({"kernel": [1, 1, 1]}, metric="services", x=1000))
        assert "| 1 000 | kernel | 1.00 |" in text

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (12.34, "12.3"), (123.4, "123"),
         (12345.6, "12 346")],
    )  # fmt: skip
    def test_figures(self, value: float, text: str) -> None:
        assert figure(value) == text


class TestResults:
    def test_every_sample_survives_the_file(self, tmp_path: Path) -> None:
        before = made({"python": [1, 2, 3]}, x=100, metric="services")
        results.save(before, tmp_path / "results.json")
        assert results.load(tmp_path / "results.json") == before

    def test_rows_come_in_the_catalogs_order(self) -> None:
        found = made({"kernel": [1]}, metric="connections")
        found.samples += made({"kernel": [1]}, metric="tcp").samples
        found.samples += made({"kernel": [1]}, metric="tcp", path="node").samples
        assert found.rows() == [
            Key("cluster", "tcp"), Key("cluster", "connections"), Key("node", "tcp"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("not JSON", "expected the results of a bench in JSON"),
            ("[]", "format: expected 'pylb-bench/1'"),
            ('{"format": "other"}', "format: expected 'pylb-bench/1'"),
            ('{"format": "pylb-bench/1"}', "not the results of a bench of this version"),
        ],
    )
    def test_another_file_is_refused(self, tmp_path: Path, text: str, said: str) -> None:
        path = tmp_path / "results.json"
        path.write_text(text)
        with pytest.raises(BenchError, match=said):
            results.load(path)

    def test_an_unknown_metric_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "results.json"
        document = made({"kernel": [1]}).to_json()
        document["samples"][0]["metric"] = "speed"
        path.write_text(json.dumps(document))
        with pytest.raises(BenchError, match="not the results"):
            results.load(path)


class TestCompare:
    @pytest.mark.parametrize(
        ("old", "new", "metric", "expected"),
        [
            ([10, 10, 10], [11, 11, 11], "tcp", Change.AGREES),
            ([10, 10, 10], [20, 20, 20], "tcp", Change.BETTER),
            ([10, 10, 10], [5, 5, 5], "tcp", Change.WORSE),
            ([10, 10, 10], [5, 5, 5], "cpu", Change.BETTER),
            ([10, 10, 10], [12, 12, 12], "tcp", Change.BETTER),
            ([10, 10, 10], [12, 12, 12], "packets", Change.AGREES),
            ([5, 10, 15], [20, 20, 20], "tcp", Change.UNSTABLE),
            ([10, 10, 10], [20, 20], "tcp", Change.FEW),
        ],
    )
    def test_changes(
        self, old: list[float], new: list[float], metric: str, expected: Change
    ) -> None:
        (found,) = compare(made({"kernel": old}, metric), made({"kernel": new}, metric))
        assert found.change is expected

    def test_a_subject_of_one_run_only(self) -> None:
        found = list(compare(made({"python": [1]}), made({"kernel": [2]})))
        assert found == [
            Compared("cluster", "tcp", None, "kernel", None, 2, Change.ONLY_NEW),
            Compared("cluster", "tcp", None, "python", 1, None, Change.ONLY_OLD),
        ]

    def test_an_unstable_row_has_no_figures(self) -> None:
        old, new = made({"kernel": [5, 10, 15]}), made({"kernel": [20, 20, 20]})
        text = markdown(old, new, list(compare(old, new)))
        assert "| kernel |  |  |  | *unstable* |" in text
        assert "1 unstable." in text

    def test_machines_that_differ_are_named(self) -> None:
        old, new = made({"kernel": [1]}), made({"kernel": [1]})
        new.machine = {**new.machine, "cpus": 64}
        assert "cpus 2 and 64" in markdown(old, new, [])
        assert "not made alike" not in markdown(old, old, [])


class TestPlots:
    def test_bars_and_curves_as_svg_and_png(self, tmp_path: Path) -> None:
        found = made({"python": [1, 2, 3], "kernel": [100, 110, 120]})
        for x in (1, 1000):
            found.samples += made({"kernel": [3, 4, 5]}, metric="services", x=x).samples
        files = plots.draw(found, tmp_path)
        assert sorted(path.name for path in files) == [
            "services.png", "services.svg", "tcp.png", "tcp.svg",
        ]  # fmt: skip
        assert all(path.stat().st_size > 1000 for path in files)

    def test_the_same_results_give_the_same_picture(self, tmp_path: Path) -> None:
        found = made({"kernel": [1, 2, 3]})
        plots.draw(found, tmp_path)
        before = (tmp_path / "tcp.svg").read_bytes()
        plots.draw(found, tmp_path)
        assert (tmp_path / "tcp.svg").read_bytes() == before
