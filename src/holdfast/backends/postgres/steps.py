"""Changes become statements that hold by themselves, so that one round trip does a whole apply.

A condition stands in the statement's own WHERE; where nothing matches, the statement calls a
function that raises, and the transaction is undone. Nothing is read back to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.backends.postgres import derived
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.bulk_steps import BulkCompiler
from holdfast.backends.postgres.counters import counter_values, counting, numbered_mark
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.step import LOCKED, TAKEN, NothingMatched, Step, counted
from holdfast.backends.postgres.wire import Command, Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.edits import edit_text
from holdfast.backends.sql.planner import Planner, Statement
from holdfast.backends.sql.rows import decoded
from holdfast.core.change import (
    ABSENT,
    Change,
    Claim,
    Condition,
    Delete,
    DeleteWhere,
    Edit,
    Outcome,
    Patch,
    PatchWhere,
    Put,
    Revision,
    When,
)
from holdfast.core.collection import REVISION, Collection
from holdfast.core.errors import Invalid
from holdfast.core.filter import EVERYTHING, Record
from holdfast.core.query import Query

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Key = tuple[Any, ...]

_EDITS: Final = (Patch, PatchWhere, Claim)


class Compiler:
    """Writes the steps of changes for the collections that were set up."""

    def __init__(self, planner: Planner, dialect: PostgresDialect) -> None:
        self._planner = planner
        self._dialect = dialect
        self._bulk = BulkCompiler(planner, dialect)
        self.vectors = ""
        """The schema of pgvector's types where vectors are kept as such."""
        self._wholes: dict[str, Any] = {}

    def step(self, tenant: str, change: Change, texts: Record | None = None) -> Step:
        """The step of a change; ``texts`` is the record as it is, where it `needs_reading`."""
        if isinstance(change, Put):
            return self._put(tenant, change)
        if isinstance(change, Patch):
            return self._patch(tenant, change, texts)
        if isinstance(change, Delete):
            return self._delete(tenant, change)
        if isinstance(change, PatchWhere | DeleteWhere | Claim):
            return self._bulk.step(tenant, change)
        raise Invalid("changes", expected="a Change", got=change)

    def needs_reading(self, change: Change) -> bool:
        """Whether the records must be read before their text or vectors can be derived."""
        if not isinstance(change, _EDITS):
            return False
        collection = self._planner.collections[change.collection]
        derived = {*collection.full_text, *collection.vectors}
        touched = _touched(change.edit) if derived else derived
        if not touched & derived:
            return False
        if not isinstance(change, Patch):
            return True
        texts = touched & set(collection.full_text)
        return bool(texts) and not set(collection.full_text) <= change.edit.set.keys()

    def readable(self, tenant: str, change: Patch | PatchWhere | Claim) -> Statement:
        """The statement that reads, and locks, what such a change is about."""
        collection = self._planner.collections[change.collection]
        if isinstance(change, Claim):
            return self._planner.claimable(tenant, change, "", TAKEN)
        if isinstance(change, PatchWhere):
            query = Query(collection=collection.name, filter=change.filter)
            text, values = self._planner.query(tenant, query)
            return text + LOCKED, values
        columns = self._planner.columns(collection.name)
        text = self._planner.get(collection.name)
        return text + LOCKED, [tenant, *columns.encode_key(change.key)]

    # --- one record

    def _put(self, tenant: str, put: Put) -> Step:
        collection = self._planner.collections[put.collection]
        columns = self._planner.columns(put.collection)
        record = put.record
        sequences = collection.sequences
        counters = counter_values(tenant, collection, record) if sequences else []
        drawn = tuple([s.field for s in sequences if record[s.field] is None])
        values = columns.encode(record)
        if drawn:
            names = columns.names[1:]
            values = [v for n, v in zip(names, values, strict=True) if n not in drawn]
        absent = put.when is ABSENT or put.when == ABSENT
        if put.when is None or absent:
            shape = ("pg put", put.collection, drawn, absent)
            bound = [*counters, tenant, *values]

            def write() -> str:
                return self._insert(collection, drawn, absent=absent)
        else:
            when, place = self._condition(tenant, collection, put)
            shape = ("pg replace", put.collection, drawn, *when)
            bound = [*counters, *values, *place]
            settable = columns.names[1:]

            def write() -> str:
                sets = ", ".join(f"{quoted(n)} = {numbered_mark(n, drawn)}" for n in settable)
                sets = f"SET {sets}, revision = revision + 1"
                opening = counting(self._dialect, collection, drawn)
                return self._guarded(collection, put, sets, drawn, opening)

        def finish(wire: Wire, results: Sequence[PGresult]) -> Outcome:
            revision, *numbers = (1,) if absent and not drawn else wire.rows(results[0])[0]
            written = {**record, REVISION: revision}
            if drawn:
                written |= zip(drawn, numbers, strict=True)
            for name in collection.vectors:
                written.pop(name, None)
            return Outcome(1, (written,))

        commands: list[Command] = [(self._planner.text(shape, write), bound)]
        if collection.full_text or collection.vectors:
            key = collection.key_of(record)
            commands += self._derived(tenant, collection, key, record, record, fresh=absent)
        return Step(put, commands, finish)

    def _insert(self, collection: Collection, drawn: tuple[str, ...], *, absent: bool) -> str:
        names = [f.name for f in collection.fields]
        marked = ", ".join((MARK, *(numbered_mark(name, drawn) for name in names)))
        text = (
            f"{counting(self._dialect, collection, drawn)}INSERT INTO"
            f" {self._dialect.table(collection)} AS t0"
            f" ({', '.join(('tenant', *map(quoted, names)))}, revision) VALUES ({marked}, 1)"
        )
        if not absent:
            sets = [f"{quoted(n)} = excluded.{quoted(n)}" for n in names if n not in collection.key]
            key = ", ".join(("tenant", *map(quoted, collection.key)))
            text += (
                f" ON CONFLICT ({key}) DO UPDATE SET"
                f" {', '.join((*sets, 'revision = t0.revision + 1'))}"
            )
        if absent and not drawn:  # all of it is known, so nothing need come back
            return text
        return f"{text} RETURNING {', '.join((REVISION, *map(quoted, drawn)))}"

    def bare(self, tenant: str, change: Change) -> Step | None:
        """The step of a patch that is all of its apply: without a guard, and so cheaper.

        Its finish raises NothingMatched where the guard would have; then nothing was written.
        """
        if not isinstance(change, Patch):
            return None
        collection = self._planner.collections[change.collection]
        derived = {*collection.full_text, *collection.vectors}
        if derived and derived & _touched(change.edit):
            return None
        return self._patch(tenant, change, None, guarded=False)

    def _patch(
        self, tenant: str, patch: Patch, texts: Record | None, *, guarded: bool = True
    ) -> Step:
        collection = self._planner.collections[patch.collection]
        columns = self._planner.columns(patch.collection)
        edit, vectors = _without_vectors(collection, patch.edit)
        plan, values = self._planner.edit(patch.collection, edit)
        edits = plan.shape
        when, place = self._condition(tenant, collection, patch)
        returned = () if patch.silent else columns.names[1:]
        shape = ("pg patch", patch.collection, edits, guarded, patch.silent, *when)
        values += place

        def write() -> str:
            make = self._guarded if guarded else self._by_key
            sets = f"SET {edit_text(self._dialect, edits)}"
            return make(collection, patch, sets, returned)

        if not guarded:  # whose text ends before the key of the record that refuses
            del values[-1 - len(collection.key) :]
        commands: list[Command] = [(self._planner.text(shape, write), values)]
        written = {**(texts or {}), **edit.set}
        if not set(collection.full_text) <= written.keys():
            written = {}
        commands += self._derived(tenant, collection, patch.key, written, vectors, fresh=False)

        def finish(wire: Wire, results: Sequence[PGresult]) -> Outcome:
            rows = wire.rows(results[0])
            if not rows:
                raise NothingMatched
            if patch.silent:
                return Outcome(1)
            return Outcome(1, (decoded(collection, columns.decode, rows[0]),))

        return Step(patch, commands, finish)

    def _delete(self, tenant: str, delete: Delete) -> Step:
        collection = self._planner.collections[delete.collection]
        columns = self._planner.columns(delete.collection)
        key = [tenant, *columns.encode_key(delete.key)]
        table = self._dialect.table(collection)
        if delete.when is None:
            text = f"DELETE FROM {table} AS t0 WHERE {self._same_key(collection, 't0')}"
            return Step(delete, [(text, key)], counted)
        if delete.when == ABSENT:
            refuse = f"{self._dialect.schema}.holdfast_refuse(t0.revision)"
            same = self._same_key(collection, "t0")
            text = f"SELECT {refuse} FROM {table} AS t0 WHERE {same}"
            return Step(delete, [(text, key)], lambda _wire, _results: Outcome(0))
        when, values = self._condition(tenant, collection, delete)
        shape = ("pg delete", delete.collection, *when)
        text = self._planner.text(shape, lambda: self._guarded(collection, delete, None, ()))
        return Step(delete, [(text, values)], lambda _wire, _results: Outcome(1))

    # --- conditions

    def _condition(
        self, tenant: str, collection: Collection, change: Put | Patch | Delete
    ) -> tuple[tuple[Any, ...], list[Any]]:
        """The part of a statement's shape that its condition is; the values behind its SET list."""
        when: Condition | None = change.when
        if isinstance(when, When):
            where, values = self._planner.where(tenant, collection, when.filter)
        else:
            where, values = self._whole(collection), [tenant]
        given = collection.key_of(change.record) if isinstance(change, Put) else change.key
        key = self._planner.columns(collection.name).encode_key(given)
        number = [when.number] if isinstance(when, Revision) else []
        return (type(when).__name__, where), [*values, *key, *number, tenant, *key]

    def _whole(self, collection: Collection) -> Any:
        """The shape of "of this tenant"."""
        found = self._wholes.get(collection.name)
        if found is None:
            found, _ = self._planner.where("", collection, EVERYTHING)
            self._wholes[collection.name] = found
        return found

    def _guarded(
        self,
        collection: Collection,
        change: Put | Patch | Delete,
        sets: str | None,
        returned: Sequence[str],
        opening: str = "",
    ) -> str:
        """An UPDATE or DELETE by key that refuses, in the database, where nothing matches."""
        table = self._dialect.table(collection)
        opening = f"{opening.rstrip()}, " if opening else "WITH "
        listed = "".join(f", hit.{quoted(name)}" for name in returned)
        return (
            f"{opening}hit AS ({self._by_key(collection, change, sets, returned)})"
            f" SELECT coalesce(hit.revision, {self._dialect.schema}.holdfast_refuse("
            f"(SELECT r.revision FROM {table} AS r WHERE {self._same_key(collection, 'r')})))"
            f"{listed} FROM (SELECT) AS one LEFT JOIN hit ON TRUE"
        )

    def _by_key(
        self,
        collection: Collection,
        change: Put | Patch | Delete,
        sets: str | None,
        returned: Sequence[str],
    ) -> str:
        table, when = self._dialect.table(collection), change.when
        where = when.filter if isinstance(when, When) else EVERYTHING
        condition = self._planner.condition(self._planner.where("", collection, where)[0])
        key = " AND ".join(f"t0.{quoted(name)} = {MARK}" for name in collection.key)
        condition += f" AND {key}"
        if isinstance(when, Revision):
            condition += f" AND t0.revision = {MARK}"
        elif when is not None and when == ABSENT:
            condition += " AND FALSE"
        what = f"DELETE FROM {table} AS t0" if sets is None else f"UPDATE {table} AS t0 {sets}"
        names = ", ".join((f"t0.{REVISION}", *(f"t0.{quoted(name)}" for name in returned)))
        return f"{what} WHERE {condition} RETURNING {names}"

    @staticmethod
    def _same_key(collection: Collection, alias: str) -> str:
        names = ("tenant", *map(quoted, collection.key))
        return " AND ".join(f"{alias}.{name} = {MARK}" for name in names)

    # --- what is derived

    def _derived(
        self,
        tenant: str,
        collection: Collection,
        key: Key,
        texts: Record,
        vectors: Record,
        *,
        fresh: bool,
    ) -> list[Command]:
        """What keeps a record's terms and vectors beside it; ``texts`` is empty where they stay."""
        if not collection.full_text and not collection.vectors:
            return []
        place = [tenant, *self._planner.columns(collection.name).encode_key(key)]
        commands: list[Command] = []
        if collection.full_text and texts:
            commands += derived.store_terms(self._dialect, collection, place, texts, fresh=fresh)
        for name in collection.vectors:
            if name in vectors:
                commands += derived.store_vector(
                    self._dialect, collection, name, place, vectors[name],
                    fresh=fresh, native=bool(self.vectors),
                )  # fmt: skip
        return commands


def _touched(edit: Edit) -> set[str]:
    return {name for part in edit.__struct_fields__ for name in getattr(edit, part)}


def _without_vectors(collection: Collection, edit: Edit) -> tuple[Edit, Record]:
    vectors = {name: edit.set[name] for name in collection.vectors if name in edit.set}
    if not vectors:
        return edit, vectors
    kept = {name: value for name, value in edit.set.items() if name not in vectors}
    return msgspec.structs.replace(edit, set=kept), vectors
