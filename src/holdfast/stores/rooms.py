"""Rooms: places that hold conversations, and the actors who are in them.

A room owns its conversations: removing it removes them and all that they hold.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.collection import Collection, Index, Reference, Unique
from holdfast.core.errors import Conflict, Invalid, NotFound, kind_of
from holdfast.core.filter import InSelect, among, eq
from holdfast.core.marks import grouped
from holdfast.core.query import asc, desc
from holdfast.core.values import check_keyed_text
from holdfast.stores.given import check_page
from holdfast.stores.owned import Owned, name_of
from holdfast.stores.store import Page, builder, object_of


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A place for conversations and actors."""

    id: str
    name: str
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    agent: str
    user: str
    namespace: str
    revision: int = 0


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody in a room: ``actor_id`` is who, the same in every room; the rest is for here."""

    id: str
    room_id: str
    actor_id: str
    name: str
    details: dict[str, Any]
    created_at: datetime
    revision: int = 0


ROOMS: Final = Collection.of(
    Room,
    "rooms",
    indexes=(Index(("created_at", "id"), serves="list, newest first"),),
)

ACTORS: Final = Collection.of(
    Actor,
    "actors",
    unique=(Unique("actor_in_room", ("room_id", "actor_id")),),
    indexes=(
        Index(("room_id", "name", "id"), serves="actors of a room by name"),
        Index(("actor_id", "room_id"), serves="rooms of an actor"),
    ),
    references=(Reference("room_id", ROOMS.name, "cascade"),),
)

COLLECTIONS: Final = (ROOMS, ACTORS)

_build = builder(Room)
_build_actor = builder(Actor)


class Rooms(Owned):
    """Rooms of the bound scope."""

    collections = COLLECTIONS

    def create(
        self,
        name: str = "",
        *,
        room_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        op_id: str | None = None,
    ) -> Room:
        """Make a room, under a given id or a new one. Conflict when the id is in use.

        A repeat with the same ``op_id`` returns the first room.
        """
        asked = ("rooms.create", name, room_id, metadata)
        now = self._now()
        record = {
            **self._scope_fields(),
            "id": name_of("room_id", room_id) or self._new_id(),
            "name": name,
            "metadata": object_of("metadata", metadata),
            "created_at": now,
            "updated_at": now,
        }
        return _build(
            self._apply(Put(ROOMS.name, record, ABSENT), op_id=op_id, asked=asked)[0].record
        )

    def get(self, room_id: str) -> Room | None:
        """The room, or None."""
        held = self._get(ROOMS, room_id)
        return None if held is None else _build(held)

    def list(self, *, limit: int = 100, cursor: str | None = None) -> Page[Room]:
        """Rooms, newest first."""
        return self._page(ROOMS, _build, order=desc("created_at", "id"), limit=limit, cursor=cursor)

    def list_of(
        self, actor_ids: str | Iterable[str], *, limit: int = 100, cursor: str | None = None
    ) -> Page[Room]:
        """Rooms with one or any of several actors, each room once, newest first.

        Blank ids are nobody's; without another one there is no room.
        """
        if not isinstance(actor_ids, Iterable):
            raise Invalid("actor_ids", expected="texts", got=kind_of(actor_ids))
        given = [actor_ids] if isinstance(actor_ids, str) else list(actor_ids)
        known = sorted({actor for actor in given if _not_blank(actor)})
        check_page(limit, cursor)
        if not known:
            return Page([])
        return self._page(
            ROOMS,
            _build,
            InSelect("id", ACTORS.name, "room_id", among("actor_id", known)),
            order=desc("created_at", "id"),
            limit=limit,
            cursor=cursor,
        )

    @grouped
    def add(
        self,
        room_id: str,
        actor_id: str,
        *,
        name: str = "",
        details: dict[str, Any] | None = None,
    ) -> Actor:
        """Let an actor in; one who is in already is returned unchanged. NotFound."""
        now = self._now()
        record = {
            "id": self._new_id(),
            "room_id": room_id,
            "actor_id": name_of("actor_id", actor_id),
            "name": name,
            "details": object_of("details", details),
            "created_at": now,
        }
        used = Edit(maximum={"updated_at": now})
        try:
            entered = Put(ACTORS.name, record, ABSENT)
            return _build_actor(
                self._apply(Patch(ROOMS.name, (room_id,), used, self._when(ROOMS)), entered)[
                    1
                ].record
            )
        except (Conflict, NotFound):
            self._require(ROOMS, room_id)
            held = self._first(ACTORS, eq("room_id", room_id), eq("actor_id", actor_id))
            if held is None:
                raise
            return _build_actor(held)

    def actors(self, room_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[Actor]:
        """Who is in the room, by name, then id. NotFound."""
        check_page(limit, cursor)
        self._require(ROOMS, room_id)
        return self._page(
            ACTORS,
            _build_actor,
            eq("room_id", room_id),
            order=asc("name", "id"),
            limit=limit,
            cursor=cursor,
        )

    @grouped
    def leave(self, room_id: str, actor_id: str) -> bool:
        """Let an actor out; whether they were in."""
        check_keyed_text("room_id", room_id)
        check_keyed_text("actor_id", actor_id)
        held = self._first(
            ACTORS,
            eq("room_id", room_id),
            eq("actor_id", actor_id),
            self._through("room_id", ROOMS),
        )
        return held is not None and self._drop_part(ACTORS, held["id"], ROOMS, "room_id")

    def delete(self, room_id: str) -> bool:
        """Remove the room with its actors and conversations, all at once; whether it existed."""
        return self._drop(ROOMS, room_id)


def _not_blank(actor_id: object) -> bool:
    if not isinstance(actor_id, str):
        raise Invalid("actor_ids", expected="texts", got=kind_of(actor_id))
    return bool(actor_id.strip())
