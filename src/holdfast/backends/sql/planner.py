"""From contract values to SQL: statements are text made once per shape, values are always bound.

Identifiers come from declared collections only. A statement and its values travel as a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec.structs import asdict, astuple, replace

from holdfast.backends.sql.dialect import Codec, Dialect, quoted
from holdfast.backends.sql.edits import EditPlan, bind, edit_text, fields_of, plan_edit
from holdfast.backends.sql.filters import FilterPlanner, Shape, one_by_one
from holdfast.core.alike import picker
from holdfast.core.change import Claim, DeleteWhere, Edit, Patch
from holdfast.core.collection import REVISION, Collection, Reference
from holdfast.core.collection import Sequence as Sequenced
from holdfast.core.filter import Filter, Record
from holdfast.core.query import (
    Aggregate,
    Bucket,
    Measure,
    Order,
    Query,
    checked_sum,
    full_order,
)
from holdfast.core.scope import EVERY_TENANT, Tenant
from holdfast.core.turns import MANY, giving_way, in_turns

Statement = tuple[str, list[Any]]

_NO_LIMIT: Final = 2**62


class Columns(msgspec.Struct, frozen=True, eq=False, dict=True):
    """A collection's columns as one engine reads and writes them."""

    names: tuple[str, ...]
    """``revision`` first, then the fields in their declared order."""
    fields_of: Callable[[Record], tuple[Any, ...]]
    """A record's field values, in order."""
    encoders: tuple[tuple[int, Codec], ...]
    """Which of these are not bound as they are."""
    decoders: tuple[tuple[int, str, Codec], ...]
    """Which of a row's columns are not read as they are."""
    key_encoders: tuple[Codec | None, ...]
    plain_key: bool
    """Whether keys are bound as they are."""
    encoder_of: Mapping[str, Codec | None]
    listed: str
    """The columns of table t0, comma-separated."""
    watched: frozenset[str]
    """Fields with which more is due than writing them: text, vectors, references."""
    numbered: tuple[tuple[Sequenced, int], ...]
    """The sequences, and where the field of each is in what `encode` gives."""

    def encode(self, record: Record) -> list[Any]:
        """The field values to bind, in order, without revision."""
        values = list(self.fields_of(record))
        for at, encode in self.encoders:
            if values[at] is not None:
                values[at] = encode(values[at])
        return values

    def encode_key(self, key: tuple[Any, ...]) -> list[Any]:
        """The key values to bind, in order."""
        if self.plain_key:
            return list(key)
        return [
            value if encode is None else encode(value)
            for encode, value in zip(self.key_encoders, key, strict=True)
        ]

    @cached_property
    def _named(self) -> Callable[[tuple[Any, ...]], Record]:
        """What puts the names to a row, whatever follows the columns in it.

        By way of a struct: that fills a dictionary in half the time that `zip` takes for it.
        """
        names, width = self.names, len(self.names)
        if not all(name.isidentifier() and not name.startswith("__") for name in names):
            return lambda row: dict(zip(names, row, strict=False))
        struct = msgspec.defstruct("Row", names)
        return lambda row: asdict(struct(*row[:width]))

    def decode(self, row: tuple[Any, ...]) -> Record:
        """The record in a row that was read by ``listed``."""
        record = self._named(row)
        for at, name, decode in self.decoders:
            value = row[at]
            if value is not None:
                record[name] = decode(value)
        return record

    def decode_all(self, rows: Sequence[tuple[Any, ...]]) -> list[Record]:
        """What `decode` gives for each row, field by field: a third faster for hundreds of rows."""
        records = [*map(self._named, in_turns(rows))]
        many = len(records) >= MANY
        for _, name, decode in giving_way(self.decoders) if many else self.decoders:
            for record in records:
                value = record[name]
                if value is not None:
                    record[name] = decode(value)
        return records


class Planner:
    """Writes statements for one dialect over the collections that were set up."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.collections: dict[str, Collection] = {}
        self._filters = FilterPlanner(dialect, self.collections)
        self._columns: dict[str, Columns] = {}
        self._narrowed: dict[tuple[Any, ...], Columns] = {}
        self._texts: dict[tuple[Any, ...], str] = {}
        self._points: dict[str, tuple[Collection, Columns, str]] = {}
        self._edits: dict[tuple[Any, ...], EditPlan] = {}
        self._dependents: dict[str, list[tuple[Collection, Reference]]] = {}

    def declare(self, collection: Collection) -> None:
        """Make a collection, or its new edition, known.

        How it is read and written is worked out when it is first asked for: few processes use all.
        """
        self.collections[collection.name] = collection
        self._texts.clear()
        self._points.clear()
        self._edits.clear()
        self._narrowed.clear()
        self._dependents.clear()
        self._columns.pop(collection.name, None)

    def _columns_of(self, collection: Collection) -> Columns:
        dialect = self.dialect
        encoders = [dialect.encoder(f.kind) for f in collection.fields]
        key_encoders = tuple(dialect.encoder(collection.by_name[n].kind) for n in collection.key)
        return Columns(
            **self._read(collection, (REVISION, *collection.by_name)),
            fields_of=picker([f.name for f in collection.fields]),
            encoders=tuple((at, encode) for at, encode in enumerate(encoders) if encode),
            encoder_of={f.name: dialect.encoder(f.kind) for f in collection.fields},
            numbered=tuple(
                (sequence, [*collection.by_name].index(sequence.field))
                for sequence in collection.sequences
            ),
            key_encoders=key_encoders,
            plain_key=not any(key_encoders),
            watched=frozenset(
                (
                    *collection.full_text,
                    *collection.vectors,
                    *(reference.field for reference in collection.references),
                )
            ),
        )

    def dependents(self, collection: str) -> list[tuple[Collection, Reference]]:
        """The references to a collection, and who holds them."""
        found = self._dependents.get(collection)
        if found is None:
            found = self._dependents[collection] = [
                (holder, reference)
                for holder in tuple(self.collections.values())
                for reference in holder.references
                if reference.collection == collection
            ]
        return found

    def columns(
        self,
        collection: str,
        fields: tuple[str, ...] | None = None,
        order: tuple[Order, ...] = (),
        *,
        revision: bool = True,
    ) -> Columns:
        """How a collection's rows are read and written.

        With ``fields`` only these are read, and what `Collection.narrowed` adds to them; and the
        ``revision`` unless it is False.
        """
        if fields is None:
            whole = self._columns.get(collection)
            if whole is None:
                shape = self.collections[collection]
                whole = self._columns[collection] = self._columns_of(shape)
            return whole
        asked = (collection, fields, order, revision)
        found = self._narrowed.get(asked)
        if found is None:
            shape = self.collections[collection]
            names = shape.narrowed(fields, tuple(term.field for term in order))
            if revision:
                names = (REVISION, *names)
            found = replace(self.columns(collection), **self._read(shape, names))
            self._narrowed[asked] = found
        return found

    def _read(self, collection: Collection, names: tuple[str, ...]) -> dict[str, Any]:
        """The parts of Columns by which rows are read."""
        decoders = (
            (at, name, self.dialect.decoder(collection.by_name[name].kind))
            for at, name in enumerate(names)
            if name != REVISION
        )
        return {
            "names": names,
            "decoders": tuple((at, name, decode) for at, name, decode in decoders if decode),
            "listed": ",".join(f"t0.{self.dialect.column(name)}" for name in names),
        }

    def decoders(self, collection: Collection) -> dict[str, Codec]:
        """What reads the values of those fields that are not kept as they are."""
        return {name: decode for _, name, decode in self.columns(collection.name).decoders}

    def text(self, shape: tuple[Any, ...], write: Callable[[], str]) -> str:
        """The statement for a shape, written at its first use."""
        found = self._texts.get(shape)
        if found is None:
            found = self._texts[shape] = write()
        return found

    def encode(self, collection: Collection, name: str, value: Any) -> Any:
        """One value as it is bound for a field."""
        if value is None or name == REVISION:
            return value
        encode = self.dialect.encoder(collection.by_name[name].kind)
        return value if encode is None else encode(value)

    def where(
        self, tenant: Tenant, collection: Collection, part: Filter
    ) -> tuple[Shape, list[Any]]:
        """The shape and the values of "of this tenant and matching"."""
        values: list[Any] = [] if tenant is EVERY_TENANT else [tenant]
        shape = self._filters.shape(collection, part, values, tenant)
        return (tenant is EVERY_TENANT, shape), values

    def condition(self, where: Shape, *, picked: bool = False) -> str:
        """The text of what ``where`` returned; ``picked`` where rows are looked at by number."""
        every, shape = where
        text = self._filters.sql(one_by_one(shape) if picked else shape)
        if every:
            return text
        owned = f"t0.tenant = {self.dialect.mark}"
        return owned if text == "TRUE" else f"{owned} AND {text}"

    # --- reading

    def point(self, collection: str) -> tuple[Collection, Columns, str]:
        """All that a read by key needs, found in one look."""
        found = self._points.get(collection)
        if found is None:
            shape, columns = self.collections[collection], self.columns(collection)
            found = self._points[collection] = (shape, columns, self.get(collection))
        return found

    def get(self, collection: str, extra: str = "") -> str:
        """One record by tenant and key."""

        def write() -> str:
            shape = self.collections[collection]
            mark = self.dialect.mark
            key = " AND ".join(f"t0.{quoted(name)} = {mark}" for name in shape.key)
            return (
                f"SELECT {self.columns(collection).listed}{extra}"
                f" FROM {self.dialect.table(shape)} AS t0 WHERE t0.tenant = {mark} AND {key}"
            )

        return self.text(("get", collection, extra), write)

    def query(self, tenant: Tenant, query: Query, extra: str = "") -> Statement:
        """A page, one row longer than asked so that the caller sees whether more follow."""
        collection = self.collections[query.collection]
        where, values = self.where(tenant, collection, query.filter)
        order = full_order(query.order, collection.key)
        nulls = self._bind_after(collection, order, query.after, values)
        asked = _NO_LIMIT if query.limit is None else query.limit + 1
        count = self.dialect.limit(asked, values)
        if tenant is EVERY_TENANT:
            extra += ", t0.tenant"

        def write() -> str:
            condition = self.condition(where)
            if nulls is not None:
                condition += f" AND {self._after(collection, order, nulls)}"
            return (
                f"SELECT {self.columns(collection.name, query.fields, order).listed}{extra}"
                f" FROM {self.dialect.table(collection)} AS t0 WHERE {condition}"
                f" ORDER BY {self.order_by(order)} LIMIT {count}"
            )

        shape = ("query", collection.name, where, order, nulls, extra, query.fields, count)
        return self.text(shape, write), values

    def order_by(self, order: tuple[Order, ...]) -> str:
        """An ORDER BY list over table t0."""
        return ", ".join(
            self.dialect.sort_term(f"t0.{quoted(term.field)}", term.descending) for term in order
        )

    def _bind_after(
        self,
        collection: Collection,
        order: tuple[Order, ...],
        after: tuple[Any, ...] | None,
        values: list[Any],
    ) -> tuple[bool, ...] | None:
        """Bind a page's start; which of its values are null belongs to the shape."""
        if after is None:
            return None
        encoded = [
            self.encode(collection, term.field, value)
            for term, value in zip(order, after, strict=True)
        ]
        if self._is_plain(collection, order):
            values.extend(encoded)
        else:
            for last in range(len(order)):
                values.extend(value for value in encoded[:last] if value is not None)
                if encoded[last] is not None:
                    values.append(encoded[last])
        return tuple(value is None for value in encoded)

    def _after(
        self, collection: Collection, order: tuple[Order, ...], nulls: tuple[bool, ...]
    ) -> str:
        mark = self.dialect.mark
        columns = [f"t0.{quoted(term.field)}" for term in order]
        if self._is_plain(collection, order):
            sign = "<" if order[0].descending else ">"
            return f"({', '.join(columns)}) {sign} ({', '.join(mark for _ in columns)})"
        alternatives = []
        for last, term in enumerate(order):
            same = [
                f"{columns[i]} IS NULL" if nulls[i] else f"{columns[i]} = {mark}"
                for i in range(last)
            ]
            alternatives.append(
                " AND ".join([*same, _beyond(columns[last], term, nulls[last], mark)])
            )
        return "((" + ") OR (".join(alternatives) + "))"

    @staticmethod
    def _is_plain(collection: Collection, order: tuple[Order, ...]) -> bool:
        """Whether a row comparison says the same: one direction and no nulls."""
        one_way = len({term.descending for term in order}) == 1
        named = [term.field for term in order if term.field != REVISION]
        return one_way and not any(collection.by_name[name].nullable for name in named)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> Statement:
        """Figures per group."""
        collection = self.collections[aggregate.collection]
        where, values = self.where(tenant, collection, aggregate.filter)

        def write() -> str:
            groups = [self._group(group) for group in aggregate.group_by]
            selected = [*groups, *(self._measure(collection, m) for m in aggregate.measures)]
            text = (
                f"SELECT {', '.join(selected)} FROM {self.dialect.table(collection)} AS t0"
                f" WHERE {self.condition(where)}"
            )
            if groups:
                ordered = ", ".join(self.dialect.sort_term(group, False) for group in groups)
                text += f" GROUP BY {', '.join(groups)} ORDER BY {ordered}"
            return text

        shape = ("aggregate", collection.name, where, aggregate.group_by, aggregate.measures)
        return self.text(shape, write), values

    def aggregate_decoders(self, aggregate: Aggregate) -> list[tuple[str, Codec | None]]:
        """The answer's columns, in order, and how each is read."""
        collection = self.collections[aggregate.collection]
        named: list[tuple[str, Codec | None]] = []
        for group in aggregate.group_by:
            field = group.field if isinstance(group, Bucket) else group
            name = group.name if isinstance(group, Bucket) else group
            named.append((name, self.dialect.decoder(collection.by_name[field].kind)))
        for measure in aggregate.measures:
            read = None
            if measure.field is not None and measure.kind in ("min", "max"):
                read = self.dialect.decoder(collection.by_name[measure.field].kind)
            if measure.kind == "sum":
                read = self._sum_reader(collection, measure)
            named.append((measure.name, read))
        return named

    def _sum_reader(self, collection: Collection, measure: Measure) -> Codec:
        if self._sums_exactly(collection, measure):
            return lambda value: checked_sum(measure, self.dialect.read_sum(value))
        return lambda value: checked_sum(measure, value)

    @staticmethod
    def _sums_exactly(collection: Collection, measure: Measure) -> bool:
        return measure.field is not None and collection.by_name[measure.field].kind == "int"

    def _group(self, group: str | Bucket) -> str:
        if isinstance(group, Bucket):
            return self.dialect.bucket(f"t0.{quoted(group.field)}", group)
        return f"t0.{quoted(group)}"

    def _measure(self, collection: Collection, measure: Measure) -> str:
        column = "*" if measure.field is None else f"t0.{quoted(measure.field)}"
        if measure.kind == "distinct":
            return f"count(DISTINCT {column})"
        if measure.kind == "sum":
            exact = self._sums_exactly(collection, measure)
            return self.dialect.exact_sum(column) if exact else f"coalesce(sum({column}), 0)"
        if measure.field is not None and measure.kind in ("min", "max"):
            kind = collection.by_name[measure.field].kind
            return self.dialect.extremum(column, measure.kind, kind)
        return f"{measure.kind}({column})"

    # --- writing

    def insert(self, collection: str) -> str:
        """A new record; its values are tenant, then the fields."""
        return self.text(("insert", collection), lambda: self._insert(collection))

    def upsert(self, collection: str, returning: str) -> str:
        """A record created or replaced, returning ``revision`` and what the engine adds."""

        def write() -> str:
            shape = self.collections[collection]
            column = self.dialect.column
            names = [column(f.name) for f in shape.fields if f.name not in shape.key]
            sets = [f"{name}=excluded.{name}" for name in names]
            key = ",".join(map(column, ("tenant", *shape.key)))
            return (
                f"{self._insert(collection)} ON CONFLICT ({key}) DO UPDATE SET"
                f" {','.join((*sets, 'revision=t0.revision+1'))}"
                f" RETURNING revision{returning}"
            )

        return self.text(("upsert", collection), write)

    def _insert(self, collection: str) -> str:
        shape = self.collections[collection]
        names = ["tenant", *(f.name for f in shape.fields)]
        marks = ",".join(self.dialect.mark for _ in names)
        return (
            f"INSERT INTO {self.dialect.table(shape)} AS t0"
            f" ({','.join(map(self.dialect.column, names))},revision) VALUES ({marks},1)"
        )

    def is_plain(self, collection: str, edit: Edit) -> bool:
        """Whether an edit touches nothing with which more is due than writing it."""
        watched = self.columns(collection).watched
        return all(watched.isdisjoint(edited) for edited in astuple(edit))

    def edit(self, collection: str, edit: Edit) -> tuple[EditPlan, list[Any]]:
        """How an edit is written, found once for all that name its fields, and its values."""
        given = astuple(edit)
        known = (collection, fields_of(edit, given))
        plan = self._edits.get(known)
        if plan is None:
            shape, encoders = self.collections[collection], self.columns(collection).encoder_of
            plain = self.is_plain(collection, edit)
            plan = plan_edit(self.dialect, shape, encoders, edit, plain=plain)
            self._edits[known] = plan
        return plan, bind(plan.bindings, given)

    def patch_where(self, tenant: str, collection: str, part: Filter, edit: Edit) -> Statement:
        """One statement that edits every match."""
        shape = self.collections[collection]
        plan, values = self.edit(collection, edit)
        where, bound = self.where(tenant, shape, part)
        values.extend(bound)

        def write() -> str:
            assigned = edit_text(self.dialect, plan.shape)
            table = self.dialect.table(shape)
            return f"UPDATE {table} AS t0 SET {assigned} WHERE {self.condition(where)}"

        return self.text(("patch_where", collection, plan.shape, where), write), values

    def patch(self, tenant: str, patch: Patch) -> Statement | None:
        """One statement that edits a record by key.

        None where an edit takes more than writing it, or has a condition.
        """
        if patch.when is not None:
            return None
        plan, values = self.edit(patch.collection, patch.edit)
        if not plan.plain:
            return None
        values.append(tenant)
        values.extend(self.columns(patch.collection).encode_key(patch.key))
        return plan.by_key, values

    def delete_where(self, tenant: str, change: DeleteWhere, row_id: str) -> Statement:
        """One statement that deletes every match, the first ones in order when limited."""
        shape = self.collections[change.collection]
        where, values = self.where(tenant, shape, change.filter)
        if change.limit is not None:
            values.append(change.limit)

        def write() -> str:
            table, condition = self.dialect.table(shape), self.condition(where)
            if change.limit is None:
                return f"DELETE FROM {table} AS t0 WHERE {condition}"
            order = self.order_by(full_order(change.order, shape.key))
            return (
                f"DELETE FROM {table} WHERE {row_id} IN (SELECT t0.{row_id} FROM {table} AS t0"
                f" WHERE {condition} ORDER BY {order} LIMIT {self.dialect.mark})"
            )

        limited = change.limit is not None
        order = change.order if limited else ()
        return self.text(("delete_where", change.collection, where, limited, order), write), values

    def claimable(self, tenant: str, claim: Claim, extra: str, suffix: str = "") -> Statement:
        """The records that a claim will take, in order."""
        shape = self.collections[claim.collection]
        where, values = self.where(tenant, shape, claim.filter)
        order = full_order(claim.order, shape.key)
        values.append(claim.limit)

        def write() -> str:
            return (
                f"SELECT {self.columns(shape.name).listed}{extra}"
                f" FROM {self.dialect.table(shape)} AS t0 WHERE {self.condition(where)}"
                f" ORDER BY {self.order_by(order)} LIMIT {self.dialect.mark}{suffix}"
            )

        return self.text(("claim", shape.name, where, order, extra, suffix), write), values


def _beyond(column: str, term: Order, null: bool, mark: str) -> str:
    """The column comes after a value in a term's order, where null comes before all values."""
    if term.descending:
        return "FALSE" if null else f"({column} < {mark} OR {column} IS NULL)"
    return f"{column} IS NOT NULL" if null else f"{column} > {mark}"
