"""Writes in two halves: first the changes are made, then, once they are applied, the answer.

A plain call does both with a `Driver.apply` of its own between them. Of calls that share a commit
`holdfast.calls` does all first halves, then one apply for all of them, then all second halves: work
of one kind finds its code and its data still in the processor's caches, which work in turns does
not, and a server is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from threading import get_ident
from typing import Final, Generic, ParamSpec, TypeVar

from holdfast.core.change import Change, Outcome
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, NotFound

P = ParamSpec("P")
T = TypeVar("T")

ROUNDS_LIMIT: Final = 63
"""Most rounds in which no apply is made for many writes after one was refused."""


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


class Applies:
    """Makes one apply of many writes, as long as none of them is refused.

    One apply is done whole or not at all. Where it was refused, one of the writes was meant, and
    all are to be done each by itself, that is twice. So that a caller who is refused again and
    again costs the others little, nothing is tried then for some rounds, twice as many each time.
    """

    def __init__(self) -> None:
        self._rounds = 0
        self._left = 0

    def outcomes(self, writes: Sequence[Write[T]]) -> list[list[Outcome] | None]:
        """The outcomes of all that were done; None where a write is to be done by itself."""
        made: list[list[Outcome] | None] = [None] * len(writes)
        places: dict[tuple[int, str], list[int]] = {}
        for number, write in enumerate(writes):
            places.setdefault((id(write.driver), write.tenant), []).append(number)
        shared = [numbers for numbers in places.values() if len(numbers) > 1]
        if shared and self._left:
            self._left -= 1
        elif shared:
            refused = False
            for numbers in shared:
                parts = _applied([writes[number] for number in numbers])
                refused = refused or not parts
                for number, part in zip(numbers, parts, strict=False):
                    made[number] = part
            self._rounds = min(2 * self._rounds + 1, ROUNDS_LIMIT) if refused else 0
            self._left = self._rounds
        return made


def _applied(writes: list[Write[T]]) -> list[list[Outcome]]:
    """The outcomes of each, after one apply for all; nothing if that was refused."""
    changes = [change for write in writes for change in write.changes]
    try:
        made = iter(writes[0].driver.apply(writes[0].tenant, changes))
    except Exception:  # noqa: BLE001 - each write meets it again, by itself
        return []
    return [list(islice(made, len(write.changes))) for write in writes]
