"""The contract between stores and engines.

Behaviour, one sentence each; every sentence is the name of a test in the conformance suite.

B01. setup creates what is missing and changes nothing when repeated.
B02. setup by several openers at once succeeds for each and happens once.
B03. setup refuses a store of a newer edition and writes nothing.
B04. setup brings a store of an older edition up and keeps its records.
B05. get returns the record as stored, or None.
B06. get gives every kind of value back as it was put.
B07. apply does all of its changes or none.
B08. apply does its changes in order, and later ones see earlier ones.
B09. apply counts a record's revisions from 1 and up by one.
B10. apply refuses a change whose condition does not hold, and says Conflict.
B11. apply refuses to patch a missing record, and says NotFound.
B12. apply refuses a second record with the same unique key, and names the key.
B13. apply keeps partial unique keys only among the records they select.
B14. apply numbers sequence fields without gap or reuse, also under concurrent writers.
B15. apply edits fields by set, default, increment, maximum, minimum, append, merge and scale.
B16. apply claims each record for one caller only, in the asked order.
B17. apply follows references: cascade, restrict and clear.
B18. apply with an operation id happens once, and a repeat returns the first outcome.
B19. apply with a used operation id and another body says IdempotencyMismatch.
B20. apply is durable when it returns.
B21. query returns exactly what the filter's own truth selects.
B22. query sorts by the order, nulls first, ties by key.
B23. query pages meet every record exactly once.
B24. query with limit 0 returns nothing.
B25. aggregate agrees with counting the records one by one.
B26. search scores text by the stated BM25, best first, ties by key.
B27. search scores vectors by cosine, best first, ties by key.
B28. search filters before the limit, and k means k.
B29. search finds what was just written and never what was just deleted or changed.
B30. search never mixes embedding spaces or widths.
B31. feed returns every change in commit order, once, from where the follower stands.
B32. feed costs nothing and keeps nothing while nobody follows.
B33. a tenant sees, changes, counts and collides with its own records only.
B34. an unoffered capability is refused with Unsupported, naming it.
B35. backup taken during writes opens as a whole store.
B36. health answers without raising.
B37. close may be repeated, and every later call says Closed.
B38. a group's writes are durable when the group ends, and fail one by one.
B39. hostile text, JSON, numbers and vectors are refused before anything is written.
B40. maintain sweeps expired records, and only those.
B41. setup without create changes nothing, and says Unavailable where something is missing.
B42. query and search with fields give these and those of key and order alone; query the revision.
B43. a value of a subclass is kept, found and given back as the plain value that it says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal

import msgspec

from holdfast.core.capabilities import Capabilities
from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.errors import Unavailable, Unsupported
from holdfast.core.filter import Record
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, Search

Task = Literal["sweep", "analyze", "vacuum", "reindex", "integrity", "follow", "unfollow", "trim"]


class FeedEntry(msgspec.Struct, frozen=True):
    """One record's change: the record as it became, or None when it was deleted."""

    position: int
    tenant: str
    collection: str
    key: tuple[Any, ...]
    revision: int
    record: Record | None
    at: datetime
    op_id: str | None = None


class Health(msgspec.Struct, frozen=True):
    """Whether the engine answers, and facts about it; ``reason`` says why not.

    ``ready`` is false until the store was set up, and while it is being brought up.
    """

    ok: bool
    backend: str
    reason: str = ""
    facts: dict[str, Any] = {}
    ready: bool = True


class Report(msgspec.Struct, frozen=True):
    """What a maintenance task did: counts by name, and findings for a person to read."""

    task: str
    ok: bool
    counts: dict[str, int] = {}
    findings: list[str] = []


class Patience(msgspec.Struct, frozen=True):
    """When an engine's server is not asked any more: after ``failures`` in a row, for ``seconds``.

    A failure is an error with `errors.UNANSWERED` in its context, or an UnknownOutcome.
    """

    failures: int = 5
    seconds: float = 60.0


class Driver(ABC):
    """An engine: values in, records out. Users never call it; stores call nothing else.

    Values arrive checked (`layers.check` stands above every engine), so an engine need not
    repeat checks. Every method is thread-safe and raises only errors of `core.errors`.
    """

    name: str
    capabilities: Capabilities
    patience: Patience | None = None
    """None for an engine that asks no server, and so always answers."""

    @abstractmethod
    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        """Make the store fit for these collections. SchemaNewer, Corrupt, Busy.

        Without ``create``, only make them known: Unavailable when the store is not fit for them.
        """

    @abstractmethod
    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        """The record with this key, or None."""

    @abstractmethod
    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        """Do all changes in order, durably, or none. Conflict, NotFound, IdempotencyMismatch.

        ``op_id`` makes a repeat return the first outcome. ``op_body`` is what a repeat must
        have in common with the first call; without it, that is the changes themselves. Stores
        pass the caller's arguments, because a repeat mints other ids and times.
        """

    @abstractmethod
    def query(self, tenant: Tenant, query: Query) -> Rows:
        """A page of records."""

    @abstractmethod
    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        """One row per group, with the group's values and measures by name.

        A field group keeps its field's name, a Bucket is named ``Bucket.name``.
        """

    @abstractmethod
    def search(self, tenant: str, search: Search) -> Hits:
        """The best records of each leg."""

    @abstractmethod
    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        """Changes after a position, for a follower that `maintain("follow")` registered.

        Positions rise with commit order and are never reused. Entries that every follower has
        passed are dropped by `maintain("trim")`.
        """

    @abstractmethod
    def maintain(self, task: Task, **options: Any) -> Report:
        """Run a maintenance task.

        ``sweep(now, limit)`` deletes records whose ttl field is before ``now``, the longest
        expired first; ``limit`` counts for each tenant and collection;
        ``follow(follower)`` and ``unfollow(follower)`` start and stop a feed;
        ``trim(follower, position)`` says how far a follower is;
        ``integrity`` verifies what is stored, and finds what no store can build (`record_type`);
        ``analyze``, ``vacuum``, ``reindex`` keep it fast.
        """

    @abstractmethod
    def backup(self, target: str) -> Report:
        """Write a consistent copy to ``target`` while others write."""

    @abstractmethod
    def health(self) -> Health:
        """Never raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything; may be repeated."""

    @property
    def closed(self) -> bool:
        """Whether calls say Closed; told by `layers.check`, which stands above every engine."""
        return False

    def native(self) -> Any:
        """The engine's own client, for what the contract does not say; Unsupported without one.

        For people, never for our code. What it changes, holdfast does not check.
        """
        raise Unsupported(f"The {self.name} backend has no client of its own.")

    @abstractmethod
    def group(self) -> AbstractContextManager[None]:
        """Let the calling thread's applies share one commit.

        They are durable when the block ends without an error; until then no result may be
        released to anyone. Each apply still succeeds or fails alone. The block does no slow work.
        """


def not_set_up() -> Unavailable:
    """What `setup` without ``create`` raises where it would have to change something."""
    return Unavailable(
        "The store has not been set up for this version of holdfast.",
        hint="Open it once with setup=True.",
    )
