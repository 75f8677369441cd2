"""What every store stands on: a driver, a scope and a runtime. No store knows an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from holdfast.core.change import ABSENT, Change, Outcome, Put
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Corrupt, Invalid, NotFound, kind_of
from holdfast.core.filter import Filter, Record, both, eq
from holdfast.core.halves import Write, is_left
from holdfast.core.query import Order, Query
from holdfast.core.record_type import place_of
from holdfast.core.runtime import Runtime
from holdfast.core.scope import SCOPE_FIELDS, Scope
from holdfast.core.turns import in_turns
from holdfast.core.values import plain
from holdfast.stores.given import check_page

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something the store knows about itself, such as the key that signs cursors."""

    id: str
    value: Any
    revision: int = 0


FACTS = Collection.of(Fact, "facts")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some of a listing. ``next_cursor`` continues it, and is None at its end."""

    items: list[T]
    next_cursor: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Store:
    """Base of all stores. A subclass names its ``collections`` and writes its verbs."""

    collections: ClassVar[tuple[Collection, ...]] = ()

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime) -> None:
        self._driver = driver
        self._scope = scope
        self._runtime = runtime
        self._bound = scope.bound()
        self._own_fields = {part: self._bound.get(part, "") for part in SCOPE_FIELDS}
        self._signing_key: bytes | None = None

    def _now(self) -> datetime:
        return self._runtime.clock.now()

    def _new_id(self) -> str:
        return self._runtime.ids.new()

    def _scope_fields(self, **given: str | None) -> dict[str, str]:
        """Scope fields of a new record: as given, else as bound, else empty."""
        if not given:
            return {**self._own_fields}
        return {part: given.get(part) or own for part, own in self._own_fields.items()}

    def _within(self, collection: Collection, *parts: Filter | None) -> Filter:
        """The parts, narrowed to what this handle is bound to."""
        if not self._bound:
            return both(*parts)
        bound = self._bound.items()
        return both(*[eq(name, v) for name, v in bound if name in collection.by_name], *parts)

    def _apply(
        self, *changes: Change, op_id: str | None = None, asked: tuple[Any, ...] = ()
    ) -> list[Outcome]:
        """Write the changes as one.

        With ``op_id``, ``asked`` is the verb and what its caller gave it: a repeat must ask the
        same, whatever ids and times it mints.
        """
        tenant = self._scope.tenant
        if op_id is None:
            return self._driver.apply(tenant, changes)
        kept_id = self._scope.operation(op_id)
        return self._driver.apply(tenant, changes, op_id=kept_id, op_body=_body(asked))

    def _perform(
        self,
        changes: list[Change],
        answer: Callable[[list[Outcome]], T],
        refused: Callable[[Conflict | NotFound], None],
    ) -> T:
        """Apply the changes and answer; the last act of a verb that is marked as halved."""
        write = Write(self._driver, self._scope.tenant, changes, answer, refused)
        return cast("T", write) if is_left() else write.finish()

    def _get(self, collection: Collection, *key: Any, vectors: bool = False) -> Record | None:
        """The record, or None when it is missing or outside the bound scope."""
        record = self._driver.get(self._scope.tenant, collection.name, key, vectors=vectors)
        if record is not None:
            for part, value in self._bound.items():
                if record.get(part, value) != value:
                    return None
        return record

    def _require(self, collection: Collection, *key: Any, vectors: bool = False) -> Record:
        """The record, or NotFound, alike for missing and foreign ones."""
        record = self._get(collection, *key, vectors=vectors)
        if record is None:
            raise NotFound(f"There is no such record in {collection.name}.")
        return record

    def _all(
        self,
        collection: Collection,
        *parts: Filter | None,
        order: tuple[Order, ...] = (),
        limit: int | None = None,
        vectors: bool = False,
        fields: tuple[str, ...] | None = None,
    ) -> list[Record]:
        query = Query(
            collection=collection.name,
            filter=self._within(collection, *parts),
            order=order,
            limit=limit,
            vectors=vectors,
            fields=fields,
        )
        return self._driver.query(self._scope.tenant, query).records

    def _tenant_rows(
        self, collection: Collection, where: Filter, *, limit: int | None = None
    ) -> list[Record]:
        """The tenant's records, also those outside the bound scope.

        For what must hold in the whole tenant, and never to be shown.
        """
        query = Query(collection=collection.name, filter=where, limit=limit)
        return self._driver.query(self._scope.tenant, query).records

    def _first(
        self, collection: Collection, *parts: Filter | None, order: tuple[Order, ...] = ()
    ) -> Record | None:
        found = self._all(collection, *parts, order=order, limit=1)
        return found[0] if found else None

    def _page(
        self,
        collection: Collection,
        build: Callable[[Record], T],
        *parts: Filter | None,
        order: tuple[Order, ...],
        limit: int,
        cursor: str | None,
        moving: Filter | None = None,
        fields: tuple[str, ...] | None = None,
    ) -> Page[T]:
        """A page of what the parts select.

        ``moving`` is a filter by the present instant: it is applied, but a cursor stays good
        although it has moved. ``fields`` are those that ``build`` needs; None reads all.
        """
        check_page(limit, cursor)
        tenant, where = self._scope.tenant, self._within(collection, *parts)
        query = Query(
            collection=collection.name, filter=where, order=order, limit=limit, fields=fields
        )
        after = None
        if cursor is not None:
            from holdfast.core.cursor import decode_cursor

            after = decode_cursor(self._cursor_key(), tenant, query, cursor)
        rows = self._driver.query(
            tenant, msgspec.structs.replace(query, filter=both(where, moving), after=after)
        )
        following = None
        if rows.last is not None:
            from holdfast.core.cursor import encode_cursor

            following = encode_cursor(self._cursor_key(), tenant, query, rows.last)
        return Page([build(record) for record in in_turns(rows.records)], following)

    def _cursor_key(self) -> bytes:
        """The tenant's signing key, made at its first cursor, and the same ever after."""
        if self._signing_key is not None:
            return self._signing_key
        fact = self._driver.get(self._scope.tenant, FACTS.name, ("cursor_key",))
        if fact is None:
            made = Put(
                FACTS.name, {"id": "cursor_key", "value": self._runtime.ids.secret()}, ABSENT
            )
            try:
                fact = self._apply(made)[0].record
            except Conflict:
                fact = self._require(FACTS, "cursor_key")
        self._signing_key = bytes.fromhex(fact["value"])
        return self._signing_key


def _body(asked: tuple[Any, ...]) -> bytes | None:
    """What a repeat must have in common; None where only the check layer can say what is wrong."""
    from hashlib import sha256

    try:
        return sha256(msgspec.msgpack.encode(asked, enc_hook=plain)).digest()
    except (TypeError, ValueError, OverflowError, RecursionError, Invalid):
        return None


def builder(struct: type[S]) -> Callable[[Record], S]:
    """A function that makes the struct from a stored record, or raises Corrupt naming it.

    Every field is checked against its declared type (0.1 us more than no check), because what
    another program wrote may be of the right kind for the engine and still mean nothing.
    """
    convert = msgspec.convert

    def build(record: Record) -> S:
        try:
            return convert(record, struct)
        except msgspec.ValidationError as error:
            place, record_id = place_of(error), record.get("id")
            which = "" if record_id is None else f": {record_id}"
            raise Corrupt(
                f"A stored {struct.__name__} does not decode at {place}{which}.",
                hint="Run an integrity check, or restore the record from a backup.",
                record=struct.__name__,
                id=record_id,
                field=place,
            ) from error

    return build


def one_of(field: str, value: object, choices: Any) -> Any:
    """``value`` if it is one of a Literal's members, else Invalid naming them."""
    allowed: tuple[str, ...] = choices.__args__
    if not isinstance(value, str) or value not in allowed:
        got = repr(value) if isinstance(value, str) else value
        raise Invalid(field, expected=f"one of {', '.join(allowed)}", got=got)
    return value


def object_of(field: str, value: object) -> dict[str, Any]:
    """``value`` as a JSON object; None gives an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid(field, expected="an object", got=kind_of(value))
    return dict(value)
