"""The suite's own collections: every kind of field, key, invariant and index that there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from holdfast.core.change import Put
from holdfast.core.collection import Collection, Field, Index, Reference, Sequence, Unique
from holdfast.core.filter import Record, eq
from holdfast.core.values import Vector, vector_of

NOON: Final = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

THINGS: Final = Collection(
    "suite_things",
    (
        Field("id", "text"),
        Field("name", "text"),
        Field("note", "text", nullable=True),
        Field("count", "int"),
        Field("maybe_count", "int", nullable=True),
        Field("score", "float"),
        Field("maybe_score", "float", nullable=True),
        Field("done", "bool"),
        Field("maybe_done", "bool", nullable=True),
        Field("at", "time"),
        Field("maybe_at", "time", nullable=True),
        Field("data", "json"),
        Field("maybe_data", "json", nullable=True),
        Field("blob", "bytes"),
        Field("maybe_blob", "bytes", nullable=True),
        Field("tags", "texts"),
        Field("maybe_tags", "texts", nullable=True),
    ),
    indexes=(
        Index(("name", "count"), serves="things of a name by count"),
        Index(("maybe_at",), serves="things by instant"),
    ),
)
"""One field of every kind, nullable and not."""

PAIRS: Final = Collection(
    "suite_pairs",
    (Field("room", "text"), Field("number", "int"), Field("label", "text", nullable=True)),
    key=("room", "number"),
)
"""A composite key."""

ACCOUNTS: Final = Collection(
    "suite_accounts",
    (
        Field("id", "text"),
        Field("email", "text", nullable=True),
        Field("owner", "text"),
        Field("state", "text"),
    ),
    unique=(
        Unique("one_email", ("email",)),
        Unique("one_live_per_owner", ("owner",), where=eq("state", "live")),
    ),
)
"""A unique key, and a partial one."""

EVENTS: Final = Collection(
    "suite_events",
    (
        Field("id", "text"),
        Field("thread", "text"),
        Field("seq", "int"),
        Field("number", "int"),
        Field("body", "text"),
    ),
    unique=(Unique("one_seq", ("thread", "seq")),),
    sequences=(Sequence("seq", per=("thread",)), Sequence("number")),
)
"""Two sequences: one per thread, one for the tenant."""

PARENTS: Final = Collection("suite_parents", (Field("id", "text"), Field("name", "text")))
CHILDREN: Final = Collection(
    "suite_children",
    (Field("id", "text"), Field("parent", "text"), Field("body", "text")),
    indexes=(Index(("parent",), serves="children of a parent"),),
    references=(Reference("parent", "suite_parents", "cascade"),),
    full_text=("body",),
)
TOYS: Final = Collection(
    "suite_toys",
    (Field("id", "text"), Field("child", "text")),
    references=(Reference("child", "suite_children", "cascade"),),
)
GUARDS: Final = Collection(
    "suite_guards",
    (Field("id", "text"), Field("parent", "text", nullable=True)),
    references=(Reference("parent", "suite_parents", "restrict"),),
)
LINKS: Final = Collection(
    "suite_links",
    (Field("id", "text"), Field("parent", "text", nullable=True)),
    references=(Reference("parent", "suite_parents", "clear"),),
)

NODES: Final = Collection(
    "suite_nodes",
    (Field("id", "text"), Field("parent", "text", nullable=True)),
    references=(Reference("parent", "suite_nodes", "cascade"),),
)
"""Records that refer to their own kind."""

NOTES: Final = Collection(
    "suite_notes",
    (
        Field("id", "text"),
        Field("topic", "text"),
        Field("day", "int"),
        Field("title", "text", nullable=True),
        Field("body", "text"),
        Field("expires_at", "time", nullable=True),
    ),
    indexes=(Index(("topic", "day"), serves="notes of a topic by day"),),
    full_text=("title", "body"),
    vectors=("embedding",),
    filtered=("title",),
    included=("topic", "day", "expires_at"),
    ttl="expires_at",
)
"""Keyword search, vector search and expiry."""

JOBS: Final = Collection(
    "suite_jobs",
    (
        Field("id", "text"),
        Field("state", "text"),
        Field("priority", "int"),
        Field("worker", "text", nullable=True),
        Field("tries", "int"),
    ),
    indexes=(Index(("state", "priority"), serves="claim of waiting jobs"),),
)
"""What is claimed."""

LEDGER: Final = Collection(
    "suite_ledger",
    (
        Field("id", "text"),
        Field("kind", "text"),
        Field("n", "int", nullable=True),
        Field("slot", "text", nullable=True),
        Field("tags", "texts"),
        Field("body", "text"),
        Field("seq", "int"),
    ),
    unique=(Unique("one_slot", ("kind", "slot")),),
    indexes=(Index(("kind", "n"), serves="ledger lines of a kind by n"),),
    sequences=(Sequence("seq", per=("kind",)),),
    full_text=("body",),
)
"""What the state machine writes."""

EDITION_1: Final = Collection(
    "suite_editions", (Field("id", "text"), Field("body", "text")), version=1
)
EDITION_2: Final = Collection(
    "suite_editions",
    (
        Field("id", "text"),
        Field("body", "text"),
        Field("label", "text", default="plain"),
        Field("weight", "float", default=1.5),
        Field("code", "text", nullable=True),
        Field("tags", "texts", default=[]),
    ),
    unique=(Unique("one_code", ("code",)),),
    indexes=(Index(("label",), serves="editions by label"),),
    version=2,
)
"""The same collection, one edition later."""

EDITION_2_STRICT: Final = Collection(
    "suite_editions",
    (
        Field("id", "text"),
        Field("body", "text"),
        Field("label", "text", default="plain"),
    ),
    unique=(Unique("one_body", ("label", "body")),),
    version=2,
)
"""Another next edition, which records with one body do not fit."""

SHAPES: Final = (
    THINGS,
    PAIRS,
    ACCOUNTS,
    EVENTS,
    PARENTS,
    CHILDREN,
    TOYS,
    GUARDS,
    LINKS,
    NODES,
    NOTES,
    JOBS,
    LEDGER,
)


def thing(id: str, **fields: Any) -> Record:
    """A whole record of THINGS: as given, else plain values, else null."""
    plain: Record = {
        "id": id,
        "name": "n",
        "note": None,
        "count": 0,
        "maybe_count": None,
        "score": 0.0,
        "maybe_score": None,
        "done": False,
        "maybe_done": None,
        "at": NOON,
        "maybe_at": None,
        "data": {},
        "maybe_data": None,
        "blob": b"",
        "maybe_blob": None,
        "tags": [],
        "maybe_tags": None,
    }
    return {**plain, **fields}


def note(id: str, body: str = "", **fields: Any) -> Record:
    """A whole record of NOTES."""
    plain: Record = {
        "id": id,
        "topic": "t",
        "day": 0,
        "title": None,
        "body": body,
        "expires_at": None,
        "embedding": None,
    }
    return {**plain, **fields}


def job(id: str, priority: int = 0, state: str = "waiting") -> Record:
    """A whole record of JOBS."""
    return {"id": id, "state": state, "priority": priority, "worker": None, "tries": 0}


def account(
    id: str, owner: str = "o", *, state: str = "closed", email: str | None = None
) -> Record:
    """A whole record of ACCOUNTS."""
    return {"id": id, "owner": owner, "state": state, "email": email}


def event(id: str, thread: str = "t") -> Record:
    """A record of EVENTS that the engine is to number."""
    return {"id": id, "thread": thread, "seq": None, "number": None, "body": id}


def vector(*numbers: float, space: str = "s1") -> Vector:
    """A vector of these numbers."""
    return vector_of("vector", space, list(numbers))


def put(collection: Collection, record: Record) -> Put:
    """Write a record of a collection."""
    return Put(collection.name, record)
