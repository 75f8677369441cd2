"""A unit of work: writes are kept until the block ends, then done as one apply."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from typing import Any

from holdfast.core.change import Absent, Change, Claim, DeleteWhere, Outcome, Patch, PatchWhere, Put
from holdfast.core.collection import REVISION, Collection
from holdfast.core.driver import Driver
from holdfast.core.edit import edited
from holdfast.core.errors import Closed, Forbidden, NotFound, Unsupported
from holdfast.core.filter import Record
from holdfast.core.fresh import fresh_reads
from holdfast.core.query import Aggregate, Query, Rows
from holdfast.core.scope import Tenant
from holdfast.core.search import Hits, Search
from holdfast.layers.layer import Layer


class UnitOfWork(Layer):
    """Buffers applies; ``commit`` sends them below together.

    Inside, ``get`` sees what the unit will write by key; other reads see the store as it is, and
    never a copy that lags. A
    write answers with the record as it will be unless others change it before the commit: a
    revision is foreseen by counting on, sequence numbers are 0 until the commit numbers them.
    After ``end`` the unit says Closed: nothing that is written late may be lost in silence.
    """

    def __init__(self, below: Driver, collections: dict[str, Collection]) -> None:
        super().__init__(below)
        self._collections = collections
        self._changes: list[Change] = []
        self._tenant: str | None = None
        self._lock = threading.RLock()
        self._written: dict[tuple[str, tuple[Any, ...]], Record | None] = {}
        self._ended = False

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        self.below.setup(collections, create=create)
        self._collections.update({c.name: c for c in collections})

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        if op_id is not None:
            raise Unsupported("A unit carries one operation id.", hint="Pass op_id to unit().")
        with self._lock:
            if self._ended:
                raise Closed("The unit has ended.", hint="Write inside its block.")
            if self._tenant not in (None, tenant):
                raise Forbidden("A unit writes for one tenant.")
            self._tenant = tenant
            before = dict(self._written)
            try:
                outcomes = [self._foresee(tenant, change) for change in changes]
            except BaseException:
                self._written = before
                raise
            self._changes.extend(changes)
            return outcomes

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        with self._lock:
            if (collection, key) in self._written:
                written = self._written[collection, key]
                return None if written is None else self._shown(collection, written, vectors)
        with fresh_reads():
            return self.below.get(tenant, collection, key, vectors=vectors)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        with fresh_reads():
            return self.below.query(tenant, query)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        with fresh_reads():
            return self.below.aggregate(tenant, aggregate)

    def search(self, tenant: str, search: Search) -> Hits:
        with fresh_reads():
            return self.below.search(tenant, search)

    def commit(self, op_id: str | None = None) -> list[Outcome]:
        """Do everything at once and end; Conflict or NotFound leaves no trace of any of it."""
        self.end()
        if self._tenant is None:
            return []
        body = None if op_id is None else op_id.encode()
        return self.below.apply(self._tenant, self._changes, op_id=op_id, op_body=body)

    def end(self) -> None:
        """Take no more writes. Without a commit all of them are forgotten."""
        with self._lock:
            self._ended = True

    def _shown(self, collection: str, record: Record, vectors: bool) -> Record:
        """A copy that the caller may change without changing what the unit will write."""
        hidden = () if vectors else self._collections[collection].vectors
        return {name: copy.deepcopy(v) for name, v in record.items() if name not in hidden}

    def _foresee(self, tenant: str, change: Change) -> Outcome:
        if isinstance(change, Claim):
            raise Unsupported(
                "A claim needs its answer at once, so it cannot wait for the end of a unit.",
                hint="Claim before the unit.",
            )
        collection = self._collections[change.collection]
        if isinstance(change, Put):
            return self._foresee_put(tenant, change, collection)
        if isinstance(change, PatchWhere | DeleteWhere):
            [row] = self.aggregate(
                tenant, Aggregate(collection=change.collection, filter=change.filter)
            )
            limit = change.limit if isinstance(change, DeleteWhere) else None
            return Outcome(row["count"] if limit is None else min(limit, row["count"]))
        held = self.get(tenant, change.collection, change.key, vectors=True)
        if isinstance(change, Patch):
            if held is None:
                raise NotFound("There is no such record.")
            record = {**held, **edited(held, change.edit), REVISION: held[REVISION] + 1}
            return self._foreseen(change.collection, change.key, record)
        self._written[change.collection, change.key] = None
        return Outcome(0 if held is None else 1)

    def _foresee_put(self, tenant: str, change: Put, collection: Collection) -> Outcome:
        key = collection.key_of(change.record)
        absent = isinstance(change.when, Absent)
        held = None if absent else self.get(tenant, change.collection, key)
        record = {**change.record, REVISION: 1 if held is None else held[REVISION] + 1}
        for sequence in collection.sequences:
            record[sequence.field] = record.get(sequence.field) or 0
        return self._foreseen(change.collection, key, record)

    def _foreseen(self, collection: str, key: tuple[Any, ...], record: Record) -> Outcome:
        self._written[collection, key] = record
        return Outcome(1, (self._shown(collection, record, False),))
