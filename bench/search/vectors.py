"""The sheet of vector search: everybody loads the same rows and answers in turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.measure import Figures, Goal, Sheet
from bench.search import cold
from bench.search.contender import contenders, loaded, timed
from bench.search.data import FILTERS, TOP, Vectors
from bench.search.turns import middle
from bench.search.vector_peers import STORES, Flat, Holdfast, VectorStore

QUERIES: Final = 100
MANY: Final = 1_000_000
QUERIES_OF_MANY: Final = 20
LOAD_MANY_SOON: Final = ("numpy flat", "sqlite-vec", "holdfast")
"""Who takes in a million rows within two minutes (hnswlib: eight)."""
LIMITS_MS: Final[dict[int, tuple[float, ...]]] = {
    10_000: (0.3, 0.3, 0.3),
    100_000: (1.0, 0.6, 0.15),
    1_000_000: (6.0, 5.0, 1.0),
}
"""What holdfast is to keep to, by the number of rows and for each filter."""
BASE: Final = Flat.name


class VectorSheet:
    """The sheet of one count of rows."""

    def __init__(
        self,
        count: int,
        *,
        quick: bool,
        stores: Sequence[type[VectorStore]] = STORES,
    ) -> None:
        self._count = 200 if quick else count
        self._queries = 3 if quick else QUERIES_OF_MANY if count >= MANY else QUERIES
        self._label = count
        self._stores = [s for s in stores if count < MANY or s.name in LOAD_MANY_SOON]

    def sheet(self) -> Sheet:
        """One round, in which all take turns."""
        return Sheet(
            name=f"search-vectors-{self._label // 1_000}k",
            title=f"Vector search in {self._count:,} x 384",
            figure="all ms",
            base=BASE,
            rounds=1,
            contenders=contenders(self._stores, Holdfast, self._goals()),
            together=self._together,
            notes="Medians of calls in turns; HNSW graphs with 16 links, 200 candidates while"
            " building and 100 while searching; what is named MiB is private memory after opening"
            " in a process of its own and 100 searches, cold ms from opening to the first answer"
            " there, without the imports. Only holdfast, sqlite-vec, Chroma, LanceDB and zvec keep"
            " anything; usearch offers no filter here."
            + (" Who takes longer to load a million rows is left out." * (self._label == MANY)),
        )

    def _goals(self) -> tuple[Goal, ...]:
        limits = LIMITS_MS[self._label]
        goals = [
            Goal(limit, figure=f"{name} ms", sense="at most")
            for name, limit in zip(FILTERS, limits, strict=True)
        ]
        goals += [Goal(0.99, figure=f"{name} recall") for name in FILTERS]
        goals.append(Goal(20_000, figure="rows/s"))
        if self._label == MANY:
            goals.append(Goal(300, figure="MiB", sense="at most"))
        if self._label == 100_000:
            goals.append(Goal(120, figure="cold ms", sense="at most"))
            goals.append(Goal(25, figure="MiB", sense="at most"))
            filtered = [s for s in self._stores if s.durable and s is not Holdfast and s.filters]
            goals += [
                Goal(1, store.name, f"{name} ms", "at most")
                for store in filtered
                for name in ("10 %", "0.1 %")
            ]
        return tuple(goals)

    def _together(self, folder: Path) -> dict[str, Figures]:
        vectors = Vectors.make(self._count, self._queries)
        opened, figures = loaded(
            self._stores, folder, lambda store: store.load(vectors), len(vectors.rows), "rows/s"
        )
        for name, field in FILTERS.items():
            able = [store for store in opened if store.filters or not field]
            for store_name, values in _answers(able, vectors, field).items():
                figures[store_name][f"{name} ms"], figures[store_name][f"{name} recall"] = values
        for store in opened:
            store.close()
            if store.durable:
                figures[store.name] |= cold.measured(type(store), store.folder, vectors.queries)
        return figures


def _answers(
    stores: Sequence[VectorStore], vectors: Vectors, field: str
) -> dict[str, tuple[float, float]]:
    """The median time and the recall of each store behind one filter."""
    truth = vectors.best(field)
    recalls = {}
    for store in stores:
        found = [set(store.search(query, field)[:TOP]) for query in vectors.queries]
        shares = [len(f & t) / len(t) for f, t in zip(found, truth, strict=True)]
        recalls[store.name] = sum(shares) / len(shares)
    times = timed(stores, lambda store, query: store.search(query, field), vectors.queries)
    return {name: (middle(taken), recalls[name]) for name, taken in times.items()}
