"""Damage to a file is told as damage: never as empty, as a wrong argument, as something to retry.

What each guard is for shows without it: a saboteur takes one away, and what it must not let pass
does pass.
"""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import SqliteDriver, connection, driver, errors, log, schema
from holdfast.backends.sqlite.maintenance import restore, salvage
from holdfast.core.collection import Collection, Field, Unique
from holdfast.core.errors import Corrupt, Invalid, SchemaNewer


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent.db")


def test_a_file_without_a_byte_is_filled_where_one_is_made(path: str) -> None:
    Path(path).touch()
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
        assert storage.kv.get("k") == 1


@pytest.mark.parametrize("saboteur", [False, True])
def test_a_file_cut_to_nothing_keeps_its_log(
    path: str, monkeypatch: pytest.MonkeyPatch, saboteur: bool
) -> None:
    Path(path).touch()
    left = Path(f"{path}-wal")
    left.write_bytes(b"what was acknowledged last" * 1_000)
    if saboteur:
        monkeypatch.setattr(log, "HEAD_BYTES", 1_000_000)
        holdfast.open(path).close()
        assert not left.exists()
        return
    with pytest.raises(Corrupt, match="cut off or replaced"):
        holdfast.open(path)
    assert left.read_bytes() == b"what was acknowledged last" * 1_000
    assert Path(path).read_bytes() == b""


def test_an_empty_backup_is_not_restored(path: str, tmp_path: Path) -> None:
    Path(path).touch()
    with pytest.raises(Corrupt, match="empty"):
        restore(path, str(tmp_path / "again.db"))
    assert not (tmp_path / "again.db").exists()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with segments, to be copied."""
    path = tmp_path_factory.mktemp("damage") / "filled.db"
    with holdfast.open(path, options={"tail_rows": 20, "segment_rows": 500}) as storage:
        conversation = storage.conversations.create(key="k").id
        for number in range(40):
            storage.memory.remember(f"memory number {number} about tea")
            storage.conversations.append(conversation, f"message {number} printers")
        storage.sessions.create(label="l")
        storage._driver.maintain("reindex")
    return path


def planted(filled: Path, path: str, sql: str) -> None:
    shutil.copy(filled, path)
    with apsw.Connection(path) as damaging:
        damaging.execute(sql)
    damaging.close()


def first(table: str) -> str:
    return f"WHERE rowid = (SELECT min(rowid) FROM {table})"


def integrity(storage: holdfast.Storage) -> object:
    report = storage._driver.maintain("integrity")
    if not report.ok:
        raise Corrupt(report.findings[0])
    return report


def words(storage: holdfast.Storage) -> object:
    return storage.conversations.search("printers")


def stats(storage: holdfast.Storage) -> object:
    return storage.memory.stats()


PLANTED: dict[str, tuple[str, tuple[Callable[[holdfast.Storage], object], ...]]] = {
    "a torn vector": (
        f"UPDATE memories__embedding SET data = x'00' {first('memories__embedding')}",
        (integrity,),
    ),
    "a torn part of a segment": (
        f"UPDATE holdfast_segment_parts SET data = x'00' {first('holdfast_segment_parts')}",
        (words, integrity),
    ),
    "an empty part of a segment": (
        f"UPDATE holdfast_segment_parts SET data = x'' {first('holdfast_segment_parts')}",
        (words, integrity),
    ),
    "a segment's bounds": (
        f"UPDATE holdfast_segments SET high = 0 {first('holdfast_segments')}",
        (integrity,),
    ),
    "a segment's size": (
        f"UPDATE holdfast_segments SET rows = 9223372036854775807 {first('holdfast_segments')}",
        (integrity,),
    ),
    "a cover of no table": ("UPDATE holdfast_covers SET source = '{' || id", (integrity,)),
    "a time beyond the year 9999": (
        f"UPDATE memories SET updated_at = 9223372036854775807 {first('memories')}",
        (stats, integrity),
    ),
    "a table that is gone": ("DROP TABLE messages__terms", (words, integrity)),
}


@pytest.mark.parametrize("case", PLANTED)
def test_damage_is_corrupt_whoever_meets_it(filled: Path, path: str, case: str) -> None:
    sql, calls = PLANTED[case]
    planted(filled, path, sql)
    with holdfast.open(path) as storage:
        for call in calls:
            with pytest.raises(Corrupt):
                call(storage)


@pytest.mark.parametrize("case", ["a torn part of a segment", "an empty part of a segment"])
def test_without_the_guard_of_reads_damage_is_a_raw_error(
    filled: Path, path: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "READ_ERRORS", errors.ENGINE_ERRORS)
    sql, (call, *_) = PLANTED[case]
    planted(filled, path, sql)
    with holdfast.open(path) as storage, pytest.raises((ValueError, ZeroDivisionError)):
        call(storage)


NOTED = {
    "a kind": "SET shape = replace(shape, '\"text\"', '\"tezt\"') WHERE name = 'sessions'",
    "a field": "SET shape = replace(shape, '\"label\"', '\"labem\"') WHERE name = 'sessions'",
    "an index": "SET shape = replace(shape, '[\"state\"', '[\"label\"') WHERE name = 'tasks'",
    "a word": "SET shape = replace(shape, '\"key\":', '\"kez\":') WHERE name = 'sessions'",
    "no object": "SET shape = '9' WHERE name = 'sessions'",
    "a name": "SET name = 'factz' WHERE name = 'facts'",
}


@pytest.mark.parametrize("case", NOTED)
def test_a_damaged_note_of_a_shape_is_no_wrong_argument(filled: Path, path: str, case: str) -> None:
    planted(filled, path, f"UPDATE holdfast_collections {NOTED[case]}")
    with pytest.raises(Corrupt):
        holdfast.open(path)


def test_a_note_that_lost_its_value_is_corrupt(path: str) -> None:
    with pytest.raises(Corrupt), driver._Reading(cast("Any", _Lender()), None):
        schema._decode_shape(cast("Any", None))


class _Lender:
    """A pool of nothing."""

    def take(self) -> None: ...

    def give(self, _: object) -> None: ...


@pytest.mark.parametrize(
    "changed",
    [
        Collection("things", (Field("id", "text"), Field("at", "time"))),
        Collection(
            "things", (Field("id", "text"), Field("at", "int")), unique=(Unique("u", ("at",)),)
        ),
        Collection("things", (Field("id", "text"), Field("at", "int")), filtered=("at",)),
    ],
)
def test_a_declared_shape_that_changed_alone_is_a_wrong_argument(
    path: str, changed: Collection
) -> None:
    for collection in (Collection("things", (Field("id", "text"), Field("at", "int"))), changed):
        opened = SqliteDriver(path)
        if collection is changed:
            with pytest.raises(Invalid, match="Raise the collection's version"):
                opened.setup([collection])
        else:
            opened.setup([collection])
        opened.close()


NEWER = {
    "edition": ("UPDATE holdfast_collections SET version = 99 WHERE name = 'tasks'", "edition 99"),
    "analysis": ("UPDATE holdfast_collections SET analysis = 99", "text analysis 99"),
    "format": ("PRAGMA user_version=99", "format 99"),
}
KILLED = """
import apsw, os, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("PRAGMA wal_autocheckpoint=0")
connection.execute(sys.argv[2])
os._exit(9)
"""


def made_newer(filled: Path, path: str, left: str, sql: str) -> None:
    """By a writer that closed the file, by one that was killed, or in a copy that has no log."""
    shutil.copy(filled, path)
    if left == "killed":
        subprocess.run([sys.executable, "-c", KILLED, path, sql], check=False)
        return
    writer = apsw.Connection(path)
    if left == "copy":
        writer.execute("PRAGMA journal_mode=DELETE")
    writer.execute(sql)
    writer.close()


def files(path: str) -> dict[str, bytes]:
    found = {each.name: each.read_bytes() for each in Path(path).parent.iterdir()}
    return {name: data for name, data in found.items() if not name.endswith("-shm")}


@pytest.mark.parametrize("setup", [True, False])
@pytest.mark.parametrize("left", ["closed", "killed", "copy"])
@pytest.mark.parametrize("case", NEWER)
def test_a_newer_file_is_refused_as_it_lies(
    filled: Path, path: str, case: str, left: str, setup: bool
) -> None:
    sql, told = NEWER[case]
    made_newer(filled, path, left, sql)
    before = files(path)
    assert (len(before[f"{Path(path).name}-wal"]) > 0) if left == "killed" else len(before) == 1
    with pytest.raises(SchemaNewer, match=told):
        holdfast.open(path, setup=setup)
    assert files(path) == before
    if left != "killed":
        assert not Path(f"{path}-shm").exists()


@pytest.mark.parametrize("left", ["killed", "copy"])
def test_a_pool_that_does_not_look_first_changes_what_it_refuses(
    filled: Path, path: str, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    """The saboteur: one that enters the log at once, and takes it along when it closes."""

    def at_once(self: connection.ConnectionPool) -> connection.Connection:
        made = plain(self)
        self.writer = made
        self.settle()
        return made

    plain = connection.ConnectionPool._connect_writer
    monkeypatch.setattr(connection.ConnectionPool, "_connect_writer", at_once)
    made_newer(filled, path, left, NEWER["edition"][0])
    before = files(path)
    with pytest.raises(SchemaNewer):
        holdfast.open(path)
    assert files(path) != before


def test_a_header_without_a_format_is_damaged(filled: Path, path: str) -> None:
    planted(filled, path, "PRAGMA user_version=0")
    before = files(path)
    with pytest.raises(Corrupt, match="header is damaged"):
        holdfast.open(path)
    assert files(path) == before


def test_what_is_left_of_half_a_file_is_counted(filled: Path, path: str) -> None:
    data = filled.read_bytes()
    Path(path).write_bytes(data[: len(data) // 2 // 4096 * 4096])
    before = files(path)
    report = salvage(path)
    assert not report.ok
    assert sum(report.counts.values()) > 0
    assert files(path) == before


WRITES = 12
WRITER = f"""
import holdfast, os, sys
storage = holdfast.open(sys.argv[1])
for number in range({WRITES}):
    storage.kv.set(f"k{{number}}", "v" * 500)
os._exit(9)
"""
HOLDER = """
import holdfast, sys
storage = holdfast.open(sys.argv[1], durability="normal")
print("open", flush=True)
sys.stdin.read()
"""
Bend = Callable[[bytearray], None]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The file and the log of a writer that was killed."""
    path = tmp_path_factory.mktemp("damage") / "killed.db"
    holdfast.open(path).close()
    subprocess.run([sys.executable, "-c", WRITER, path], check=False)
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def left(path: str, killed: tuple[bytes, bytes], bend: Bend) -> bytes:
    file, data = killed
    damaged = bytearray(data)
    bend(damaged)
    Path(path).write_bytes(file)
    Path(f"{path}-wal").write_bytes(damaged)
    return bytes(damaged)


def bit(place: Callable[[bytearray], int]) -> Bend:
    def flip(data: bytearray) -> None:
        data[place(data)] ^= 1

    return flip


FRAME = 24 + 4096
DAMAGED: dict[str, Bend] = {
    "the header": bit(lambda data: 20),
    "a header of nothing": lambda data: data.__setitem__(slice(32), bytes(32)),
    "the beginning is gone": lambda data: data.__delitem__(slice(100)),
    "the first frame": bit(lambda data: 32 + 24 + 100),
    "a frame's salt": bit(lambda data: 32 + 2 * FRAME + 9),
    "a frame's checksum": bit(lambda data: 32 + 2 * FRAME + 17),
    "the middle": bit(lambda data: len(data) // 2),
}
TORN: dict[str, Bend] = {
    "nothing": lambda data: None,
    "the last commit": bit(lambda data: len(data) - 2_000),
    "half of the last frame": lambda data: data.__delitem__(slice(len(data) - 2_000, None)),
    "what an older log left": lambda data: data.extend(b"older" * 5_000),
}


def keys(storage: holdfast.Storage) -> int:
    return len(storage.kv.list(limit=100).items)


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_log_does_not_take_writes_along_silently(
    path: str, killed: tuple[bytes, bytes], case: str
) -> None:
    log_left = left(path, killed, DAMAGED[case])
    before = files(path)
    with pytest.raises(Corrupt, match="log of the file is damaged"):
        holdfast.open(path)
    assert files(path) == before
    with holdfast.open(path, durability="normal") as storage:
        assert keys(storage) < WRITES
        storage.kv.set("after", 1)
    kept = Path(f"{path}-wal.damaged")
    assert kept.read_bytes() == log_left
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with holdfast.open(path) as storage:
        assert storage.kv.get("after") == 1


@pytest.mark.parametrize("case", TORN)
def test_what_a_crash_leaves_behind_a_log_is_no_damage(
    path: str, killed: tuple[bytes, bytes], case: str
) -> None:
    left(path, killed, TORN[case])
    with holdfast.open(path) as storage:
        assert keys(storage) >= WRITES - 1


@pytest.mark.parametrize("commits", [1, 1_000_000])
def test_only_two_commits_behind_the_end_tell_damage_from_a_crash(
    path: str, killed: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """The saboteurs: one that takes a crash for damage, and one that takes damage for a crash."""
    monkeypatch.setattr(log, "COMMITS", commits)
    left(path, killed, TORN["the last commit"] if commits == 1 else DAMAGED["the middle"])
    if commits == 1:
        with pytest.raises(Corrupt):
            holdfast.open(path)
        return
    with holdfast.open(path) as storage:
        assert keys(storage) < WRITES - 1


@pytest.mark.skipif(sys.platform != "linux", reason="only here it is asked who has a file open")
def test_a_file_that_a_process_has_open_is_not_asked_for_its_log(
    path: str, killed: tuple[bytes, bytes]
) -> None:
    left(path, killed, DAMAGED["the middle"])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    with holdfast.open(path) as storage:
        assert keys(storage) < WRITES
    holder.communicate()
