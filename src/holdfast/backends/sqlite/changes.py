"""Changes inside one write transaction: rows, what is derived from them, journal and operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

import apsw
import msgspec

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Columns
from holdfast.backends.sql.terms import Packed, pack
from holdfast.backends.sqlite.connection import Connection
from holdfast.backends.sqlite.covers import Notes
from holdfast.backends.sqlite.errors import constraint_conflict
from holdfast.backends.sqlite.known import Counter, Known
from holdfast.backends.sqlite.preparing import (
    Preparation,
    Prepared,
    PreparedPatch,
    Terms,
    Vectors,
    Writing,
)
from holdfast.backends.sqlite.rows import Rows
from holdfast.core.change import (
    ABSENT,
    Change,
    Claim,
    Delete,
    DeleteWhere,
    Outcome,
    Patch,
    PatchWhere,
    Put,
)
from holdfast.core.clock import Clock
from holdfast.core.collection import REVISION, Collection, Reference
from holdfast.core.edit import check_condition, edited
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.filter import Filter, Record, eq
from holdfast.core.query import Query
from holdfast.core.turns import in_turns
from holdfast.core.values import to_micros

Key = tuple[Any, ...]

_encode_body = msgspec.msgpack.Encoder().encode

_LAST_IN_SEQUENCE: Final = """
SELECT last FROM holdfast_sequences WHERE tenant = ? AND collection = ? AND field = ? AND per = ?"""
_SET_SEQUENCE: Final = "INSERT OR REPLACE INTO holdfast_sequences VALUES (?,?,?,?,?)"
_JOURNAL: Final = """
INSERT INTO holdfast_journal (tenant, collection, key, revision, record, at, op_id)
VALUES (?, ?, ?, ?, ?, ?, ?)"""


_SILENT: Final = Outcome(1)


class Transaction:
    """Applies changes for one tenant on the write connection."""

    def __init__(
        self,
        connection: Connection,
        preparation: Preparation,
        tenant: str,
        clock: Clock,
        known: Known,
        *,
        op_id: str | None,
    ) -> None:
        self._connection = connection
        self._cursor = connection.kept
        self._preparation = preparation
        self._planner = preparation.planner
        self._tenant = tenant
        self._clock = clock
        self._op_id = op_id
        self._known = known
        self._notes = Notes(connection, tenant, known.covers)
        # Records that this transaction has found; it alone writes, and its deletes forget them.
        self._present: set[tuple[str, Key]] = set()
        # The last number of each sequence that this transaction has drawn; `_finish` writes them.
        self._counted: dict[Counter, int] = {}
        self._removing: set[tuple[str, int]] = set()
        self._journaled = known.journaled(connection)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self._connection, self._planner, self._tenant)

    @cached_property
    def at_micros(self) -> int:
        """When all of it happens, for those who follow and for the operation."""
        return to_micros(self._clock.now())

    def run(self, changes: Sequence[Change | Prepared | PreparedPatch]) -> list[Outcome]:
        """All changes. Conflict or NotFound leave the transaction to be rolled back."""
        outcomes = []
        for change in in_turns(changes):
            act = _ACTS.get(type(change))
            if act is None:
                raise Invalid("changes", expected="a Change", got=change)
            outcomes.append(act(self, change))
        self._finish()
        return outcomes

    # --- changes

    def _put(self, prepared: Prepared) -> Outcome:
        put, writing, values = prepared.put, prepared.writing, prepared.values
        collection = writing.collection
        record = dict(put.record)
        if collection.sequences:
            self._number(writing, record, values)
        if collection.references:
            self._check_references(collection, record)
        if put.when is None:
            revision, row = self._execute(collection, writing.upsert, values).get
        elif put.when is ABSENT or put.when == ABSENT:
            self._execute(collection, writing.insert, values)
            revision, row = 1, self._connection.last_insert_rowid()
        else:
            return self._replace_if(collection, put, record)
        self._derive(writing, row, record, prepared.packed, fresh=revision == 1)
        return Outcome(1, (self._written(collection, record, revision),))

    def _replace_if(self, collection: Collection, put: Put, record: Record) -> Outcome:
        key = collection.key_of(record)
        found = self._rows.get(collection, key)
        held = None if found is None else found[1]
        check_condition(put.when, held, subselect=self._rows.subselect)
        assert found is not None
        return Outcome(1, (self._update(collection, found[0], found[1], record),))

    def _patch(self, patch: Patch) -> Outcome:
        collection = self._planner.collections[patch.collection]
        found = self._rows.get(collection, patch.key)
        if found is None:
            raise NotFound("There is no such record.")
        row, held = found
        self._present.add((patch.collection, patch.key))
        check_condition(patch.when, held, subselect=self._rows.subselect)
        return Outcome(1, (self._update(collection, row, held, edited(held, patch.edit)),))

    def _patch_at_once(self, prepared: PreparedPatch) -> Outcome:
        patch = prepared.patch
        if self._journaled:
            return self._patch(patch)
        collection = self._planner.collections[patch.collection]
        self._execute(collection, prepared.text, prepared.values)
        if not self._connection.changes():
            raise NotFound("There is no such record.")
        self._present.add((patch.collection, patch.key))
        if patch.silent:
            return _SILENT
        found = self._rows.get(collection, patch.key)
        assert found is not None
        return Outcome(1, (found[1],))

    def _delete(self, delete: Delete) -> Outcome:
        collection = self._planner.collections[delete.collection]
        found = self._rows.get(collection, delete.key)
        held = None if found is None else found[1]
        check_condition(delete.when, held, subselect=self._rows.subselect)
        if found is None:
            return Outcome(0)
        self._remove(collection, *found)
        return Outcome(1)

    def _patch_where(self, patch: PatchWhere) -> Outcome:
        collection = self._planner.collections[patch.collection]
        if not self._journaled and self._planner.is_plain(patch.collection, patch.edit):
            text, values = self._planner.patch_where(
                self._tenant, patch.collection, patch.filter, patch.edit
            )
            self._execute(collection, text, values)
            return Outcome(self._connection.changes())
        found = self._rows.select(Query(collection=patch.collection, filter=patch.filter))
        for row, held in found:
            self._update(collection, row, held, edited(held, patch.edit))
        return Outcome(len(found))

    def _delete_where(self, delete: DeleteWhere) -> Outcome:
        self._present.clear()
        collection = self._planner.collections[delete.collection]
        if not self._journaled and not self._planner.dependents(delete.collection):
            text, values = self._planner.delete_where(self._tenant, delete, "_row")
            self._execute(collection, text, values)
            return Outcome(self._connection.changes())
        query = Query(
            collection=delete.collection,
            filter=delete.filter,
            order=delete.order,
            limit=delete.limit,
        )
        found = self._rows.select(query)
        for row, held in found:
            self._remove(collection, row, held)
        return Outcome(len(found))

    def _claim(self, claim: Claim) -> Outcome:
        collection = self._planner.collections[claim.collection]
        text, values = self._planner.claimable(self._tenant, claim, ", t0._row")
        found = self._rows.read(collection, text, values)
        taken = tuple(
            self._update(collection, row, held, edited(held, claim.edit)) for row, held in found
        )
        return Outcome(len(taken), taken)

    # --- rows

    def _update(self, collection: Collection, row: int, held: Record, new: Record) -> Record:
        """Write the fields in ``new`` over the row that holds ``held``."""
        record = {**held, **new}
        if collection.references:
            self._check_references(collection, record)
        columns: Columns = self._planner.columns(collection.name)
        changed = [name for name in columns.names if name in new and name != REVISION]
        values = [self._planner.encode(collection, name, new[name]) for name in changed]
        shape = ("update", collection.name, *changed)

        def write() -> str:
            sets = ", ".join(
                (*(f"{quoted(name)} = ?" for name in changed), "revision = revision + 1")
            )
            return f"UPDATE {quoted(collection.name)} SET {sets} WHERE _row = ?"

        self._execute(collection, self._planner.text(shape, write), [*values, row])
        writing = self._preparation.writing(collection.name)
        if writing.terms is not None and any(name in new for name in collection.full_text):
            self._store_terms(writing.terms, row, pack(collection, record), fresh=False)
        for vectors in writing.vectors:
            if vectors.name in new:
                self._store_vector(vectors, row, new[vectors.name], fresh=False)
        return self._written(collection, record, held[REVISION] + 1)

    def _remove(self, collection: Collection, row: int, held: Record) -> None:
        """Delete a row and what hangs on it, unless that was done or has begun.

        A row that refers to its own kind may hang on one that was deleted before it, and a ring
        of references comes back to where it began.
        """
        self._present.clear()
        visit = (collection.name, row)
        if visit in self._removing:
            return
        self._removing.add(visit)
        for child, reference in self._planner.dependents(collection.name):
            self._follow_reference(child, reference, held[collection.key[0]])
        self._removing.discard(visit)
        text = f"DELETE FROM {quoted(collection.name)} WHERE _row = ? RETURNING revision"
        revision = self._cursor.execute(text, (row,)).get
        if self._journaled and revision is not None:
            self._journal(collection, collection.key_of(held), revision, None)

    def _follow_reference(self, child: Collection, reference: Reference, value: Any) -> None:
        where: Filter = eq(reference.field, value)
        found = self._rows.select(Query(collection=child.name, filter=where))
        if found and reference.on_delete == "restrict":
            raise Conflict(
                f"Records of {child.name} still refer to this one.", reference=reference.field
            )
        for row, held in found:
            if reference.on_delete == "cascade":
                self._remove(child, row, held)
            else:
                self._update(child, row, held, {reference.field: None})

    def _written(self, collection: Collection, record: Record, revision: int) -> Record:
        """The record as stored, after its journal entry."""
        record[REVISION] = revision
        if self._journaled:
            key = collection.key_of(record)
            full = self._with_vectors(collection, key, record)
            self._journal(collection, key, revision, full)
        for name in collection.vectors:
            record.pop(name, None)
        return record

    def _with_vectors(self, collection: Collection, key: Key, record: Record) -> Record:
        missing = [name for name in collection.vectors if name not in record]
        if not missing:
            return record
        found = self._rows.get(collection, key, vectors=True)
        assert found is not None
        return {**record, **{name: found[1][name] for name in missing}}

    def _journal(
        self, collection: Collection, key: Key, revision: int, record: Record | None
    ) -> None:
        body = None if record is None else _encode_body(record)
        values = (
            self._tenant,
            collection.name,
            _encode_body(key),
            revision,
            body,
            self.at_micros,
            self._op_id,
        )
        self._cursor.execute(_JOURNAL, values)

    # --- what is derived and what must hold

    def _derive(
        self, writing: Writing, row: int, record: Record, packed: Packed | None, *, fresh: bool
    ) -> None:
        if writing.terms is not None:
            self._store_terms(writing.terms, row, packed, fresh=fresh)
        for vectors in writing.vectors:
            vector = record[vectors.name]
            if vector is not None or not fresh:
                self._store_vector(vectors, row, vector, fresh=fresh)

    def _store_terms(self, terms: Terms, row: int, packed: Packed | None, *, fresh: bool) -> None:
        if packed is not None:
            self._notes.inserting(terms.source, row)
        terms.store(self._cursor, self._tenant, row, packed, fresh=fresh)

    def _store_vector(self, vectors: Vectors, row: int, vector: Any, *, fresh: bool) -> None:
        if not fresh:  # a replacement would not be noted
            self._cursor.execute(vectors.delete, (row,))
        if vector is not None:
            self._notes.inserting(vectors.source, row, vector.space)
            self._cursor.execute(vectors.insert, (row, self._tenant, vector.space, vector.data))

    def _number(self, writing: Writing, record: Record, values: list[Any]) -> None:
        """Number the record, and the values that will be bound for it."""
        for sequence, place in writing.columns.numbered:
            per = _encode_body([record[name] for name in sequence.per]).hex()
            counter = (self._tenant, writing.collection.name, sequence.field, per)
            last = self._counted.get(counter)
            if last is None:
                last = self._known.counted.get(counter)
            if last is None:
                # Read and written: RETURNING would cost four times as much as both.
                last = self._cursor.execute(_LAST_IN_SEQUENCE, counter).get or 0
            number = record[sequence.field]
            if number is None:
                # The tenant is bound before the fields.
                number = record[sequence.field] = values[place + 1] = last + 1
            self._counted[counter] = max(last, number)

    def _finish(self) -> None:
        """Write the counters, each once."""
        for counter, last in self._counted.items():
            self._cursor.execute(_SET_SEQUENCE, (*counter, last))
            self._known.counted[counter] = last

    def _check_references(self, collection: Collection, record: Record) -> None:
        for reference in collection.references:
            value = record[reference.field]
            referred = (reference.collection, (value,))
            if value is None or referred in self._present:
                continue
            if not self._rows.exists(*referred):
                raise Conflict(
                    f"{reference.field} refers to no record of {reference.collection}.",
                    reference=reference.field,
                )
            self._present.add(referred)

    def _execute(self, collection: Collection, text: str, values: Sequence[Any]) -> apsw.Cursor:
        try:
            return self._cursor.execute(text, values)
        except apsw.ConstraintError as error:
            raise constraint_conflict(error, collection) from error


_ACTS: Final[dict[type, Callable[..., Outcome]]] = {
    Prepared: Transaction._put,
    PreparedPatch: Transaction._patch_at_once,
    Patch: Transaction._patch,
    Delete: Transaction._delete,
    PatchWhere: Transaction._patch_where,
    DeleteWhere: Transaction._delete_where,
    Claim: Transaction._claim,
}
