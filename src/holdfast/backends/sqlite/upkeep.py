"""Search data as maintenance sees it: built anew from the records, and compared with them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import apsw

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded
from holdfast.backends.sql.terms import pack
from holdfast.backends.sqlite import merging
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.covers import Notes
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.preparing import terms_of
from holdfast.backends.sqlite.schema import terms_source, terms_table, vector_source
from holdfast.backends.sqlite.writer import Writer
from holdfast.core.collection import Collection

_BATCH: Final = 500


def sources(planner: Planner) -> Iterator[tuple[str, Collection]]:
    """The tables of derived data, and what they are derived from."""
    for collection in planner.collections.values():
        if collection.full_text:
            yield terms_source(collection), collection
        for field in collection.vectors:
            yield vector_source(collection, field), collection


def rebuild(writer: Writer, planner: Planner, merger: Merger) -> dict[str, int]:
    """Derive text anew, drop what belongs to no record, and pack all into new segments.

    A batch at a time. Searches stay right meanwhile: what no segment holds is read as it lies.
    """
    counts = {"terms": 0, "merges": 0}
    for source, collection in sources(planner):
        if source == terms_source(collection):
            counts["terms"] += _derive_again(writer, planner, collection)
        writer.run(partial(_drop, source=source, collection=collection))
        text = f"SELECT DISTINCT tenant FROM {quoted(source)}"
        for (tenant,) in writer.run(partial(fetched, text=text)):
            counts["merges"] += merger.run(source, tenant)
    return counts


def _drop(connection: apsw.Connection, source: str, collection: Collection) -> None:
    connection.execute(
        f"DELETE FROM {quoted(source)} WHERE NOT EXISTS"
        f" (SELECT 1 FROM {quoted(collection.name)} AS t0 WHERE t0._row = {quoted(source)}._row"
        f" AND t0.tenant = {quoted(source)}.tenant)"
    )
    merging.drop(connection, source)


def _derive_again(writer: Writer, planner: Planner, collection: Collection) -> int:
    """Write the terms of the records whose terms differ from their text; how many."""
    last, changed = -1, 0
    while True:
        batch = partial(derive, planner=planner, collection=collection, above=last, limit=_BATCH)
        found = writer.run(batch)
        last, changed = found[0], changed + found[1]
        if last is None:
            return changed


def derive(
    connection: apsw.Connection,
    planner: Planner,
    collection: Collection,
    above: int = -1,
    limit: int = -1,
) -> tuple[Any, int]:
    """Bring the terms of records above a row number in line with their text.

    Returns the last of the rows, None where there are no more, and how many were out of line.
    """
    columns, terms = planner.columns(collection.name), terms_table(collection)
    kept = terms_of(collection)
    text = (
        f"SELECT {columns.listed}, d.length, d.terms, d.counts, t0.tenant, t0._row"
        f" FROM {planner.dialect.table(collection)} AS t0"
        f" LEFT JOIN {terms} AS d ON d.tenant = t0.tenant AND d._row = t0._row"
        " WHERE t0._row > ? ORDER BY t0._row LIMIT ?"
    )
    rows, count = fetched(connection, text, (above, limit)), 0
    for row in rows:
        packed = pack(collection, decoded(collection, columns.decode, row))
        held = None if row[-5] is None else row[-5:-2]
        if packed != held:
            count += 1
            tenant, number = row[-2:]
            if packed is not None:
                Notes(connection, tenant, {}).inserting(terms_source(collection), number)
            kept.store(connection.cursor(), tenant, number, packed, fresh=False)
    return rows[-1][-1] if rows and limit >= 0 else None, count


def facts(connection: apsw.Connection) -> dict[str, int]:
    """Figures for health: what segments hold, and what is noted against them."""
    segments, rows = connection.execute(
        "SELECT count(*), coalesce(sum(rows), 0) FROM holdfast_segments WHERE state = 'live'"
    ).fetchone() or (0, 0)
    noted: int = connection.execute("SELECT count(*) FROM holdfast_notes").get
    return {"segments": segments, "segment_rows": rows, "segment_notes": noted}
