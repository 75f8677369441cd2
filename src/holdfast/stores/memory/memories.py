"""Semantic memory: what an agent knows, found again by meaning, by words, or by both.

A memory is live until it is forgotten, superseded, expired or quarantined; only live ones are
recalled. Equal content in one scope is one memory. A memory whose embedding fails is kept,
found by its words, and queued for repair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Unpack

from holdfast.core.change import Change, DeleteWhere, Edit, Patch, PatchWhere, When
from holdfast.core.errors import Ambiguous, Conflict, Invalid, kind_of
from holdfast.core.filter import Prefix, Record, among, both, eq, is_null
from holdfast.core.marks import grouped
from holdfast.core.query import Order, asc
from holdfast.core.ranker import Ranker
from holdfast.core.turns import in_turns
from holdfast.core.values import Vector, check_bool, check_text, check_texts
from holdfast.stores.given import check_op_id, check_verbs
from holdfast.stores.memory.asked import Mode, ThresholdKind, ask
from holdfast.stores.memory.facets import Facets
from holdfast.stores.memory.fields import (
    MemoryFields,
    NewMemory,
    check_content,
    check_fields,
    check_metadata,
    check_name,
    check_one_of,
)
from holdfast.stores.memory.filters import MemoryFilters, filter_of, present_at, seen
from holdfast.stores.memory.late import token_changes, tokens_dropped
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.recollection import Recollection
from holdfast.stores.memory.records import (
    ARCHIVE,
    CHUNKS,
    COLLECTIONS,
    MEMORIES,
    Memory,
)
from holdfast.stores.memory.stats import MemoryStats, stats_of
from holdfast.stores.models import EMBED_BATCH
from holdfast.stores.store import Page

NearDuplicate = Literal["off", "hint", "coalesce", "supersede"]
NEAR_DUPLICATE: Final = ("off", "hint", "coalesce", "supersede")
SortKey = Literal[
    "created_at",
    "updated_at",
    "last_accessed_at",
    "said_at",
    "importance",
    "confidence",
    "access_count",
]
SORT_KEYS: Final = (
    "created_at",
    "updated_at",
    "last_accessed_at",
    "said_at",
    "importance",
    "confidence",
    "access_count",
)
Kept = list[Memory]
Changes = list[Change]


class Memories(Facets):
    """The memories of the bound scope."""

    collections = COLLECTIONS

    def configured(self, policy: MemoryPolicy) -> Memories:
        """This store working by other numbers."""
        if not isinstance(policy, MemoryPolicy):
            raise Invalid("policy", expected="a MemoryPolicy", got=kind_of(policy))
        return Memories(self._driver, self._scope, self._runtime, policy)

    def remember(
        self,
        content: str,
        *,
        vector: Any = None,
        near_duplicate: NearDuplicate = "off",
        op_id: str | None = None,
        **fields: Unpack[MemoryFields],
    ) -> Memory:
        """Keep ``content`` and return the memory: the one that holds it already, if one does.

        ``vector`` replaces the embedder's. ``near_duplicate`` looks for a memory of the scope
        that is almost the same (one search more): "hint" marks the new one, "coalesce" returns
        the old one, "supersede" closes the old one in favour of the new; on an engine without
        vectors nothing is found almost the same. Conflict for an id in use; Invalid,
        InvalidVector, DimensionMismatch for what cannot be kept. In a unit of work, content that
        is held already makes the commit fail with Conflict.
        """
        check_op_id(op_id)
        given = check_fields(fields)
        row = self._new_row(check_content(content), given)
        check_one_of("near_duplicate", near_duplicate, NEAR_DUPLICATE)
        embedded = self._embedding_of(row, vector)
        twin = None if near_duplicate == "off" else self._near_duplicate(row, embedded)
        also: Changes = []
        if twin is not None:
            if near_duplicate == "coalesce":
                self.reinforce([twin["id"]])
                return self._memory(twin)
            row["similar_to"] = twin["id"]
            row["is_unique"] = near_duplicate == "supersede"
            if near_duplicate == "supersede":
                row["valid_from"] = row.get("valid_from") or self._now()
                also = self._closing(twin, row["id"], "superseded", "near_duplicate")
        own = None if vector is None or embedded.whole is None else embedded.whole.data
        asked = ("memory.remember", content, given, near_duplicate, own)
        return self._keep(row, embedded, also, op_id=op_id, asked=asked)[0]

    def remember_many(self, entries: Sequence[str | NewMemory], *, imported: bool = False) -> Kept:
        """Keep many and return one memory per entry, in order.

        All entries are checked before anything is written. They are embedded and committed in
        batches of 256, each wholly or not at all. ``imported`` says that they come from another
        system: those without a confidence get the policy's ``confidence_imported``.
        """
        start: dict[str, Any] = {}
        if check_bool("imported", imported):
            start = {"confidence": self._policy.confidence_imported}
        if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Sequence):
            raise Invalid("entries", expected="a list of texts or objects", got=kind_of(entries))
        rows: list[tuple[Record, Vector | None]] = []
        for place, entry in enumerate(in_turns(entries)):
            try:
                rows.append(self._entry(entry, start))
            except Invalid as error:
                raise error.within(f"entries[{place}]") from None
        kept: list[Memory] = []
        for first in range(0, len(rows), EMBED_BATCH):
            kept += self._keep_batch(rows[first : first + EMBED_BATCH])
        return kept

    def _entry(self, entry: object, start: Mapping[str, Any]) -> tuple[Record, Vector | None]:
        """One of many as a row, and its own vector."""
        if isinstance(entry, str):
            return self._new_row(check_content(entry), start), None
        given: dict[str, Any] = dict(entry) if isinstance(entry, Mapping) else {}
        content = check_content(given.pop("content", None) if given else entry)
        vector = given.pop("vector", None)
        if vector is not None:
            vector = self._given_vector("vector", vector)
        return self._new_row(content, {**start, **check_fields(given)}), vector

    def get(self, memory_id: str) -> Memory | None:
        """The memory, also a closed, expired or archived one; None when missing or forgotten."""
        row = self._get(MEMORIES, check_name("id", memory_id))
        if row is None:
            return self.archive.get(memory_id)
        hidden = row["forgotten_at"] is not None or row["quarantined_at"] is not None
        return None if hidden else self._memory(row)

    def recall(
        self,
        query: str | None = None,
        *,
        vector: Any = None,
        k: int = 10,
        mode: Mode = "hybrid",
        threshold: float | None = None,
        threshold_kind: ThresholdKind = "score",
        as_of: datetime | None = None,
        include_archived: bool = False,
        rerank: bool = True,
        ranker: Ranker | None = None,
        reinforce: bool = False,
        explain: bool = False,
        **filters: Unpack[MemoryFilters],
    ) -> Recollection:
        """The ``k`` (1 to 1000) live memories that answer best, best first.

        ``threshold`` is an inclusive floor; None or 0 is none. It is one for the result's score,
        or by ``threshold_kind`` for its "cosine", which differs from model to model, or for the
        "percentile" (to 100) of random pairs that its cosine exceeds: Invalid unless the space
        was calibrated (`spaces.calibrate`). ``as_of``
        asks what held at that instant. ``rerank`` lets the reranker, if there is one, read the
        first 50 of a hybrid recall; ``ranker`` replaces the storage's. ``reinforce`` counts the
        results as accessed; without it a recall writes nothing. DimensionMismatch when the
        tenant's vectors are of another space than the embedder's.
        """
        check_bool("reinforce", reinforce)
        check_verbs("ranker", ranker, "prepare", "rank")
        asked = ask(
            query=query,
            vector=vector,
            k=k,
            mode=mode,
            threshold=threshold,
            threshold_kind=threshold_kind,
            where=filter_of(filters),
            now=self._now() if as_of is None else as_of,
            include_archived=include_archived,
            rerank=rerank,
            ranker=self._runtime.ranker if ranker is None else ranker,
            explain=explain,
        )
        from holdfast.stores.memory.recall import Recalling  # which a process that writes need not

        found = Recalling(self, asked).run()
        if reinforce and found:
            self.reinforce([item.memory.id for item in found])
        return found

    @grouped
    def reinforce(self, ids: Sequence[str]) -> int:
        """Count an access of each live memory; how many there were.

        Moves ``last_accessed_at``, and the expiry of those that have one; never ``updated_at``.
        """
        wanted, now = check_texts("ids", ids), self._now()
        live = self._within(MEMORIES, among("id", wanted), present_at(now))
        counted = Edit(increment={"access_count": 1}, maximum={"last_accessed_at": now})
        also = self.lifecycle._access_changes(live, now)
        return self._apply(PatchWhere(MEMORIES.name, live, counted), *also)[0].count

    @grouped
    def forget(self, memory_id: str, *, op_id: str | None = None) -> bool:
        """Take the memory out of every search at once; whether there was a live one.

        The row stays, unseen, until `lifecycle.purge`; `history.restore` brings it back. An
        archived memory is removed for good. A repeat with the same ``op_id`` gives the first
        answer.
        """
        now = self._now()
        mine = both(eq("id", check_name("id", memory_id)), is_null("forgotten_at"))
        gone = Edit(set={"forgotten_at": now, "updated_at": now, "repair_at": None})
        live = self._within(MEMORIES, mine, present_at(now))
        rest = self._within(MEMORIES, mine)
        archived = self._within(ARCHIVE, eq("id", memory_id))
        live_one, _, archived_one = self._apply(
            PatchWhere(MEMORIES.name, live, gone),
            PatchWhere(MEMORIES.name, rest, gone),
            DeleteWhere(ARCHIVE.name, archived),
            op_id=op_id,
            asked=("memory.forget", memory_id),
        )
        return live_one.count > 0 or archived_one.count > 0

    @grouped
    def delete(self, memory_id: str) -> None:
        """Remove the memory, its vectors and chunks for good. NotFound when there is none."""
        mine = self._within(MEMORIES, eq("id", check_name("id", memory_id)))
        if not self._apply(DeleteWhere(MEMORIES.name, mine))[0].count:
            self.archive.delete(memory_id)

    def update(
        self,
        memory_id: str,
        *,
        content: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        vector: Any = None,
        fingerprint: str | None = None,
    ) -> Memory:
        """Change what is given and nothing else.

        New content is embedded anew and its chunks replaced. ``metadata`` replaces the whole
        object. With ``fingerprint`` the change is refused with Conflict when the content is no
        longer the one of that fingerprint. NotFound; Conflict for content held by another.
        """
        if content is None and metadata is None and vector is None:
            raise Invalid("content", expected="content, metadata or a vector", got="nothing")
        expected = None if fingerprint is None else check_name("fingerprint", fingerprint)
        edits: dict[str, Any] = {}
        if metadata is not None:
            edits = {"metadata": check_metadata("metadata", metadata), "updated_at": self._now()}
        if content is not None:
            check_content(content)
        if vector is not None:
            self._given_vector("vector", vector)
        row = self._row(memory_id)
        before: Changes = []
        after: Changes = []
        if content is not None:
            edits |= self._rewritten(row, content)
        if content is not None or vector is not None:
            row = {**row, **edits}
            embedded = self._embedding_of(row, vector)
            made, before = self._vector_fields(embedded)
            edits |= {**self._without_vector(), **made}
            after = self._chunk_changes(row, embedded)
        if content is not None:
            stale = self._within(CHUNKS, eq("memory_id", memory_id))
            after = [DeleteWhere(CHUNKS.name, stale), *after, tokens_dropped(memory_id)]
            after += token_changes(self, row)
        same = None if expected is None else eq("fingerprint", expected)
        when = When(self._within(MEMORIES, is_null("forgotten_at"), same))
        patch = Patch(MEMORIES.name, (memory_id,), Edit(set=edits), when)
        return self._memory(self._apply(*before, patch, *after)[len(before)].record)

    def correct(self, memory_id: str, content: str, *, by: str | None = None) -> Memory:
        """Replace what turned out wrong: a new memory supersedes the old one, on the record.

        The new one keeps what the old one said of itself. ``by`` names who corrected it.
        NotFound; Conflict when the old one is closed, or another holds the content.
        """
        author = None if by is None else check_name("by", by)
        text, old, now = check_content(content), self._row(memory_id), self._now()
        row = {**old, **self._rewritten(old, text), **self._without_vector()}
        del row["revision"]
        row |= {"id": self._new_id(), "created_at": now, "valid_from": now, "valid_to": None}
        row |= {"access_count": 0, "last_accessed_at": None, "similar_to": None}
        row |= {"window_started_at": None, "window_count": 0, "is_unique": True}
        embedded = self._embedding_of(row, None)
        also = self._closing(old, row["id"], "corrected", author)
        kept, new = self._keep(row, embedded, also)
        if not new:
            raise Conflict("Another memory holds this content.", unique="content")
        return kept

    @grouped
    def pin(self, memory_id: str, *, by: str | None = None) -> Memory:
        """Keep it from expiry, sweep, eviction, merging and decay. NotFound."""
        author = None if by is None else check_name("by", by)
        noted = {"pinned": True, "pinned_at": self._now(), "pinned_by": author}
        return self._edit_row(memory_id, Edit(set=noted), is_null("forgotten_at"))

    @grouped
    def unpin(self, memory_id: str) -> Memory:
        """Let it age again; who pinned it and when stays noted. NotFound."""
        return self._edit_row(memory_id, Edit(set={"pinned": False}), is_null("forgotten_at"))

    def find_by_prefix(self, prefix: str) -> Memory | None:
        """The one memory whose id begins with exactly ``prefix``; None when none does.

        Ambiguous when several do. An empty prefix finds nothing.
        """
        if not check_text("prefix", prefix):
            return None
        found = self._all(MEMORIES, Prefix("id", prefix), seen(), order=asc("id"), limit=2)
        if len(found) > 1:
            raise Ambiguous("Several memories have ids with this prefix.", hint="Give more of it.")
        return self._memory(found[0]) if found else None

    def stats(self) -> MemoryStats:
        """Counts by tier, type, kind, namespace and state, and the last write."""
        return stats_of(self)

    def list(
        self,
        *,
        sort: SortKey = "created_at",
        descending: bool = True,
        include_closed: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        **filters: Unpack[MemoryFilters],
    ) -> Page[Memory]:
        """Live memories in order of ``sort``, ties by id. Limit 1 to 1000.

        With ``include_closed`` also those superseded, expired or outside their validity.
        """
        check_one_of("sort", sort, SORT_KEYS)
        closed_too = check_bool("include_closed", include_closed)
        return self._page(
            MEMORIES,
            self._memory,
            seen(),
            filter_of(filters),
            order=(Order(sort, check_bool("descending", descending)),),
            limit=limit,
            cursor=cursor,
            moving=None if closed_too else present_at(self._now()),
        )
