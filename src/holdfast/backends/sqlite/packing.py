"""Rows of a source, read a stretch at a time and packed into segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.backends.segments import codes, columns, postings
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

    Beside them the ``fields`` of the rows of ``table``, from which the source is derived.
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
    ) -> None:
        self._pool = pool
        self._source = source
        self._tenant = tenant
        self._low, self._high = low, high
        self._go_on = go_on
        self._table, self._fields = table, fields

    def texts(self) -> Iterator[Built]:
        """One segment, unless there is no row."""
        held = [row for rows in self._stretches("d.length, d.terms, d.counts") for row in rows]
        if not held:
            return
        count = sum(len(row[2]) // 8 for row in held)
        parts = {**postings.made(held), **self._columns([row[4:] for row in held])}
        yield Built("", 0, len(held), count, parts)

    def vectors(self) -> Iterator[Built]:
        """A segment for each space and width."""
        rows: dict[tuple[str, int], list[Any]] = {}
        packed: dict[tuple[str, int], list[dict[str, Any]]] = {}
        copied: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for stretch in self._stretches("d.space, d.data"):
            kinds: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
            for row, space, data, *values in stretch:
                kind = (space, len(data) // 4)
                kinds.setdefault(kind, []).append((row, data))
                copied.setdefault(kind, []).append(tuple(values))
            for kind, own in kinds.items():
                matrix = numpy.frombuffer(b"".join(data for _, data in own), "<f4")
                rows.setdefault(kind, []).extend(row for row, _ in own)
                packed.setdefault(kind, []).append(codes.pack(matrix.reshape(len(own), -1)))
        for (space, width), numbers in rows.items():
            parts = {
                "rows": numpy.array(numbers, "<i8"),
                **codes.joined(packed[space, width]),
                **self._columns(copied[space, width]),
            }
            yield Built(space, width, len(numbers), 0, parts)

    def _columns(self, values: list[tuple[Any, ...]]) -> dict[str, Any]:
        by_field = zip(*values, strict=True) if self._fields else ()
        return columns.build(dict(zip(self._fields, by_field, strict=True)))

    def _stretches(self, wanted: str) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in the order of their numbers. Each stretch is a read of its own."""
        fields = "".join(f", t0.{quoted(name)}" for name in self._fields)
        joined = f" LEFT JOIN {quoted(self._table)} AS t0 ON t0._row = d._row" if fields else ""
        text = (
            f"SELECT d._row, {wanted}{fields} FROM {quoted(self._source)} AS d{joined}"
            " WHERE d.tenant = ? AND d._row > ? AND d._row <= ? ORDER BY d._row LIMIT ?"
        )
        last = self._low
        while True:
            self._go_on()
            with self._pool.reading() as connection:
                values = (self._tenant, last, self._high, _STRETCH)
                rows = fetched(connection, text, values)
            if rows:
                yield rows
            if len(rows) < _STRETCH:
                return
            last = rows[-1][0]
