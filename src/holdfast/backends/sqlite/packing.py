"""Rows of a source, read a stretch at a time and packed into segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy

from holdfast.backends.segments import codes, postings
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
    """Packs the rows of a source above ``low``, up to ``high``."""

    def __init__(
        self,
        pool: ConnectionPool,
        source: str,
        tenant: str,
        low: int,
        high: int,
        go_on: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._source = source
        self._tenant = tenant
        self._low, self._high = low, high
        self._go_on = go_on

    def texts(self) -> Iterator[Built]:
        """One segment, unless there is no row."""
        held = [row for rows in self._stretches("length, terms, counts") for row in rows]
        if not held:
            return
        count = sum(len(row[2]) // 8 for row in held)
        yield Built("", 0, len(held), count, postings.made(held))

    def vectors(self) -> Iterator[Built]:
        """A segment for each space and width."""
        rows: dict[tuple[str, int], list[Any]] = {}
        packed: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for stretch in self._stretches("space, data"):
            kinds: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
            for row, space, data in stretch:
                kinds.setdefault((space, len(data) // 4), []).append((row, data))
            for kind, own in kinds.items():
                matrix = numpy.frombuffer(b"".join(data for _, data in own), "<f4")
                rows.setdefault(kind, []).extend(row for row, _ in own)
                packed.setdefault(kind, []).append(codes.pack(matrix.reshape(len(own), -1)))
        for (space, width), numbers in rows.items():
            parts = {"rows": numpy.array(numbers, "<i8"), **codes.joined(packed[space, width])}
            yield Built(space, width, len(numbers), 0, parts)

    def _stretches(self, columns: str) -> Iterator[list[tuple[Any, ...]]]:
        """Rows in the order of their numbers. Each stretch is a read of its own."""
        text = (
            f"SELECT _row, {columns} FROM {quoted(self._source)}"
            " WHERE tenant = ? AND _row > ? AND _row <= ? ORDER BY _row LIMIT ?"
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
