"""What is done before a write transaction, so that the file is held briefly."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Columns, Planner
from holdfast.backends.sql.terms import Packed, pack
from holdfast.backends.sqlite.schema import terms_source, vector_source
from holdfast.core.change import Change, Patch, Put
from holdfast.core.collection import Collection


class Terms(msgspec.Struct, frozen=True):
    """The table of a collection's analysed text, and its statements."""

    source: str
    insert: str
    delete: str

    def store(
        self, cursor: apsw.Cursor, tenant: str, row: int, packed: Packed | None, *, fresh: bool
    ) -> None:
        """Keep a row's analysed text beside it; ``fresh`` says that nothing is there yet."""
        if not fresh:  # a replacement would not be noted
            cursor.execute(self.delete, (tenant, row))
        if packed is not None:
            cursor.execute(self.insert, (tenant, row, *packed))


def terms_of(collection: Collection) -> Terms:
    """Where a collection's analysed text is kept."""
    source = terms_source(collection)
    table = quoted(source)
    return Terms(
        source,
        f"INSERT OR REPLACE INTO {table} VALUES (?,?,?,?,?)",
        f"DELETE FROM {table} WHERE tenant = ? AND _row = ?",
    )


class Vectors(msgspec.Struct, frozen=True):
    """The table of a vector field, and its statements."""

    name: str
    source: str
    insert: str
    delete: str


def _vectors_of(collection: Collection, name: str) -> Vectors:
    source = vector_source(collection, name)
    table = quoted(source)
    return Vectors(
        name,
        source,
        f"INSERT OR REPLACE INTO {table} (_row,tenant,space,data) VALUES (?,?,?,?)",
        f"DELETE FROM {table} WHERE _row = ?",
    )


class Writing(msgspec.Struct, frozen=True, eq=False):
    """All that writing a collection takes, found in one look."""

    collection: Collection
    columns: Columns
    insert: str
    upsert: str
    terms: Terms | None
    vectors: tuple[Vectors, ...]


class Prepared(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A Put made ready: the tenant and the values as they are bound, and the analysed text."""

    put: Put
    writing: Writing
    values: list[Any]
    packed: Packed | None


class PreparedPatch(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A Patch that one statement says, as long as nobody follows the store."""

    patch: Patch
    text: str
    values: list[Any]


class Preparation:
    """Does what needs no transaction."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self._writings: dict[str, Writing] = {}

    def prepare(self, tenant: str, change: Change) -> Change | Prepared | PreparedPatch:
        """The change; a Put with its row encoded and its text analysed; a Patch as a statement."""
        if isinstance(change, Put):
            writing = self.writing(change.collection)
            values = writing.columns.encode(change.record)
            values.insert(0, tenant)
            packed = None if writing.terms is None else pack(writing.collection, change.record)
            return Prepared(change, writing, values, packed)
        if isinstance(change, Patch):
            statement = self.planner.patch(tenant, change)
            return change if statement is None else PreparedPatch(change, *statement)
        return change

    def writing(self, name: str) -> Writing:
        """How a collection is written, in the edition that is known now."""
        collection = self.planner.collections[name]
        found = self._writings.get(name)
        if found is None or found.collection is not collection:
            found = self._writings[name] = Writing(
                collection,
                self.planner.columns(name),
                self.planner.insert(name),
                self.planner.upsert(name, ",_row"),
                terms_of(collection) if collection.full_text else None,
                tuple(_vectors_of(collection, field) for field in collection.vectors),
            )
        return found
