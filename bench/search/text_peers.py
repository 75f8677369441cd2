"""Text indexes, ours among them: load documents, find the ten best for any of four words."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import ClassVar, Final

import apsw

from bench.search.contender import SearchStore
from bench.search.data import TOP, WANTED, Texts
from bench.search.settled import settle
from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.change import Change, Put
from holdfast.core.collection import Collection, Field, Index
from holdfast.core.filter import EVERYTHING, eq
from holdfast.core.search import Search, TextLeg
from holdfast.layers.check import Checked

BATCH: Final = 1_000
TENANT: Final = "default"


class TextStore(SearchStore):
    """A contender. ``where`` is a field that has to be `WANTED`, or "" for no filter."""

    k1: ClassVar[float] = 1.2
    b: ClassVar[float] = 0.75
    """The constants of its BM25."""

    @abstractmethod
    def load(self, texts: Texts) -> None:
        """Take all documents in; when it returns, searches are as fast as they will be."""

    @abstractmethod
    def search(self, query: tuple[str, ...], where: str) -> list[int]:
        """The numbers of the ten best documents that hold any of the words."""


class Fts5(TextStore):
    """SQLite's own full-text index."""

    name = "FTS5"

    def load(self, texts: Texts) -> None:
        """Insert in transactions of a batch, and optimise."""
        self._connection = apsw.Connection(str(self.folder / "fts.db"))
        self._connection.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").fetchall()
        self._connection.execute(
            "CREATE VIRTUAL TABLE docs USING fts5(body, tenth UNINDEXED, thousandth UNINDEXED)"
        )
        for start in range(0, len(texts.documents), BATCH):
            rows = [
                (n, texts.documents[n], int(texts.tenth[n]), int(texts.thousandth[n]))
                for n in range(start, min(start + BATCH, len(texts.documents)))
            ]
            with self._connection:
                self._connection.executemany(
                    "INSERT INTO docs (rowid, body, tenth, thousandth) VALUES (?, ?, ?, ?)", rows
                )
        self._connection.execute("INSERT INTO docs (docs) VALUES ('optimize')")

    def search(self, query: tuple[str, ...], where: str) -> list[int]:
        """MATCH, by rank."""
        condition = f" AND {where} = {WANTED}" if where else ""
        text = f"SELECT rowid FROM docs WHERE docs MATCH ?{condition} ORDER BY rank LIMIT {TOP}"
        words = " OR ".join(f'"{word}"' for word in query)
        return [n for (n,) in self._connection.execute(text, (words,))]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


class Tantivy(TextStore):
    """Lucene's ideas in Rust."""

    name = "tantivy"
    module = "tantivy"

    def load(self, texts: Texts) -> None:
        """Add, commit, and wait for its merges."""
        tantivy = importlib.import_module("tantivy")
        fields = tantivy.SchemaBuilder()
        fields.add_text_field("body", stored=False)
        fields.add_integer_field("id", stored=True, indexed=False)
        for name in ("tenth", "thousandth"):
            fields.add_integer_field(name, indexed=True)
        self._fields = fields.build()
        self._index = tantivy.Index(self._fields, path=str(self.folder))
        writer = self._index.writer(128_000_000)
        for n, document in enumerate(texts.documents):
            writer.add_document(
                tantivy.Document(
                    id=n,
                    body=document,
                    tenth=int(texts.tenth[n]),
                    thousandth=int(texts.thousandth[n]),
                )
            )
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher, self._tantivy = self._index.searcher(), tantivy

    def search(self, query: tuple[str, ...], where: str) -> list[int]:
        """A query of terms, any of which may occur; the filter adds nothing to a score."""
        kind, occur = self._tantivy.Query, self._tantivy.Occur
        asked = kind.boolean_query(
            [
                (occur.Should, kind.term_query(self._fields, "body", word))
                for word in dict.fromkeys(query)
            ]
        )
        if where:
            held = kind.term_query(self._fields, where, WANTED)
            asked = kind.boolean_query(
                [(occur.Must, asked), (occur.Must, kind.const_score_query(held, 0.0))]
            )
        hits = self._searcher.search(asked, TOP).hits
        return [self._searcher.doc(address)["id"][0] for _, address in hits]


DOCUMENTS: Final = Collection(
    "bench_documents",
    (
        Field("id", "text"),
        Field("body", "text"),
        Field("tenth", "int"),
        Field("thousandth", "int"),
    ),
    indexes=(
        Index(("tenth",), serves="a tenth of the documents"),
        Index(("thousandth",), serves="a thousandth of the documents"),
    ),
    full_text=("body",),
)


class Holdfast(TextStore):
    """The engine through the contract: rows of a collection with full text."""

    name = "holdfast"
    k1 = TextLeg(terms=()).k1
    b = TextLeg(terms=()).b

    def load(self, texts: Texts) -> None:
        """Apply batches, each durable when it returns, and let what is due be merged."""
        self._driver = Checked(SqliteDriver(str(self.folder / "holdfast.db")))
        self._driver.setup([DOCUMENTS])
        for start in range(0, len(texts.documents), BATCH):
            changes: list[Change] = [
                Put(
                    DOCUMENTS.name,
                    {
                        "id": f"{n:08}",
                        "body": texts.documents[n],
                        "tenth": int(texts.tenth[n]),
                        "thousandth": int(texts.thousandth[n]),
                    },
                )
                for n in range(start, min(start + BATCH, len(texts.documents)))
            ]
            self._driver.apply(TENANT, changes)
        settle(self._driver)

    def search(self, query: tuple[str, ...], where: str) -> list[int]:
        """Ask the engine for keys."""
        search = Search(
            collection=DOCUMENTS.name,
            filter=eq(where, WANTED) if where else EVERYTHING,
            k=TOP,
            text=TextLeg(terms=query),
            fields=(),
        )
        return [int(hit.key[0]) for hit in self._driver.search(TENANT, search).text]

    def close(self) -> None:
        """Let go of the file."""
        self._driver.close()


STORES: Final[tuple[type[TextStore], ...]] = (Fts5, Tantivy, Holdfast)
