"""Collections of documents, and what their owners let others do with them.

A right includes those before it: read, write, owner. Whoever has none is told nothing, not even
that the collection is there.
"""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.change import ABSENT, Change, Delete, DeleteWhere, Edit, Patch, Put, When
from holdfast.core.change import Revision as AtRevision
from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound
from holdfast.core.filter import InSelect, Record, among, both, eq, gt
from holdfast.core.marks import grouped
from holdfast.core.query import asc
from holdfast.core.values import check_text
from holdfast.stores.given import check_page
from holdfast.stores.knowledge.access import EVERYBODY, check_principal
from holdfast.stores.knowledge.base import TRIES, KnowledgeStore
from holdfast.stores.knowledge.fields import normal_tag
from holdfast.stores.knowledge.records import (
    CHUNKS,
    COLLECTIONS_KEPT,
    DOCUMENTS,
    GRANTS,
    LEDGER,
    Grant,
    KnowledgeCollection,
    Right,
)
from holdfast.stores.store import Page, builder, one_of

RIGHTS: Final[tuple[Right, ...]] = ("read", "write", "owner")
"""Each includes those before it."""

Changes = list[Change]

_collection = builder(KnowledgeCollection)
_grant = builder(Grant)


class Grants(KnowledgeStore):
    """The collections of the bound scope, and their grants."""

    @grouped
    def create(self, tag: str, *, by: str, title: str = "") -> KnowledgeCollection:
        """Make a collection, owned by its creator. Conflict when the tag is taken.

        A tag is kept in one spelling: without case, with "-" for spaces.
        """
        owner, now, scope = check_principal("by", by), self._now(), self._scope_fields()
        row: Record = {
            **scope,
            "id": self._new_id(),
            "tag": normal_tag(tag),
            "title": check_text("title", title, 2_000),
            "created_by": owner,
            "owners": 1,
            "created_at": now,
        }
        owning = self._granting(row["id"], owner, "owner", owner)
        outcomes = self._apply(Put(COLLECTIONS_KEPT.name, row, ABSENT), owning)
        return _collection(outcomes[0].record)

    def get(self, tag: str, *, user: str) -> KnowledgeCollection | None:
        """The collection, or None: alike where there is none and where the user has no right."""
        name = check_principal("user", user)
        found = self._collection(tag)
        return None if found is None or self._right(found.id, name) is None else found

    def list(
        self, *, user: str, limit: int = 100, cursor: str | None = None
    ) -> Page[KnowledgeCollection]:
        """The collections in which the user has a right, by tag, ties by id. Limit 1 to 1000."""
        named = among("grantee", (check_principal("user", user), EVERYBODY))
        granted = self._within(GRANTS, named)
        return self._page(
            COLLECTIONS_KEPT,
            _collection,
            InSelect("id", GRANTS.name, "collection_id", granted),
            order=asc("tag", "id"),
            limit=limit,
            cursor=cursor,
        )

    def right(self, tag: str, user: str) -> Right | None:
        """The greatest right that the user has there, by name or as everybody; None for none."""
        name, found = check_principal("user", user), self._collection(tag)
        return None if found is None else self._right(found.id, name)

    def require(self, tag: str, user: str, right: Right) -> KnowledgeCollection:
        """The collection, if the user has at least this right.

        Forbidden when theirs is less; NotFound when they have none, or there is no collection.
        """
        wanted, name = one_of("right", right, Right), check_principal("user", user)
        found = self._collection(tag)
        if found is None:
            raise NotFound("There is no such collection.")
        self._require_in(found.id, name, wanted)
        return found

    def grant(self, tag: str, grantee: str, right: Right, *, by: str) -> Grant:
        """Give a user, or with "*" everybody, this right in place of the one they had.

        Only an owner may, and everybody cannot be owner. Forbidden, NotFound as `require`;
        Conflict when it would leave the collection without an owner.
        """
        wanted = one_of("right", right, Right)
        whom = _grantee(grantee)
        if whom == EVERYBODY and wanted == "owner":
            raise Invalid("right", expected="read or write for everybody", got="owner")
        owner = check_principal("by", by)
        kept = self.require(tag, owner, "owner")
        return _grant(self._change_grant(kept.id, whom, wanted, owner))

    def revoke(self, tag: str, grantee: str, *, by: str) -> bool:
        """Take the right back; whether there was one. Errors as `grant`."""
        whom, owner = _grantee(grantee), check_principal("by", by)
        kept = self.require(tag, owner, "owner")
        return bool(self._change_grant(kept.id, whom, None, owner))

    def grants(
        self, tag: str, *, by: str, limit: int = 100, cursor: str | None = None
    ) -> Page[Grant]:
        """Who may do what there, by name; for an owner. Errors as `require`. Limit 1 to 1000."""
        check_page(limit, cursor)
        kept = self.require(tag, check_principal("by", by), "owner")
        mine = eq("collection_id", kept.id)
        return self._page(GRANTS, _grant, mine, order=asc("grantee"), limit=limit, cursor=cursor)

    def delete(self, tag: str, *, by: str) -> int:
        """Remove the collection with its grants and documents; how many documents.

        Errors as `require`.
        """
        kept = self.require(tag, check_principal("by", by), "owner")
        mine = eq("collection_id", kept.id)
        made_of = InSelect("document_id", DOCUMENTS.name, "id", mine)
        outcomes = self._apply(
            DeleteWhere(LEDGER.name, made_of),
            DeleteWhere(CHUNKS.name, mine),
            DeleteWhere(DOCUMENTS.name, mine),
            DeleteWhere(GRANTS.name, mine),
            Delete(COLLECTIONS_KEPT.name, (kept.id,)),
        )
        return outcomes[2].count

    def _collection(self, tag: object) -> KnowledgeCollection | None:
        own = (eq(part, value) for part, value in self._scope_fields().items())
        found = self._first(COLLECTIONS_KEPT, both(eq("tag", normal_tag(tag)), *own))
        return None if found is None else _collection(found)

    def _require_in(self, collection_id: str, user: str, wanted: Right) -> None:
        held = self._right(collection_id, check_principal("user", user))
        if held is None:
            raise NotFound("There is no such collection.")
        if RIGHTS.index(held) < RIGHTS.index(wanted):
            raise Forbidden(f"This needs the right {wanted!r} in the collection.")

    def _right(self, collection_id: str, user: str) -> Right | None:
        """The greatest right among those of the user and of everybody."""
        theirs = both(eq("collection_id", collection_id), among("grantee", (user, EVERYBODY)))
        rights = [_grant(row).right for row in self._all(GRANTS, theirs)]
        return max(rights, key=RIGHTS.index) if rights else None

    def _change_grant(
        self, collection_id: str, grantee: str, right: Right | None, by: str
    ) -> Record:
        """Give this right, or for None take the one there is; the grant that was written or ended.

        The collection counts its owners in the same write, so that two who take each other's
        right at once do not leave it without one.
        """
        for _ in range(TRIES):
            held = self._get(GRANTS, collection_id, grantee)
            if held is None and right is None:
                return {}
            changes = self._counting_owners(collection_id, held, right)
            when = ABSENT if held is None else AtRevision(held["revision"])
            if right is None:
                changes.append(Delete(GRANTS.name, (collection_id, grantee), when))
            else:
                giving = self._granting(collection_id, grantee, right, by)
                changes.append(msgspec.structs.replace(giving, when=when))
            try:
                written = self._apply(*changes)[-1].records
            except (Conflict, NotFound):
                kept = self._get(COLLECTIONS_KEPT, collection_id)
                if kept is not None and kept["owners"] == 1 and right != "owner":
                    self._refuse_to_lose(collection_id, grantee)
                continue
            return written[0] if written else held or {}
        raise Conflict("Other writers kept changing this grant.", hint="Try again later.")

    def _refuse_to_lose(self, collection_id: str, grantee: str) -> None:
        """Conflict when this is the one owner left."""
        held = self._get(GRANTS, collection_id, grantee)
        if held is not None and held["right"] == "owner":
            raise Conflict("A collection keeps an owner.", hint="Make somebody else owner first.")

    def _counting_owners(
        self, collection_id: str, held: Record | None, right: Right | None
    ) -> Changes:
        """What the change does to the number of owners; a condition keeps the last one."""
        more = (right == "owner") - (held is not None and held["right"] == "owner")
        if not more:
            return []
        keeps_one = When(gt("owners", 1)) if more < 0 else None
        counted = Edit(increment={"owners": more})
        return [Patch(COLLECTIONS_KEPT.name, (collection_id,), counted, keeps_one)]

    def _granting(self, collection_id: str, grantee: str, right: str, by: str) -> Put:
        row = {
            **self._scope_fields(),
            "collection_id": collection_id,
            "grantee": grantee,
            "right": right,
            "granted_by": by,
            "created_at": self._now(),
        }
        return Put(GRANTS.name, row)


def _grantee(value: object) -> str:
    if isinstance(value, str) and value == EVERYBODY:
        return EVERYBODY
    return check_principal("grantee", value)
