"""Making the vectors of chunks that are missing: a queue, leased to one worker at a time."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from holdfast.core.change import Change, Claim, Edit, Patch, PatchWhere, When
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.filter import Filter, Record, both, eq, is_null, le, not_null
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import Vector, check_bool, check_count
from holdfast.stores.knowledge.base import KnowledgeStore
from holdfast.stores.knowledge.records import CHUNKS


class VectorStats(msgspec.Struct, frozen=True, kw_only=True):
    """Chunks with a vector, and those that lack one."""

    embedded: int
    due: int
    waiting: int
    """Leased to a worker, or backing off after a failure."""
    parked: int
    absent: int
    """Without a vector and in no queue, such as those from before there was an embedder."""


class KnowledgeVectors(KnowledgeStore):
    """The vectors of the bound scope's chunks."""

    def repair(self, *, limit: int = 100) -> int:
        """Embed chunks that wait for it, longest due first; how many got their vector.

        Limit 1 to 1000. No chunk goes to two workers before its lease ends. One that fails is
        due again after a wait that doubles with each attempt; after the last it is parked. Each
        is embedded by itself when they fail together, so that one that the model refuses holds
        up no other.
        """
        check_count("limit", limit, 1, 1_000)
        if self._embedder() is None:
            raise Invalid("embedder", expected="an embedder, given at open", got="none")
        now, token = self._now(), self._new_id()
        until = now + timedelta(seconds=self._policy.repair_lease_seconds)
        taken = Edit(
            set={"repair_at": until, "repair_token": token}, increment={"repair_attempts": 1}
        )
        due = self._within(CHUNKS, _queued(), le("repair_at", now))
        rows = self._apply(Claim(CHUNKS.name, due, asc("repair_at"), limit, taken))[0].records
        vectors, error = self._vectors_of([row["text"] for row in rows])
        if error is None:
            return sum(self._settle(row, vectors.get(row["text"]), None) for row in rows)
        done = 0
        for row in rows:
            vectors, error = self._vectors_of([row["text"]])
            done += self._settle(row, vectors.get(row["text"]), error)
        return done

    def rearm(self, *, vectorless: bool = False) -> int:
        """Make parked chunks due again; how many.

        ``vectorless`` queues all that have no vector, such as those that were written before
        there was an embedder.
        """
        which = eq("repair_parked", True)
        if check_bool("vectorless", vectorless):
            which = both(is_null("space"), is_null("repair_token"))
        again = Edit(
            set={
                "repair_at": self._now(),
                "repair_token": None,
                "repair_parked": False,
                "repair_attempts": 0,
            }
        )
        return self._apply(PatchWhere(CHUNKS.name, self._within(CHUNKS, which), again))[0].count

    def stats(self) -> VectorStats:
        """How many chunks have a vector, and how those stand that lack one."""
        due = le("repair_at", self._now())
        return VectorStats(
            embedded=self._count(not_null("space")),
            due=self._count(both(_queued(), due)),
            waiting=self._count(both(_queued(), ~due)),
            parked=self._count(eq("repair_parked", True)),
            absent=self._count(both(is_null("space"), is_null("repair_at"))),
        )

    def _settle(self, row: Record, vector: Vector | None, error: str | None) -> bool:
        """Write back what came of it, unless the chunk is no longer the worker's; whether done."""
        before: list[Change] = []
        if vector is None:
            attempts, policy = row["repair_attempts"], self._policy
            wait = min(
                policy.repair_backoff_seconds * 2.0 ** min(attempts - 1, 60),
                policy.repair_backoff_limit_seconds,
            )
            fields: Record = {
                "repair_at": self._now() + timedelta(seconds=wait),
                "repair_token": None,
                "repair_error": error,
                "repair_parked": attempts >= policy.repair_attempts,
            }
        else:
            embedder = self._embedder()
            assert embedder is not None
            slot, before = self._slot_for_writing(embedder)
            fields = self._vector_fields(slot, vector, None)
        mine = When(eq("repair_token", row["repair_token"]))
        key = (row["document_id"], row["number"])
        try:
            self._apply(*before, Patch(CHUNKS.name, key, Edit(set=fields), mine))
        except (Conflict, NotFound):
            return False
        return vector is not None

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=CHUNKS.name, filter=self._within(CHUNKS, where))
        count: int = self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return count


def _queued() -> Filter:
    return both(not_null("repair_at"), eq("repair_parked", False))
