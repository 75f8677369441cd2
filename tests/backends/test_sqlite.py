"""The SQLite engine under the whole suite."""

from pathlib import Path

import pytest

from holdfast.testing import Harness
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.suite import *  # noqa: F403


<<<<<<< HEAD
=======
class SqliteHarness(Harness):
    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = str(path / "suite.db")

    def open(self, clock: Clock) -> Driver:
        return SqliteDriver(self._path, clock)

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


>>>>>>> cf84647 (Prove instants, secrets, ten thousand foreign rows, claimers in two processes, and an access that beats the sweep)
@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return SqliteHarness(tmp_path)
