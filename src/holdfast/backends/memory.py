"""The reference engine: the contract in plain Python, in this process's memory.

It *is* the truth that other engines are compared with: filters by ``matches``, order by
``sorted_records``, edits by ``edited``, BM25 and cosine as `core.ranking` states them.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import numpy

from holdfast.core.capabilities import YES, Capabilities, no
from holdfast.core.change import (
    Change,
    Claim,
    Delete,
    DeleteWhere,
    Edit,
    Outcome,
    Patch,
    PatchWhere,
    Put,
)
from holdfast.core.clock import Clock, SystemClock
from holdfast.core.collection import REVISION, Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task, not_set_up
from holdfast.core.edit import check_condition, edited
from holdfast.core.errors import (
    Closed,
    Conflict,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    SchemaNewer,
    Unsupported,
)
from holdfast.core.filter import EVERYTHING, And, Compare, Filter, Record, Subselect, eq, lt
from holdfast.core.query import (
    Aggregate,
    Bucket,
    Measure,
    Order,
    Query,
    Rows,
    checked_sum,
    compare_positions,
    full_order,
    position,
    sorted_records,
)
from holdfast.core.ranking import bm25, cosine_scores
from holdfast.core.record_type import finding
from holdfast.core.scope import EVERY_TENANT, Tenant
from holdfast.core.search import Hit, Hits, RecordSet, Search, TextLeg, VectorLeg
from holdfast.core.text import term_frequencies

Key = tuple[Any, ...]


@dataclass
class _Table:
    """One tenant's records of one collection, and the analysed text beside them."""

    records: dict[Key, Record] = field(default_factory=dict)
    terms: dict[Key, dict[str, int]] = field(default_factory=dict)
    alike: dict[tuple[str, ...], dict[tuple[Any, ...], dict[Key, Record]]] = field(
        default_factory=dict
    )
    """Records by the values of fields that were asked for together."""

    def put(self, key: Key, record: Record | None, terms: dict[str, int] | None) -> None:
        """Keep a record in place of what is there, or None."""
        held = self.records.pop(key, None) if record is None else self.records.get(key)
        self.terms.pop(key, None)
        if record is not None:
            self.records[key] = record
            if terms:
                self.terms[key] = terms
        for fields, groups in self.alike.items():
            if held is not None:
                values = tuple([held[name] for name in fields])
                del groups[values][key]
                if not groups[values]:
                    del groups[values]
            if record is not None:
                groups.setdefault(tuple([record[name] for name in fields]), {})[key] = record

    def having(self, fields: tuple[str, ...], values: tuple[Any, ...]) -> dict[Key, Record]:
        """The records with these values, found without a look at all of them."""
        groups = self.alike.get(fields)
        if groups is None:
            groups = self.alike[fields] = {}
            for key, record in self.records.items():
                groups.setdefault(tuple([record[name] for name in fields]), {})[key] = record
        return groups.get(values, {})

    def narrowed(self, shape: Collection, where: Filter) -> Iterable[Record]:
        """Those of the records among which are all that match, by the keys of the collection."""
        parts = where.parts if isinstance(where, And) else (where,)
        given = {p.field: p.value for p in parts if isinstance(p, Compare) and p.op == "eq"}
        keys = (*(one.fields for one in shape.unique), *(one.fields[:1] for one in shape.indexes))
        found = [
            self.having(fields, tuple([given[name] for name in fields]))
            for fields in keys
            if given.keys() >= set(fields)
        ]
        return min(found, key=len, default=self.records).values()


class MemoryDriver(Driver):
    """Everything in dictionaries under one lock. Durable is the one thing that it is not."""

    name = "memory"
    capabilities = Capabilities(
        durable=no("it lives in the memory of this process"),
        multi_process=no("another process cannot see this one's memory"),
        full_text=YES,
        vectors=YES,
        feed=YES,
        backup=no("there is no file to copy; export the data instead"),
        integrity=YES,
        shared_commits=YES,
    )

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._collections: dict[str, Collection] = {}
        self._tables: dict[tuple[str, str], _Table] = {}
        self._sequences: dict[tuple[Any, ...], int] = {}
        self._operations: dict[tuple[str, str], tuple[bytes, list[Outcome]]] = {}
        self._followers: dict[str, int] = {}
        self._journal: list[FeedEntry] = []
        self._last_position = 0
        self._undo: list[Callable[[], object]] = []
        self._removing: set[tuple[str, Key]] = set()
        self._closed = False

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        with self._lock:
            for shape in collections:
                held = self._collections.get(shape.name, shape)
                if held.version > shape.version:
                    raise SchemaNewer(
                        f"{shape.name} is of edition {held.version} here, "
                        f"this program knows {shape.version}.",
                        hint="Upgrade the program.",
                    )
            if not create and any(self._collections.get(c.name) != c for c in collections):
                raise not_set_up()
            for shape in collections:
                if self._collections.get(shape.name, shape).version < shape.version:
                    self._refuse_twins(shape)
            for shape in collections:
                self._bring_up(shape)
                self._collections[shape.name] = shape

    def get(
        self, tenant: str, collection: str, key: Key, *, vectors: bool = False
    ) -> Record | None:
        with self._lock:
            shape = self._collections[collection]
            record = self._table(tenant, collection).records.get(key)
            return None if record is None else _copy(shape, record, vectors)

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        with self._lock:
            digest = b"" if op_id is None else op_body or msgspec.msgpack.encode(changes)
            if op_id is not None and (tenant, op_id) in self._operations:
                known, outcomes = self._operations[tenant, op_id]
                if known != digest:
                    raise IdempotencyMismatch("This operation id was used with another body.")
                return copy.deepcopy(outcomes)
            journal_length, last_position = len(self._journal), self._last_position
            self._undo = []
            try:
                outcomes = [self._change(tenant, change, op_id) for change in changes]
            except BaseException:
                for undo in reversed(self._undo):
                    undo()
                del self._journal[journal_length:]
                self._last_position = last_position
                raise
            if op_id is not None:
                self._operations[tenant, op_id] = (digest, copy.deepcopy(outcomes))
            return outcomes

    def query(self, tenant: Tenant, query: Query) -> Rows:
        with self._lock:
            shape = self._collections[query.collection]
            order = full_order(query.order, shape.key)
            found = sorted_records(self._select(tenant, query.collection, query.filter), order)
            if query.after is not None:
                after = query.after
                found = [
                    r for r in found if compare_positions(position(r, order), after, order) > 0
                ]
            taken = found if query.limit is None else found[: query.limit]
            last = position(taken[-1], order) if taken and len(taken) < len(found) else None
            fields = shape.narrowed(query.fields, tuple(term.field for term in order))
            return Rows([_copy(shape, record, query.vectors, fields) for record in taken], last)

    def aggregate(self, tenant: Tenant, aggregate: Aggregate) -> list[Record]:
        with self._lock:
            groups: dict[tuple[Any, ...], list[Record]] = {} if aggregate.group_by else {(): []}
            for record in self._select(tenant, aggregate.collection, aggregate.filter):
                values = tuple(_group_value(group, record) for group in aggregate.group_by)
                groups.setdefault(values, []).append(record)
            names = [g.name if isinstance(g, Bucket) else g for g in aggregate.group_by]
            rows = [
                {
                    **dict(zip(names, values, strict=True)),
                    **{m.name: _measure(m, records) for m in aggregate.measures},
                }
                for values, records in groups.items()
            ]
            return sorted_records(rows, tuple(Order(name) for name in names))

    def search(self, tenant: str, search: Search) -> Hits:
        with self._lock:
            shape = self._collections[search.collection]
            selected = {
                shape.key_of(record): record
                for record in self._select(tenant, search.collection, search.filter)
            }
            table = self._table(tenant, search.collection)
            text = _text_hits(table, selected, search.text, search.k)
            vector = _vector_hits(selected, search.vector, search.k, search.minimum)
            fields = shape.narrowed(search.fields)
            found = {
                hit.key: _copy(shape, selected[hit.key], False, fields) for hit in (*text, *vector)
            }
            if search.fields is not None:
                for record in found.values():
                    del record[REVISION]
            return Hits(tuple(text), tuple(vector), RecordSet.of(found))

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        with self._lock:
            if follower not in self._followers:
                raise NotFound("There is no such follower.", hint="Register it first.")
            return [entry for entry in self._journal if entry.position > after][:limit]

    def maintain(self, task: Task, **options: Any) -> Report:
        with self._lock:
            if task == "sweep":
                return self._sweep(options["now"], options.get("limit"))
            if task == "follow":
                self._followers.setdefault(options["follower"], self._last_position)
                return Report(task, True, {"position": self._followers[options["follower"]]})
            if task == "unfollow":
                self._followers.pop(options["follower"], None)
                return self._trim(task)
            if task == "trim":
                if options["follower"] not in self._followers:
                    raise NotFound("There is no such follower.", hint="Register it first.")
                self._followers[options["follower"]] = options["position"]
                return self._trim(task)
            findings = self._findings() if task == "integrity" else []
            held = sum(len(table.records) for table in self._tables.values())
            return Report(task, not findings, {"records": held}, findings)

    def _findings(self) -> list[str]:
        """What no store could build of what it holds."""
        return [
            wrong
            for (_, name), table in self._tables.items()
            for record in table.records.values()
            if (wrong := finding(self._collections[name], record)) is not None
        ]

    def backup(self, target: str) -> Report:
        raise Unsupported("The memory backend has no file to copy.")

    def health(self) -> Health:
        return Health(True, self.name, facts={"durability": "none"})

    def close(self) -> None:
        with self._lock:
            self._tables.clear()
            self._closed = True

    def group(self) -> AbstractContextManager[None]:
        return nullcontext()

    # --- reading

    def _table(self, tenant: str, collection: str) -> _Table:
        if self._closed:
            raise Closed("The store is closed.", hint="Open it again.")
        return self._tables.setdefault((tenant, collection), _Table())

    def _of(self, tenant: Tenant, collection: str) -> Iterable[tuple[str, _Table]]:
        if tenant is EVERY_TENANT:
            return [(t, table) for (t, name), table in self._tables.items() if name == collection]
        assert isinstance(tenant, str)
        return [(tenant, self._table(tenant, collection))]

    def _select(self, tenant: Tenant, collection: str, where: Filter) -> list[Record]:
        found: list[Record] = []
        for owner, table in self._of(tenant, collection):
            subselect = self._subselect(owner)
            narrowed = table.narrowed(self._collections[collection], where)
            found.extend(r for r in narrowed if where.matches(r, subselect))
        return found

    def _subselect(self, tenant: str) -> Subselect:
        answers: dict[tuple[str, str, int], set[Any]] = {}

        def values(collection: str, name: str, where: Filter) -> set[Any]:
            asked = (collection, name, id(where))
            if asked not in answers:
                answers[asked] = {r[name] for r in self._select(tenant, collection, where)} - {None}
            return answers[asked]

        return values

    # --- writing

    def _refuse_twins(self, shape: Collection) -> None:
        """Conflict where records that are there break a unique key that is new."""
        added = {field.name: field.default for field in shape.fields}
        for (_, name), table in self._tables.items():
            for unique in shape.unique if name == shape.name else ():
                where, seen = unique.where or EVERYTHING, set()
                for held in table.records.values():
                    record = {**added, **held}
                    values = tuple(record[field] for field in unique.fields)
                    if None in values or not where.matches(record):
                        continue
                    if values in seen:
                        raise Conflict(
                            f"Records of {shape.name} have the same {unique.name}.",
                            unique=unique.name,
                        )
                    seen.add(values)

    def _bring_up(self, shape: Collection) -> None:
        """Give older records the fields that a later edition added."""
        for (_, name), table in self._tables.items():
            table.alike.clear()
            for record in table.records.values() if name == shape.name else ():
                for added in shape.fields:
                    record.setdefault(added.name, copy.deepcopy(added.default))

    def _change(self, tenant: str, change: Change, op_id: str | None) -> Outcome:
        shape = self._collections[change.collection]
        table = self._table(tenant, change.collection)
        write = _Write(self, tenant, shape, table, op_id)
        if isinstance(change, Put):
            held = table.records.get(shape.key_of(change.record))
            check_condition(change.when, held, subselect=self._subselect(tenant))
            return Outcome(1, (write.store(change.record, held),))
        if isinstance(change, Patch):
            held = table.records.get(change.key)
            if held is None:
                raise NotFound("There is no such record.")
            check_condition(change.when, held, subselect=self._subselect(tenant))
            return Outcome(1, (write.edit(held, change.edit),))
        if isinstance(change, Delete):
            held = table.records.get(change.key)
            check_condition(change.when, held, subselect=self._subselect(tenant))
            return Outcome(0 if held is None else write.remove([held]))
        selected = self._select(tenant, change.collection, change.filter)
        if isinstance(change, PatchWhere):
            for held in sorted_records(selected, full_order((), shape.key)):
                write.edit(held, change.edit)
            return Outcome(len(selected))
        ordered = sorted_records(selected, full_order(change.order, shape.key))[: change.limit]
        if isinstance(change, DeleteWhere):
            return Outcome(write.remove(ordered))
        if isinstance(change, Claim):
            return Outcome(len(ordered), tuple(write.edit(held, change.edit) for held in ordered))
        raise Invalid("changes", expected="a Change", got=change)

    def _sweep(self, now: datetime, limit: int | None) -> Report:
        counts: dict[str, int] = {}
        for (tenant, name), _ in list(self._tables.items()):
            shape = self._collections[name]
            if shape.ttl:
                expired = DeleteWhere(name, lt(shape.ttl, now), limit, (Order(shape.ttl),))
                counts[name] = counts.get(name, 0) + self.apply(tenant, [expired])[0].count
        return Report("sweep", True, counts)

    def _trim(self, task: Task) -> Report:
        passed = min(self._followers.values(), default=self._last_position)
        before = len(self._journal)
        self._journal = [e for e in self._journal if e.position > passed and self._followers]
        return Report(task, True, {"dropped": before - len(self._journal)})


class _Write:
    """Writes to one table inside an apply, each with its undo."""

    def __init__(
        self, driver: MemoryDriver, tenant: str, shape: Collection, table: _Table, op_id: str | None
    ) -> None:
        self._driver, self._tenant, self._shape = driver, tenant, shape
        self._table, self._op_id = table, op_id

    def edit(self, held: Record, edit: Edit) -> Record:
        return self.store({**held, **edited(held, edit)}, held)

    def store(self, record: Record, held: Record | None) -> Record:
        record = dict(record)
        self._number(record)
        record[REVISION] = 1 if held is None else held[REVISION] + 1
        key = self._shape.key_of(record)
        self._check_unique(record, key)
        self._check_references(record)
        self._replace(key, record)
        return _copy(self._shape, record, False)

    def remove(self, records: Sequence[Record]) -> int:
        """Remove each and what hangs on it; one that hangs on another may be gone before its turn.

        A ring of references comes back to where it began, which is then left to its first visit.
        """
        removing = self._driver._removing
        for record in records:
            key = self._shape.key_of(record)
            visit = (self._shape.name, key)
            if visit in removing or key not in self._table.records:
                continue
            removing.add(visit)
            try:
                self._follow_references(record)
            finally:
                removing.discard(visit)
            self._replace(key, None)
        return len(records)

    def _replace(self, key: Key, record: Record | None) -> None:
        table, driver = self._table, self._driver
        held, terms = table.records.get(key), table.terms.get(key)
        driver._undo.append(lambda: table.put(key, held, terms))
        found: dict[str, int] = {}
        if record is not None and self._shape.full_text:
            found = term_frequencies("\n".join(record[f] or "" for f in self._shape.full_text))
        table.put(key, record, found)
        if driver._followers:
            self._journal(key, record, (record or held or {})[REVISION])

    def _journal(self, key: Key, record: Record | None, revision: int) -> None:
        driver = self._driver
        driver._last_position += 1
        body = None if record is None else _copy(self._shape, record, True)
        driver._journal.append(
            FeedEntry(
                driver._last_position,
                self._tenant,
                self._shape.name,
                key,
                revision,
                body,
                driver._clock.now(),
                self._op_id,
            )
        )

    def _number(self, record: Record) -> None:
        counters = self._driver._sequences
        for sequence in self._shape.sequences:
            per = (
                self._tenant,
                self._shape.name,
                sequence.field,
                *(record[f] for f in sequence.per),
            )
            last = counters.get(per, 0)
            if record.get(sequence.field) is None:
                record[sequence.field] = last + 1
            self._driver._undo.append(partial(counters.__setitem__, per, last))
            counters[per] = max(last, record[sequence.field])

    def _check_unique(self, record: Record, key: Key) -> None:
        for unique in self._shape.unique:
            where = unique.where or EVERYTHING
            values = [record[name] for name in unique.fields]
            if None in values or not where.matches(record):
                continue
            for other_key, other in self._table.having(unique.fields, tuple(values)).items():
                if other_key != key and where.matches(other):
                    raise Conflict(
                        f"Another record of {self._shape.name} has the same {unique.name}.",
                        unique=unique.name,
                    )

    def _check_references(self, record: Record) -> None:
        for reference in self._shape.references:
            value = record[reference.field]
            parents = self._driver._table(self._tenant, reference.collection).records
            if value is not None and (value,) not in parents:
                raise Conflict(
                    f"{reference.field} refers to no record of {reference.collection}.",
                    reference=reference.field,
                )

    def _follow_references(self, record: Record) -> None:
        for shape in self._driver._collections.values():
            for reference in shape.references:
                if reference.collection != self._shape.name:
                    continue
                where = eq(reference.field, record[self._shape.key[0]])
                table = self._driver._table(self._tenant, shape.name)
                held = [r for r in table.narrowed(shape, where) if where.matches(r)]
                write = _Write(self._driver, self._tenant, shape, table, self._op_id)
                if held and reference.on_delete == "restrict":
                    raise Conflict(
                        f"Records of {shape.name} still refer to this one.",
                        reference=reference.field,
                    )
                if reference.on_delete == "cascade":
                    write.remove(held)
                else:
                    for row in held:
                        write.edit(row, Edit(set={reference.field: None}))


def _copy(
    shape: Collection, record: Record, vectors: bool, fields: tuple[str, ...] | None = None
) -> Record:
    names = {*(shape.by_name if fields is None else fields), REVISION}
    return {
        name: copy.deepcopy(value) if type(value) in (dict, list) else value
        for name, value in record.items()
        if name in names or (vectors and name in shape.vectors)
    }


def _group_value(group: str | Bucket, record: Record) -> Any:
    if not isinstance(group, Bucket):
        return record[group]
    value = record[group.field]
    if value is None:
        return None
    value = value.replace(minute=0, second=0, microsecond=0)
    if group.unit == "hour":
        return value
    return value.replace(hour=0) if group.unit == "day" else value.replace(hour=0, day=1)


def _measure(measure: Measure, records: list[Record]) -> Any:
    if measure.field is None:
        return len(records)
    values = [r[measure.field] for r in records if r[measure.field] is not None]
    if measure.kind == "count":
        return len(values)
    if measure.kind == "distinct":
        return len(set(values))
    if measure.kind == "sum":
        return checked_sum(measure, sum(values))
    return (min if measure.kind == "min" else max)(values, default=None)


def _text_hits(
    table: _Table, selected: dict[Key, Record], leg: TextLeg | None, k: int
) -> list[Hit]:
    if leg is None or not leg.terms or not k:
        return []
    wanted = set(leg.terms)
    lengths = {key: sum(terms.values()) for key, terms in table.terms.items()}
    count = len(lengths)
    mean = sum(lengths.values()) / count if count else 0.0
    df = {term: sum(term in held for held in table.terms.values()) for term in wanted}
    hits = []
    for key, terms in table.terms.items():
        found = [term for term in wanted if term in terms]
        enough = len(found) == len(wanted) if leg.match == "all" else bool(found)
        if key not in selected or not enough:
            continue
        score = sum(
            bm25(terms[term], df[term], count, lengths[key], mean, leg.k1, leg.b)
            for term in sorted(found)
        )
        hits.append(Hit(key, score))
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k]


def _vector_hits(
    selected: dict[Key, Record], leg: VectorLeg | None, k: int, minimum: float | None
) -> list[Hit]:
    if leg is None:
        return []
    held = [
        (key, record[leg.field])
        for key, record in selected.items()
        if record.get(leg.field) is not None
        and record[leg.field].space == leg.vector.space
        and record[leg.field].width == leg.vector.width
    ]
    if not held:
        return []
    matrix = numpy.frombuffer(b"".join(v.data for _, v in held), "<f4").reshape(len(held), -1)
    scores = cosine_scores(matrix, numpy.frombuffer(leg.vector.data, "<f4"))
    hits = [Hit(key, float(score)) for (key, _), score in zip(held, scores, strict=True)]
    if minimum is not None:
        hits = [hit for hit in hits if hit.score >= minimum]
    return sorted(hits, key=lambda hit: (-hit.score, hit.key))[:k]
