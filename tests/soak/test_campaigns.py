"""Every reliability campaign in small counts, with its saboteurs; `make soak` has the long ones."""

import json
from pathlib import Path

import pytest

from soak import agreement, faults, kills, merges, opens, pauses, power, report, strings
from soak.campaign import Result, Saboteur
from soak.run import main

pytestmark = pytest.mark.slow

PLENTY_SECONDS = 60.0
"""For what a campaign wants sooner, on a machine that does other work."""


def check(result: Result) -> None:
    """Nothing was found, and each saboteur was caught."""
    assert result.examples == []
    assert result.saboteurs
    for saboteur in result.saboteurs:
        assert saboteur.caught, saboteur
    assert result.ok


def test_killed_writers_lose_nothing_that_was_acknowledged() -> None:
    result = kills.run(16)
    check(result)
    assert result.counts["acknowledged"] > 16
    assert result.counts["killed_with_several_writers"] > 0


def test_power_cuts_lose_nothing_at_full_and_never_the_file() -> None:
    result = power.run(60)
    check(result)
    assert result.counts["full_cuts"] == 60
    assert result.counts["full_acknowledged"] > 60
    assert result.counts["normal_cuts_with_damage"] == 0


def test_eight_processes_open_one_file_at_once() -> None:
    result = opens.run(3)
    check(result)
    assert result.counts["rounds_old_file"] == 1
    assert result.counts["starts"] == 24


def test_hostile_strings_are_answered_or_refused() -> None:
    result = strings.run(300)
    check(result)
    assert result.counts["recall_rows"] > 0
    assert result.counts["calls_refused_as_no_text"] > 0


def test_disk_errors_are_told_and_survived() -> None:
    result = faults.run(20)
    check(result)
    assert result.counts["raised"] > 0
    assert result.counts["acknowledged"] > 0


def test_a_frozen_writer_makes_others_busy_by_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pauses, "LATEST_SECONDS", PLENTY_SECONDS)
    result = pauses.run(2)
    check(result)
    assert result.counts["told_busy"] == 2


def test_a_merge_that_is_killed_leaves_recall_as_a_full_scan_says() -> None:
    result = merges.run(3)
    check(result)
    assert result.counts["kills_inside_of_a_merge"] == 3


def test_recall_beside_a_writer_agrees_with_full_scans() -> None:
    result = agreement.run(3)
    check(result)
    assert result.trials > 0
    assert result.counts["merges"] > 0


def test_the_page_says_what_the_results_say() -> None:
    text = report.PAGE.read_text(encoding="utf-8")
    found = report.results()
    assert report.page(text, found) == text
    for result in found:
        assert f"| {result.trials:,} | **{result.findings:,}** |" in text


def test_the_command_keeps_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--strings", "50", "--json", "--results", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "strings.json").read_text())
    assert printed == [kept]
    assert kept["trials"] == 50
    assert kept["ok"] is True
    assert kept["machine"]["sqlite"]


def test_a_finding_or_a_saboteur_at_large_fails_a_campaign() -> None:
    def result(*saboteurs: Saboteur) -> Result:
        return Result(campaign="c", trial="t", trials=1, seed=1, saboteurs=list(saboteurs))

    caught, at_large = Saboteur(name="caught", findings=1), Saboteur(name="at large")
    assert result(caught).ok
    assert not result().ok
    assert not result(caught, at_large).ok
    found = result(caught)
    found.note("lost: a write")
    assert not found.ok
