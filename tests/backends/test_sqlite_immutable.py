"""A store on a disk that cannot be written: read where the caller vouches that it stays so."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import SqliteDriver, connection
from holdfast.core.errors import Invalid, ReadOnly, Unavailable
from holdfast.storage import all_collections

IMMUTABLE = {"immutable": True}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A store that was closed."""
    path = str(tmp_path / "agent.db")
    with holdfast.open(path, options={"tail_rows": 1}) as storage:
        storage.kv.set("k", 1)
        storage.memory.remember_many(["a kayak trip", "tea with Ada"])
    return path


class ReadOnlyDisk(apsw.VFS):
    """Opens nothing for writing."""

    def __init__(self) -> None:
        super().__init__("read-only disk", "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        if flags[0] & (apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE):
            raise apsw.CantOpenError
        return apsw.VFSFile("", name, flags)


@pytest.fixture
def disk() -> Iterator[str]:
    vfs = ReadOnlyDisk()
    yield "read-only disk"
    vfs.unregister()


def test_a_closed_store_is_read_and_nothing_is_written(path: str) -> None:
    before = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    with holdfast.open(path, options=IMMUTABLE) as storage:
        assert storage.kv.get("k") == 1
        assert storage.memory.recall("kayak", k=1)[0].memory.content == "a kayak trip"
        assert storage.memory.hygiene.measure().live == 2
        assert storage.health().ok
        assert storage.connection().execute("SELECT count(*) FROM entries").get == 1
        for write in (lambda: storage.kv.set("k", 2), lambda: storage.memory.remember("more")):
            with pytest.raises(ReadOnly):
                write()
        assert storage.kv.get("k") == 1
        assert os.listdir(Path(path).parent) == ["agent.db"]
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == before


def test_what_cannot_be_opened_for_writing_is_read(path: str, disk: str) -> None:
    driver = SqliteDriver(path, vfs=disk, immutable=True)
    driver.setup(all_collections())
    assert driver.get("default", "entries", ("", "", "", "k")) is not None
    driver.close()
    with pytest.raises(Unavailable, match="immutable"):  # which the message names as a way out
        SqliteDriver(path, vfs=disk)


def unclosed(path: str, tmp_path: Path) -> str:
    """The copy of a store in use, as a snapshot of its disk would hold it."""
    copy = tmp_path / "copy"
    copy.mkdir()
    with holdfast.open(path) as storage:
        storage.kv.set("last", 1)
        for name in ("agent.db", "agent.db-wal"):
            shutil.copy(tmp_path / name, copy / name)
    return str(copy / "agent.db")


def test_a_store_that_was_not_closed_is_refused_until_it_is(path: str, tmp_path: Path) -> None:
    copy = unclosed(path, tmp_path)
    with pytest.raises(Unavailable, match="was not closed"):
        holdfast.open(copy, options=IMMUTABLE)
    holdfast.open(copy).close()
    with holdfast.open(copy, options=IMMUTABLE) as storage:
        assert storage.kv.get("last") == 1


def test_saboteur_that_takes_any_file_misses_what_is_in_the_log(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "check_whole", lambda _: None)
    with holdfast.open(unclosed(path, tmp_path), options=IMMUTABLE) as storage:
        assert storage.kv.get("last") is None


def test_only_a_store_that_is_there_is_immutable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no file"):
        holdfast.open(str(tmp_path / "none.db"), options=IMMUTABLE)
    with pytest.raises(Invalid, match="immutable"):
        holdfast.open(str(tmp_path / "none.db"), options={"immutable": "yes"})
    assert os.listdir(tmp_path) == []
