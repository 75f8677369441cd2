"""Knowledge: `Knowledge`, what it keeps, and what a search of it answers."""

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
