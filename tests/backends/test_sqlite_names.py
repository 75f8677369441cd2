"""Several names of one file: each would have a log of its own, so only one may be in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.backends.sqlite import guard
from holdfast.core.errors import Forbidden


@pytest.fixture
def names(tmp_path: Path) -> tuple[str, str]:
    """A store with a hard link to it in another folder, as a backup tool makes one."""
    path, link = str(tmp_path / "agent.db"), str(tmp_path / "kept" / "agent.db")
    with holdfast.open(path) as storage:
        storage.kv.set("first", 1)
    os.mkdir(tmp_path / "kept")
    os.link(path, link)
    return path, link


def written_elsewhere(path: str) -> str:
    """What another process says that writes to the store."""
    code = (
        "import holdfast, sys\n"
        "from holdfast.core.errors import Forbidden\n"
        "try:\n"
        "    with holdfast.open(sys.argv[1]) as storage:\n"
        "        storage.kv.set('elsewhere', 1)\n"
        "    print('written')\n"
        "except Forbidden:\n"
        "    print('refused')\n"
    )
    command = [sys.executable, "-c", code, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_file_is_opened_by_one_of_its_names_at_a_time(names: tuple[str, str]) -> None:
    path, link = names
    with holdfast.open(path) as storage:
        storage.kv.set("one", 1)
        with pytest.raises(Forbidden, match="another name"):
            holdfast.open(link)
        assert not os.path.exists(f"{link}-wal")
        with holdfast.open(path) as same:
            assert same.kv.get("one") == 1
    with holdfast.open(link) as storage:
        assert storage.kv.get("one") == 1
        with pytest.raises(Forbidden, match="another name"):
            holdfast.open(path)


@pytest.mark.skipif(sys.platform == "win32", reason="without POSIX locks nobody can tell")
def test_a_name_that_another_process_does_not_use_is_refused_to_it(names: tuple[str, str]) -> None:
    path, link = names
    with holdfast.open(path) as storage:
        storage.kv.set("one", 1)
        assert written_elsewhere(link) == "refused"
        assert written_elsewhere(path) == "written"
        assert storage.kv.get("elsewhere") == 1
    assert written_elsewhere(link) == "written"


def test_the_same_name_may_be_written_in_several_ways(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = names
    folder = Path(path).parent
    os.symlink(path, folder / "link.db")
    os.symlink(folder, folder / "folder")
    monkeypatch.chdir(folder)
    with holdfast.open(path) as storage:
        for same in ("agent.db", "link.db", "folder/agent.db", "./folder/../agent.db"):
            with holdfast.open(same) as other:
                other.kv.set(same, 1)
            assert storage.kv.get(same) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be renamed there")
def test_a_file_that_was_renamed_has_one_name(tmp_path: Path) -> None:
    path, newer = str(tmp_path / "agent.db"), str(tmp_path / "newer.db")
    with holdfast.open(path) as storage:
        storage.kv.set("first", 1)
        for end in ("", "-wal", "-shm"):
            os.rename(f"{path}{end}", f"{newer}{end}")
        with holdfast.open(newer) as other:
            assert other.kv.get("first") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="without POSIX locks nobody can tell")
def test_saboteur_of_the_names_loses_what_was_acknowledged(
    names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = names
    with holdfast.open(link) as storage:
        storage.kv.set("one", 1)
        monkeypatch.setattr(guard, "check_name", lambda _: None)
        unguarded = (
            "import holdfast, sys; from holdfast.backends.sqlite import guard\n"
            "guard.check_name = lambda _: None\n"
            "with holdfast.open(sys.argv[1]) as storage:\n"
            "    storage.kv.set('other', 1)\n"
        )
        subprocess.run([sys.executable, "-c", unguarded, path], check=True)
    with holdfast.open(path) as storage:
        assert None in (storage.kv.get("one"), storage.kv.get("other"))
