"""Contenders measured beside each other: interleaved rounds, fresh folders, medians, ratios."""

from __future__ import annotations

import gc
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Figures = dict[str, float]
"""What one round of one contender gave, by the name of the figure."""


@dataclass(frozen=True)
class Goal:
    """A target of this row: a figure against another row's, or against a number when ``of`` is "".

    Ratios are taken round by round, so that a busy machine slows both sides of each.
    """

    limit: float
    of: str = ""
    figure: str = ""
    """Another figure than the sheet's own."""
    sense: Literal["at least", "at most"] = "at least"

    def met(self, value: float) -> bool:
        """Whether the value reaches the target."""
        return value >= self.limit if self.sense == "at least" else value <= self.limit


@dataclass(frozen=True)
class Contender:
    """One row: what runs in a fresh folder and what is asked of it.

    ``missing`` says why a row cannot run here; it is then shown, not measured.
    """

    name: str
    run: Callable[[Path], Figures] = lambda _: {}
    goals: tuple[Goal, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Sheet:
    """Rows that are measured in one run. ``figure`` is what they are compared by."""

    name: str
    title: str
    figure: str
    base: str
    """The row that counts as 1."""
    contenders: tuple[Contender, ...]
    rounds: int = 5
    together: Callable[[Path], dict[str, Figures]] | None = None
    """Measures all rows of a round at once, by name, when they take turns call by call."""
    notes: str = field(default="", compare=False)


def measure(sheet: Sheet, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run every round of a sheet and give its raw result, ready for JSON."""
    samples: dict[str, list[Figures]] = {c.name: [] for c in sheet.contenders}
    present = [c for c in sheet.contenders if not c.missing]
    for round_number in range(sheet.rounds):
        if sheet.together is not None:
            for name, figures in _in_fresh_folder(sheet.together, folder).items():
                samples[name].append(figures)
        else:
            # Each round begins one contender later, so that none always follows the same one.
            shift = round_number % len(present)
            for contender in present[shift:] + present[:shift]:
                samples[contender.name].append(_in_fresh_folder(contender.run, folder))
        say(f"{sheet.name}: round {round_number + 1} of {sheet.rounds}")
    return {
        "name": sheet.name,
        "title": sheet.title,
        "figure": sheet.figure,
        "base": sheet.base,
        "notes": sheet.notes,
        "rounds": sheet.rounds,
        "rows": [_row(sheet, contender, samples) for contender in sheet.contenders],
    }


def _in_fresh_folder(run: Callable[[Path], T], folder: Path) -> T:
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own, since a library may remember what it found at a path before.
    place = Path(tempfile.mkdtemp(prefix="round-", dir=folder))
    gc.collect()
    try:
        return run(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _row(sheet: Sheet, contender: Contender, samples: dict[str, list[Figures]]) -> dict[str, Any]:
    mine = samples[contender.name]
    row: dict[str, Any] = {
        "name": contender.name,
        "missing": contender.missing,
        "samples": mine,
        "medians": {},
        "ratio": None,
        "goals": [],
    }
    if not mine:
        return row
    row["medians"] = {name: statistics.median(s[name] for s in mine) for name in mine[0]}
    row["ratio"] = _ratio(mine, samples[sheet.base], sheet.figure)
    for goal in contender.goals:
        name = goal.figure or sheet.figure
        value: float | None = row["medians"][name]
        if goal.of:
            value = _ratio(mine, samples[goal.of], name)
        row["goals"].append(
            {
                "figure": name,
                "of": goal.of,
                "sense": goal.sense,
                "limit": goal.limit,
                "value": value,
                "met": None if value is None else goal.met(value),
            }
        )
    return row


def _ratio(mine: Sequence[Figures], others: Sequence[Figures], figure: str) -> float | None:
    """The median of the rounds' ratios; None where the other side did not run."""
    if not others or figure not in mine[0] or figure not in others[0]:
        return None
    return statistics.median(a[figure] / b[figure] for a, b in zip(mine, others, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
