"""Counts of what is remembered, each by one aggregate of the store."""

from __future__ import annotations

from datetime import datetime

import msgspec

from holdfast.core.filter import Filter, both, either, eq, gt, is_null, le, not_null
from holdfast.core.query import COUNT, Aggregate, Measure
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.records import ARCHIVE, MEMORIES


class MemoryStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many memories there are, those that are live by tier, kind, type and namespace.

    ``states`` counts live, expired, superseded, contradicted, forgotten, quarantined, archived,
    pinned, and those without a vector.
    """

    total: int
    live: int
    tiers: dict[str, int]
    kinds: dict[str, int]
    types: dict[str, int]
    namespaces: dict[str, int]
    states: dict[str, int]
    last_write_at: datetime | None


def stats_of(store: MemoryStore) -> MemoryStats:
    """The figures of the store's scope at this instant."""
    live = present_at(store._now())
    states = {name: _count(store, where) for name, where in _states(store._now(), live).items()}
    packed = Aggregate(collection=ARCHIVE.name, filter=store._within(ARCHIVE))
    states["archived"] = store._driver.aggregate(store._scope.tenant, packed)[0]["count"]
    last = Measure("last", "max", "updated_at")
    whole = Aggregate(
        collection=MEMORIES.name, filter=store._within(MEMORIES), measures=(COUNT, last)
    )
    [row] = store._driver.aggregate(store._scope.tenant, whole)
    return MemoryStats(
        total=row["count"],
        live=states["live"],
        tiers=_groups(store, live, "tier"),
        kinds=_groups(store, live, "kind"),
        types=_groups(store, live, "type"),
        namespaces=_groups(store, live, "namespace"),
        states=states,
        last_write_at=row["last"],
    )


def _states(now: datetime, live: Filter) -> dict[str, Filter]:
    kept = is_null("forgotten_at")
    return {
        "live": live,
        "expired": both(kept, le("expires_at", now), eq("pinned", False)),
        "superseded": both(kept, not_null("superseded_by")),
        "contradicted": both(kept, not_null("contradicted_by")),
        "forgotten": not_null("forgotten_at"),
        "quarantined": both(kept, not_null("quarantined_at")),
        "pinned": both(kept, eq("pinned", True)),
        "vectorless": both(kept, is_null("space")),
        "not_yet_valid": both(kept, gt("valid_from", now)),
        "ended": both(kept, either(le("valid_to", now))),
    }


def _count(store: MemoryStore, where: Filter) -> int:
    aggregate = Aggregate(collection=MEMORIES.name, filter=store._within(MEMORIES, where))
    count: int = store._driver.aggregate(store._scope.tenant, aggregate)[0]["count"]
    return count


def _groups(store: MemoryStore, where: Filter, field: str) -> dict[str, int]:
    aggregate = Aggregate(
        collection=MEMORIES.name, filter=store._within(MEMORIES, where), group_by=(field,)
    )
    rows = store._driver.aggregate(store._scope.tenant, aggregate)
    return {row[field]: row["count"] for row in rows}
