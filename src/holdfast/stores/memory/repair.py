"""Making the vectors that are missing: a queue of rows, leased to one worker at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from holdfast.core.change import Change, Claim, DeleteWhere, Edit, Patch, PatchWhere, When
from holdfast.core.clock import shifted
from holdfast.core.errors import Conflict, Invalid, NotFound
from holdfast.core.filter import (
    Filter,
    among,
    both,
    eq,
    is_null,
    le,
    not_null,
)
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import check_bool, check_count, check_texts
from holdfast.stores.given import instance_of
from holdfast.stores.memory.base import Embedded, MemoryStore
from holdfast.stores.memory.fields import check_name, check_seconds
from holdfast.stores.memory.late import token_changes
from holdfast.stores.memory.records import CHUNKS, MEMORIES


class RepairJob(msgspec.Struct, frozen=True, kw_only=True):
    """A row to embed. It is the worker's until ``leased_until``; then another may take it."""

    id: str
    content: str
    fingerprint: str
    token: str
    attempt: int
    """1 for the first."""
    leased_until: datetime


class RepairStats(msgspec.Struct, frozen=True, kw_only=True):
    """Rows without a vector that are queued."""

    due: int
    waiting: int
    """Leased to a worker, or backing off after a failure."""
    parked: int
    oldest_due_at: datetime | None


class Repair(MemoryStore):
    """The repair queue of the bound scope. Nothing here moves a memory's ``updated_at``."""

    def claim(self, *, limit: int = 20, lease_seconds: float | None = None) -> list[RepairJob]:
        """Take rows whose vector is due, oldest due first, ties by id; limit 1 to 1000.

        No row goes to two workers before its lease ends. Each claim counts as an attempt.
        """
        check_count("limit", limit, 1, 1_000)
        seconds = self._policy.repair_lease_seconds
        if lease_seconds is not None:
            seconds = check_seconds("lease_seconds", lease_seconds)
        until, token = shifted(self._now(), timedelta(seconds=seconds)), self._new_id()
        taken = Edit(
            set={"repair_at": until, "repair_token": token}, increment={"repair_attempts": 1}
        )
        due = self._within(MEMORIES, _queued(), le("repair_at", self._now()))
        claim = Claim(MEMORIES.name, due, asc("repair_at"), limit, taken)
        return [
            RepairJob(
                id=row["id"],
                content=row["content"],
                fingerprint=row["fingerprint"],
                token=token,
                attempt=row["repair_attempts"],
                leased_until=until,
            )
            for row in self._apply(claim)[0].records
        ]

    def complete(self, job: RepairJob, vector: Any) -> bool:
        """Write a vector back; False when the content changed or the lease passed to another."""
        instance_of("job", job, RepairJob)
        return self._write_back(job, Embedded(self._given_vector("vector", vector)))

    def fail(self, job: RepairJob, error: str) -> bool:
        """Give the row back after a failure; False when it is no longer the worker's.

        It is due again after a wait that doubles with each attempt; after the last it is parked.
        """
        instance_of("job", job, RepairJob)
        code, policy = check_name("error", error), self._policy
        wait = min(
            policy.repair_backoff_seconds * 2.0 ** min(job.attempt - 1, 60),
            policy.repair_backoff_limit_seconds,
        )
        failed = Edit(
            set={
                "repair_at": shifted(self._now(), timedelta(seconds=wait)),
                "repair_token": None,
                "repair_error": code,
                "repair_parked": job.attempt >= policy.repair_attempts,
            }
        )
        mine = self._within(MEMORIES, eq("id", job.id), self._leased(job))
        return self._apply(PatchWhere(MEMORIES.name, mine, failed))[0].count > 0

    def run(self, *, limit: int = 20) -> int:
        """Claim, embed and write back once; how many rows got their vector. Limit 1 to 1000.

        Each row is embedded by itself, so that one that the model refuses holds up no other.
        """
        if self._runtime.embedder is None:
            raise Invalid("embedder", expected="an embedder, given at open", got="none")
        done = 0
        for job in self.claim(limit=limit):
            [embedded] = self._embed([job.content])
            if embedded.error is not None:
                self.fail(job, embedded.error)
            else:
                done += self._write_back(job, embedded)
        return done

    def rearm(self, ids: Sequence[str] | None = None, *, vectorless: bool = False) -> int:
        """Make parked rows due again, all or those named; how many.

        ``vectorless`` queues every row that has no vector at all, such as those that were
        written before there was an embedder.
        """
        named = None if ids is None else among("id", check_texts("ids", ids))
        again = Edit(
            set={
                "repair_at": self._now(),
                "repair_token": None,
                "repair_parked": False,
                "repair_attempts": 0,
            }
        )
        which = eq("repair_parked", True)
        if check_bool("vectorless", vectorless):
            which = both(is_null("space"), is_null("repair_token"))
        wanted = self._within(MEMORIES, which, named, is_null("forgotten_at"))
        return self._apply(PatchWhere(MEMORIES.name, wanted, again))[0].count

    def stats(self) -> RepairStats:
        """How many rows are due, waiting and parked at this instant."""
        due = le("repair_at", self._now())
        oldest = self._first(MEMORIES, _queued(), due, order=asc("repair_at"))
        return RepairStats(
            due=self._count(both(_queued(), due)),
            waiting=self._count(both(_queued(), ~due)),
            parked=self._count(both(eq("repair_parked", True), is_null("forgotten_at"))),
            oldest_due_at=None if oldest is None else oldest["repair_at"],
        )

    def _leased(self, job: RepairJob) -> Filter:
        return both(eq("repair_token", job.token), eq("fingerprint", job.fingerprint))

    def _write_back(self, job: RepairJob, embedded: Embedded) -> bool:
        row = self._get(MEMORIES, job.id)
        if row is None:
            return False
        self._trusted = None  # embedding took its time; the memories may have moved meanwhile
        made, before = self._vector_fields(embedded)
        done = {**self._without_vector(), **made}
        patch = Patch(
            MEMORIES.name,
            (job.id,),
            Edit(set=done),
            When(both(self._leased(job), is_null("forgotten_at"))),
        )
        changes: list[Change] = [*before, patch, *token_changes(self, row)]
        if self._spans(row["content"]) or embedded.chunks:
            changes.append(DeleteWhere(CHUNKS.name, eq("memory_id", job.id)))
            changes += self._chunk_changes(row, embedded)
        try:
            self._apply(*changes)
        except (Conflict, NotFound):
            self._trusted = None
            return False
        return True

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=MEMORIES.name, filter=self._within(MEMORIES, where))
        count: int = self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return count


def _queued() -> Filter:
    return both(not_null("repair_at"), eq("repair_parked", False), is_null("forgotten_at"))
