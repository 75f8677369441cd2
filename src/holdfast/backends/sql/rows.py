"""Rows as they were read become records; one that cannot be decoded is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.backends.sql.planner import Columns
from holdfast.core.collection import REVISION, Collection
from holdfast.core.errors import Corrupt
from holdfast.core.filter import Record

UNREADABLE: Final = (ValueError, OverflowError, TypeError)
"""What decoding a value can raise that was never written by us."""


def decoded_all(
    collection: Collection, columns: Columns, rows: Sequence[tuple[Any, ...]]
) -> list[Record]:
    """The records in rows, as `decoded` gives them."""
    try:
        return columns.decode_all(rows)
    except UNREADABLE:
        # One by one, which names it.
        return [decoded(collection, columns.decode, row, columns.names) for row in rows]


def decoded_rows(
    collection: Collection, columns: Columns, rows: Sequence[tuple[Any, ...]]
) -> Sequence[tuple[Any, ...]]:
    """The rows with their values decoded; Corrupt as `decoded` raises it."""
    if not columns.decoders or not rows:
        return rows
    fields: list[Sequence[Any]] = list(zip(*rows, strict=True))
    try:
        for at, _, decode in columns.decoders:
            fields[at] = [None if value is None else decode(value) for value in fields[at]]
    except UNREADABLE:
        for row in rows:
            decoded(collection, columns.decode, row, columns.names)
        raise
    return list(zip(*fields, strict=True))


def aggregated(
    collection: str, readers: Sequence[tuple[str, Any]], rows: Sequence[tuple[Any, ...]]
) -> list[Record]:
    """The records of an aggregate, by what reads each column; Corrupt where one cannot be read."""
    try:
        return [
            {
                name: value if read is None or value is None else read(value)
                for (name, read), value in zip(readers, row, strict=True)
            }
            for row in rows
        ]
    except UNREADABLE as error:
        raise Corrupt(
            f"A value of {collection} cannot be decoded.",
            hint="`holdfast doctor` lists such records.",
            collection=collection,
        ) from error


def decoded(
    collection: Collection,
    decode: Any,
    row: tuple[Any, ...],
    names: Sequence[str] | None = None,
) -> Record:
    """The record in a row of all columns, or of ``names``; Corrupt where one cannot be read."""
    try:
        record: Record = decode(row)
    except UNREADABLE as error:
        names = names or [REVISION, *collection.by_name]
        key = tuple(row[names.index(name)] for name in collection.key)
        raise Corrupt(
            f"A record of {collection.name} cannot be decoded: {key}.",
            hint="`holdfast doctor` lists such records.",
            collection=collection.name,
            key=key,
        ) from error
    return record
