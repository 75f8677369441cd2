"""The write-ahead log: who moves it into the file, and what keeps it short."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import SqliteDriver, checkpointer
from holdfast.backends.sqlite.checkpointer import Checkpointer
from holdfast.backends.sqlite.connection import Connection, ConnectionPool
from holdfast.storage import Storage

PAGES = 50
VALUE = "x" * 20_000
PAGE_BYTES = 4_120


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent.db")


@pytest.fixture
def storage(path: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """A store with an empty log, of which so many pages are long."""
    with holdfast.open(path, durability="normal", embedder=None) as opened:
        pool_of(opened).writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        monkeypatch.setattr(checkpointer, "CHECKPOINT_PAGES", PAGES)
        monkeypatch.setattr(checkpointer, "RESTART_PAGES", 10 * PAGES)
        yield opened


def pool_of(storage: Storage) -> ConnectionPool:
    engine: Any = storage._driver
    while not isinstance(engine, SqliteDriver):
        engine = engine.below
    return engine._pool


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "holdfast-checkpoint"]


def log_pages(path: str) -> int:
    return os.path.getsize(f"{path}-wal") // PAGE_BYTES


def write(storage: Storage, commits: int) -> None:
    for number in range(commits):
        storage.kv.set(str(number % 10), VALUE)


def test_who_writes_a_little_starts_no_thread_and_who_goes_on_starts_one(
    path: str, storage: Storage
) -> None:
    write(storage, 12)
    assert log_pages(path) >= PAGES
    assert not threads()
    write(storage, 60)
    assert threads() == ["holdfast-checkpoint"]
    storage.close()
    assert not threads()
    assert not os.path.exists(f"{path}-wal")


def the_log_of_a_writer_that_never_pauses_begins_anew(path: str, storage: Storage) -> None:
    write(storage, 400)
    assert log_pages(path) < 12 * PAGES
    storage.close()
    with holdfast.open(path, embedder=None) as again:
        assert [again.kv.get(str(number)) for number in range(10)] == [VALUE] * 10


def test_the_log_of_a_writer_that_never_pauses_begins_anew(path: str, storage: Storage) -> None:
    the_log_of_a_writer_that_never_pauses_begins_anew(path, storage)


@pytest.mark.parametrize("busy", [True, False])
def test_a_thread_that_never_comes_back_does_not_keep_the_log_growing(
    path: str, storage: Storage, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """Nor does one that cannot open the file; then a commit moves it at the limit."""

    def refuse(*_: object) -> Any:
        if busy:
            pool_of(storage).checkpointer._idle.clear()
        raise apsw.CantOpenError

    monkeypatch.setattr(pool_of(storage).checkpointer, "_connect", refuse)
    the_log_of_a_writer_that_never_pauses_begins_anew(path, storage)


def test_where_no_thread_is_to_be_had_commits_move_the_log(
    path: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    write(storage, 400)
    assert log_pages(path) < 2 * PAGES


def never(*_: object) -> None:
    """Moves nothing."""


def test_a_log_that_nobody_moves_is_caught(
    path: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_move", "_restart"):
        monkeypatch.setattr(Checkpointer, name, never)
    with pytest.raises(AssertionError):
        the_log_of_a_writer_that_never_pauses_begins_anew(path, storage)


def test_the_last_part_is_left_to_a_commit(
    path: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saboteur: commits leave it all to the thread, which is behind at each of them."""
    monkeypatch.setattr(checkpointer, "RESTART_PAGES", 1_000_000)
    pool = pool_of(storage)
    moved_by: list[str] = []
    move = Checkpointer._move

    def spy(self: Checkpointer, connection: apsw.Connection) -> None:
        moved_by.append(threading.current_thread().name)
        move(self, connection)
        if "checkpoint" in moved_by[-1]:  # the writer has gone on meanwhile
            self._moved_pages -= 1

    monkeypatch.setattr(Checkpointer, "_move", spy)
    for number in range(100):
        storage.kv.set(str(number % 10), VALUE)
        pool.checkpointer.wait()
    assert len(set(moved_by)) == 2
    assert log_pages(path) < 2 * PAGES


@pytest.mark.parametrize("watched", [True, False])
def test_a_reader_who_stayed_leaves_a_log_that_begins_anew_soon(
    path: str, storage: Storage, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    reader = storage.connection()
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchall()
    monkeypatch.setattr(checkpointer, "RESTART_WAIT_MS", 1)
    write(storage, 250)
    reader.close()
    if not watched:
        monkeypatch.setattr(checkpointer, "RESTART_PAGES", 1_000_000)
    pool_of(storage).checkpointer.wait()
    write(storage, 3)
    pages, _ = pool_of(storage).writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    assert (pages < PAGES) is watched


def test_a_failed_move_fails_no_commit(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise apsw.IOError("disk I/O error")

    monkeypatch.setattr(Connection, "wal_checkpoint", fail)
    write(storage, 100)
    assert storage.kv.get("9") == VALUE


def test_a_vacuum_waits_for_who_moves_the_log(storage: Storage, path: str) -> None:
    write(storage, 100)
    pool = pool_of(storage)
    pool.checkpointer.wait()
    pool.checkpointer._idle.clear()
    done = threading.Event()

    def vacuum() -> None:
        storage._driver.maintain("vacuum")
        done.set()

    waiting = threading.Thread(target=vacuum)
    waiting.start()
    assert not done.wait(0.05)
    pool.checkpointer._idle.set()
    waiting.join()
    assert log_pages(path) == 0
