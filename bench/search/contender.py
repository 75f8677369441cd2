"""What every contender of a search is, how all of them are loaded, and how they take turns."""

from __future__ import annotations

import sys
import time
from abc import ABC
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from bench import peers
from bench.measure import Contender, Figures, Goal
from bench.search.turns import in_turns


class SearchStore(ABC):
    """A contender with a folder of its own.

    Whatever it finds, it finds behind ``where``: a field that has to be `data.WANTED`, or "".
    """

    name: ClassVar[str]
    module: ClassVar[str] = ""
    """What has to be installed for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def close(self) -> None:  # noqa: B027 - what lives in memory goes with its object
        """Let go of it."""


Store = TypeVar("Store", bound=SearchStore)


def contenders(
    stores: Sequence[type[SearchStore]], ours: type[SearchStore], goals: tuple[Goal, ...]
) -> tuple[Contender, ...]:
    """All of them, with what is asked of ours."""
    return tuple(
        Contender(
            store.name,
            goals=goals if store is ours else (),
            missing=peers.missing(store.module) if store.module else "",
        )
        for store in stores
    )


def loaded(
    kinds: Sequence[type[Store]],
    folder: Path,
    load: Callable[[Store], object],
    count: int,
    figure: str,
) -> tuple[list[Store], dict[str, Figures]]:
    """Those that are installed, each having loaded; and by name how many of ``count`` a second."""
    figures: dict[str, Figures] = {}
    opened: list[Store] = []
    for kind in kinds:
        if kind.module and peers.missing(kind.module):
            continue
        place = folder / kind.name
        place.mkdir()
        store = kind(place)
        began = time.perf_counter()
        load(store)
        seconds = time.perf_counter() - began
        figures[store.name] = {figure: count / seconds}
        print(f"  {store.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
        opened.append(store)
    return opened, figures


def timed(
    stores: Sequence[Store], search: Callable[[Store, Any], object], queries: Sequence[Any]
) -> dict[str, list[float]]:
    """Milliseconds of every search, by the contenders' names."""
    calls = {store.name: partial(search, store) for store in stores}
    return in_turns(calls, queries)
