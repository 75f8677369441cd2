"""Namespaces: named parts of a scope. The unnamed one, "", holds what belongs to no part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import msgspec

from holdfast.core.change import Change, Delete, DeleteWhere, Edit, PatchWhere, Put, Revision
from holdfast.core.errors import Forbidden, Invalid
from holdfast.core.filter import Filter, InSelect, Record, among, both, either, eq, not_null
from holdfast.core.query import Aggregate, asc
from holdfast.core.scope import check_name
from holdfast.core.values import check_text, check_texts
from holdfast.stores.memory.archive import pack, unpack
from holdfast.stores.memory.base import MemoryStore
from holdfast.stores.memory.filters import MemoryFilters, filter_of
from holdfast.stores.memory.records import (
    ARCHIVE,
    CHUNKS,
    EVENTS,
    LINKS,
    MEMORIES,
    SPEAKERS,
    NamespaceLink,
)
from holdfast.stores.store import builder

_link = builder(NamespaceLink)


class NamespaceCount(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace and how many memories it holds, forgotten ones not counted."""

    name: str
    count: int


class Namespaces(MemoryStore):
    """The namespaces of the bound scope, and the links between them."""

    def list(self) -> Sequence[NamespaceCount]:
        """Every namespace that holds a memory, sorted by name, each once."""
        kept = self._within(MEMORIES, eq("forgotten_at", None))
        counts = Aggregate(collection=MEMORIES.name, filter=kept, group_by=("namespace",))
        rows = self._driver.aggregate(self._scope.tenant, counts)
        return [NamespaceCount(name=row["namespace"], count=row["count"]) for row in rows]

    def delete(self, name: str) -> int:
        """Remove a namespace for good, with archive and links; how many memories it held."""
        mine = eq("namespace", self._reachable(name))
        touching = either(eq("origin", name), eq("target", name))
        outcomes = self._apply(
            *(
                DeleteWhere(shape.name, self._within(shape, mine))
                for shape in (MEMORIES, ARCHIVE, EVENTS, SPEAKERS)
            ),
            DeleteWhere(LINKS.name, self._within(LINKS, touching)),
        )
        return outcomes[0].count + outcomes[1].count

    def move(self, ids: Sequence[str], target: str) -> int:
        """Move memories into another namespace; how many there were, missing ones passed by.

        Conflict, and nothing moved, when the target holds the content of one already.
        """
        return self._move(among("id", check_texts("ids", ids)), self._reachable(target), [])

    def split(self, origin: str, target: str, **filters: Unpack[MemoryFilters]) -> int:
        """Move what the filters select out of ``origin`` into ``target``; how many."""
        narrowing = filter_of(filters)
        if narrowing is None:
            raise Invalid("filters", expected="at least one", got="none", hint="Use rename.")
        where = both(eq("namespace", self._reachable(origin)), narrowing)
        return self._move(where, self._reachable(target), [])

    def rename(self, old: str, new: str) -> int:
        """Move everything of a namespace, archive and links included; how many memories.

        Where the new name already has a link of the same ends and relation, that one stays.
        """
        where = eq("namespace", self._reachable(old))
        if self._reachable(new) == old:
            return 0
        also = [*self._relinked(old, new), *self._repacked(where, new)]
        packed = sum(
            isinstance(change, Put) and change.collection == ARCHIVE.name for change in also
        )
        return self._move(where, new, also) + packed

    def link(self, origin: str, target: str, relation: str = "", note: str = "") -> NamespaceLink:
        """Link two namespaces, or replace the note of the link that is there.

        Invalid for a link of a namespace with itself.
        """
        if self._reachable(origin) == _name(target):
            raise Invalid("target", expected="another namespace", got="the same one")
        scope, now = self._scope_fields(), self._now()
        key = (scope["agent"], scope["user"], origin, target, check_text("relation", relation, 256))
        check_text("note", note)
        held = self._driver.get(self._scope.tenant, LINKS.name, key)
        record = {
            **dict(zip(LINKS.key, key, strict=True)),
            "note": note,
            "created_at": now if held is None else held["created_at"],
            "updated_at": now,
        }
        return _link(self._apply(Put(LINKS.name, record))[0].record)

    def unlink(self, origin: str, target: str, relation: str = "") -> bool:
        """Remove a link; whether there was one."""
        scope = self._scope_fields()
        key = (scope["agent"], scope["user"], self._reachable(origin), _name(target))
        relation = check_text("relation", relation, 256)
        return self._apply(Delete(LINKS.name, (*key, relation)))[0].count > 0

    def links(self, name: str | None = None) -> Sequence[NamespaceLink]:
        """The links from or to a namespace, or all, by origin, target and relation."""
        touching = self._own_links()
        if name is not None:
            touching = both(touching, either(eq("origin", _name(name)), eq("target", name)))
        order = asc("origin", "target", "relation")
        return [_link(record) for record in self._all(LINKS, touching, order=order)]

    # --- moving

    def _move(self, where: Filter, target: str, also: Sequence[Change]) -> int:
        """Memories with all that names their namespace, in one apply."""
        mine = self._within(MEMORIES, where)
        moved = Edit(set={"namespace": target})
        owned = InSelect("memory_id", MEMORIES.name, "id", mine)
        outcomes = self._apply(
            *also,
            *self._known_speakers(mine, target),
            PatchWhere(CHUNKS.name, owned, moved),
            PatchWhere(EVENTS.name, owned, moved),
            PatchWhere(MEMORIES.name, mine, moved),
        )
        return outcomes[-1].count

    def _known_speakers(self, mine: Filter, target: str) -> Sequence[Change]:
        spoken = Aggregate(
            collection=MEMORIES.name,
            filter=both(mine, not_null("speaker")),
            group_by=("agent", "user", "speaker"),
        )
        rows = self._driver.aggregate(self._scope.tenant, spoken)
        return [
            Put(
                SPEAKERS.name,
                {
                    "agent": row["agent"],
                    "user": row["user"],
                    "namespace": target,
                    "name": row["speaker"],
                },
            )
            for row in rows
        ]

    def _repacked(self, where: Filter, target: str) -> Sequence[Change]:
        return [
            Put(
                ARCHIVE.name,
                {
                    **_bare(packed),
                    "namespace": target,
                    "body": pack({**unpack(packed), "namespace": target}),
                },
                Revision(packed["revision"]),
            )
            for packed in self._all(ARCHIVE, where)
        ]

    def _relinked(self, old: str, new: str) -> Sequence[Change]:
        changes: dict[tuple[Any, ...], Change] = {}
        held = {LINKS.key_of(row): row for row in self._all(LINKS, self._own_links())}
        for key, row in held.items():
            if old not in (row["origin"], row["target"]):
                continue
            changes[("gone", *key)] = Delete(LINKS.name, key)
            ends = {end: new if row[end] == old else row[end] for end in ("origin", "target")}
            renamed = {**_bare(row), **ends}
            taken = LINKS.key_of(renamed)
            if ends["origin"] != ends["target"] and taken not in held:
                changes.setdefault(("new", *taken), Put(LINKS.name, renamed))
        return [*changes.values()]

    def _own_links(self) -> Filter:
        bound = self._scope.namespace
        return both() if bound is None else either(eq("origin", bound), eq("target", bound))

    def _reachable(self, name: str) -> str:
        """A namespace that this handle may write to; Forbidden for one outside its scope."""
        bound = self._scope.namespace
        if bound is not None and _name(name) != bound:
            raise Forbidden("This handle is bound to another namespace.")
        return _name(name)


def _name(name: str) -> str:
    return "" if isinstance(name, str) and not name else check_name("namespace", name)


def _bare(record: Mapping[str, Any]) -> Record:
    return {name: value for name, value in record.items() if name != "revision"}
