"""What does a memory no good: measured, listed, and taken out on request.

Five kinds, each by a formula whose numbers are in `MemoryPolicy`. Terms are those of the text
analysis, distinct ones. "The other" is a live memory of the same scope that is among the ten
nearest, by vector where it has one and else by words; turns of conversations, which may well
repeat, are not compared. Similarity is the cosine where both have vectors, else the share of the
terms of either that both have.

junk            fewer than ``junk_terms`` terms; or ten terms or more, repetitions counted, of which
                less than ``junk_variety`` are distinct
conflicting     the other is newer and says almost the same (of the terms of either that are no
                number, at least ``conflict_overlap`` are in both), with other numbers, or one of
                the two with a negation
echo            has at least ``echo_overlap`` of the terms of the other, which is older and was
                accessed within ``echo_seconds`` before this was written: recalled, then kept again
near_duplicate  the other is older, its similarity at least ``duplicate_similarity``, and the pair
                is neither conflicting nor an echo
never_recalled  never accessed in the ``unrecalled_days`` or more since it was written
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final, Literal

import msgspec

from holdfast.core.change import Edit, Patch, When
from holdfast.core.clock import shifted
from holdfast.core.cursor import decode_cursor, encode_cursor
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Filter, InSelect, Record, both, eq, gt, le, ne
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.text import term_frequencies
from holdfast.core.values import check_bool, check_count, check_texts
from holdfast.stores.given import PAGE_LIMIT, check_page
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.compared import NEAREST, Near, Said, Together, paired
from holdfast.stores.memory.fields import check_one_of
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.records import MEMORIES, Memory, Space
from holdfast.stores.store import Page

Category = Literal["junk", "near_duplicate", "echo", "never_recalled", "conflicting"]
CATEGORIES: Final = ("junk", "near_duplicate", "echo", "never_recalled", "conflicting")
PAIRS: Final = ("near_duplicate", "echo", "conflicting")
"""Categories in which a memory is compared with others."""
COMPARED: Final = ("id", "content", "created_at", "last_accessed_at", "window_started_at")
COMPARED_TERMS: Final = 64
"""Most terms of a memory that others are looked up by, the first ones."""
TOGETHER: Final = 4_096
"""Most memories that are held at once to be compared each with each."""
PAGE: Final = 200
EXAMINED: Final = 500
"""Most memories that one page of a listing looks at; it may therefore hold fewer than asked."""
REPEATED_TERMS: Final = 10
"""From so many terms on, repetition is a sign of junk."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A memory, and why it is listed."""

    memory: Memory
    category: str
    score: float
    """junk: share of distinct terms; near_duplicate: similarity; echo, conflicting: share of
    terms in common; never_recalled: days since it was written."""
    other: str | None = None
    """The memory that it is compared with, which stays."""


_Findings = Sequence[Finding]


class HygieneCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many live memories a category has, of which ``pinned`` would be spared."""

    count: int
    share: float
    pinned: int


class HygieneReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by category; a memory may be in several."""

    live: int
    categories: dict[str, HygieneCount]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """What a cleaning took out, or with ``dry_run`` would take out."""

    category: str
    count: int
    spared: int
    """Pinned ones."""
    dry_run: bool


class Hygiene(MemoryStore):
    """Junk, near duplicates, echoes, the never recalled and the conflicting, in the bound scope."""

    def measure(self, categories: Sequence[Category] = CATEGORIES) -> HygieneReport:
        """How many live memories each category has.

        Reads every live memory, for those that are compared with others once more. Of more than
        ``TOGETHER`` each of these is searched for.
        """
        for category in check_texts("categories", categories):
            check_one_of("categories", category, CATEGORIES)
        live = self._count(present_at(self._now()))
        pinned: dict[str, list[bool]] = {category: [] for category in categories}
        passes = [[category] for category in pinned if category not in PAIRS]
        if pairs := [category for category in pinned if category in PAIRS]:
            passes.append(pairs)
        for some in passes:
            for _, found in self._examined(some, together=True):
                for one in found:
                    pinned[one.category].append(one.memory.pinned)
        counts = {
            category: HygieneCount(
                count=len(found), share=len(found) / live if live else 0.0, pinned=sum(found)
            )
            for category, found in pinned.items()
        }
        return HygieneReport(live=live, categories=counts)

    def list(
        self, category: Category, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Finding]:
        """The memories of a category, by id. Limit 1 to 1000.

        A page looks at no more than 500 memories, so it may be short, or empty, and still have
        a ``next_cursor``.
        """
        check_one_of("category", category, CATEGORIES)
        check_page(limit, cursor)
        signed = Query(collection=f"{MEMORIES.name} {category}", filter=self._within(MEMORIES))
        tenant, key = self._scope.tenant, self._cursor_key()
        last = "" if cursor is None else str(decode_cursor(key, tenant, signed, cursor)[0])
        items: list[Finding] = []
        for examined, (row, found) in enumerate(self._examined([category], last), 1):
            last = row["id"]
            items += found
            if len(items) == limit or examined == EXAMINED:
                return Page(items, encode_cursor(key, tenant, signed, (last,)))
        return Page(items)

    def clean(
        self, category: Category, *, dry_run: bool = True, limit: int = PAGE_LIMIT
    ) -> Cleaned:
        """Forget the memories of a category; only counts them, unless ``dry_run`` is False.

        At most ``limit`` (1 to 10,000), by id. Pinned ones are spared, as is one that changed
        since it was judged, or whose other is gone. Each is noted in `history.events` as "cleaned",
        and `history.restore` brings it back until `lifecycle.purge`.
        """
        check_one_of("category", category, CATEGORIES)
        check_count("limit", limit, 1, 10_000)
        trying = check_bool("dry_run", dry_run)
        count = spared = 0
        for _, judged in self._examined([category]):
            for found in judged:
                if found.memory.pinned:
                    spared += 1
                else:
                    count += trying or self._forget(found)
            if count == limit:
                break
        return Cleaned(category=category, count=count, spared=spared, dry_run=trying)

    def _examined(
        self, categories: Sequence[str], last: str = "", *, together: bool = False
    ) -> Iterator[tuple[Record, _Findings]]:
        """Every memory that may be of the categories, by id, judged as it is met.

        They are those that are compared with others, or a single one.
        """
        now = self._now()
        where, paired = present_at(now), categories[0] in PAIRS
        if paired:
            where = both(where, eq("place", ""))
        if categories[0] == "never_recalled":
            old = shifted(now, -timedelta(days=self._policy.unrecalled_days))
            where = both(where, eq("access_count", 0), le("created_at", old))
        space = self._active_space() if paired else None
        known = self._together(where, space) if together and space is not None else None
        while True:
            beyond = gt("id", last)
            rows = self._all(
                MEMORIES, where, beyond, order=asc("id"), limit=PAGE, vectors=space is not None
            )
            for row in rows:
                if not paired:
                    yield row, self._judged(categories[0], row)
                    continue
                near = None if known is None else known.nearest(row)
                yield row, self._compared(categories, row, near or self._nearest(row, space))
            if len(rows) < PAGE:
                return
            last = rows[-1]["id"]

    def _together(self, where: Filter, space: Space) -> Together | None:
        """The memories that are compared, unless they are too many to be held at once."""
        if self._count(where) > TOGETHER:
            return None
        rows = self._all(MEMORIES, where, vectors=True, fields=(*COMPARED, *SCOPE_FIELDS))
        return Together(rows, space.slot, space.id)

    def _judged(self, category: str, row: Record) -> _Findings:
        if category == "never_recalled":
            score: float | None = (self._now() - row["created_at"]).total_seconds() / 86_400.0
        else:
            score = junk_variety(row["content"], self._policy)
        if score is None:
            return []
        return [Finding(memory=self._memory(row), category=category, score=score)]

    def _compared(
        self, categories: Sequence[str], row: Record, nearest: Iterable[Near]
    ) -> _Findings:
        """Of each category the best, where one of the nearest makes it that."""
        best: dict[str, tuple[float, str]] = {}
        mine = Said(row["content"])
        for near in nearest:
            for category in categories:
                score = paired(category, row, mine, near, self._policy)
                if score is not None and (category not in best or score > best[category][0]):
                    best[category] = score, near.record["id"]
        return [
            Finding(memory=self._memory(row), category=category, score=score, other=other)
            for category, (score, other) in best.items()
        ]

    def _nearest(self, row: Record, space: Space | None) -> Iterator[Near]:
        """The nearest live memories of the same scope, by a search."""
        terms: tuple[str, ...] = ()
        vector = None if space is None else row.get(space.slot)
        leg = None
        if space is not None and vector is not None and vector.space == space.id:
            leg = VectorLeg(field=space.slot, vector=vector)
        else:
            terms = tuple(term_frequencies(row["content"]))[:COMPARED_TERMS]
            if not terms:
                return
        where = both(
            self._same_scope(row), present_at(self._now()), eq("place", ""), ne("id", row["id"])
        )
        hits = self._driver.search(
            self._scope.tenant,
            Search(
                collection=MEMORIES.name,
                filter=where,
                k=NEAREST,
                text=TextLeg(terms=terms) if terms else None,
                vector=leg,
                fields=COMPARED,
            ),
        )
        cosines = {hit.key: hit.score for hit in hits.vector}
        for key, other in hits.records.items():
            yield Near(other, Said(other["content"]), cosines.get(key))

    def _forget(self, found: Finding) -> bool:
        """Forget what was found, if it still is what was judged."""
        memory, now = found.memory, self._now()
        same = [present_at(now), eq("pinned", False), eq("fingerprint", memory.fingerprint)]
        if found.other is not None:
            stays = both(eq("id", found.other), present_at(now))
            same.append(InSelect("agent", MEMORIES.name, "agent", stays))
        gone = {"forgotten_at": now, "updated_at": now, "repair_at": None}
        row = msgspec.structs.asdict(memory)
        detail = {"category": found.category, "other": found.other}
        when = When(self._within(MEMORIES, *same))
        try:
            self._apply(
                Patch(MEMORIES.name, (memory.id,), Edit(set=gone), when),
                self._event(row, "cleaned", None, detail),
            )
        except (Conflict, NotFound):
            return False
        return True

    def _count(self, where: Filter) -> int:
        aggregate = Aggregate(collection=MEMORIES.name, filter=self._within(MEMORIES, where))
        count: int = self._driver.aggregate(self._scope.tenant, aggregate)[0]["count"]
        return count


def junk_variety(content: str, policy: MemoryPolicy) -> float | None:
    """The share of a junk text's terms that are distinct; None for a text that is no junk."""
    counts = term_frequencies(content)
    total = sum(counts.values())
    variety = len(counts) / total if total else 0.0
    repeats = total >= REPEATED_TERMS and variety < policy.junk_variety
    return variety if len(counts) < policy.junk_terms or repeats else None
