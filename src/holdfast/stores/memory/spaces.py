"""Moving a tenant's memories to another embedding model while they stay in use.

New vectors are built beside the old ones, in the other slot. Reads and writes stay on the old
space until every memory has its new vector; then one apply flips them all. Where a move stands is
kept in the store, so any process can take it up, also after one was killed. A writer that kept its
handle through the flip may write into the old space for `base.SPACE_SECONDS`: such a memory is
found by its words, in no ranking by vectors, until `stragglers` queues it for repair.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Delete, Edit, Patch, PatchWhere, Put, When
from holdfast.core.embedding import Embedder
from holdfast.core.errors import (
    Conflict,
    DimensionMismatch,
    HoldfastError,
    Invalid,
    NotFound,
)
from holdfast.core.filter import Filter, InSelect, Record, both, eq, gt, ne, not_null
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.values import Vector, check_bool, check_count
from holdfast.stores.given import check_embedder, check_function
from holdfast.stores.memory.base import TRIES, as_space
from holdfast.stores.memory.calibration import Calibrating
from holdfast.stores.memory.records import CHUNKS, MEMORIES, SLOTS, SPACES, Space
from holdfast.stores.models import exact_vectors, vectors_or_refusals

BATCH: Final = 100
TOGETHER: Final = 2_000
"""Most changes of one commit; many stretches of long memories are written memory by memory."""


class MoveProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move to another space is, in memories."""

    origin: str
    target: str
    done: int
    left: int


class Spaces(Calibrating):
    """The embedding space of the whole tenant's memories, whatever the handle is bound to."""

    def active(self) -> Space | None:
        """The space that memories are searched in; None before the first vector."""
        return self._active_space()

    def kept(self) -> Space | None:
        """The space that the last move came from, while its vectors are kept; else None."""
        return self._in_state("kept")

    def reembed(
        self,
        embedder: Embedder | None = None,
        *,
        keep_old: bool = False,
        batch: int = BATCH,
        on_progress: Callable[[MoveProgress], object] | None = None,
    ) -> Space:
        """Move to ``embedder``'s space from beginning to end, or from where a move stopped.

        The embedder is the one that the storage was opened with, unless given. ``on_progress`` is
        told after every ``batch`` (1 to 1000) of memories. Several processes may do this at once;
        where the memories are in that space already, nothing is done. Raises as `begin`, `step`
        and `finish` do; what is built stays built.
        """
        check_count("batch", batch, 1, 1_000)
        check_bool("keep_old", keep_old)
        check_function("on_progress", on_progress)
        check_embedder("embedder", embedder)
        embedder = self._runtime.embedder if embedder is None else embedder
        if embedder is None:
            raise Invalid("embedder", expected="an embedder, given here or at open", got="none")
        tell = on_progress or (lambda _: None)
        target = embedder.space.id
        for _ in range(TRIES):
            active = self._required()
            if active.id == target:
                return active
            try:
                progress = self.begin(embedder)
            except HoldfastError:
                if self._required().id == target:
                    continue  # another worker was faster, from beginning to end
                raise
            tell(progress)
            built = self._walk(embedder, progress, batch, tell)
            try:
                moved = self.finish(keep_old=keep_old)
            except (Conflict, NotFound):
                continue  # memories came in behind the walk, or another worker has finished
            tell(msgspec.structs.replace(progress, done=progress.done + built, left=0))
            return moved
        raise Conflict("Memories are written faster than they can be embedded.")

    def _walk(
        self,
        embedder: Embedder,
        progress: MoveProgress,
        batch: int,
        tell: Callable[[MoveProgress], object],
    ) -> int:
        """Build once through all memories, by id; how many got their vector."""
        built, last = 0, ""
        while move := self._moving_to(embedder):
            rows = self._unbuilt_rows(*move, batch, after=last)
            if not rows:
                break
            built, last = built + self._build(embedder, *move, rows), rows[-1]["id"]
            done, left = progress.done + built, max(progress.left - built, 0)
            tell(msgspec.structs.replace(progress, done=done, left=left))
        return built

    def begin(self, embedder: Embedder) -> MoveProgress:
        """Start moving to ``embedder``'s space, or take up the move to it that was started.

        Where that is the space that is `kept`, only what was written since lacks its vector.
        Conflict when a move to another space is under way; Invalid when it is the active one;
        NotFound when there are no vectors yet, so nothing to move.
        """
        check_embedder("embedder", embedder, needed=True)
        active, building = self._required(), self._building()
        target = embedder.space.id
        if target == active.id:
            raise Invalid("embedder", expected="another space than the active one", got=target)
        if building is not None and building.id != target:
            raise Conflict("A move to another space is under way.", target=building.id)
        if building is None:
            self._begin(active, target)
        return self.progress()

    def step(self, embedder: Embedder, *, limit: int = BATCH) -> int:
        """Embed up to ``limit`` (1 to 1000) memories that lack their new vector; how many.

        Several workers may step at once, and any may stop: what is built stays built. A text that
        the model refuses (Invalid) holds up no other: it is queued for repair at the flip. Raises
        what else the embedder raises; DimensionMismatch for one of another space than the move's.
        """
        check_count("limit", limit, 1, 1_000)
        check_embedder("embedder", embedder, needed=True)
        move = self._moving_to(embedder)
        if move is None:
            raise _no_move()
        rows = self._unbuilt_rows(*move, limit)
        return self._build(embedder, *move, rows) if rows else 0

    def progress(self) -> MoveProgress:
        """How many memories have their new vector and how many lack it; NotFound without a move."""
        active, building = self._required(), self._building()
        if building is None:
            raise _no_move()
        done = self._count(both(eq("space", active.id), eq("other_space", building.id)))
        left = self._count(_unbuilt(active, building))
        return MoveProgress(origin=active.id, target=building.id, done=done, left=left)

    def finish(self, *, keep_old: bool = False) -> Space:
        """Flip reads and writes to the new space, in one apply.

        Lets go of the old vectors, unless ``keep_old`` says to keep them: then `begin` with the
        old model takes little more than a flip back, and `drop` lets go of them later. Conflict
        while memories lack their new vector; NotFound without a move.
        """
        check_bool("keep_old", keep_old)
        active, building = self._required(), self._building()
        if building is None:
            raise _no_move()
        late = _unbuilt(active, building)
        # Judged inside the apply: a memory that came in since somebody counted would lose out.
        complete = both(eq("state", "active"), ~InSelect("id", MEMORIES.name, "space", late))
        try:
            outcomes = self._apply(
                self._turned(active, "kept" if keep_old else "retired", complete),
                self._turned(building, "active", eq("state", "building")),
                *self._flipped(active, building, keep_old=keep_old),
            )
        except Conflict as error:
            raise Conflict("Memories still lack their new vector.", left=self._count(late)) from (
                error
            )
        self._trusted = None
        return as_space(outcomes[1].record)

    def cancel(self) -> bool:
        """Give up the move and drop what it built; whether there was one."""
        building = self._building()
        if building is None:
            return False
        still = When(eq("state", "building"))
        self._apply(Delete(SPACES.name, (building.id,), still), *self._emptied(building.slot))
        return True

    def drop(self) -> bool:
        """Let go of the vectors of the space that is `kept`; whether there was one."""
        kept = self.kept()
        if kept is None:
            return False
        retired = self._turned(kept, "retired", eq("state", "kept"))
        self._apply(retired, *self._emptied(kept.slot))
        return True

    def stragglers(self) -> int:
        """Queue for repair what was written into a space that is no longer active; how many."""
        active = self._required()
        cleared = {**self._without_vector(), "repair_at": self._now()}
        strayed = both(not_null("space"), ne("space", active.id))
        return self._apply(PatchWhere(MEMORIES.name, strayed, Edit(set=cleared)))[0].count

    # --- the spaces

    def _required(self) -> Space:
        active = self._active_space()
        if active is None:
            raise NotFound("There are no vectors yet.")
        return active

    def _building(self) -> Space | None:
        return self._in_state("building")

    def _in_state(self, state: str) -> Space | None:
        found = self._first(SPACES, eq("state", state))
        return None if found is None else as_space(found)

    def _moving_to(self, embedder: Embedder) -> tuple[Space, Space] | None:
        """The active space and the one that is built; None without a move."""
        active, building = self._required(), self._building()
        if building is None:
            return None
        if building.id != embedder.space.id:
            raise DimensionMismatch("embedder", expected=building.id, got=embedder.space.id)
        return active, building

    def _begin(self, active: Space, target: str) -> None:
        kept = self.kept()
        if kept is not None and kept.id == target:
            self._apply(self._turned(kept, "building", eq("state", "kept")))
            return
        slot = SLOTS[1 - SLOTS.index(active.slot)]
        now = self._now()
        fresh = {
            "state": "building",
            "slot": slot,
            "chunked": active.chunked,
            "created_at": now,
            "updated_at": now,
        }
        before = [] if kept is None else [self._turned(kept, "retired", eq("state", "kept"))]
        known = self._driver.get(self._scope.tenant, SPACES.name, (target,))
        opened: Change = Put(SPACES.name, {**fresh, "id": target}, ABSENT)
        if known is not None:
            again = When(eq("state", "retired"))
            opened = Patch(SPACES.name, (target,), Edit(set=fresh), again)
        try:
            self._apply(*before, *self._emptied(slot), opened)
        except Conflict:
            if self._building() is None:
                raise

    def _turned(self, space: Space, state: str, when: Filter) -> Change:
        edit = Edit(set={"state": state, "updated_at": self._now()})
        return Patch(SPACES.name, (space.id,), edit, When(when))

    # --- building

    def _unbuilt_rows(
        self, active: Space, building: Space, limit: int, *, after: str = ""
    ) -> list[Record]:
        """Memories that lack their new vector, by id."""
        where = both(_unbuilt(active, building), gt("id", after))
        query = Query(collection=MEMORIES.name, filter=where, order=asc("id"), limit=limit)
        return self._driver.query(self._scope.tenant, query).records

    def _build(self, embedder: Embedder, active: Space, building: Space, rows: list[Record]) -> int:
        """Give rows their new vectors; how many this call gave."""
        vectors = vectors_or_refusals(embedder, [row["content"] for row in rows])
        each = [
            self._built(row, vector, active, building, embedder)
            for row, vector in zip(rows, vectors, strict=True)
        ]
        together = [change for changes in each for change in changes]
        if len(together) <= TOGETHER:
            try:
                self._apply(*together)
            except (Conflict, NotFound):
                pass  # one of them cannot be written; the others can
            else:
                return len(each)
        return sum(map(self._was_built, each))

    def _was_built(self, changes: list[Change]) -> bool:
        """Write one by itself; False when another was faster or it changed meanwhile."""
        try:
            self._apply(*changes)
        except (Conflict, NotFound):
            return False  # the next walk sees what it has become
        return True

    def _built(
        self,
        row: Record,
        vector: Vector | str,
        active: Space,
        building: Space,
        embedder: Embedder,
    ) -> list[Change]:
        """What gives a row and its stretches their new vectors, or notes that they have none."""
        changes: list[Change] = []
        if isinstance(vector, Vector) and (active.chunked or self._spans(row["content"])):
            try:
                changes = self._chunks_of(row, building, embedder)
            except DimensionMismatch:
                raise
            except Invalid as error:
                vector = error.code
        refused = vector if isinstance(vector, str) else None
        edit = {
            building.slot: None if refused else vector,
            "other_space": building.id,
            "repair_error": refused,
        }
        same = both(_unbuilt(active, building), eq("fingerprint", row["fingerprint"]))
        patch = Patch(MEMORIES.name, (row["id"],), Edit(set=edit), When(same))
        return [patch, *changes]

    def _chunks_of(self, row: Record, building: Space, embedder: Embedder) -> list[Change]:
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
            for chunk, vector in zip(chunks, exact_vectors(embedder, texts), strict=True)
        ]

    # --- turning rows over

    def _flipped(self, active: Space, building: Space, *, keep_old: bool) -> list[Change]:
        """What the flip does to memories and their stretches."""
        mine = eq("space", active.id)
        moved: dict[str, Any] = {"space": building.id, "other_space": None, active.slot: None}
        if keep_old:
            moved = {"space": building.id, "other_space": active.id}
        # An engine whose applies run side by side may let one in after the judgement above; and
        # what the new model refused has no vector to go on with.
        queued = {**self._without_vector(), "repair_at": self._now()}
        del queued["repair_error"]
        refused = both(mine, not_null("repair_error"))
        return [
            PatchWhere(MEMORIES.name, _unbuilt(active, building), Edit(set=queued)),
            PatchWhere(MEMORIES.name, refused, Edit(set=queued)),
            PatchWhere(MEMORIES.name, mine, Edit(set=moved)),
            PatchWhere(CHUNKS.name, mine, Edit(set=moved)),
        ]

    def _emptied(self, slot: str) -> list[Change]:
        """What a slot held of an earlier space must not be taken for new vectors."""
        built, empty = not_null("other_space"), {slot: None, "other_space": None}
        return [
            PatchWhere(MEMORIES.name, built, Edit(set={**empty, "repair_error": None})),
            PatchWhere(CHUNKS.name, built, Edit(set=empty)),
        ]

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=MEMORIES.name, filter=where)
        count: int = self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return count


def _unbuilt(active: Space, building: Space) -> Filter:
    return both(eq("space", active.id), ne("other_space", building.id))


def _no_move() -> NotFound:
    return NotFound("No move to another space is under way.")
