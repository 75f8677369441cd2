"""Export and import of memories as JSON Lines: rows, vectors, links and history."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Change, Put
from holdfast.core.collection import Collection
from holdfast.core.errors import Conflict, DimensionMismatch, Invalid, kind_of
from holdfast.core.filter import Record
from holdfast.core.query import Query, asc
from holdfast.core.record_type import misplaced
from holdfast.core.values import Vector, check_count, check_text
from holdfast.stores.given import check_function
from holdfast.stores.memory.archive import unpack
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.fields import check_stored
from holdfast.stores.memory.records import (
    ARCHIVE,
    CHUNKS,
    EVENTS,
    LINKS,
    MEMORIES,
    SPACES,
    SPEAKERS,
)

FORMAT: Final = "holdfast.memory"
VERSION: Final = 1
PAGE: Final = 200
CARRIED: Final = {c.name: c for c in (SPACES, SPEAKERS, MEMORIES, CHUNKS, EVENTS, LINKS, ARCHIVE)}
"""What goes along, in an order in which references find what they refer to."""

Progress = Callable[[int], None]
"""Called with the number of records so far, after each page or batch."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did with each record."""

    written: int
    unchanged: int
    """There already, and equal."""
    refused: int
    """There already with other values, or holding content that another live memory holds."""
    refused_ids: list[str]
    """Ids of refused memories, the first 100."""


class Transfer(MemoryStore):
    """All memories of the bound scope as lines of JSON. Revisions start anew at the other side."""

    def export_lines(self, *, progress: Progress | None = None) -> Iterator[str]:
        """One line of JSON per record, a header first; by kind of record, then by key.

        Each page is read by itself, so what is written meanwhile may or may not be included.
        """
        check_function("progress", progress)
        return self._lines(progress)

    def _lines(self, progress: Progress | None) -> Iterator[str]:
        yield _line({"format": FORMAT, "version": VERSION})
        count = 0
        for collection in CARRIED.values():
            for page in self._pages_of(collection):
                yield from (
                    _line({"kind": collection.name, "record": _outward(record)}) for record in page
                )
                count += len(page)
                if progress is not None:
                    progress(count)

    def import_lines(
        self, lines: Iterable[str], *, skip: int = 0, progress: Progress | None = None
    ) -> Imported:
        """Write what an export gave; what is there already stays as it is.

        So it may be repeated, and resumed after a break, from the start or with ``skip`` records
        left out.

        Invalid names the line that is no record of an export or lies outside the bound scope;
        DimensionMismatch when the memories live in another space than those of this tenant.
        Records before such a line are written.
        """
        check_count("skip", skip, 0, 2**53)
        check_function("progress", progress)
        if isinstance(lines, str | bytes) or not isinstance(lines, Iterable):
            raise Invalid("lines", expected="lines of an export", got=kind_of(lines))
        tally = _Tally()
        batch: list[tuple[Collection, Record]] = []
        for number, line in enumerate(lines):
            found = self._parsed(number, line)
            if found is None:
                continue
            tally.seen += 1
            if found[0] is SPACES:
                self._check_space(found[1])
            elif tally.seen <= skip:
                continue
            batch.append(found)
            if len(batch) >= PAGE:
                self._write(batch, tally)
                batch.clear()
                if progress is not None:
                    progress(tally.seen)
        self._write(batch, tally)
        if progress is not None:
            progress(tally.seen)
        return tally.report()

    def _pages_of(self, collection: Collection) -> Iterator[list[Record]]:
        after = None
        while True:
            query = Query(
                collection=collection.name,
                filter=self._within(collection),
                order=asc(*collection.key),
                limit=PAGE,
                after=after,
                vectors=True,
            )
            rows = self._driver.query(self._scope.tenant, query)
            yield rows.records
            after = rows.last
            if after is None:
                return

    def _parsed(self, number: int, line: str) -> tuple[Collection, Record] | None:
        """The record of a line; None for the header and for empty lines."""
        found = record_of(number, line)
        if found is not None:
            for part, value in self._scope.bound().items():
                if found[1].get(part, value) != value:
                    expected = f"a record of this {part}"
                    raise Invalid(f"line {number + 1}", expected=expected, got="another's")
        return found

    def _check_space(self, record: Record) -> None:
        active = self._active_space()
        if record["state"] == "active" and active is not None and active.id != record["id"]:
            raise DimensionMismatch("space", expected=active.id, got=record["id"])

    def _write(self, batch: list[tuple[Collection, Record]], tally: _Tally) -> None:
        puts: list[Change] = [Put(shape.name, record, ABSENT) for shape, record in batch]
        try:
            self._apply(*puts)
        except Conflict:
            for shape, record in batch:
                self._write_one(shape, record, tally)
        else:
            tally.written += len(puts)

    def _write_one(self, shape: Collection, record: Record, tally: _Tally) -> None:
        try:
            self._apply(Put(shape.name, record, ABSENT))
        except Conflict:
            key = shape.key_of(record)
            held = self._driver.get(self._scope.tenant, shape.name, key, vectors=True)
            if held is not None and (shape is SPACES or _same(shape, held, record)):
                tally.unchanged += 1
            else:
                tally.refuse(shape, record)
        else:
            tally.written += 1


def record_of(number: int, line: str) -> tuple[Collection, Record] | None:
    """The record in a line, checked as the stores would build it; None where there is none.

    Invalid names the line, counted from 1, and the field.
    """
    field = f"line {number + 1}"
    if not check_text(field, line).strip():
        return None
    try:
        parsed = msgspec.json.decode(line)
        if number == 0 and parsed.get("format") == FORMAT:
            check_count("version", parsed.get("version"), 1, VERSION)
            return None
        collection = CARRIED[parsed["kind"]]
        record = _inward(collection, parsed["record"])
        _check_meaning(collection, record)
    except Invalid as error:
        raise error.within(field) from error
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Invalid(field, expected="a record of an export", got="something else") from error
    return collection, record


def _check_meaning(collection: Collection, record: Record) -> None:
    """Refuse what the engine would take, and no store could build, naming the field."""
    place = misplaced(collection, record)
    if place is not None:
        shape = collection.name
        raise Invalid(place, expected=f"what a record of {shape} has there", got="another value")
    if collection is MEMORIES:
        check_stored(record)
    if collection is ARCHIVE:
        check_stored(unpack(record))


class _Tally:
    def __init__(self) -> None:
        self.seen = self.written = self.unchanged = self.refused = 0
        self.refused_ids: list[str] = []

    def refuse(self, shape: Collection, record: Record) -> None:
        self.refused += 1
        if shape is MEMORIES and len(self.refused_ids) < 100:
            self.refused_ids.append(record["id"])

    def report(self) -> Imported:
        return Imported(
            written=self.written,
            unchanged=self.unchanged,
            refused=self.refused,
            refused_ids=self.refused_ids,
        )


def _line(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _outward(record: Mapping[str, Any]) -> Record:
    return {name: value for name, value in record.items() if name != "revision"}


def _inward(collection: Collection, record: Mapping[str, Any]) -> Record:
    """A line's values as the collection's kinds; what JSON cannot say was written as text."""
    found: Record = {}
    for name, value in record.items():
        if value is None:
            found[name] = None
        elif name in collection.vectors:
            found[name] = Vector(value["space"], base64.b64decode(value["data"], validate=True))
        elif collection.field(name).kind == "time":
            found[name] = datetime.fromisoformat(value)
        elif collection.field(name).kind == "bytes":
            found[name] = base64.b64decode(value, validate=True)
        else:
            found[name] = value
    return collection.check_record(found)


def _same(shape: Collection, held: Record, record: Record) -> bool:
    names = (*shape.by_name, *shape.vectors)
    return all(held.get(name) == record.get(name) for name in names)
