"""One change as the statements that do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.backends.postgres.wire import Command, Wire
from holdfast.core.change import Change, Outcome

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

Finish = Callable[[Wire, Sequence["PGresult"]], Outcome]

LOCKED: Final = " FOR NO KEY UPDATE"
TAKEN: Final = " FOR NO KEY UPDATE SKIP LOCKED"
"""Without KEY, so that neither waits for a record that refers to this one."""


class NothingMatched(Exception):
    """A bare step met no record that its condition allows; nothing was written."""


class Step(msgspec.Struct, frozen=True):
    """One change: its statements, and how their results make its outcome."""

    change: Change
    commands: list[Command]
    finish: Finish


def counted(_wire: Wire, results: Sequence[PGresult]) -> Outcome:
    """The finish of a step whose one statement says how many records it met."""
    return Outcome(int(results[0].command_tuples or 0))
