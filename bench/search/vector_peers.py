"""Vector stores, ours among them, with one face: load rows, answer queries, open again."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Any, ClassVar, Final

import numpy

from bench.search.contender import SearchStore
from bench.search.data import TOP, WANTED, WIDTH, Vectors
from bench.search.settled import settle
from bench.search.tables import (
    BUILD,
    NEIGHBOURS,
    SEARCH,
    batches,
    filtered,
    lance_table,
    sqlite_with_vec,
    vec_table,
    zvec_table,
)
from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.change import Change, Put
from holdfast.core.collection import Collection, Field, Index
from holdfast.core.filter import EVERYTHING, eq
from holdfast.core.search import Search, VectorLeg
from holdfast.core.values import Vector
from holdfast.layers.check import Checked

TENANT: Final = "default"


class VectorStore(SearchStore):
    """A contender. ``where`` is a field that has to be `WANTED`, or "" for no filter."""

    durable: ClassVar[bool] = True
    """Whether another process can open what it has loaded."""
    filters: ClassVar[bool] = True

    @abstractmethod
    def load(self, vectors: Vectors) -> None:
        """Take all rows in; when it returns, searches are as fast as they will be."""

    @abstractmethod
    def search(self, query: Any, where: str) -> list[int]:
        """The numbers of the ten nearest rows."""

    def open(self) -> None:
        """Open what another process has loaded."""
        raise NotImplementedError


class Flat(VectorStore):
    """A matrix in memory, multiplied whole: no index to be behind, nothing on disk."""

    name = "numpy flat"
    durable = False

    def load(self, vectors: Vectors) -> None:
        """Copy the rows."""
        self._rows = vectors.rows.copy()
        self._fields = {"tenth": vectors.tenth, "thousandth": vectors.thousandth}

    def search(self, query: Any, where: str) -> list[int]:
        """Choose rows by the field, multiply, take the best."""
        if not where:
            scores = self._rows @ query
            return list(_best(scores))
        chosen = numpy.flatnonzero(self._fields[where] == WANTED)
        return list(chosen[_best(self._rows[chosen] @ query)])


class Hnswlib(VectorStore):
    """A graph in memory; its filter is a function that is called for each row that it meets."""

    name = "hnswlib"
    module = "hnswlib"
    durable = False

    def load(self, vectors: Vectors) -> None:
        """Build the graph on all cores."""
        self._fields = {"tenth": vectors.tenth, "thousandth": vectors.thousandth}
        self._index = importlib.import_module("hnswlib").Index(space="cosine", dim=WIDTH)
        self._index.init_index(len(vectors.rows), ef_construction=BUILD, M=NEIGHBOURS)
        self._index.add_items(vectors.rows, numpy.arange(len(vectors.rows)))
        self._index.set_ef(SEARCH)

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the graph."""
        if not where:
            return list(self._index.knn_query(query, k=TOP)[0][0])
        held = self._fields[where]
        try:
            labels, _ = self._index.knn_query(
                query, k=TOP, num_threads=1, filter=lambda label: held[label] == WANTED
            )
        except RuntimeError:  # it found fewer than it was asked for
            return []
        return list(labels[0])


class Usearch(VectorStore):
    """A graph in memory, without filters."""

    name = "usearch"
    module = "usearch"
    durable = False
    filters = False

    def load(self, vectors: Vectors) -> None:
        """Build the graph on all cores."""
        index = importlib.import_module("usearch.index")
        self._index = index.Index(
            ndim=WIDTH,
            metric="cos",
            connectivity=NEIGHBOURS,
            expansion_add=BUILD,
            expansion_search=SEARCH,
        )
        self._index.add(numpy.arange(len(vectors.rows)), vectors.rows)

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the graph."""
        return [int(key) for key in self._index.search(query, TOP).keys]


class Zvec(VectorStore):
    """A graph in files."""

    name = "zvec"
    module = "zvec"

    def load(self, vectors: Vectors) -> None:
        """Insert and optimise."""
        self._held = zvec_table(self.folder, vectors, vectors)
        self._ready(importlib.import_module("zvec"))

    def open(self) -> None:
        """Open the folder."""
        zvec = importlib.import_module("zvec")
        self._held = zvec.open(str(self.folder / "zvec"))
        self._ready(zvec)

    def _ready(self, zvec: Any) -> None:
        self._query, self._ef = zvec.Query, zvec.HnswQueryParam(ef=SEARCH)

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the collection for ids."""
        asked = self._query(field_name="embedding", vector=query.tolist(), param=self._ef)
        condition = f"{where} = {WANTED}" if where else None
        found = self._held.query(asked, topk=TOP, filter=condition, output_fields=[])
        return [int(doc.id) for doc in found]

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()


class LanceDb(VectorStore):
    """Columns in files, a graph over quantised vectors, scalar indexes on both fields."""

    name = "LanceDB"
    module = "lancedb"

    def load(self, vectors: Vectors) -> None:
        """Write one table, then make its indexes."""
        numbers = {"id": numpy.arange(len(vectors.rows))}
        self._table = lance_table(self.folder, vectors, vectors, numbers)

    def open(self) -> None:
        """Open the folder."""
        lancedb = importlib.import_module("lancedb")
        self._table = lancedb.connect(str(self.folder)).open_table("rows")

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the table for ids."""
        asked = self._table.search(query).distance_type("cosine").ef(SEARCH).limit(TOP)
        if where:
            asked = asked.where(f"{where} = {WANTED}", prefilter=True)
        return list(asked.select(["id", "_distance"]).to_arrow()["id"].to_pylist())


class Chroma(VectorStore):
    """A graph beside an SQLite file."""

    name = "Chroma"
    module = "chromadb"

    def load(self, vectors: Vectors) -> None:
        """Add in batches."""
        held = self._client().create_collection(
            "rows",
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "cosine",
                    "max_neighbors": NEIGHBOURS,
                    "ef_construction": BUILD,
                    "ef_search": SEARCH,
                }
            },
        )
        for span in batches(len(vectors.rows)):
            held.add(
                ids=[str(n) for n in span],
                embeddings=vectors.rows[span.start : span.stop],
                metadatas=[filtered(vectors, n) for n in span],
            )
        self._held = held

    def open(self) -> None:
        """Open the folder."""
        self._held = self._client().get_collection("rows", embedding_function=None)

    def _client(self) -> Any:
        chromadb = importlib.import_module("chromadb")
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(str(self.folder / "chroma"), settings=settings)

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the collection for ids."""
        found = self._held.query(
            query_embeddings=[query],
            n_results=TOP,
            where={where: WANTED} if where else None,
            include=[],
        )
        return [int(n) for n in found["ids"][0]]


class SqliteVec(VectorStore):
    """A virtual table that is scanned."""

    name = "sqlite-vec"
    module = "sqlite_vec"

    def load(self, vectors: Vectors) -> None:
        """Insert in transactions of a batch."""
        self.open()
        self._connection.execute(vec_table("rows"))
        for span in batches(len(vectors.rows)):
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO rows (id, embedding, tenth, thousandth) VALUES (?, ?, ?, ?)",
                    [(n, vectors.rows[n].tobytes(), *filtered(vectors, n).values()) for n in span],
                )

    def open(self) -> None:
        """Open the file."""
        self._connection = sqlite_with_vec(self.folder / "vec.db")

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the table for ids."""
        condition = f" AND {where} = {WANTED}" if where else ""
        text = f"SELECT id FROM rows WHERE embedding MATCH ? AND k = {TOP}{condition}"
        return [n for (n,) in self._connection.execute(text, (query.tobytes(),))]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


ROWS: Final = Collection(
    "bench_rows",
    (Field("id", "text"), Field("tenth", "int"), Field("thousandth", "int")),
    indexes=(
        Index(("tenth",), serves="a tenth of the rows"),
        Index(("thousandth",), serves="a thousandth of the rows"),
    ),
    vectors=("embedding",),
)


class Holdfast(VectorStore):
    """The engine through the contract: rows of a collection with a vector field."""

    name = "holdfast"

    def load(self, vectors: Vectors) -> None:
        """Apply batches, each durable when it returns, and let what is due be merged."""
        self.open()
        for span in batches(len(vectors.rows)):
            changes: list[Change] = [
                Put(
                    ROWS.name,
                    {
                        "id": f"{n:08}",
                        **filtered(vectors, n),
                        "embedding": _vector(vectors.rows[n]),
                    },
                )
                for n in span
            ]
            self._driver.apply(TENANT, changes)
        settle(self._driver)

    def open(self) -> None:
        """Open the file."""
        self._driver = Checked(SqliteDriver(str(self.folder / "holdfast.db")))
        self._driver.setup([ROWS])

    def search(self, query: Any, where: str) -> list[int]:
        """Ask the engine for keys."""
        search = Search(
            collection=ROWS.name,
            filter=eq(where, WANTED) if where else EVERYTHING,
            k=TOP,
            vector=VectorLeg(field="embedding", vector=_vector(query)),
            fields=(),
        )
        return [int(hit.key[0]) for hit in self._driver.search(TENANT, search).vector]

    def close(self) -> None:
        """Let go of the file."""
        self._driver.close()


def _vector(row: Any) -> Vector:
    return Vector("bench", row.astype("<f4").tobytes())


def _best(scores: Any) -> Any:
    if len(scores) <= TOP:
        return numpy.argsort(-scores)
    found = numpy.argpartition(-scores, TOP)[:TOP]
    return found[numpy.argsort(-scores[found])]


STORES: Final[tuple[type[VectorStore], ...]] = (
    Flat,
    Hnswlib,
    Usearch,
    Zvec,
    LanceDb,
    Chroma,
    SqliteVec,
    Holdfast,
)
