"""A collection is a declared shape. On SQL engines it is a real table with real columns."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from functools import cache, cached_property
from typing import Any, Final, Literal

import msgspec

from holdfast.core.alike import Alike, Check, alike
from holdfast.core.errors import Invalid
from holdfast.core.filter import Compare, Filter, Record, comparisons
from holdfast.core.values import (
    CHECKS,
    KEYED_TEXT_LIMIT,
    Kind,
    check_keyed_text,
    check_vector,
)

REVISION: Final = "revision"
"""The engine's own count of a record's writes: 1 when created, one more at each change."""

_ONLY_TEXT: Final = {str}
_SHAPES_LIMIT: Final = 1_024
"""Of how many shapes of records it is kept how they are checked: a store writes few."""

_KINDS: Final[dict[Any, Kind]] = {
    str: "text",
    int: "int",
    float: "float",
    bool: "bool",
    datetime: "time",
    bytes: "bytes",
    dict: "json",
    Any: "json",
}

_USUAL: Final[dict[str, Any]] = {
    "str": str,
    "str | None": str | None,
    "int": int,
    "float": float,
    "bool": bool,
    "bytes": bytes,
    "datetime": datetime,
    "datetime | None": datetime | None,
    "list[str]": list[str],
    "dict[str, Any]": dict[str, Any],
    "Any": Any,
}
"""What the annotations of nearly all fields mean, whatever the module they are written in."""


class Field(msgspec.Struct, frozen=True):
    """One typed column. ``default`` fills the column for rows older than the field."""

    name: str
    kind: Kind
    nullable: bool = False
    default: Any = None


class Unique(msgspec.Struct, frozen=True):
    """No two records of a tenant share these fields, among those that ``where`` selects.

    Nulls are distinct: a record with a null in the key collides with nothing.
    """

    name: str
    fields: tuple[str, ...]
    where: Filter | None = None


class Index(msgspec.Struct, frozen=True):
    """Fields in index order behind the tenant, and the query shape that the index serves."""

    fields: tuple[str, ...]
    serves: str
    where: Filter | None = None


class Sequence(msgspec.Struct, frozen=True):
    """The engine numbers ``field`` 1, 2, 3 ... within each value of ``per``; never reused."""

    field: str
    per: tuple[str, ...] = ()


class Reference(msgspec.Struct, frozen=True):
    """``field`` holds the key of a record in ``collection``, which must exist when written.

    What deleting that record does here: ``cascade`` deletes, ``restrict`` refuses with Conflict,
    ``clear`` sets null.
    """

    field: str
    collection: str
    on_delete: Literal["cascade", "restrict", "clear"]


class Collection(msgspec.Struct, frozen=True, dict=True):
    """A named shape: fields, a key inside the tenant, and what must hold and be found fast.

    ``version`` counts the shape's editions. Later editions may add fields, indexes and unique
    keys; engines bring older stores up to the edition at open and refuse newer ones.
    ``full_text`` names the text fields that keyword search reads, ``vectors`` the vector fields,
    ``filtered`` fields that searches are often narrowed to a few values of, ``included`` those by
    which hits are ordered or that nearly every search asks about, as a covering index includes
    columns: of both an engine may keep copies beside what it searches. ``ttl`` is the time field
    after which `maintain("sweep")` may delete the record. ``struct`` is the type that its store
    makes of a record; an integrity check names those that are none of it.
    """

    name: str
    fields: tuple[Field, ...]
    key: tuple[str, ...] = ("id",)
    unique: tuple[Unique, ...] = ()
    indexes: tuple[Index, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    references: tuple[Reference, ...] = ()
    full_text: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    filtered: tuple[str, ...] = ()
    included: tuple[str, ...] = ()
    ttl: str | None = None
    version: int = 1
    struct: type[msgspec.Struct] | None = None

    def __post_init__(self) -> None:
        assigned = {s.field for s in self.sequences}
        ttl = [self.ttl] if self.ttl else []
        named = {*self.full_text, *self.filtered, *self.included, *assigned, *ttl}
        for name in self.keyed_fields() | named:
            if name not in self.by_name:
                raise Invalid(f"{self.name}.{name}", expected="a declared field", got="no such")

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The declared fields by their names."""
        return types.MappingProxyType({f.name: f for f in self.fields})

    @cached_property
    def conditions(self) -> frozenset[Compare]:
        """The comparisons that its partial keys and indexes are made of."""
        wheres = [*(one.where for one in self.unique), *(one.where for one in self.indexes)]
        return frozenset(
            part for where in wheres if where is not None for part in comparisons(where)
        )

    @cached_property
    def _blank(self) -> Record:
        return dict.fromkeys((*self.by_name, *self.vectors))

    @cached_property
    def _required(self) -> tuple[str, ...]:
        """The fields that a record must bring: not nullable, and not numbered by the engine."""
        assigned = {s.field for s in self.sequences}
        return tuple(f.name for f in self.fields if not f.nullable and f.name not in assigned)

    @cached_property
    def _checks(self) -> dict[str, Check]:
        """The check of each field and vector."""
        keyed = self.keyed_fields()
        checks: dict[str, Check] = dict.fromkeys(self.vectors, check_vector)
        for f in self.fields:
            is_keyed = f.kind == "text" and f.name in keyed
            checks[f.name] = check_keyed_text if is_keyed else CHECKS[f.kind]
        return checks

    @cached_property
    def _alike(self) -> _Alikes:
        return _Alikes(self)

    @cached_property
    def _text_key(self) -> bool:
        return all(self.by_name[name].kind == "text" for name in self.key)

    @cached_property
    def _value_checks(self) -> dict[str, tuple[bool, Check]]:
        values = {f.name: (f.nullable, self._checks[f.name]) for f in self.fields}
        values[REVISION] = (False, CHECKS["int"])
        return values | dict.fromkeys(self.vectors, (True, check_vector))

    def __hash__(self) -> int:
        # Cheap, because shapes are keys of caches on hot paths; equality still compares all.
        return hash((self.name, self.version))

    @staticmethod
    def of(struct: type[msgspec.Struct], name: str, **declared: Any) -> Collection:
        """The collection whose fields are those of a record struct.

        ``str`` is text, ``dict`` and ``Any`` json, ``list[str]`` a text list, ``X | None``
        nullable. The struct must have ``revision: int``; ``declared`` are Collection's arguments.
        """
        hints = _hints(struct)
        defaults = _defaults(struct)
        fields = tuple(
            _field(name, hints[name], defaults.get(name))
            for name in struct.__struct_fields__
            if name != REVISION
        )
        return Collection(name=name, fields=fields, struct=struct, **declared)

    def keyed_fields(self) -> set[str]:
        """Fields of the key, of unique keys and of indexes; their text is kept short."""
        return {
            *self.key,
            *(name for unique in self.unique for name in unique.fields),
            *(name for index in self.indexes for name in index.fields),
        }

    def narrowed(
        self, fields: tuple[str, ...] | None, order: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """The fields that a record of a read holds, as declared: asked for, the key's, the order's.

        All of them when ``fields`` is None. A query's records hold the revision besides.
        """
        if fields is None:
            return tuple(self.by_name)
        wanted = {*fields, *self.key, *order}
        return tuple(name for name in self.by_name if name in wanted)

    def field(self, name: str) -> Field:
        """The declared field, or Invalid naming it."""
        found = self.by_name.get(name) if isinstance(name, str) else None
        if found is None:
            raise Invalid(
                name if isinstance(name, str) else "field",
                expected=f"a field of {self.name}",
                got="an unknown field",
                hint=f"It has: {', '.join(self.by_name)}.",
            )
        return found

    def check_record(self, record: Mapping[str, Any]) -> Record:
        """The whole record in canonical form, or Invalid naming the field that is wrong."""
        if type(record) is not dict and not isinstance(record, Mapping):
            raise Invalid("record", expected="an object", got=record)
        if REVISION in record:
            record = {name: value for name, value in record.items() if name != REVISION}
        known = self._alike[(*record, *map(type, record.values()))]
        if known is None or not known.is_sound(record):
            return self._check_each(record)
        checked = dict(record) if known.whole else {**self._blank, **record}
        for name, check in known.others:
            checked[name] = check(name, record[name])
        return checked

    def alike(self, shape: tuple[Any, ...]) -> Alike | None:
        """How records of a shape are checked; None where each is to be refused."""
        names = shape[: len(shape) // 2]
        given = dict(zip(names, shape[len(names) :], strict=True))
        if not given.keys() <= self._blank.keys():
            return None
        if any(given.get(name, type(None)) is type(None) for name in self._required):
            return None
        return alike(given, self._checks, whole=names == tuple(self._blank))

    def _check_each(self, record: Mapping[str, Any]) -> Record:
        """What `check_record` does, value by value: so the first that is wrong is named."""
        for name in record.keys() - self._blank.keys():
            self.field(name)
        checked, checks = {**self._blank, **record}, self._checks
        for name, value in record.items():
            if value is not None:
                checked[name] = checks[name](name, value)
        for name in self._required:
            if checked[name] is None:
                expected = "a value" if name in record else "a value for this field"
                raise Invalid(name, expected=expected, got="null")
        return checked

    def check_value(self, name: str, value: object) -> Any:
        """One field's value in canonical form; null only where the field allows it."""
        if name not in self._value_checks:
            self.field(name)  # which refuses it
        nullable, check = self._value_checks[name]
        if value is None:
            if not nullable:
                raise Invalid(name, expected="a value", got="null")
            return None
        return check(name, value)

    def check_of(self, name: str) -> Check:
        """What checks a value of the field that is not null."""
        if name not in self._value_checks:
            self.field(name)  # which refuses it
        return self._value_checks[name][1]

    def is_nullable(self, name: str) -> bool:
        """Whether the field may be null."""
        if name not in self._value_checks:
            self.field(name)  # which refuses it
        return self._value_checks[name][0]

    def key_of(self, record: Mapping[str, Any]) -> tuple[Any, ...]:
        """The record's key values."""
        return tuple([record[name] for name in self.key])

    def check_key(self, key: object) -> tuple[Any, ...]:
        """A key in canonical form: one value per key field."""
        if not isinstance(key, tuple) or len(key) != len(self.key):
            raise Invalid("key", expected=f"{len(self.key)} values in a tuple", got=key)
        if self._text_key and {*map(type, key)} == _ONLY_TEXT and _is_plain_key("".join(key)):
            return key
        return tuple(map(self.check_value, self.key, key))


class _Alikes(dict[tuple[Any, ...], Alike | None]):
    """How records of each shape are checked; None, which is not kept, for what is to be refused."""

    def __init__(self, collection: Collection) -> None:
        super().__init__()
        self._collection = collection

    def __missing__(self, shape: tuple[Any, ...]) -> Alike | None:
        made = self._collection.alike(shape)
        if made is not None:
            if len(self) >= _SHAPES_LIMIT:
                self.clear()
            self[shape] = made
        return made


def _is_plain_key(text: str) -> bool:
    """Whether this is short ASCII text, as nearly every key is, and so seen to be sound."""
    return len(text) <= KEYED_TEXT_LIMIT and text.isascii() and "\x00" not in text


def _hints(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The types of a struct's fields, as `typing.get_type_hints` gives them, but sooner.

    Opening a store reads some 500 annotations, and nearly all of them are among ten texts.
    """
    hints: dict[str, Any] = {}
    for owner in reversed(struct.__mro__):
        written = getattr(owner, "__annotations__", {})
        known = _meanings(owner.__module__)
        new = {hint: hint for hint in written.values() if type(hint) is str and hint not in known}
        if new:
            names = vars(sys.modules[owner.__module__])
            texts = types.SimpleNamespace(__annotations__=new)
            known |= typing.get_type_hints(texts, globalns=names)
        hints |= {name: known.get(hint, hint) for name, hint in written.items()}
    return hints


@cache
def _meanings(_module: str) -> dict[Any, Any]:
    """What the annotations of a module mean, by their texts, as far as they were read."""
    return dict[Any, Any](_USUAL)


def _defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The defaults of a struct's last fields; a mutable one is made by a factory."""
    given = struct.__struct_defaults__
    names = struct.__struct_fields__[len(struct.__struct_fields__) - len(given) :]
    made = (
        (name, getattr(default, "factory", default))
        for name, default in zip(names, given, strict=True)
    )
    return {
        name: default() if callable(default) else default
        for name, default in made
        if default is not msgspec.NODEFAULT
    }


def _field(name: str, hint: Any, default: Any) -> Field:
    nullable = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        nullable = len(parts) < len(typing.get_args(hint))
        hint = parts[0]
    origin = typing.get_origin(hint)
    if origin is Literal:
        hint = type(typing.get_args(hint)[0])
    elif origin is dict:
        hint = dict
    kind: Kind = "texts" if origin in (list, tuple) else _KINDS[hint]
    return Field(name, kind, nullable or hint is Any, default)
