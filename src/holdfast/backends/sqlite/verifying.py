"""Whether segments say what the tables say from which they were made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apsw
import numpy

from holdfast.backends.segments import codes, columns, postings
from holdfast.backends.segments.cache import Cache
from holdfast.backends.segments.included import Included
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.errors import UNREADABLE
from holdfast.backends.sqlite.index import Index, Picture, Segment, Source
from holdfast.core.errors import Corrupt

_STRETCH: Final = 2_048
_ROUNDED: Final = 64
"""One sign in so many may differ: turning is rounded, by another machine in another way."""


def differences(connection: apsw.Connection) -> Iterator[str]:
    """What a person should know, one line each; nothing when all is well."""
    covers = fetched(connection, "SELECT id, source, tenant FROM holdfast_covers ORDER BY id")
    for cover, table, tenant in covers:
        try:
            for source in _sources(connection, cover, table, tenant):
                yield from _Check(connection, source).lines()
        except (Corrupt, apsw.SQLError, *UNREADABLE):
            yield f"{table}: a segment of the search index cannot be read"


def _sources(connection: apsw.Connection, cover: int, table: str, tenant: str) -> list[Source]:
    if table.endswith("__terms"):
        return [Source(table, tenant)]
    kinds = fetched(
        connection,
        "SELECT space, width FROM holdfast_segments WHERE cover = ?1 UNION"
        f" SELECT space, length(data) / 4 FROM {quoted(table)} WHERE tenant = ?2 ORDER BY 1, 2",
        (cover, tenant),
    )
    return [Source(table, tenant, space, width) for space, width in kinds if width]


class _Check:
    """One source beside its segments."""

    def __init__(self, connection: apsw.Connection, source: Source) -> None:
        self._connection = connection
        self._source = source
        self._index = Index(connection, Cache(0), keep=False)

    def lines(self) -> Iterator[str]:
        picture = self._index.picture(self._source)
        if picture is None:
            return
        name = self._source.table
        held = [numpy.empty(0, "i8"), *(self._alive(picture, s) for s in picture.segments)]
        expected = numpy.setdiff1d(self._covered(picture), picture.noted, assume_unique=True)
        if not numpy.array_equal(numpy.sort(numpy.concatenate(held)), expected):
            yield f"{name}: the segments of the search index hold other rows than there are"
            return
        for segment in picture.segments:
            agrees = self._vectors_agree if self._source.width else self._texts_agree
            copies = self._columns_agree(picture, segment) and self._copies_agree(picture, segment)
            if not (agrees(picture, segment) and copies):
                yield f"{name}: a segment of the search index differs from its rows"

    def _alive(self, picture: Picture, segment: Segment) -> Any:
        rows = self._index.loader(segment.id)("rows")
        return numpy.delete(rows, picture.dead(segment, rows))

    def _covered(self, picture: Picture) -> Any:
        text, values = self._source.select("_row", "_row <= ? ORDER BY _row")
        found = fetched(self._connection, text, [*values, picture.high])
        return numpy.fromiter((row for (row,) in found), "i8", len(found))

    def _texts_agree(self, picture: Picture, segment: Segment) -> bool:
        rows = self._rows(picture, segment)
        held = postings.Packed(self._index.loader(segment.id))
        alive = numpy.ones(held.rows.size, bool)
        alive[picture.dead(segment, held.rows)] = False
        lengths = {row: length for row, length, _, _ in rows}
        if [lengths[row] for row in held.rows[alive].tolist()] != held.lengths[alive].tolist():
            return False
        made = postings.made(rows)
        wanted = postings.Packed(made.__getitem__)
        return all(
            numpy.array_equal(one, other)
            for one, other in zip(held.triples(alive), wanted.triples(None), strict=True)
        )

    def _vectors_agree(self, picture: Picture, segment: Segment) -> bool:
        rows = self._rows(picture, segment)
        packed = codes.Packed(self._index.loader(segment.id), self._source.width)
        for start in range(0, len(rows), _STRETCH):
            stretch = rows[start : start + _STRETCH]
            matrix = numpy.frombuffer(b"".join(row[1] for row in stretch), "<f4")
            wanted = codes.pack(matrix.reshape(len(stretch), -1))["signs"]
            places = numpy.searchsorted(packed.rows, [row[0] for row in stretch])
            differing = numpy.bitwise_count(packed.signs[:, places] ^ wanted).sum(axis=0)
            if (differing > codes.padded(self._source.width) // _ROUNDED).any():
                return False
        return True

    def _columns_agree(self, picture: Picture, segment: Segment) -> bool:
        """Whether each row may pass when its own values are asked for."""
        load = self._index.loader(segment.id)
        held = load("rows")
        alive = numpy.ones(held.size, bool)
        alive[picture.dead(segment, held)] = False
        table = self._source.table.rpartition("__")[0]
        for name in columns.names(load):
            text = (
                f"SELECT {quoted(name)}, _row FROM {quoted(table)}"
                " WHERE tenant = ? AND _row > ? AND _row <= ?"
            )
            values = (self._source.tenant, segment.low, segment.high)
            rows: dict[Any, list[int]] = {}
            for value, row in fetched(self._connection, text, values):
                rows.setdefault(value, []).append(row)
            for value, own in rows.items():
                allowed = columns.allowed(load, {name: [value]})
                if not numpy.array_equal(allowed & alive, numpy.isin(held, own) & alive):
                    return False
        return True

    def _copies_agree(self, picture: Picture, segment: Segment) -> bool:
        """Whether the copies of included fields are what the rows hold."""
        part = self._index.part(segment)
        if part is None:
            return True
        copies, names = Included([part], {}), sorted(part.listed)
        listed = ", ".join(quoted(name) for name in names)
        text = (
            f"SELECT _row, {listed} FROM {quoted(self._source.table.rpartition('__')[0])}"
            " WHERE tenant = ? AND _row > ? AND _row <= ?"
        )
        values = (self._source.tenant, segment.low, segment.high)
        found = fetched(self._connection, text, values)
        rows = numpy.fromiter((row[0] for row in found), "i8", len(found))
        held, at = copies.find(rows, picture.noted)
        kept = [copies.values(name, at) for name in names]
        said = [row[1:] for row, is_held in zip(found, held, strict=True) if is_held]
        return said == list(zip(*kept, strict=True))

    def _rows(self, picture: Picture, segment: Segment) -> list[tuple[Any, ...]]:
        """What the table says of the rows whose copies in the segment count."""
        text, values = self._source.select(
            self._source.columns, "_row > ? AND _row <= ? ORDER BY _row"
        )
        found = fetched(self._connection, text, [*values, segment.low, segment.high])
        alive = set(self._alive(picture, segment).tolist())
        return [row for row in found if row[0] in alive]
