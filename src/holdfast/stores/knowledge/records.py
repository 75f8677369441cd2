"""What the knowledge store keeps: documents, their chunks, and the small collections beside."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Unique
from holdfast.core.filter import eq, not_null
from holdfast.stores.knowledge.access import Access, access_of

Slot = Literal["embedding", "embedding_other"]
SLOTS: Final[tuple[Slot, Slot]] = ("embedding", "embedding_other")
"""Vector fields: one serves while the other is built by a re-embedding."""
CARRIED: Final = (
    "title",
    "source",
    "sets",
    "collection_id",
    "boost",
    "readers",
    "agent",
    "user",
    "namespace",
)
"""Fields of a document that its chunks carry too, so that a search filters and weighs by them."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text that was taken in as a whole, and is found by its chunks."""

    id: str
    title: str = ""
    source: str = ""
    """The system, folder or connector that it comes from."""
    uri: str | None = None
    """Where the original is."""
    sets: list[str] = []
    """Named groups of documents that a search can be narrowed to."""
    collection_id: str | None = None
    """The collection whose grants a reader needs beside ``readers``."""
    boost: float = 1.0
    """Factor of its chunks' scores; 0 puts them last."""
    metadata: dict[str, Any] = {}
    readers: list[str] = []
    """Words for whom it admits; ``access`` says the same."""
    access_malformed: bool = False
    """Its access list made no sense, so that it is locked."""
    by: str | None = None
    """Who brought it."""
    run_id: str | None = None
    """The ingest run that brought it."""
    modified_at: datetime | None = None
    """When the original was changed last."""
    content_hash: str
    """SHA-256 of the content and of the sizes it was cut by."""
    characters: int
    chunks: int
    ingested_at: datetime
    """When its content was taken in last."""
    created_at: datetime
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0

    @property
    def access(self) -> Access:
        """Whom it admits."""
        return access_of(self.readers)

    @property
    def locked(self) -> bool:
        """Whether it admits nobody."""
        return not self.readers


DOCUMENTS = Collection.of(
    Document,
    "knowledge_documents",
    indexes=(Index(("source", "id"), serves="documents of a source, by id"),),
)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a document: what a search finds."""

    document_id: str
    number: int
    """From 0, in the order of the text."""
    text: str
    start: int
    """Where it begins in the content, in characters."""
    end: int
    title: str = ""
    source: str = ""
    sets: list[str] = []
    collection_id: str | None = None
    boost: float = 1.0
    readers: list[str] = []
    space: str | None = None
    """The embedding space of its vector; None while it has none."""
    other_space: str | None = None
    repair_at: datetime | None = None
    """When its missing vector is to be made; while someone does so, when their lease ends."""
    repair_token: str | None = None
    repair_attempts: int = 0
    repair_error: str | None = None
    """The code of the last failure."""
    repair_parked: bool = False
    agent: str
    user: str
    namespace: str
    revision: int = 0

    @property
    def id(self) -> str:
        """``document#number``, the same after every ingest."""
        return f"{self.document_id}#{self.number}"


CHUNKS = Collection.of(
    Chunk,
    "knowledge_chunks",
    key=("document_id", "number"),
    indexes=(
        Index(("source",), serves="deleting the chunks of a source"),
        Index(("repair_at",), serves="repair queue, oldest due first", where=not_null("repair_at")),
    ),
    references=(Reference("document_id", DOCUMENTS.name, "cascade"),),
    full_text=("text", "title"),
    vectors=SLOTS,
)


class KnowledgeSpace(msgspec.Struct, frozen=True, kw_only=True):
    """An embedding space that the tenant's knowledge lives in."""

    id: str
    state: Literal["active", "building", "retired"]
    slot: Slot
    created_at: datetime
    updated_at: datetime
    revision: int = 0


SPACES = Collection.of(
    KnowledgeSpace,
    "knowledge_spaces",
    unique=(
        Unique("active", ("state",), eq("state", "active")),
        Unique("building", ("state",), eq("state", "building")),
    ),
)

RunStatus = Literal["running", "succeeded", "failed"]


class IngestRun(msgspec.Struct, frozen=True, kw_only=True):
    """One passage over a source."""

    id: str
    source: str
    status: RunStatus
    cursor: str | None
    """How far in its source it came; cursors compare as text."""
    counts: dict[str, int]
    """What became of the items, by name."""
    error: str | None
    started_at: datetime
    finished_at: datetime | None
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


RUNS = Collection.of(
    IngestRun,
    "knowledge_runs",
    indexes=(
        Index(("source", "started_at", "id"), serves="runs of a source, oldest first"),
        Index(("source", "cursor"), serves="where to go on", where=eq("status", "succeeded")),
    ),
)


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What was last seen of one item of a source, and what became of it."""

    source: str
    item: str
    """Its name in the source, such as a path."""
    fingerprint: str
    """Equal as long as the item is unchanged, such as a hash of its bytes."""
    document_id: str | None
    """The document made of it; None when none could be made."""
    error: str | None
    run_id: str | None
    seen_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


LEDGER = Collection.of(
    LedgerEntry,
    "knowledge_ledger",
    key=("agent", "user", "namespace", "source", "item"),
    indexes=(
        Index(
            ("document_id",),
            serves="what a deleted document was made of",
            where=not_null("document_id"),
        ),
        Index(("source", "item"), serves="items of a source, by name"),
    ),
)


class KnowledgeCollection(msgspec.Struct, frozen=True, kw_only=True):
    """Documents that are shared by grants."""

    id: str
    tag: str
    """Its name in one spelling, unique in its scope."""
    title: str
    created_by: str
    owners: int
    """How many may grant; never none."""
    created_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


COLLECTIONS_KEPT = Collection.of(
    KnowledgeCollection,
    "knowledge_collections",
    unique=(Unique("tag", ("agent", "user", "namespace", "tag")),),
)

Right = Literal["read", "write", "owner"]


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody may do with a collection; each right includes those before it."""

    collection_id: str
    grantee: str
    """A user, or "*" for everybody."""
    right: Right
    granted_by: str
    created_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


GRANTS = Collection.of(
    Grant,
    "knowledge_grants",
    key=("collection_id", "grantee"),
    indexes=(Index(("grantee",), serves="what somebody may read"),),
    references=(Reference("collection_id", COLLECTIONS_KEPT.name, "cascade"),),
)


class LibraryItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that one agent learnt and shares with the others.

    It belongs to the bound user and namespace, and not to one agent.
    """

    id: str
    title: str
    content: str
    category: str
    confidence: float
    endorsements: int
    """How many agents stand by it."""
    publisher: str
    """The agent that shares it."""
    source: str | None
    """Where the publisher has it from."""
    source_id: str | None
    """The memory, document or message that it was made of."""
    tags: list[str]
    space: str | None = None
    other_space: str | None = None
    repair_at: datetime | None = None
    """As with chunks: when its missing vector is to be made."""
    repair_token: str | None = None
    repair_attempts: int = 0
    repair_error: str | None = None
    repair_parked: bool = False
    created_at: datetime
    updated_at: datetime
    user: str
    namespace: str
    revision: int = 0


LIBRARY = Collection.of(
    LibraryItem,
    "knowledge_library",
    indexes=(
        Index(("confidence",), serves="list, the most certain first"),
        Index(("category", "confidence"), serves="list of a category, the most certain first"),
        Index(("repair_at",), serves="repair queue, oldest due first", where=not_null("repair_at")),
    ),
    full_text=("content", "title"),
    vectors=SLOTS,
)


class Endorsement(msgspec.Struct, frozen=True, kw_only=True):
    """An agent stands by an item."""

    item_id: str
    endorser: str
    at: datetime
    user: str
    namespace: str
    revision: int = 0


ENDORSEMENTS = Collection.of(
    Endorsement,
    "knowledge_endorsements",
    key=("item_id", "endorser"),
    references=(Reference("item_id", LIBRARY.name, "cascade"),),
)


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """How a source is reached. Secrets are not in it, only where they are kept."""

    id: str
    name: str
    kind: str
    settings: dict[str, Any]
    secrets: dict[str, str]
    """Name -> where the value is, such as ``env:WIKI_TOKEN``."""
    enabled: bool
    created_at: datetime
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


CONNECTORS = Collection.of(
    Connector,
    "knowledge_connectors",
    indexes=(Index(("name", "id"), serves="list by name"),),
)

COLLECTIONS: Final = (
    SPACES,
    COLLECTIONS_KEPT,
    GRANTS,
    DOCUMENTS,
    CHUNKS,
    RUNS,
    LEDGER,
    LIBRARY,
    ENDORSEMENTS,
    CONNECTORS,
)
