"""Checkpoints: a conversation saved at every step, beside LangGraph's savers and one row a state.

Everybody is given the same bytes. They take turns call by call, each step in another order, so
that what else the machine does slows all of them alike.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from bench import peers
from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.postgres import new_database
from bench.savers import (
    HoldfastFile,
    HoldfastTable,
    LangGraphFile,
    LangGraphTable,
    PackedFile,
    RawFile,
    RawTable,
    Saver,
)

RAW: Final = "one row per state by hand"
OURS: Final = "holdfast checkpoints"
PACKED: Final = "holdfast checkpoints, compressed"
LANGGRAPH: Final = "LangGraph"
PUT: Final = "put ms"
GET: Final = "get ms"
LATEST: Final = "latest ms"
LIST: Final = "list-10 ms"
TOTAL: Final = "total s"
SIZE: Final = "MB"
WINDOW: Final = 10
"""Messages of a state in a long history, in which a conversation cannot grow for ever."""


# --- sheets


def sqlite_sheet(rounds: int, *, quick: bool) -> Sheet:
    """A conversation of 1,000 steps in a file."""
    steps = 20 if quick else 1_000

    def together(folder: Path) -> dict[str, Figures]:
        alone = _alone(_in_files(folder / "alone"), steps)
        return _growing(_in_files(folder / "turns"), steps, alone)

    return Sheet(
        name="checkpoints-sqlite",
        title=f"Checkpoints in a file: a conversation of {steps:,} steps that grows by a message",
        figure=PUT,
        base=RAW,
        rounds=rounds,
        together=together,
        contenders=_rows("langgraph.checkpoint.sqlite", _GROWING, packed=True),
        notes=_NOTES + " Everybody writes with WAL and FULL. The total is of the puts of one after"
        " the other, each alone with its file; MB is the file after it was closed.",
    )


def postgres_sheet(rounds: int, *, quick: bool) -> Sheet:
    """A conversation of 1,000 steps in PostgreSQL."""
    steps = 20 if quick else 1_000

    def together(_: Path) -> dict[str, Figures]:
        with _database() as makers:
            return _growing(makers, steps)

    return Sheet(
        name="checkpoints-postgres",
        title=f"Checkpoints in PostgreSQL: a conversation of {steps:,} steps, growing by a message",
        figure=PUT,
        base=RAW,
        rounds=rounds,
        together=together,
        contenders=_rows("langgraph.checkpoint.postgres", _LATENCIES),
        notes=_NOTES + _POSTGRES,
    )


def history_sheet(rounds: int, *, quick: bool) -> Sheet:
    """A long history in PostgreSQL."""
    held = 40 if quick else 10_000

    def together(_: Path) -> dict[str, Figures]:
        with _database() as makers:
            return _history(makers, held, 10 if quick else 300)

    against = (
        Goal(1 / 15, LANGGRAPH, GET, "at most"),
        Goal(1 / 15, LANGGRAPH, LATEST, "at most"),
        Goal(1 / 100, LANGGRAPH, LIST, "at most"),
    )
    return Sheet(
        name="checkpoints-postgres-10k",
        title=f"Checkpoints in PostgreSQL: a thread of {held:,}",
        figure=PUT,
        base=RAW,
        rounds=rounds,
        together=together,
        contenders=_rows("langgraph.checkpoint.postgres", (*_LATENCIES, *against)),
        notes=f"States are the last {WINDOW} messages of a conversation, of some 600 bytes each; a"
        " get is of any step, latest is asked again and again by a handle that has not saved, and"
        " remembers what it read. Few gets meet bytes that the handle has read before. LangGraph's"
        " list gives the states as well." + _POSTGRES,
    )


_LATENCIES: Final = (Goal(1.3, RAW, PUT, "at most"), Goal(2, RAW, GET, "at most"))
_GROWING: Final = (
    *_LATENCIES,
    Goal(0.35, figure=TOTAL, sense="at most"),
    Goal(3, figure=SIZE, sense="at most"),
)
_NOTES: Final = (
    "Messages have some 600 bytes. Put and get are medians; a get is of any step, after the store"
    " was opened anew. LangGraph is given the bytes as one channel. A handle of holdfast computes"
    " the checksum of what it reads once."
)
_POSTGRES: Final = (
    " Nothing waits for the disk (fsync is off). The other two are superusers without row"
    " security; holdfast's role owns nothing, and its tenant is set and checked in each call."
)


def _rows(module: str, goals: tuple[Goal, ...], *, packed: bool = False) -> tuple[Contender, ...]:
    others = (Contender(PACKED),) if packed else ()
    absent = peers.missing(module) if peers.missing("langgraph") == "" else "not installed"
    return (
        Contender(RAW),
        Contender(LANGGRAPH, missing=absent),
        Contender(OURS, goals=goals),
        *others,
    )


# --- rounds


@cache
def _messages(count: int) -> list[dict[str, str]]:
    rng = random.Random(3)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(2, 10))) for _ in range(4_000)]
    return [
        {"id": f"m{n}", "role": "user", "content": " ".join(rng.choices(words, k=80))}
        for n in range(count)
    ]


def _state(step: int, window: int = 10**9) -> bytes:
    messages = _messages(10_400)[max(0, step + 1 - window) : step + 1]
    return json.dumps({"messages": messages, "step": step}).encode()


@dataclass
class _Clock:
    """Times by contender and figure."""

    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def turn(self, savers: dict[str, Saver], number: int, name: str, call: Any) -> list[Any]:
        """Let each contender do the call, another one first each time."""
        order = list(savers)
        shift = number % len(order)
        given = []
        for who in order[shift:] + order[:shift]:
            started = time.perf_counter()
            given.append(call(savers[who]))
            elapsed = time.perf_counter() - started
            self.times.setdefault(who, {}).setdefault(name, []).append(elapsed)
        return given

    def figures(self, who: str) -> Figures:
        """Medians in milliseconds."""
        return {name: percentile(held, 0.5) * 1e3 for name, held in self.times[who].items()}


Makers = dict[str, Callable[[], Saver]]


def _alone(makers: Makers, steps: int) -> dict[str, Figures]:
    """How long all puts of a contender take while no other one writes."""
    totals: dict[str, Figures] = {}
    for name, make in _present(makers).items():
        saver, states = make(), map(_state, range(steps))
        total = 0.0
        for step, state in enumerate(states):
            started = time.perf_counter()
            saver.put(step, state)
            total += time.perf_counter() - started
        totals[name] = {TOTAL: total}
        saver.size()
    return totals


def _growing(
    makers: Makers, steps: int, totals: dict[str, Figures] | None = None
) -> dict[str, Figures]:
    makers, clock = _present(makers), _Clock()
    savers = {name: make() for name, make in makers.items()}
    for step in range(steps):
        state = _state(step)
        clock.turn(savers, step, PUT, lambda saver, n=step, s=state: saver.put(n, s))
    readers = {name: saver.reopened() for name, saver in savers.items()}
    rng = random.Random(1)
    for number in range(min(steps, 200)):
        step = rng.randrange(steps)
        got = clock.turn(readers, number, GET, lambda saver, n=step: saver.get(n))
        assert set(got) == {_state(step)}
    return {
        name: {
            **clock.figures(name),
            **(totals[name] if totals else {TOTAL: sum(clock.times[name][PUT])}),
            SIZE: readers[name].size() / 1e6,
        }
        for name in savers
    }


def _history(makers: Makers, held: int, count: int) -> dict[str, Figures]:
    makers, clock = _present(makers), _Clock()
    savers = {name: make() for name, make in makers.items()}
    for step in range(held):
        for saver in savers.values():
            saver.put(step, _state(step, WINDOW))
    state = b""
    for step in range(held, held + count):
        state = _state(step, WINDOW)
        clock.turn(savers, step, PUT, lambda saver, n=step, s=state: saver.put(n, s))
    readers = {name: saver.reopened() for name, saver in savers.items()}
    rng = random.Random(1)
    for number in range(count):
        step = rng.randrange(held)
        got = clock.turn(readers, number, GET, lambda saver, n=step: saver.get(n))
        assert set(got) == {_state(step, WINDOW)}
        assert set(clock.turn(readers, number, LATEST, lambda saver: saver.latest())) == {state}
        assert set(clock.turn(readers, number, LIST, lambda saver: saver.newest())) == {10}
    return {
        name: {**clock.figures(name), SIZE: reader.size() / 1e6} for name, reader in readers.items()
    }


def _present(makers: Makers) -> Makers:
    absent = peers.missing("langgraph") != ""
    return {name: make for name, make in makers.items() if not (absent and name == LANGGRAPH)}


def _in_files(folder: Path) -> Makers:
    folder.mkdir()
    return {
        RAW: partial(RawFile, folder),
        LANGGRAPH: partial(LangGraphFile, folder),
        OURS: partial(HoldfastFile, folder),
        PACKED: partial(PackedFile, folder),
    }


@contextmanager
def _database() -> Iterator[Makers]:
    from holdfast.backends.postgres import PostgresDriver
    from holdfast.core.clock import SystemClock
    from holdfast.storage import all_collections
    from holdfast.testing.servers.shared import shared_url

    with new_database() as (name, role, url):
        owner = PostgresDriver(shared_url(name), SystemClock())
        owner.setup(all_collections())
        owner.grant(role, "application")
        owner.close()
        yield {
            RAW: partial(RawTable, shared_url(name)),
            LANGGRAPH: partial(LangGraphTable, shared_url(name)),
            OURS: partial(HoldfastTable, url, shared_url(name)),
        }
