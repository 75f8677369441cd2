"""How a memory gets into the store: embedded, deduplicated, with what must be written beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from holdfast.core.change import ABSENT, Change, Edit, Patch, Put, When
from holdfast.core.errors import Conflict, IdempotencyMismatch
from holdfast.core.filter import Record, among, both, eq, is_null
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.search import Search, VectorLeg
from holdfast.core.values import Vector
from holdfast.stores.memory.base import TRIES, Embedded, MemoryStore
from holdfast.stores.memory.fields import fingerprint_of
from holdfast.stores.memory.filters import open_row, present_at
from holdfast.stores.memory.late import token_changes
from holdfast.stores.memory.records import LIVE_KEY, MEMORIES, SPACES, SPEAKERS, Memory

Content = tuple[str, str]
"""A fingerprint, and the place of a turn."""


class Keeping(MemoryStore):
    """Writes rows so that equal content in one scope stays one live memory."""

    def _embedding_of(self, row: Record, vector: Any) -> Embedded:
        """The caller's vector, else the embedder's answer, else none."""
        if vector is not None:
            return Embedded(self._given_vector("vector", vector))
        if self._runtime.embedder is None:
            return Embedded()
        return self._embed([row["content"]])[0]

    def _keep(
        self,
        row: Record,
        embedded: Embedded,
        also: Sequence[Change] = (),
        *,
        op_id: str | None = None,
        asked: tuple[Any, ...] = (),
    ) -> tuple[Memory, bool]:
        """Write the row, and whether that was new: False for the live one that has its content.

        ``also`` is written along. Conflict for an id in use, or when ``also`` cannot hold.
        """
        extra: list[Change] = []
        for _ in range(TRIES):
            changes = [*extra, *also, *self._changes(row, embedded)]
            try:
                outcomes = self._apply(*changes, op_id=op_id, asked=asked)
            except IdempotencyMismatch:
                raise
            except Conflict:
                self._trusted = None
                self._check_still_open(also)
                held, extra = self._in_the_way(row)
                if held is not None:
                    return held, False
                continue
            # A repeat with the same op_id answers with the first call's row, of another id.
            written = [r for o in outcomes for r in o.records if "lexical" in r]
            mine = [r for r in written if r["id"] == row["id"]]
            return self._memory((mine or written)[-1]), True
        raise Conflict("Other writers kept changing this content.", hint="Try again later.")

    def _keep_batch(self, batch: Sequence[tuple[Record, Vector | None]]) -> list[Memory]:
        """One apply for what is new in the batch; one by one when something else is in the way."""
        rows = self._embedded_batch(batch)
        firsts: dict[Content, tuple[Record, Embedded]] = {}
        for row, embedded in rows:
            firsts.setdefault(_content_of(row), (row, embedded))
        now = self._now()
        if len(firsts) < len(rows) and not all(_is_live(row, now) for row, _ in rows):
            return [self._keep(row, embedded)[0] for row, embedded in rows]
        kept = self._kept_together(firsts)
        if kept is None:
            held = self._held_already(firsts)
            kept = self._kept_together({c: firsts[c] for c in firsts if c not in held})
            if kept is None:
                return [self._keep(row, embedded)[0] for row, embedded in rows]
            kept |= held
        return [kept[_content_of(row)] for row, _ in rows]

    def _kept_together(
        self, rows: Mapping[Content, tuple[Record, Embedded]]
    ) -> dict[Content, Memory] | None:
        """The memories, written by one apply; None when something is in the way."""
        if not rows:
            return {}
        changes = _each_once([change for row in rows.values() for change in self._changes(*row)])
        try:
            outcomes = self._apply(*changes)
        except Conflict:
            self._trusted = None
            return None
        written = [
            self._memory(outcome.record)
            for change, outcome in zip(changes, outcomes, strict=True)
            if change.collection == MEMORIES.name
        ]
        return dict(zip(rows, written, strict=True))

    def _held_already(
        self, rows: Mapping[Content, tuple[Record, Embedded]]
    ) -> dict[Content, Memory]:
        """The live memories that hold contents of a batch, as `_in_the_way` finds that of one.

        None are told when a row has the id of another memory: that is for `_in_the_way` to refuse.
        """
        prints = sorted({fingerprint for fingerprint, _ in rows})
        scope = self._same_scope(next(row for row, _ in rows.values()))
        found = self._all(MEMORIES, scope, among("fingerprint", prints), LIVE_KEY)
        now = self._now()
        held = {
            _content_of(record): self._memory(record)
            for record in found
            if record["quarantined_at"] is None and not _has_expired(record, now)
        }
        ids = {
            rows[c][0]["id"] for c in rows.keys() & held.keys() if rows[c][0]["id"] != held[c].id
        }
        return {} if ids and self._tenant_rows(MEMORIES, among("id", sorted(ids))) else held

    def _embedded_batch(
        self, batch: Sequence[tuple[Record, Vector | None]]
    ) -> list[tuple[Record, Embedded]]:
        """Each row with its vectors, those without a given one embedded together."""
        given = [None if vector is None else Embedded(vector) for _, vector in batch]
        bare = [row for (row, _), vector in zip(batch, given, strict=True) if vector is None]
        if bare and self._runtime.embedder is not None:
            made = iter(self._embed([row["content"] for row in bare]))
        else:
            made = iter([Embedded()] * len(bare))
        return [(row, own or next(made)) for (row, _), own in zip(batch, given, strict=True)]

    def _changes(self, row: Record, embedded: Embedded) -> list[Change]:
        """What writing a new memory takes: its space and speaker, itself, its stretches."""
        made, before = self._vector_fields(embedded)
        if row.get("speaker") is not None:
            named = {part: row[part] for part in SCOPE_FIELDS}
            before.append(Put(SPEAKERS.name, {**named, "name": row["speaker"]}))
        put = Put(MEMORIES.name, {**row, **made} if made else row, ABSENT)
        return [*before, put, *self._chunk_changes(row, embedded), *token_changes(self, row)]

    def _in_the_way(self, row: Record) -> tuple[Memory | None, list[Change]]:
        """Who holds the row's content; or what must be closed first because it has expired."""
        same = both(eq("fingerprint", row["fingerprint"]), eq("place", row["place"]))
        held = self._first(MEMORIES, self._same_scope(row), same, LIVE_KEY)
        if held is None or held["id"] != row["id"]:
            taken = self._driver.get(self._scope.tenant, MEMORIES.name, (row["id"],))
            if taken is not None:
                raise Conflict("A memory with this id exists.", unique="key")
        if held is None:
            return None, []
        if held["quarantined_at"] is not None:
            raise Conflict("A memory with this content is in quarantine.", unique="content")
        if not _has_expired(held, self._now()):
            return self._memory(held), []
        expires_at = held["expires_at"]
        # Closed at its expiry, so that it leaves the unique key and as-of recall still sees it.
        expired = both(is_null("valid_to"), eq("expires_at", expires_at), eq("pinned", False))
        ended = Edit(set={"valid_to": expires_at})
        return None, [Patch(MEMORIES.name, (held["id"],), ended, When(expired))]

    def _check_still_open(self, also: Sequence[Change]) -> None:
        """Conflict when a memory that this write was to close has been closed by another."""
        for change in also:
            if isinstance(change, Patch):
                mine = eq("id", change.key[0])
                if self._first(MEMORIES, mine, open_row()) is None:
                    raise Conflict("The memory to be replaced is closed already.")

    def _rewritten(self, row: Record, content: str) -> Record:
        """The fields that follow from new content."""
        return {
            "content": content,
            "fingerprint": fingerprint_of(content),
            "lexical": self._lexical(content, row["said_at"]),
            "updated_at": self._now(),
        }

    def _closing(
        self,
        old: Record,
        successor: str,
        action: str,
        by: str | None = None,
        at: datetime | None = None,
    ) -> list[Change]:
        """Close ``old`` in favour of another memory, with a note of it."""
        now = self._now()
        closed = Edit(
            set={"superseded_by": successor, "updated_at": now, "repair_at": None},
            minimum={"valid_to": at or now},
        )
        when = When(self._within(MEMORIES, open_row()))
        detail = {"successor": successor, "valid_to": _written(old["valid_to"])}
        note = self._event(old, action, by, detail)
        return [Patch(MEMORIES.name, (old["id"],), closed, when), note]

    def _near_duplicate(self, row: Record, embedded: Embedded) -> Record | None:
        """The live memory of the same scope that is closest, if it is close enough.

        None where the engine compares no vectors: then only equal content is one memory.
        """
        if embedded.whole is None or not self._driver.capabilities.vectors:
            return None
        slot, _ = self._writing_slot(embedded.whole.space)
        other = both(self._same_scope(row), present_at(self._now()), eq("pinned", False))
        search = Search(
            collection=MEMORIES.name,
            filter=both(other, ~eq("fingerprint", row["fingerprint"])),
            k=1,
            vector=VectorLeg(field=slot, vector=embedded.whole),
            minimum=self._policy.duplicate_similarity,
        )
        hits = self._driver.search(self._scope.tenant, search)
        return hits.records[hits.vector[0].key] if hits.vector else None


def _written(instant: Any) -> str | None:
    return None if instant is None else instant.isoformat()


def _content_of(row: Record) -> Content:
    """By what a scope tells one live memory from another."""
    return row["fingerprint"], row["place"]


def _is_live(row: Record, now: datetime) -> bool:
    """Whether a new row is the one memory of its content, as far as that is in itself."""
    return row.get("valid_to") is None and not _has_expired(row, now)


def _has_expired(row: Record, now: datetime) -> bool:
    expires_at = row.get("expires_at")
    return expires_at is not None and not row["pinned"] and expires_at <= now


def _each_once(changes: Sequence[Change]) -> list[Change]:
    """The changes, without the repetitions of those that many rows of a batch have in common.

    These are a space, a speaker, and the note that a space has stretches.
    """
    found: list[Change] = []
    common: set[tuple[Any, ...]] = set()
    for change in changes:
        if isinstance(change, Put):
            key_of = _COMMON.get(change.collection)
            if key_of is None:
                found.append(change)
                continue
            what = (change.collection, *key_of(change.record))
        else:
            what = (change.collection, "patch_where")
        if what not in common:
            common.add(what)
            found.append(change)
    return found


_COMMON: Final = {shape.name: shape.key_of for shape in (SPACES, SPEAKERS)}
