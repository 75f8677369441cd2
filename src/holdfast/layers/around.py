"""The layer for what concerns every call alike: each verb goes through one method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.driver import FeedEntry, Report, Task
from holdfast.core.filter import Record
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, Search
from holdfast.layers.layer import Layer

T = TypeVar("T")


class Around(Layer):
    """Does the same around every call that asks the store below; health and close go past it."""

    @abstractmethod
    def around(
        self,
        verb: str,
        collections: Iterable[object],
        call: Callable[[], T],
        count: Callable[[T], int],
    ) -> T:
        """Make the call, and give what it gives.

        ``collections`` are the names that the caller used, unchecked; ``count`` says how many
        records the answer holds.
        """

    @abstractmethod
    def around_group(self, group: AbstractContextManager[None]) -> AbstractContextManager[None]:
        """The group, with the same around it."""

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        def call() -> None:
            super(Around, self).setup(collections, create=create)

        self.around("setup", (), call, _none)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        return self.around(
            "get",
            (collection,),
            lambda: self.below.get(tenant, collection, key, vectors=vectors),
            lambda record: 0 if record is None else 1,
        )

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        return self.around(
            "apply",
            (getattr(change, "collection", None) for change in _items(changes)),
            lambda: self.below.apply(tenant, changes, op_id=op_id, op_body=op_body),
            len,
        )

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return self.around(
            "query",
            (getattr(query, "collection", None),),
            lambda: self.below.query(tenant, query),
            lambda rows: len(rows.records),
        )

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        return self.around(
            "aggregate",
            (getattr(aggregate, "collection", None),),
            lambda: self.below.aggregate(tenant, aggregate),
            len,
        )

    def search(self, tenant: str, search: Search) -> Hits:
        return self.around(
            "search",
            (getattr(search, "collection", None),),
            lambda: self.below.search(tenant, search),
            lambda hits: len(hits.records),
        )

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        return self.around(
            "feed", (), lambda: self.below.feed(follower, after=after, limit=limit), len
        )

    def maintain(self, task: Task, **options: Any) -> Report:
        return self.around("maintain", (), lambda: self.below.maintain(task, **options), _none)

    def backup(self, target: str) -> Report:
        return self.around("backup", (), lambda: self.below.backup(target), _none)

    def group(self) -> AbstractContextManager[None]:
        return self.around_group(self.below.group())


def _none(_: object) -> int:
    return 0


def _items(changes: object) -> Sequence[Any]:
    return changes if isinstance(changes, list | tuple) else ()
