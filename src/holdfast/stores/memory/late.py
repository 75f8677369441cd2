"""Late interaction beside memories: their packed tokens, written with them and read at recall.

Packed tokens are derived data. A memory that has none, or those of an earlier content, is read
anew at recall, a few of them at most; beyond that the recall goes without and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.core.change import Change, DeleteWhere, Put
from holdfast.core.embedding import LateReader
from holdfast.core.errors import Conflict, Invalid
from holdfast.core.filter import Filter, InSelect, Record, among, both, eq, is_null
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import check_count
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.records import MEMORIES, TOKENS

UNPACKED_LIMIT: Final = 16
"""Texts that one recall reads anew: about 0.15 s with MiniLM on one core."""


class LateReading(MemoryStore):
    """The packed tokens of the bound scope's memories."""

    def missing(self) -> int:
        """How many memories have no packed tokens of the storage's reranker."""
        where = self._within(MEMORIES, _unpacked(self._reader()))
        counted = Aggregate(collection=MEMORIES.name, filter=where)
        count: int = self._driver.aggregate(self._scope.tenant, counted)[0]["count"]
        return count

    def fill(self, *, limit: int = 100) -> int:
        """Pack up to ``limit`` (1 to 1000) memories that lack their tokens; how many were.

        For memories that were written without the reranker. Several workers may fill at once.
        Raises Invalid without a reranker that packs, and what its model raises.
        """
        check_count("limit", limit, 1, 1_000)
        reader = self._reader()
        rows = self._all(MEMORIES, _unpacked(reader), order=asc("id"), limit=limit)
        packed = reader.pack([row["content"] for row in rows])
        done = 0
        for row, tokens in zip(rows, packed, strict=True):
            try:
                self._apply(_put(reader, row, tokens))
            except Conflict:
                continue  # the memory has been deleted meanwhile
            done += 1
        return done

    def _reader(self) -> LateReader:
        reader = self._runtime.late
        if reader is None:
            raise Invalid("reranker", expected='"late", given at open', got="none")
        return reader


def token_changes(store: MemoryStore, row: Mapping[str, Any]) -> list[Change]:
    """What keeps a memory's packed tokens beside it; nothing without a reader, or if it fails."""
    reader = store._runtime.late
    if reader is None:
        return []
    try:
        [tokens] = reader.pack([row["content"]])
    except Exception:  # noqa: BLE001
        # Another's model may raise anything; the memory must be kept all the same.
        return []
    return [_put(reader, row, tokens)]


def tokens_dropped(memory_id: str) -> Change:
    """Removes what was packed of a content that is being replaced."""
    return DeleteWhere(TOKENS.name, eq("memory_id", memory_id))


def late_scores(
    store: MemoryStore,
    query: str,
    prints: Mapping[str, str],
    whole: Mapping[str, Record],
) -> tuple[dict[str, float], str | None]:
    """A score for each of the memories, by id; or none and the flag that says why.

    ``prints`` are the fingerprints of their contents; contents of those without packed tokens are
    looked up, unless they are among the ``whole``.
    """
    reader = store._runtime.late
    if reader is None or not prints or not query.strip():
        return {}, None
    mine = both(among("memory_id", sorted(prints)), eq("form", reader.form))
    packed = {
        held["memory_id"]: held["tokens"]
        for held in store._all(TOKENS, mine)
        if held["fingerprint"] == prints[held["memory_id"]]
    }
    missing = sorted(prints.keys() - packed.keys())
    if len(missing) > UNPACKED_LIMIT:
        return {}, "late_unpacked"
    try:
        if missing:
            contents = _contents(store, prints, missing, whole)
            packed.update(zip(contents, reader.pack(list(contents.values())), strict=True))
        scores = _scored(reader, query, packed)
    except Exception:  # noqa: BLE001
        # Another's model may raise anything; an order by the ranker is there without it.
        return {}, "late_failed"
    return scores, None


def _contents(
    store: MemoryStore, prints: Mapping[str, str], ids: list[str], whole: Mapping[str, Record]
) -> dict[str, str]:
    """The contents by id, of those that are still what the search found."""
    held = [whole[memory_id] for memory_id in ids if memory_id in whole]
    absent = [memory_id for memory_id in ids if memory_id not in whole]
    if absent:
        held += store._all(MEMORIES, among("id", absent), fields=("content", "fingerprint"))
    same = (row for row in held if row["fingerprint"] == prints[row["id"]])
    return {row["id"]: row["content"] for row in same}


def _scored(reader: LateReader, query: str, packed: Mapping[str, bytes]) -> dict[str, float]:
    scores: Sequence[float] = [float(s) for s in reader.score(query, list(packed.values()))]
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is not finite")
    return dict(zip(packed, scores, strict=True))


def _put(reader: LateReader, row: Mapping[str, Any], tokens: bytes) -> Change:
    record = {
        "memory_id": row["id"],
        "fingerprint": row["fingerprint"],
        "form": reader.form,
        "tokens": tokens,
    }
    return Put(TOKENS.name, record)


def _unpacked(reader: LateReader) -> Filter:
    packed = InSelect("id", TOKENS.name, "memory_id", eq("form", reader.form))
    return both(is_null("forgotten_at"), ~packed)
