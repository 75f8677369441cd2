"""The SQLite engine's harness: each test has one new file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite.dialect import SqliteDialect
from holdfast.core.clock import Clock
from holdfast.core.collection import Collection
from holdfast.core.driver import Driver
from holdfast.core.filter import Record
from holdfast.testing.harness import Harness
from holdfast.testing.processes import BUSY_SECONDS


class SqliteHarness(Harness):
    """Every opener gets an engine of its own on one new file in ``folder``, with ``options``."""

    name = "sqlite"

    def __init__(self, folder: Path, **options: Any) -> None:
        self._path = str(folder / "suite.db")
        self._options = options

    def open(self, clock: Clock) -> Driver:
        return SqliteDriver(self._path, clock, busy_seconds=BUSY_SECONDS, **self._options)

    def plant(self, collection: Collection, tenant: str, record: Record) -> None:
        encoders = {f.name: SqliteDialect().encoder(f.kind) for f in collection.fields}
        # A number in place of an instant is planted as it is.
        values = {
            n: e(record[n]) if e and not isinstance(record[n], int | None) else record[n]
            for n, e in encoders.items()
        }
        row = {"tenant": tenant, "revision": record.get("revision", 1), **values}
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" for _ in row)
        with apsw.Connection(self._path) as connection:
            text = f'INSERT OR REPLACE INTO "{collection.name}" ({names}) VALUES ({marks})'
            connection.execute(text, tuple(row.values()))

    def peek(self, collection: Collection, tenant: str) -> list[dict[str, Any]]:
        connection = apsw.Connection(self._path)
        names = [
            column[1] for column in connection.execute(f'PRAGMA table_info("{collection.name}")')
        ]
        text = f'SELECT * FROM "{collection.name}" WHERE tenant = ?'
        rows = connection.execute(text, (tenant,)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def url(self) -> str:
        return self._path

    def restore(self, target: str, clock: Clock) -> Driver:
        return SqliteDriver(target, clock)
