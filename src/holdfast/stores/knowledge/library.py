"""The shared library: what one agent learnt and the others may build on.

It belongs to the bound user and namespace, and to all of their agents alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.core.change import ABSENT, Change, Edit, Patch, Put
from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound
from holdfast.core.filter import Contains, Filter, both, eq, ge
from holdfast.core.query import Order
from holdfast.core.values import check_float, check_text
from holdfast.stores.knowledge.base import TRIES
from holdfast.stores.knowledge.fields import check_content, check_name, check_names
from holdfast.stores.knowledge.found import Findings
from holdfast.stores.knowledge.hybrid import Fusion, Mode, Searching, wish
from holdfast.stores.knowledge.records import ENDORSEMENTS, LIBRARY, Endorsement, LibraryItem
from holdfast.stores.store import Page, builder

_build = builder(LibraryItem)
_endorsement = builder(Endorsement)


class Library(Searching):
    """The items that the agents of the bound user and namespace share."""

    def publish(
        self,
        title: str,
        content: str,
        *,
        category: str,
        confidence: float = 0.5,
        publisher: str | None = None,
        source: str | None = None,
        source_id: str | None = None,
        tags: Sequence[str] = (),
    ) -> LibraryItem:
        """Share something; ``confidence`` is from 0 to 1.

        The publisher is the bound agent unless another is named on a handle without one: that,
        the source and the time never change.
        """
        now = self._now()
        row: dict[str, Any] = {
            "title": check_text("title", title, 2_000),
            "content": check_content("content", content),
            "category": check_name("category", category),
            "confidence": _fraction("confidence", confidence),
            "publisher": self._agent("publisher", publisher),
            "source": None if source is None else check_name("source", source),
            "source_id": None if source_id is None else check_name("source_id", source_id),
            "tags": check_names("tags", tags),
        }
        scope = self._scope_fields()
        row |= {"user": scope["user"], "namespace": scope["namespace"]}
        row |= {"id": self._new_id(), "endorsements": 0, "created_at": now, "updated_at": now}
        row["other_space"] = None
        vectors, error = self._vectors_of([content])
        embedder = self._embedder()
        for _ in range(TRIES):
            before: list[Change] = []
            slot = ""
            if embedder is not None and vectors:
                slot, before = self._slot_for_writing(embedder)
            placed = self._vector_fields(slot, vectors.get(content), error)
            try:
                outcomes = self._apply(*before, Put(LIBRARY.name, {**row, **placed}, ABSENT))
            except Conflict:
                if not before:
                    raise
                continue  # another wrote the first vector
            return _build(outcomes[-1].record)
        raise Conflict("Other writers kept making the first vector.", hint="Try again later.")

    def endorse(self, item_id: str, *, endorser: str | None = None) -> bool:
        """Stand by an item; whether that was new. An agent counts once. NotFound.

        The endorser is the bound agent unless another is named on a handle without one.
        """
        name, agent = check_name("item_id", item_id), self._agent("endorser", endorser)
        item = self._require(LIBRARY, name)
        row = {"item_id": name, "endorser": agent, "at": self._now()}
        row |= {"user": item["user"], "namespace": item["namespace"]}
        counted = Edit(increment={"endorsements": 1}, set={"updated_at": self._now()})
        try:
            self._apply(Put(ENDORSEMENTS.name, row, ABSENT), Patch(LIBRARY.name, (name,), counted))
        except Conflict:
            if self._get(LIBRARY, name) is None:
                raise NotFound("There is no such item.") from None
            return False
        return True

    def endorsements(
        self, item_id: str, *, limit: int = 100, cursor: str | None = None
    ) -> Page[Endorsement]:
        """Who stands by the item, by name; none for a missing one. Limit 1 to 1000."""
        mine = eq("item_id", check_name("item_id", item_id))
        order = (Order("endorser"),)
        return self._page(ENDORSEMENTS, _endorsement, mine, order=order, limit=limit, cursor=cursor)

    def get(self, item_id: str) -> LibraryItem | None:
        """The item, or None."""
        found = self._get(LIBRARY, check_name("item_id", item_id))
        return None if found is None else _build(found)

    def list(
        self,
        *,
        category: str | None = None,
        min_confidence: float = 0.0,
        publisher: str | None = None,
        tags: Sequence[str] = (),
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[LibraryItem]:
        """Items, the most certain first, ties by id; ``tags`` must all be there. Limit to 1000."""
        where = self._narrowed(category, min_confidence, publisher, tags)
        order = (Order("confidence", True), Order("id"))
        return self._page(LIBRARY, _build, where, order=order, limit=limit, cursor=cursor)

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion = "rrf",
        category: str | None = None,
        min_confidence: float = 0.0,
        publisher: str | None = None,
        tags: Sequence[str] = (),
        rerank: bool = True,
        explain: bool = False,
    ) -> Findings[LibraryItem]:
        """The ``limit`` (0 to 250) best items, ties by id; all that is given holds before it."""
        asked = wish(query, limit, mode, fusion, rerank=rerank, explain=explain)
        narrowed = self._narrowed(category, min_confidence, publisher, tags)
        return self._find(LIBRARY, LibraryItem, self._within(LIBRARY, narrowed), asked)

    def withdraw(self, item_id: str) -> bool:
        """Take an item back, with its endorsements; whether there was one.

        Forbidden for an agent that did not publish it; a handle without an agent may.
        """
        found = self.get(item_id)
        if found is None:
            return False
        agent = self._bound.get("agent")
        if agent is not None and agent != found.publisher:
            raise Forbidden("Only its publisher takes an item back.")
        return self._drop(LIBRARY, item_id)

    def _agent(self, field: str, named: object) -> str:
        """The agent that acts: the bound one, and no other where one is bound."""
        bound = self._bound.get("agent")
        if named is None and bound is None:
            raise Invalid(field, expected="an agent, named or bound", got="none")
        name = bound if named is None else check_name(field, named)
        if bound is not None and name != bound:
            raise Forbidden("A handle that is bound to an agent acts for that agent alone.")
        return str(name)

    def _narrowed(
        self, category: object, min_confidence: object, publisher: object, tags: object
    ) -> Filter:
        floor = _fraction("min_confidence", min_confidence)
        kept = tuple(check_names("tags", tags))
        return both(
            None if category is None else eq("category", check_name("category", category)),
            None if publisher is None else eq("publisher", check_name("publisher", publisher)),
            ge("confidence", floor) if floor else None,
            Contains("tags", kept) if kept else None,
        )


def _fraction(field: str, value: object) -> float:
    number = check_float(field, value)
    if not 0.0 <= number <= 1.0:
        raise Invalid(field, expected="a number from 0 to 1", got=repr(number))
    return number
