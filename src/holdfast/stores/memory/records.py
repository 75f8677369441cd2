"""What semantic memory keeps: the memory itself and the small collections beside it."""

import zlib
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from holdfast.core.collection import Collection, Index, Reference, Unique
from holdfast.core.filter import Record, both, eq, is_null, not_null
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.values import Vector

Tier = Literal["working", "episodic", "semantic", "procedural"]
TIERS: Final[tuple[Tier, ...]] = ("working", "episodic", "semantic", "procedural")
SHORT_TERM: Final[tuple[Tier, ...]] = ("working", "episodic")

SIGNIFICANCES: Final[dict[str, float]] = {
    "routine": 0.30,
    "noteworthy": 0.55,
    "important": 0.90,
    "core": 0.95,
}
"""How much a memory matters, and the salience by which retention weighs it."""

_KIND_WORDS: Final = (
    "fact preference event episode identity relationship goal task skill procedure rule insight "
    "lesson reflection observation decision conversation message note summary profile knowledge "
    "context pattern belief emotion error tool feedback correction instruction question"
)
KINDS: Final = frozenset(_KIND_WORDS.split())
"""Well-known kinds. Any other text is a kind too; these are refused in another spelling."""

Slot = Literal["embedding", "embedding_other"]
SLOTS: Final[tuple[Slot, Slot]] = ("embedding", "embedding_other")
"""Vector fields: one serves while the other is built by a re-embedding."""


class Memory(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing remembered. Text fields that say nothing are None, or "" where filters need one."""

    id: str
    agent: str
    user: str
    namespace: str
    content: str
    lexical: str = ""
    """What the text leg indexes besides the content, such as the words of its date."""
    kind: str = "fact"
    type: str = ""
    """The writer's own class, free text."""
    tier: str = "semantic"
    level: int = 0
    """0 as it was said; higher ones are condensed from lower ones."""
    tags: list[str] = []
    source: str | None = None
    """Where it comes from; never changed after writing, nor is ``trust``."""
    trust: int = 2
    """0 untrusted, 1 a tool's, 2 the user's, 3 the operator's."""
    role: str | None = None
    speaker: str | None = None
    session: str | None = None
    turn: int | None = None
    said_at: datetime | None = None
    confidence: float = 0.4
    importance: float = 0.5
    significance: str = "routine"
    valence: float | None = None
    """-1 unpleasant to 1 pleasant."""
    arousal: float | None = None
    """0 calm to 1 excited."""
    mood: str | None = None
    reflection: str | None = None
    lesson: str | None = None
    happened_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    """When it stopped being true; not included."""
    expires_at: datetime | None = None
    ttl_seconds: float | None = None
    access_count: int = 0
    last_accessed_at: datetime | None = None
    window_started_at: datetime | None = None
    """Start of the day in which ``window_count`` accesses fell; promotion reads them."""
    window_count: int = 0
    pinned: bool = False
    pinned_at: datetime | None = None
    pinned_by: str | None = None
    is_unique: bool = True
    similar_to: str | None = None
    """The near duplicate that was there when this was written, with ``is_unique`` False."""
    fingerprint: str = ""
    """SHA-256 of the normalised content, in hex."""
    place: str = ""
    """Session and turn, by which neighbours are found; "" for what is no turn."""
    metadata: dict[str, Any] = {}
    space: str | None = None
    """The embedding space of its vector; None while it has none."""
    other_space: str | None = None
    """The space that its vector in the other slot is of, while memories are being moved to it."""
    repair_at: datetime | None = None
    """When its missing vector is to be made; while someone does so, when their lease ends."""
    repair_token: str | None = None
    repair_attempts: int = 0
    repair_error: str | None = None
    """The code of the last failure."""
    repair_parked: bool = False
    forgotten_at: datetime | None = None
    superseded_by: str | None = None
    contradicted_by: str | None = None
    corroborated_at: datetime | None = None
    decayed_at: datetime | None = None
    quarantined_at: datetime | None = None
    archived_at: datetime | None = None
    created_at: datetime
    updated_at: datetime
    revision: int = 0


LIVE_KEY = both(is_null("forgotten_at"), is_null("valid_to"))
"""What content is unique among. A closed interval may repeat, so rows with an end are free."""

MEMORIES = Collection.of(
    Memory,
    "memories",
    unique=(Unique("content", ("agent", "user", "namespace", "fingerprint", "place"), LIVE_KEY),),
    indexes=(
        Index(("agent", "user", "namespace", "created_at"), serves="list newest or oldest first"),
        Index(("place",), serves="turns next to a hit", where=not_null("session")),
        Index(("expires_at",), serves="sweep, oldest expiry first", where=not_null("expires_at")),
        Index(("repair_at",), serves="repair queue, oldest due first", where=not_null("repair_at")),
        Index(
            ("superseded_by",),
            serves="predecessors of a memory, and purge",
            where=not_null("superseded_by"),
        ),
        Index(("forgotten_at",), serves="purge of the forgotten", where=not_null("forgotten_at")),
    ),
    full_text=("content", "lexical"),
    vectors=SLOTS,
    filtered=("kind", "type", "tier", "source", "role", "speaker", "session"),
    included=(
        *("agent", "user", "namespace", "turn", "said_at", "fingerprint"),
        *("forgotten_at", "quarantined_at", "expires_at", "pinned", "valid_from", "valid_to"),
    ),
    version=3,
)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a long memory with its own vector; recall pools chunks to their memory."""

    memory_id: str
    number: int
    agent: str
    user: str
    namespace: str
    fingerprint: str
    """Of the content it was cut from."""
    start: int
    end: int
    space: str
    other_space: str | None = None
    created_at: datetime
    revision: int = 0


CHUNKS = Collection.of(
    Chunk,
    "memory_chunks",
    key=("memory_id", "number"),
    references=(Reference("memory_id", MEMORIES.name, "cascade"),),
    vectors=SLOTS,
)


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """An embedding space that the tenant's memories live in, or are being moved to."""

    id: str
    state: Literal["active", "building", "kept", "retired"]
    """"kept" is the space that a move came from, while its vectors are kept for a way back."""
    slot: Slot
    chunked: bool
    """Whether any memory has chunks, so that recall need not ask where there are none."""
    created_at: datetime
    updated_at: datetime
    revision: int = 0


SPACES = Collection.of(
    Space,
    "memory_spaces",
    unique=(
        Unique("active", ("state",), eq("state", "active")),
        Unique("building", ("state",), eq("state", "building")),
    ),
)


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """A name under which turns of a scope were said; recall cuts it from queries."""

    agent: str
    user: str
    namespace: str
    name: str
    revision: int = 0


SPEAKERS = Collection.of(Speaker, "memory_speakers", key=("agent", "user", "namespace", "name"))


class MemoryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about a memory after it was written, and by whom."""

    id: str
    memory_id: str
    agent: str
    user: str
    namespace: str
    action: str
    by: str | None
    """Who or what: a name, or the id of the memory that took its place."""
    detail: dict[str, Any]
    """Values before the change; never content."""
    at: datetime
    revision: int = 0


EVENTS = Collection.of(
    MemoryEvent,
    "memory_events",
    indexes=(Index(("memory_id", "at"), serves="the history of one memory, oldest first"),),
)


class CachedEmbedding(msgspec.Struct, frozen=True, kw_only=True):
    """A vector by what it was made from."""

    id: str
    """SHA-256 of space, kind and normalised text."""
    used_at: datetime
    revision: int = 0


EMBEDDING_CACHE = Collection.of(
    CachedEmbedding,
    "memory_embeddings",
    indexes=(Index(("used_at",), serves="dropping the least recently used"),),
    vectors=("embedding",),
)


class PackedTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A memory's tokens as a late reader packs them; derived data, deleted with the memory."""

    memory_id: str
    fingerprint: str
    """Of the content that was read."""
    form: str
    """The model and the packing."""
    tokens: bytes
    revision: int = 0


TOKENS = Collection.of(
    PackedTokens,
    "memory_tokens",
    key=("memory_id",),
    references=(Reference("memory_id", MEMORIES.name, "cascade"),),
)


class Archived(msgspec.Struct, frozen=True, kw_only=True):
    """A cold memory, whole and compressed, out of every index."""

    id: str
    agent: str
    user: str
    namespace: str
    body: bytes
    """zlib over MessagePack of the record and its vectors."""
    archived_at: datetime
    created_at: datetime
    revision: int = 0

    def __post_init__(self) -> None:
        try:
            archived_row(self.body, msgspec.structs.asdict(self))
        except UNREADABLE as error:
            raise ValueError("no packed memory, or another one - at `$.body`") from error


UNREADABLE: Final = (
    zlib.error,
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
)
"""What unpacking bytes that are no memory can raise."""


def archived_row(body: bytes, row: Record) -> Record:
    """The memory, with its vectors, that was packed into an archive row. Raises `UNREADABLE`."""
    held: Record = msgspec.msgpack.decode(zlib.decompress(body))
    fields = msgspec.structs.fields(Memory)
    named = {field.name: held[field.name] for field in fields if field.name in held}
    memory = msgspec.convert(named, Memory)
    if any(getattr(memory, name) != row[name] for name in ("id", *SCOPE_FIELDS)):
        raise ValueError("the body is of another memory")
    vectors: Record = {
        slot: None if held.get(slot) is None else msgspec.convert(held[slot], Vector)
        for slot in SLOTS
    }
    return {**msgspec.structs.asdict(memory), **vectors}


ARCHIVE = Collection.of(
    Archived,
    "memory_archive",
    indexes=(Index(("agent", "user", "namespace", "archived_at"), serves="list the archive"),),
)


class NamespaceLink(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace refers to another."""

    agent: str
    user: str
    origin: str
    target: str
    relation: str
    note: str
    created_at: datetime
    updated_at: datetime
    revision: int = 0


LINKS = Collection.of(
    NamespaceLink,
    "namespace_links",
    key=("agent", "user", "origin", "target", "relation"),
    indexes=(Index(("target",), serves="links to a namespace"),),
)

COLLECTIONS: Final = (
    SPACES,
    MEMORIES,
    CHUNKS,
    SPEAKERS,
    EVENTS,
    EMBEDDING_CACHE,
    TOKENS,
    ARCHIVE,
    LINKS,
)
