"""Logs: growing one, counting who uses it, reading from it, and keeping its stretches few."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from holdfast.core.change import (
    ABSENT,
    Change,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
    Revision,
    When,
)
from holdfast.core.filter import Filter, Record, among, both, eq, ge, gt, le, lt
from holdfast.core.query import asc
from holdfast.stores.checkpoints.layout import NEW, Layout, Part, Span, Stretches, broken
from holdfast.stores.checkpoints.records import LOGS, STRETCHES
from holdfast.stores.store import Store

STRETCH_SIZE: Final = 4 * 1024 * 1024
"""Most bytes of one stretch."""
MERGE_EVERY: Final = 16
"""After so many appends the last small stretches become one."""
MERGED_SIZE: Final = 32 * 1024
"""A stretch of so many bytes is small no more."""


class Growth(NamedTuple):
    """A layout, and the log that it ends in: as it was read, None if it is new, and as it will be.

    Where the layout appends nothing, both are the same.
    """

    layout: Layout
    before: Record | None
    after: Record | None

    def appended_to(self) -> str:
        """The id of the log that the layout appends to; empty when it appends nothing."""
        return self.after["id"] if self.after is not None and self.layout.appended else ""

    def change(self) -> Change:
        """What makes the log as it will be, with the checkpoint as one user more."""
        assert self.after is not None
        if self.before is None:
            return Put(LOGS.name, {**self.after, "uses": 1}, ABSENT)
        edit = Edit(
            set={"tip": self.after["tip"], "size": self.after["size"]},
            increment={"appends": 1, "uses": 1},
        )
        # The tip says that the log still ends as it did when it was read: sizes alone may agree.
        same = When(eq("tip", self.before["tip"]))
        return Patch(LOGS.name, (self.after["id"],), edit, same, silent=True)


class Logs(Store):
    """What stores of checkpoints do with logs."""

    def _growth(self, layout: Layout, log: Record | None) -> Growth:
        """What becomes of ``log``, or of a new one if the layout says so."""
        if not layout.appended:
            return Growth(layout, log, log)
        size = layout.end + len(layout.appended)
        if layout.log == NEW or log is None:
            new = {"id": self._new_id(), "tip": self._new_id(), "size": size, "appends": 1}
            return Growth(layout, None, {**new, **self._scope_fields()})
        appends = log["appends"] + 1
        return Growth(layout, log, {**log, "tip": self._new_id(), "size": size, "appends": appends})

    def _used(self, growth: Growth, compress: bool) -> list[Change]:
        """The changes that let the log grow, and count one more user of each log."""
        layout, appended_to = growth.layout, growth.appended_to()
        reach: dict[str, int] = {}
        for span in layout.spans():
            if span.log not in (NEW, appended_to):
                reach[span.log] = max(reach.get(span.log, 0), span.start + span.length)
        one_more = Edit(increment={"uses": 1})
        shared = [
            Patch(LOGS.name, (log,), one_more, When(ge("size", stop)), silent=True)
            for log, stop in sorted(reach.items())
        ]
        if not layout.appended:
            return [*shared]
        put = _stretches(appended_to, layout.end, layout.appended, compress)
        return [*shared, growth.change(), *put]

    def _released(self, records: Iterable[Record]) -> list[Change]:
        """The changes that let these checkpoints' logs go where nothing else uses them."""
        used = Counter(log for record in records for log in record["logs"])
        if not used:
            return []
        by_count: dict[int, list[str]] = {}
        for log, count in sorted(used.items()):
            by_count.setdefault(count, []).append(log)
        # By filter and not by key, so that a damaged checkpoint whose log is lost can still go.
        counts = [
            PatchWhere(LOGS.name, among("id", logs), Edit(increment={"uses": -count}))
            for count, logs in by_count.items()
        ]
        unused = both(among("id", sorted(used)), le("uses", 0))
        return [*counts, DeleteWhere(LOGS.name, unused)]

    def _read(self, record: Record, parts: Sequence[Part]) -> Mapping[str, Stretches]:
        """By log, the stretches that hold the parts; Corrupt for damaged ones."""
        found: dict[str, list[tuple[int, bytes]]] = {}
        # A query for each log: asked for together, they would be looked for in the whole tenant.
        for log, wanted in _wanted(parts):
            held = found.setdefault(log, [])
            for stretch in self._all(STRETCHES, wanted, order=asc("log_id", "start")):
                data = _data(stretch)
                if data is None:
                    raise broken(record["id"])
                held.append((stretch["start"], data))
        return found

    def _merge(self, log_id: str, size: int, compress: bool) -> None:
        """Make the last small stretches one. Conflict or NotFound where others came first."""
        fields = ("log_id", "start", "stop")
        held = self._all(STRETCHES, eq("log_id", log_id), order=asc("start"), fields=fields)
        last = len(held)
        while last and held[last - 1]["stop"] - held[last - 1]["start"] < MERGED_SIZE:
            last -= 1
        small = held[last:]
        if len(small) < 2 or small[-1]["stop"] != size:
            return  # nothing to do, or others have gone on, or a unit's appends are not there yet
        start = small[0]["start"]
        rows = self._all(
            STRETCHES,
            eq("log_id", log_id),
            ge("start", start),
            lt("start", size),
            order=asc("start"),
        )
        pieces = [_data(row) for row in rows]
        whole = b"".join([piece for piece in pieces if piece is not None])
        if len(whole) != size - start or len(rows) < 2:
            return  # others were here since
        [merged] = _stretches(log_id, start, whole, compress, Revision(rows[0]["revision"]))
        gone = [
            Delete(STRETCHES.name, (log_id, row["start"]), Revision(row["revision"]))
            for row in rows[1:]
        ]
        self._apply(merged, *gone)


def _stretches(
    log_id: str, start: int, data: bytes, compress: bool, when: Revision | None = None
) -> Iterator[Put]:
    for place in range(0, len(data), STRETCH_SIZE):
        piece = data[place : place + STRETCH_SIZE]
        packed = zlib.compress(piece, 1) if compress else piece
        shorter = len(packed) < len(piece)
        record = {
            "log_id": log_id,
            "start": start + place,
            "stop": start + place + len(piece),
            "encoding": "zlib" if shorter else "raw",
            "checksum": zlib.crc32(piece),
            "data": packed if shorter else piece,
        }
        yield Put(STRETCHES.name, record, when or ABSENT)


def _data(stretch: Record) -> bytes | None:
    """The bytes of a stretch, or None where they are not what was written."""
    data: bytes = stretch["data"]
    size = stretch["stop"] - stretch["start"]
    if stretch["encoding"] == "zlib":
        try:
            data = zlib.decompressobj().decompress(data, size)
        except zlib.error:
            return None
    return data if len(data) == size and zlib.crc32(data) == stretch["checksum"] else None


def _wanted(parts: Sequence[Part]) -> Iterator[tuple[str, Filter]]:
    """For each log, the filter of the stretches from its first wanted byte to its last."""
    spans: dict[str, list[Span]] = {}
    for part in parts:
        if isinstance(part, Span):
            spans.setdefault(part.log, []).append(part)
    for log, held in spans.items():
        first = min(span.start for span in held)
        stop = max(span.start + span.length for span in held)
        yield log, both(eq("log_id", log), lt("start", stop), gt("stop", first))
