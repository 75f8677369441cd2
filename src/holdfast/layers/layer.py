"""The layer that changes nothing: every other one overrides only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from holdfast.core.capabilities import Capabilities
from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task
from holdfast.core.filter import Record
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, Search


class Layer(Driver):
    """Forwards every verb, the name and the capabilities to the driver below."""

    def __init__(self, below: Driver) -> None:
        self.below = below
        self.name = below.name
        self.capabilities = self.offers(below.capabilities)

    def offers(self, below: Capabilities) -> Capabilities:
        """What is offered above this layer, given what is offered below it."""
        return below

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self.below.setup(collections, create=create)
        # What an engine offers may depend on what it found in its store.
        self.capabilities = self.offers(self.below.capabilities)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        return self.below.get(tenant, collection, key, vectors=vectors)

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return self.below.apply(tenant, changes, op_id=op_id, op_body=op_body)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return self.below.query(tenant, query)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        return self.below.aggregate(tenant, aggregate)

    def search(self, tenant: str, search: Search) -> Hits:
        return self.below.search(tenant, search)

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        return self.below.feed(follower, after=after, limit=limit)

    def maintain(self, task: Task, **options: Any) -> Report:
        return self.below.maintain(task, **options)

    def backup(self, target: str) -> Report:
        return self.below.backup(target)

    def health(self) -> Health:
        return self.below.health()

    def close(self) -> None:
        self.below.close()

    @property
    def closed(self) -> bool:
        return self.below.closed

    def native(self) -> Any:
        return self.below.native()

    def group(self) -> AbstractContextManager[None]:
        return self.below.group()
