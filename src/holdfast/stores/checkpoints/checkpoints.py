"""The state of an agent at every step, to go on from later, at the cost of what changed.

A state is bytes, and comes back to the byte. Beside each checkpoint only that is written in which
it differs from the one before: the rest it shares, through logs (`records`) that count their
users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.collection import REVISION
from holdfast.core.errors import Corrupt, Invalid, NotFound, kind_of
from holdfast.core.filter import Filter, Record
from holdfast.core.query import Measure, desc
from holdfast.core.values import check_json, check_keyed_text
from holdfast.stores.checkpoints.known import Known, mark_of
from holdfast.stores.checkpoints.layout import broken
from holdfast.stores.checkpoints.policy import CheckpointPolicy, Event
from holdfast.stores.checkpoints.records import (
    CHECKPOINTS,
    COLLECTIONS,
    LANE,
    LOGS,
    Checkpoint,
    CheckpointStats,
    LoadedCheckpoint,
)
from holdfast.stores.checkpoints.removing import TRIES, contended
from holdfast.stores.checkpoints.saving import Saving, build_checkpoint
from holdfast.stores.given import check_op_id
from holdfast.stores.owned import name_of
from holdfast.stores.store import Page, builder, object_of

_SHOWN: Final = tuple(name for name in Checkpoint.__struct_fields__ if name != REVISION)
_loaded = builder(LoadedCheckpoint)


class Checkpoints(Saving):
    """Checkpoints of the bound scope.

    A session is a name within the handle's agent, user and namespace; without one it is "".
    """

    collections = COLLECTIONS

    def configured(self, policy: CheckpointPolicy) -> Checkpoints:
        """This store working by another policy."""
        if not isinstance(policy, CheckpointPolicy):
            raise Invalid("policy", expected="a CheckpointPolicy", got=kind_of(policy))
        return Checkpoints(self._driver, self._scope, self._runtime, policy)

    def due(self, event: Event, iteration: int) -> bool:
        """Whether the policy's strategy wants a save after this event of this iteration.

        Events are "iteration", "tool_call" and "response"; iterations count from 0.
        """
        return self._policy.strategy.due(event, iteration)

    def load(self, checkpoint_id: str) -> LoadedCheckpoint | None:
        """The checkpoint with its state, or None. Corrupt where its bytes are not all there."""
        return self._whole(lambda: self._get(CHECKPOINTS, checkpoint_id))

    def latest(self, *, session_id: str = "") -> LoadedCheckpoint | None:
        """The session's checkpoint of the highest iteration, the last saved of equals; or None."""
        check_keyed_text("session_id", session_id)
        return self._whole(lambda: self._newest(session_id), newest=True)

    def list(
        self, *, session_id: str | None = "", limit: int = 100, cursor: str | None = None
    ) -> Page[Checkpoint]:
        """A session's checkpoints without their states, newest first as `latest` counts.

        With None those of all sessions in reach, session by session, the greatest name first.
        """
        order = desc("iteration", "sequence", "id")
        if session_id is None:
            order, parts = desc(*LANE) + order, tuple[Filter, ...]()
        else:
            parts = self._lane(check_keyed_text("session_id", session_id))
        return self._page(
            CHECKPOINTS,
            build_checkpoint,
            *parts,
            order=order,
            limit=limit,
            cursor=cursor,
            fields=_SHOWN,
        )

    def fork(
        self,
        checkpoint_id: str,
        *,
        session_id: str,
        new_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Make a checkpoint in another session that shares all bytes of this one.

        It keeps scope, iteration and, unless others are given, metadata. NotFound; Conflict for
        an id in use. A repeat with the same ``op_id`` returns the first fork, as long as this one
        is there. Corrupt where a log that it needs is not.
        """
        check_keyed_text("session_id", session_id)
        check_op_id(op_id)
        name_of("new_id", new_id)
        shown = check_json("metadata", object_of("metadata", metadata))
        asked = ("checkpoints.fork", checkpoint_id, session_id, new_id, metadata)
        before: tuple[Any, ...] = ()
        for _ in range(TRIES):
            source = self._require(CHECKPOINTS, checkpoint_id)
            fork = {
                **{name: value for name, value in source.items() if name != "sequence"},
                "id": new_id or self._new_id(),
                "session_id": session_id,
                "forked_from": checkpoint_id,
                "saved_at": self._now(),
            }
            if metadata is not None:
                fork["metadata"] = shown
            one_more = Edit(increment={"uses": 1})
            used = [
                Patch(LOGS.name, (log,), one_more, silent=True) for log in sorted(source["logs"])
            ]
            try:
                put = Put(CHECKPOINTS.name, fork, ABSENT)
                return build_checkpoint(self._apply(put, *used, op_id=op_id, asked=asked)[0].record)
            except NotFound:
                # Its logs went with it, or with what it was before it was replaced; or are lost.
                if before == mark_of(source):
                    raise broken(checkpoint_id) from None
                before = mark_of(source)
        raise contended()

    def stats(self) -> CheckpointStats:
        """How many checkpoints the scope has, how large their states are, what they take."""
        totals = (Measure("n", "count"), Measure("size", "sum", "size"))
        rest = Measure("rest", "sum", "rest_size")
        held = self._totals(CHECKPOINTS.name, self._within(CHECKPOINTS), (*totals, rest))
        logs = self._totals(LOGS.name, self._within(LOGS), totals)
        return CheckpointStats(
            checkpoints=held["n"],
            state_bytes=held["size"],
            stored_bytes=held["rest"] + logs["size"],
            logs=logs["n"],
        )

    def _whole(
        self, find: Callable[[], Record | None], *, newest: bool = False
    ) -> LoadedCheckpoint | None:
        """The checkpoint that is found, with its state; ``newest`` says it is its session's."""
        before: tuple[Any, ...] = ()
        for _ in range(TRIES):
            record = find()
            if record is None:
                return None
            session_id, mark = record["session_id"], mark_of(record)
            known = self._recent.get(session_id)
            if known is not None and known.mark == mark:
                return _loaded({**record, "state": known.state})
            try:
                state = self._state(record)
            except Corrupt:
                if mark == before:
                    raise
                before = mark  # it may have been removed between the two reads: look again
                continue
            if newest:
                # Whoever goes on from here saves next, and need not read it again.
                self._recent.set(session_id, Known.loaded(record, state))
            return _loaded({**record, "state": state})
        raise contended()
