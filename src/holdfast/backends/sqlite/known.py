"""What the writer has found in the file, kept from one transaction to the next.

It holds as long as nobody else has written. SQLite counts the states of the file that a connection
has seen, on at each commit, its own and those of others: a count that stands where the last commit
left it says so. What was rolled back was never true, and is forgotten with all the rest.
"""

from __future__ import annotations

from typing import Final

import apsw

Counter = tuple[str, str, str, str]
"""Tenant, collection, field, and the values within which the field is numbered."""
Source = tuple[str, str, str | None]
"""A table of derived data, a tenant, and the space where there are several."""
Cover = tuple[int, int] | None
"""A cover, and the row above which an insert is news to everyone; None where there is none."""

_LIMIT: Final = 4_096
"""Most counters and covers that are kept."""
_FOLLOWED: Final = "SELECT 1 FROM holdfast_followers LIMIT 1"


class Known:
    """Facts of the file as this transaction, or the last one, has left it."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._journaled: bool | None = None
        self.counted: dict[Counter, int] = {}
        self.covers: dict[Source, Cover] = {}

    def begin(self, connection: apsw.Connection) -> None:
        """A transaction has begun: forget all if another has committed since the last one."""
        full = len(self.counted) > _LIMIT or len(self.covers) > _LIMIT
        if full or connection.data_version() != self._version:
            self.forget()

    def committed(self, connection: apsw.Connection) -> None:
        """The transaction is in the file: what is known holds until somebody else writes."""
        self._version = connection.data_version()

    def forget(self) -> None:
        """Something may be otherwise now."""
        self._version = self._journaled = None
        self.counted.clear()
        self.covers.clear()

    def journaled(self, connection: apsw.Connection) -> bool:
        """Whether anyone follows the store."""
        if self._journaled is None:
            self._journaled = connection.execute(_FOLLOWED).get is not None
        return self._journaled
