"""Whether a record is one of its declared type, and where it is not.

An engine takes whatever is of a field's kind: a number is JSON as much as an object is. What
another program wrote may be that, and still be none of the records that a store can build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from holdfast.core.collection import Collection
    from holdfast.core.filter import Record


def place_of(error: msgspec.ValidationError) -> str:
    """The field that a record was refused for.

    The message may quote the stored value; only the place in it is safe to show.

    >>> try:
    ...     msgspec.convert({"n": {"m": "x"}}, dict[str, dict[str, int]])
    ... except msgspec.ValidationError as error:
    ...     place_of(error)
    '[...][...]'
    """
    return str(error).partition("$")[2].strip("`.") or "a field"


def misplaced(collection: Collection, record: Record) -> str | None:
    """The field for which the record is none of its collection's; None where it is one."""
    if collection.struct is None:
        return None
    try:
        msgspec.convert(record, collection.struct)
    except msgspec.ValidationError as error:
        return place_of(error)
    return None


def finding(collection: Collection, record: Record) -> str | None:
    """What an integrity check says of a record that no store can build; None of a sound one."""
    place = misplaced(collection, record)
    if place is None:
        return None
    key = collection.key_of(record)
    return f"A record of {collection.name} does not decode at {place}: {key}."
