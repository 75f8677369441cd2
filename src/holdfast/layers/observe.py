"""The layer that tells a sink of every call. Without a sink it is not stacked and costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import TypeVar

import msgspec

from holdfast.core.collection import Collection
from holdfast.core.driver import Driver, Health
from holdfast.core.errors import HoldfastError
from holdfast.core.observe import Operation, Sink
from holdfast.layers.around import Around

T = TypeVar("T")


class Observed(Around):
    """Tells the sink of each verb's count, time and error code. Stands above the checks.

    ``now`` reads seconds from a clock that never goes back.
    """

    def __init__(self, below: Driver, sink: Sink, now: Callable[[], float] = perf_counter) -> None:
        super().__init__(below)
        self._sink = sink
        self._now = now
        self._known: set[str] = set()
        self._failures = 0

    def setup(self, collections: Sequence[Collection], *, create: bool = True) -> None:
        super().setup(collections, create=create)
        self._known.update(c.name for c in collections)

    def around(
        self,
        verb: str,
        collections: Iterable[object],
        call: Callable[[], T],
        count: Callable[[T], int],
    ) -> T:
        began = self._now()
        try:
            answer = call()
        except BaseException as error:
            self._tell(verb, collections, 0, began, _code(error))
            raise
        self._tell(verb, collections, count(answer), began, "")
        return answer

    @contextmanager
    def around_group(self, group: AbstractContextManager[None]) -> Iterator[None]:
        began = self._now()
        try:
            with group:
                yield
        except BaseException as error:
            self._tell("group", (), 0, began, _code(error))
            raise
        self._tell("group", (), 0, began, "")

    def health(self) -> Health:
        health = self.below.health()
        if not self._failures:
            return health
        facts = {**health.facts, "sink_failures": self._failures}
        return msgspec.structs.replace(health, facts=facts)

    def _tell(
        self, verb: str, collections: Iterable[object], count: int, began: float, error: str
    ) -> None:
        seconds = self._now() - began
        # A name that was never set up is the caller's text, and may be anything.
        known = {c for c in collections if isinstance(c, str) and c in self._known}
        try:
            self._sink.operation(Operation(verb, tuple(sorted(known)), count, seconds, error))
        except Exception:  # noqa: BLE001 - whatever the sink does, the call has happened
            self._failures += 1


def _code(error: BaseException) -> str:
    return error.code if isinstance(error, HoldfastError) else "interrupted"
