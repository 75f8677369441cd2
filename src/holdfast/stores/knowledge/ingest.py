"""How a document gets into the store: cut, embedded, and put in place of what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from holdfast.core.change import ABSENT, Change, DeleteWhere, Edit, Patch, PatchWhere, Put
from holdfast.core.change import Revision as AtRevision
from holdfast.core.chunking import Span, chunk_spans
from holdfast.core.errors import Conflict, NotFound, TooLarge
from holdfast.core.filter import Record, both, eq, ge
from holdfast.core.values import Vector
from holdfast.stores.knowledge.base import TRIES, KnowledgeStore
from holdfast.stores.knowledge.fields import CHUNKS_LIMIT, hash_of
from holdfast.stores.knowledge.records import (
    CARRIED,
    CHUNKS,
    COLLECTIONS_KEPT,
    DOCUMENTS,
    Document,
)
from holdfast.stores.store import builder

Taken = Literal["created", "replaced", "amended", "unchanged"]

_document = builder(Document)
_STATED: Final = (
    "title",
    "source",
    "uri",
    "sets",
    "collection_id",
    "boost",
    "metadata",
    "readers",
    "access_malformed",
    "modified_at",
)
"""What a put may say of a document besides its content; when none of it differs, there is nothing
to write. Who brought it and in which run is noted only along with a change."""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a put.

    "created", "replaced" (its content was another), "amended" (only what is said of it was), or
    "unchanged": nothing was written.
    """

    document: Document
    status: Taken


class Cut(msgspec.Struct, frozen=True):
    """A content, how it is cut, and the vectors of its pieces."""

    content: str
    spans: Sequence[Span]
    vectors: Mapping[str, Vector]
    error: str | None


class Ingesting(KnowledgeStore):
    """Writes documents with all that follows from them as one."""

    def _ingest(self, document_id: str, content: str, stated: Record) -> Ingested:
        """Create the document or put it in place of the one there is, whoever else writes it."""
        policy = self._policy
        fingerprint = hash_of(content, policy.chunk_characters, policy.chunk_overlap)
        cut: Cut | None = None
        for _ in range(TRIES):
            held = self._held(document_id)
            row = self._merged(document_id, held, stated)
            if held is not None and held.content_hash == fingerprint:
                if all(row[name] == getattr(held, name) for name in _STATED):
                    return Ingested(document=held, status="unchanged")
                status: Taken = "amended"
                changes = self._amending(held, row)
            else:
                if cut is None:
                    cut = self._cut(document_id, content)
                status = "created" if held is None else "replaced"
                row |= {"content_hash": fingerprint, "ingested_at": self._now()}
                row |= {"characters": len(content), "chunks": len(cut.spans)}
                changes = self._replacing(held, row, cut)
            try:
                return Ingested(document=self._written(changes), status=status)
            except (Conflict, NotFound):
                continue  # another wrote this document, or the first vector; look again
        raise Conflict("Other writers kept changing this document.", hint="Try again later.")

    def _held(self, document_id: str) -> Document | None:
        """The document of this id; Conflict when it belongs to another scope of the tenant."""
        record = self._driver.get(self._scope.tenant, DOCUMENTS.name, (document_id,))
        if record is None:
            return None
        for part, value in self._bound.items():
            if record[part] != value:
                raise Conflict("A document with this id exists.", unique="key")
        return _document(record)

    def _written(self, changes: Sequence[Change]) -> Document:
        """Write the changes as one; the document as it then was."""
        records = [record for outcome in self._apply(*changes) for record in outcome.records]
        return _document(next(record for record in records if "content_hash" in record))

    def _kept(self, document_id: str) -> Document:
        return _document(self._require(DOCUMENTS, document_id))

    def _merged(self, document_id: str, held: Document | None, stated: Record) -> Record:
        """The document's row as it is to be: what is stated, else as it was, else blank."""
        now = self._now()
        if held is not None:
            row = msgspec.structs.asdict(held)
            del row["revision"]
        else:
            row = {
                **_BLANK,
                **self._scope_fields(),
                "id": document_id,
                "created_at": now,
            }
        return {**row, **stated, "updated_at": now}

    def _cut(self, document_id: str, content: str) -> Cut:
        """The content's stretches with their vectors; those of stretches it had are kept."""
        spans = chunk_spans(content, self._policy.chunk_characters, self._policy.chunk_overlap)
        if len(spans) > CHUNKS_LIMIT:
            raise TooLarge(
                "content",
                expected=f"at most {CHUNKS_LIMIT} chunks",
                got=f"{len(spans)}",
                hint="Use larger chunks, or part the document.",
            )
        embedder = self._embedder()
        if embedder is None:
            return Cut(content, spans, {}, None)
        texts = dict.fromkeys(content[span.start : span.end] for span in spans)
        known = self._known_vectors(document_id, embedder.space.id)
        held = {text: known[text] for text in texts if text in known}
        made, error = self._vectors_of([text for text in texts if text not in held])
        return Cut(content, spans, {**held, **made}, error)

    def _known_vectors(self, document_id: str, space_id: str) -> dict[str, Vector]:
        """Vectors of the document's chunks as they are, by text: an edit embeds what it edits."""
        same = both(eq("document_id", document_id), eq("space", space_id))
        space = self._active_space()
        if space is None or space.id != space_id:
            return {}
        rows = self._all(CHUNKS, same, vectors=True)
        return {row["text"]: row[space.slot] for row in rows if row[space.slot] is not None}

    def _replacing(self, held: Document | None, row: Record, cut: Cut) -> list[Change]:
        """The document, its chunks, and the end of those it no longer has."""
        embedder = self._embedder()
        slot, before = "", list[Change]()
        if embedder is not None and cut.vectors:
            slot, before = self._slot_for_writing(embedder)
        when = ABSENT if held is None else AtRevision(held.revision)
        carried = {name: row[name] for name in CARRIED}
        surplus = both(eq("document_id", row["id"]), ge("number", len(cut.spans)))
        puts = []
        for number, span in enumerate(cut.spans):
            text = cut.content[span.start : span.end]
            placed = {"document_id": row["id"], "number": number, "text": text}
            placed |= {"start": span.start, "end": span.end, "other_space": None}
            vector = cut.vectors.get(text)
            error = None if text.isspace() else cut.error
            placed |= self._vector_fields(slot, vector, error)
            puts.append(Put(CHUNKS.name, {**carried, **placed}))
        return [
            *before,
            Put(DOCUMENTS.name, row, when),
            DeleteWhere(CHUNKS.name, surplus),
            *puts,
        ]

    def _amending(self, held: Document, row: Record) -> list[Change]:
        """What is said of a document, on it and on its chunks, while its content stays."""
        changed = {n: v for n, v in row.items() if n != "id" and v != getattr(held, n)}
        carried: Record = {name: changed[name] for name in CARRIED if name in changed}
        when = AtRevision(held.revision)
        changes: list[Change] = [Patch(DOCUMENTS.name, (held.id,), Edit(set=changed), when)]
        if carried:
            mine = eq("document_id", held.id)
            changes.append(PatchWhere(CHUNKS.name, mine, Edit(set=carried)))
        return changes

    def _amend(self, document_id: str, stated: Record) -> Document:
        """Change what is said of a document that is there. NotFound."""
        for _ in range(TRIES):
            held = self._kept(document_id)
            row = self._merged(document_id, held, stated)
            if all(row[name] == getattr(held, name) for name in stated):
                return held
            try:
                return self._written(self._amending(held, row))
            except (Conflict, NotFound):
                continue
        raise Conflict("Other writers kept changing this document.", hint="Try again later.")

    def _collection_id(self, tag: str | None) -> str | None:
        """The id of the collection with this tag; NotFound."""
        if tag is None:
            return None
        own = (eq(part, value) for part, value in self._scope_fields().items())
        found = self._first(COLLECTIONS_KEPT, both(eq("tag", tag), *own))
        if found is None:
            raise NotFound("There is no such collection.", hint="Create it first.")
        identifier: str = found["id"]
        return identifier


_BLANK: Final[Record] = {
    "title": "",
    "source": "",
    "uri": None,
    "sets": [],
    "collection_id": None,
    "boost": 1.0,
    "metadata": {},
    "readers": ["*"],
    "access_malformed": False,
    "by": None,
    "run_id": None,
    "modified_at": None,
}
