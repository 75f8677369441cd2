"""Knowledge: `Knowledge`, what it keeps, and what a search of it answers."""

from typing import TYPE_CHECKING

from holdfast.core.lazy import attributes_of

if TYPE_CHECKING:
    from holdfast.stores.knowledge.access import Access
    from holdfast.stores.knowledge.found import Findings, Found
    from holdfast.stores.knowledge.ingest import Ingested
    from holdfast.stores.knowledge.knowledge import Knowledge
    from holdfast.stores.knowledge.policy import KnowledgePolicy
    from holdfast.stores.knowledge.reading import KnowledgeReader
    from holdfast.stores.knowledge.records import Chunk, Document

__all__ = [
    "Access",
    "Chunk",
    "Document",
    "Findings",
    "Found",
    "Ingested",
    "Knowledge",
    "KnowledgePolicy",
    "KnowledgeReader",
]

__getattr__ = attributes_of(
    __name__,
    {
        "Access": "access",
        "Chunk": "records",
        "Document": "records",
        "Findings": "found",
        "Found": "found",
        "Ingested": "ingest",
        "Knowledge": "knowledge",
        "KnowledgePolicy": "policy",
        "KnowledgeReader": "reading",
    },
)
