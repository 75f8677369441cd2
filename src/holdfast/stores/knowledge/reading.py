"""Reading knowledge: documents, their text, and what in them answers a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from holdfast.core.collection import Collection
from holdfast.core.errors import NotFound
from holdfast.core.filter import Filter, InSelect, both, eq, is_null
from holdfast.core.query import Aggregate, asc
from holdfast.stores.knowledge.fields import (
    check_name,
    metadata_filters,
    named_any,
    normal_tag,
    one_among,
)
from holdfast.stores.knowledge.found import Findings
from holdfast.stores.knowledge.hybrid import Fusion, Mode, Searching, wish
from holdfast.stores.knowledge.records import (
    CHUNKS,
    COLLECTIONS_KEPT,
    DOCUMENTS,
    Chunk,
    Document,
)
from holdfast.stores.store import Page, builder


class KnowledgeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many documents, and how many chunks of theirs."""

    documents: int
    chunks: int


_document = builder(Document)
_chunk = builder(Chunk)


class KnowledgeReader(Searching):
    """Knowledge as one reader sees it: what does not admit them is not there."""

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion = "rrf",
        sets: Sequence[str] = (),
        sources: Sequence[str] = (),
        documents: Sequence[str] = (),
        collection: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        rerank: bool = True,
        explain: bool = False,
    ) -> Findings[Chunk]:
        """The ``limit`` (0 to 250) best chunks, ties by document id, then number.

        Lists mean any of their values; all that is given must hold, as must what the reader may
        see, before any limit of either leg. ``metadata`` holds paths with dots and the scalar of
        the document that each must equal. ``fusion`` "rrf" adds reciprocal ranks, "convex" the
        legs' scores on one scale. With a reranker, the first ``4 * limit`` are read again.
        """
        asked = wish(query, limit, mode, fusion, rerank=rerank, explain=explain)
        where = self._narrowed(CHUNKS, sets, sources, collection, metadata)
        return self._find(
            CHUNKS, Chunk, both(where, one_among("document_id", "documents", documents)), asked
        )

    def get(self, document_id: str) -> Document | None:
        """The document, or None: alike for one that is missing and one not to be seen."""
        mine = eq("id", check_name("document_id", document_id))
        found = self._first(DOCUMENTS, mine, self._readable())
        return None if found is None else _document(found)

    def text(self, document_id: str) -> str:
        """The document's content as it was taken in. NotFound."""
        name, pieces, end = check_name("document_id", document_id), [], 0
        where = both(eq("document_id", name), self._readable())
        for row in self._all(CHUNKS, where, order=asc("number")):
            pieces.append(row["text"][end - row["start"] :])
            end = row["end"]
        if not pieces:
            raise NotFound("There is no such document.")
        return "".join(pieces)

    def chunks(
        self, document_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Chunk]:
        """The document's chunks by number; none for one that is missing. Limit 1 to 1000."""
        mine = eq("document_id", check_name("document_id", document_id))
        return self._page(
            CHUNKS,
            _chunk,
            mine,
            self._readable(),
            order=asc("number"),
            limit=limit,
            cursor=cursor,
        )

    def list(
        self,
        *,
        sets: Sequence[str] = (),
        sources: Sequence[str] = (),
        collection: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Document]:
        """Documents by id; lists mean any of their values. Limit 1 to 1000."""
        where = self._narrowed(DOCUMENTS, sets, sources, collection, metadata)
        return self._page(DOCUMENTS, _document, where, order=asc("id"), limit=limit, cursor=cursor)

    def counts(
        self,
        *,
        sets: Sequence[str] = (),
        sources: Sequence[str] = (),
        collection: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> KnowledgeCounts:
        """How many documents and chunks there are."""
        figures = []
        for shape in (DOCUMENTS, CHUNKS):
            where = self._narrowed(shape, sets, sources, collection, metadata)
            aggregate = Aggregate(collection=shape.name, filter=where)
            figures.append(self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"])
        return KnowledgeCounts(documents=figures[0], chunks=figures[1])

    def _narrowed(
        self, shape: Collection, sets: object, sources: object, collection: object, metadata: object
    ) -> Filter:
        """What is asked for and may be seen, over documents or over their chunks."""
        asked = metadata_filters(metadata)
        by_metadata = both(*asked) if asked else None
        if by_metadata is not None and shape is CHUNKS:
            of_documents = self._within(DOCUMENTS, by_metadata)
            by_metadata = InSelect("document_id", DOCUMENTS.name, "id", of_documents)
        return self._within(
            shape,
            self._readable(),
            named_any("sets", "sets", sets),
            one_among("source", "sources", sources),
            None if collection is None else self._in_collection(collection),
            by_metadata,
        )

    def _in_collection(self, tag: object) -> Filter:
        """In the collection of this tag; in none at all for one that is not there."""
        kept = self._within(COLLECTIONS_KEPT, eq("tag", normal_tag(tag)))
        found = InSelect("collection_id", COLLECTIONS_KEPT.name, "id", kept)
        return both(~is_null("collection_id"), found)
