"""A unit of work: writes are kept until the block ends, then done as one apply."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from holdfast.core.change import Change, Claim, DeleteWhere, Outcome, Patch, PatchWhere, Put
from holdfast.core.collection import REVISION, Collection
from holdfast.core.driver import Driver
from holdfast.core.edit import edited
from holdfast.core.errors import Forbidden, NotFound, Unsupported
from holdfast.core.filter import Record
from holdfast.core.query import Aggregate
from holdfast.layers.layer import Layer


class UnitOfWork(Layer):
    """Buffers applies; ``commit`` sends them below together.

    Inside, ``get`` sees what the unit will write, other reads see the store as it is. A write
    answers with the record as it will be, except what the engine assigns: revision and sequence
    numbers are 0 until the commit, whose outcomes hold them.
    """

    def __init__(self, below: Driver, collections: dict[str, Collection]) -> None:
        super().__init__(below)
        self._collections = collections
        self._changes: list[Change] = []
        self._tenant: str | None = None
        self._lock = threading.RLock()
        self._written: dict[tuple[str, tuple[Any, ...]], Record | None] = {}

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
            if self._tenant not in (None, tenant):
                raise Forbidden("A unit writes for one tenant.")
            self._tenant = tenant
            outcomes = [self._foresee(tenant, change) for change in changes]
            self._changes.extend(changes)
            return outcomes

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        if (collection, key) in self._written:
            written = self._written[collection, key]
            return None if written is None else dict(written)
        return self.below.get(tenant, collection, key, vectors=vectors)

    def commit(self, op_id: str | None = None) -> list[Outcome]:
        """Do everything at once; Conflict or NotFound leaves no trace of any of it."""
        if self._tenant is None:
            return []
        body = None if op_id is None else op_id.encode()
        return self.below.apply(self._tenant, self._changes, op_id=op_id, op_body=body)

    def _foresee(self, tenant: str, change: Change) -> Outcome:
        if isinstance(change, Claim):
            raise Unsupported(
                "A claim needs its answer at once, so it cannot wait for the end of a unit.",
                hint="Claim before the unit.",
            )
        collection = self._collections[change.collection]
        if isinstance(change, Put):
            record = {**change.record, REVISION: 0}
            for sequence in collection.sequences:
                record[sequence.field] = record.get(sequence.field) or 0
            self._written[change.collection, collection.key_of(record)] = record
            return Outcome(1, (record,))
        if isinstance(change, PatchWhere | DeleteWhere):
            [row] = self.below.aggregate(
                tenant, Aggregate(collection=change.collection, filter=change.filter)
            )
            limit = change.limit if isinstance(change, DeleteWhere) else None
            return Outcome(row["count"] if limit is None else min(limit, row["count"]))
        held = self.get(tenant, change.collection, change.key)
        if isinstance(change, Patch):
            if held is None:
                raise NotFound("There is no such record.")
            record = {**held, **edited(held, change.edit), REVISION: 0}
            self._written[change.collection, change.key] = record
            return Outcome(1, (record,))
        self._written[change.collection, change.key] = None
        return Outcome(0 if held is None else 1)
