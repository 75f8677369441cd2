"""Simulated power cuts: what was acknowledged at durability "full" is there when the power is back.

A run of writes is recorded once and cut at many places; from one of the cuts the next run goes on,
so that recovery is cut too. Some runs checkpoint all the time, some write from several threads.
"normal" may lose the last writes but never the file; "off", which the engine does not offer, is the
saboteur.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite import connection as connections
from holdfast.backends.sqlite.connection import Durability
from holdfast.core.errors import HoldfastError
from holdfast.layers.check import Checked
from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.disk import Disk, Event, Storm, recording, store
from soak.workload import Workload, judge, names_of, storage_on

CUTS_PER_RUN: Final = 20
RUNS_PER_CHAIN: Final = 6
"""A store lives through so many runs before a new one is begun."""
WRITES_PER_THREAD: Final = 8
FILE: Final = "store.db"
OFF: Final = "off"


@dataclass
class Chain:
    """One store's life: its files, and what is known of them."""

    image: dict[str, bytes] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    runs: int = 0


@dataclass
class Series:
    """Cuts at one durability, and what became of them."""

    durability: str
    seed: int
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def opened_at(self) -> Durability:
        return "full" if self.durability == "full" else "normal"

    def count(self, name: str, more: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + more


def run(cuts: int, *, seed: int = 1, tick: Tick = ignore, cuts_per_run: int = 0) -> Result:
    """Cut so often at "full"; a quarter of that at "normal", a tenth with syncs off."""
    per_run = cuts_per_run or CUTS_PER_RUN
    result = Result(campaign="power", trial="power cut at durability full", trials=cuts, seed=seed)
    off = Saboteur(name="synchronous=OFF", trials=max(40, cuts // 10))
    with timed(result), folder(in_memory=True) as place:
        full = Series("full", seed)
        _cuts(full, cuts, per_run, place, result.note, tick)
        normal = Series("normal", seed)
        _cuts(normal, max(10, cuts // 4), per_run, place, _unless_lost(result), ignore)
        broken = Series(OFF, seed)
        _cuts(broken, off.trials, per_run, place, off.note, ignore)
    for series in (full, normal):
        result.counts |= {f"{series.durability}_{k}": n for k, n in series.counts.items()}
    off.counts = broken.counts
    result.saboteurs.append(off)
    return result


def _unless_lost(result: Result) -> Callable[[str], None]:
    """At "normal" losses are counted, and only damage is a finding."""

    def note(finding: str) -> None:
        if "lost: " not in finding:
            result.note(f"normal: {finding}")

    return note


def _cuts(
    series: Series,
    cuts: int,
    per_run: int,
    place: Path,
    note: Callable[[str], None],
    tick: Tick,
) -> None:
    done, chain = 0, Chain()
    while done < cuts:
        if chain.runs == RUNS_PER_CHAIN:
            chain = Chain()
        chance = chances(series.seed, series.durability, done)
        if not chain.image:
            chain = Chain()
        chain.runs += 1
        wanted = min(per_run, cuts - done)
        for finding in _run_and_cut(series, chain, wanted, place / f"{done}", chance):
            note(f"{series.durability} cut {done}: {finding}")
        done += wanted
        tick(done)


def _run_and_cut(
    series: Series, chain: Chain, cuts: int, place: Path, chance: random.Random
) -> list[str]:
    """Record one run, judge its cuts, and leave the chain at one of them."""
    findings: list[str] = []
    try:
        events = _record(series, chain, place / "run", chance)
    except HoldfastError as error:
        # A store that cannot be opened again was judged already; the chain ends here.
        chain.image = {}
        return [f"corrupt: the next run said {type(error).__name__}: {error.message}"]
    series.count("recorded_events", len(events))
    at = sorted(chance.choices(range(len(events) + 1), k=cuts))
    goes_on = chance.randrange(cuts)
    disk, position = Disk(chain.image), 0
    follower = Chain(runs=chain.runs)
    for number, index in enumerate(at):
        for event in events[position:index]:
            disk.replay(event)
        position = index
        image = disk.cut(Storm.drawn(chance), chance)
        promised = chain.promised | set(disk.acknowledged)
        names, found = _judge(series, image, promised, place / f"cut-{number}")
        findings.extend(found)
        if number == goes_on and not any(f.startswith("corrupt") for f in found):
            follower.image, follower.promised = image, names
    chain.image, chain.promised = follower.image, follower.promised
    shutil.rmtree(place)
    return findings


def _judge(
    series: Series, image: dict[str, bytes], promised: set[str], place: Path
) -> tuple[set[str], list[str]]:
    store(image, place)
    held, findings = judge(str(place / FILE), promised, durability=series.opened_at)
    shutil.rmtree(place)
    series.count("cuts")
    series.count("acknowledged", len(promised))
    series.count("lost", sum(f.startswith("lost") for f in findings))
    series.count("cuts_with_loss", any(f.startswith("lost") for f in findings))
    series.count("cuts_with_damage", any(f.startswith(("corrupt", "torn")) for f in findings))
    return names_of(held) - {"probe"}, findings


def _record(series: Series, chain: Chain, place: Path, chance: random.Random) -> list[Event]:
    """Open the chain's files on a recording disk and write; the close is recorded as well."""
    store(chain.image, place)
    threads = chance.choice((1, 1, 4))
    recorder_name = f"holdfast-{series.durability}-{place.parent.name}"
    with recording(recorder_name) as recorder, _log_of(chance.choice((1_000, 100, 20))):
        driver = SqliteDriver(str(place / FILE), durability=series.opened_at, vfs=recorder.name)
        try:
            storage = storage_on(Checked(driver))
            if series.durability == OFF:  # which the first setup would have set right
                driver._pool.writer.execute("PRAGMA synchronous=OFF")
            prefix = f"{place.parent.name}"
            workers = [Workload(storage, f"{prefix}.{n}") for n in range(threads)]

            def work(workload: Workload) -> None:
                workload.prepare()
                for _ in range(WRITES_PER_THREAD):
                    name = workload.next_name()
                    workload.write(name)
                    recorder.acknowledge(name)

            crew = [threading.Thread(target=work, args=(w,)) for w in workers[1:]]
            for thread in crew:
                thread.start()
            work(workers[0])
            for thread in crew:
                thread.join()
        finally:
            driver.close()
        return recorder.events


@contextmanager
def _log_of(pages: int) -> Iterator[None]:
    """Checkpoint from so few pages on: the default leaves that to runs longer than these."""
    usual = connections.CHECKPOINT_PAGES, connections.RESTART_PAGES
    connections.CHECKPOINT_PAGES, connections.RESTART_PAGES = pages, 4 * pages
    try:
        yield
    finally:
        connections.CHECKPOINT_PAGES, connections.RESTART_PAGES = usual
