"""Disk errors: what raised has written nothing, what returned has, and no restart is due.

While writers write, the log's syncs fail with EIO and its writes with EIO or ENOSPC, some after
half the bytes; or checkpoints fail. That happens once, a few times, or until the disk is well
again. The handle stays open all the while, and reads go on. The saboteur takes an error for a
success.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw

from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.change import Change, Outcome, Put
from holdfast.core.errors import HoldfastError, StorageFull, Unavailable
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.storage import Storage
from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.faulty import OF_CHECKPOINTS, OF_LOG, FailingCheckpoints, Fault, FaultyDisk, faulty
from soak.workload import Held, Workload, content, judge, names_of, read, storage_on

ROUNDS_PER_FILE: Final = 10
WRITES_PER_THREAD: Final = 6
CHECKPOINT_PAGES: Final = 5
"""So small a log is checkpointed after nearly every commit, in rounds that strike checkpoints."""


class TakesErrorsForSuccess(Layer):
    """Saboteur: the disk's error is swallowed, and the caller is told that all is well."""

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        try:
            return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)
        except Unavailable:
            puts = [change for change in changes if isinstance(change, Put)]
            return [Outcome(1, ({**put.record, "revision": 1},)) for put in puts]


@dataclass
class Told:
    """What the writers were told of each name."""

    stored: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)
    full: int = 0


def run(rounds: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """So many rounds of a fault each; the saboteur gets a tenth, at least 10."""
    result = Result(campaign="faults", trial="disk error under writers", trials=rounds, seed=seed)
    shrug = Saboteur(name="an error is taken for success", trials=max(10, rounds // 10))
    with timed(result), folder(in_memory=True) as place:
        for first in range(0, rounds, ROUNDS_PER_FILE):
            numbers = range(first, min(first + ROUNDS_PER_FILE, rounds))
            for finding in _file(place / f"{first}", numbers, seed, result.counts):
                result.note(f"rounds from {first}: {finding}")
            tick(numbers.stop)
        for number in range(shrug.trials):
            at = place / f"shrug-{number}"
            for finding in _file(at, range(number, number + 1), seed, shrug.counts, shrug=True):
                shrug.note(finding)
    result.saboteurs.append(shrug)
    return result


def _file(
    place: Path, rounds: range, seed: int, counts: dict[str, int], *, shrug: bool = False
) -> list[str]:
    """Several faults on one open handle, then a look at the file as any user has it."""
    place.mkdir()
    path = str(place / "store.db")
    told = Told()
    kinds = OF_LOG if shrug or rounds.start // ROUNDS_PER_FILE % 3 else OF_CHECKPOINTS
    with faulty(place) as disk:
        driver = SqliteDriver(path, vfs=disk.name if kinds is OF_LOG else None)
        checked: Checked = Checked(driver)
        storage = storage_on(checked)
        _prime(storage)
        if shrug:
            storage = Storage(TakesErrorsForSuccess(checked), storage.scope, storage._runtime)
        try:
            for number in rounds:
                chance = chances(seed, "faults", number)
                fault = Fault.drawn(chance, kinds)
                # A writer that was replaced has SQLite's own threshold again.
                pages = 0 if kinds is OF_LOG else CHECKPOINT_PAGES
                driver._pool.writer.wal_autocheckpoint(pages)
                with FailingCheckpoints(disk, path):
                    _round(storage, disk, fault, chance, f"r{number}", told, counts)
                driver._pool.writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            disk.lift()
            driver.close()
    held, found = judge(path, told.stored)
    counts["lost"] = counts.get("lost", 0) + sum(f.startswith("lost") for f in found)
    return list(dict.fromkeys(told.findings + found + _resurrected(held, told)))


def _round(
    storage: Storage,
    disk: FaultyDisk,
    fault: Fault,
    chance: random.Random,
    prefix: str,
    told: Told,
    counts: dict[str, int],
) -> None:
    """Write while the disk refuses, then write again when it does not."""
    shrug = isinstance(storage._driver, TakesErrorsForSuccess)
    threads = 1 if shrug else chance.choice((1, 4))
    kinds = ("kv",) if shrug else ()
    workloads = [Workload(storage, f"{prefix}.{n}", kinds) for n in range(threads)]
    if not shrug:
        for workload in workloads:
            workload.prepare()
    before = len(told.stored), len(told.refused)
    disk.arm(fault)
    crew = [threading.Thread(target=_write, args=(w, told)) for w in workloads[1:]]
    for thread in crew:
        thread.start()
    _write(workloads[0], told)
    for thread in crew:
        thread.join()
    if not shrug:
        _reads(storage, told)
    struck = disk.lift()
    refused = len(told.refused) - before[1]
    for name, more in (
        ("rounds", 1),
        ("operations_failed", struck),
        (f"rounds_hit_by_{fault.kind.replace(' ', '_')}", struck > 0),
        ("acknowledged", len(told.stored) - before[0]),
        ("raised", refused),
    ):
        counts[name] = counts.get(name, 0) + int(more)
    _recovers(storage, workloads[0], told)


def _write(workload: Workload, told: Told) -> None:
    for _ in range(WRITES_PER_THREAD):
        name = workload.next_name()
        try:
            workload.write(name)
            told.stored.add(name)
        except Unavailable as error:
            told.refused.add(name)
            told.full += isinstance(error, StorageFull)
        except Exception as error:  # noqa: BLE001 - any other error is what is looked for
            told.findings.append(f"a write raised {type(error).__name__}: {error}")
            told.refused.add(name)


def _prime(storage: Storage) -> None:
    """Turn a first page: it stores the key that signs cursors, which later reads only read."""
    for name in ("first", "second"):
        storage.kv.set(name, {"text": content(name)})
    storage.kv.list(limit=1)


def _reads(storage: Storage, told: Told) -> None:
    """Reading goes on while the disk refuses to be written."""
    try:
        storage.conversations.list(limit=1)
        storage.kv.list(limit=1)
    except HoldfastError as error:
        told.findings.append(f"a read raised {type(error).__name__}: {error}")


def _recovers(storage: Storage, workload: Workload, told: Told) -> None:
    """The same handle works at once, and shows what was told."""
    try:
        name = workload.next_name()
        workload.write(name)
        told.stored.add(name)
        held = read(storage, told.findings)
    except HoldfastError as error:
        told.findings.append(f"no recovery without a restart: {type(error).__name__}: {error}")
        return
    missing = told.stored - names_of(held)
    told.findings.extend(f"lost before the restart: {name}" for name in sorted(missing))
    told.findings.extend(_resurrected(held, told))


def _resurrected(held: Held, told: Told) -> list[str]:
    names = names_of(held)
    return [f"raised, yet stored: {name}" for name in sorted(told.refused & names)]
