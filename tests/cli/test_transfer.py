"""Export, import, backup and restore: what goes out comes in, once, and whole."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.cli import files, transfer
from tests.cli.conftest import Shell

SAID_AT = "2026-01-02T03:04:05Z"


@pytest.fixture
def filled(shell: Shell) -> Shell:
    shell.ok("remember", "Ada drinks tea", "--speaker", "Ada", "--session", "s", "--turn", "1")
    shell.ok("remember", "Ada drinks cocoa", "--agent", "a")
    old = shell.json("remember", "Bob is away")["id"]
    shell.ok("memory", "correct", old, "Bob is back")
    with holdfast.open(shell.store) as storage:
        held = storage.conversations.create(key="k", title="T", metadata={"n": 1})
        ada = storage.conversations.participants.add(held.id, name="Ada", external_id="ada")
        for number in range(1_203):
            storage.conversations.append(held.id, f"line {number}", sender_id=ada.id)
        storage.conversations.update(held.id, summary="lines", status="closed")
        storage.scoped(agent="a", user="u").conversations.create(key="k")
    return shell


def dump(store: str) -> dict[str, Any]:
    """What a store holds, without what counts writes and looks at clocks."""
    with holdfast.open(store) as storage:
        kept = storage.memory.list(include_closed=True, limit=1_000).items
        found: dict[str, Any] = {
            m.id: (m.content, m.agent, m.superseded_by, m.created_at, m.space) for m in kept
        }
        for held in storage.conversations.list().items:
            said = storage.conversations.messages.recent(held.id, 0)
            parts = storage.conversations.participants.list(held.id).items
            found[held.id] = (
                (held.key, held.title, held.summary, held.status, held.metadata, held.agent),
                (held.user, held.created_at, held.message_count),
                [(m.id, m.sequence, m.text, m.sender_id, m.role, m.created_at) for m in said],
                [(p.id, p.name, p.external_id) for p in parts],
            )
    return found


def test_what_is_exported_is_imported(filled: Shell) -> None:
    copy = str(filled.folder / "copy.db")
    filled.ok("export", str(filled.folder / "all.jsonl"))
    told = filled.json("--store", copy, "import", str(filled.folder / "all.jsonl"))
    assert (told["conversations"], told["messages"], told["refused"]) == (2, 1_203, 0)
    assert dump(copy) == dump(filled.store)
    found = filled.json("--store", copy, "recall", "what does Ada drink")["items"]
    assert {"text", "vector"} <= {leg for item in found for leg in item["legs"]}


def test_an_import_may_be_repeated_and_resumed(filled: Shell) -> None:
    copy = str(filled.folder / "copy.db")
    lines = filled.ok("export", "-").splitlines(keepends=True)
    cut = "".join(lines[: len(lines) // 2])
    filled.ok("--store", copy, "import", "-", stdin=cut)
    filled.ok("--store", copy, "import", "-", stdin="".join(lines))
    whole = dump(copy)
    told = filled.json("--store", copy, "import", "-", stdin="".join(lines))
    assert (told["conversations"], told["messages"], told["memory_records"]) == (0, 0, 0)
    assert whole == dump(copy) == dump(filled.store)


def test_what_a_memory_transfer_wrote_is_read(filled: Shell) -> None:
    with holdfast.open(filled.store) as storage:
        lines = "\n".join(storage.memory.transfer.export_lines())
    copy = str(filled.folder / "copy.db")
    assert filled.json("--store", copy, "import", "-", stdin=lines)["memory_records"] >= 4


def test_a_bound_export_carries_its_own_alone(filled: Shell) -> None:
    lines = [json.loads(line) for line in filled.ok("export", "--agent", "a").splitlines()]
    agents = {line["record"].get("agent") for line in lines if "record" in line}
    assert agents - {None} == {"a"}
    everything = filled.ok("export")
    told = filled.refused(2, "--store", "memory:", "import", "-", "--agent", "a", stdin=everything)
    assert "another's" in told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "line 3: expected a record of an export"),
        ("[]", "line 3: expected a record of an export"),
        ('{"kind": "memories", "record": {}}', "expected"),
        ('{"kind": "message", "record": {"id": 1}}', "line 3.id: expected what a message has"),
        ('{"kind": "unheard-of", "record": {}}', "line 3: expected a record of an export"),
        ('{"format": "holdfast.export", "version": 99}', "line 3 version: expected"),
    ],
)
def test_a_strange_line_is_named(line: str, told: str, shell: Shell) -> None:
    text = '{"format": "holdfast.export", "version": 1}\n\n' + line + "\n"
    assert told in shell.refused(2, "import", "-", stdin=text)


def test_a_file_of_which_one_record_is_none_is_not_begun(filled: Shell) -> None:
    text = filled.ok("export")
    source, target = filled.folder / "all.jsonl", filled.folder / "target.db"
    source.write_text(text.replace('"metadata":{}', '"metadata":5'))
    number = next(n for n, line in enumerate(text.splitlines(), 1) if '"metadata":{}' in line)
    for more in ((), ("--dry-run",)):
        told = filled.refused(2, "--store", str(target), "import", str(source), *more)
        assert f"line {number}.metadata: expected" in told
        assert not target.exists()


def test_other_bytes_are_refused_by_their_line(shell: Shell) -> None:
    assert "line 2: expected" in shell.refused(2, "import", "-", stdin=b"\n\xff\xff\n")


def test_a_message_without_its_conversation_is_refused(filled: Shell) -> None:
    lines = filled.ok("export").splitlines(keepends=True)
    orphan = next(line for line in lines if '"kind":"message"' in line)
    told = filled.refused(2, "--store", "memory:", "import", "-", stdin=lines[0] + orphan)
    assert "line 2: expected a record below its conversation" in told


def test_a_participant_without_its_conversation_is_refused(filled: Shell) -> None:
    lines = filled.ok("export").splitlines(keepends=True)
    orphan = next(line for line in lines if '"kind":"participant"' in line)
    told = filled.refused(2, "--store", "memory:", "import", "-", stdin=orphan)
    assert "line 1: expected a record below its conversation" in told


def test_a_conversation_whose_key_another_has_is_refused_and_said_so(filled: Shell) -> None:
    copy = str(filled.folder / "copy.db")
    mine = filled.json("--store", copy, "conversation", "create", "--key", "k")["id"]
    filled.ok("--store", copy, "conversation", "append", "k", "mine")
    done = filled.run("--store", copy, "import", "-", "--json", stdin=filled.ok("export"))
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["refused"], told["conversations"], told["messages"]) == (1, 1, 0)
    [only] = filled.json("--store", copy, "conversation", "messages", "k")["items"]
    assert (only["conversation_id"], only["text"]) == (mine, "mine")


def test_a_dry_run_counts_and_writes_nothing(filled: Shell) -> None:
    target = filled.folder / "copy.db"
    text = filled.ok("export")
    counts = filled.json("--store", str(target), "import", "-", "--dry-run", stdin=text)
    assert (counts["conversation"], counts["message"], counts["memories"]) == (2, 1_203, 4)
    assert not target.exists()


def test_an_export_writes_over_nothing_unasked(filled: Shell) -> None:
    target = filled.folder / "all.jsonl"
    target.write_text("mine")
    filled.refused(4, "export", str(target))
    assert target.read_text() == "mine"
    filled.ok("export", str(target), "--force")
    assert target.read_text().startswith('{"format":"holdfast.export"')
    told = filled.refused(1, "export", str(filled.folder / "no" / "all.jsonl"))
    assert "No such file or directory" in told
    assert not list(filled.folder.glob("*.partial"))


def modes_of_an_export(filled: Shell) -> tuple[list[int], int]:
    """The mode of an export as each of its lines was on its way, and in the end."""
    target = filled.folder / "all.jsonl"
    partial = Path(f"{target}.partial")
    partial.write_text("of an export that was killed")
    seen = []

    def lines() -> Iterator[str]:
        for line in ("one", "two"):
            seen.append(stat.S_IMODE(partial.stat().st_mode))
            yield line

    previous = os.umask(0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transfer, "exported", lambda _: lines())
            filled.ok("export", str(target), "--force")
    finally:
        os.umask(previous)
    return seen, stat.S_IMODE(target.stat().st_mode)


def test_an_export_is_readable_by_its_owner_alone_unless_the_file_was_there(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = shell.folder / "all.jsonl"
    shell.ok("remember", "Ada drinks tea")
    assert modes_of_an_export(shell) == ([0o600, 0o600], 0o600)
    target.chmod(0o640)
    assert modes_of_an_export(shell) == ([0o600, 0o600], 0o640)
    target.unlink()
    # The saboteur opens files as Python does, for everybody that the umask lets in.
    monkeypatch.setattr(files, "owned", lambda path, flags: os.open(path, flags, 0o644))
    assert modes_of_an_export(shell) == ([0o644, 0o644], 0o600)


def test_a_checkpoint_is_written_for_its_owner_alone(shell: Shell) -> None:
    with holdfast.open(shell.store) as storage:
        saved = storage.checkpoints.save(b"state", iteration=0)
    target = shell.folder / "state"
    shell.ok("checkpoint", "get", saved.id, "--output", str(target))
    assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"state", 0o600)


def test_a_backup_is_restored(filled: Shell) -> None:
    saved, again = str(filled.folder / "saved.db"), str(filled.folder / "again.db")
    report = filled.json("backup", saved)
    content = Path(saved).read_bytes()
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["bytes"] == len(content)
    filled.refused(4, "backup", saved)
    filled.ok("restore", saved, again)
    filled.refused(4, "restore", saved, again)
    filled.refused(3, "restore", str(filled.folder / "none.db"), str(filled.folder / "x.db"))
    assert dump(again) == dump(filled.store)


def test_dry_runs_of_copies_write_nothing(filled: Shell) -> None:
    target = filled.folder / "x.db"
    assert "Would copy" in filled.run("backup", str(target), "--dry-run").stderr
    assert "Would make" in filled.run("restore", filled.store, str(target), "--dry-run").stderr
    assert not target.exists()


def test_a_damaged_backup_is_not_restored(filled: Shell) -> None:
    saved = filled.folder / "saved.db"
    filled.ok("backup", str(saved))
    content = bytearray(saved.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8_192] = bytes(8_192)
    saved.write_bytes(content)
    filled.refused(1, "restore", str(saved), str(filled.folder / "again.db"))
    assert not (filled.folder / "again.db").exists()


def test_a_store_in_memory_has_no_backup(shell: Shell) -> None:
    told = shell.refused(2, "--store", "memory:", "backup", str(shell.folder / "x.db"))
    assert told.startswith("error: Only a store in a file")
