"""What goes wrong is said well: on stderr, with a status, and without a traceback."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from tests.cli.conftest import Shell, leaves

HOSTILE = ["", "\x00", "'; DROP TABLE memories; --", "a" * 5_000, "\u202e", "🦊", "-", "%", "../.."]
READERS = [
    ("recall", "x"),
    ("memory", "list"),
    ("memory", "get", "x"),
    ("memory", "stats"),
    ("conversation", "list"),
    ("conversation", "append", "x", "y"),
    ("task", "list"),
    ("task", "claim", "--worker", "w"),
    ("audit", "verify"),
    ("kv", "get", "x"),
    ("export", "x.jsonl"),
    ("backup", "x.db"),
]


@pytest.mark.parametrize("args", READERS, ids=" ".join)
def test_reading_makes_no_store(args: tuple[str, ...], shell: Shell) -> None:
    told = shell.refused(3, *args)
    assert told.startswith(f"error: There is no store at {shell.store}.\nhint: ")
    assert not os.path.exists(shell.store)


def test_an_error_is_json_when_json_is_asked_for(shell: Shell) -> None:
    error = json.loads(shell.refused(3, "kv", "get", "x", "--json"))["error"]
    assert error["code"] == "not_found"
    assert error["retryable"] is False
    assert error["hint"]


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("nonsense",), 2, "No such command"),
        (("kv",), 2, "Missing command"),
        (("kv", "get"), 2, "Missing argument"),
        (("kv", "get", "k", "--nonsense"), 2, "No such option"),
        (("memory", "list", "--limit", "many"), 2, "not a valid integer"),
        (("export", "no/such/folder/x"), 1, "No such file or directory"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_words_are_json_too_when_json_is_asked_for(
    args: tuple[str, ...], status: int, said: str, shell: Shell
) -> None:
    shell.ok("kv", "set", "k", "v")
    error = json.loads(shell.refused(status, "--json", *args))["error"]
    assert sorted(error) == ["code", "hint", "message", "retryable"]
    assert error["code"] == ("usage" if status == 2 else "error")
    assert said in error["message"]
    assert ("--help" in error["hint"]) == (status == 2)


def test_what_is_not_there_is_not_found(shell: Shell) -> None:
    shell.ok("kv", "set", "k", "v")
    missing = "01a1febc-eb97-749b-a0c9-10de7b47e6f2"
    for args in (
        ("kv", "get", "other"),
        ("memory", "get", missing),
        ("memory", "correct", missing, "text"),
        ("memory", "forget", missing),
        ("memory", "delete", missing, "--yes"),
        ("memory", "restore", missing),
        ("conversation", "show", missing),
        ("conversation", "messages", missing),
        ("conversation", "delete", missing, "--yes"),
        ("task", "show", missing),
        ("task", "complete", missing, "--lease", "x"),
        ("task", "cancel", missing),
        ("audit", "anchor"),
        ("import", "no-such-file"),
        ("import", "no-such-file", "--dry-run"),
        ("restore", "no-such-file", "new.db"),
        ("doctor", "no-such-file"),
    ):
        assert shell.refused(3, *args).startswith("error: There is no"), args


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_never_make_a_traceback(text: str, shell: Shell) -> None:
    shell.ok("remember", "something")
    for words in leaves():
        if words[0] in ("demo", "doctor", "restore", "import", "export", "backup", "completion"):
            continue
        done = shell.run(*words, text, text, stdin="")
        assert done.exit_code in (0, 1, 2, 3, 4), (words, done.output)
        assert "Traceback" not in done.output
    assert shell.json("recall", "something")["items"]


@pytest.mark.parametrize(
    ("args", "field"),
    [
        (("remember", "   "), "content"),
        (("remember", "x", "--confidence", "2"), "confidence"),
        (("remember", "x", "--turn", "1"), "turn"),
        (("remember", "x", "--meta", "novalue"), "meta"),
        (("remember", "x", "--kind", "FACT"), "kind"),
        (("--tenant", " x", "remember", "x"), "tenant"),
        (("recall", "x", "-k", "0"), "k"),
        (("kv", "set", "k", "{", "--as", "json"), "value"),
        (("kv", "set", "k", "NaN", "--as", "json"), "value"),
        (("kv", "set", "k", "[" * 5_000, "--as", "json"), "value"),
        (("kv", "set", "k", "v", "--ttl", "-1"), "ttl_seconds"),
        (("task", "add", " "), "title"),
        (("audit", "append", "x", "--data", "{"), "data"),
        (("--store", "nowhere://x", "kv", "set", "a", "b"), "url"),
    ],
)
def test_a_bad_value_is_named(args: tuple[str, ...], field: str, shell: Shell) -> None:
    shell.ok("kv", "set", "seed", "1")
    assert shell.refused(2, *args).startswith(f"error: {field}: expected ")


def test_bytes_that_are_no_text_are_refused(shell: Shell) -> None:
    told = shell.refused(2, "remember", "-", stdin=b"\xff\xfe")
    assert told.startswith("error: content: expected UTF-8 text")


def test_usage_is_explained(shell: Shell) -> None:
    told = shell.refused(2, "recall")
    assert "Usage: holdfast recall" in told
    assert "Missing argument 'QUERY'" in told
    assert "expected an instant such as" in shell.refused(2, "recall", "x", "--as-of", "soon")


def test_a_prefix_of_several_is_ambiguous(shell: Shell) -> None:
    ids = [shell.json("task", "add", f"t{n}")["id"] for n in range(2)]
    shared = next(ids[0][:n] for n in range(36, 0, -1) if ids[1].startswith(ids[0][:n]))
    assert shell.refused(4, "task", "show", shared).startswith("error: Several tasks begin so.")


def test_a_file_of_another_program_is_left_alone(shell: Shell) -> None:
    path = Path(shell.store)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    before = path.read_bytes()
    assert "another program" in shell.refused(1, "kv", "set", "a", "b")
    assert path.read_bytes() == before


def test_reading_makes_no_store_however_it_is_named(tmp_path: Path, shell: Shell) -> None:
    folder = tmp_path / "at 10:30"
    folder.mkdir()
    for named in (f"{folder}/a.db", f"sqlite:///{folder}/a.db", f"sqlite+x:///{folder}/a.db"):
        assert shell.run("--store", named, "recall", "tea").exit_code == 3
    assert not list(folder.iterdir())


def test_a_folder_is_no_store(shell: Shell) -> None:
    Path(shell.store).mkdir()
    done = shell.run("kv", "set", "a", "b")
    assert done.exit_code == 2
    assert done.stderr == "error: url: expected the path of a file, got a directory.\n"


def test_a_rehearsal_answers_in_json_too(shell: Shell) -> None:
    shell.ok("remember", "a")
    shell.ok("kv", "set", "a", "1")
    shell.ok("knowledge", "add", "d", "text")
    for words in (
        ("kv", "delete", "a"),
        ("knowledge", "delete", "d"),
        ("memory", "purge"),
        ("backup", str(shell.folder / "copy.db")),
    ):
        assert shell.json(*words, "--dry-run")["would"].startswith(("delete ", "copy "))
    assert shell.json("kv", "get", "a")["value"] == "1"


def test_a_file_that_is_no_anchor_is_refused(shell: Shell) -> None:
    shell.ok("kv", "set", "a", "1")
    done = shell.run("audit", "verify", "--anchor", shell.store)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: anchor: expected what `audit anchor` printed")
