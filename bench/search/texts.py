"""The sheet of text search: any of four words, and how true each answer is to exact BM25."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.measure import Figures, Goal, Sheet
from bench.search.contender import contenders, loaded, timed
from bench.search.data import FILTERS, Texts
from bench.search.text_peers import STORES, Fts5, Holdfast, TextStore
from bench.search.turns import middle

QUERIES: Final = 200


class TextSheet:
    """The sheet of one count of documents."""

    def __init__(self, count: int, *, quick: bool) -> None:
        self._count, self._queries = (100, 3) if quick else (count, QUERIES)
        self._label = count

    def sheet(self) -> Sheet:
        """One round, in which all take turns."""
        goals = (
            Goal(2, figure="all mean ms", sense="at most"),
            Goal(1 / 10, Fts5.name, "all mean ms", "at most"),
            Goal(1.5, figure="10 % mean ms", sense="at most"),
            Goal(1, figure="all agreement"),
            Goal(1, figure="10 % agreement"),
            Goal(10_000, figure="docs/s"),
        )
        return Sheet(
            name=f"search-text-{self._label // 1_000}k",
            title=f"Text search in {self._count:,} documents, any of 4 words",
            figure="all mean ms",
            base=Fts5.name,
            rounds=1,
            contenders=contenders(STORES, Holdfast, goals),
            together=self._together,
            notes="Documents of 50 to 100 words of a Zipf vocabulary of 30,000, from which the"
            " words of queries are drawn alike. Agreement is the share of the exact ten best by"
            " BM25, with each contender's own constants, that it gave.",
        )

    def _together(self, folder: Path) -> dict[str, Figures]:
        texts = Texts.make(self._count, self._queries)
        opened, figures = loaded(
            STORES, folder, lambda store: store.load(texts), len(texts.documents), "docs/s"
        )
        for name, field in FILTERS.items():
            every = timed(opened, partial(_search, field), texts.queries)
            for store_name, times in every.items():
                figures[store_name][f"{name} ms"] = middle(times)
                figures[store_name][f"{name} mean ms"] = sum(times) / len(times)
        for store in opened:
            figures[store.name] |= _agreements(store, texts)
            store.close()
        return figures


def _agreements(store: TextStore, texts: Texts) -> Figures:
    totals: Figures = {f"{name} agreement": 0.0 for name in FILTERS}
    for query in texts.queries:
        scores = texts.scores(query, store.k1, store.b)
        for name, field in FILTERS.items():
            share = texts.agreement(scores, field, store.search(query, field))
            totals[f"{name} agreement"] += share / len(texts.queries)
    return {name: round(total, 9) for name, total in totals.items()}


def _search(field: str, store: TextStore, query: Sequence[str]) -> object:
    return store.search(tuple(query), field)
