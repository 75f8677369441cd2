"""Saving a state: what it shares with the one before it, and what must hold for that.

What is known of the checkpoint before may be old, or of a unit that never committed. So every save
carries its own conditions; where one does not hold, it reads again, and if need be shares nothing.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from holdfast.core.change import ABSENT, Condition, Put, Revision
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    HoldfastError,
    IdempotencyMismatch,
    Invalid,
    NotFound,
    TooLarge,
    kind_of,
)
from holdfast.core.filter import Record
from holdfast.core.query import desc
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.core.values import check_count, check_json, check_keyed_text
from holdfast.stores.checkpoints.known import Known, Recent
from holdfast.stores.checkpoints.layout import (
    INLINE_SIZE,
    NEW,
    assembled,
    broken,
    plan,
    read,
    whole,
    written,
)
from holdfast.stores.checkpoints.logs import Growth
from holdfast.stores.checkpoints.policy import CheckpointPolicy
from holdfast.stores.checkpoints.records import CHECKPOINTS, LOGS, Checkpoint
from holdfast.stores.checkpoints.removing import TRIES, Removing, contended
from holdfast.stores.owned import name_of
from holdfast.stores.store import builder, object_of

STATE_LIMIT: Final = 256 * 1024 * 1024
"""Largest state, in bytes."""
ITERATION_LIMIT: Final = 2**62
CHECKED_SIZE: Final = 65_536
"""A state of up to so many bytes has a checksum of its own, which takes a moment of each save."""
RETENTION_EVERY: Final = 64
"""Saves of a session between two looks at how many it keeps."""
build_checkpoint = builder(Checkpoint)


class Saving(Removing):
    """Writes checkpoints."""

    def __init__(
        self,
        driver: Driver,
        scope: Scope,
        runtime: Runtime,
        policy: CheckpointPolicy | None = None,
    ) -> None:
        super().__init__(driver, scope, runtime)
        self._policy = policy or CheckpointPolicy()
        self._recent = Recent()

    def save(
        self,
        state: bytes,
        *,
        iteration: int,
        session_id: str = "",
        metadata: dict[str, Any] | None = None,
        checkpoint_id: str | None = None,
        op_id: str | None = None,
    ) -> Checkpoint:
        """Keep a state of up to 256 MiB and return what is known of it.

        An id that is in use here has its checkpoint replaced, as the newest save of its session;
        one that is in use outside this handle's reach is a Conflict. ``iteration`` is 0 to 2**62.
        A repeat with the same ``op_id`` and arguments returns the first answer. TooLarge, Invalid.
        """
        given = {
            **self._scope_fields(),
            "session_id": check_keyed_text("session_id", session_id),
            "iteration": check_count("iteration", iteration, 0, ITERATION_LIMIT),
            "metadata": check_json("metadata", object_of("metadata", metadata)),
            "size": len(_checked(state)),
            "forked_from": None,
        }
        asked = ("checkpoints.save", state, iteration, session_id, metadata, checkpoint_id)
        named = name_of("checkpoint_id", checkpoint_id)
        for attempt in range(TRIES):
            held = None if named is None else self._replaced(named)
            growth = self._grown(state, session_id, attempt)
            record = {**given, **self._minted(named, growth), "checksum": _checksum(state)}
            used = self._used(growth, self._policy.compress)
            released = [] if held is None else self._released([held])
            try:
                outcomes = self._apply(
                    _put(record, held), *used, *released, op_id=op_id, asked=asked
                )
            except IdempotencyMismatch:
                raise
            except (Conflict, NotFound) as error:
                self._recent.drop(session_id)
                if held is None and error.context.get("unique") == "key":
                    self._refuse_foreign(named)
                continue
            saved = outcomes[0].record
            if op_id is None:  # what may be a repeat says nothing of this growth
                self._after(saved, state, growth)
            return build_checkpoint(saved)
        raise contended()

    def _grown(self, state: bytes, session_id: str, attempt: int) -> Growth:
        """What to write of a state at the first, second ... attempt.

        From the third on nothing is appended that others may append to, and from the fourth on
        nothing is shared: that one fails for nobody else's save or prune.
        """
        if len(state) <= INLINE_SIZE or attempt > 2:
            return self._growth(whole(state), None)
        known = self._recent.get(session_id) if attempt == 0 else None
        known = known or self._read_newest(session_id)
        if known is None:
            return self._growth(whole(state), None)
        log = known.log
        if log is None and known.log_id:
            log = self._get(LOGS, known.log_id)
        if log is None or attempt > 1:
            return self._growth(plan(state, known.parts, known.state, NEW, 0), None)
        return self._growth(plan(state, known.parts, known.state, log["id"], log["size"]), log)

    def _minted(self, named: str | None, growth: Growth) -> Record:
        """The fields of a checkpoint that its save makes."""
        fields = written(growth.layout)
        return {**fields, "id": named or self._new_id(), "saved_at": self._now()}

    def _read_newest(self, session_id: str) -> Known | None:
        """The session's newest checkpoint, to build on; None when there is no whole one."""
        newest = self._newest(session_id)
        try:
            return None if newest is None else Known.loaded(newest, self._state(newest))
        except Corrupt:
            return None  # a save does not depend on whether an older one can be read

    def _state(self, record: Record) -> bytes:
        """The bytes of a checkpoint; Corrupt where they are not all there."""
        parts, checksum = read(record), record["checksum"]
        if checksum is None:
            return assembled(record, parts, self._read(record, parts))
        before = self._read_before(parts)
        if before is not None:
            state = assembled(record, parts, before)
            if zlib.crc32(state) == checksum:
                return state
            self._held.drop(before)
        found = self._read(record, parts)
        state = assembled(record, parts, found)
        if zlib.crc32(state) != checksum:
            raise broken(record["id"])
        for log, stretches in found.items():
            self._held.add(log, stretches)
        return state

    def _replaced(self, checkpoint_id: str) -> Record | None:
        """The checkpoint of this id, which a save replaces; Conflict if it is another's."""
        held = self._get(CHECKPOINTS, checkpoint_id)
        if held is not None and any(held[k] != v for k, v in self._scope_fields().items()):
            raise _in_use()
        return held

    def _refuse_foreign(self, checkpoint_id: str | None) -> None:
        """Raise Conflict when the id that was just in use is one that this handle cannot see."""
        if checkpoint_id is not None and self._get(CHECKPOINTS, checkpoint_id) is None:
            raise _in_use()

    def _after(self, saved: Record, state: bytes, growth: Growth) -> None:
        """Remember what was saved for the next save, and keep the session short."""
        session_id, sequence = saved["session_id"], saved["sequence"]
        known = Known.saved(saved, state, growth.layout.parts, growth.after)
        self._recent.set(session_id, known)
        keep = self._policy.keep
        # Inside a unit the sequence is 0.
        if keep is not None and sequence and sequence % RETENTION_EVERY == 0:
            try:
                self._retain(keep, session_id)
            except HoldfastError:
                return  # the save is done, whatever keeps this from it; a later one does it

    def _newest(self, session_id: str) -> Record | None:
        order = desc("iteration", "sequence", "id")
        return self._first(CHECKPOINTS, *self._lane(session_id), order=order)


def _checked(state: object) -> bytes:
    if not isinstance(state, bytes):
        raise Invalid("state", expected="bytes", got=kind_of(state))
    if len(state) > STATE_LIMIT:
        raise TooLarge("state", expected=f"at most {STATE_LIMIT} bytes", got=f"{len(state)}")
    return state


def _checksum(state: bytes) -> int | None:
    return zlib.crc32(state) if len(state) <= CHECKED_SIZE else None


def _put(record: Record, held: Record | None) -> Put:
    condition: Condition = ABSENT if held is None else Revision(held["revision"])
    return Put(CHECKPOINTS.name, record, condition)


def _in_use() -> Conflict:
    return Conflict("The checkpoint's id is in use.", hint="Save under another one.", unique="key")
