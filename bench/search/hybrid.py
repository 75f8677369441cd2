"""The sheet of searches by words and vector at once, with the texts of the hits."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import peers
from bench.measure import Contender, Figures, Goal, Sheet
from bench.search.data import Texts, Vectors
from bench.search.hybrid_peers import STORES, Holdfast, HybridStore, SqliteVecFts5, Zvec
from bench.search.turns import in_turns, middle

QUERIES: Final = 100
PARTS: Final = {"all ms": "", "10 % ms": "tenth", "tenant ms": "thousandth"}


class HybridSheet:
    """The sheet of one count of memories."""

    def __init__(self, count: int, *, quick: bool) -> None:
        self._count, self._queries = (100, 3) if quick else (count, QUERIES)
        self._label = count

    def sheet(self) -> Sheet:
        """One round, in which all take turns."""
        goals = (
            Goal(4, figure="all ms", sense="at most"),
            Goal(2, figure="10 % ms", sense="at most"),
            Goal(0.8, figure="tenant ms", sense="at most"),
            Goal(1 / 30, SqliteVecFts5.name, "all ms", "at most"),
            Goal(1, Zvec.name, "10 % ms", "at most"),
        )
        return Sheet(
            name=f"search-hybrid-{self._label // 1_000}k",
            title=f"Words and vector at once in {self._count:,} memories, with the texts",
            figure="all ms",
            base=SqliteVecFts5.name,
            rounds=1,
            contenders=tuple(
                Contender(
                    store.name,
                    goals=goals if store is Holdfast else (),
                    missing=peers.missing(store.module) if store.module else "",
                )
                for store in STORES
            ),
            together=self._together,
            notes="Medians of calls in turns. Peers fuse by rank; holdfast is memory.recall with"
            " its recipe, and no embedding is part of any figure. A tenant holds a thousandth of"
            " the rows: for peers it is a filter.",
        )

    def _together(self, folder: Path) -> dict[str, Figures]:
        texts = Texts.make(self._count, self._queries)
        vectors = Vectors.make(self._count, self._queries)
        figures: dict[str, Figures] = {}
        opened: list[HybridStore] = []
        for kind in STORES:
            if kind.module and peers.missing(kind.module):
                continue
            place = folder / kind.__name__
            place.mkdir()
            store = kind(place)
            began = time.perf_counter()
            store.load(texts, vectors)
            seconds = time.perf_counter() - began
            figures[store.name] = {"rows/s": len(texts.documents) / seconds}
            print(f"  {store.name}: {seconds:.1f} s", file=sys.stderr, flush=True)
            opened.append(store)
        asked = list(zip(texts.queries, vectors.queries, strict=True))
        for name, field in PARTS.items():
            calls: dict[str, Any] = {store.name: partial(_call, store, field) for store in opened}
            for store_name, times in in_turns(calls, asked).items():
                figures[store_name][name] = middle(times)
        for store in opened:
            store.close()
        return figures


def _call(store: HybridStore, field: str, asked: tuple[tuple[str, ...], Any]) -> object:
    return store.search(*asked, field)
