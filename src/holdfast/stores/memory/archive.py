"""Cold storage: memories moved out of every index, compressed, and back without another id."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Delete, DeleteWhere, Put, Revision
from holdfast.core.errors import Conflict, Corrupt, NotFound
from holdfast.core.filter import Filter, Record, both, eq, gt, lt
from holdfast.core.query import Order, asc
from holdfast.core.ranking import bm25, cosine_scores
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.text import term_frequencies
from holdfast.core.values import Vector, check_count, check_texts, check_time
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.fields import check_name
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.records import (
    ARCHIVE,
    MEMORIES,
    SLOTS,
    UNREADABLE,
    Memory,
    archived_row,
)
from holdfast.stores.store import Page

SCAN_PAGE: Final = 500
"""Archived memories that are unpacked at a time while a recall looks through them."""


class ArchiveEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What can be told of an archived memory without unpacking it."""

    id: str
    namespace: str
    packed_bytes: int
    archived_at: datetime
    created_at: datetime


class Archive(MemoryStore):
    """Memories at rest. Recall passes them by unless it is told to look here too, slowly."""

    def put(self, ids: Sequence[str]) -> int:
        """Move live memories into the archive; how many there were. Missing ids are passed by."""
        return sum(self._put_one(memory_id) for memory_id in check_texts("ids", ids))

    def put_untouched(self, *, before: datetime, limit: int = 1_000) -> int:
        """Archive live, unpinned memories that were written and accessed ``before`` an instant.

        Oldest first; how many. Limit 1 to 100,000.
        """
        cutoff = check_time("before", before)
        check_count("limit", limit, 1, 100_000)
        untouched = both(
            lt("created_at", cutoff),
            ~gt("last_accessed_at", cutoff),
            eq("pinned", False),
            present_at(self._now()),
        )
        rows = self._all(MEMORIES, untouched, order=asc("created_at"), limit=limit)
        return sum(self._put_one(row["id"]) for row in rows)

    def restore(self, ids: Sequence[str]) -> int:
        """Move memories back, searchable at once; how many there were.

        Conflict when a live memory has come to hold the same content.
        """
        return sum(self._restore_one(memory_id) for memory_id in check_texts("ids", ids))

    def get(self, memory_id: str) -> Memory | None:
        """The archived memory, or None."""
        packed = self._get(ARCHIVE, check_name("id", memory_id))
        return None if packed is None else self._memory(unpack(packed))

    def list(self, *, limit: int = 100, cursor: str | None = None) -> Page[ArchiveEntry]:
        """What is archived, latest first, ties by id. Limit 1 to 1000."""
        return self._page(
            ARCHIVE,
            _entry,
            order=(Order("archived_at", descending=True),),
            limit=limit,
            cursor=cursor,
        )

    def discard(self, memory_id: str) -> bool:
        """Remove an archived memory for good; whether there was one."""
        mine = self._within(ARCHIVE, eq("id", check_name("id", memory_id)))
        return self._apply(DeleteWhere(ARCHIVE.name, mine))[0].count > 0

    def delete(self, memory_id: str) -> None:
        """Remove an archived memory for good. NotFound when there is none."""
        if not self.discard(memory_id):
            raise NotFound("There is no such memory.")

    def _put_one(self, memory_id: str) -> bool:
        row = self._get(MEMORIES, memory_id, vectors=True)
        if row is None or not present_at(self._now()).matches(row):
            return False
        row["archived_at"] = now = self._now()
        packed = {
            **{name: row[name] for name in ("id", "created_at", *SCOPE_FIELDS)},
            "body": pack(row),
            "archived_at": now,
        }
        try:
            self._apply(
                Delete(MEMORIES.name, (memory_id,), Revision(row["revision"])),
                Put(ARCHIVE.name, packed, ABSENT),
            )
        except (Conflict, NotFound):
            return False  # changed meanwhile, so it is not cold
        return True

    def _restore_one(self, memory_id: str) -> bool:
        packed = self._get(ARCHIVE, memory_id)
        if packed is None:
            return False
        row = {**unpack(packed), "archived_at": None}
        row.pop("revision", None)
        back: list[Change] = [Delete(ARCHIVE.name, (memory_id,), Revision(packed["revision"]))]
        active = self._active_space()
        held = None if active is None else row[active.slot]
        if row["space"] is not None and (active is None or held is None or held.space != active.id):
            # The tenant's memories have moved meanwhile, to another space or to the other slot.
            row |= {**self._without_vector(), "repair_at": self._now()}
        elif self._spans(row["content"]):
            # Stretches went with the row; the repair queue makes them anew.
            row["repair_at"] = self._now()
        self._apply(*back, Put(MEMORIES.name, row, ABSENT))
        return True


class ColdHits(msgspec.Struct):
    """What a look through the archive found: scores and records by id."""

    text: dict[str, float]
    vector: dict[str, float]
    rows: dict[str, Record]


def cold_hits(
    store: MemoryStore, where: Filter, terms: Sequence[str], vector: Vector | None
) -> ColdHits:
    """Every archived memory that satisfies ``where`` and a leg.

    BM25 counts the archive as its own collection of texts: two passes, the first for the counts.
    """
    found = ColdHits({}, {}, {})
    counted: dict[str, dict[str, int]] = {}
    lengths: dict[str, int] = {}
    for row in _cold_rows(store):
        if not where.matches(row):
            continue
        frequencies = term_frequencies(f"{row['content']}\n{row['lexical']}")
        lengths[row["id"]] = sum(frequencies.values())
        counted[row["id"]] = {term: frequencies[term] for term in terms if term in frequencies}
        score = None if vector is None else _cosine(row, vector)
        if score is not None:
            found.vector[row["id"]] = score
        if score is not None or counted[row["id"]]:
            found.rows[row["id"]] = row
    mean = sum(lengths.values()) / len(lengths) if lengths else 0.0
    for memory_id, frequencies in counted.items():
        if frequencies:
            found.text[memory_id] = sum(
                bm25(
                    count,
                    sum(term in other for other in counted.values()),
                    len(counted),
                    lengths[memory_id],
                    mean,
                )
                for term, count in sorted(frequencies.items())
            )
    return found


def pack(row: Record) -> bytes:
    """A whole record, vectors included, compressed."""
    return zlib.compress(msgspec.msgpack.encode(row), 6)


def unpack(packed: Record) -> Record:
    """The record inside an archive row. Corrupt when it cannot be read, or is another's."""
    try:
        return archived_row(packed["body"], packed)
    except UNREADABLE as error:
        raise Corrupt(
            f"An archived memory cannot be unpacked: {packed['id']}.",
            hint="Restore it from a backup, or remove it: archive.discard(id).",
            id=packed["id"],
        ) from error


def _cold_rows(store: MemoryStore) -> Iterator[Record]:
    last: str | None = None
    while True:
        beyond = None if last is None else gt("id", last)
        page = store._all(ARCHIVE, beyond, order=asc("id"), limit=SCAN_PAGE)
        yield from map(unpack, page)
        if len(page) < SCAN_PAGE:
            return
        last = page[-1]["id"]


def _cosine(row: Record, vector: Vector) -> float | None:
    import numpy

    for slot in SLOTS:
        held: Any = row.get(slot)
        if held is not None and held.space == vector.space and held.width == vector.width:
            matrix = numpy.frombuffer(held.data, "<f4").reshape(1, -1)
            return float(cosine_scores(matrix, numpy.frombuffer(vector.data, "<f4"))[0])
    return None


def _entry(record: Record) -> ArchiveEntry:
    return ArchiveEntry(
        id=record["id"],
        namespace=record["namespace"],
        packed_bytes=len(record["body"]),
        archived_at=record["archived_at"],
        created_at=record["created_at"],
    )
