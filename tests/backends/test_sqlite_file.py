"""What only a file can suffer: other libraries, damage, newer formats, other people's eyes."""

import hashlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import SqliteDriver, connection, maintenance
from holdfast.backends.sqlite.header import check_header
from holdfast.backends.sqlite.maintenance import restore, salvage
from holdfast.core.change import ABSENT, Edit, Patch, Put
from holdfast.core.collection import Collection, Field
from holdfast.core.errors import (
    Busy,
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    ReadOnly,
    SchemaNewer,
    StorageFull,
)
from holdfast.storage import all_collections


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent.db")


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def run(code: str, *arguments: str) -> str:
    """Run code in another process, where no handle of ours is open."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


WRITE_NOW = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
    print("wrote")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_sqlite3_in_this_process_is_refused_with_a_way_out(path: str) -> None:
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
        for name in (path, f"file:{path}?mode=ro", os.path.relpath(path), path.encode()):
            with pytest.raises(Forbidden, match=r"storage\.connection\(\)"):
                sqlite3.connect(name, uri=isinstance(name, str) and name.startswith("file:"))
        native = storage.connection()
        assert native.execute("SELECT key FROM entries").fetchall() == [("k",)]
        with pytest.raises(apsw.ReadOnlyError):
            native.execute("DELETE FROM entries")
        native.close()
    sqlite3.connect(path).close()


def test_without_the_guard_another_process_writes_in_our_transaction(path: str) -> None:
    """The damage that the guard prevents: this is why it must stay."""
    with apsw.Connection(path) as made:
        made.execute("PRAGMA journal_mode=DELETE; CREATE TABLE t (a)").fetchall()
    made.close()
    ours = apsw.Connection(path)
    ours.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)").fetchall()
    assert "locked" in run(WRITE_NOW, path)
    sqlite3.connect(path).execute("SELECT 1 FROM t").connection.close()
    assert run(WRITE_NOW, path) == "wrote"
    ours.close()


def test_another_process_may_open_the_file_freely(path: str) -> None:
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
        select = "execute('SELECT key FROM entries').fetchall()"
        read = f"import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).{select})"
        assert run(read, path) == "[('k',)]"


def test_a_newer_format_is_refused_without_writing_a_byte(path: str) -> None:
    holdfast.open(path).close()
    with apsw.Connection(path) as connection:
        connection.execute("PRAGMA user_version=99").fetchall()
    connection.close()
    before = digest(path)
    with pytest.raises(SchemaNewer, match="format 99"):
        holdfast.open(path)
    assert digest(path) == before


def test_another_programs_database_is_left_alone(path: str) -> None:
    with apsw.Connection(path) as connection:
        connection.execute("CREATE TABLE theirs (a)").fetchall()
    connection.close()
    before = digest(path)
    with pytest.raises(Corrupt, match="another program"):
        holdfast.open(path)
    assert digest(path) == before


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 100, b"x"])
def test_a_file_that_is_no_database_is_corrupt_and_left_alone(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(Corrupt):
        holdfast.open(path)
    assert Path(path).read_bytes() == content


def test_damaged_pages_are_corrupt_never_empty_and_salvage_counts(path: str) -> None:
    with holdfast.open(path) as storage:
        for n in range(400):
            storage.kv.set(f"k{n}", "v" * 200)
    data, chance = bytearray(Path(path).read_bytes()), random.Random(7)
    for page in range(len(data) // 4096 * 9 // 10, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = chance.randbytes(64)
    Path(path).write_bytes(data)
    found = salvage(path)
    assert not found.ok
    assert sum(found.counts.values()) > 0
    with pytest.raises(Corrupt), holdfast.open(path) as storage:
        storage.kv.list(limit=1000)


def test_a_file_that_was_cut_off_is_corrupt_and_salvage_counts_what_is_left(path: str) -> None:
    with holdfast.open(path) as storage:
        for n in range(400):
            storage.kv.set(f"k{n}", "v" * 200)
    os.truncate(path, os.path.getsize(path) // 4096 * 9 // 10 * 4096)
    with pytest.raises(Corrupt), holdfast.open(path) as storage:
        storage.kv.list(limit=1000)
    found = salvage(path)
    assert not found.ok
    assert 0 < found.counts["entries"] < 400


def test_the_file_is_readable_by_its_owner_alone(path: str) -> None:
    previous = os.umask(0)
    try:
        with holdfast.open(path) as storage:
            storage.kv.set("k", 1)
            for name in (path, f"{path}-wal", f"{path}-shm"):
                assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    finally:
        os.umask(previous)


def modes_while_copied(path: str, folder: Path) -> set[tuple[str, int]]:
    """What other people could read of a copy and of what lies beside it, at any moment."""
    seen: set[tuple[str, int]] = set()
    target = folder / "copy.db"

    def look() -> bool:
        modes = [(each.name, stat.S_IMODE(each.stat().st_mode)) for each in folder.glob("copy*")]
        seen.update(modes)
        return False

    previous = os.umask(0)
    source = apsw.Connection(path)
    try:
        (folder / "copy.db.partial").write_bytes(b"of a copy that was killed")
        source.set_progress_handler(look, 50)
        maintenance.backup(source, str(target))
        look()
    finally:
        source.close()
        os.umask(previous)
    return seen


def test_a_copy_is_readable_by_its_owner_alone_from_its_first_byte(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holdfast.open(path) as storage:
        for n in range(100):
            storage.kv.set(f"k{n}", "v" * 9_000)
    seen = modes_while_copied(path, tmp_path)
    assert {mode for _, mode in seen} == {0o600}
    assert {name for name, _ in seen} >= {"copy.db", "copy.db.partial"}
    # The saboteur leaves it to SQLite to make the file, which gives it the mode of the umask.
    (tmp_path / "copy.db").unlink()
    monkeypatch.setattr(maintenance, "create", lambda _: None)
    assert ("copy.db.partial", 0o644) in modes_while_copied(path, tmp_path)


def test_a_backup_restores_and_refuses_to_overwrite(path: str, tmp_path: Path) -> None:
    with holdfast.open(path) as storage:
        storage.kv.set("k", {"a": [1]})
        copy, again = str(tmp_path / "copy.db"), str(tmp_path / "again.db")
        assert storage.backup(copy).counts["bytes"] > 0
        with pytest.raises(Conflict):
            storage.backup(copy)
        with pytest.raises(Invalid):
            storage.backup(str(tmp_path / "missing" / "copy.db"))
    assert restore(copy, again).ok
    with holdfast.open(again) as storage:
        assert storage.kv.get("k") == {"a": [1]}
    with pytest.raises(Conflict):
        restore(copy, again)


def test_a_damaged_backup_is_not_restored(path: str, tmp_path: Path) -> None:
    with holdfast.open(path) as storage:
        for n in range(300):
            storage.kv.set(f"k{n}", "v" * 300)
        copy = tmp_path / "copy.db"
        storage.backup(str(copy))
    data = bytearray(copy.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 512] = bytes(512)
    copy.write_bytes(data)
    with pytest.raises(Corrupt):
        restore(str(copy), str(tmp_path / "again.db"))
    assert not (tmp_path / "again.db").exists()


def test_options_are_checked_by_name(path: str) -> None:
    with pytest.raises(Invalid, match="durability"):
        holdfast.open(path, durability="off")  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="busy_seconds"):
        holdfast.open(path, busy_seconds=-1)
    with pytest.raises(Invalid, match="durability"):
        holdfast.open("memory:", durability="full")
    with pytest.raises(Invalid, match="installed scheme"):
        holdfast.open("oracle://x")
    assert not os.path.exists(path)


def test_a_writer_that_waits_too_long_says_busy_and_writes_nothing(path: str) -> None:
    with holdfast.open(path, busy_seconds=0.1) as storage:
        storage.kv.set("k", 1)
        other = SqliteDriver(path)
        blocker = other._pool.writer
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy):
            storage.kv.set("k", 2)
        blocker.execute("ROLLBACK")
        assert storage.kv.get("k") == 1
        storage.kv.set("k", 3)
        other.close()


def test_normal_durability_shows_in_health(path: str) -> None:
    with holdfast.open(path, durability="normal") as storage:
        assert storage.health().facts["durability"] == "normal"


def test_a_fresh_schema_equals_a_migrated_one(path: str, tmp_path: Path) -> None:
    from holdfast.testing.shapes import EDITION_1, EDITION_2

    fresh, migrated = SqliteDriver(path), SqliteDriver(str(tmp_path / "migrated.db"))
    fresh.setup([EDITION_2])
    migrated.setup([EDITION_1])
    migrated.setup([EDITION_2])

    def columns(driver: SqliteDriver) -> set[tuple[object, ...]]:
        found = driver.native().execute(f'PRAGMA table_info("{EDITION_2.name}")').fetchall()
        return {(name, kind, required) for _, name, kind, required, _, _ in found}

    def objects(driver: SqliteDriver) -> set[tuple[object, ...]]:
        text = "SELECT type, name, tbl_name FROM sqlite_schema"
        return set(driver.native().execute(text).fetchall())

    assert columns(fresh) == columns(migrated)
    assert objects(fresh) == objects(migrated)
    fresh.close()
    migrated.close()


def test_text_that_is_no_text_is_corrupt_and_no_other_error(path: str) -> None:
    with holdfast.open(path) as storage:
        conversation = storage.conversations.create().id
        storage.conversations.append(conversation, "whole")
    with apsw.Connection(path) as damaging:
        damaging.execute("UPDATE messages SET text = CAST(x'e328' AS TEXT)")
    damaging.close()
    driver = SqliteDriver(path)
    with holdfast.open(path) as storage:
        driver.setup(all_collections())
        with pytest.raises(Corrupt):
            storage.conversations.messages.recent(conversation)
        with pytest.raises(Corrupt):
            driver.maintain("integrity")
        with pytest.raises(Corrupt):
            storage.conversations.search("whole")
    driver.close()


def test_a_damaged_schema_is_corrupt_and_no_other_error(path: str) -> None:
    holdfast.open(path).close()
    with apsw.Connection(path) as damaging:
        damaging.execute("UPDATE holdfast_collections SET shape = '{' WHERE name = 'entries'")
    damaging.close()
    with pytest.raises(Corrupt):
        holdfast.open(path)


MAKE = "import holdfast, sys; holdfast.open(sys.argv[1]).close()"


def test_a_file_that_another_process_makes_meanwhile_is_not_foreign(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entering = apsw.Connection(path)
    assert entering.pragma("journal_mode", "wal") == "wal"
    entering.close()
    made: list[str] = []

    class Slow(apsw.Connection):
        """Lets the other process in between two looks at the header."""

        def pragma(self, name: str, *arguments: Any, **options: Any) -> Any:
            found = super().pragma(name, *arguments, **options)
            if name == "application_id" and not made:
                made.append(run(MAKE, path))
            return found

    monkeypatch.setattr(apsw, "Connection", Slow)
    check_header(path)
    assert made == [""]


def test_a_crash_while_the_file_was_made_does_not_lock_it_out(path: str) -> None:
    making = apsw.Connection(path)
    making.execute("PRAGMA journal_mode=WAL")
    making.close()
    # The journal's header as SQLite syncs it: no record yet, no page before, sectors, page size.
    numbers = (0, 0x1234, 0, 512, 4096)
    head = bytes.fromhex("d9d505f920a163d7") + b"".join(n.to_bytes(4, "big") for n in numbers)
    Path(f"{path}-journal").write_bytes(head.ljust(512, b"\0"))
    with pytest.raises(apsw.ReadOnlyError):
        apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY).pragma("user_version")
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
        assert storage.kv.get("k") == 1


def test_a_crash_while_a_copy_entered_wal_does_not_lock_it_out(path: str, tmp_path: Path) -> None:
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
        copy = str(tmp_path / "copy.db")
        storage.backup(copy)
    entering = apsw.Connection(copy)
    entering.execute("BEGIN IMMEDIATE; PRAGMA user_version=1")
    entering.cache_flush()
    left = {name: Path(name).read_bytes() for name in (copy, f"{copy}-journal")}
    entering.close()
    assert left[f"{copy}-journal"]
    for name, data in left.items():
        Path(name).write_bytes(data)
    with holdfast.open(copy) as storage:
        assert storage.kv.get("k") == 1


def test_another_programs_unfinished_write_is_left_alone(path: str) -> None:
    other = apsw.Connection(path)
    other.execute("CREATE TABLE theirs (a); BEGIN; INSERT INTO theirs VALUES (1)")
    other.cache_flush()
    left = {name: Path(name).read_bytes() for name in (path, f"{path}-journal")}
    other.close()
    assert left[f"{path}-journal"]
    for name, data in left.items():
        Path(name).write_bytes(data)
    with pytest.raises(ReadOnly):
        holdfast.open(path)
    assert {name: Path(name).read_bytes() for name in left} == left


class OverlappingReaders:
    """Two readers of whom one is always reading what was before the last commit."""

    def __init__(self, path: str) -> None:
        self._ending, self._beginning = apsw.Connection(path), apsw.Connection(path)
        self._begin(self._ending)

    def _begin(self, reader: apsw.Connection) -> None:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchall()

    def hand_over(self) -> None:
        self._begin(self._beginning)
        self._ending.execute("COMMIT")
        self._ending, self._beginning = self._beginning, self._ending

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        over = threading.Event()

        def go_on() -> None:
            while not over.wait(timeout=0.001):
                self.hand_over()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        self._ending.close()
        self._beginning.close()


@pytest.mark.parametrize("bounded", [True, False])
def test_readers_that_always_overlap_do_not_keep_the_log_growing(
    path: str, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    monkeypatch.setattr(connection, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(connection, "RESTART_PAGES", 200 if bounded else 1_000_000)
    monkeypatch.setattr(connection, "RESTART_WAIT_MS", 60_000)  # however late the thread gets on
    holdfast.open(path).close()
    readers, move = OverlappingReaders(path), connection.Connection.wal_checkpoint

    def beside_readers(self: connection.Connection, **given: Any) -> Any:
        if given["mode"] == apsw.SQLITE_CHECKPOINT_PASSIVE:
            return move(self, **given)
        with readers.handing_over():
            return move(self, **given)

    monkeypatch.setattr(connection.Connection, "wal_checkpoint", beside_readers)
    with holdfast.open(path) as storage:
        sizes = []
        for n in range(120):
            storage.kv.set(str(n % 10), "x" * 40_000)
            sizes.append(os.path.getsize(f"{path}-wal"))
            readers.hand_over()
    readers.close()
    assert (max(sizes) < 400 * 4096) is bounded


@pytest.mark.parametrize("saboteur", [False, True])
def test_beside_a_reader_who_stays_few_commits_move_the_log_and_when_it_goes_one_does(
    path: str, monkeypatch: pytest.MonkeyPatch, saboteur: bool
) -> None:
    monkeypatch.setattr(connection, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(connection, "RESTART_PAGES", 400)
    if saboteur:
        monkeypatch.setattr(connection, "GROWN_SHARE", 1_000_000)
    tries, move = [], connection.Connection.wal_checkpoint

    def counted(self: connection.Connection, **given: Any) -> Any:
        tries.append(given)
        return move(self, **given)

    monkeypatch.setattr(connection.Connection, "wal_checkpoint", counted)
    with holdfast.open(path) as storage:
        reader = storage.connection()
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchall()
        commits = 0
        while os.path.getsize(f"{path}-wal") < 300 * 4_120:
            storage.kv.set("reread", str(commits))
            commits += 1
        assert (len(tries) < commits // 4) is not saboteur
        reader.close()
        for n in range(commits):
            storage.kv.set("reread", str(n))
        assert os.path.getsize(f"{path}-wal") < 400 * 4_120


def test_a_group_that_loses_its_transaction_fails_whole_and_writes_nothing_after(path: str) -> None:
    """SQLite itself rolls everything back on a full disk, for one."""
    with holdfast.open(path) as storage:
        driver = SqliteDriver(path)
        driver.setup(all_collections())
        beside = holdfast.Storage(driver, storage.scope, storage._runtime)

        def lose(connection: apsw.Connection) -> None:
            connection.execute("ROLLBACK")
            raise apsw.FullError("database or disk is full")

        def grouped() -> None:
            with driver.group():
                beside.kv.set("before", 1)
                with pytest.raises(StorageFull):
                    driver._writer.run(lose)
                with pytest.raises(StorageFull):
                    beside.kv.set("after", 1)

        with pytest.raises(StorageFull):
            grouped()
        assert [storage.kv.get(key) for key in ("before", "after")] == [None, None]
        beside.kv.set("again", 1)
        assert storage.kv.get("again") == 1
        driver.close()


def test_fields_may_have_names_that_are_no_plain_ones(path: str) -> None:
    names = ("id", "order", "a b", "__mine", "größe", 'q"q')
    odd = Collection("odd", tuple(Field(name, "text") for name in names))
    driver = SqliteDriver(path)
    driver.setup((odd,))
    record = {name: f"of {name}" for name in names}
    driver.apply("ada", [Put("odd", record, ABSENT)])
    driver.apply("ada", [Put("odd", record), Patch("odd", ("of id",), Edit(set={"order": "x"}))])
    assert driver.get("ada", "odd", ("of id",)) == {**record, "order": "x", "revision": 3}
    driver.close()
