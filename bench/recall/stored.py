"""The whole store: memories in a file, found through `storage.memory.recall`.

The same harness class as `plain.py`, but nothing is kept in Python: turns are remembered in a
SQLite file (or in the engine that HOLDFAST_BENCH_URL names) and recalled through the public API.
"""

import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec.structs

import holdfast
from holdfast.core.embedding import EmbeddingSpace
from holdfast.recall.recipe import PLAIN, Recipe
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
            tenant=f"bench-{conv['id']}",
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
    from holdfast.recall.late import LateInteraction

    return LateInteraction()


class StoredRrf(Stored):
    """What most stores do: "Speaker: text" as one string, reciprocal rank fusion, k 60."""

    compose = "speaker"
    recipe = msgspec.structs.replace(PLAIN, fusion="rrf")
