"""kill -9 at a random moment: whatever was acknowledged is there, whole, when the file is reopened.

Writers acknowledge through a pipe what they have been told is stored. A file lives through many
kills, so that each finds what the ones before it left. The saboteur acknowledges before it commits.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from soak.campaign import Result, Saboteur, Tick, chances, folder, ignore, timed
from soak.workload import judge, names_of
from soak.zygote import Child, Zygote, zygote

CYCLES_PER_FILE: Final = 25
NEW_FILE_SHARE: Final = 0.1
"""The share of cycles that begin a new file before its turn, to kill while it is made."""
CREWS: Final = ((1, 1), (1, 1), (1, 4), (1, 4), (2, 1), (2, 2))
"""Processes and threads of each, drawn for every cycle."""
LOG_PAGES: Final = (1_000, 100, 20)
"""Lengths from which on writers move their log: the first, the usual one, few live to see."""
LONGEST_LIFE_SECONDS: Final = 0.06
"""Writers live for up to so long after their first acknowledgement."""
OPENING_SHARE: Final = 0.25
"""The share of cycles that kill while the file is still being opened and recovered."""
MAKING_SHARE: Final = 0.75
"""The same where the file is new, and opening makes it."""


@dataclass
class File:
    """One file and what is known of it."""

    path: str
    known: set[str] = field(default_factory=set)


def run(kills: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """Kill so many times; the saboteur gets a tenth of that, at least 5."""
    result = Result(campaign="kills", trial="kill -9 of writers", trials=kills, seed=seed)
    early = Saboteur(name="acknowledges before the commit", trials=max(5, kills // 10))
    with timed(result), folder() as place, zygote() as parent:
        sound = File(str(place / "0.db"))
        for cycle in range(kills):
            chance = chances(seed, "kills", cycle)
            if cycle % CYCLES_PER_FILE == 0 or chance.random() < NEW_FILE_SHARE:
                _remove(sound)
                sound = File(str(place / f"{cycle}.db"))
            for finding in _cycle(parent, sound, f"c{cycle}", chance, result.counts):
                result.note(f"cycle {cycle}: {finding}")
            tick(cycle + 1)
        for cycle in range(early.trials):
            broken = File(str(place / f"early-{cycle}.db"))
            chance = chances(seed, "early", cycle)
            for finding in _cycle(parent, broken, f"e{cycle}", chance, early.counts, early=True):
                early.note(finding)
            _remove(broken)
    result.saboteurs.append(early)
    return result


def _cycle(
    parent: Zygote,
    file: File,
    prefix: str,
    chance: random.Random,
    counts: dict[str, int],
    *,
    early: bool = False,
) -> list[str]:
    """Start writers, kill them, reopen, compare."""
    processes, threads = (1, 1) if early else chance.choice(CREWS)
    fresh = not Path(file.path).exists()
    share = MAKING_SHARE if fresh else OPENING_SHARE
    log_pages = chance.choice(LOG_PAGES)
    crew = [
        parent.start(
            "write",
            path=file.path,
            prefix=f"{prefix}.{n}",
            threads=threads,
            log_pages=log_pages,
            early=early,
        )
        for n in range(processes)
    ]
    acknowledged: set[str] = set()
    findings: list[str] = []
    for child in _lives(crew, chance, opening=not early and chance.random() < share):
        for line in child.kill():
            if line.startswith("error "):
                findings.append(f"a writer failed: {line}")
            else:
                acknowledged.add(line)
    held, found = judge(file.path, acknowledged, file.known)
    findings.extend(found)
    names = names_of(held) - {"probe"}
    _add(counts, "cycles", 1)
    _add(counts, "acknowledged", len(acknowledged))
    _add(counts, "stored_unacknowledged", len(names - acknowledged - file.known))
    _add(counts, "lost", sum(f.startswith(("lost", "vanished")) for f in findings))
    _add(counts, "corrupt_or_torn", sum(f.startswith(("corrupt", "torn")) for f in findings))
    _add(counts, "killed_while_the_file_was_made", fresh and not acknowledged)
    _add(counts, "killed_before_first_acknowledgement", not acknowledged)
    _add(counts, "killed_with_several_writers", processes * threads > 1)
    _add(counts, "killed_with_several_processes", processes > 1)
    file.known |= names
    return findings


def _lives(crew: list[Child], chance: random.Random, *, opening: bool) -> list[Child]:
    """Let the crew work until the moment at which each is to be killed; in that order."""
    if not opening:
        for child in crew:
            child.wait_for_answers()
    time.sleep(chance.uniform(0, LONGEST_LIFE_SECONDS))
    return chance.sample(crew, len(crew))


def _add(counts: dict[str, int], name: str, more: int) -> None:
    counts[name] = counts.get(name, 0) + int(more)


def _remove(file: File) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(file.path + suffix).unlink(missing_ok=True)
