"""A backup is a folder: one file of COPY per table, and a manifest with their checksums.

What the store says of itself is copied too, for whoever reads it, and not restored: a restored
store is set up like any other, and must have the editions that the backup had.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.errors import mapped
from holdfast.backends.postgres.roles import RECORDS
from holdfast.backends.sql.dialect import quoted
from holdfast.core.driver import Report
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    HoldfastError,
    Invalid,
    NotFound,
    Unsupported,
)
from holdfast.core.files import owned

if TYPE_CHECKING:
    from holdfast.backends.postgres.internals import Internals
    from holdfast.backends.postgres.wire import Wire

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
_ENGINE: Final = "holdfast_"
"""How the names of the engine's own tables begin."""


class Table(msgspec.Struct, frozen=True):
    """What the manifest says of one table."""

    name: str
    columns: list[str]
    rows: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds; ``position`` is the last one of the journal.

    ``editions`` are those of the collections, ``vectors`` says whether pgvector kept the vectors,
    and ``written_by`` is the version of holdfast.
    """

    format: int
    position: int
    tables: list[Table]
    editions: dict[str, int] = {}
    vectors: bool = True
    written_by: str = ""


def backup(internals: Internals, target: str) -> Report:
    """Write a consistent copy beside running writers; its name appears when complete."""
    target = os.path.abspath(target)
    if os.path.exists(target):
        raise Conflict("The target of the backup exists.", hint="Choose a new path.")
    if not os.path.isdir(os.path.dirname(target)):
        raise Invalid("target", expected="a path in an existing folder", got="another path")
    partial = f"{target}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.mkdir(partial, 0o700)
    wire = internals.pool.connect()
    try:
        manifest = _copy_out(internals, wire, partial)
    except (psycopg.Error, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _mapped(error) from error
    finally:
        wire.close()
    body = msgspec.json.format(msgspec.json.encode(manifest))
    _write(os.path.join(partial, MANIFEST), body)
    os.rename(partial, target)
    _sync_folder(os.path.dirname(target))
    counts = {table.name: table.rows for table in manifest.tables}
    return Report("backup", True, counts, [f"sha256 {hashlib.sha256(body).hexdigest()}"])


def _copy_out(internals: Internals, wire: Wire, folder: str) -> Manifest:
    connection, schema = wire.connection, internals.pool.target.options.schema
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute("SELECT set_config('holdfast.every_tenant', 'on', true)")
    tables = []
    for name, columns in _tables(wire, schema).items():
        digest, rows = hashlib.sha256(), 0
        listed = ", ".join(map(quoted, columns))
        text = f"COPY (SELECT {listed} FROM {internals.table(quoted(name))}) TO STDOUT"
        with open(os.path.join(folder, name), "xb", opener=owned) as file:
            with connection.cursor() as cursor:
                with cursor.copy(text.encode()) as copy:
                    for block in copy:
                        digest.update(block)
                        file.write(block)
                rows = cursor.rowcount
            file.flush()
            os.fsync(file.fileno())
        tables.append(Table(name, columns, rows, digest.hexdigest()))
    sequence = f"{internals.table('holdfast_journal')}_position_seq"
    text = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}"
    found = connection.execute(text.encode()).fetchone()
    editions, vectors = _described(internals, connection)
    connection.execute("COMMIT")
    position = found[0] if found else 0
    return Manifest(FORMAT, position, tables, editions, vectors, version("holdfast"))


def _described(
    internals: Internals, connection: psycopg.Connection[Any]
) -> tuple[dict[str, int], bool]:
    """The editions of a store's collections, and whether its vectors are pgvector's."""
    text = f"SELECT name, version FROM {internals.table('holdfast_collections')} ORDER BY 1"
    editions = dict(connection.execute(text.encode()).fetchall())
    text = f"SELECT vectors <> '' FROM {internals.table('holdfast_store')}"
    [vectors] = connection.execute(text.encode()).fetchone() or (False,)
    return editions, vectors


def _tables(wire: Wire, schema: str) -> dict[str, list[str]]:
    """The schema's tables and their columns, referred tables first."""
    text = (
        "SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)"
        " FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
        f" WHERE n.nspname = {MARK} AND c.relkind = 'r' GROUP BY 1 ORDER BY 1"
    )
    held = dict(wire.rows(wire.run([(text, [schema])])[0]))
    text = (
        "SELECT conrelid::regclass::oid, p.relname::text, c.relname::text FROM pg_constraint AS f"
        " JOIN pg_class AS c ON c.oid = f.conrelid JOIN pg_class AS p ON p.oid = f.confrelid"
        f" JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        f" WHERE f.contype = 'f' AND n.nspname = {MARK}"
    )
    rows = wire.rows(wire.run([(text, [schema])])[0])
    parents: dict[str, set[str]] = {}
    for _, parent, child in rows:
        if parent != child:
            parents.setdefault(child, set()).add(parent)
    ordered: dict[str, list[str]] = {}
    while len(ordered) < len(held):
        for name, columns in held.items():
            if name not in ordered and parents.get(name, set()) <= ordered.keys():
                ordered[name] = columns
    return ordered


def require_empty(internals: Internals) -> None:
    """Conflict where the schema holds records; before a setup, which must not touch them."""
    with internals.pool.wire() as wire:
        connection = wire.connection
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('holdfast.every_tenant', 'on', true)")
                for name in _tables(wire, internals.pool.target.options.schema):
                    if not name.startswith(_ENGINE):
                        _refuse_records(connection, internals.table(quoted(name)))
        except psycopg.Error as error:
            raise mapped(error) from error


def restore(internals: Internals, source: str) -> Report:
    """Fill a store that was set up and is empty from a backup, after checking all of it."""
    manifest = check(source)
    wire = internals.pool.connect()
    try:
        _require_same(internals, wire.connection, manifest)
        _copy_in(internals, wire, source, manifest)
    except psycopg.Error as error:
        raise mapped(error) from error
    finally:
        wire.close()
    return Report("restore", True, {table.name: table.rows for table in manifest.tables})


def check(source: str) -> Manifest:
    """The manifest of a backup whose files are all as they were written; else Corrupt."""
    try:
        with open(os.path.join(source, MANIFEST), "rb") as file:
            manifest = msgspec.json.decode(file.read(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("There is no such backup.") from None
    except msgspec.MsgspecError as error:
        raise Corrupt("The manifest of the backup is damaged.") from error
    if manifest.format > FORMAT:
        raise Corrupt("The backup is of a later format.", hint="Upgrade holdfast.")
    for table in manifest.tables:
        path = os.path.join(source, os.path.basename(table.name))
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Corrupt(f"The backup lacks the file of {table.name}.") from error
        if digest != table.sha256:
            raise Corrupt(f"The backup's file of {table.name} is damaged.")
    return manifest


def _require_same(
    internals: Internals, connection: psycopg.Connection[Any], manifest: Manifest
) -> None:
    """Refuse a store of other editions than the backup, or one that keeps vectors otherwise."""
    editions, vectors = _described(internals, connection)
    for name, edition in manifest.editions.items():
        if editions.get(name) != edition:
            raise Unsupported(
                f"The backup has edition {edition} of {name}, and this version of holdfast has"
                f" {editions.get(name, 'none')}.",
                hint=f"Restore with holdfast {manifest.written_by}, then upgrade.",
            )
    if vectors != manifest.vectors:
        raise Unsupported(
            "The backup's vectors are pgvector's, and this database has none."
            if manifest.vectors
            else "The backup's vectors were kept without pgvector; this store keeps them by it.",
            hint="Restore into a database that has what the backup's had.",
        )


def _copy_in(internals: Internals, wire: Wire, source: str, manifest: Manifest) -> None:
    connection = wire.connection
    held = _tables(wire, internals.pool.target.options.schema)
    by_name = {table.name: table for table in manifest.tables}
    missing = sorted(by_name.keys() - held.keys())
    if missing:
        raise Invalid(
            "target", expected="a store of the backup's edition", got=f"one without {missing[0]}"
        )
    connection.execute("BEGIN")
    for name in (name for name in held if name in by_name and name not in RECORDS):
        _fill(connection, internals.table(quoted(name)), by_name[name], os.path.join(source, name))
    sequence = f"{internals.table('holdfast_journal')}_position_seq"
    if manifest.position:
        connection.execute(f"SELECT setval('{sequence}', {manifest.position})".encode())
    connection.execute("COMMIT")


def _fill(connection: psycopg.Connection[Any], table: str, held: Table, path: str) -> None:
    """Fill a table from its file, read once more as it was written; one with records is refused."""
    bare = held.name.startswith(_ENGINE)
    # The owner is bound by row security as well, and COPY cannot be: lifted within this commit.
    connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY".encode())
    if bare:
        connection.execute(f"DELETE FROM {table}".encode())
    else:
        _refuse_records(connection, table)
    digest = hashlib.sha256()
    listed = ", ".join(map(quoted, held.columns))
    with open(path, "rb") as file, connection.cursor() as cursor:
        copy = f"COPY {table} ({listed}) FROM STDIN".encode()
        with cursor.copy(copy) as sink:
            while block := file.read(1 << 16):
                digest.update(block)
                sink.write(block)
        if digest.hexdigest() != held.sha256 or cursor.rowcount != held.rows:
            raise Corrupt(f"The backup's file of {held.name} changed while it was read.")
    text = "SELECT relrowsecurity FROM pg_class WHERE oid = %s::regclass"
    found = connection.execute(text, (table,)).fetchone()
    if found and found[0]:
        connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY".encode())


def _refuse_records(connection: psycopg.Connection[Any], table: str) -> None:
    if connection.execute(f"SELECT 1 FROM {table} LIMIT 1".encode()).fetchone():
        raise Conflict("The store is not empty.", hint="Restore into a new schema or database.")


def _write(path: str, body: bytes) -> None:
    with open(path, "xb", opener=owned) as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(error: Exception) -> HoldfastError:
    if isinstance(error, psycopg.Error):
        return mapped(error)
    return Invalid("target", expected="a folder that can be written", got=type(error).__name__)
