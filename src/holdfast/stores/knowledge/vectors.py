"""Vectors of chunks and of the library: making those that are missing, and moving to a model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Claim, Edit, Patch, PatchWhere, Put, When
from holdfast.core.clock import shifted
from holdfast.core.collection import Collection
from holdfast.core.embedding import Embedder
from holdfast.core.errors import Conflict, Invalid, NotFound, Unsupported
from holdfast.core.filter import (
    Filter,
    InSelect,
    Record,
    both,
    either,
    eq,
    is_null,
    le,
    ne,
    not_null,
)
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.values import Vector, check_bool, check_count
from holdfast.stores.given import check_embedder, check_function
from holdfast.stores.knowledge.base import SETTLED, TRIES, KnowledgeStore, as_space
from holdfast.stores.knowledge.records import CHUNKS, LIBRARY, SLOTS, SPACES, KnowledgeSpace
from holdfast.stores.models import vectors_or_refusals

EMBEDDED: Final[tuple[tuple[Collection, str], ...]] = ((CHUNKS, "text"), (LIBRARY, "content"))
"""What has vectors, and the field that they are made from."""


class VectorStats(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks and items with a vector, and those that lack one."""

    space: str | None
    """The tenant's embedding space; None before the first vector."""
    embedded: int
    due: int
    waiting: int
    """Leased to a worker, or backing off after a failure."""
    parked: int
    absent: int
    """Without a vector and in no queue, such as those from before there was an embedder."""


class VectorMove(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move to another embedding space is."""

    origin: str
    target: str
    done: int
    left: int


class KnowledgeVectors(KnowledgeStore):
    """The vectors of the bound scope, and the embedding space of the whole tenant."""

    def repair(self, *, limit: int = 100) -> int:
        """Embed what waits for it, longest due first; how many got their vector.

        Limit 1 to 1000. Nothing goes to two workers before its lease ends. What fails is due
        again after a wait that doubles with each attempt; after the last it is parked. What
        fails together is embedded one by one, so that a text that the model refuses holds up no
        other. Unsupported where the engine has no vectors.
        """
        check_count("limit", limit, 1, 1_000)
        self._required_embedder()
        done = 0
        for shape, field in EMBEDDED:
            rows = self._leased(shape, limit - done) if done < limit else ()
            vectors, error = self._vectors_of([row[field] for row in rows])
            for row in rows:
                if error is not None:
                    vectors, failed = self._vectors_of([row[field]])
                    done += self._settle(shape, row, vectors.get(row[field]), failed)
                else:
                    done += self._settle(shape, row, vectors.get(row[field]), None)
        return done

    def rearm(self, *, vectorless: bool = False) -> int:
        """Make what is parked due again; how many.

        ``vectorless`` queues all that has no vector of the tenant's space, such as what was
        written before there was an embedder.
        """
        which = eq("repair_parked", True)
        if check_bool("vectorless", vectorless):
            active = self._active_space()
            lacking = is_null("space") if active is None else ne("space", active.id)
            which = both(lacking, is_null("repair_token"))
        again = Edit(set={**SETTLED, "space": None, "repair_at": self._now()})
        changes = [PatchWhere(s.name, self._within(s, which), again) for s, _ in EMBEDDED]
        return sum(outcome.count for outcome in self._apply(*changes))

    def stats(self) -> VectorStats:
        """How many have a vector, and how those stand that lack one."""
        due, active = le("repair_at", self._now()), self._active_space()
        return VectorStats(
            space=None if active is None else active.id,
            embedded=self._count(not_null("space")),
            due=self._count(both(_queued(), due)),
            waiting=self._count(both(_queued(), ~due)),
            parked=self._count(eq("repair_parked", True)),
            absent=self._count(both(is_null("space"), is_null("repair_at"))),
        )

    def reembed(
        self,
        embedder: Embedder | None = None,
        *,
        batch: int = 100,
        on_progress: Callable[[VectorMove], object] | None = None,
    ) -> VectorStats:
        """Move the tenant's knowledge to another embedder's space, or go on where a move stopped.

        The embedder is the one that the storage was opened with, unless given. New vectors are
        built beside the old ones, ``batch`` (1 to 1000) at a time, while searches and writes go
        on in the old space; one write flips all. Where it is in that space already, nothing is
        done. What the model refuses is queued for repair. Raises what else the embedder raises:
        what is built stays built. NotFound before the first vector; Conflict while a move to yet
        another space is under way; Unsupported where the engine has no vectors.
        """
        check_count("batch", batch, 1, 1_000)
        check_function("on_progress", on_progress)
        check_embedder("embedder", embedder)
        embedder = self._required_embedder(embedder)
        for _ in range(TRIES):
            active = self._active_space()
            if active is None:
                raise NotFound("There are no vectors yet.")
            if active.id == embedder.space.id:
                return self.stats()
            building = self._building(active, embedder.space.id)
            for shape, field in EMBEDDED:
                while rows := self._unbuilt_rows(shape, active, building, batch):
                    self._build(shape, field, rows, active, building, embedder)
                    if on_progress is not None:
                        on_progress(self._progress(active, building))
            try:
                self._apply(*self._flipping(active, building))
            except (Conflict, NotFound):
                continue  # something came in behind, or another worker has finished
        raise Conflict("Knowledge is written faster than it can be embedded.")

    # --- repairing

    def _leased(self, shape: Collection, limit: int) -> tuple[Record, ...]:
        now = self._now()
        until = shifted(now, timedelta(seconds=self._policy.repair_lease_seconds))
        taken = Edit(
            set={"repair_at": until, "repair_token": self._new_id()},
            increment={"repair_attempts": 1},
        )
        due = self._within(shape, _queued(), le("repair_at", now))
        return self._apply(Claim(shape.name, due, asc("repair_at"), limit, taken))[0].records

    def _settle(
        self, shape: Collection, row: Record, vector: Vector | None, error: str | None
    ) -> bool:
        """Write back what came of it, unless it is no longer the worker's; whether it was made."""
        before: list[Change] = []
        if vector is None:
            attempts, policy = row["repair_attempts"], self._policy
            wait = min(
                policy.repair_backoff_seconds * 2.0 ** min(attempts - 1, 60),
                policy.repair_backoff_limit_seconds,
            )
            fields: Record = {
                "repair_at": shifted(self._now(), timedelta(seconds=wait)),
                "repair_token": None,
                "repair_error": error,
                "repair_parked": attempts >= policy.repair_attempts,
            }
        else:
            embedder = self._embedder()
            assert embedder is not None
            slot, before = self._slot_for_writing(embedder)
            fields = {**self._vector_fields(slot, vector, None), "other_space": None}
        mine = When(eq("repair_token", row["repair_token"]))
        try:
            self._apply(*before, Patch(shape.name, shape.key_of(row), Edit(set=fields), mine))
        except (Conflict, NotFound):
            return False
        return vector is not None

    # --- moving

    def _building(self, active: KnowledgeSpace, target: str) -> KnowledgeSpace:
        """The space that is being built, opened now if none is; Conflict for another's."""
        for _ in range(TRIES):
            found = self._first(SPACES, eq("state", "building"))
            if found is not None:
                if found["id"] != target:
                    raise Conflict("A move to another space is under way.", target=found["id"])
                return as_space(found)
            slot, now = SLOTS[1 - SLOTS.index(active.slot)], self._now()
            fresh = {"state": "building", "slot": slot, "created_at": now, "updated_at": now}
            known = self._driver.get(self._scope.tenant, SPACES.name, (target,))
            opened: Change = Put(SPACES.name, {**fresh, "id": target}, ABSENT)
            if known is not None:
                opened = Patch(
                    SPACES.name, (target,), Edit(set=fresh), When(eq("state", "retired"))
                )
            empty = Edit(set={slot: None, "other_space": None})
            cleared = [PatchWhere(s.name, not_null("other_space"), empty) for s, _ in EMBEDDED]
            try:
                return as_space(self._apply(opened, *cleared)[0].record)
            except (Conflict, NotFound):
                continue  # another worker opened it
        raise Conflict("Other workers keep moving this knowledge.", hint="Try again later.")

    def _unbuilt_rows(
        self, shape: Collection, active: KnowledgeSpace, building: KnowledgeSpace, limit: int
    ) -> list[Record]:
        """What lacks its new vector, whatever scope it is of: a tenant has one space."""
        where, order = _unbuilt(active, building), asc(*shape.key)
        query = Query(collection=shape.name, filter=where, order=order, limit=limit)
        return self._driver.query(self._scope.tenant, query).records

    def _build(
        self,
        shape: Collection,
        field: str,
        rows: list[Record],
        active: KnowledgeSpace,
        building: KnowledgeSpace,
        embedder: Embedder,
    ) -> None:
        """Give the rows their new vectors, or note that the model refuses them."""
        made = vectors_or_refusals(embedder, [row[field] for row in rows])
        for row, vector in zip(rows, made, strict=True):
            refused = vector if isinstance(vector, str) else None
            edit = {
                building.slot: None if refused else vector,
                "other_space": building.id,
                "repair_error": refused,
            }
            same = When(both(_unbuilt(active, building), eq(field, row[field])))
            try:
                self._apply(Patch(shape.name, shape.key_of(row), Edit(set=edit), same))
            except (Conflict, NotFound):
                continue  # it changed meanwhile; the walk meets what it became

    def _flipping(self, active: KnowledgeSpace, building: KnowledgeSpace) -> list[Change]:
        """What turns reads and writes over, provided that nothing lacks its new vector."""
        late, now = _unbuilt(active, building), self._now()
        complete = both(
            eq("state", "active"),
            *(~InSelect("id", shape.name, "space", late) for shape, _ in EMBEDDED),
        )
        changes: list[Change] = [
            _turned(active, "retired", complete, now),
            _turned(building, "active", eq("state", "building"), now),
        ]
        queued = {**SETTLED, **dict.fromkeys((*SLOTS, "space", "other_space")), "repair_at": now}
        moved = {"space": building.id, "other_space": None, active.slot: None}
        mine = eq("space", active.id)
        for shape, _ in EMBEDDED:
            # An engine whose applies run side by side may let one in after the judgement above.
            lost = either(late, both(mine, not_null("repair_error")))
            changes.append(PatchWhere(shape.name, lost, Edit(set=queued)))
            changes.append(PatchWhere(shape.name, mine, Edit(set=moved)))
        return changes

    def _progress(self, active: KnowledgeSpace, building: KnowledgeSpace) -> VectorMove:
        done = both(eq("space", active.id), eq("other_space", building.id))
        return VectorMove(
            origin=active.id,
            target=building.id,
            done=self._count(done, tenant_wide=True),
            left=self._count(_unbuilt(active, building), tenant_wide=True),
        )

    def _required_embedder(self, given: Embedder | None = None) -> Embedder:
        offered = self._driver.capabilities.vectors
        if not offered:
            raise Unsupported(f"This engine has no vectors: {offered.reason}.")
        embedder = given or self._embedder()
        if embedder is None:
            raise Invalid("embedder", expected="an embedder, given here or at open", got="none")
        return embedder

    def _count(self, where: Filter, *, tenant_wide: bool = False) -> int:
        total = 0
        for shape, _ in EMBEDDED:
            narrowed = where if tenant_wide else self._within(shape, where)
            aggregate = Aggregate(collection=shape.name, filter=narrowed)
            total += self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return total


def _unbuilt(active: KnowledgeSpace, building: KnowledgeSpace) -> Filter:
    return both(eq("space", active.id), ne("other_space", building.id))


def _turned(space: KnowledgeSpace, state: str, when: Filter, now: Any) -> Change:
    edit = Edit(set={"state": state, "updated_at": now})
    return Patch(SPACES.name, (space.id,), edit, When(when))


def _queued() -> Filter:
    return both(not_null("repair_at"), eq("repair_parked", False))
