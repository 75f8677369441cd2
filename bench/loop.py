"""How long calls of the async facade keep the event loop from its other work."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.measure import Contender, Figures, Goal, Sheet, percentile
from bench.subjects import TEXT

MAX = "longest ms"
BASE = "nothing"
TICK_SECONDS: Final = 0.001
"""A task sleeps so long again and again; what it oversleeps, the loop was held."""

Work = Callable[[Any, int], Awaitable[object]]


class Loop:
    """The sheet of the event loop. Each row keeps the loop's callers busy for a while."""

    def __init__(self, *, quick: bool) -> None:
        self._seconds = 0.1 if quick else 3.0
        self._held = 20 if quick else 2_000
        self._characters = 10_000 if quick else 1_000_000

    def sheet(self, rounds: int) -> Sheet:
        bound = (Goal(20, figure=MAX, sense="at most"),)
        works: dict[str, tuple[int, Work]] = {
            "append, 64 callers": (64, self._append),
            "kv.get, 64 callers": (64, self._get),
            "recall, 64 callers": (64, self._recall),
            "memory.list(1000), 8 callers": (8, self._list),
            "append_many(1000), 4 callers": (4, self._append_many),
            "remember of a megabyte, 2 callers": (2, self._remember_long),
            "all of these, 12 callers": (12, self._any),
        }
        return Sheet(
            name="loop",
            title="How long the event loop is held while calls are under way",
            figure=MAX,
            base=BASE,
            rounds=rounds,
            notes="What a task that sleeps a millisecond again and again oversleeps. The row of a"
            " thread that computes is Python alone: a loop waits for the interpreter's lock up to"
            " five milliseconds for each thread that computes, and longer where others take the"
            " processor. So is the row of a garbage collection: Python makes them now and then, in"
            " one piece, the longer the more objects the whole program has.",
            contenders=(
                Contender(BASE, lambda _: asyncio.run(self._idle())),
                Contender("a thread that computes", lambda _: asyncio.run(self._beside(_sum))),
                Contender("a garbage collection", lambda _: asyncio.run(self._beside(_collect))),
                *(
                    Contender(f"holdfast.aio {name}", self._row(callers, work), bound)
                    for name, (callers, work) in works.items()
                ),
                Contender(
                    "holdfast.aio all of these, in a program that did gc.freeze()",
                    _frozen(self._row(12, self._any)),
                    bound,
                ),
            ),
        )

    def _row(self, callers: int, work: Work) -> Callable[[Path], Figures]:
        async def run(folder: Path) -> Figures:
            from holdfast import aio

            async with aio.open(str(folder / "holdfast.db"), embedder=None) as storage:
                await self._fill(storage)
                deadline = time.monotonic() + self._seconds

                async def call(number: int) -> None:
                    await work(storage, number)
                    while time.monotonic() < deadline:
                        await work(storage, number)

                return await _oversleeping(asyncio.gather(*map(call, range(callers))))

        return lambda folder: asyncio.run(run(folder))

    async def _fill(self, storage: Any) -> None:
        words = random.Random(1)
        texts = [" ".join(words.choices(TEXT.split(), k=20)) + f" {n}" for n in range(self._held)]
        await storage.memory.remember_many(texts[:1_000])
        await storage.memory.remember_many(texts[1_000:])
        await storage.kv.set("key", TEXT)
        await storage.conversations.create(conversation_id="talk")

    async def _idle(self) -> Figures:
        return await _oversleeping(asyncio.sleep(self._seconds))

    async def _beside(self, work: Callable[[], object]) -> Figures:
        with _repeating(work):
            return await self._idle()

    async def _append(self, storage: Any, number: int) -> None:
        await storage.conversations.append("talk", TEXT)

    async def _get(self, storage: Any, number: int) -> None:
        await storage.kv.get("key")

    async def _recall(self, storage: Any, number: int) -> None:
        await storage.memory.recall(f"green tea in the morning {number}")

    async def _list(self, storage: Any, number: int) -> None:
        await storage.memory.list(limit=1_000)

    async def _append_many(self, storage: Any, number: int) -> None:
        from holdfast.stores.conversations.appending import Draft

        await storage.conversations.append_many("talk", [Draft(text=TEXT)] * 1_000)

    async def _remember_long(self, storage: Any, number: int) -> None:
        text = f"{TEXT} {time.monotonic()} "
        await storage.memory.remember(text * (self._characters // len(text)))

    async def _any(self, storage: Any, number: int) -> None:
        works = (
            self._append, self._get, self._recall,
            self._list, self._append_many, self._remember_long,
        )  # fmt: skip
        await works[number % len(works)](storage, number)


async def _oversleeping(work: Awaitable[object]) -> Figures:
    """How long a task that sleeps shortly slept too long while the work was done."""
    over: list[float] = []
    task = asyncio.ensure_future(work)
    while not task.done():
        before = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        over.append(time.perf_counter() - before - TICK_SECONDS)
    await task
    return {
        "p50 ms": percentile(over, 0.50) * 1e3,
        "p99 ms": percentile(over, 0.99) * 1e3,
        MAX: max(over) * 1e3,
    }


def _frozen(row: Callable[[Path], Figures]) -> Callable[[Path], Figures]:
    """A row whose program has told Python that what it holds by now is there to stay."""

    def run(folder: Path) -> Figures:
        gc.collect()
        gc.freeze()
        try:
            return row(folder)
        finally:
            gc.unfreeze()

    return run


def _sum() -> None:
    sum(range(1_000))


def _collect() -> None:
    time.sleep(0.1)
    gc.collect()


@contextmanager
def _repeating(work: Callable[[], object]) -> Iterator[None]:
    """A thread that does some work again and again."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
