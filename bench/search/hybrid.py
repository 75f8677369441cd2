"""The sheet of searches by words and vector at once, with the texts of the hits."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.measure import Figures, Goal, Sheet
from bench.search.contender import contenders, loaded, timed
from bench.search.data import Texts, Vectors
from bench.search.hybrid_peers import STORES, Holdfast, HybridStore, SqliteVecFts5, Zvec
from bench.search.turns import middle

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
            contenders=contenders(STORES, Holdfast, goals),
            together=self._together,
            notes="Medians of calls in turns. Peers fuse by rank; holdfast is memory.recall with"
            " its recipe. No embedding is part of any figure, nor is waiting for one in a thread of"
            " its own (embed_seconds=None), which no peer does. A tenant holds a thousandth of"
            " the rows: for peers it is a filter.",
        )

    def _together(self, folder: Path) -> dict[str, Figures]:
        texts = Texts.make(self._count, self._queries)
        vectors = Vectors.make(self._count, self._queries)
        opened, figures = loaded(
            STORES, folder, lambda store: store.load(texts, vectors), len(texts.documents), "rows/s"
        )
        asked = list(zip(texts.queries, vectors.queries, strict=True))
        for name, field in PARTS.items():
            for store_name, times in timed(opened, partial(_search, field), asked).items():
                figures[store_name][name] = middle(times)
        for store in opened:
            store.close()
        return figures


def _search(field: str, store: HybridStore, asked: tuple[tuple[str, ...], Any]) -> object:
    return store.search(*asked, field)
