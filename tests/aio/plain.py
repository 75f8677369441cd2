"""The async facade made plain again, so that the store suite runs through it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, awaited: Awaitable[T]) -> T:
        """Await it there; wait for it here."""

        async def wait() -> T:
            return await awaited

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Plain:
    """A facade of `holdfast.aio` whose calls are plain ones again."""

    def __init__(self, facade: Any, loop: LoopThread) -> None:
        self._facade = facade
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            return getattr(self._facade._below, name)
        return self._plain(getattr(self._facade, name))

    def _plain(self, found: Any) -> Any:
        if type(found).__module__ == "holdfast.aio":
            return Plain(found, self._loop)
        if isinstance(found, AbstractAsyncContextManager):
            return self._entered(found)
        if inspect.isasyncgen(found):
            return self._items(found)
        if inspect.isawaitable(found):
            return self._plain(self._loop.run(found))
        return self._call(found) if inspect.ismethod(found) else found

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._plain(method(*args, **kwargs))

    @contextmanager
    def _entered(self, context: AbstractAsyncContextManager[Any]) -> Iterator[Any]:
        inner = self._loop.run(context.__aenter__())
        try:
            yield self._plain(inner)
        except BaseException as error:
            if not self._loop.run(context.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._loop.run(context.__aexit__(None, None, None))

    def _items(self, items: Any) -> Iterator[Any]:
        while True:
            try:
                item = self._loop.run(anext(items))
            except StopAsyncIteration:
                return
            yield item

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._facade.close())
