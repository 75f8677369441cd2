"""The check that stands above every engine: what the contract forbids never reaches one."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from holdfast.core.capabilities import Capability
from holdfast.core.change import Change, Outcome
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task
from holdfast.core.errors import Closed, ForkedConnection, Invalid, Unsupported
from holdfast.core.filter import Filter, Record
from holdfast.core.query import Aggregate, Query, Rows, full_order
from holdfast.core.scope import EVERY_TENANT, NAME_LIMIT, Tenant
from holdfast.core.search import Hits, Search
from holdfast.core.values import check_count, check_float, check_text, check_vector
from holdfast.layers.check.changes import CHANGE_LIMIT, check_changes
from holdfast.layers.check.expect import expect_list
from holdfast.layers.check.filters import check_fields, check_filter, check_order
from holdfast.layers.check.reads import K_LIMIT, check_aggregate, check_task, check_text_leg
from holdfast.layers.layer import Layer


class Checked(Layer):
    """Refuses what no engine may see.

    Closed and forked handles, undeclared names, values of the wrong kind, capabilities that the
    engine does not offer.
    """

    def __init__(self, below: Driver, collections: Mapping[str, Collection] | None = None) -> None:
        """``collections`` are those that were set up before, by name."""
        super().__init__(below)
        self._collections: dict[str, Collection] = dict(collections or {})
        self._closed = False
        self._setups = 0
        self._setups_lock = threading.Lock()
        self._process_id = os.getpid()
        # The tenant whose name was found sound last.
        self._sound: object = object()

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self._check_open()
        self._count_setups(1)
        try:
            super().setup(collections, create=create)
        finally:
            self._count_setups(-1)
        self._collections.update({c.name: c for c in collections})

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        self._check_open()
        self._check_tenant(tenant)
        key = self._collection(collection).check_key(key)
        return self.below.get(tenant, collection, key, vectors=vectors)

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        self._check_open()
        self._check_tenant(tenant)
        expect_list("changes", changes)
        if len(changes) > CHANGE_LIMIT:
            check_count("changes", len(changes), 0, CHANGE_LIMIT)
        if op_id is not None:
            op_id = check_text("op_id", op_id, NAME_LIMIT)
        checked = check_changes(changes, self._collection)
        return self.below.apply(tenant, checked, op_id=op_id, op_body=op_body)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        self._check_open()
        if tenant is not EVERY_TENANT:
            self._check_tenant(tenant)
        elif query.limit is not None or query.after is not None:
            # Two tenants may share a key, so that a position says too little to go on from.
            name = "after" if query.limit is None else "limit"
            raise Invalid(name, expected="one tenant to page through", got="every tenant")
        collection = self._collection(query.collection)
        check_order(collection, query.order)
        if query.limit is not None:
            check_count("limit", query.limit, 0, 2**31)
        where = self._filter(collection, query.filter)
        fields = check_fields(collection, query.fields)
        if where is not query.filter or fields is not query.fields:
            query = msgspec.structs.replace(query, filter=where, fields=fields)
        if query.after is not None:
            order = full_order(query.order, collection.key)
            expect_list("after", query.after)
            if len(query.after) != len(order):
                raise Invalid("after", expected=f"{len(order)} values", got=f"{len(query.after)}")
            after = tuple(
                None if value is None else collection.check_value(term.field, value)
                for value, term in zip(query.after, order, strict=True)
            )
            query = msgspec.structs.replace(query, after=after)
        return self.below.query(tenant, query)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        self._check_open()
        if tenant is not EVERY_TENANT:
            self._check_tenant(tenant)
        collection = self._collection(aggregate.collection)
        check_aggregate(collection, aggregate)
        checked = self._filter(collection, aggregate.filter)
        return self.below.aggregate(tenant, msgspec.structs.replace(aggregate, filter=checked))

    def search(self, tenant: str, search: Search) -> Hits:
        self._check_open()
        self._check_tenant(tenant)
        collection = self._collection(search.collection)
        check_count("k", search.k, 0, K_LIMIT)
        if search.text is not None:
            self._offered("full_text", self.capabilities.full_text)
            if not collection.full_text:
                raise Invalid("text", expected="a collection with text search", got=collection.name)
            check_text_leg(search.text)
        if search.vector is not None:
            self._offered("vectors", self.capabilities.vectors)
            if search.vector.field not in collection.vectors:
                collection.field(search.vector.field)
                raise Invalid("vector", expected="a vector field", got=search.vector.field)
            check_vector("vector", search.vector.vector)
        if search.minimum is not None:
            check_float("minimum", search.minimum)
        checked = msgspec.structs.replace(
            search,
            filter=self._filter(collection, search.filter),
            fields=check_fields(collection, search.fields),
        )
        return self.below.search(tenant, checked)

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        self._check_open()
        self._offered("feed", self.capabilities.feed)
        follower = check_text("follower", follower, NAME_LIMIT)
        check_count("after", after, 0, 2**62)
        check_count("limit", limit, 0, CHANGE_LIMIT)
        return self.below.feed(follower, after=after, limit=limit)

    def maintain(self, task: Task, **options: Any) -> Report:
        self._check_open()
        if task in ("follow", "unfollow", "trim"):
            self._offered("feed", self.capabilities.feed)
        if task == "integrity":
            self._offered("integrity", self.capabilities.integrity)
        return self.below.maintain(task, **check_task(task, options))

    def backup(self, target: str) -> Report:
        self._check_open()
        self._offered("backup", self.capabilities.backup)
        return self.below.backup(target)

    def health(self) -> Health:
        if self._closed:
            return Health(False, self.name, "the store is closed", ready=False)
        if os.getpid() != self._process_id:  # its connections are the parent's: not even to look
            return Health(False, self.name, "the store was opened before a fork", ready=False)
        health = self.below.health()
        if health.ok and not self._setups and self._collections:
            return health
        return msgspec.structs.replace(health, ready=False)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if os.getpid() == self._process_id:
                self.below.close()

    @property
    def closed(self) -> bool:
        return self._closed

    def native(self) -> Any:
        self._check_open()
        return self.below.native()

    def group(self) -> AbstractContextManager[None]:
        self._check_open()
        self._offered("shared_commits", self.capabilities.shared_commits)
        return self.below.group()

    def _count_setups(self, change: int) -> None:
        with self._setups_lock:
            self._setups += change

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("The store is closed.", hint="Open it again.")
        if os.getpid() != self._process_id:
            raise ForkedConnection(
                "The store was opened before this process was forked.",
                hint="Open it again in the child process.",
            )

    def _check_tenant(self, tenant: object) -> None:
        if tenant is self._sound:
            return
        if tenant is EVERY_TENANT:
            raise Invalid("tenant", expected="one tenant", got="every tenant")
        if not check_text("tenant", tenant, NAME_LIMIT):
            raise Invalid("tenant", expected=f"text of 1 to {NAME_LIMIT} characters", got="none")
        self._sound = tenant

    def _offered(self, name: str, capability: Capability) -> None:
        if not capability:
            raise Unsupported(
                f"The {self.name} backend does not offer {name}: {capability.reason}.",
                capability=name,
                backend=self.name,
            )

    def _filter(self, collection: Collection, part: Filter) -> Filter:
        return check_filter(collection, part, self._collection)

    def _collection(self, name: str) -> Collection:
        found = self._collections.get(name) if isinstance(name, str) else None
        if found is None:
            raise Invalid("collection", expected="a collection that was set up", got=repr(name))
        return found
