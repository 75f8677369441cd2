"""Recall beside a writer: every answer is compared with a full scan of the same snapshot.

One process adds, rewrites, forgets, deletes and merges; this one recalls. Its searches ask for
merges too, so that both processes merge. The saboteur compares an answer with a later snapshot, as
an index would give it that is behind its rows.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Final

from holdfast.core.clock import SystemClock
from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.fullscan import MISSED_SHARE, Question, Scan, SnapshotDriver, opened
from soak.zygote import Child, zygote

QUESTIONS: Final = 12
"""Recalls in one snapshot."""
LATE: Final = 20
"""Snapshots whose answers the saboteur gives late; fewer in a short run that has caught it."""
LONGEST_SECONDS: Final = 60.0
"""A short run goes on for up to so long until something was merged, beside other work."""


def run(seconds: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Recall for so long beside a writer. Its trials are the answers that were compared."""
    trial = "recall beside a writer against a full scan"
    result = Result(campaign="agreement", trial=trial, trials=0, seed=seed)
    behind = Saboteur(name="an index that is behind its rows")
    with timed(result), folder() as place, zygote() as parent:
        path = str(place / "store.db")
        opened(path)[1].close()
        writer = parent.start("remember", path=path, seed=f"s{seed}")
        try:
            _agree(path, writer, seconds, result, tick)
            _lag(path, writer, min(LATE, max(3, seconds // 5)), behind, seed)
        finally:
            lines = writer.kill()
        for line in lines:
            result.note(f"the writer failed: {line}") if line.startswith("error ") else None
        for what in ("add", "update", "forget", "delete", "merge"):
            result.counts[f"calls_of_{what}"] = lines.count(what)
        result.counts["file_mib"] = Path(path).stat().st_size // 2**20
    result.saboteurs.append(behind)
    return result


def _agree(path: str, writer: Child, seconds: int, result: Result, tick: Tick) -> None:
    """Compare until the time is over, and something was merged."""
    driver, storage = opened(path)
    number = 0
    try:
        writer.wait_for_answers(20)
        started = monotonic()
        while (passed := monotonic() - started) < seconds or (
            passed < LONGEST_SECONDS and not _merges(driver)
        ):
            with driver.snapshot():
                scan = Scan(driver, SystemClock().now())
                for _ in range(QUESTIONS):
                    number += 1
                    question = Question.drawn(chances(result.seed, "agreement", number))
                    finding = scan.compare(question, question.ask(storage), storage)
                    if finding:
                        result.note(finding)
            result.trials += QUESTIONS
            result.count("nearest_rows_due", scan.due)
            result.count("nearest_rows_passed_by", scan.missed)
            result.count("snapshots")
            result.counts["most_rows"] = max(result.counts.get("most_rows", 0), len(scan.rows))
            tick(int(passed))
        result.count("merges", _merges(driver))
        if (
            result.counts["nearest_rows_passed_by"]
            > MISSED_SHARE * result.counts["nearest_rows_due"]
        ):
            result.note("vector recall passes by more of the nearest rows than it may")
        tick(seconds)
    finally:
        storage.close()


def _lag(path: str, writer: Child, snapshots: int, behind: Saboteur, seed: int) -> None:
    """Answers from one snapshot against the scan of one a few writes later."""
    driver, storage = opened(path)
    try:
        for number in range(LATE):
            if number >= snapshots and behind.findings:
                break
            chance = chances(seed, "late", number)
            questions = [Question.drawn(chance) for _ in range(QUESTIONS)]
            before = writer.said()
            with driver.snapshot():
                answers = [question.ask(storage) for question in questions]
            writer.wait_for_answers(before + 5)
            with driver.snapshot():
                scan = Scan(driver, SystemClock().now())
                for question, answer in zip(questions, answers, strict=True):
                    behind.trials += 1
                    finding = scan.compare(question, answer, storage)
                    if finding:
                        behind.note(finding)
    finally:
        storage.close()


def _merges(driver: SnapshotDriver) -> int:
    """How often the index was merged, by whichever process."""
    text = "SELECT coalesce(sum(edition), 0) FROM holdfast_covers"
    with driver._reading() as connection:
        merges: int = connection.execute(text).get
    return merges
