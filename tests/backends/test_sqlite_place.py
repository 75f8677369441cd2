"""Where a file lies: places that hold none, and a file that goes away while it is open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import holdfast
from holdfast.backends.sqlite import connection, header
from holdfast.core.errors import Corrupt, HoldfastError, StorageFull, Unavailable


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "agent.db")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="folder"):
        holdfast.open(str(tmp_path / "no" / "such" / "agent.db"))
    os.symlink(tmp_path / "nowhere.db", tmp_path / "link.db")
    with pytest.raises(Unavailable, match="not there"):
        holdfast.open(str(tmp_path / "link.db"))
    assert sorted(os.listdir(tmp_path)) == ["link.db"]


def test_a_working_folder_that_was_removed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(Unavailable, match="folder"):
        holdfast.open("agent.db")


@pytest.mark.parametrize(
    ("error", "kind"),
    [(PermissionError(13, "no"), Unavailable), (OSError(28, "full"), StorageFull)],
)
def test_what_the_system_says_of_a_file_is_told_in_our_words(
    path: str, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[HoldfastError]
) -> None:
    def fail(_: str) -> None:
        raise error

    holdfast.open(path).close()
    monkeypatch.setattr(header, "_check_magic", fail)
    with pytest.raises(kind) as caught:
        holdfast.open(path)
    assert caught.value.__cause__ is error
    assert path not in str(caught.value)


def test_an_empty_database_that_another_program_has_numbered_is_left_alone(path: str) -> None:
    with apsw.Connection(path) as other:
        other.execute("PRAGMA user_version=3")
    other.close()
    before = Path(path).read_bytes()
    with pytest.raises(Corrupt, match="another program"):
        holdfast.open(path)
    assert Path(path).read_bytes() == before


def move_away(path: str) -> list[str]:
    """Move a file and its log to another folder; what it was."""
    folder = Path(path).parent / "elsewhere"
    folder.mkdir()
    names = [name for name in os.listdir(Path(path).parent) if name.startswith("agent.db")]
    for name in names:
        os.rename(Path(path).parent / name, folder / name)
    return names


def test_a_file_that_went_away_takes_no_writes_and_none_comes_in_its_place(path: str) -> None:
    with holdfast.open(path) as storage:
        storage.kv.set("kept", 1)
        names = move_away(path)
        calls: list[Callable[[], object]] = [
            lambda: storage.kv.set("lost", 1),
            lambda: storage.memory.remember("lost"),
            storage.connection,
        ]
        for call in calls:
            with pytest.raises(Unavailable, match="moved, deleted or replaced"):
                call()
        health = storage.health()
        assert not health.ok
        assert "moved, deleted or replaced" in health.reason
        assert not os.path.exists(path)
        for name in names:
            os.rename(Path(path).parent / "elsewhere" / name, Path(path).parent / name)
        storage.kv.set("back", 1)
    with holdfast.open(path) as storage:
        assert [storage.kv.get(key) for key in ("kept", "lost", "back")] == [1, None, 1]


def test_a_file_in_whose_place_another_came_takes_no_writes(path: str) -> None:
    other = str(Path(path).parent / "other.db")
    with holdfast.open(other) as storage:
        storage.kv.set("other", 1)
    with holdfast.open(path) as storage:
        storage.kv.set("kept", 1)
        move_away(path)
        os.rename(other, path)
        with pytest.raises(Unavailable, match="replaced"):
            storage.kv.set("lost", 1)
        with pytest.raises(Unavailable, match="replaced"):
            storage.connection()
        newer = holdfast.open(path)
        newer.kv.set("newer", 1)
    # What lies at the path now is not the handle's that was closed, nor is the log beside it.
    assert os.path.exists(f"{path}-wal")
    newer.kv.set("newest", 1)
    newer.close()
    with holdfast.open(path) as storage:
        held = [storage.kv.get(key) for key in ("other", "newer", "newest", "kept", "lost")]
        assert held == [1, 1, 1, None, None]


def test_saboteur_of_the_place_is_caught(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the look, a write to a deleted file is acknowledged, and lost."""
    monkeypatch.setattr(connection.ConnectionPool, "check_place", lambda _: None)
    with holdfast.open(path) as storage:
        storage.kv.set("kept", 1)
        for name in move_away(path):
            os.unlink(Path(path).parent / "elsewhere" / name)
        storage.kv.set("lost", 1)
    with holdfast.open(path) as storage:
        assert storage.kv.get("lost") is None
