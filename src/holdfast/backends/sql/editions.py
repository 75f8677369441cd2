"""Editions of a collection: what a store keeps of a shape, and what a later edition may change."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.core.collection import Collection
from holdfast.core.errors import Invalid, SchemaNewer, Unsupported
from holdfast.core.filter import And, Compare, Filter, In, Not, Or
from holdfast.core.text import ANALYSIS_VERSION


def needs_upgrade(collection: Collection, old: dict[str, Any]) -> bool:
    """Whether the stored edition is older; SchemaNewer if newer, Invalid if incompatible."""
    _refuse_newer(collection, "edition", old["version"], collection.version)
    _refuse_newer(collection, "text analysis", old["analysis"], ANALYSIS_VERSION)
    if old["version"] < collection.version or old["analysis"] < ANALYSIS_VERSION:
        return True
    if old["shape"] != shape_of(collection):
        raise Invalid(
            collection.name,
            expected=f"the shape that edition {collection.version} has here",
            got="another shape",
            hint="Raise the collection's version when its shape changes.",
        )
    return False


def _refuse_newer(collection: Collection, what: str, held: int, known: int) -> None:
    if held > known:
        raise SchemaNewer(
            f"{collection.name} was written in {what} {held}; this version of holdfast knows"
            f" {known}.",
            hint="Upgrade holdfast. Nothing was written.",
            collection=collection.name,
        )


def shape_of(collection: Collection) -> dict[str, Any]:
    """A collection's shape as a store keeps it, to be compared with later editions."""

    def where(part: Filter | None) -> Any:
        return None if part is None else msgspec.json.decode(msgspec.json.encode(part))

    return {
        "fields": [[f.name, f.kind, f.nullable] for f in collection.fields],
        "key": list(collection.key),
        "unique": [[u.name, list(u.fields), where(u.where)] for u in collection.unique],
        "indexes": [[list(i.fields), where(i.where)] for i in collection.indexes],
        "full_text": list(collection.full_text),
        "vectors": list(collection.vectors),
        # Only where there are some: shapes were kept before collections could name them.
        **({"filtered": list(collection.filtered)} if collection.filtered else {}),
        **({"included": list(collection.included)} if collection.included else {}),
    }


def without_lists(where: Filter) -> Filter:
    """The same filter without In, which an index of some engines would not take."""
    if isinstance(where, In):
        return Or(tuple(Compare(where.field, "eq", value) for value in where.values))
    if isinstance(where, And | Or):
        return type(where)(tuple(without_lists(part) for part in where.parts))
    return Not(without_lists(where.part)) if isinstance(where, Not) else where


def check_alterable(
    collection: Collection, before: dict[str, Any], held: dict[str, tuple[str, bool]]
) -> None:
    """Refuse, before anything is touched, what an edition must not change."""
    declared = {f.name: f for f in collection.fields}
    for name, (kind, nullable) in held.items():
        field = declared.get(name)
        if field is None or (field.kind, field.nullable) != (kind, nullable):
            raise Unsupported(
                f"{collection.name}.{name} cannot change from {kind} between editions.",
                hint="Add a new field instead.",
            )
    if list(collection.key) != before["key"]:
        raise Unsupported(f"The key of {collection.name} cannot change between editions.")
    for field in collection.fields:
        if field.name not in held and not field.nullable and field.default is None:
            raise Unsupported(
                f"{collection.name}.{field.name} is new and needs a default for older records."
            )
