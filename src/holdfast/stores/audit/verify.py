"""Finding what was done to a chain behind the API's back, and naming the first place.

That something is wrong follows from the hashes alone. What it is, edited, removed, inserted or
reordered, is judged from the entry and the one behind it: an entry that was moved still carries
the hash of its old place.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain as joined
from typing import Literal

import msgspec

from holdfast.core.filter import Record
from holdfast.stores.audit.records import canonical_json, entry_hash

FaultKind = Literal[
    "edited", "removed", "inserted", "reordered", "tail missing", "head missing", "rewritten"
]

TRIMMED = "audit.trimmed"
"""The action of the entry by which a chain vouches for its own trimming."""


class Fault(msgspec.Struct, frozen=True):
    """The first place where a chain is not what was written. ``rewritten`` is at the anchor."""

    seq: int
    kind: FaultKind


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What verifying a chain found.

    ``entries`` were checked, from ``first_seq`` to ``last_seq``. Up to ``anchored_seq`` the
    chain is proved to be what it was when the anchor was made; 0 without an anchor.
    """

    stream: str
    agent: str
    user: str
    namespace: str
    entries: int
    first_seq: int
    last_seq: int
    hash: str
    anchored_seq: int = 0
    fault: Fault | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.fault is None


class Walk:
    """One pass along a chain, entry by entry, until the first fault."""

    def __init__(self, tenant: str, head: Record, watched: Iterable[int] = ()) -> None:
        self._tenant, self._head = tenant, head
        self.seq: int = head["trimmed_seq"]
        self.hash: str = head["trimmed_hash"]
        self.hashes = {self.seq: self.hash} if self.seq in (watched := set(watched)) else {}
        self._watched = watched
        self._vouched = head["trimmed_seq"] == 0

    def step(self, row: Record, following: Record | None) -> Fault | None:
        """Take the next entry; what is wrong with it, if anything."""
        expected = self.seq + 1
        if row["seq"] != expected:
            return Fault(min(row["seq"], expected), _misplaced(row["seq"], expected))
        place = self._true_place(row)
        if place != expected or row["previous_hash"] != self.hash:
            return self._judge(row, place, following)
        self.seq, self.hash = expected, row["hash"]
        if self.seq in self._watched:
            self.hashes[self.seq] = self.hash
        if row["action"] == TRIMMED:
            self._vouched = self._vouched or self._vouches(row)
        return None

    def end(self) -> Fault | None:
        """What is wrong with the chain as a whole after its last entry, if anything."""
        if self.seq < self._head["seq"]:
            return Fault(self.seq + 1, "tail missing")
        if self.hash != self._head["hash"]:
            return Fault(self.seq, "edited")
        if not self._vouched:
            return Fault(1, "removed")
        return None

    def _judge(self, row: Record, place: int | None, following: Record | None) -> Fault:
        seq = row["seq"]
        displaced = following is not None and self._true_place(following) == seq
        if place is None:
            return Fault(seq, "inserted" if displaced else "edited")
        if place == seq:
            tip = self._head["hash"] if following is None else following["previous_hash"]
            if displaced:
                return Fault(seq, "inserted")
            # What follows vouches for this entry, so the one before it was given a new hash.
            before = tip == row["hash"] and seq - 1 > self._head["trimmed_seq"]
            return Fault(seq - 1 if before else seq, "edited")
        if place == seq - 1 and place > self._head["trimmed_seq"]:
            # Two entries claim that place, and the one that stands there came later.
            return Fault(place, "inserted")
        if place == seq + 1 and not displaced:
            return Fault(seq, "removed")
        return Fault(seq, "reordered")

    def _true_place(self, row: Record) -> int | None:
        """The seq under which the entry's hash holds, the nearest first; None when edited."""
        seq: int = row["seq"]
        last: int = self._head["seq"]
        for place in joined((seq, seq - 1, seq + 1), range(1, last + 1)):
            if entry_hash(self._tenant, row, seq=place) == row["hash"]:
                return place
        return None

    def _vouches(self, row: Record) -> bool:
        seq, checkpoint = self._head["trimmed_seq"], self._head["trimmed_hash"]
        return bool(row["body"] == canonical_json({"seq": seq, "hash": checkpoint}))


def _misplaced(seq: int, expected: int) -> FaultKind:
    return "inserted" if seq < expected else "removed"
