"""The doctor tells what is wrong, what can be saved and what to do, and harms nothing."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.core.errors import Corrupt, Unavailable
from tests.cli.conftest import Shell


@pytest.fixture
def filled(shell: Shell) -> Shell:
    for number in range(60):
        shell.ok("kv", "set", f"k{number}", "value " * 400)
    return shell


def test_a_sound_store_is_said_to_be_sound(filled: Shell) -> None:
    report = filled.json("doctor", filled.store)
    assert report["ok"] is True
    assert report["records"]["entries"] == 60
    assert report["file"]["made_by"] == "holdfast"
    assert report["file"]["mode"] == "0o600"
    assert report["versions"]["sqlite"] == apsw.sqlite_lib_version()
    assert [copy["library"] for copy in report["sqlite_copies"]] == ["apsw", "sqlite3"]
    assert report["advice"] == ["Nothing is wrong."]
    text = filled.ok("doctor")
    assert "Nothing is wrong." in text
    assert "entries  60" in text


def test_without_a_store_it_looks_at_the_installation(shell: Shell) -> None:
    report = shell.json("doctor")
    assert report["ok"] is True
    assert "no store" in report["advice"][0]
    assert not Path(shell.store).exists()
    shell.refused(3, "doctor", str(shell.folder / "none.db"))


def test_a_damaged_store_is_only_read_and_its_rows_are_counted(filled: Shell) -> None:
    path = Path(filled.store)
    content = bytearray(path.read_bytes())
    middle = (len(content) // 4096 - 12) * 4096  # the last records, long after the schema
    content[middle : middle + 4 * 4096] = b"\xaa" * (4 * 4096)
    path.write_bytes(content)
    done = filled.run("doctor", "--json")
    assert done.exit_code == 1
    assert path.read_bytes() == bytes(content)
    report = json.loads(done.stdout)
    assert report["integrity"]["findings"]
    assert 0 < report["salvage"]["records"]["entries"] <= 60
    assert set(report["salvage"]["records"]) <= {"entries", "facts"}
    text = filled.run("doctor")
    assert text.exit_code == 1
    assert "holdfast restore BACKUP" in text.stdout
    assert "salvage" in text.stdout


@pytest.mark.parametrize("content", [b"not a database at all " * 400, b"SQLite format 3\x00" * 300])
def test_what_is_no_store_is_told(content: bytes, shell: Shell) -> None:
    path = Path(shell.store)
    path.write_bytes(content)
    done = shell.run("doctor")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert path.read_bytes() == content


def test_a_file_of_another_program_is_told(shell: Shell) -> None:
    with sqlite3.connect(shell.store) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    done = shell.run("doctor")
    assert done.exit_code == 1
    assert "another program" in done.stdout
    assert "restore" not in done.stdout


def test_a_newer_format_is_told_and_nothing_is_written(filled: Shell) -> None:
    path = Path(filled.store)
    content = bytearray(path.read_bytes())
    content[60:64] = (99).to_bytes(4, "big")
    path.write_bytes(content)
    done = filled.run("doctor")
    assert done.exit_code == 1
    assert "Upgrade holdfast" in done.stdout
    assert path.read_bytes() == bytes(content)


def test_a_store_of_a_newer_edition_is_not_called_damaged(filled: Shell) -> None:
    connection = apsw.Connection(filled.store)
    connection.execute("UPDATE holdfast_collections SET version = 99 WHERE name = 'entries'")
    connection.close()
    done = filled.run("doctor", "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert "salvage" not in report
    assert report["integrity"]["findings"]


def test_a_record_that_does_not_decode_is_found(filled: Shell) -> None:
    connection = apsw.Connection(filled.store)
    connection.execute("UPDATE entries SET value = '{' WHERE key = 'k1'")
    connection.close()
    done = filled.run("doctor")
    assert done.exit_code == 1
    assert "see findings" in done.stdout


READING = (
    ("memory", "list"),
    ("recall", "tea"),
    ("kv", "get", "k"),
    ("maintain", "integrity"),
    ("backup", "copy.db"),
)


@pytest.mark.parametrize("command", READING)
def test_what_reads_makes_no_store_of_a_file_without_a_byte(
    command: tuple[str, ...], shell: Shell
) -> None:
    Path(shell.store).touch()
    assert "empty" in shell.refused(3, *command)
    assert Path(shell.store).read_bytes() == b""


def test_a_file_without_a_byte_is_not_said_to_be_sound(shell: Shell) -> None:
    path, log = Path(shell.store), Path(f"{shell.store}-wal")
    path.touch()
    for told in ("restore BACKUP", "Keep a copy of agent.db-wal"):
        done = shell.run("doctor")
        assert done.exit_code == 1
        assert told in done.stdout
        assert "Nothing is wrong" not in done.stdout
        assert path.read_bytes() == b""
        log.write_bytes(b"acknowledged" * 100)
    assert log.exists()


def test_without_the_look_at_its_size_a_listing_makes_an_empty_store(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The saboteur: this is why commands that read look."""
    Path(shell.store).touch()
    monkeypatch.setattr(sys.modules["holdfast.cli.command"], "is_empty", lambda path: False)
    assert shell.ok("memory", "list") == ""
    assert Path(shell.store).stat().st_size > 0


@pytest.mark.parametrize("error", [KeyError(1), Corrupt("torn"), Unavailable("The disk refuses.")])
def test_whatever_a_check_ends_in_nothing_is_said_to_be_sound(
    filled: Shell, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(path: str) -> None:
        raise error

    monkeypatch.setattr(sys.modules["holdfast.cli.doctor"], "integrity", fail)
    report = json.loads(filled.run("doctor", "--json").stdout)
    assert report["ok"] is False
    assert report["integrity"]["findings"]
    assert "Nothing is wrong." not in report["advice"]
    assert ("salvage" in report) is not isinstance(error, Unavailable)


def test_a_record_that_no_store_can_build_is_found_and_named(filled: Shell) -> None:
    filled.ok("remember", "Ada drinks tea")
    told = filled.ok("memory", "list", "-q").split()
    with apsw.Connection(filled.store) as connection:
        connection.execute("UPDATE memories SET metadata = '5' WHERE id = ?", (told[0],)).fetchall()
    connection.close()
    assert f"metadata: {told[0]}" in filled.refused(1, "memory", "list")
    done = filled.run("doctor", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"]) == (1, False)
    assert any("metadata" in text and told[0] in text for text in report["integrity"]["findings"])


def test_of_a_damaged_log_the_way_on_is_told(filled: Shell) -> None:
    log = Path(f"{filled.store}-wal")
    log.write_bytes(b"no log" * 1_000)
    done = filled.run("doctor")
    assert done.exit_code == 1
    assert 'durability="normal"' in done.stdout
    assert log.read_bytes() == b"no log" * 1_000
