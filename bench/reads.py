"""Reads: one record by its key, and one page of a conversation."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw

from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.subjects import TEXT, shuffled, store
from holdfast.stores.conversations.appending import Draft

RAW_GET = "raw apsw select by key"
RAW_PAGE = "raw apsw, 50 rows into dicts"
READ_PAGE = "the same, times and JSON read"
US = "us"


class Reads:
    """The two sheets of reading."""

    def __init__(self, *, quick: bool) -> None:
        self._held, self._count = (20, 50) if quick else (2_000, 5_000)

    def points(self, rounds: int) -> Sheet:
        sync = (Goal(15, sense="at most"),)
        through_loop = (Goal(80, sense="at most"),)
        return Sheet(
            name="point-get",
            title="One record by its key",
            figure=US,
            base=RAW_GET,
            rounds=rounds,
            notes="Each round gives its lower quartile: others share the machine.",
            contenders=(
                Contender(RAW_GET, self._raw_get),
                Contender("holdfast kv.get", self._kv, sync),
                Contender("holdfast conversations.get", self._conversation, sync),
                Contender("holdfast memory.get", self._memory, sync),
                Contender("holdfast.aio kv.get", self._async_kv, through_loop),
            ),
        )

    def pages(self, rounds: int) -> Sheet:
        page = (Goal(2, RAW_PAGE, sense="at most"), Goal(2, READ_PAGE, sense="at most"))
        return Sheet(
            name="page",
            title="A page of 50 messages",
            figure=US,
            base=RAW_PAGE,
            rounds=rounds,
            notes="Each round gives its lower quartile: others share the machine.",
            contenders=(
                Contender(RAW_PAGE, lambda folder: self._raw_page(folder, read_values=False)),
                Contender(READ_PAGE, lambda folder: self._raw_page(folder, read_values=True)),
                Contender(
                    "holdfast messages.recent(50)",
                    self._page(lambda s, c: lambda: s.conversations.messages.recent(c, 50)),
                    page,
                ),
                Contender(
                    "holdfast messages.page(limit=50)",
                    self._page(lambda s, c: lambda: s.conversations.messages.page(c, limit=50)),
                    page,
                ),
            ),
        )

    # --- points

    def _raw_get(self, folder: Path) -> Figures:
        with store(folder, "normal") as storage:
            ids = [storage.conversations.create().id for _ in range(self._held)]
        connection = apsw.Connection(str(folder / "holdfast.db"))
        columns = ", ".join(f'"{name}"' for name in _columns(connection, "conversations"))
        text = f"SELECT {columns} FROM conversations WHERE tenant = ? AND id = ?"
        figures = self._timed(
            lambda key: connection.execute(text, ("default", key)).fetchone(), ids
        )
        connection.close()
        return figures

    def _kv(self, folder: Path) -> Figures:
        with store(folder, "normal") as storage:
            return self._timed(storage.kv.get, self._keys(storage))

    def _conversation(self, folder: Path) -> Figures:
        with store(folder, "normal") as storage:
            ids = [storage.conversations.create().id for _ in range(self._held)]
            return self._timed(storage.conversations.get, ids)

    def _memory(self, folder: Path) -> Figures:
        with store(folder, "normal") as storage:
            ids = [storage.memory.remember(f"{TEXT} {n}").id for n in range(self._held)]
            return self._timed(storage.memory.get, ids)

    def _async_kv(self, folder: Path) -> Figures:
        async def run() -> Figures:
            from holdfast import aio

            path = str(folder / "holdfast.db")
            async with aio.open(path, durability="normal", embedder=None) as storage:
                for number in range(self._held):
                    await storage.kv.set(f"key-{number}", TEXT)
                keys = [f"key-{number}" for number in range(self._held)]
                asked = shuffled(keys, self._count)
                for key in asked[:100]:
                    await storage.kv.get(key)
                times = []
                for key in asked:
                    start = time.perf_counter()
                    await storage.kv.get(key)
                    times.append(time.perf_counter() - start)
                return {US: percentile(times, 0.25) * 1e6}

        return asyncio.run(run())

    def _keys(self, storage: Any) -> list[str]:
        keys = [f"key-{number}" for number in range(self._held)]
        for key in keys:
            storage.kv.set(key, TEXT)
        return keys

    def _timed(self, read: Callable[[str], object], keys: list[str]) -> Figures:
        asked = shuffled(keys, self._count)
        for key in asked[:100]:
            read(key)
        return _undisturbed(read, asked)

    # --- pages

    def _raw_page(self, folder: Path, *, read_values: bool) -> Figures:
        conversation = self._filled(folder)
        connection = apsw.Connection(str(folder / "holdfast.db"))
        names = _columns(connection, "messages")
        text = (
            f"SELECT {', '.join(names)} FROM messages WHERE tenant = ? AND conversation_id = ?"
            " ORDER BY sequence DESC LIMIT 50"
        )

        def read() -> list[dict[str, Any]]:
            rows = connection.execute(text, ("default", conversation)).fetchall()
            records: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
            if read_values:
                for record in records:
                    record["metadata"] = json.loads(record["metadata"])
                    at = record["created_at"]
                    record["created_at"] = datetime.fromtimestamp(at / 1e6, UTC)
            return records

        figures = self._repeated(read)
        connection.close()
        return figures

    def _page(
        self, reader: Callable[[Any, str], Callable[[], object]]
    ) -> Callable[[Path], Figures]:
        def run(folder: Path) -> Figures:
            conversation = self._filled(folder)
            with store(folder, "normal") as storage:
                return self._repeated(reader(storage, conversation))

        return run

    def _filled(self, folder: Path) -> str:
        """A conversation of a thousand messages in the folder's store."""
        with store(folder, "normal") as storage:
            conversation = storage.conversations.create().id
            storage.conversations.append_many(conversation, [Draft(text=TEXT)] * 1_000)
        return conversation

    def _repeated(self, read: Callable[[], object]) -> Figures:
        for _ in range(5):
            read()
        return _undisturbed(lambda _: read(), [""] * max(5, self._count // 10), stretch=5)


def _undisturbed(read: Callable[[str], object], keys: list[str], stretch: int = 50) -> Figures:
    """Microseconds a read, of the fastest quarter of short stretches.

    Others share the machine; a stretch is shorter than their turn on the processor, so a quarter
    of the stretches is free of them.
    """
    stretches = []
    for first in range(0, len(keys), stretch):
        part = keys[first : first + stretch]
        start = time.perf_counter()
        for key in part:
            read(key)
        stretches.append((time.perf_counter() - start) / len(part) * 1e6)
    return {US: percentile(stretches, 0.25)}


def _columns(connection: apsw.Connection, table: str) -> list[str]:
    listed = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [str(row[1]) for row in listed if row[1] not in ("_row", "tenant")]
