"""Moving a tenant's memories to another embedding model while they stay in use.

New vectors are built beside the old ones, in the other slot. Reads and writes stay on the old
space until every row has its new vector; then one apply flips them all.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.change import Change, Delete, Edit, Patch, PatchWhere, Put, When
from holdfast.core.embedding import Embedder, vectors_from
from holdfast.core.errors import Conflict, DimensionMismatch, Invalid, NotFound, Unavailable
from holdfast.core.filter import Filter, Record, both, eq, ne, not_null
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.values import Vector, check_count
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.records import CHUNKS, MEMORIES, SLOTS, SPACES, Space

BATCH: Final = 100


class MoveProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move to another space is."""

    origin: str
    target: str
    done: int
    left: int


class Spaces(MemoryStore):
    """The embedding space of the whole tenant's memories, whatever the handle is bound to."""

    def active(self) -> Space | None:
        """The space that memories are searched in; None before the first vector."""
        return self._active_space()

    def begin(self, embedder: Embedder) -> MoveProgress:
        """Start moving to ``embedder``'s space, or take up the move to it that was started.

        Conflict when a move to another space is under way; Invalid when it is the active one;
        NotFound when there are no vectors yet, so nothing to move.
        """
        active, building = self._required(), self._building()
        target = embedder.space.id
        if target == active.id:
            raise Invalid("embedder", expected="another space than the active one", got=target)
        if building is not None and building.id != target:
            raise Conflict("A move to another space is under way.", target=building.id)
        if building is None:
            slot = SLOTS[1 - SLOTS.index(active.slot)]
            now = self._now()
            fresh = {
                "id": target,
                "state": "building",
                "slot": slot,
                "chunked": active.chunked,
                "created_at": now,
                "updated_at": now,
            }
            self._apply(*self._emptied(slot), Put(SPACES.name, fresh))
        return self.progress()

    def step(self, embedder: Embedder, *, limit: int = BATCH) -> int:
        """Embed up to ``limit`` (1 to 1000) memories that lack their new vector; how many.

        Several workers may step at once, and any may stop: what is built stays built. Raises
        what the embedder raises.
        """
        check_count("limit", limit, 1, 1_000)
        active, building = self._moving(embedder)
        rows = self._driver_rows(_unbuilt(active, building), limit)
        if not rows:
            return 0
        vectors = _embedded(embedder, [row["content"] for row in rows])
        built = 0
        for row, vector in zip(rows, vectors, strict=True):
            same = When(both(eq("fingerprint", row["fingerprint"]), eq("space", active.id)))
            edit = Edit(set={building.slot: vector, "other_space": building.id})
            chunks = self._chunks_of(row, building, embedder) if active.chunked else []
            try:
                self._apply(Patch(MEMORIES.name, (row["id"],), edit, same), *chunks)
            except (Conflict, NotFound):
                continue  # rewritten or removed meanwhile; the next step sees what it became
            built += 1
        return built

    def progress(self) -> MoveProgress:
        """How many memories have their new vector and how many lack it; NotFound without a move."""
        active, building = self._required(), self._building()
        if building is None:
            raise NotFound("No move to another space is under way.")
        done = self._count(both(eq("space", active.id), eq("other_space", building.id)))
        left = self._count(_unbuilt(active, building))
        return MoveProgress(origin=active.id, target=building.id, done=done, left=left)

    def finish(self) -> Space:
        """Flip reads and writes to the new space and let go of the old vectors, in one apply.

        Conflict while memories lack their new vector. One that is written while this runs is
        queued for repair.
        """
        progress = self.progress()
        if progress.left:
            raise Conflict("Memories still lack their new vector.", left=progress.left)
        active, building = self._required(), self._building()
        assert building is not None
        mine = eq("space", active.id)
        late = _unbuilt(active, building)
        queued = {"space": None, active.slot: None, "repair_at": self._now()}
        moved = {"space": building.id, "other_space": None, active.slot: None}
        outcomes = self._apply(
            self._turned(active, "active", "retired"),
            self._turned(building, "building", "active"),
            PatchWhere(MEMORIES.name, late, Edit(set=queued)),
            PatchWhere(MEMORIES.name, mine, Edit(set=moved)),
            PatchWhere(CHUNKS.name, mine, Edit(set=moved)),
        )
        self._trusted = None
        return Space(**outcomes[1].record)

    def cancel(self) -> bool:
        """Give up the move and drop what it built; whether there was one."""
        building = self._building()
        if building is None:
            return False
        still = When(eq("state", "building"))
        self._apply(Delete(SPACES.name, (building.id,), still), *self._emptied(building.slot))
        return True

    def stragglers(self) -> int:
        """Queue for repair what was written into a space that is no longer active; how many."""
        active = self._required()
        cleared = {**self._without_vector(), "repair_at": self._now()}
        strayed = both(not_null("space"), ne("space", active.id))
        return self._apply(PatchWhere(MEMORIES.name, strayed, Edit(set=cleared)))[0].count

    def _required(self) -> Space:
        active = self._active_space()
        if active is None:
            raise NotFound("There are no vectors yet.")
        return active

    def _building(self) -> Space | None:
        found = self._first(SPACES, eq("state", "building"))
        return None if found is None else Space(**found)

    def _moving(self, embedder: Embedder) -> tuple[Space, Space]:
        active, building = self._required(), self._building()
        if building is None:
            raise NotFound("No move to another space is under way.")
        if building.id != embedder.space.id:
            raise DimensionMismatch("embedder", expected=building.id, got=embedder.space.id)
        return active, building

    def _driver_rows(self, where: Filter, limit: int) -> list[Record]:
        query = Query(collection=MEMORIES.name, filter=where, order=asc("id"), limit=limit)
        return self._driver.query(self._scope.tenant, query).records

    def _chunks_of(self, row: Record, building: Space, embedder: Embedder) -> list[Change]:
        """New vectors of a long memory's stretches."""
        chunks = self._all(CHUNKS, eq("memory_id", row["id"]), order=asc("number"))
        if not chunks:
            return []
        texts = [row["content"][chunk["start"] : chunk["end"]] for chunk in chunks]
        return [
            Patch(
                CHUNKS.name,
                (chunk["memory_id"], chunk["number"]),
                Edit(set={building.slot: vector, "other_space": building.id}),
                When(eq("fingerprint", row["fingerprint"])),
            )
            for chunk, vector in zip(chunks, _embedded(embedder, texts), strict=True)
        ]

    def _emptied(self, slot: str) -> list[Change]:
        """What a slot held of an earlier space must not be taken for new vectors."""
        empty = Edit(set={slot: None, "other_space": None})
        return [
            PatchWhere(shape.name, not_null("other_space"), empty) for shape in (MEMORIES, CHUNKS)
        ]

    def _turned(self, space: Space, before: str, after: str) -> Change:
        edit = Edit(set={"state": after, "updated_at": self._now()})
        return Patch(SPACES.name, (space.id,), edit, When(eq("state", before)))

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=MEMORIES.name, filter=where)
        count: int = self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return count


def _unbuilt(active: Space, building: Space) -> Filter:
    return both(eq("space", active.id), ne("other_space", building.id))


def _embedded(embedder: Embedder, texts: list[str]) -> list[Vector]:
    vectors = vectors_from(embedder, texts)
    if len(vectors) != len(texts):
        raise Unavailable("The embedder answered with another number of vectors.")
    return vectors
