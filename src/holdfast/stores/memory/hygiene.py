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

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, Literal

import msgspec

from holdfast.core.change import Edit, Patch, When
from holdfast.core.cursor import decode_cursor, encode_cursor
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import Filter, InSelect, Record, both, eq, gt, le, ne
from holdfast.core.query import Aggregate, Query, asc
from holdfast.core.scripts import plain_text
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.text import normalize_content, term_frequencies
from holdfast.core.values import check_bool, check_count, check_texts
from holdfast.stores.given import PAGE_LIMIT, check_page
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.fields import check_one_of
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.policy import MemoryPolicy
from holdfast.stores.memory.records import MEMORIES, Memory, Space
from holdfast.stores.store import Page

Category = Literal["junk", "near_duplicate", "echo", "never_recalled", "conflicting"]
CATEGORIES: Final = ("junk", "near_duplicate", "echo", "never_recalled", "conflicting")
PAIRS: Final = ("near_duplicate", "echo", "conflicting")
"""Categories in which a memory is compared with others."""
NEAREST: Final = 10
"""Most memories that one is compared with."""
COMPARED: Final = ("id", "content", "created_at", "last_accessed_at", "window_started_at")
COMPARED_TERMS: Final = 64
"""Most terms of a memory that others are looked up by, the first ones."""
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

        Reads every live memory once per category, with a search for each where they are compared.
        """
        for category in check_texts("categories", categories):
            check_one_of("categories", category, CATEGORIES)
        live = self._count(present_at(self._now()))
        counts: dict[str, HygieneCount] = {}
        for category in categories:
            found = list(self._findings(category))
            counts[category] = HygieneCount(
                count=len(found),
                share=len(found) / live if live else 0.0,
                pinned=sum(one.memory.pinned for one in found),
            )
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
        for examined, (row, found) in enumerate(self._examined(category, last), 1):
            last = row["id"]
            items += [] if found is None else [found]
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
        for found in self._findings(category):
            if found.memory.pinned:
                spared += 1
            else:
                count += trying or self._forget(found)
            if count == limit:
                break
        return Cleaned(category=category, count=count, spared=spared, dry_run=trying)

    def _findings(self, category: str) -> Iterator[Finding]:
        return (found for _, found in self._examined(category, "") if found is not None)

    def _examined(self, category: str, last: str) -> Iterator[tuple[Record, Finding | None]]:
        """Every memory that may be of the category, by id, judged as it is met."""
        now = self._now()
        where = present_at(now)
        if category in PAIRS:
            where = both(where, eq("place", ""))
        if category == "never_recalled":
            old = now - timedelta(days=self._policy.unrecalled_days)
            where = both(where, eq("access_count", 0), le("created_at", old))
        space = self._active_space() if category in PAIRS else None
        while True:
            beyond = gt("id", last)
            rows = self._all(
                MEMORIES, where, beyond, order=asc("id"), limit=PAGE, vectors=space is not None
            )
            for row in rows:
                yield row, self._judged(category, row, space)
            if len(rows) < PAGE:
                return
            last = rows[-1]["id"]

    def _judged(self, category: str, row: Record, space: Space | None) -> Finding | None:
        memory = self._memory(row)
        if category == "never_recalled":
            days = (self._now() - row["created_at"]).total_seconds() / 86_400.0
            return Finding(memory=memory, category=category, score=days)
        if category == "junk":
            variety = junk_variety(row["content"], self._policy)
            if variety is None:
                return None
            return Finding(memory=memory, category=category, score=variety)
        best: Finding | None = None
        for other, cosine in self._nearest(row, space):
            score = paired(category, row, other, cosine, self._policy)
            if score is not None and (best is None or score > best.score):
                best = Finding(memory=memory, category=category, score=score, other=other["id"])
        return best

    def _nearest(self, row: Record, space: Space | None) -> Iterator[tuple[Record, float | None]]:
        """The nearest live memories of the same scope, each with its cosine where there is one."""
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
            yield other, cosines.get(key)

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


def paired(
    category: str, row: Record, other: Record, cosine: float | None, policy: MemoryPolicy
) -> float | None:
    """How much ``row`` is of the category because of ``other``; None if it is not."""
    mine, its = _Said(row["content"]), _Said(other["content"])
    older = (other["created_at"], other["id"]) < (row["created_at"], row["id"])
    overlap = mine.overlap(its)
    if overlap >= policy.conflict_overlap and mine.contradicts(its):
        return overlap if category == "conflicting" and not older else None
    if category == "conflicting" or not older:
        return None
    echoed = len(mine.terms & its.terms) / len(its.terms) if its.terms else 0.0
    echo = echoed >= policy.echo_overlap and _accessed_before(other, row, policy.echo_seconds)
    if category == "echo":
        return echoed if echo else None
    similarity = mine.similarity(its) if cosine is None else cosine
    return similarity if similarity >= policy.duplicate_similarity and not echo else None


def _accessed_before(other: Record, row: Record, seconds: float) -> bool:
    """Whether an access that is on record falls so shortly before the row was written.

    On record are the latest access and the first one of its day.
    """
    for instant in (other["last_accessed_at"], other["window_started_at"]):
        if instant is not None:
            waited = (row["created_at"] - instant).total_seconds()
            if 0.0 <= waited <= seconds:
                return True
    return False


class _Said:
    """A content as it is compared: its terms, its numbers, and whether it denies."""

    def __init__(self, content: str) -> None:
        plain = plain_text(normalize_content(content))
        self.terms = frozenset(term_frequencies(content))
        self.words = frozenset(t for t in self.terms if not any(map(str.isdigit, t)))
        self.numbers = frozenset(_NUMBER.findall(plain))
        self.denies = _NEGATION.search(plain) is not None

    def overlap(self, other: _Said) -> float:
        return _shared(self.words, other.words)

    def similarity(self, other: _Said) -> float:
        return _shared(self.terms, other.terms)

    def contradicts(self, other: _Said) -> bool:
        counted = bool(self.numbers and other.numbers) and self.numbers != other.numbers
        return counted or self.denies != other.denies


def _shared(left: frozenset[Any], right: frozenset[Any]) -> float:
    return len(left & right) / len(left | right) if left or right else 0.0


_NUMBER: Final = re.compile(r"\d++(?:[.,:]\d++)*+")
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|without|cannot|nicht|kein\w{0,2}|nie|pas|jamais|sans"
    r"|nunca|sin|non|mai|не|нет|без|никогда)\b|n't\b|[不没沒无無]"
)
