"""What else in this process has the file open: refused before, and noticed after."""

from __future__ import annotations

import io
import os
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import guard
from holdfast.core.errors import Forbidden


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "agent.db")
    with holdfast.open(path) as storage:
        storage.kv.set("k", 1)
    if not guard._descriptors(guard.identity("/dev/null")) and not Path("/dev/fd").exists():
        pytest.skip("this system does not list a process's descriptors")
    return path


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every commit, so that no case waits for a second."""
    if not Path("/proc/self/fdinfo").exists():
        pytest.skip("this system does not show the locks of a file")
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.0)


def attach(path: str) -> None:
    """What tells nobody which file it opens; its close takes all locks of the process along."""
    connection = sqlite3.connect(":memory:")
    connection.execute("ATTACH ? AS other", (path,))
    connection.execute("SELECT count(*) FROM other.entries").fetchall()
    connection.close()


def read_bytes(path: str) -> None:
    Path(path).read_bytes()


@pytest.mark.parametrize("opened", [sqlite3.connect, partial(io.open, mode="rb")])
def test_a_file_that_is_open_by_other_means_is_not_opened(
    path: str, opened: Callable[[str], Any]
) -> None:
    other = opened(path)
    with pytest.raises(Forbidden, match="by other means"):
        holdfast.open(path)
    other.close()
    with holdfast.open(path) as storage:
        assert storage.kv.get("k") == 1


def test_a_connection_of_the_same_library_may_be_open(path: str) -> None:
    ours = apsw.Connection(path)
    attached = apsw.Connection(":memory:")
    attached.execute("ATTACH ? AS other", (path,))
    with holdfast.open(path) as storage:
        given = storage.connection()
    ours.close()
    attached.close()
    with holdfast.open(path) as storage:
        storage.kv.set("k", 2)
    given.close()


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("break_locks", [attach, read_bytes])
def test_broken_locks_are_noticed_and_nothing_is_written_after(
    path: str, break_locks: Callable[[str], None]
) -> None:
    os.unlink(path)  # as at a file's first opening
    storage = holdfast.open(path)
    storage.kv.set("k", 2)
    break_locks(path)
    for _ in range(2):
        with pytest.raises(Forbidden, match="broke holdfast's locks"):
            storage.kv.set("k", 3)
    storage.close()
    with holdfast.open(path) as storage:
        assert storage.kv.get("k") == 2
        storage.kv.set("k", 4)


@pytest.mark.usefixtures("looking")
def test_connections_that_come_and_go_are_not_taken_for_broken_locks(path: str) -> None:
    storage = holdfast.open(path)
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                with holdfast.open(path) as other:
                    given = other.connection()
                    other.kv.set(f"k{number}", turn)
                    given.close()
                storage.kv.set(f"own{number}", turn)
        except Exception as error:  # noqa: BLE001 - whatever it is, the case has failed
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    storage._driver.below._pool.reopen_writer()  # type: ignore[attr-defined]
    storage.kv.set("k", 5)
    storage.close()
    assert not failures


@pytest.mark.usefixtures("looking")
def test_where_nothing_can_be_told_nothing_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(24, "no descriptor left")

    storage = holdfast.open(path)
    monkeypatch.setattr(guard.Locks, "_find", fail)
    monkeypatch.setattr(guard.Locks, "_shows_lock", fail)
    storage.kv.set("k", 2)
    storage.close()
    with holdfast.open(path) as storage:
        storage.kv.set("k", 3)


@pytest.mark.usefixtures("looking")
def test_saboteurs_of_the_guard_are_caught(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look before, the file is opened; without one after, the write is acknowledged."""
    monkeypatch.setattr(guard, "check_alone", lambda _: None)
    monkeypatch.setattr(guard.Locks, "check", lambda _: None)
    other = sqlite3.connect(path)
    storage = holdfast.open(path)
    other.execute("SELECT count(*) FROM entries").fetchall()
    other.close()
    storage.kv.set("k", 3)
    storage.close()
