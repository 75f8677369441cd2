"""Following: feeding the journal to one follower, from where it stands.

A follower runs beside the writers, never in their way: what it cannot take now it is offered
again, its failures are counted, and no write waits for it or fails with it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from holdfast.core.driver import Driver, FeedEntry
from holdfast.core.values import check_count

BATCH: Final = 500
"""How many entries a follower is given at once."""


class Follower(Protocol):
    """What takes the changes of a store."""

    @property
    def name(self) -> str:
        """Under which the journal knows it; one name, one position."""
        ...

    def position(self) -> int:
        """How far it has come, from what it has made durable; 0 at the beginning."""
        ...

    def take(self, entries: Sequence[FeedEntry]) -> None:
        """Take entries in order, durably when it returns. Entries that it has are ignored."""
        ...


class Progress(msgspec.Struct, frozen=True):
    """How a follower fares. ``failures`` counts since it was started here."""

    position: int
    taken: int
    failures: int
    last_error: str = ""


class Following:
    """Brings one follower up to date whenever it is asked to.

    With a ``tenant`` the follower is given that tenant's entries and no others.
    """

    def __init__(
        self,
        driver: Driver,
        follower: Follower,
        *,
        tenant: str | None = None,
        batch: int = BATCH,
    ) -> None:
        self._driver = driver
        self._tenant = tenant
        self._follower = follower
        self._batch = check_count("batch", batch, 1, 10_000)
        self._lock = threading.Lock()
        self._progress = Progress(0, 0, 0)

    @property
    def progress(self) -> Progress:
        """Position, entries taken and failures so far."""
        return self._progress

    def start(self) -> None:
        """Have the journal keep changes for this follower from now on; may be repeated.

        Raises Unsupported where the engine has no feed.
        """
        self._driver.maintain("follow", follower=self._follower.name)

    def stop(self) -> None:
        """Let the journal forget the follower and what was kept for it."""
        self._driver.maintain("unfollow", follower=self._follower.name)

    def catch_up(self) -> int:
        """Hand over all that is waiting; how many entries. A failure of the follower is counted.

        What it failed to take is offered again at the next call. Raises what the store raises.
        """
        with self._lock:
            before = self._progress.taken
            try:
                at = max(self._follower.position(), self._progress.position)
            except Exception as error:  # noqa: BLE001 - whatever a follower raises is its failure
                self._failed(error)
                return 0
            while self._step(at):
                at = self._progress.position
            return self._progress.taken - before

    def _step(self, after: int) -> bool:
        """Hand over one batch; whether there may be more."""
        name = self._follower.name
        entries = self._driver.feed(name, after=after, limit=self._batch)
        if not entries:
            return False
        given = [e for e in entries if self._tenant is None or e.tenant == self._tenant]
        try:
            if given:
                self._follower.take(given)
        except Exception as error:  # noqa: BLE001 - whatever a follower raises is its failure
            self._failed(error)
            return False
        last = entries[-1].position
        held = self._progress
        self._progress = Progress(last, held.taken + len(given), held.failures, held.last_error)
        self._driver.maintain("trim", follower=name, position=last)
        return True

    def _failed(self, error: Exception) -> None:
        held = self._progress
        text = f"{type(error).__name__}: {error}"
        self._progress = Progress(held.position, held.taken, held.failures + 1, text)
