"""Whole searches by words and by vector at once, with the texts of what was found."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections import defaultdict
from typing import Any, Final

import holdfast
from bench.search.contender import SearchStore
from bench.search.data import TOP, WANTED, Texts, Vectors
from bench.search.settled import settle
from bench.search.tables import (
    BATCH,
    SEARCH,
    batches,
    filtered,
    lance_table,
    sqlite_with_vec,
    vec_table,
    zvec_table,
)
from bench.systems import Given
from holdfast.stores.memory.fields import NewMemory

CANDIDATES: Final = 100
"""Of each leg, where the contender lets one choose."""
RRF: Final = 60


class HybridStore(SearchStore):
    """A contender; ``where`` is as elsewhere, and `tenant` a thousandth of its own."""

    @abstractmethod
    def load(self, texts: Texts, vectors: Vectors) -> None:
        """Take all in; when it returns, searches are as fast as they will be."""

    @abstractmethod
    def search(self, query: tuple[str, ...], vector: Any, where: str) -> list[str]:
        """The texts of the ten best."""


class SqliteVecFts5(HybridStore):
    """The two extensions of SQLite, each asked for a hundred, fused by rank in Python."""

    name = "sqlite-vec + FTS5"
    module = "sqlite_vec"

    def load(self, texts: Texts, vectors: Vectors) -> None:
        """Insert in transactions of a batch."""
        self._connection = connection = sqlite_with_vec(self.folder / "both.db")
        connection.execute(vec_table("near"))
        connection.execute(
            "CREATE VIRTUAL TABLE docs USING fts5(body, tenth UNINDEXED, thousandth UNINDEXED)"
        )
        for span in batches(len(texts.documents)):
            with connection:
                for n in span:
                    fields = filtered(texts, n).values()
                    connection.execute(
                        "INSERT INTO near (id, embedding, tenth, thousandth) VALUES (?, ?, ?, ?)",
                        (n, vectors.rows[n].tobytes(), *fields),
                    )
                    connection.execute(
                        "INSERT INTO docs (rowid, body, tenth, thousandth) VALUES (?, ?, ?, ?)",
                        (n, texts.documents[n], *fields),
                    )
        connection.execute("INSERT INTO docs (docs) VALUES ('optimize')")

    def search(self, query: tuple[str, ...], vector: Any, where: str) -> list[str]:
        """Both legs, their ranks, the texts."""
        condition = f" AND {where} = {WANTED}" if where else ""
        near = (
            f"SELECT id FROM near WHERE embedding MATCH ? AND k = {CANDIDATES}{condition}",
            vector.tobytes(),
        )
        ranked = f"{condition} ORDER BY rank LIMIT {CANDIDATES}"
        words = (
            f"SELECT rowid FROM docs WHERE docs MATCH ?{ranked}",
            " OR ".join(f'"{word}"' for word in query),
        )
        scores: defaultdict[int, float] = defaultdict(float)
        for text, value in (near, words):
            for rank, (n,) in enumerate(self._connection.execute(text, (value,)), 1):
                scores[n] += 1 / (RRF + rank)
        best = sorted(scores, key=lambda n: -scores[n])[:TOP]
        marks = ", ".join("?" * len(best))
        found = self._connection.execute(f"SELECT body FROM docs WHERE rowid IN ({marks})", best)
        return [body for (body,) in found]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class Zvec(HybridStore):
    """A graph and a text index in files, fused by rank."""

    name = "zvec"
    module = "zvec"

    def load(self, texts: Texts, vectors: Vectors) -> None:
        """Insert and optimise."""
        self._zvec = importlib.import_module("zvec")
        self._held = zvec_table(self.folder, vectors, texts, {"body": texts.documents})

    def search(self, query: tuple[str, ...], vector: Any, where: str) -> list[str]:
        """Both queries at once."""
        zvec = self._zvec
        legs = [
            zvec.Query(
                field_name="embedding",
                vector=vector.tolist(),
                param=zvec.HnswQueryParam(ef=SEARCH),
            ),
            zvec.Query(field_name="body", fts=zvec.Fts(match_string=" ".join(query))),
        ]
        condition = f"{where} = {WANTED}" if where else None
        found = self._held.query(
            legs,
            topk=TOP,
            filter=condition,
            output_fields=["body"],
            reranker=zvec.RrfReRanker(rank_constant=RRF),
        )
        return [doc.fields["body"] for doc in found]

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()


class LanceDb(HybridStore):
    """Columns in files with both indexes, fused by rank."""

    name = "LanceDB"
    module = "lancedb"

    def load(self, texts: Texts, vectors: Vectors) -> None:
        """Write one table, then make its indexes."""
        self._reranker = importlib.import_module("lancedb.rerankers").RRFReranker(K=RRF)
        self._table = lance_table(self.folder, vectors, texts, {"body": texts.documents})
        self._table.create_fts_index("body", stem=False, remove_stop_words=False)

    def search(self, query: tuple[str, ...], vector: Any, where: str) -> list[str]:
        """Its own hybrid query."""
        asked = self._table.search(query_type="hybrid").vector(vector).text(" ".join(query))
        if where:
            asked = asked.where(f"{where} = {WANTED}", prefilter=True)
        found = asked.rerank(self._reranker).limit(TOP).to_arrow()
        return list(found["body"].to_pylist())


class Holdfast(HybridStore):
    """`memory.recall` through the whole stack, with all of its recipe."""

    name = "holdfast recall"

    def load(self, texts: Texts, vectors: Vectors) -> None:
        """Remember in batches; a thousandth of them is a tenant's own as well."""
        known = dict(zip(texts.documents, vectors.rows, strict=True))
        queries = zip(texts.queries, vectors.queries, strict=True)
        known |= {" ".join(words): row for words, row in queries}
        path = str(self.folder / "holdfast.db")
        embedder = Given(known)
        self._all = holdfast.open(path, embedder=embedder, embed_seconds=None)
        self._own = holdfast.open(path, embedder=embedder, embed_seconds=None, tenant="own")
        rows = [
            NewMemory(content=text, type=f"t{tenth}")
            for text, tenth in zip(texts.documents, texts.tenth, strict=True)
        ]
        for start in range(0, len(rows), BATCH):
            self._all.memory.remember_many(rows[start : start + BATCH])
        mine = vectors.selected("thousandth")
        self._own.memory.remember_many([texts.documents[n] for n in mine][:BATCH])
        settle(self._all._driver)

    def search(self, query: tuple[str, ...], vector: Any, where: str) -> list[str]:
        """Recall; the vector is found by the words."""
        asked = " ".join(query)
        if where == "thousandth":
            found = self._own.memory.recall(asked, k=TOP)
        elif where:
            found = self._all.memory.recall(asked, k=TOP, types=[f"t{WANTED}"])
        else:
            found = self._all.memory.recall(asked, k=TOP)
        return [item.memory.content for item in found]

    def close(self) -> None:
        """Let go of the file."""
        self._own.close()
        self._all.close()


STORES: Final[tuple[type[HybridStore], ...]] = (SqliteVecFts5, Zvec, LanceDb, Holdfast)
