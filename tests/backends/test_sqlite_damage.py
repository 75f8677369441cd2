"""Damage to a file is told as damage: never as empty, as a wrong argument, as something to retry.

What each guard is for shows without it: a saboteur takes one away, and what it must not let pass
does pass.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import holdfast
from holdfast.backends.sqlite import header
from holdfast.backends.sqlite.maintenance import restore
from holdfast.core.errors import Corrupt


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
    log = Path(f"{path}-wal")
    log.write_bytes(b"what was acknowledged last" * 1_000)
    if saboteur:
        monkeypatch.setattr(header, "_LOG_HEAD_BYTES", 1_000_000)
        holdfast.open(path).close()
        assert not log.exists()
        return
    with pytest.raises(Corrupt, match="cut off or replaced"):
        holdfast.open(path)
    assert log.read_bytes() == b"what was acknowledged last" * 1_000
    assert Path(path).read_bytes() == b""


def test_an_empty_backup_is_not_restored(path: str, tmp_path: Path) -> None:
    Path(path).touch()
    with pytest.raises(Corrupt, match="empty"):
        restore(path, str(tmp_path / "again.db"))
    assert not (tmp_path / "again.db").exists()
