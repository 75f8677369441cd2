"""What a recall must answer, from a full scan: every row read, every score reckoned anew.

The scan and the recalls that are compared with it read one snapshot: a driver that holds one read
transaction for a block.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal

import numpy

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite.connection import Connection
from holdfast.backends.sqlite.driver import _Reading
from holdfast.backends.sqlite.schema import terms_source, vector_source
from holdfast.core.clock import SystemClock
from holdfast.core.query import Query
from holdfast.core.ranking import bm25
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.search import TextLeg
from holdfast.core.text import analyze, term_frequencies
from holdfast.layers.check import Checked
from holdfast.recall.embedders import HashEmbedder
from holdfast.storage import Storage, all_collections
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.records import MEMORIES, SLOTS
from soak.workload import TENANT

TYPES: Final = ("a", "b", "c", "d")
WORDS: Final = tuple(f"{stem}{n}" for n in range(60) for stem in ("kay", "lum", "tor"))
"""Of the texts and the queries; few, so that each query meets many texts."""
MODES: Final[tuple[Literal["vector", "keyword"], ...]] = ("vector", "keyword")
KS: Final = (1, 5, 10, 60)
MISSED_SHARE: Final = 0.01
"""Most of the nearest rows that vector recall may pass by."""
NEAR: Final = 1e-6
"""How far two ways of adding floats may differ."""
FEWEST: Final = 200
MOST: Final = 1_000
"""Live memories, between which their number is held, so that a scan stays short."""
TAIL_ROWS: Final = 40
SEGMENT_ROWS: Final = 500
"""Small, so that a few hundred rows make many merges."""

_FIELDS: Final = (
    "content",
    "lexical",
    "type",
    "forgotten_at",
    "quarantined_at",
    "expires_at",
    "pinned",
    "valid_from",
    "valid_to",
)
_LEG: Final = TextLeg(terms=())
_EMBEDDER: Final = HashEmbedder()
_WIDTH: Final = _EMBEDDER.space.width


class SnapshotDriver(SqliteDriver):
    """Reads all of a block in one transaction; for one thread."""

    _pinned: Connection | None = None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One state of the file for every read of the block."""
        connection = self._pool.take()
        connection.execute("BEGIN; SELECT count(*) FROM sqlite_schema").fetchall()
        self._pinned = connection
        try:
            yield
        finally:
            self._pinned = None
            connection.execute("COMMIT")
            self._pool.give(connection)

    def _reading(self) -> _Reading:
        return super()._reading() if self._pinned is None else _Reading(self._pool, self._pinned)


SMALL: Final[dict[str, Any]] = {"tail_rows": TAIL_ROWS, "segment_rows": SEGMENT_ROWS}


_SOURCES: Final = (terms_source(MEMORIES), vector_source(MEMORIES, SLOTS[0]))


def is_due(driver: SqliteDriver) -> bool:
    """Whether something of the memories' index is to be merged."""
    return any(driver._merger._merging.is_due(source, TENANT) for source in _SOURCES)


def merge(driver: SqliteDriver) -> int:
    """Merge what is due of the memories' index, in this thread; how many merges that took."""
    return sum(driver._merger.run(source, TENANT) for source in _SOURCES)


class Ahead(SystemClock):
    """A clock that is some seconds ahead."""

    def __init__(self, seconds: float) -> None:
        self._ahead = timedelta(seconds=seconds)

    def now(self) -> datetime:
        """The instant, a little later."""
        return super().now() + self._ahead


def opened(path: str, **options: Any) -> tuple[SnapshotDriver, Storage]:
    """A driver with small segments, and a handle on it with an embedder that needs no model."""
    driver = SnapshotDriver(path, **{**SMALL, **options})
    checked = Checked(driver)
    checked.setup(all_collections())
    return driver, Storage(checked, Scope(tenant=TENANT), Runtime(embedder=_EMBEDDER))


def content(chance: random.Random, name: str) -> str:
    """A text of its own, of a few words that many have."""
    return f"{name} {' '.join(chance.choices(WORDS, k=chance.choice((2, 6, 20))))}"


@dataclass(frozen=True)
class Question:
    """One recall: what is asked, how, how many, of which type."""

    words: str
    mode: Literal["vector", "keyword"]
    k: int
    type: str | None

    @staticmethod
    def drawn(chance: random.Random) -> Question:
        """One of many."""
        return Question(
            " ".join(chance.choices(WORDS, k=chance.randint(1, 5))),
            chance.choice(MODES),
            chance.choice(KS),
            chance.choice((None, *TYPES)),
        )

    def ask(self, storage: Storage) -> list[tuple[str, float]]:
        """The ids and scores that the store answers with."""
        where: Any = {} if self.type is None else {"types": [self.type]}
        found = storage.memory.recall(self.words, mode=self.mode, k=self.k, **where)
        return [(item.memory.id, item.score) for item in found]


class Scan:
    """Every memory of one snapshot."""

    def __init__(self, driver: SqliteDriver, now: datetime) -> None:
        query = Query(collection=MEMORIES.name, fields=_FIELDS, vectors=True)
        self.rows = driver.query(TENANT, query).records
        self.due = self.missed = 0
        present = present_at(now)
        self._eligible = {row["id"]: row for row in self.rows if present.matches(row)}
        held = [row for row in self.rows if row["embedding"] is not None]
        self._ids = [row["id"] for row in held]
        data = b"".join(row["embedding"].data for row in held)
        matrix = numpy.frombuffer(data, "<f4").astype("f8").reshape(len(held), _WIDTH)
        self._directions = matrix / numpy.sqrt((matrix * matrix).sum(axis=1, keepdims=True))
        counted = {row["id"]: _counted(row["content"], row["lexical"]) for row in self.rows}
        self._counts = {i: found for i, found in counted.items() if found}
        self._lengths = {i: sum(found.values()) for i, found in self._counts.items()}

    def compare(
        self, question: Question, answer: Sequence[tuple[str, float]], storage: Storage
    ) -> str:
        """What is wrong with an answer; empty when it is what the scan gives.

        The vector leg may pass a near row by, which is counted in ``missed`` of ``due``; but that
        row must come first when it is asked for by its own vector: or it is not missed but lost.
        """
        reckon = self._cosines if question.mode == "vector" else self._bm25
        scores = {
            i: score
            for i, score in reckon(question.words).items()
            if i in self._eligible and question.type in (None, self._eligible[i]["type"])
        }
        count = min(question.k, len(scores))
        if len(answer) != count or len({i for i, _ in answer}) != count:
            return f"{question}: {len(answer)} answers where {count} are due"
        last = math.inf
        for i, score in answer:
            if i not in scores:
                return f"{question}: {i} is not there, or does not fit"
            if abs(score - scores[i]) > NEAR:
                return f"{question}: {i} scored {score}, the scan says {scores[i]}"
            if score > last + NEAR:
                return f"{question}: {i} with {score} comes after {last}"
            last = score
        given = {i for i, _ in answer}
        passed_by = [i for i, score in scores.items() if score > last + NEAR and i not in given]
        if question.mode == "vector":
            self.due += count
            self.missed += len(passed_by)
            passed_by = [i for i in passed_by if not self._is_found(i, storage)]
        return f"{question}: {passed_by[0]} is nowhere to be found" if passed_by else ""

    def _is_found(self, memory_id: str, storage: Storage) -> bool:
        """Whether a row comes first for its own vector, with whatever equals it."""
        vector = self._eligible[memory_id]["embedding"]
        numbers = numpy.frombuffer(vector.data, "<f4")
        found = storage.memory.recall(vector=numbers, mode="vector", k=KS[-1])
        return any(item.memory.id == memory_id and item.score > 1 - NEAR for item in found)

    def _cosines(self, words: str) -> dict[str, float]:
        [vector] = numpy.asarray(_EMBEDDER.embed([words], "query"), "f8")
        if not vector.any():
            return {}
        cosines = self._directions @ (vector / numpy.sqrt(vector @ vector))
        return dict(zip(self._ids, cosines.tolist(), strict=True))

    def _bm25(self, words: str) -> dict[str, float]:
        lengths, scores = self._lengths, dict[str, float]()
        mean = sum(lengths.values()) / max(len(lengths), 1)
        for term in sorted(set(analyze(words))):
            holding = {i: found[term] for i, found in self._counts.items() if term in found}
            for i, count in holding.items():
                gain = bm25(count, len(holding), len(lengths), lengths[i], mean, _LEG.k1, _LEG.b)
                scores[i] = scores.get(i, 0.0) + gain
        return scores


@lru_cache(20_000)
def _counted(content: str, lexical: str) -> dict[str, int]:
    return dict(term_frequencies(f"{content}\n{lexical}"))


class Rememberer:
    """Writes at random: memories are added, rewritten, forgotten, deleted; never too many."""

    def __init__(self, storage: Storage, seed: str) -> None:
        self._memory = storage.memory
        self._seed = seed
        self._chance = random.Random(seed)
        self._count = 0
        self._live = [memory.id for memory in storage.memory.list(limit=MOST)]

    def write(self) -> str:
        """One write, and what it was."""
        few, many = len(self._live) < FEWEST, len(self._live) >= MOST
        weights = (1 if few else 4 * (not many), 0 if few else 4, 0 if few else 2, 4 * many + 1)
        what = self._chance.choices(("add", "update", "forget", "delete"), weights)[0]
        if what == "add" or not self._live:
            return self._add()
        place = self._chance.randrange(len(self._live))
        if what == "update":
            self._memory.update(self._live[place], content=self._text())
            return what
        self._live[place], chosen = self._live[-1], self._live[place]
        self._live.pop()
        if what == "forget":
            self._memory.forget(chosen)
        else:
            self._memory.delete(chosen)
        return what

    def _add(self) -> str:
        drafts: Any = [
            {"content": self._text(), "type": self._chance.choice(TYPES)}
            for _ in range(self._chance.choice((1, 1, 10, 60)))
        ]
        self._live += [memory.id for memory in self._memory.remember_many(drafts)]
        return "add"

    def _text(self) -> str:
        self._count += 1
        return content(self._chance, f"{self._seed}x{self._count}")
