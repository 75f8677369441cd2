"""What tables, indexes and foreign keys of a collection are called."""

from __future__ import annotations

import hashlib
from typing import Final

from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.sql.dialect import quoted
from holdfast.core.collection import Collection

NAME_LIMIT: Final = 63
"""Longest identifier, in bytes."""


def short(name: str) -> str:
    """The name, or one that fits and is as good as unique."""
    if len(name.encode()) <= NAME_LIMIT:
        return name
    return f"{name[:40]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def key_name(collection: Collection) -> str:
    """The name of a collection's unique index over its key."""
    return short(f"{collection.name}__key")


def unique_name(collection: Collection, unique: str) -> str:
    """The name of a unique key's index."""
    return short(f"{collection.name}__unique_{unique}")


def index_name(collection: Collection, number: int) -> str:
    """The name of the index that is declared in this place."""
    fields = "_".join(collection.indexes[number].fields)
    return short(f"{collection.name}__index_{number}_{fields}")


def index_names(collection: Collection) -> list[str]:
    """The names of all indexes that a collection's table has."""
    declared = enumerate(collection.indexes)
    return [
        key_name(collection),
        *(unique_name(collection, unique.name) for unique in collection.unique),
        *(index_name(collection, n) for n, i in declared if i.fields != collection.key),
    ]


def reference_name(collection: Collection, field: str) -> str:
    """The name of a reference's foreign key."""
    return short(f"{collection.name}__refers_{field}")


def terms_table(dialect: PostgresDialect, collection: Collection) -> str:
    """The table of a collection's analysed text."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__terms'))}"


def packed_table(dialect: PostgresDialect, collection: Collection) -> str:
    """The table of the records whose text is in segments."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__packed'))}"


def vector_table(dialect: PostgresDialect, collection: Collection, field: str) -> str:
    """The table of a vector field."""
    return f"{dialect.schema}.{quoted(short(f'{collection.name}__{field}'))}"
