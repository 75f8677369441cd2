"""Whether every record can be read, and what is derived from it is as it would be made now."""

from __future__ import annotations

from typing import Any

from holdfast.backends.postgres.diagnosis import orphans
from holdfast.backends.postgres.functions import EVERY_TENANT
from holdfast.backends.postgres.internals import Internals
from holdfast.backends.postgres.names import packed_table, terms_table
from holdfast.backends.postgres.wire import Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.rows import decoded
from holdfast.backends.sql.terms import pack
from holdfast.core.collection import Collection
from holdfast.core.driver import Report
from holdfast.core.errors import Corrupt
from holdfast.core.record_type import finding


def integrity(internals: Internals) -> Report:
    """Read every record, and compare what was derived from it."""
    counts: dict[str, int] = {}
    findings: list[str] = []
    with internals.pool.wire() as wire:
        wire.run([("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()), (EVERY_TENANT, ())])
        for collection in internals.planner.collections.values():
            counts[collection.name] = _check_rows(internals, wire, collection, findings)
        findings.extend(
            f"{name}: {count} rows belong to no record"
            for name, count in orphans(internals, wire).items()
            if count
        )
        wire.run([("COMMIT", ())])
    return Report("integrity", not findings, counts, findings)


def _check_rows(
    internals: Internals, wire: Wire, collection: Collection, findings: list[str]
) -> int:
    columns = internals.planner.columns(collection.name)
    table = internals.dialect.table(collection)
    text = f"SELECT {columns.listed} FROM {table} AS t0"
    texts = _Texts(internals, wire, collection) if collection.full_text else None
    if texts is not None:
        same, packed = (
            " AND ".join(f"{a}.{n} = t0.{n}" for n in ("tenant", *map(quoted, collection.key)))
            for a in ("k", "p")
        )
        text = (
            f"SELECT {columns.listed}, t0.tenant, p.stamp, k.length, k.terms, k.counts"
            f" FROM {table} AS t0"
            f" LEFT JOIN {terms_table(internals.dialect, collection)} AS k ON {same}"
            f" LEFT JOIN {packed_table(internals.dialect, collection)} AS p ON {packed}"
            " ORDER BY t0.tenant"
        )
    wire.run([(f"DECLARE holdfast_rows NO SCROLL CURSOR FOR {text}", ())])
    count = 0
    while True:
        result = wire.run([("FETCH 1000 FROM holdfast_rows", ())])[0]
        try:
            rows = wire.rows(result)
        except Corrupt as error:
            findings.append(f"{collection.name}: {error.message}")
            rows = []
        for row in rows:
            _check_row(collection, columns.decode, row, texts, findings)
        count += result.ntuples
        if not result.ntuples:
            break
    wire.run([("CLOSE holdfast_rows", ())])
    return count


class _Texts:
    """What the index holds of records that are read in the order of their tenants."""

    def __init__(self, internals: Internals, wire: Wire, collection: Collection) -> None:
        self._place = wire, internals.dialect, collection
        self._tenant = ""
        self._held: Any = None

    def is_as(self, packed: tuple[int, bytes, bytes] | None, row: tuple[Any, ...]) -> bool:
        """Whether the index holds just this of the record in ``row``: fresh, or in a segment."""
        from holdfast.backends.postgres.packing import Held, unpacked

        tenant, stamp, length, hashes, counts = row[-5:]
        found = None if length is None else unpacked(length, hashes, counts)
        if stamp is not None:
            if self._held is None or self._tenant != tenant:
                self._held, self._tenant = Held(*self._place, tenant), tenant
            if found is not None:
                return False
            found = self._held.get(stamp)
            if found is None:
                return False
        return found == (None if packed is None else unpacked(*packed))


def _check_row(
    collection: Collection,
    decode: Any,
    row: tuple[Any, ...],
    texts: _Texts | None,
    findings: list[str],
) -> None:
    try:
        record = decoded(collection, decode, row)
    except Corrupt as error:
        findings.append(error.message)
        return
    if (wrong := finding(collection, record)) is not None:
        findings.append(wrong)
    if texts is not None and not texts.is_as(pack(collection, record), row):
        key = collection.key_of(record)
        findings.append(f"{collection.name}: the text index differs from record {key}")
