"""Opening, entering and leaving from an event loop, so that a cancelled task leaks nothing."""

from __future__ import annotations

from asyncio import CancelledError, Future, shield
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from threading import Thread
from types import TracebackType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from holdfast.calls.calls import Calls, run_alone

P = ParamSpec("P")
T = TypeVar("T")


class Entered(Generic[T]):
    """The async form of a context manager: both ends run in workers, leaving as a write.

    Leaving is never taken back by a cancelled task.
    """

    def __init__(self, calls: Calls, context: AbstractContextManager[T]) -> None:
        self._calls = calls
        self._context = context

    async def __aenter__(self) -> T:
        entering = self._calls.run(self._context.__enter__)
        try:
            return await shield(entering)
        except CancelledError as cancelled:
            error = cancelled
            entering.add_done_callback(lambda _: self._leave(type(error), error, None))
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await shield(self._leave(kind, error, trace))

    def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> Future[bool | None]:
        return self._calls.write(self._context.__exit__, kind, error, trace)


class Closing(Protocol):
    """Something that can be closed."""

    async def close(self) -> None:
        """Let go of it."""


Closes = TypeVar("Closes", bound=Closing)


class Opening(Generic[Closes]):
    """What `holdfast.aio.open` gives: await it, or enter it with ``async with``."""

    def __init__(self, make: Callable[[], Awaitable[Closes]]) -> None:
        self._make = make
        self._opened: Closes | None = None

    def __await__(self) -> Generator[Any, None, Closes]:
        return self._make().__await__()

    async def __aenter__(self) -> Closes:
        self._opened = await self
        return self._opened

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None:
            await self._opened.close()


class _PlainClosing(Protocol):
    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=_PlainClosing)


async def opened(call: Callable[P, Opened], *args: P.args, **kwargs: P.kwargs) -> Opened:
    """Open something in a thread. If the task is cancelled meanwhile, it is closed again."""
    opening = run_alone(call, *args, **kwargs)
    try:
        return await shield(opening)
    except CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        Thread(target=opening.result().close, name="holdfast-close").start()
