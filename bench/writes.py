"""Durable writes: one small row per commit, from one caller and from many.

Every contender first writes until its write-ahead log has its full length, because a log that
still grows costs more per sync than one that is used again.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw

from bench import peers
from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.subjects import (
    ROW,
    TABLE,
    TEXT,
    Durability,
    raw_apsw,
    raw_row,
    raw_sqlite3,
    store,
)
from holdfast.stores.conversations.appending import Draft

RAW = "raw sqlite3"
AIOSQLITE_64 = "aiosqlite, 64 callers, a transaction each"
AIOSQLITE_BARE_64 = "aiosqlite, 64 callers, autocommit"
BATCH = 1_000

Write = Callable[[int], object]
AsyncWrite = Callable[[int], Awaitable[object]]


class Writes:
    """The sheet of one durability."""

    def __init__(self, durability: Durability, *, quick: bool) -> None:
        self._durability: Durability = durability
        self._warm, self._count = (5, 20) if quick else (150, 300)
        self._many = 128 if quick else 2_048
        self._batches = 1 if quick else 3
        self._batch = 20 if quick else BATCH

    def sheet(self, rounds: int) -> Sheet:
        full = self._durability == "full"
        crowd = (Goal(4, RAW), Goal(10, AIOSQLITE_64)) if full else ()
        steady = (Goal(10, figure="p99 / p50", sense="at most"),) if full else ()
        bulk = (Goal(8, RAW),) if full else ()
        absent = peers.missing("aiosqlite")
        rows = [
            Contender(RAW, self._sqlite3),
            Contender("raw apsw", self._apsw),
            Contender("raw apsw, the rows of an append", self._append_by_hand),
            Contender("aiosqlite, 1 caller", self._aiosqlite(1), missing=absent),
            Contender(AIOSQLITE_64, self._aiosqlite(64), missing=absent),
            Contender(AIOSQLITE_BARE_64, self._aiosqlite_bare(64), missing=absent),
            Contender("holdfast conversations.append", self._append),
            Contender("holdfast kv.set", self._kv),
            Contender("holdfast memory.remember", self._remember),
            Contender("holdfast append, 8 threads", self._threads),
            Contender("holdfast.aio append, 1 caller", self._tasks(1)),
            Contender("holdfast.aio append, 8 callers", self._tasks(8)),
            Contender("holdfast.aio append, 64 callers", self._tasks(64), (*crowd, *steady)),
            Contender("holdfast append_many(1000)", self._append_many, bulk),
            Contender("holdfast remember_many(1000)", self._remember_many, bulk),
        ]
        return Sheet(
            name=f"writes-{self._durability}",
            title=f"Durable writes, one small row per commit, WAL {self._durability.upper()}",
            figure="rows/s",
            base=RAW,
            contenders=tuple(rows),
            rounds=rounds,
            notes="An append writes a message, its place in the sequence, its text index and the"
            " counters of its conversation: five rows in seven b-trees, against one row in two of"
            " the raw loop. The third row is the same work by hand. Callers of aiosqlite share one"
            " connection, so each transaction is behind a lock: without it tasks share one, and the"
            " commit of one makes the half-done work of another durable. Autocommit needs no lock,"
            " and can do one statement, not what an append does.",
        )

    # --- by hand

    def _sqlite3(self, folder: Path) -> Figures:
        connection = raw_sqlite3(folder, self._durability)
        figures = self._alone(lambda number: connection.execute(ROW, raw_row(number)))
        connection.close()
        return figures

    def _apsw(self, folder: Path) -> Figures:
        connection = raw_apsw(folder, self._durability)
        figures = self._alone(lambda number: connection.execute(ROW, raw_row(number)))
        connection.close()
        return figures

    def _append_by_hand(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            conversation = storage.conversations.create().id
            storage.conversations.append(conversation, TEXT)
        connection = apsw.Connection(str(folder / "holdfast.db"))
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._durability}")

        def write(number: int) -> None:
            execute = connection.execute
            execute("BEGIN IMMEDIATE")
            execute(_COUNT, (number, "default", conversation))
            [(sequence,)] = execute(_NUMBER, ("default", "messages", "sequence", conversation))
            values = ("default", f"message-{number:012d}", conversation, sequence, TEXT, number)
            execute(_MESSAGE, values)
            row = connection.last_insert_rowid()
            execute(_TERMS, ("default", row, 10, b"12345678" * 10, b"1234" * 10))
            execute("COMMIT")

        figures = self._alone(write)
        connection.close()
        return figures

    def _aiosqlite(self, callers: int) -> Callable[[Path], Figures]:
        """A transaction for each row, which a lock keeps apart from the other callers' rows."""

        def writing(connection: Any) -> AsyncWrite:
            lock = asyncio.Lock()

            async def write(number: int) -> None:
                async with lock:
                    await connection.execute(ROW, raw_row(number))  # which begins a transaction
                    await connection.commit()

            return write

        return lambda folder: asyncio.run(self._through_aiosqlite(folder, callers, "", writing))

    def _aiosqlite_bare(self, callers: int) -> Callable[[Path], Figures]:
        """One statement for each row, which commits itself."""

        def writing(connection: Any) -> AsyncWrite:
            async def write(number: int) -> None:
                await connection.execute(ROW, raw_row(number))

            return write

        return lambda folder: asyncio.run(self._through_aiosqlite(folder, callers, None, writing))

    async def _through_aiosqlite(
        self,
        folder: Path,
        callers: int,
        isolation: str | None,
        writing: Callable[[Any], AsyncWrite],
    ) -> Figures:
        aiosqlite = importlib.import_module("aiosqlite")
        path = folder / "raw.db"
        async with aiosqlite.connect(path, isolation_level=isolation) as connection:
            await connection.execute("PRAGMA journal_mode=WAL")
            await connection.execute(f"PRAGMA synchronous={self._durability}")
            await connection.execute(TABLE)
            write = writing(connection)
            return await self._together(callers, [write] * callers, self._count)

    # --- holdfast

    def _append(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            conversation = storage.conversations.create().id
            return self._alone(lambda _: storage.conversations.append(conversation, TEXT))

    def _kv(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            return self._alone(lambda number: storage.kv.set(f"key-{number}", TEXT))

    def _remember(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            return self._alone(lambda number: storage.memory.remember(f"{TEXT} {number}"))

    def _threads(self, folder: Path) -> Figures:
        threads = 8
        with store(folder, self._durability) as storage:
            ids = [storage.conversations.create().id for _ in range(threads)]
            append, share = storage.conversations.append, max(1, self._many // 4 // threads)
            for _ in range(self._warm):
                append(ids[0], TEXT)

            def work(conversation: str) -> None:
                for _ in range(share):
                    append(conversation, TEXT)

            workers = [threading.Thread(target=work, args=(held,)) for held in ids]
            start = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return {"rows/s": share * threads / (time.perf_counter() - start)}

    def _tasks(self, callers: int) -> Callable[[Path], Figures]:
        async def run(folder: Path) -> Figures:
            from holdfast import aio

            path = str(folder / "holdfast.db")
            async with aio.open(path, durability=self._durability, embedder=None) as storage:
                conversations = storage.conversations
                ids = [(await conversations.create()).id for _ in range(callers)]

                def writer(conversation: str) -> AsyncWrite:
                    return lambda _: conversations.append(conversation, TEXT)

                count = self._count if callers == 1 else self._many
                return await self._together(callers, [writer(held) for held in ids], count)

        return lambda folder: asyncio.run(run(folder))

    def _append_many(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            conversation = storage.conversations.create().id
            drafts = [Draft(text=TEXT) for _ in range(self._batch)]
            return self._in_batches(lambda: storage.conversations.append_many(conversation, drafts))

    def _remember_many(self, folder: Path) -> Figures:
        with store(folder, self._durability) as storage:
            numbers = itertools.count()
            return self._in_batches(
                lambda: storage.memory.remember_many(
                    [f"{TEXT} {next(numbers)}" for _ in range(self._batch)]
                )
            )

    # --- timing

    def _alone(self, write: Write) -> Figures:
        for number in range(self._warm):
            write(number)
        latencies = []
        for number in range(self._warm, self._warm + self._count):
            start = time.perf_counter()
            write(number)
            latencies.append(time.perf_counter() - start)
        return _figures(latencies, sum(latencies))

    def _in_batches(self, write: Callable[[], object]) -> Figures:
        write()
        start = time.perf_counter()
        for _ in range(self._batches):
            write()
        return {"rows/s": self._batches * self._batch / (time.perf_counter() - start)}

    async def _together(self, callers: int, writes: list[AsyncWrite], count: int) -> Figures:
        numbers = itertools.count()
        latencies: list[float] = []

        async def call(write: AsyncWrite, times: int) -> None:
            for _ in range(times):
                before = time.perf_counter()
                await write(next(numbers))
                latencies.append(time.perf_counter() - before)

        async def all_call(times: int) -> None:
            await asyncio.gather(*(call(write, times) for write in writes))

        await all_call(max(1, self._warm // callers))
        latencies.clear()
        start = time.perf_counter()
        await all_call(max(1, count // callers))
        seconds = time.perf_counter() - start
        return _figures(latencies, seconds)


def _figures(latencies: list[float], seconds: float) -> Figures:
    p50, p99 = percentile(latencies, 0.50), percentile(latencies, 0.99)
    return {
        "rows/s": len(latencies) / seconds,
        "p50 ms": p50 * 1e3,
        "p99 ms": p99 * 1e3,
        "p99 / p50": p99 / p50,
    }


_COUNT = """
UPDATE conversations SET message_count = message_count + 1, head = head + 1,
updated_at = max(updated_at, ?), revision = revision + 1 WHERE tenant = ? AND id = ?"""
_NUMBER = """
INSERT INTO holdfast_sequences (tenant, collection, field, per, last) VALUES (?, ?, ?, ?, 1)
ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last"""
_MESSAGE = """
INSERT INTO messages (tenant, revision, id, conversation_id, sequence, role, direction, text,
metadata, tokens, created_at) VALUES (?, 1, ?, ?, 1000 + ?, 'user', 'inbound', ?, '{}', 0, ?)"""
_TERMS = "INSERT INTO messages__terms VALUES (?, ?, ?, ?, ?)"
