"""Knowledge: documents that are taken in whole, and found by their chunks.

Whoever holds ``storage.knowledge`` takes documents in and looks after them. What it reads is what
everybody may read; `Knowledge.for_access` reads as somebody, `Knowledge.unrestricted` as one whom
nothing is kept from. The list of whom a document admits is judged inside the query, on both legs,
before any limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from holdfast.core.change import DeleteWhere
from holdfast.core.errors import Invalid, kind_of
from holdfast.core.filter import Filter, eq
from holdfast.stores.knowledge.access import Access, words_of_reader
from holdfast.stores.knowledge.facets import Facets
from holdfast.stores.knowledge.fields import (
    DocumentFields,
    check_content,
    check_fields,
    check_name,
)
from holdfast.stores.knowledge.ingest import Ingested, Ingesting
from holdfast.stores.knowledge.policy import KnowledgePolicy
from holdfast.stores.knowledge.reading import KnowledgeCounts, KnowledgeReader
from holdfast.stores.knowledge.records import CHUNKS, COLLECTIONS, DOCUMENTS, LEDGER, Document


class Knowledge(Facets, Ingesting, KnowledgeReader):
    """The documents of the bound scope."""

    collections = COLLECTIONS

    def configured(self, policy: KnowledgePolicy) -> Knowledge:
        """This store working by other numbers."""
        if not isinstance(policy, KnowledgePolicy):
            raise Invalid("policy", expected="a KnowledgePolicy", got=kind_of(policy))
        return Knowledge(self._driver, self._scope, self._runtime, policy, self._readers)

    def for_access(self, *, user: str | None = None, groups: Sequence[str] = ()) -> KnowledgeReader:
        """Knowledge as this user and member of these groups sees it; it cannot be written to.

        Without either it is seen as by anybody of the tenant.
        """
        words = words_of_reader(user, groups)
        return KnowledgeReader(self._driver, self._scope, self._runtime, self._policy, words)

    def unrestricted(self) -> KnowledgeReader:
        """Knowledge as one sees it from whom nothing is kept, locked documents included."""
        return KnowledgeReader(self._driver, self._scope, self._runtime, self._policy, None)

    def put(self, document_id: str, content: str, **fields: Unpack[DocumentFields]) -> Ingested:
        """Take a document in, or put it in place of the one with this id.

        What is not given stays as it was. All of its chunks change together, or none; one that
        is the same as before is not written. Chunks that keep their text keep their vector, and
        those whose embedding fails are found by their words and queued for repair. With ``by``,
        that user needs the right to write in the collection that the document is in, and in the
        one that it goes to: else Forbidden.

        Conflict when another scope has the id; NotFound for an unknown collection; Invalid,
        TooLarge, DimensionMismatch for what cannot be kept.
        """
        name, text = check_name("document_id", document_id), check_content("content", content)
        stated = check_fields(fields)
        if stated.get("by") is not None:
            self._require_write(name, stated["by"], stated.get("collection"))
        if "collection" in stated:
            stated["collection_id"] = self._collection_id(stated.pop("collection"))
        return self._ingest(name, text, stated)

    def set_access(self, document_id: str, access: Access | Mapping[str, Any] | None) -> Document:
        """Say anew whom the document admits; no search that begins later goes by the old list.

        None admits all of the tenant. One that names nobody, or makes no sense, locks. NotFound.
        """
        return self._amend(check_name("document_id", document_id), check_fields({"access": access}))

    def curate(
        self,
        document_id: str,
        *,
        sets: Sequence[str] | None = None,
        boost: float | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Change in which sets the document is, its weight, its metadata; what is None stays.

        NotFound.
        """
        given = {"sets": sets, "boost": boost, "metadata": metadata}
        stated = check_fields({name: v for name, v in given.items() if v is not None})
        return self._amend(check_name("document_id", document_id), stated)

    def delete(self, document_id: str) -> KnowledgeCounts:
        """Remove the document with its chunks and vectors; how many there were.

        The ledger forgets it too, so that it is taken in anew when its source still has it.
        """
        name = check_name("document_id", document_id)
        return self._delete(eq("id", name), eq("document_id", name), eq("document_id", name))

    def delete_source(self, source: str) -> KnowledgeCounts:
        """Remove all documents of a source, as `delete` does; how many there were."""
        name = check_name("source", source)
        return self._delete(*[eq("source", name)] * 3)

    def _require_write(self, document_id: str, user: str, tag: str | None) -> None:
        """Forbidden or NotFound unless the user may write where the document is and goes to."""
        held = self._held(document_id)
        if held is not None and held.collection_id is not None:
            self.grants._require_in(held.collection_id, user, "write")
        if tag is not None:
            self.grants.require(tag, user, "write")

    def _delete(self, documents: Filter, chunks: Filter, items: Filter) -> KnowledgeCounts:
        outcomes = self._apply(
            DeleteWhere(CHUNKS.name, self._within(CHUNKS, chunks)),
            DeleteWhere(DOCUMENTS.name, self._within(DOCUMENTS, documents)),
            DeleteWhere(LEDGER.name, self._within(LEDGER, items)),
        )
        return KnowledgeCounts(documents=outcomes[1].count, chunks=outcomes[0].count)
