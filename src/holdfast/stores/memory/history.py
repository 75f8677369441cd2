"""How memories replace, contradict and confirm each other, on the record."""

from __future__ import annotations

from datetime import datetime, timedelta

from holdfast.core.change import Edit, Patch, PatchWhere, Scale, When
from holdfast.core.clock import shifted
from holdfast.core.errors import Invalid, NotFound
from holdfast.core.filter import Filter, Record, among, both, either, eq, is_null, le
from holdfast.core.marks import grouped
from holdfast.core.query import Order, asc
from holdfast.core.values import check_float, check_text, check_time
from holdfast.stores.memory.fields import check_fraction, check_name
from holdfast.stores.memory.filters import open_row, present_at, seen
from holdfast.stores.memory.keep import Keeping
from holdfast.stores.memory.records import EVENTS, MEMORIES, Memory, MemoryEvent
from holdfast.stores.store import Page, builder

CHAIN_LIMIT = 1_000
"""Longest chain of successors that is followed."""

_note = builder(MemoryEvent)


class History(Keeping):
    """Succession, contradiction and confidence of the bound scope's memories."""

    @grouped
    def supersede(
        self,
        memory_id: str,
        successor_id: str,
        *,
        at: datetime | None = None,
        by: str | None = None,
    ) -> Memory:
        """Close a memory in favour of another, from ``at`` (default now) on; the closed one.

        NotFound for either; Conflict when the first is closed already, or the successor is
        itself superseded: so no chain of successors ever comes back to its start.
        """
        author = None if by is None else check_name("by", by)
        since = None if at is None else check_time("at", at)
        if check_name("id", memory_id) == check_name("successor_id", successor_id):
            raise Invalid("successor_id", expected="another memory", got="the same one")
        old, new = self._row(memory_id), self._row(successor_id)
        moment = self._closing_time(old, since)
        closing = self._closing(old, new["id"], "superseded", author, at=moment)
        opened = Edit(default={"valid_from": moment})
        current = When(self._within(MEMORIES, open_row()))
        outcomes = self._apply(*closing, Patch(MEMORIES.name, (new["id"],), opened, current))
        return self._memory(outcomes[0].record)

    @grouped
    def restore(self, memory_id: str, *, by: str | None = None) -> Memory:
        """Reopen a memory that was superseded, contradicted or forgotten, as it was before.

        NotFound; Conflict when it is open, or a live memory holds the same content.
        """
        author = None if by is None else check_name("by", by)
        row = self._get(MEMORIES, check_name("id", memory_id))
        if row is None:
            raise NotFound("There is no such memory.")
        edits: Record = {"forgotten_at": None, "superseded_by": None, "contradicted_by": None}
        detail: Record = {"superseded_by": row["superseded_by"]}
        if row["superseded_by"] is not None or row["contradicted_by"] is not None:
            edits["valid_to"] = self._valid_to_before(row)
        if row["space"] is None and self._runtime.embedder is not None:
            edits["repair_at"] = self._now()
        closed = When(self._within(MEMORIES, ~open_row()))
        patch = Patch(
            MEMORIES.name, (row["id"],), Edit(set={**edits, "updated_at": self._now()}), closed
        )
        note = self._event(row, "restored", author, detail)
        return self._memory(self._apply(patch, note)[0].record)

    @grouped
    def contradict(
        self,
        memory_id: str,
        *,
        by: str,
        confidence: float = 0.1,
        at: datetime | None = None,
    ) -> Memory:
        """Close a memory as wrong from ``at`` (default now) on, and set its confidence (0 to 1).

        ``by`` names who or which memory says so; it and the previous confidence are kept.
        NotFound; Conflict when it is closed already.
        """
        value, author = check_fraction("confidence", confidence), check_name("by", by)
        since = None if at is None else check_time("at", at)
        row = self._row(memory_id)
        moment = self._closing_time(row, since)
        edit = Edit(
            set={"confidence": value, "contradicted_by": author, "updated_at": self._now()},
            minimum={"valid_to": moment},
        )
        detail = {"confidence": row["confidence"], "valid_to": _text(row["valid_to"])}
        patch = Patch(MEMORIES.name, (row["id"],), edit, When(self._within(MEMORIES, open_row())))
        note = self._event(row, "contradicted", author, detail)
        return self._memory(self._apply(patch, note)[0].record)

    @grouped
    def set_confidence(self, memory_id: str, confidence: float, *, by: str | None = None) -> Memory:
        """Set how sure it is; what lies outside 0 to 1 becomes the nearer end.

        NotFound; Conflict when the memory is closed. NaN is Invalid.
        """
        value = min(1.0, max(0.0, check_float("confidence", confidence)))
        author = None if by is None else check_name("by", by)
        row = self._row(memory_id)
        edit = Edit(set={"confidence": value, "updated_at": self._now()})
        patch = Patch(MEMORIES.name, (row["id"],), edit, When(self._within(MEMORIES, open_row())))
        note = self._event(row, "confidence", author, {"confidence": row["confidence"]})
        return self._memory(self._apply(patch, note)[0].record)

    @grouped
    def corroborate(self, memory_id: str) -> bool:
        """Grow confidence by a share of what is missing to 1; whether it grew.

        Once within ``corroborate_hours`` for each memory. NotFound.
        """
        row, now, growth = self._row(memory_id), self._now(), self._policy.confidence_growth
        rested = shifted(now, -timedelta(hours=self._policy.corroborate_hours))
        due = both(
            eq("id", row["id"]),
            open_row(),
            either(is_null("corroborated_at"), le("corroborated_at", rested)),
        )
        grown = Edit(
            scale={"confidence": Scale(1.0 - growth, growth, ceiling=1.0)},
            set={"corroborated_at": now, "updated_at": now},
        )
        return (
            self._apply(PatchWhere(MEMORIES.name, self._within(MEMORIES, due), grown))[0].count > 0
        )

    def predecessors(self, memory_id: str) -> list[Memory]:
        """What this memory has replaced, directly and further back; nearest first, then by id."""
        found: list[Memory] = []
        known, wanted = {self._row(memory_id)["id"]}, [check_name("id", memory_id)]
        while wanted and len(known) < CHAIN_LIMIT:
            rows = self._all(MEMORIES, _superseded_by(wanted), seen(), order=asc("id"))
            fresh = [row for row in rows if row["id"] not in known]
            known |= {row["id"] for row in fresh}
            found += [self._memory(row) for row in fresh]
            wanted = [row["id"] for row in fresh]
        return found

    def current(self, memory_id: str) -> Memory:
        """The last of a memory's successors: itself while it is open. NotFound."""
        row = self._row(memory_id)
        for _ in range(CHAIN_LIMIT):
            if row["superseded_by"] is None:
                break
            following = self._get(MEMORIES, row["superseded_by"])
            if following is None or following["forgotten_at"] is not None:
                break
            row = following
        return self._memory(row)

    def as_of(
        self, instant: datetime, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Memory]:
        """What held at an instant, newest first, ties by id; closed since or not. Limit 1 to 1000.

        A memory holds from ``valid_from`` up to ``valid_to``; a missing bound is open.
        """
        return self._page(
            MEMORIES,
            self._memory,
            present_at(check_time("instant", instant)),
            order=(Order("created_at", descending=True),),
            limit=limit,
            cursor=cursor,
        )

    def events(
        self, memory_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[MemoryEvent]:
        """What was decided, about one memory or all, oldest first, ties by id. Limit 1 to 1000."""
        about = None if memory_id is None else eq("memory_id", check_text("id", memory_id))
        return self._page(
            EVENTS,
            _note,
            about,
            order=asc("at"),
            limit=limit,
            cursor=cursor,
        )

    def _closing_time(self, row: Record, at: datetime | None) -> datetime:
        """When a memory stops holding: as asked, else now; never before it began."""
        start = row["valid_from"]
        if at is None:
            return self._now() if start is None else max(self._now(), start)
        moment = check_time("at", at)
        if start is not None and moment < start:
            raise Invalid("at", expected="an instant from valid_from on", got="an earlier one")
        return moment

    def _valid_to_before(self, row: Record) -> datetime | None:
        """The end that the memory had before it was closed, as its last closing noted."""
        about = both(
            eq("memory_id", row["id"]),
            among("action", ("superseded", "corrected", "merged", "contradicted")),
        )
        events = self._all(EVENTS, about, order=asc("at"))
        noted = events[-1]["detail"].get("valid_to") if events else None
        return None if noted is None else datetime.fromisoformat(noted)


def _superseded_by(ids: list[str]) -> Filter:
    return among("superseded_by", ids)


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
