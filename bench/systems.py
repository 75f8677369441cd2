"""Whole memory systems: add one memory a call, durable and searchable at once, then search.

Everybody gets the same texts and the same vectors of 384 numbers, made from the text alone.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy

import holdfast
from bench import peers
from bench.measure import Contender, Figures, Goal, Sheet, percentile
from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace

RAW: Final = "raw SQLite"
CHROMA: Final = "Chroma"
MEM0: Final = "mem0"
WIDTH: Final = 384
TOP: Final = 10
ADD: Final = "add ms"

_WORDS: Final = [hashlib.blake2b(str(n).encode(), digest_size=4).hexdigest() for n in range(5_000)]


class Systems:
    """The sheet of one size."""

    def __init__(self, *, quick: bool) -> None:
        self._held, self._added, self._asked = (50, 5, 5) if quick else (10_000, 200, 200)
        rng = random.Random(11)
        weights = [1 / (rank + 5) for rank in range(len(_WORDS))]
        count = self._held + self._added
        self._texts = [
            " ".join(rng.choices(_WORDS, weights, k=rng.randint(50, 100))) for _ in range(count)
        ]
        self._queries = [" ".join(rng.choices(_WORDS, weights, k=4)) for _ in range(self._asked)]
        # Kept beside the texts, so that no system's figures hold the making of vectors.
        self._vectors = {text: unit_vector(text) for text in (*self._texts, *self._queries)}

    def sheet(self, rounds: int) -> Sheet:
        goals = (Goal(1.3, RAW, sense="at most"), Goal(0.6, figure="search ms", sense="at most"))
        against = (Goal(1 / 5, MEM0, sense="at most"), Goal(1 / 25, CHROMA, sense="at most"))
        return Sheet(
            name="systems",
            title=f"Whole memory systems at {self._held:,} memories",
            figure=ADD,
            base=RAW,
            rounds=rounds,
            contenders=(
                Contender(RAW, self._raw),
                Contender(CHROMA, self._chroma, missing=peers.missing("chromadb")),
                Contender(MEM0, self._mem0, missing=peers.missing("mem0")),
                Contender(
                    "holdfast memory",
                    self._holdfast,
                    (*goals, *against),
                ),
            ),
            notes="Raw SQLite is a row, its vector and its FTS5 entry in one commit at FULL, and"
            " a numpy scan over vectors that are held in memory: no filter, no fusion, no ranking"
            " by text. mem0 is without its language model (infer=False) and optional extras; what"
            " is there before the measured adds goes straight into its Qdrant. Vectors are given;"
            " nobody waits for them in a thread of their own (embed_seconds=None).",
        )

    def _raw(self, folder: Path) -> Figures:
        connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE memories (id INTEGER PRIMARY KEY, text TEXT, vector BLOB);"
            "CREATE VIRTUAL TABLE found USING fts5(text, content='memories', content_rowid='id')"
        )
        held = numpy.empty((len(self._texts), WIDTH), "<f4")
        count = 0

        def insert(text: str) -> None:
            nonlocal count
            vector = self._vectors[text]
            count += 1
            connection.execute("INSERT INTO memories VALUES (?, ?, ?)", (count, text, vector))
            connection.execute("INSERT INTO found (rowid, text) VALUES (?, ?)", (count, text))
            held[count - 1] = vector

        def add(text: str) -> None:
            connection.execute("BEGIN IMMEDIATE")
            insert(text)
            connection.execute("COMMIT")

        def load(texts: Sequence[str]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for text in texts:
                insert(text)
            connection.execute("COMMIT")

        def search(text: str) -> object:
            scores = held[:count] @ self._vectors[text]
            best = numpy.argpartition(-scores, TOP)[:TOP] + 1
            marks = ", ".join("?" * TOP)
            query = f"SELECT id, text FROM memories WHERE id IN ({marks})"
            return connection.execute(query, best.tolist()).fetchall()

        figures = self._timed(load, add, search)
        connection.close()
        return figures

    def _holdfast(self, folder: Path) -> Figures:
        given, path = Given(self._vectors), str(folder / "holdfast.db")
        with holdfast.open(path, embedder=given, embed_seconds=None) as opened:
            memory = opened.memory

            def load(texts: Sequence[str]) -> None:
                for start in range(0, len(texts), 1_000):
                    memory.remember_many(list(texts[start : start + 1_000]))

            return self._timed(load, memory.remember, lambda text: memory.recall(text, k=TOP))

    def _chroma(self, folder: Path) -> Figures:
        chromadb = importlib.import_module("chromadb")
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        # It remembers its clients by their paths, also when the folder has been made anew.
        place = str(folder / uuid.uuid4().hex)
        client = chromadb.PersistentClient(place, settings=settings)
        held = client.create_collection("memories", embedding_function=None)
        numbers = iter(range(10**9))

        def insert(texts: Sequence[str]) -> None:
            held.add(
                ids=[str(next(numbers)) for _ in texts],
                documents=list(texts),
                embeddings=[self._vectors[text] for text in texts],
            )

        def load(texts: Sequence[str]) -> None:
            for start in range(0, len(texts), 1_000):
                insert(texts[start : start + 1_000])

        def search(text: str) -> object:
            return held.query(query_embeddings=[self._vectors[text]], n_results=TOP)

        return self._timed(load, lambda text: insert([text]), search)

    def _mem0(self, folder: Path) -> Figures:
        # Read when it is imported: where it keeps its own settings, and that it tells nobody.
        os.environ |= {"MEM0_DIR": str(folder), "MEM0_TELEMETRY": "False"}
        place = {"path": str(folder / "qdrant"), "embedding_model_dims": WIDTH, "on_disk": True}
        unused = {"provider": "openai", "config": {"api_key": "none"}}
        memory = importlib.import_module("mem0").Memory.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": place},
                "history_db_path": str(folder / "history.db"),
                "llm": unused,
                "embedder": unused,
            }
        )
        memory.embedding_model = Mem0Given(memory.embedding_model, self._vectors)

        def load(texts: Sequence[str]) -> None:
            for start in range(0, len(texts), 1_000):
                batch = texts[start : start + 1_000]
                memory.vector_store.insert(
                    vectors=[self._vectors[text].tolist() for text in batch],
                    payloads=[{"data": text, "user_id": "u"} for text in batch],
                    ids=[str(uuid.uuid4()) for _ in batch],
                )

        def search(text: str) -> object:
            return memory.search(text, top_k=TOP, filters={"user_id": "u"}, threshold=0.0)

        figures = self._timed(load, lambda t: memory.add(t, user_id="u", infer=False), search)
        memory.vector_store.client.close()
        return figures

    def _timed(
        self,
        load: Callable[[Sequence[str]], None],
        add: Callable[[str], object],
        search: Callable[[str], object],
    ) -> Figures:
        load(self._texts[: self._held])
        adds, searches = [], []
        for text in self._texts[self._held :]:
            start = time.perf_counter()
            add(text)
            adds.append(time.perf_counter() - start)
        for text in self._queries:
            start = time.perf_counter()
            search(text)
            searches.append(time.perf_counter() - start)
        return {
            ADD: percentile(adds, 0.5) * 1e3,
            "search ms": percentile(searches, 0.5) * 1e3,
        }


class Given:
    """An embedder that knows every vector already: the bench measures stores, not models."""

    space = EmbeddingSpace("given", "1", WIDTH)

    def __init__(self, vectors: dict[str, Any]) -> None:
        self._vectors = vectors

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
        return numpy.stack([self._vectors[text] for text in texts])


class Mem0Given:
    """The same for mem0, in the place of the model that it was configured with."""

    def __init__(self, replaced: Any, vectors: dict[str, Any]) -> None:
        self.config = replaced.config
        self._vectors = vectors

    def embed(self, text: str, _action: str | None = None) -> list[float]:
        """One vector."""
        vector: list[float] = self._vectors[text].tolist()
        return vector

    def embed_batch(self, texts: Sequence[str], _action: str | None = None) -> list[list[float]]:
        """One vector per text."""
        return [self.embed(text) for text in texts]


def unit_vector(text: str) -> Any:
    """A direction made from the text alone."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
    vector = numpy.random.default_rng(seed).standard_normal(WIDTH).astype("<f4")
    return vector / numpy.linalg.norm(vector)
