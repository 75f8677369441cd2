"""kill -9 while the index is merged: what is recalled afterwards is what a full scan gives.

A process writes and merges, says when it does, and is killed while it does. A file lives through
many kills. The clock of each process is a minute ahead of the one before it, so that none waits for
the claim of a dead one. The saboteur lets count what a merge had written when it died.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Final

import apsw

from holdfast.core.clock import SystemClock
from holdfast.core.errors import HoldfastError
from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.fullscan import Ahead, Question, Scan, merge, opened
from soak.zygote import Zygote, zygote

CYCLES_PER_FILE: Final = 25
LONGEST_MERGE_SECONDS: Final = 0.05
"""A process is killed up to so long after it has said that it merges."""
AGE_SECONDS: Final = 60.0
"""Between the clocks of two processes; longer than a claim holds."""
QUESTIONS: Final = 10
TRIES: Final = 20
"""Cycles for each kill that is asked for; those that hit no merge do not count."""

_COUNTED: Final = """
UPDATE holdfast_covers SET edition = edition + 1, high = (SELECT max(high, coalesce(max(s.high), 0))
    FROM holdfast_segments AS s WHERE s.cover = holdfast_covers.id AND s.state = 'building')
WHERE id IN (SELECT cover FROM holdfast_segments WHERE state = 'building');
UPDATE holdfast_segments SET state = 'live' WHERE state = 'building'"""


def run(kills: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Kill so many times inside of a merge; the saboteur gets a tenth of that, at least 5."""
    result = Result(campaign="merges", trial="kill -9 during a merge", trials=kills, seed=seed)
    early = Saboteur(name="a merge counts before it is whole", trials=max(5, kills // 10))
    with timed(result), folder(in_memory=True) as place, zygote() as parent:
        hits = number = 0
        path = str(place / "0.db")
        while hits < kills and number < TRIES * kills:
            path = str(place / f"{number // CYCLES_PER_FILE}.db")
            chance = chances(seed, "merges", number)
            hits += _kill(parent, path, number % CYCLES_PER_FILE, f"c{number}", chance, result)
            for finding in _judge(path, number % CYCLES_PER_FILE, chance):
                result.note(f"cycle {number}: {finding}")
            number += 1
            if number % CYCLES_PER_FILE == 0 and hits < kills:
                _remove(path)
            tick(hits)
        result.counts |= {"cycles": number, "kills_inside_of_a_merge": hits}
        if hits < kills:
            result.note(f"only {hits} of {number} kills fell into a merge")
        _sabotage(parent, path, early, seed)
    result.saboteurs.append(early)
    return result


def _sabotage(parent: Zygote, lived: str, early: Saboteur, seed: int) -> None:
    """On copies of a file that has lived: what a merge had written when it died is let count."""
    path = f"{lived}.copy"
    for number in range(early.trials):
        age = 2 * CYCLES_PER_FILE + number
        shutil.copy(lived, path)
        child = parent.start(
            "merge", path=path, seed=f"e{number}", seconds_ahead=age * AGE_SECONDS, unfinished=True
        )
        early.counts["begun"] = early.counts.get("begun", 0) + child.finish().count("merging")
        connection = apsw.Connection(path)
        connection.execute(_COUNTED).fetchall()
        connection.close()
        for finding in _judge(path, age, chances(seed, "early", number)):
            early.note(finding)
        _remove(path)


def _kill(
    parent: Zygote, path: str, age: int, prefix: str, chance: random.Random, result: Result
) -> bool:
    """Let a process write and merge, and kill it; whether that was inside of a merge."""
    child = parent.start("merge", path=path, seed=prefix, seconds_ahead=age * AGE_SECONDS)
    child.wait_for_answers(chance.choice((1, 1, 3, 5)))
    time.sleep(chance.random() * LONGEST_MERGE_SECONDS)
    lines = child.kill()
    for line in lines:
        if line.startswith("error "):
            result.note(f"the process failed: {line}")
    result.count("merges_that_ended", lines.count("merged"))
    return bool(lines) and lines[-1] == "merging"


def _judge(path: str, age: int, chance: random.Random) -> list[str]:
    """Open a file as any user would; compare as it is, and once more when it has been merged."""
    findings: list[str] = []
    try:
        driver, storage = opened(path, clock=Ahead((age + 0.5) * AGE_SECONDS))
        with storage:
            report = driver.maintain("integrity")
            findings += [f"corrupt: {finding}" for finding in report.findings]
            for _ in range(2):
                with driver.snapshot():
                    scan = Scan(driver, SystemClock().now())
                    questions = [Question.drawn(chance) for _ in range(QUESTIONS)]
                    told = [scan.compare(q, q.ask(storage), storage) for q in questions]
                findings += filter(None, told)
                merge(driver)
    except HoldfastError as error:
        findings.append(f"opening or recalling said {type(error).__name__}: {error.message}")
    return findings


def _remove(path: str) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
