"""Upkeep of a file: sweep, integrity, backup, restore, salvage, health, followers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import apsw
import msgspec

from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded
from holdfast.backends.sql.terms import pack
from holdfast.backends.sqlite import guard, upkeep
from holdfast.backends.sqlite.changes import Transaction
from holdfast.backends.sqlite.connection import Connection, ConnectionPool, create, fetched
from holdfast.backends.sqlite.errors import READ_ERRORS, mapped
from holdfast.backends.sqlite.header import FORMAT, check_header, is_empty, looking
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.preparing import Preparation
from holdfast.backends.sqlite.schema import terms_table, vector_table
from holdfast.backends.sqlite.writer import Writer
from holdfast.core.change import DeleteWhere
from holdfast.core.clock import Clock, shifted
from holdfast.core.collection import Collection
from holdfast.core.driver import Health, Report, Task
from holdfast.core.errors import Conflict, Corrupt, HoldfastError, Invalid, NotFound
from holdfast.core.filter import lt
from holdfast.core.query import asc
from holdfast.core.record_type import finding
from holdfast.core.values import to_micros

OPERATION_DAYS: Final = 7
"""How long operation ids are remembered."""


class Internals(msgspec.Struct, frozen=True, eq=False):
    """What a driver is made of, for those that look after its file."""

    pool: ConnectionPool
    writer: Writer
    planner: Planner
    merger: Merger
    clock: Clock


def sweep(internals: Internals, *, now: datetime, limit: int | None = None) -> Report:
    """Delete records whose ttl is before ``now``, and operation ids past their days.

    ``limit`` bounds the records of each collection and tenant, the longest expired first.
    """
    counts: dict[str, int] = {}

    def work(connection: Connection) -> None:
        for collection in internals.planner.collections.values():
            if collection.ttl is not None:
                counts[collection.name] = _sweep(internals, connection, collection, now, limit)
        oldest = to_micros(shifted(internals.clock.now(), -timedelta(days=OPERATION_DAYS)))
        connection.execute("DELETE FROM holdfast_operations WHERE at < ?", (oldest,))

    internals.writer.run(work)
    return Report("sweep", True, counts)


def _sweep(
    internals: Internals,
    connection: Connection,
    collection: Collection,
    now: datetime,
    limit: int | None,
) -> int:
    assert collection.ttl is not None
    expired = DeleteWhere(collection.name, lt(collection.ttl, now), limit, asc(collection.ttl))
    text = (
        f"SELECT DISTINCT tenant FROM {quoted(collection.name)} WHERE {quoted(collection.ttl)} < ?"
    )
    count = 0
    for (tenant,) in fetched(connection, text, (to_micros(now),)):
        work = Transaction(
            connection,
            Preparation(internals.planner),
            tenant,
            internals.clock,
            internals.writer.known,
            op_id=None,
        )
        count += work.run([expired])[0].count
    return count


def follow(internals: Internals, *, follower: str) -> Report:
    """Start a feed at the journal's present end; where it stands, if it was there already."""

    def work(connection: apsw.Connection) -> int:
        last = connection.execute(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'holdfast_journal'), 0)"
        ).get
        connection.execute(
            "INSERT INTO holdfast_followers VALUES (?, ?) ON CONFLICT DO NOTHING", (follower, last)
        )
        found = "SELECT position FROM holdfast_followers WHERE name = ?"
        return int(connection.execute(found, (follower,)).get)

    return Report("follow", True, {"position": internals.writer.run(work)})


def unfollow(internals: Internals, *, follower: str) -> Report:
    """Stop a feed; without any, the journal is emptied and off."""

    def work(connection: apsw.Connection) -> int:
        connection.execute("DELETE FROM holdfast_followers WHERE name = ?", (follower,))
        return _drop_passed(connection)

    return Report("unfollow", True, {"dropped": internals.writer.run(work)})


def trim(internals: Internals, *, follower: str, position: int) -> Report:
    """Remember how far a follower is, and drop what all have passed."""

    def work(connection: apsw.Connection) -> int:
        connection.execute(
            "UPDATE holdfast_followers SET position = ? WHERE name = ?", (position, follower)
        )
        if not connection.changes():
            raise NotFound("There is no such follower.", hint="Register it first.")
        return _drop_passed(connection)

    return Report("trim", True, {"dropped": internals.writer.run(work)})


def _drop_passed(connection: apsw.Connection) -> int:
    connection.execute(
        "DELETE FROM holdfast_journal WHERE position <= "
        "(SELECT coalesce(min(position), 9223372036854775807) FROM holdfast_followers)"
    )
    return connection.changes()


def analyze(internals: Internals) -> Report:
    """Refresh what the query planner knows of the data."""
    internals.writer.run(lambda connection: connection.execute("ANALYZE").fetchall())
    return Report("analyze", True)


def vacuum(internals: Internals) -> Report:
    """Give unused space back; waits for other writers."""
    with internals.pool.reading() as connection:
        before = os.path.getsize(internals.pool.path)
        connection.execute("PRAGMA query_only=OFF")
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.execute("PRAGMA query_only=ON")
    return Report(
        "vacuum",
        True,
        {"bytes_before": before, "bytes_after": os.path.getsize(internals.pool.path)},
    )


def reindex(internals: Internals) -> Report:
    """Build every index anew from its table, and what searches use from the records."""
    internals.writer.run(lambda connection: connection.execute("REINDEX").fetchall())
    return Report(
        "reindex", True, upkeep.rebuild(internals.writer, internals.planner, internals.merger)
    )


def integrity(internals: Internals) -> Report:
    """Check the pages, decode every record, and compare what is derived with its source."""
    findings: list[str] = []
    counts: dict[str, int] = {}
    with internals.pool.reading() as connection:
        found = connection.execute("PRAGMA integrity_check(20)").fetchall()
        findings.extend(f"pages: {text}" for (text,) in found if text != "ok")
        for collection in internals.planner.collections.values():
            counts[collection.name] = _check_rows(
                internals.planner, connection, collection, findings
            )
        if upkeep.facts(connection)["segments"]:
            from holdfast.backends.sqlite import verifying  # which loads numpy

            connection.execute("BEGIN")
            try:
                findings.extend(verifying.differences(connection))
            finally:
                connection.execute("COMMIT")
    return Report("integrity", not findings, counts, findings)


def _check_rows(
    planner: Planner, connection: apsw.Connection, collection: Collection, findings: list[str]
) -> int:
    columns = planner.columns(collection.name)
    text = f"SELECT {columns.listed}, t0.tenant, t0._row FROM {quoted(collection.name)} AS t0"
    count = 0
    for row in connection.execute(text):
        count += 1
        try:
            record = decoded(collection, columns.decode, row)
        except Corrupt as error:
            findings.append(error.message)
            continue
        if (wrong := finding(collection, record)) is not None:
            findings.append(wrong)
        if collection.full_text:
            held = connection.execute(
                f"SELECT length, terms, counts FROM {terms_table(collection)}"
                " WHERE tenant = ? AND _row = ?",
                row[-2:],
            ).fetchone()
            if held != pack(collection, record):
                findings.append(f"{collection.name}: the text index differs from record {row[-1]}")
    findings.extend(_torn_vectors(connection, collection))
    return count


def _torn_vectors(connection: apsw.Connection, collection: Collection) -> Iterator[str]:
    """Vectors that are none, which searches pass by."""
    for name in collection.vectors:
        table = vector_table(collection, name)
        text = f"SELECT _row FROM {table} WHERE length(data) % 4 OR length(data) = 0"
        for (row,) in fetched(connection, text):
            yield f"{collection.name}: {name} of record {row} is no vector"


def backup(connection: apsw.Connection, target: str) -> Report:
    """Write a consistent, compact copy beside running writers; its name appears when complete."""
    target = os.path.abspath(target)
    if os.path.exists(target):
        raise Conflict("The target of the backup exists.", hint="Choose a new path.")
    if not os.path.isdir(os.path.dirname(target)):
        raise Invalid("target", expected="a path in an existing folder", got="another path")
    partial = f"{target}.partial"
    connection.execute("PRAGMA query_only=OFF")
    try:
        _remove(partial)
        create(partial)
        connection.execute("VACUUM INTO ?", (partial,))
    except (apsw.Error, OSError) as error:
        with suppress(OSError):
            _remove(partial)
        raise mapped(error) from error
    finally:
        connection.execute("PRAGMA query_only=ON")
    _sync(partial)
    os.rename(partial, target)
    _sync(os.path.dirname(target))
    size = os.path.getsize(target)
    return Report("backup", True, {"bytes": size}, [f"sha256 {checksum(target)}"])


def _remove(partial: str) -> None:
    """Take away what a backup that did not end has left."""
    for path in (partial, f"{partial}-journal"):
        with suppress(FileNotFoundError):
            os.unlink(path)


def restore(source: str, target: str) -> Report:
    """Make a store at ``target`` from a backup, after checking every page of it."""
    if not os.path.isfile(source):
        raise NotFound("There is no such backup.")
    if os.path.exists(target):
        raise Conflict("The target of the restore exists.", hint="Choose a new path.")
    check_header(source)
    if is_empty(source):
        raise Corrupt("The backup is empty.", hint="Choose another; nothing was written.")
    try:
        with looking(source) as connection:
            found = [text for (text,) in fetched(connection, "PRAGMA integrity_check(5)")]
            if found != ["ok"]:
                raise Corrupt("The backup is damaged.", hint="; ".join(found))
            return backup(connection, target)
    except apsw.Error as error:
        raise mapped(error) from error


def salvage(path: str) -> Report:
    """What can still be read from a damaged file: rows per table, and where reading stopped."""
    counts: dict[str, int] = {}
    findings: list[str] = []
    try:
        with looking(path) as connection:
            # Nothing is written: it has SQLite read on where the schema names pages that are cut
            # off.
            connection.execute("PRAGMA writable_schema=ON")
            for name in _tables(connection, findings):
                counts[name] = 0
                try:
                    for _ in connection.execute(f"SELECT * FROM {quoted(name)}"):
                        counts[name] += 1
                except (apsw.Error, UnicodeDecodeError):
                    findings.append(f"{name}: reading stopped after {counts[name]} rows")
    except apsw.Error as error:
        findings.append(str(mapped(error).message))
    return Report("salvage", not findings, counts, findings)


def _tables(connection: apsw.Connection, findings: list[str]) -> list[str]:
    """The names of tables, as far as the schema can be read."""
    names: list[str] = []
    text = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    try:
        names.extend(name for (name,) in connection.execute(text))
    except (apsw.Error, UnicodeDecodeError):
        findings.append(f"the schema: reading stopped after {len(names)} tables")
        if not names:
            raise
    return names


def checksum(path: str) -> str:
    """The SHA-256 of a file that this process does not hold open."""
    if guard.is_held(path):
        raise Conflict("The file is open in this process.", hint="Close it first.")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def health(pool: ConnectionPool, name: str) -> Health:
    """Facts about the file; a reason instead of an error."""
    facts: dict[str, Any] = {
        "path": pool.path,
        "durability": pool.durability,
        "sqlite": apsw.sqlite_lib_version(),
    }
    try:
        with pool.reading() as connection:
            pool.check_place()
            facts["pages"] = connection.pragma("page_count")
            if connection.pragma("user_version") == FORMAT:
                facts.update(upkeep.facts(connection))
        wal = f"{pool.path}-wal"
        facts["bytes"] = os.path.getsize(pool.path)
        facts["wal_bytes"] = os.path.getsize(wal) if os.path.exists(wal) else 0
    except HoldfastError as error:
        return Health(False, name, error.message, facts)
    except READ_ERRORS as error:
        return Health(False, name, type(error).__name__, facts)
    return Health(True, name, facts=facts)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


TASKS: Final[dict[Task, Callable[..., Report]]] = {
    "sweep": sweep,
    "analyze": analyze,
    "vacuum": vacuum,
    "reindex": reindex,
    "integrity": integrity,
    "follow": follow,
    "unfollow": unfollow,
    "trim": trim,
}
