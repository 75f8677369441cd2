"""The layer that tells a sink of every call. Without a sink it is not stacked and costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any, TypeVar

import msgspec

from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task
from holdfast.core.errors import HoldfastError
from holdfast.core.filter import Record
from holdfast.core.observe import Operation, Sink
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, Search
from holdfast.layers.layer import Layer

T = TypeVar("T")


class Observed(Layer):
    """Tells the sink of each verb's count, time and error code. Stands above the checks.

    ``now`` reads seconds from a clock that never goes back.
    """

    def __init__(self, below: Driver, sink: Sink, now: Callable[[], float] = perf_counter) -> None:
        super().__init__(below)
        self._sink = sink
        self._now = now
        self._known: set[str] = set()
        self._failures = 0

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self._seen("setup", (), lambda: super(Observed, self).setup(collections, create=create))
        self._known.update(c.name for c in collections)

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        return self._seen(
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
        return self._seen(
            "apply",
            (getattr(change, "collection", None) for change in _items(changes)),
            lambda: self.below.apply(tenant, changes, op_id=op_id, op_body=op_body),
            len,
        )

    def query(self, tenant: Tenant, query: Query) -> Rows:
        return self._seen(
            "query",
            (getattr(query, "collection", None),),
            lambda: self.below.query(tenant, query),
            lambda rows: len(rows.records),
        )

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        return self._seen(
            "aggregate",
            (getattr(aggregate, "collection", None),),
            lambda: self.below.aggregate(tenant, aggregate),
            len,
        )

    def search(self, tenant: str, search: Search) -> Hits:
        return self._seen(
            "search",
            (getattr(search, "collection", None),),
            lambda: self.below.search(tenant, search),
            lambda hits: len(hits.records),
        )

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        return self._seen(
            "feed", (), lambda: self.below.feed(follower, after=after, limit=limit), len
        )

    def maintain(self, task: Task, **options: Any) -> Report:
        return self._seen("maintain", (), lambda: self.below.maintain(task, **options))

    def backup(self, target: str) -> Report:
        return self._seen("backup", (), lambda: self.below.backup(target))

    def group(self) -> AbstractContextManager[None]:
        return self._seen_group(self.below.group())

    def health(self) -> Health:
        health = self.below.health()
        if not self._failures:
            return health
        facts = {**health.facts, "sink_failures": self._failures}
        return msgspec.structs.replace(health, facts=facts)

    @contextmanager
    def _seen_group(self, group: AbstractContextManager[None]) -> Iterator[None]:
        began = self._now()
        try:
            with group:
                yield
        except BaseException as error:
            self._tell("group", (), 0, began, _code(error))
            raise
        self._tell("group", (), 0, began, "")

    def _seen(
        self,
        verb: str,
        collections: Iterable[object],
        call: Callable[[], T],
        count: Callable[[T], int] = lambda _: 0,
    ) -> T:
        began = self._now()
        try:
            answer = call()
        except BaseException as error:
            self._tell(verb, collections, 0, began, _code(error))
            raise
        self._tell(verb, collections, count(answer), began, "")
        return answer

    def _tell(
        self, verb: str, collections: Iterable[object], count: int, began: float, error: str
    ) -> None:
        seconds = self._now() - began
        # A name that was never set up is the caller's text, and may be anything.
        known = {c for c in collections if isinstance(c, str) and c in self._known}
        try:
            self._sink.operation(Operation(verb, tuple(sorted(known)), count, seconds, error))
        except Exception:  # noqa: BLE001 - whatever the sink does, the call has happened
            self._failures += 1


def _items(changes: object) -> Sequence[Any]:
    return changes if isinstance(changes, list | tuple) else ()


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, HoldfastError) else "interrupted"
