"""Rows of a source, read a stretch at a time and packed into segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw
import numpy

from holdfast.backends.segments import codes, columns, included, postings
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sqlite.connection import ConnectionPool, fetched

_STRETCH: Final = 1_024


@dataclass(frozen=True)
class Built:
    """A segment, made and not yet written."""

    space: str
    width: int
    rows: int
    postings: int
    parts: dict[str, Any]


class Reader:
    """Packs the rows of a source above ``low``, up to ``high``.

    Beside them copies of fields of the rows of ``table``, from which the source is derived:
    ``fields`` to narrow by, ``included`` to be read.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        source: str,
        tenant: str,
        low: int,
        high: int,
        go_on: Callable[[], None],
        *,
        table: str,
        fields: Sequence[str],
        included: Sequence[str] = (),
    ) -> None:
        self._pool = pool
        self._source = source
        self._tenant = tenant
        self._low, self._high = low, high
        self._go_on = go_on
        self._table, self._fields, self._included = table, fields, included

    def texts(self) -> Iterator[Built]:
        """One segment, unless there is no row."""
        held = [row for rows in self._stretches("d.length, d.terms, d.counts") for row in rows]
        if not held:
            return
        count = sum(len(row[2]) // 8 for row in held)
        parts = {
            **postings.made(held),
            **self._columns([row[4:] for row in held]),
            **self._copies([row[4 + len(self._fields) :] for row in held]),
        }
        yield Built("", 0, len(held), count, parts)

    def vectors(self) -> Iterator[Built]:
        """A segment for each space and width."""
        rows: dict[tuple[str, int], list[Any]] = {}
        packed: dict[tuple[str, int], list[dict[str, Any]]] = {}
        copied: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for stretch in self._stretches("d.space, d.data"):
            for kind, own in _by_kind(stretch).items():
                matrix = numpy.frombuffer(b"".join([row[2] for row in own]), "<f4")
                rows.setdefault(kind, []).extend([row[0] for row in own])
                packed.setdefault(kind, []).append(codes.pack(matrix.reshape(len(own), -1)))
                copied.setdefault(kind, []).extend([row[3:] for row in own])
        for (space, width), numbers in rows.items():
            parts = {
                "rows": numpy.array(numbers, "<i8"),
                **codes.joined(packed[space, width]),
                **self._columns(copied[space, width]),
            }
            yield Built(space, width, len(numbers), 0, parts)

    def _columns(self, values: list[tuple[Any, ...]]) -> dict[str, Any]:
        by_field = zip(*values, strict=True) if self._fields else ()
        return columns.build(dict(zip(self._fields, by_field, strict=False)))

    def _copies(self, values: list[tuple[Any, ...]]) -> dict[str, Any]:
        if not self._included:
            return {}
        by_field = zip(*values, strict=True)
        return included.build(dict(zip(self._included, by_field, strict=True)))

    def _stretches(self, wanted: str) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in the order of their numbers. Each stretch is a read of its own.

        Their numbers are listed first: the index of vectors is in no order of these alone, and so
        each stretch would sort all the rows that are left.
        """
        # As in `merging`: by its number alone a vector would be looked for among all tenants'.
        row = "_row" if self._source.endswith("__terms") else "+_row"
        fields = "".join(f", t0.{quoted(name)}" for name in (*self._fields, *self._included))
        joined = f" LEFT JOIN {quoted(self._table)} AS t0 ON t0._row = d._row" if fields else ""
        listed = (
            f"SELECT _row FROM {quoted(self._source)}"
            f" WHERE tenant = ? AND {row} > ? AND {row} <= ? ORDER BY _row"
        )
        text = (
            f"SELECT d._row, {wanted}{fields} FROM carray(?) AS c CROSS JOIN"
            f" {quoted(self._source)} AS d ON d._row = c.value{joined} WHERE d.tenant = ?"
        )
        with self._pool.reading() as connection:
            found = fetched(connection, listed, (self._tenant, self._low, self._high))
        numbers = numpy.fromiter((row for (row,) in found), "i8", len(found))
        for start in range(0, numbers.size, _STRETCH):
            self._go_on()
            stretch = apsw.carray(numbers[start : start + _STRETCH])
            with self._pool.reading() as connection:
                rows = fetched(connection, text, (stretch, self._tenant))
            if rows:
                yield rows


def _by_kind(stretch: list[tuple[Any, ...]]) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """The rows of each space and width."""
    kinds = {(row[1], len(row[2]) // 4) for row in stretch}
    if len(kinds) == 1:  # as nearly always
        return {kinds.pop(): stretch}
    found: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
    for row in stretch:
        found.setdefault((row[1], len(row[2]) // 4), []).append(row)
    return found
