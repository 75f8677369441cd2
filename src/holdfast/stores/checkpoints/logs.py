"""Logs: growing one, counting who uses it, reading from it, and keeping its stretches few."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from holdfast.core.change import (
    ABSENT,
    Change,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
    When,
)
from holdfast.core.driver import Driver
from holdfast.core.filter import Record, among, both, eq, ge, gt, le, lt
from holdfast.core.query import asc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.stores.checkpoints.held import Held
from holdfast.stores.checkpoints.layout import NEW, Layout, Part, Span, Stretches, broken
from holdfast.stores.checkpoints.records import LOGS, STRETCHES
from holdfast.stores.store import Store

STRETCH_SIZE: Final = 4 * 1024 * 1024
"""Most bytes of one stretch."""
PACK_EVERY: Final = 8
"""With so many appends the last short stretches become one."""
PACKED_SIZE: Final = 32 * 1024
"""A stretch of so many bytes is short no more."""
SOUND_LIMIT: Final = 4_096
"""Stretches that a handle remembers to have found sound."""


class Growth(NamedTuple):
    """A layout, and the log that it ends in: as it was read, None if it is new, and as it will be.

    Where the layout appends nothing, both are the same.
    """

    layout: Layout
    before: Record | None
    after: Record | None

    def same(self, log_id: str, stop: int = 0) -> When:
        """That what is known of a log, or its first ``stop`` bytes, is there."""
        if self.before is not None and log_id == self.before["id"]:
            # The tip says that the log ends as it did when it was read: sizes alone may agree.
            return When(eq("tip", self.before["tip"]))
        return When(ge("size", stop))


class Logs(Store):
    """What stores of checkpoints do with logs."""

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime) -> None:
        super().__init__(driver, scope, runtime)
        self._sound: set[tuple[Any, ...]] = set()
        self._held = Held()

    def _growth(self, layout: Layout, log: Record | None) -> Growth:
        """What becomes of ``log``, or of a new one if the layout says so."""
        if not layout.appended:
            return Growth(layout, log, log)
        size, tip = layout.end + len(layout.appended), self._new_id()
        long = _is_long(len(layout.appended), layout)
        if layout.log == NEW or log is None:
            log_id, packed = self._new_id(), size if long else 0
            new = {"id": log_id, "tip": tip, "size": size, "appends": 1, "packed": packed}
            return Growth(layout.into(log_id), None, {**new, **self._scope_fields()})
        appends, packed = log["appends"] + 1, log["packed"]
        if long or (appends % PACK_EVERY == 0 and _is_long(size - packed, layout)):
            packed = size
        return Growth(
            layout, log, {**log, "tip": tip, "size": size, "appends": appends, "packed": packed}
        )

    def _used(self, growth: Growth, compress: bool) -> list[Change]:
        """The changes that let the log grow, and count one more user of each log."""
        layout = growth.layout
        reach: dict[str, int] = {}
        for part in layout.parts:
            if isinstance(part, Span) and not (layout.appended and part.log == layout.log):
                reach[part.log] = max(reach.get(part.log, 0), part.start + part.length)
        one_more = Edit(increment={"uses": 1})
        shared: list[Change] = [
            Patch(LOGS.name, (log,), one_more, growth.same(log, stop), silent=True)
            for log, stop in sorted(reach.items())
        ]
        return shared + self._appending(growth, compress) if layout.appended else shared

    def _appending(self, growth: Growth, compress: bool) -> list[Change]:
        """The changes that append to a log, with the checkpoint as one user more."""
        layout, before, after = growth
        assert after is not None
        if before is None:
            put = Put(LOGS.name, {**after, "uses": 1}, ABSENT)
            return [put, *_stretches(after["id"], 0, layout.appended, compress)]
        grown = {name: after[name] for name in ("tip", "size", "packed")}
        edit = Edit(set=grown, increment={"appends": 1, "uses": 1})
        grow = Patch(LOGS.name, (after["id"],), edit, growth.same(after["id"]), silent=True)
        start, data, gone = layout.end, layout.appended, list[Change]()
        if after["appends"] % PACK_EVERY == 0 and not _is_long(len(data), layout):
            short = self._between(after["id"], before["packed"], layout.end)
            if short is not None:
                # Nobody else has appended or packed since, says the tip.
                start, data = before["packed"], short + data
                where = both(eq("log_id", after["id"]), ge("start", start))
                gone = [DeleteWhere(STRETCHES.name, where)]
        return [grow, *gone, *_stretches(after["id"], start, data, compress)]

    def _between(self, log_id: str, start: int, stop: int) -> bytes | None:
        """The bytes of the stretches from one place to another; None if they are not all there."""
        own = both(eq("log_id", log_id), ge("start", start), lt("start", stop))
        rows = self._all(STRETCHES, own, order=asc("start"))
        pieces = [self._data(row, again=True) for row in rows]
        found = b"".join([piece for piece in pieces if piece is not None])
        return found if len(found) == stop - start else None

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
        found: dict[str, Stretches] = {}
        # A query for each log: asked for together, they would be looked for in the whole tenant.
        for log, (first, stop) in _reach(parts).items():
            wanted = both(eq("log_id", log), lt("start", stop), gt("stop", first))
            held = found[log] = list[tuple[int, bytes]]()
            for stretch in self._all(STRETCHES, wanted, order=asc("log_id", "start")):
                data = self._data(stretch)
                if data is None:
                    raise broken(record["id"])
                held.append((stretch["start"], data))
        return found

    def _read_before(self, parts: Sequence[Part]) -> Mapping[str, Stretches] | None:
        """The same without asking the engine; None where not all was read before."""
        found: dict[str, Stretches] = {}
        for log, (first, stop) in _reach(parts).items():
            held = self._held.find(log, first, stop)
            if held is None:
                return None
            found[log] = held
        return found

    def _data(self, stretch: Record, *, again: bool = False) -> bytes | None:
        """The bytes of a stretch, or None where they are not what was written.

        Checksums take long beside the reading, so each handle computes one once, unless ``again``.
        """
        data: bytes = stretch["data"]
        start, stop, checksum = stretch["start"], stretch["stop"], stretch["checksum"]
        if stretch["encoding"] == "zlib":
            try:
                data = zlib.decompressobj().decompress(data, stop - start)
            except zlib.error:
                return None
        if len(data) != stop - start:
            return None
        mark = (stretch["log_id"], start, stop, checksum)
        if again or mark not in self._sound:
            if zlib.crc32(data) != checksum:
                return None
            if len(self._sound) >= SOUND_LIMIT:
                self._sound.clear()
            self._sound.add(mark)
        return data


def _is_long(length: int, layout: Layout) -> bool:
    """Whether a stretch of so many bytes is to stay as it is."""
    # One longer than the state would be read whole for the part that the state has of it.
    return length >= min(PACKED_SIZE, layout.size())


def _stretches(log_id: str, start: int, data: bytes, compress: bool) -> Iterator[Put]:
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
        yield Put(STRETCHES.name, record, ABSENT)


def _reach(parts: Sequence[Part]) -> dict[str, tuple[int, int]]:
    """For each log, where its first wanted byte is, and where its last one ends."""
    reach: dict[str, tuple[int, int]] = {}
    for part in parts:
        if isinstance(part, Span):
            log, start, length = part
            first, stop = reach.get(log, (start, start))
            reach[log] = min(first, start), max(stop, start + length)
    return reach
