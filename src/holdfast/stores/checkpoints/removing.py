"""Removing checkpoints, and what no other one uses with them."""

from __future__ import annotations

from typing import Final

from holdfast.core.change import Change, Delete, DeleteWhere, Revision
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.core.filter import Filter, Record, eq
from holdfast.core.query import COUNT, Aggregate, Measure, desc
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.values import check_count, check_keyed_text
from holdfast.stores.checkpoints.logs import Logs
from holdfast.stores.checkpoints.records import CHECKPOINTS
from holdfast.stores.given import check_op_id

TRIES: Final = 100
"""How often a call repeats when others write the same checkpoints; few ever need a third."""
PRUNE_BATCH: Final = 250
"""Checkpoints that one apply removes."""


class Removing(Logs):
    """Removes checkpoints of a session, by number or by id."""

    def prune(self, *, keep: int, session_id: str = "") -> int:
        """Remove all but the ``keep`` newest of the session, oldest first; how many went.

        0 removes all. What the others share stays. Other sessions, agents, users and namespaces
        are not touched, also not by a handle that is bound to none of them.
        """
        check_count("keep", keep, 0, 2**31)
        check_keyed_text("session_id", session_id)
        gone = 0
        for _ in range(TRIES):
            # One read says which are the newest: by a count, two callers would remove each other's.
            held = self._all(
                CHECKPOINTS,
                *self._lane(session_id),
                order=desc("iteration", "sequence", "id"),
                fields=("id", "logs"),
            )
            doomed = held[keep:][::-1]
            try:
                for start in range(0, len(doomed), PRUNE_BATCH):
                    batch = doomed[start : start + PRUNE_BATCH]
                    self._apply(*map(_gone, batch), *self._released(batch))
                    gone += len(batch)
            except (Conflict, NotFound):
                continue
            return gone
        raise contended()

    def delete(self, checkpoint_id: str, *, op_id: str | None = None) -> bool:
        """Remove one checkpoint; whether it existed. What others share of it stays.

        A repeat with the same ``op_id`` gives the first answer.
        """
        check_op_id(op_id)
        for _ in range(TRIES):
            held = self._get(CHECKPOINTS, checkpoint_id)
            if held is None and op_id is None:
                return False
            # A repeat finds nothing any more, so that the first call's own outcome must say it.
            nothing = DeleteWhere(CHECKPOINTS.name, eq("id", checkpoint_id), limit=0)
            changes = [nothing] if held is None else [_gone(held), *self._released([held])]
            try:
                asked = ("checkpoints.delete", checkpoint_id)
                return self._apply(*changes, op_id=op_id, asked=asked)[0].count > 0
            except IdempotencyMismatch:
                raise
            except (Conflict, NotFound):
                continue
        raise contended()

    def _retain(self, keep: int, session_id: str) -> None:
        """Remove what is older than the newest ``keep``, once that is a tenth more."""
        lane = self._within(CHECKPOINTS, *self._lane(session_id))
        if self._totals(CHECKPOINTS.name, lane, (COUNT,))["count"] > keep + keep // 10:
            self.prune(keep=keep, session_id=session_id)

    def _lane(self, session_id: str) -> tuple[Filter, ...]:
        """A session of this handle's own; what it is not bound to is empty in its own records."""
        unbound = [name for name in SCOPE_FIELDS if name not in self._bound]
        return (*(eq(name, "") for name in unbound), eq("session_id", session_id))

    def _totals(self, collection: str, where: Filter, measures: tuple[Measure, ...]) -> Record:
        totals = Aggregate(collection=collection, filter=where, measures=measures)
        return self._driver.aggregate(self._scope.tenant, totals)[0]


def _gone(record: Record) -> Change:
    return Delete(CHECKPOINTS.name, (record["id"],), Revision(record["revision"]))


def contended() -> Conflict:
    """What a call raises that others have kept from its conditions."""
    return Conflict("Other writers kept changing these checkpoints.", hint="Try again later.")
