"""What all parts of semantic memory share: building rows, embedding them, and their space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, DeleteWhere, Edit, Patch, PatchWhere, Put, When
from holdfast.core.clock import shifted
from holdfast.core.digests import sha256
from holdfast.core.driver import Driver
from holdfast.core.embedding import vectors_from
from holdfast.core.errors import DimensionMismatch, NotFound
from holdfast.core.filter import Filter, Record, both, eq, ne
from holdfast.core.query import Aggregate, asc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import SCOPE_FIELDS, Scope
from holdfast.core.text import normalize_content
from holdfast.core.values import Vector, vector_of
from holdfast.stores.memory.fields import check_name, fingerprint_of, place_of
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.records import (
    CHUNKS,
    EMBEDDING_CACHE,
    EVENTS,
    MEMORIES,
    SLOTS,
    SPACES,
    Memory,
    Space,
)
from holdfast.stores.models import document_vectors
from holdfast.stores.store import Store, builder

TRIES: Final = 50
"""How often a write repeats when others write the same content or the first of a space."""
SPACE_SECONDS: Final = 60.0
"""How long a handle trusts what it read of the embedding space. Rows that a stale handle writes
into a retired space are found by keyword, and by `spaces.stragglers`."""

_build = builder(Memory)
as_space = builder(Space)
_BLANK: Final = {
    field.name: field.default
    for field in MEMORIES.fields
    if field.default is not None or not field.nullable
}


class Embedded(msgspec.Struct, frozen=True):
    """A content's vectors: the whole and its stretches; or why there are none."""

    whole: Vector | None = None
    chunks: tuple[tuple[int, int, Vector], ...] = ()
    error: str | None = None


class MemoryStore(Store):
    """Base of the memory store and its facets."""

    def __init__(
        self,
        driver: Driver,
        scope: Scope,
        runtime: Runtime,
        policy: MemoryPolicy | None = None,
    ) -> None:
        super().__init__(driver, scope, runtime)
        self._policy = policy or MemoryPolicy()
        self._trusted: tuple[str, str, datetime] | None = None

    # --- rows

    def _new_row(self, content: str, fields: Mapping[str, Any]) -> Record:
        """A record for checked content and fields; what it does not name is null."""
        now = self._now()
        row = {**_BLANK, **self._own_fields, "tags": [], "metadata": {}, **fields}
        row["id"] = fields.get("id") or self._new_id()
        row["confidence"] = fields.get("confidence", self._policy.confidence_start)
        row["content"] = content
        row["fingerprint"] = fingerprint_of(content)
        row["place"] = place_of(fields.get("session"), fields.get("turn"))
        row["lexical"] = self._lexical(content, fields.get("said_at"))
        row["created_at"] = fields.get("created_at", now)
        row["updated_at"] = now
        if row["pinned"]:
            row["pinned_at"] = now
        if fields.get("expires_at") is None:
            life = fields.get("ttl_seconds") or self._policy.life_seconds(row["tier"])
            if life is not None:
                row["ttl_seconds"], row["expires_at"] = life, shifted(now, timedelta(seconds=life))
        return row

    def _lexical(self, content: str, said_at: datetime | None) -> str:
        """What the ranker adds to the content for the text leg; content itself is indexed too."""
        ranker = self._runtime.ranker
        if ranker is None:
            return ""
        return ranker.lexical_text(content, said_at).removeprefix(content).strip()

    def _same_scope(self, row: Mapping[str, Any]) -> Filter:
        return both(*(eq(part, row[part]) for part in SCOPE_FIELDS))

    def _memory(self, record: Record) -> Memory:
        return _build(record)

    def _event(
        self, row: Mapping[str, Any], action: str, by: str | None, detail: dict[str, Any]
    ) -> Put:
        """A note of what was decided about a memory; goes into the same apply."""
        event = {
            "id": self._new_id(),
            "memory_id": row["id"],
            **{part: row[part] for part in SCOPE_FIELDS},
            "action": action,
            "by": by,
            "detail": detail,
            "at": self._now(),
        }
        return Put(EVENTS.name, event, ABSENT)

    # --- the embedding space

    def _space(self, space_id: str) -> Space | None:
        """The tenant's active space if it is this one, None while the tenant has none.

        Raises DimensionMismatch, naming both, when the tenant's memories live in another.
        """
        record = self._driver.get(self._scope.tenant, SPACES.name, (space_id,))
        if record is not None and record["state"] == "active":
            return as_space(record)
        active = self._active_space()
        if active is None or active.id == space_id:  # another's first memory came in between
            return active
        raise DimensionMismatch(
            "embedding",
            expected=f"the space {active.id}, in which this tenant's memories are",
            got=f"{space_id}",
            hint="Open with that model, or move the memories to this one:"
            " storage.memory.spaces.reembed(), or holdfast memory reembed.",
        )

    def _active_space(self) -> Space | None:
        found = self._first(SPACES, eq("state", "active"))
        return None if found is None else as_space(found)

    def _writing_slot(self, space_id: str) -> tuple[str, list[Change]]:
        """The vector field to write to, and the space's own row when this is its first vector."""
        now = self._now()
        if self._trusted is not None:
            trusted_id, slot, read_at = self._trusted
            if trusted_id == space_id and 0 <= (now - read_at).total_seconds() < SPACE_SECONDS:
                return slot, []
        space = self._space(space_id)
        if space is not None:
            self._trusted = (space_id, space.slot, now)
            return space.slot, []
        fresh = Space(
            id=space_id,
            state="active",
            slot=SLOTS[0],
            chunked=False,
            created_at=now,
            updated_at=now,
        )
        record = msgspec.structs.asdict(fresh)
        del record["revision"]
        return SLOTS[0], [Put(SPACES.name, record, ABSENT)]

    # --- vectors

    def _given_vector(self, field: str, values: Any) -> Vector:
        """A caller's vector, in the embedder's space, or in one named by its width without one."""
        embedder = self._runtime.embedder
        if embedder is None:
            vector = vector_of(field, "", values)
            return Vector(given_space(vector.width), vector.data)
        vector = vector_of(field, embedder.space.id, values)
        if vector.width != embedder.space.width:
            raise DimensionMismatch(
                field, expected=f"{embedder.space.width} numbers", got=f"{vector.width}"
            )
        return vector

    def _embed(self, contents: Sequence[str]) -> list[Embedded]:
        """Vectors of contents, each with its stretches when it is long.

        A failure is an answer, not an error: the rows are stored without vectors and queued.
        """
        spans = [self._spans(content) for content in contents]
        texts = [
            text
            for content, parts in zip(contents, spans, strict=True)
            for text in (content, *(content[start:end] for start, end in parts))
        ]
        vectors, error = self._vectors(texts)
        if error is not None:
            return [Embedded(error=error)] * len(contents)
        answers, left = [], iter(vectors)
        for parts in spans:
            whole = next(left)
            chunks = tuple((start, end, next(left)) for start, end in parts)
            answers.append(Embedded(whole, chunks))
        return answers

    def _vectors(self, texts: Sequence[str]) -> tuple[list[Vector], str | None]:
        """One vector per text, or the code of what went wrong."""
        embedder = self._runtime.embedder
        assert embedder is not None
        if self._policy.reuse_embeddings:
            return self._reused(texts)
        return self._embedded_now(texts)

    def _embedded_now(self, texts: Sequence[str]) -> tuple[list[Vector], str | None]:
        embedder = self._runtime.embedder
        assert embedder is not None
        return document_vectors(embedder, texts)

    def _reused(self, texts: Sequence[str]) -> tuple[list[Vector], str | None]:
        """Vectors from the cache, and the rest embedded once and kept."""
        embedder = self._runtime.embedder
        assert embedder is not None
        keys = [cache_key(embedder.space.id, "document", text) for text in texts]
        held = self._held_embeddings(keys)
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in held}
        if missing:
            made, error = self._embedded_now(list(missing.values()))
            if error is not None:
                return [], error
            fresh = dict(zip(missing, made, strict=True))
            held.update(fresh)
            self._keep_embeddings(fresh)
        return [held[key] for key in keys], None

    def _query_embedding(self, text: str) -> Vector:
        """The vector of a query, from the cache where one is kept; raises what embedding raises."""
        embedder = self._runtime.embedder
        assert embedder is not None
        key = cache_key(embedder.space.id, "query", text)
        held = self._held_embeddings([key]) if self._policy.reuse_embeddings else {}
        if key not in held:
            [held[key]] = vectors_from(embedder, [text], "query")
            if self._policy.reuse_embeddings:
                self._keep_embeddings({key: held[key]})
        return held[key]

    def _held_embeddings(self, keys: Sequence[str]) -> dict[str, Vector]:
        held: dict[str, Vector] = {}
        for key in dict.fromkeys(keys):
            row = self._driver.get(self._scope.tenant, EMBEDDING_CACHE.name, (key,), vectors=True)
            if row is not None and row["embedding"] is not None:
                held[key] = row["embedding"]
        return held

    def _keep_embeddings(self, fresh: Mapping[str, Vector]) -> None:
        now = self._now()
        rows: list[Change] = [
            Put(EMBEDDING_CACHE.name, {"id": key, "used_at": now, "embedding": vector})
            for key, vector in fresh.items()
        ]
        self._apply(*rows)
        self._bound_embeddings()

    def _bound_embeddings(self) -> None:
        """Drop the least recently made vectors beyond the limit."""
        tenant = self._scope.tenant
        [row] = self._driver.aggregate(tenant, Aggregate(collection=EMBEDDING_CACHE.name))
        surplus = row["count"] - self._policy.embeddings_limit
        if surplus > 0:
            self._apply(DeleteWhere(EMBEDDING_CACHE.name, both(), surplus, asc("used_at")))

    def _spans(self, content: str) -> list[tuple[int, int]]:
        """The stretches of a long content; none for one that a model reads whole."""
        size, overlap = self._policy.chunk_characters, self._policy.chunk_overlap
        if len(content) <= size:
            return []
        return [(s, min(s + size, len(content))) for s in _starts(len(content), size, overlap)]

    # --- writing a row with its vectors

    def _vector_fields(self, embedded: Embedded) -> tuple[Record, list[Change]]:
        """The fields of a row without a vector that follow from its embedding.

        And what must be written before it.
        """
        if embedded.whole is None:
            if embedded.error is None:
                return {}, []
            return {"repair_at": self._now(), "repair_error": embedded.error}, []
        slot, before = self._writing_slot(embedded.whole.space)
        return {slot: embedded.whole, "space": embedded.whole.space}, before

    def _without_vector(self) -> Record:
        """Fields of a row whose vector is to be made anew."""
        cleared: Record = dict.fromkeys(
            (*SLOTS, "space", "other_space", "repair_at", "repair_token")
        )
        return {**cleared, "repair_error": None, "repair_attempts": 0, "repair_parked": False}

    def _chunk_changes(self, row: Mapping[str, Any], embedded: Embedded) -> list[Change]:
        """The stretches' rows, and the note on the space that there are some."""
        if embedded.whole is None or not embedded.chunks:
            return []
        slot, _ = self._writing_slot(embedded.whole.space)
        changes: list[Change] = [
            Put(
                CHUNKS.name,
                {
                    "memory_id": row["id"],
                    "number": number,
                    **{part: row[part] for part in SCOPE_FIELDS},
                    "fingerprint": row["fingerprint"],
                    "start": start,
                    "end": end,
                    "space": vector.space,
                    "other_space": None,
                    "created_at": self._now(),
                    slot: vector,
                },
            )
            for number, (start, end, vector) in enumerate(embedded.chunks)
        ]
        # Also on the space that is being built, and on one that is kept: stretches come along.
        unnoted = both(eq("chunked", False), ne("state", "retired"))
        return [*changes, PatchWhere(SPACES.name, unnoted, Edit(set={"chunked": True}))]

    def _edit_row(self, memory_id: str, edit: Edit, when: Filter, *also: Change) -> Memory:
        """Patch one memory while ``when`` holds; NotFound alike for missing and foreign ones."""
        self._row(memory_id)
        outcomes = self._apply(
            Patch(MEMORIES.name, (memory_id,), edit, When(self._within(MEMORIES, when))), *also
        )
        return self._memory(outcomes[0].record)

    def _row(self, memory_id: str, *, vectors: bool = False) -> Record:
        """The row that is not forgotten, or NotFound."""
        row = self._get(MEMORIES, check_name("id", memory_id), vectors=vectors)
        if row is None or row["forgotten_at"] is not None:
            raise NotFound("There is no such memory.")
        return row


def given_space(width: int) -> str:
    """The space of vectors that callers make themselves, without an embedder."""
    return f"given@1/{width}"


def cache_key(space_id: str, kind: str, text: str) -> str:
    """What an embedding is kept under: equal for texts that differ in case and spaces only."""
    body = "\n".join((space_id, kind, normalize_content(text)))
    return sha256(body.encode()).hexdigest()


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Where stretches begin, so that the last one reaches the end.

    >>> _starts(250, 100, 20)
    [0, 80, 160]
    """
    step = size - overlap
    return [0, *range(step, max(step, length - overlap), step)]
