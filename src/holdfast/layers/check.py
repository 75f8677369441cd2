"""The check that stands above every engine: what the contract forbids never reaches one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec

from holdfast.core.capabilities import Capability
from holdfast.core.change import (
    Absent,
    Change,
    Delete,
    DeleteWhere,
    Edit,
    Outcome,
    Patch,
    PatchWhere,
    Present,
    Put,
    Revision,
    Scale,
    When,
)
from holdfast.core.collection import REVISION, Collection
from holdfast.core.driver import Driver, FeedEntry, Health, Report, Task
from holdfast.core.errors import Closed, ForkedConnection, Invalid, InvalidJson, Unsupported
from holdfast.core.filter import (
    And,
    Compare,
    Contains,
    Filter,
    In,
    InSelect,
    IsNull,
    JsonExists,
    JsonPath,
    Not,
    Or,
    Prefix,
    Record,
)
from holdfast.core.query import Aggregate, Bucket, Measure, Order, Query, Rows, full_order
from holdfast.core.scope import EVERY_TENANT, NAME_LIMIT, Tenant
from holdfast.core.search import Hits, Search, TextLeg
from holdfast.core.values import (
    check_count,
    check_float,
    check_json,
    check_text,
    check_time,
    check_vector,
)
from holdfast.layers.layer import Layer

FILTER_NODE_LIMIT: Final = 64
"""Most nodes of one filter."""
IN_LIMIT: Final = 10_000
"""Most values of one In."""
CHANGE_LIMIT: Final = 10_000
"""Most changes of one apply."""
K_LIMIT: Final = 1_000
"""Most records that one search leg may ask for."""
TERM_LIMIT: Final = 128
"""Most terms of one search; longer queries keep their first ones, as recall says."""
JSON_KEY_LIMIT: Final = 128

COMPARE_OPS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
_ORDERED: Final = {"text", "int", "float", "bool", "time"}


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
        self._process_id = os.getpid()

    def setup(self, collections: Sequence[Collection]) -> None:
        self._check_open()
        self.below.setup(collections)
        self._collections.update({c.name: c for c in collections})

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        self._check_open()
        _check_tenant(tenant)
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
        _check_tenant(tenant)
        _expect_list("changes", changes)
        check_count("changes", len(changes), 0, CHANGE_LIMIT)
        if op_id is not None:
            check_text("op_id", op_id, NAME_LIMIT)
        checked = [self._change(change) for change in changes]
        return self.below.apply(tenant, checked, op_id=op_id, op_body=op_body)

    def query(self, tenant: Tenant, query: Query) -> Rows:
        self._check_open()
        if tenant is not EVERY_TENANT:
            _check_tenant(tenant)
        collection = self._collection(query.collection)
        self._order(collection, query.order)
        if query.limit is not None:
            check_count("limit", query.limit, 0, 2**31)
        query = msgspec.structs.replace(query, filter=self._filter(collection, query.filter))
        if query.after is not None:
            order = full_order(query.order, collection.key)
            _expect_list("after", query.after)
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
            _check_tenant(tenant)
        collection = self._collection(aggregate.collection)
        _check_groups(collection, aggregate)
        _check_measures(collection, aggregate)
        checked = self._filter(collection, aggregate.filter)
        return self.below.aggregate(tenant, msgspec.structs.replace(aggregate, filter=checked))

    def search(self, tenant: str, search: Search) -> Hits:
        self._check_open()
        _check_tenant(tenant)
        collection = self._collection(search.collection)
        check_count("k", search.k, 0, K_LIMIT)
        if search.text is not None:
            self._offered("full_text", self.capabilities.full_text)
            if not collection.full_text:
                raise Invalid("text", expected="a collection with text search", got=collection.name)
            _check_text_leg(search.text)
        if search.vector is not None:
            self._offered("vectors", self.capabilities.vectors)
            if search.vector.field not in collection.vectors:
                collection.field(search.vector.field)
                raise Invalid("vector", expected="a vector field", got=search.vector.field)
            check_vector("vector", search.vector.vector)
        if search.minimum is not None:
            check_float("minimum", search.minimum)
        checked = self._filter(collection, search.filter)
        return self.below.search(tenant, msgspec.structs.replace(search, filter=checked))

    def feed(self, follower: str, *, after: int, limit: int) -> list[FeedEntry]:
        self._check_open()
        self._offered("feed", self.capabilities.feed)
        check_text("follower", follower, NAME_LIMIT)
        check_count("after", after, 0, 2**62)
        check_count("limit", limit, 0, CHANGE_LIMIT)
        return self.below.feed(follower, after=after, limit=limit)

    def maintain(self, task: Task, **options: Any) -> Report:
        self._check_open()
        if task in ("follow", "unfollow", "trim"):
            self._offered("feed", self.capabilities.feed)
        if task == "integrity":
            self._offered("integrity", self.capabilities.integrity)
        _check_task(task, options)
        return self.below.maintain(task, **options)

    def backup(self, target: str) -> Report:
        self._check_open()
        self._offered("backup", self.capabilities.backup)
        return self.below.backup(target)

    def health(self) -> Health:
        if self._closed:
            return Health(False, self.name, "the store is closed")
        return self.below.health()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if os.getpid() == self._process_id:
                self.below.close()

    def native(self) -> Any:
        self._check_open()
        return self.below.native()

    def group(self) -> AbstractContextManager[None]:
        self._check_open()
        self._offered("shared_commits", self.capabilities.shared_commits)
        return self.below.group()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("The store is closed.", hint="Open it again.")
        if os.getpid() != self._process_id:
            raise ForkedConnection(
                "The store was opened before this process was forked.",
                hint="Open it again in the child process.",
            )

    def _offered(self, name: str, capability: Capability) -> None:
        if not capability:
            raise Unsupported(
                f"The {self.name} backend does not offer {name}: {capability.reason}.",
                capability=name,
                backend=self.name,
            )

    def _collection(self, name: str) -> Collection:
        found = self._collections.get(name) if isinstance(name, str) else None
        if found is None:
            raise Invalid("collection", expected="a collection that was set up", got=repr(name))
        return found

    def _change(self, change: Change) -> Change:
        if not isinstance(change, Change):
            raise Invalid("changes", expected="a Change", got=change)
        collection = self._collection(change.collection)
        if isinstance(change, Put):
            return Put(
                change.collection,
                collection.check_record(change.record),
                self._condition(collection, change.when),
            )
        if isinstance(change, Patch):
            return Patch(
                change.collection,
                collection.check_key(change.key),
                _edit(collection, change.edit),
                self._condition(collection, change.when),
            )
        if isinstance(change, Delete):
            key = collection.check_key(change.key)
            return Delete(change.collection, key, self._condition(collection, change.when))
        checked = self._filter(collection, change.filter)
        if isinstance(change, PatchWhere):
            return PatchWhere(change.collection, checked, _edit(collection, change.edit))
        self._order(collection, change.order)
        if isinstance(change, DeleteWhere):
            if change.limit is not None:
                check_count("limit", change.limit, 0, 2**31)
            return msgspec.structs.replace(change, filter=checked)
        check_count("limit", change.limit, 0, CHANGE_LIMIT)
        edit = _edit(collection, change.edit)
        return msgspec.structs.replace(change, filter=checked, edit=edit)

    def _condition(self, collection: Collection, when: Any) -> Any:
        if when is None or isinstance(when, (Absent, Present)):
            return when
        if isinstance(when, When):
            return When(self._filter(collection, when.filter))
        if not isinstance(when, Revision):
            raise Invalid("when", expected="a Condition", got=when)
        check_count("revision", when.number, 0, 2**62)
        return when

    def _order(self, collection: Collection, order: tuple[Order, ...]) -> None:
        _expect_list("order", order)
        for term in order:
            if not isinstance(term, Order):
                raise Invalid("order", expected="an Order", got=term)
            if term.field == REVISION:
                continue
            kind = collection.field(term.field).kind
            if kind not in _ORDERED:
                raise Invalid(term.field, expected="a field that can be sorted by", got=kind)

    def _filter(self, collection: Collection, part: Filter) -> Filter:
        if isinstance(part, And) and not part.parts:
            return part
        return self._node(collection, part, [FILTER_NODE_LIMIT])

    def _node(self, collection: Collection, part: Filter, left: list[int]) -> Filter:
        left[0] -= 1
        if left[0] < 0:
            raise Invalid("filter", expected=f"at most {FILTER_NODE_LIMIT} parts", got="more")
        if isinstance(part, And | Or):
            _expect_list("filter", part.parts)
        if isinstance(part, And):
            return And(tuple(self._node(collection, p, left) for p in part.parts))
        if isinstance(part, Or):
            return Or(tuple(self._node(collection, p, left) for p in part.parts))
        if isinstance(part, Not):
            return Not(self._node(collection, part.part, left))
        if isinstance(part, InSelect):
            inner = self._collection(part.collection)
            kind, found = collection.field(part.field).kind, inner.field(part.select).kind
            if kind in ("json", "texts") or kind != found:
                raise Invalid(
                    part.select, expected=f"a field that {part.field} can equal", got=found
                )
            return msgspec.structs.replace(part, where=self._node(inner, part.where, left))
        return _leaf(collection, part)


def _leaf(collection: Collection, part: Filter) -> Filter:
    if isinstance(part, Compare):
        _expect_word("op", part.op, COMPARE_OPS)
        kind = "int" if part.field == REVISION else collection.field(part.field).kind
        if kind in ("json", "texts") or (kind == "bytes" and part.op not in ("eq", "ne")):
            raise Invalid(part.field, expected=f"a field that compares with {part.op}", got=kind)
        if part.value is None:
            raise Invalid(part.field, expected="a value", got="null", hint="Use is_null.")
        value = collection.check_value(part.field, part.value)
        return part if value is part.value else Compare(part.field, part.op, value)
    if isinstance(part, In):
        _expect_list("values", part.values)
        check_count("values", len(part.values), 0, IN_LIMIT)
        if collection.field(part.field).kind in ("json", "texts"):
            raise Invalid(part.field, expected="a field with one value", got="another kind")
        return In(part.field, tuple(_present(collection, part.field, v) for v in part.values))
    if isinstance(part, IsNull):
        if part.field not in collection.vectors:
            collection.field(part.field)
        return part
    if isinstance(part, Prefix):
        _expect_kind(collection, part.field, "text")
        check_text(part.field, part.text)
        return part
    if isinstance(part, Contains):
        _expect_kind(collection, part.field, "texts")
        _expect_list("values", part.values)
        check_count("values", len(part.values), 0, IN_LIMIT)
        _expect_word("mode", part.mode, ("all", "any"))
        for value in part.values:
            check_text(part.field, value)
        return part
    if isinstance(part, JsonPath | JsonExists):
        _expect_kind(collection, part.field, "json")
        _check_path(part.field, part.path)
        if isinstance(part, JsonPath):
            _check_json_scalar(part)
        return part
    raise Invalid("filter", expected="a Filter", got=part)


def _present(collection: Collection, name: str, value: object) -> Any:
    if value is None:
        raise Invalid(name, expected="a value", got="null", hint="Use is_null.")
    return collection.check_value(name, value)


def _expect_kind(collection: Collection, name: str, kind: str) -> None:
    found = collection.field(name).kind
    if found != kind:
        raise Invalid(name, expected=f"a field of kind {kind}", got=found)


def _check_path(field: str, path: tuple[str, ...]) -> None:
    _expect_list(f"{field} path", path)
    if not 1 <= len(path) <= 16:
        raise Invalid(field, expected="a path of 1 to 16 keys", got=f"{len(path)} keys")
    for key in path:
        check_text(f"{field} path", key, JSON_KEY_LIMIT)
        if not key or not all(c.isalnum() or c in "_-. " for c in key):
            raise Invalid(
                f"{field} path", expected="keys of letters, digits, '_', '-', '.'", got="others"
            )


def _check_json_scalar(part: JsonPath) -> None:
    _expect_word("op", part.op, COMPARE_OPS)
    if not isinstance(part.value, str | int | float):
        raise InvalidJson(part.field, expected="text, a number or a bool", got=part.value)
    check_json(part.field, part.value)
    if isinstance(part.value, bool) and part.op not in ("eq", "ne"):
        raise Invalid(part.field, expected="a number or text to compare", got="bool")


def _edit(collection: Collection, edit: Edit) -> Edit:
    if not isinstance(edit, Edit):
        raise Invalid("edit", expected="an Edit", got=edit)
    seen: set[str] = set()
    checked: dict[str, Any] = {}
    for operation, kinds in _EDIT_KINDS.items():
        given = getattr(edit, operation)
        if given == {}:
            continue
        _expect_mapping("edit", given)
        operands = checked[operation] = {}
        for name, value in given.items():
            if name in seen:
                raise Invalid(name, expected="one operation per field", got="two")
            if name in collection.key or name == REVISION:
                raise Invalid(name, expected="a field that can be edited", got="a key field")
            seen.add(name)
            if kinds:
                _expect_one_of(collection, name, kinds)
            operands[name] = _operand(collection, operation, name, value)
    return Edit(**checked)


def _operand(collection: Collection, operation: str, name: str, value: object) -> Any:
    """What one operation does to one field; only ``set`` may be given null."""
    if operation == "scale":
        _check_scale(name, value)
        return value
    if operation == "merge":
        _expect_mapping(name, value)
    if operation != "set":
        return _present(collection, name, value)
    return collection.check_value(name, value)


def _check_scale(name: str, scale: object) -> None:
    if not isinstance(scale, Scale):
        raise Invalid(name, expected="a Scale", got=scale)
    for part, value in msgspec.structs.asdict(scale).items():
        if value is not None:
            check_float(f"{name} {part}", value)


def _check_groups(collection: Collection, aggregate: Aggregate) -> None:
    _expect_list("group_by", aggregate.group_by)
    for group in aggregate.group_by:
        if isinstance(group, Bucket):
            _expect_word("unit", group.unit, ("hour", "day", "month"))
        name = group.field if isinstance(group, Bucket) else group
        kind = collection.field(name).kind
        if kind not in _ORDERED or (isinstance(group, Bucket) and kind != "time"):
            raise Invalid(name, expected="a field that can be grouped so", got=kind)


def _check_measures(collection: Collection, aggregate: Aggregate) -> None:
    _expect_list("measures", aggregate.measures)
    names = [g.name if isinstance(g, Bucket) else g for g in aggregate.group_by]
    for measure in aggregate.measures:
        if not isinstance(measure, Measure):
            raise Invalid("measures", expected="a Measure", got=measure)
        _expect_word("kind", measure.kind, ("count", "sum", "min", "max", "distinct"))
        names.append(check_text("measure", measure.name, NAME_LIMIT))
        if measure.field is not None:
            kind = collection.field(measure.field).kind
            if kind not in _ORDERED or (measure.kind == "sum" and kind not in ("int", "float")):
                raise Invalid(measure.field, expected=f"a field with a {measure.kind}", got=kind)
        elif measure.kind != "count":
            raise Invalid(measure.name, expected="a field to measure", got="none")
    if len(set(names)) < len(names):
        raise Invalid("measures", expected="one name for each column of the answer", got="twins")


def _check_text_leg(leg: TextLeg) -> None:
    _expect_list("terms", leg.terms)
    check_count("terms", len(leg.terms), 0, TERM_LIMIT)
    for term in leg.terms:
        check_text("terms", term)
    _expect_word("match", leg.match, ("any", "all"))
    for name, value in (("k1", leg.k1), ("b", leg.b)):
        if check_float(name, value) < 0:
            raise Invalid(name, expected="a number of at least 0", got=str(value))


def _check_task(task: object, options: dict[str, Any]) -> None:
    """What each maintenance task must be told, and may be."""
    if not isinstance(task, str) or task not in _TASKS:
        raise Invalid("task", expected=f"one of {', '.join(_TASKS)}", got=repr(task))
    needed, optional = _TASKS[task]
    for name in options.keys() - set(needed) - set(optional):
        raise Invalid(name, expected=f"an option of {task}", got="an unknown option")
    for name in needed:
        if name not in options:
            raise Invalid(name, expected=f"an option that {task} needs", got="none")
    if "now" in options:
        check_time("now", options["now"])
    if "follower" in options:
        check_text("follower", options["follower"], NAME_LIMIT)
    if "position" in options:
        check_count("position", options["position"], 0, 2**62)
    if options.get("limit") is not None:
        check_count("limit", options["limit"], 0, 2**31)


_TASKS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "sweep": (("now",), ("limit",)),
    "follow": (("follower",), ()),
    "unfollow": (("follower",), ()),
    "trim": (("follower", "position"), ()),
    "integrity": ((), ()),
    "analyze": ((), ()),
    "vacuum": ((), ()),
    "reindex": ((), ()),
}
"""Task -> the options that it needs, and those that it may be given."""


_EDIT_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "set": (),
    "default": (),
    "increment": ("int", "float"),
    "maximum": ("int", "float", "time", "text"),
    "minimum": ("int", "float", "time", "text"),
    "append": ("texts",),
    "merge": ("json",),
    "scale": ("float",),
}


def _expect_one_of(collection: Collection, name: str, kinds: tuple[str, ...]) -> None:
    found = collection.field(name).kind
    if found not in kinds:
        raise Invalid(name, expected=f"a field of kind {' or '.join(kinds)}", got=found)


def _expect_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        raise Invalid(name, expected=f"one of {', '.join(words)}", got="another")


def _expect_list(name: str, value: object) -> None:
    if not isinstance(value, list | tuple):
        raise Invalid(name, expected="a list", got=value)


def _expect_mapping(name: str, value: object) -> None:
    if type(value) is not dict and not isinstance(value, Mapping):
        raise Invalid(name, expected="an object", got=value)


def _check_tenant(tenant: object) -> None:
    if tenant is EVERY_TENANT:
        raise Invalid("tenant", expected="one tenant", got="every tenant")
    if not check_text("tenant", tenant, NAME_LIMIT):
        raise Invalid("tenant", expected=f"text of 1 to {NAME_LIMIT} characters", got="none")
