"""Merging memories that say nearly the same, one survivor for each cluster."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.change import Change, Edit, Patch, When
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Filter, Record, both, eq, gt, ne
from holdfast.core.query import asc
from holdfast.core.search import Search, VectorLeg
from holdfast.core.values import check_bool
from holdfast.stores.memory.filters import open_row, present_at
from holdfast.stores.memory.keep import Keeping
from holdfast.stores.memory.records import MEMORIES, Space

PAGE: Final = 200
CLUSTER_LIMIT: Final = 100
"""Most neighbours that one look-up takes into a cluster; a later pass takes the rest."""
PASSES: Final = 20


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """What a consolidation did, or with ``dry_run`` would do in its first pass."""

    clusters: int
    merged: int
    """Memories that were superseded by the survivor of their cluster."""
    dry_run: bool


class Consolidation(Keeping):
    """Near duplicates of the bound scope; turns of conversations and pinned rows stay apart."""

    def run(self, *, dry_run: bool = False) -> Merged:
        """Merge every cluster of live memories whose similarity is at least ``merge_similarity``.

        The survivor is the surest, then the most accessed, then the oldest; it gains the others'
        tags, and they name it as their successor. Runs until nothing is left to merge, so that
        a second run finds nothing. Only memories of one scope and one embedding space meet.
        """
        check_bool("dry_run", dry_run)
        space = self._active_space()
        if space is None:
            return Merged(clusters=0, merged=0, dry_run=dry_run)
        clusters = merged = 0
        for _ in range(1 if dry_run else PASSES):
            found, gone = self._pass(space, dry_run)
            clusters, merged = clusters + found, merged + gone
            if not gone:
                break
        return Merged(clusters=clusters, merged=merged, dry_run=dry_run)

    def _pass(self, space: Space, dry_run: bool) -> tuple[int, int]:
        clusters, gone, last = 0, set[str](), ""
        while True:
            page = self._all(
                MEMORIES,
                self._eligible(space),
                gt("id", last),
                order=asc("id"),
                limit=PAGE,
                vectors=True,
            )
            for row in page:
                if row["id"] in gone:
                    continue
                cluster = [r for r in self._cluster(row, space) if r["id"] not in gone]
                if len(cluster) > 1 and (dry_run or self._merge(cluster)):
                    clusters += 1
                    gone |= {one["id"] for one in _ordered(cluster)[1:]}
            if len(page) < PAGE:
                return clusters, len(gone)
            last = page[-1]["id"]

    def _eligible(self, space: Space) -> Filter:
        return both(
            present_at(self._now()),
            open_row(),
            eq("pinned", False),
            eq("place", ""),
            eq("space", space.id),
        )

    def _cluster(self, row: Record, space: Space) -> list[Record]:
        vector = row.get(space.slot)
        if vector is None:
            return []
        search = Search(
            collection=MEMORIES.name,
            filter=both(self._same_scope(row), self._eligible(space), ne("id", row["id"])),
            k=CLUSTER_LIMIT,
            vector=VectorLeg(field=space.slot, vector=vector),
            minimum=self._policy.merge_similarity,
        )
        hits = self._driver.search(self._scope.tenant, search)
        return [row, *(hits.records[hit.key] for hit in hits.vector)]

    def _merge(self, cluster: list[Record]) -> bool:
        """Close all but the survivor in one apply; False when one of them changed meanwhile."""
        survivor, *rest = _ordered(cluster)
        tags = list(dict.fromkeys(tag for row in rest for tag in row["tags"]))
        stays = When(both(open_row(), eq("fingerprint", survivor["fingerprint"])))
        gains = Edit(append={"tags": tags}, set={"updated_at": self._now()})
        changes: list[Change] = [Patch(MEMORIES.name, (survivor["id"],), gains, stays)]
        for row in rest:
            changes += self._closing(row, survivor["id"], "merged", "consolidation")
        try:
            self._apply(*changes)
        except (Conflict, NotFound):
            return False
        return True


def _ordered(cluster: list[Record]) -> list[Record]:
    """The survivor first."""
    return sorted(
        cluster,
        key=lambda row: (-row["confidence"], -row["access_count"], row["created_at"], row["id"]),
    )
