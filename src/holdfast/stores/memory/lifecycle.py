"""How memories age: expiry, decay, tiers, the cap, quarantine, and what is removed in the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from holdfast.core.change import Change, DeleteWhere, Edit, PatchWhere, Scale
from holdfast.core.clock import shifted
from holdfast.core.filter import (
    Filter,
    Record,
    among,
    both,
    either,
    eq,
    ge,
    gt,
    is_null,
    le,
    lt,
    not_null,
)
from holdfast.core.marks import grouped
from holdfast.core.query import Aggregate, asc
from holdfast.core.values import check_bool, check_count, check_texts, check_time
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.fields import check_seconds, check_tier
from holdfast.stores.memory.filters import closed_before, expired_at, present_at
from holdfast.stores.memory.records import MEMORIES, SHORT_TERM, SIGNIFICANCES, Memory

BATCH: Final = 10_000
"""Most rows of one maintenance call; call again while it returns as many."""


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What a clean-up removed, or with ``dry_run`` would remove."""

    count: int
    spared: int
    """Rows of that age that are pinned."""
    dry_run: bool


class Lifecycle(MemoryStore):
    """Maintenance of the bound scope. Every verb may run at any time, twice, and beside others."""

    def sweep(self, *, limit: int = BATCH) -> int:
        """Delete expired memories, oldest expiry first; how many. Limit 1 to 100,000.

        A memory that was accessed in between has a later expiry and stays.
        """
        check_count("limit", limit, 1, 100_000)
        expired = self._within(MEMORIES, expired_at(self._now()))
        doomed = DeleteWhere(MEMORIES.name, expired, limit, asc("expires_at"))
        return self._apply(doomed)[0].count

    def decay(self) -> int:
        """Lower the confidence of live, unpinned memories that nobody touched; how many.

        Once per period, however often it runs; never below the floor.
        """
        now, policy = self._now(), self._policy
        idle = shifted(now, -timedelta(days=policy.decay_idle_days))
        period = shifted(now, -timedelta(hours=policy.decay_period_hours))
        due = self._within(
            MEMORIES,
            present_at(now),
            eq("pinned", False),
            _untouched_since(idle),
            either(is_null("decayed_at"), le("decayed_at", period)),
            gt("confidence", policy.decay_floor),
        )
        lowered = Edit(
            scale={"confidence": Scale(1.0 - policy.decay_rate, floor=policy.decay_floor)},
            set={"decayed_at": now},
        )
        return self._apply(PatchWhere(MEMORIES.name, due, lowered))[0].count

    @grouped
    def retier(self, memory_id: str, tier: str) -> Memory:
        """Move a memory to another tier; its expiry follows, nothing else changes. NotFound."""
        edit = self._tier_edit(check_tier("tier", tier))
        return self._edit_row(memory_id, edit, is_null("forgotten_at"))

    def promote(self) -> int:
        """Move short-term memories with enough accesses within a day to semantic; how many."""
        now, policy = self._now(), self._policy
        window = shifted(now, -timedelta(hours=policy.promote_window_hours))
        earned = self._within(
            MEMORIES,
            present_at(now),
            among("tier", SHORT_TERM),
            ge("window_count", policy.promote_accesses),
            gt("window_started_at", window),
        )
        return self._apply(PatchWhere(MEMORIES.name, earned, self._tier_edit("semantic")))[0].count

    def demote(self) -> int:
        """Move doubtful semantic memories that nobody touched to episodic; how many."""
        now, policy = self._now(), self._policy
        doubtful = self._within(
            MEMORIES,
            present_at(now),
            eq("tier", "semantic"),
            eq("pinned", False),
            lt("confidence", policy.demote_confidence),
            _untouched_since(shifted(now, -timedelta(hours=policy.demote_idle_hours))),
        )
        edit = self._tier_edit("episodic")
        return self._apply(PatchWhere(MEMORIES.name, doubtful, edit))[0].count

    def cap(self) -> int:
        """Forget the short-term memories of lowest retention beyond the limit; how many.

        Retention is salience x confidence, halved with every half-life since the last access.
        Pinned ones count towards the limit and stay.
        """
        now = self._now()
        short = both(among("tier", SHORT_TERM), present_at(now))
        rows = self._all(MEMORIES, short, order=asc("id"))
        surplus = len(rows) - self._policy.short_term_limit
        if surplus <= 0:
            return 0
        loose = [row for row in rows if not row["pinned"]]
        loose.sort(key=lambda row: (self._retention(row, now), row["id"]))
        chosen = among("id", [row["id"] for row in loose[:surplus]][:BATCH])
        still = self._within(MEMORIES, chosen, eq("pinned", False), is_null("forgotten_at"))
        gone = Edit(set={"forgotten_at": now, "updated_at": now, "repair_at": None})
        return self._apply(PatchWhere(MEMORIES.name, still, gone))[0].count

    def purge(self, *, older_than_seconds: float, limit: int = BATCH) -> int:
        """Delete for good what was forgotten or superseded longer ago than that; how many.

        Vectors and chunks go along. Pinned rows stay. Limit 1 to 100,000.
        """
        age = timedelta(seconds=check_seconds("older_than_seconds", older_than_seconds))
        check_count("limit", limit, 1, 100_000)
        closed = self._within(
            MEMORIES, closed_before(shifted(self._now(), -age)), eq("pinned", False)
        )
        return self._apply(DeleteWhere(MEMORIES.name, closed, limit, asc("created_at")))[0].count

    def remove_older(
        self, *, before: datetime | None = None, dry_run: bool = True, limit: int = BATCH
    ) -> Removal:
        """Delete what was created before an instant (default: 182 days ago) and not accessed since.

        Pinned ones are spared. Only counts, unless ``dry_run`` is False. Limit 1 to 100,000.
        """
        cutoff = shifted(self._now(), -timedelta(days=182))
        if before is not None:
            cutoff = check_time("before", before)
        check_count("limit", limit, 1, 100_000)
        check_bool("dry_run", dry_run)
        old = both(lt("created_at", cutoff), ~ge("last_accessed_at", cutoff))
        spared = self._count(both(old, eq("pinned", True)))
        loose = both(old, eq("pinned", False))
        if dry_run:
            return Removal(count=min(limit, self._count(loose)), spared=spared, dry_run=True)
        doomed = DeleteWhere(MEMORIES.name, self._within(MEMORIES, loose), limit, asc("created_at"))
        return Removal(count=self._apply(doomed)[0].count, spared=spared, dry_run=False)

    def quarantine(self, ids: Sequence[str]) -> int:
        """Take memories out of every read path at once, to be looked at; how many."""
        wanted = among("id", check_texts("ids", ids))
        held = self._within(MEMORIES, wanted, is_null("quarantined_at"), is_null("forgotten_at"))
        edit = Edit(set={"quarantined_at": self._now()})
        return self._apply(PatchWhere(MEMORIES.name, held, edit))[0].count

    def release(self, ids: Sequence[str]) -> int:
        """Let memories out of quarantine; how many."""
        wanted = among("id", check_texts("ids", ids))
        held = self._within(MEMORIES, wanted, not_null("quarantined_at"))
        edit = Edit(set={"quarantined_at": None})
        return self._apply(PatchWhere(MEMORIES.name, held, edit))[0].count

    def quarantined(self, *, limit: int = 100) -> list[Memory]:
        """What is in quarantine, latest first; the one way to read it. Limit 1 to 1000."""
        check_count("limit", limit, 1, 1_000)
        found = self._all(MEMORIES, not_null("quarantined_at"), is_null("forgotten_at"))
        found.sort(key=lambda row: (row["quarantined_at"], row["id"]), reverse=True)
        return [self._memory(row) for row in found[:limit]]

    def _tier_edit(self, tier: str) -> Edit:
        life = self._policy.life_seconds(tier)
        expires_at = None if life is None else shifted(self._now(), timedelta(seconds=life))
        return Edit(set={"tier": tier, "ttl_seconds": life, "expires_at": expires_at})

    def _retention(self, row: Record, now: datetime) -> float:
        """What a memory is still worth: 1 for a core fact, sure and just seen.

        A clock that went backwards counts as no age.
        """
        seen_at = row["last_accessed_at"] or row["created_at"]
        days = max(0.0, (now - seen_at).total_seconds() / 86_400.0)
        fading = 0.5 ** (days / self._policy.retention_half_life_days)
        worth: float = SIGNIFICANCES.get(row["significance"], 0.3) * row["confidence"] * fading
        return worth

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=MEMORIES.name, filter=self._within(MEMORIES, where))
        [row] = self._driver.aggregate(self._scope.tenant, aggregate)
        count: int = row["count"]
        return count

    def _access_changes(self, live: Filter, now: datetime) -> list[Change]:
        """What counting an access changes besides the count: windows, and expiry where it exists.

        Fixed in number: they do not grow with the memories accessed.
        """
        day = shifted(now, -timedelta(hours=self._policy.promote_window_hours))
        current = gt("window_started_at", day)
        fresh = {"window_started_at": now, "window_count": 1}
        changes: list[Change] = [
            PatchWhere(MEMORIES.name, both(live, current), Edit(increment={"window_count": 1})),
            PatchWhere(MEMORIES.name, both(live, ~current), Edit(set=fresh)),
        ]
        lives = Aggregate(
            collection=MEMORIES.name,
            filter=both(live, not_null("expires_at"), not_null("ttl_seconds")),
            group_by=("ttl_seconds",),
        )
        for group in self._driver.aggregate(self._scope.tenant, lives):
            life: Any = group["ttl_seconds"]
            mortal = both(live, not_null("expires_at"), eq("ttl_seconds", life))
            later = Edit(maximum={"expires_at": shifted(now, timedelta(seconds=life))})
            changes.append(PatchWhere(MEMORIES.name, mortal, later))
        return changes


def _untouched_since(instant: datetime) -> Filter:
    """Neither written nor accessed since."""
    return both(le("updated_at", instant), ~gt("last_accessed_at", instant))
