"""The bench runs, and what it prints and keeps are rows and ratios. No figure is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.measure import Contender, Goal, Sheet, measure
from bench.run import main


def test_a_quick_run_gives_rows_and_ratios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["single-normal", "point-get", "loop"]
    arguments = ["--quick", "--json", *(word for name in chosen for word in ("--only", name))]
    assert main([*arguments, "--folder", str(tmp_path)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in results] == chosen
    for result in results:
        rows = {row["name"]: row for row in result["rows"]}
        assert rows[result["base"]]["ratio"] == 1.0
        for row in rows.values():
            assert len(row["samples"]) == result["rounds"]
            assert row["medians"][result["figure"]] > 0
            assert row["ratio"] > 0
    assert list(tmp_path.iterdir()) == [], "a run leaves no file behind"


def test_a_quick_search_gives_what_exact_arithmetic_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--json", "--only", "search", "--folder", str(tmp_path)]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in results] == [
        "search-talk-1k",
        "search-vectors-10k",
        "search-vectors-100k",
        "search-text-100k",
        "search-hybrid-100k",
    ]
    for result in results[1:]:
        ours = next(row for row in result["rows"] if row["name"].startswith("holdfast"))
        exact = [v for name, v in ours["medians"].items() if "recall" in name or "agree" in name]
        assert exact == [1.0] * (0 if "hybrid" in result["name"] else 3)
        assert ours["medians"][result["figure"]] > 0


def test_a_quick_search_on_postgresql_gives_what_exact_arithmetic_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--only", "postgres-search-10k", "--only", "postgres-tenants-1k")
    assert main(["--quick", "--json", *only, "--folder", str(tmp_path)]) == 0
    found, tenants = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row["medians"] for row in found["rows"]}
    for way in ("text", "vector"):
        assert rows[f"holdfast {way}, 200 documents"]["agreement"] == 1.0
    assert rows["holdfast text, 200 documents"]["MB"] > 0
    assert all(medians["ms"] > 0 for medians in rows.values())
    assert len(tenants["rows"]) == 3


def test_quick_checkpoints_give_everybody_s_states_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--json", "--only", "checkpoints", "--folder", str(tmp_path)]) == 0
    for result in json.loads(capsys.readouterr().out):
        rows = {row["name"]: row for row in result["rows"]}
        assert not {"one row per state by hand", "holdfast checkpoints"} - rows.keys()
        for row in rows.values():
            assert row["missing"] or min(row["medians"].values()) > 0


def test_an_unknown_sheet_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--only", "nothing", "--folder", str(tmp_path / "made")]) == 2
    assert "writes-full" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_ratios_are_taken_round_by_round_and_goals_say_what_was_missed(tmp_path: Path) -> None:
    # The machine is ten times slower in the second round: the rows' ratio does not change.
    speeds = {"raw": iter([100.0, 10.0, 100.0]), "ours": iter([80.0, 8.0, 80.0])}

    def contender(name: str, *goals: Goal, missing: str = "") -> Contender:
        return Contender(name, lambda _: {"rows/s": next(speeds[name])}, goals, missing)

    sheet = Sheet(
        name="s",
        title="Speeds",
        figure="rows/s",
        base="raw",
        rounds=3,
        contenders=(
            contender("raw"),
            contender("ours", Goal(0.75, "raw"), Goal(0.9, "raw"), Goal(2, "peer")),
            contender("peer", missing="not installed"),
        ),
    )
    result = measure(sheet, tmp_path, lambda _: None)
    _, ours, peer = result["rows"]
    assert ours["ratio"] == pytest.approx(0.8)
    assert [goal["met"] for goal in ours["goals"]] == [True, False, None]
    assert (peer["samples"], peer["ratio"]) == ([], None)
    result |= {"at": "2026-01-01T00:00:00+00:00", "on": dict.fromkeys(_MACHINE, "x")}
    table = "\n".join(report.table(result))
    assert (
        "at least 0.75 x raw in rows/s: met (0.80); at least 0.90 x raw in rows/s: MISSED (0.80)"
        in table
    )
    assert "not installed" in table


def test_the_page_is_what_the_raw_results_say() -> None:
    assert report.PAGE.read_text("utf-8") == report.page()


_MACHINE = ("cores", "load", "machine", "python", "sqlite", "system")
