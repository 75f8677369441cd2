"""One caller, one small row per commit, the contenders taking turns row by row.

A machine that others use syncs now in 0.2 ms and then in 5: only what happens in the same moment
compares. The lower quartile is what a row costs when little else waits for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.subjects import ROW, TEXT, Durability, raw_apsw, raw_row, raw_sqlite3, store

RAW: Final = "raw sqlite3"
APSW: Final = "raw apsw"
APPEND: Final = "holdfast conversations.append"
SET: Final = "holdfast kv.set"
REMEMBER: Final = "holdfast memory.remember"

Write = Callable[[int], object]


class Single:
    """The sheet of one durability."""

    def __init__(self, durability: Durability, *, quick: bool) -> None:
        self._durability: Durability = durability
        self._warm, self._count = (2, 10) if quick else (200, 600)

    def sheet(self, rounds: int) -> Sheet:
        near = (Goal(0.80, RAW), Goal(0.80, RAW, figure="quiet rows/s"))
        goals = near if self._durability == "full" else ()
        return Sheet(
            name=f"single-{self._durability}",
            title=f"One caller, one row per commit, in turns, WAL {self._durability.upper()}",
            figure="rows/s",
            base=RAW,
            rounds=rounds,
            together=self._in_turns,
            contenders=(
                Contender(RAW),
                Contender(APSW),
                *(Contender(name, goals=goals) for name in (APPEND, SET, REMEMBER)),
            ),
            notes="Rows/s is of the median row; quiet rows/s of the lower quartile.",
        )

    def _in_turns(self, folder: Path) -> dict[str, Figures]:
        with ExitStack() as stack:
            for name in ("append", "set", "remember", "apsw"):
                (folder / name).mkdir()
            appending, setting, remembering = [
                stack.enter_context(store(folder / name, self._durability))
                for name in ("append", "set", "remember")
            ]
            one = stack.enter_context(closing(raw_sqlite3(folder, self._durability)))
            two = stack.enter_context(closing(raw_apsw(folder / "apsw", self._durability)))
            conversation = appending.conversations.create().id
            return self._timed(
                {
                    RAW: lambda n: one.execute(ROW, raw_row(n)),
                    APSW: lambda n: two.execute(ROW, raw_row(n)),
                    APPEND: lambda _: appending.conversations.append(conversation, TEXT),
                    SET: lambda n: setting.kv.set(f"key-{n}", TEXT),
                    REMEMBER: lambda n: remembering.memory.remember(f"{TEXT} {n}"),
                }
            )

    def _timed(self, writes: dict[str, Write]) -> dict[str, Figures]:
        times: dict[str, list[float]] = {name: [] for name in writes}
        for number in range(self._warm + self._count):
            for name, write in writes.items():
                start = time.perf_counter()
                write(number)
                times[name].append(time.perf_counter() - start)
        return {name: _figures(held[self._warm :]) for name, held in times.items()}


def _figures(seconds: list[float]) -> Figures:
    median, quartile = percentile(seconds, 0.5), percentile(seconds, 0.25)
    return {
        "rows/s": 1 / median,
        "p50 us": median * 1e6,
        "p25 us": quartile * 1e6,
        "quiet rows/s": 1 / quartile,
    }
