"""What segments cover, and notes of what has changed since: the part that writing knows of.

A source is a table of derived data, such as ``memories__terms``. Its cover, one for each tenant
that is large enough, says up to which row number segments hold the tenant's rows. Rows above are
fresh. A row that is written or deleted where a reader may have it already, in a segment or among
the fresh ones that it keeps in memory, is noted; its copy there is void from that commit on, and
what the table says of it counts. A note is removed by the merge that has taken the row in.

A reader's picture of a source is therefore right as long as three numbers are what they were: the
cover's edition, its last note, and the table's last row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sqlite.known import Cover, Source
from holdfast.core.collection import Collection

SEGMENT_TABLES: Final = """
CREATE TABLE holdfast_covers (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, tenant TEXT NOT NULL,
    high INTEGER NOT NULL DEFAULT 0, edition INTEGER NOT NULL DEFAULT 0,
    claim BLOB, claimed_until INTEGER, UNIQUE (source, tenant)
) STRICT;
CREATE TABLE holdfast_notes (
    cover INTEGER NOT NULL, seq INTEGER NOT NULL, _row INTEGER NOT NULL,
    PRIMARY KEY (cover, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX holdfast_notes_row ON holdfast_notes (cover, _row);
CREATE TABLE holdfast_segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT, cover INTEGER NOT NULL, state TEXT NOT NULL,
    space TEXT NOT NULL, width INTEGER NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    rows INTEGER NOT NULL, postings INTEGER NOT NULL
) STRICT;
CREATE INDEX holdfast_segments_cover ON holdfast_segments (cover, low);
CREATE TABLE holdfast_segment_parts (
    id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
    data BLOB NOT NULL, UNIQUE (segment, name, number)
) STRICT;
"""

_NEXT_NOTE: Final = "(SELECT coalesce(max(seq), 0) + 1 FROM holdfast_notes WHERE cover = c.id)"
_NOTE: Final = (
    f"INSERT OR REPLACE INTO holdfast_notes SELECT c.id, {_NEXT_NOTE}, ?2"
    " FROM holdfast_covers AS c WHERE c.id = ?1"
)
_COVER: Final = """
SELECT id, max(high, coalesce((SELECT max(_row) FROM holdfast_notes WHERE cover = id), 0))
FROM holdfast_covers WHERE source = ?1 AND tenant = ?2"""


def watch_deletes(connection: apsw.Connection, source: str) -> None:
    """Note what is deleted from a source, whoever deletes it."""
    trigger = quoted(f"{source}_noted")
    connection.execute(
        f"CREATE TRIGGER IF NOT EXISTS {trigger} AFTER DELETE ON {quoted(source)}"
        f" BEGIN {_noted('OLD', [source])} END"
    )


def watch_updates(
    connection: apsw.Connection, collection: Collection, sources: Sequence[str]
) -> None:
    """Note changes of the fields of which segments hold copies, whoever makes them."""
    table, copied = collection.name, copied_fields(collection)
    # Copies that only segments of texts hold make nothing else void.
    texts = [source for source in sources if source.endswith("__terms")]
    further = tuple(name for name in included_fields(collection) if name not in copied)
    for kind, fields, noted in (("columns", copied, sources), ("included", further, texts)):
        trigger = quoted(f"{table}__{kind}_noted")
        if not fields or not noted:
            continue
        changed = " OR ".join(f"OLD.{quoted(name)} IS NOT NEW.{quoted(name)}" for name in fields)
        connection.execute(
            f"CREATE TRIGGER {trigger} AFTER UPDATE OF {', '.join(map(quoted, fields))}"
            f" ON {quoted(table)} WHEN {changed} BEGIN {_noted('NEW', noted)} END"
        )


def unwatch_updates(connection: apsw.Connection, table: str) -> None:
    """Take back what `watch_updates` did, for a collection of another edition."""
    for kind in ("columns", "included"):
        connection.execute(f"DROP TRIGGER IF EXISTS {quoted(f'{table}__{kind}_noted')}")


def _noted(row: str, sources: Sequence[str]) -> str:
    """A trigger's statements that note its row.

    Two, because "OR REPLACE" does not hold in a trigger that an upsert has set off; and the old
    note is moved, not deleted first, because its number must not be given again.
    """
    listed = ", ".join(f"'{source}'" for source in sources)
    covers = f"FROM holdfast_covers AS c WHERE c.tenant = {row}.tenant AND c.source IN ({listed})"
    return (
        "UPDATE holdfast_notes SET seq = (SELECT max(n.seq) + 1 FROM holdfast_notes AS n"
        f" WHERE n.cover = holdfast_notes.cover) WHERE _row = {row}._row"
        f" AND cover IN (SELECT c.id {covers});"
        f" INSERT INTO holdfast_notes SELECT c.id, {_NEXT_NOTE}, {row}._row {covers}"
        f" AND NOT EXISTS (SELECT 1 FROM holdfast_notes AS n"
        f" WHERE n.cover = c.id AND n._row = {row}._row);"
    )


def copied_fields(collection: Collection) -> tuple[str, ...]:
    """The fields of which segments hold copies: what filters name, as it and its indexes show."""
    indexed = (name for index in collection.indexes if index.where is None for name in index.fields)
    names = dict.fromkeys((*indexed, *collection.filtered))
    return tuple(name for name in names if is_copied(collection, name))


def is_copied(collection: Collection, name: str) -> bool:
    """Whether segments hold copies of a field."""
    field = collection.by_name.get(name)
    if field is None or name in collection.key or field.kind not in ("text", "int", "bool"):
        return False
    if name in collection.filtered:
        return True
    return any(index.where is None and name in index.fields for index in collection.indexes)


def included_fields(collection: Collection) -> tuple[str, ...]:
    """The fields of which segments of texts hold copies that stand for the row's own."""
    if not collection.included or not collection.full_text:
        return ()
    return tuple(dict.fromkeys((*collection.key, *collection.included, *collection.filtered)))


class Notes:
    """Notes the inserts of one write transaction, for one tenant."""

    def __init__(
        self, connection: apsw.Connection, tenant: str, covers: dict[Source, Cover]
    ) -> None:
        """``covers`` are those that are known, kept true by whoever gives them."""
        self._connection = connection
        self._tenant = tenant
        self._covers = covers

    def inserting(self, source: str, row: int, space: str | None = None) -> None:
        """A row comes into a source; note it unless it stands above all that are there."""
        at = (source, self._tenant, space)
        if at not in self._covers:
            self._covers[at] = self._look_up(source, space)
        known = self._covers[at]
        if known is None:
            return
        cover, above = known
        self._covers[at] = (cover, max(above, row))
        if row <= above:
            self._connection.execute(_NOTE, (cover, row))

    def _look_up(self, source: str, space: str | None) -> Cover:
        found = self._connection.execute(_COVER, (source, self._tenant)).fetchone()
        if found is None:
            return None
        cover, above = found
        where, values = "tenant = ?", [self._tenant]
        if space is not None:
            where, values = f"{where} AND space = ?", [self._tenant, space]
        text = f"SELECT _row FROM {quoted(source)} WHERE {where} ORDER BY _row DESC LIMIT 1"
        last = self._connection.execute(text, values).get
        return cover, max(above, last or 0)
