"""First opens at once: eight processes open one new file, or bring one old file up, and none fails.

Every process is forked and waits at a gate; all begin when it opens. The saboteur enters
write-ahead logging once and waits for no lock, as a plain open does.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import apsw

from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.change import Put
from holdfast.core.errors import HoldfastError
from holdfast.layers.check import Checked
from holdfast.storage import all_collections
from soak.campaign import Result, Saboteur, Tick, folder, ignore, timed
from soak.editions import NEW, OLD
from soak.workload import TENANT, storage_on
from soak.zygote import Zygote, zygote

PROCESSES: Final = 8
OLD_RECORDS: Final = 200
"""Records of the old file, so that bringing it up takes a while."""


def run(opens: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """So many rounds, every third with an old file; the saboteur gets a tenth, at least 5."""
    trial = f"{PROCESSES} processes open one file at once"
    result = Result(campaign="opens", trial=trial, trials=opens, seed=seed)
    naive = Saboteur(name="one try, no waiting for locks", trials=max(5, opens // 10))
    with timed(result), folder() as place, zygote() as parent:
        old = place / "old.db"
        _make_old(old)
        for number in range(opens):
            for finding in _round(parent, place / f"{number}", old, number, result.counts):
                result.note(f"round {number}: {finding}")
            tick(number + 1)
        for number in range(naive.trials):
            at = place / f"naive-{number}"
            for finding in _round(parent, at, old, number, naive.counts, naive=True):
                naive.note(finding)
    result.saboteurs.append(naive)
    return result


def _round(
    parent: Zygote,
    place: Path,
    old: Path,
    number: int,
    counts: dict[str, int],
    *,
    naive: bool = False,
) -> list[str]:
    """Let all processes open at once, then look at what they left."""
    place.mkdir()
    path = str(place / "store.db")
    upgrading = number % 3 == 2
    if upgrading:
        shutil.copy(old, path)
    wait, gate = os.pipe()
    crew = [
        parent.start(
            "open_old" if upgrading else "open_new",
            gate=wait,
            path=path,
            name=f"opener-{n}",
            naive=naive,
        )
        for n in range(PROCESSES)
    ]
    os.close(wait)
    os.close(gate)
    answers = [child.finish() for child in crew]
    findings = [f"a start failed: {lines}" for lines in answers if lines != ["opened"]]
    counts["starts"] = counts.get("starts", 0) + PROCESSES
    counts["failed_starts"] = counts.get("failed_starts", 0) + len(findings)
    name = "rounds_old_file" if upgrading else "rounds_new_file"
    counts[name] = counts.get(name, 0) + 1
    if not naive:
        findings += _left(path, upgrading=upgrading)
    shutil.rmtree(place)
    return findings


def _left(path: str, *, upgrading: bool) -> list[str]:
    """What is wrong with the file after the race: every opener's write, each edition once."""
    wanted = {f"opener-{n}" for n in range(PROCESSES)}
    findings: list[str] = []
    try:
        driver = Checked(SqliteDriver(path))
        with storage_on(driver) as storage:
            report = driver.maintain("integrity")
            findings.extend(report.findings)
            if upgrading:
                driver.setup(NEW)
                count = _count(path, "notes")
                if count != OLD_RECORDS + PROCESSES:
                    findings.append(f"{count} notes are there")
            elif {entry.key for entry in storage.kv.list()} != wanted:
                findings.append("an opener's write is missing")
    except HoldfastError as error:
        return [f"{type(error).__name__}: {error.message}"]
    twice = _editions_twice(path)
    findings.extend(f"{collection} was brought to one edition twice" for collection in twice)
    missing = {c.name for c in all_collections()} - _tables(path)
    findings.extend(f"{name} was not made" for name in sorted(missing))
    return findings


def _count(path: str, table: str) -> int:
    return int(_rows(path, f'SELECT count(*) FROM "{table}"')[0][0])


def _tables(path: str) -> set[str]:
    return {row[0] for row in _rows(path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _editions_twice(path: str) -> list[str]:
    text = (
        "SELECT collection FROM holdfast_migrations"
        " GROUP BY collection, to_version HAVING count(*) > 1"
    )
    return [row[0] for row in _rows(path, text)]


def _rows(path: str, text: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def _make_old(path: Path) -> None:
    """A file of the first edition, with records."""
    driver = Checked(SqliteDriver(str(path)))
    driver.setup(OLD)
    puts = [
        Put(OLD[0].name, {"id": f"old-{n}", "text": f"note {n} of old"}) for n in range(OLD_RECORDS)
    ]
    driver.apply(TENANT, puts)
    driver.close()
