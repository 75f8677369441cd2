"""Writes in two halves: first the changes are made, then, once they are applied, the answer.

A plain call does both with a `Driver.apply` of its own between them. Of calls that share a commit
`holdfast.calls` does all first halves, then one apply for all of them, then all second halves: work
of one kind finds its code and its data still in the processor's caches, which work in turns does
not, and a server is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from threading import get_ident
from typing import Generic, ParamSpec, TypeVar

from holdfast.core.change import Change, Outcome
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, NotFound

P = ParamSpec("P")
T = TypeVar("T")


class Write(Generic[T]):
    """What a verb has made in its first half.

    ``answer`` makes the verb's result. ``refused`` is told why the changes were not applied, and
    may raise what the caller must know instead.
    """

    __slots__ = ("answer", "changes", "driver", "refused", "tenant")

    def __init__(
        self,
        driver: Driver,
        tenant: str,
        changes: Sequence[Change],
        answer: Callable[[list[Outcome]], T],
        refused: Callable[[Conflict | NotFound], None],
    ) -> None:
        self.driver = driver
        self.tenant = tenant
        self.changes = changes
        self.answer = answer
        self.refused = refused

    def finish(self, outcomes: list[Outcome] | None = None) -> T:
        """The second half, after an apply of its own unless the outcomes are there."""
        if outcomes is None:
            try:
                outcomes = self.driver.apply(self.tenant, self.changes)
            except (Conflict, NotFound) as error:
                self.refused(error)
                raise
        return self.answer(outcomes)


_beginning: set[int] = set()
"""Threads that run the first half of a verb."""


def is_left() -> bool:
    """Whether this thread leaves the write that it has made to who called `begin`."""
    return bool(_beginning) and get_ident() in _beginning


def begin(verb: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Write[T]:
    """The Write of a verb that `marks.halved` marks, or its result where it had none to leave."""
    _beginning.add(get_ident())
    try:
        return verb(*args, **kwargs)
    finally:
        _beginning.discard(get_ident())


def applied(writes: Sequence[Write[T]]) -> list[list[Outcome] | None]:
    """The outcomes of all that could be done as one; None where a write is to be done by itself.

    One apply is done whole or not at all. Where it was refused, one of the writes was meant, and
    each will be told by itself.
    """
    outcomes: list[list[Outcome] | None] = [None] * len(writes)
    places: dict[tuple[int, str], list[int]] = {}
    for number, write in enumerate(writes):
        places.setdefault((id(write.driver), write.tenant), []).append(number)
    for numbers in places.values():
        first = writes[numbers[0]]
        if len(numbers) > 1:
            changes = [change for number in numbers for change in writes[number].changes]
            try:
                made: Iterator[Outcome] = iter(first.driver.apply(first.tenant, changes))
            except Exception:  # noqa: BLE001 - each write meets it again, by itself
                continue
            for number in numbers:
                outcomes[number] = list(islice(made, len(writes[number].changes)))
    return outcomes
