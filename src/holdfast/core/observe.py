"""What an observer is told of each call on an engine: counts and times, never content."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec


class Operation(msgspec.Struct, frozen=True):
    """One call of a verb of the contract.

    ``collections`` are the declared ones that it was about. ``count`` is how many changes it was
    given, or how many records it gave back. ``error`` is the code of the error that it raised,
    "" for none, "interrupted" for what is no error of ours. Ids, tenants and values stay out.
    """

    verb: str
    collections: tuple[str, ...]
    count: int
    seconds: float
    error: str = ""


@runtime_checkable
class Sink(Protocol):
    """Takes operations as they end, in the thread that made the call, so it must be quick.

    What it raises is counted in ``health().facts["sink_failures"]`` and otherwise ignored.
    """

    def operation(self, seen: Operation) -> None:
        """Note one operation; called from several threads at once."""
