"""Changes are values: what to write, and what must hold for it.

Those of which there is one for each record are left alone by the collector of cycles: nothing in a
record leads back to them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.core.filter import Filter, Record
from holdfast.core.query import Order


class Absent(msgspec.Struct, frozen=True, tag_field="when", tag="absent"):
    """No record has this key yet."""


class Present(msgspec.Struct, frozen=True, tag_field="when", tag="present"):
    """A record has this key."""


class Revision(msgspec.Struct, frozen=True, tag_field="when", tag="revision"):
    """The record is still the one that was read."""

    number: int


class When(msgspec.Struct, frozen=True, tag_field="when", tag="filter"):
    """The record satisfies a filter."""

    filter: Filter


Condition = Absent | Present | Revision | When

ABSENT = Absent()
PRESENT = Present()


class Scale(msgspec.Struct, frozen=True):
    """``value * factor + offset``, then held between ``floor`` and ``ceiling``; null stays null."""

    factor: float
    offset: float = 0.0
    floor: float | None = None
    ceiling: float | None = None


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """What a patch does to fields; each field appears once.

    ``set`` replaces. ``default`` sets only where null. ``increment``, ``maximum`` and ``minimum``
    take null as the given number's neutral. ``append`` adds to a text list what it lacks, in
    order, and drops what the list already held twice. ``merge`` replaces the top-level keys of a
    json object; a null value removes the key.
    ``scale`` is linear with limits.
    """

    set: dict[str, Any] = {}
    default: dict[str, Any] = {}
    increment: dict[str, int | float] = {}
    maximum: dict[str, Any] = {}
    minimum: dict[str, Any] = {}
    append: dict[str, list[str]] = {}
    merge: dict[str, dict[str, Any]] = {}
    scale: dict[str, Scale] = {}


EDIT_OPERATIONS: Final[tuple[str, ...]] = Edit.__struct_fields__
"""What an edit can do to fields, in the order of `msgspec.structs.astuple`."""


class Put(msgspec.Struct, frozen=True, gc=False, tag_field="change", tag="put"):
    """Write a whole record: created if its key is new, replaced otherwise."""

    collection: str
    record: Record
    when: Condition | None = None


class Patch(msgspec.Struct, frozen=True, tag_field="change", tag="patch"):
    """Edit one record by key. NotFound if there is none, Conflict if ``when`` does not hold.

    ``silent`` says that nobody reads the record in the outcome, so that an engine need not give it.
    """

    collection: str
    key: tuple[Any, ...]
    edit: Edit
    when: Condition | None = None
    silent: bool = False


class Delete(msgspec.Struct, frozen=True, tag_field="change", tag="delete"):
    """Remove one record by key; its count says whether there was one."""

    collection: str
    key: tuple[Any, ...]
    when: Condition | None = None


class PatchWhere(msgspec.Struct, frozen=True, tag_field="change", tag="patch_where"):
    """Edit every record that the filter selects; its count says how many."""

    collection: str
    filter: Filter
    edit: Edit


class DeleteWhere(msgspec.Struct, frozen=True, tag_field="change", tag="delete_where"):
    """Remove every record that the filter selects, at most ``limit`` in ``order`` when given."""

    collection: str
    filter: Filter
    limit: int | None = None
    order: tuple[Order, ...] = ()


class Claim(msgspec.Struct, frozen=True, tag_field="change", tag="claim"):
    """Edit the first ``limit`` selected records in ``order`` and return them.

    No record goes to two callers whose edits make it leave the filter.
    """

    collection: str
    filter: Filter
    order: tuple[Order, ...]
    limit: int
    edit: Edit


Change = Put | Patch | Delete | PatchWhere | DeleteWhere | Claim


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one change did: how many records, and the records as stored.

    Put and Patch give the one record, Claim all it took, in order. Deletes and PatchWhere give
    the count alone, and a silent Patch may.
    """

    count: int
    records: tuple[Record, ...] = ()

    @property
    def record(self) -> Record:
        """The one record of a Put or Patch."""
        return self.records[0]
