"""The whole store: memories in a file, found through `storage.memory.recall`.

The same harness class as `plain.py`, but nothing is kept in Python: turns are remembered in a
SQLite file (or in the engine that HOLDFAST_BENCH_URL names) and recalled through the public API.
"""

import hashlib
import os
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec.structs

import holdfast
from holdfast.core.embedding import EmbeddingSpace
from holdfast.recall.recipe import PLAIN, Recipe
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.memory.fields import NewMemory

BATCH = 500


class HarnessEmbedder:
    """The harness's cached model, with the face of ours."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.space = EmbeddingSpace(str(model.name), "harness", int(model.dim))

    def embed(self, texts: Sequence[str], kind: str = "document") -> Any:
        return self._model.encode(list(texts))


class Stored:
    """The default recipe."""

    compose = "raw"
    recipe = Recipe()
    late: Any = None

    def __init__(self, embedder: Any, conv: dict[str, Any], **opts: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        url = os.environ.get("HOLDFAST_BENCH_URL", os.path.join(self._folder.name, "bench.db"))
        self._storage = holdfast.open(
            url,
            embedder=HarnessEmbedder(embedder),
            ranker=self.recipe,
            reranker=self.late,
            # Of this run and system alone, also on a server that keeps what earlier ones left.
            tenant=f"bench-{uuid.uuid4().hex}-{conv['id']}",
        )

    def ingest(self, items: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        memories = [_memory(*item) for item in items]
        for start in range(0, len(memories), BATCH):
            self._storage.memory.remember_many(memories[start : start + BATCH])

    def search(self, query: str, k: int, filter: Any = None) -> list[str]:
        return [found.memory.id for found in self._storage.memory.recall(query, k=k)]

    def close(self) -> None:
        self._storage.close()
        self._folder.cleanup()


def _memory(key: str, text: str, meta: dict[str, Any]) -> NewMemory:
    instant, speaker = meta.get("ts"), meta.get("speaker")
    return NewMemory(
        id=key,
        content=text,
        speaker=speaker,
        session=None if meta.get("session") is None else str(meta["session"]),
        turn=meta.get("turn"),
        said_at=datetime.fromisoformat(instant).replace(tzinfo=UTC) if instant else None,
        role=speaker if speaker in ("user", "assistant") else None,
    )


class StoredLate(Stored):
    """The default recipe with token-by-token evidence, as `reranker="late"` opens it."""

    def __init__(self, embedder: Any, conv: dict[str, Any], **opts: Any) -> None:
        self.late = _late()
        super().__init__(embedder, conv, **opts)


@cache
def _late() -> Any:
    """The late reader, its packed tokens kept on disk like the harness keeps vectors.

    Texts of a run are those of the last; reading them by the model takes most of its time.
    """
    from holdfast.recall.late import LateInteraction
    from holdfast.recall.local import MiniLMEmbedder

    class Kept(LateInteraction):
        def pack(self, texts: Sequence[str]) -> list[bytes]:
            keys = [hashlib.sha1(f"{self.form}\n{text}".encode()).hexdigest() for text in texts]
            held = dict(_known(kept, keys))
            missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in held}
            held |= zip(missing, super().pack(list(missing.values())), strict=True)
            with kept:
                fresh = [(key, held[key]) for key in missing]
                kept.executemany("INSERT OR IGNORE INTO packed VALUES (?, ?)", fresh)
            return [held[key] for key in keys]

    folder = Path(os.environ.get("RECALL_BENCH_CACHE", Path.home() / ".cache" / "recall-bench"))
    folder.mkdir(parents=True, exist_ok=True)
    kept = sqlite3.connect(folder / "packed-tokens.db", check_same_thread=False, timeout=60)
    kept.execute("CREATE TABLE IF NOT EXISTS packed (key TEXT PRIMARY KEY, tokens BLOB)")
    return Kept(MiniLMEmbedder(threads=1))


def _known(kept: sqlite3.Connection, keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for key in keys:
        for (tokens,) in kept.execute("SELECT tokens FROM packed WHERE key = ?", (key,)):
            yield key, tokens


class Messages(Stored):
    """The same turns as messages: a conversation for each session, found by its search."""

    def ingest(self, items: Sequence[tuple[str, str, dict[str, Any]]]) -> None:
        talks = self._storage.conversations
        sessions: dict[str, list[NewMemory]] = {}
        for item in items:
            turn = _memory(*item)
            sessions.setdefault(turn.get("session") or "", []).append(turn)
        for turns in sessions.values():
            talk = talks.create().id
            named = {turn.get("speaker") or "" for turn in turns} - {""}
            add = talks.participants.add
            people = {name: add(talk, name=name).id for name in sorted(named)}
            drafts = [_draft(turn, people) for turn in turns]
            for start in range(0, len(drafts), BATCH):
                talks.append_many(talk, drafts[start : start + BATCH])
        while talks.embeddings.run(limit=1_000):
            pass

    def search(self, query: str, k: int, filter: Any = None) -> list[str]:
        return [found.message.id for found in self._storage.conversations.search(query, k=k)]


def _draft(turn: NewMemory, people: dict[str, str]) -> Draft:
    return Draft(
        id=turn["id"],
        text=turn["content"],
        role="assistant" if turn.get("role") == "assistant" else "user",
        sender_id=people.get(turn.get("speaker") or ""),
        created_at=turn.get("said_at"),
    )


class StoredRrf(Stored):
    """What most stores do: "Speaker: text" as one string, reciprocal rank fusion, k 60."""

    compose = "speaker"
    recipe = msgspec.structs.replace(PLAIN, fusion="rrf")
