"""A store of your own: notes under topics, at most one open note per topic."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

from holdfast.core.change import ABSENT, Edit, Patch, Put, When
from holdfast.core.collection import Collection, Index, Unique
from holdfast.core.filter import eq
from holdfast.core.query import desc
from holdfast.core.search import Search, TextLeg
from holdfast.core.text import analyze
from holdfast.core.values import check_count, check_text
from holdfast.stores.store import Page, Store, builder


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something to come back to."""

    id: str
    topic: str
    text: str
    state: Literal["open", "done"]
    created_at: datetime
    closed_at: datetime | None
    agent: str
    user: str
    namespace: str
    revision: int = 0


_SCOPE: Final = ("agent", "user", "namespace")
NOTES: Final = Collection.of(
    Note,
    "notes",
    unique=(Unique("one_open_per_topic", (*_SCOPE, "topic"), where=eq("state", "open")),),
    indexes=(Index((*_SCOPE, "state", "created_at", "id"), serves="page: newest first"),),
    full_text=("text",),
)
_build = builder(Note)


class NotesStore(Store):
    """The notes of the bound scope."""

    collections = (NOTES,)

    def write(self, topic: str, text: str, *, op_id: str | None = None) -> Note:
        """Open a note. Conflict while the topic has an open one."""
        record = {"topic": topic, "text": text, "state": "open", "created_at": self._now()}
        record |= {"id": self._new_id(), "closed_at": None, **self._scope_fields()}
        put, asked = Put(NOTES.name, record, ABSENT), ("notes.write", topic, text)
        return _build(self._apply(put, op_id=op_id, asked=asked)[0].record)

    def close(self, note_id: str) -> Note:
        """Close a note, which frees its topic. NotFound; Conflict when it is closed already."""
        self._require(NOTES, note_id)
        done = Edit(set={"state": "done", "closed_at": self._now()})
        still_open = When(eq("state", "open"))
        return _build(self._apply(Patch(NOTES.name, (note_id,), done, still_open))[0].record)

    def page(self, *, limit: int = 100, cursor: str | None = None) -> Page[Note]:
        """Open notes, newest first, ties by id, descending. Limit 1 to 1000."""
        newest, is_open = desc("created_at", "id"), eq("state", "open")
        return self._page(NOTES, _build, is_open, order=newest, limit=limit, cursor=cursor)

    def search(self, words: str, *, k: int = 10) -> list[Note]:
        """The ``k`` (1 to 1000) open notes that fit the words best, ties by id."""
        check_count("k", k, 1, 1_000)
        leg = TextLeg(terms=tuple(dict.fromkeys(analyze(check_text("words", words)))))
        where = self._within(NOTES, eq("state", "open"))
        wanted = Search(collection=NOTES.name, filter=where, k=k, text=leg)
        hits = self._driver.search(self._scope.tenant, wanted)
        return [_build(hits.records[hit.key]) for hit in hits.text]
