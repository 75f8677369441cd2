"""A folder as a source: what is taken in, skipped, reported and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.core.errors import Conflict, DimensionMismatch, Invalid, NotFound
from holdfast.ingest import Choice, FileResult, FolderIngest, ingest_folder
from holdfast.ingest.folder import files_of
from holdfast.recall.embedders import HashEmbedder
from holdfast.storage import Storage
from holdfast.stores.knowledge import Access

FILES = Path(__file__).parent / "files"
TREE = {
    "readme.md": "# Read me\n\nThe harbour opens at six.",
    "guide/boats.txt": "Boats are tied with two ropes.",
    "guide/storm.html": "<title>Storms</title><h1>Storms</h1><p>Ring the bell thrice.</p>",
    "guide/old.bin": "not for reading",
    ".secret/key.md": "# hidden",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "harbour"
    for name, text in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(FILES / "lighthouse.pdf", root / "guide")
    return root


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    with holdfast.open(str(tmp_path / "agent.db")) as opened:
        yield opened


def take(storage: Storage, folder: Path, **options: object) -> FolderIngest:
    return ingest_folder(storage.knowledge, folder, source="harbour", **options)  # type: ignore[arg-type]


def told(report: FolderIngest) -> dict[str, int]:
    return {name: count for name, count in report.counts.items() if count}


@pytest.mark.parametrize("wrong", [None, 5, b"harbour", "a\x00", "\ud800", ["harbour"]])
def test_a_folder_that_no_path_names_is_refused(storage: Storage, wrong: Any) -> None:
    with pytest.raises(Invalid, match=r"^folder: "):
        ingest_folder(storage.knowledge, wrong)


def test_what_is_no_choice_of_files_is_refused(storage: Storage, folder: Path) -> None:
    for choice in ("*.md", 5, {"include": ["*.md"]}):
        with pytest.raises(Invalid, match=r"^choice: "):
            take(storage, folder, choice=choice)
    with pytest.raises(Invalid, match=r"^include: "):
        take(storage, folder, choice=Choice(include="*.md"))
    with pytest.raises(Invalid, match=r"^watch: "):
        take(storage, folder, watch="loud")


def test_a_folder_becomes_documents_that_are_found(storage: Storage, folder: Path) -> None:
    report = take(storage, folder)
    assert told(report) == {"created": 4}
    assert [d.id for d in storage.knowledge.list()] == [
        "harbour/guide/boats.txt",
        "harbour/guide/lighthouse.pdf",
        "harbour/guide/storm.html",
        "harbour/readme.md",
    ]
    for query, item in (
        ("when does the harbour open", "harbour/readme.md"),
        ("how often is the bell rung", "harbour/guide/storm.html"),
        ("who kept the log of storms", "harbour/guide/lighthouse.pdf"),
    ):
        assert storage.knowledge.search(query, limit=1)[0].item.document_id == item
    held = storage.knowledge.get("harbour/guide/lighthouse.pdf")
    assert held is not None
    assert (held.title, held.metadata) == ("The lighthouse of Skerry", {"kind": "pdf", "pages": 2})
    assert held.uri == (folder.resolve() / "guide/lighthouse.pdf").as_uri()
    assert held.run_id == report.run_id


def test_what_has_not_changed_is_skipped_also_by_another_process(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    take(storage, folder)
    with holdfast.open(str(tmp_path / "agent.db")) as again:
        assert told(take(again, folder)) == {"unchanged": 4}
    (folder / "readme.md").write_text("# Read me\n\nThe harbour opens at nine.")
    os.utime(folder / "guide/boats.txt", (0, 0))
    assert told(take(storage, folder)) == {"unchanged": 3, "replaced": 1}


def test_what_is_said_of_the_files_can_change_alone(storage: Storage, folder: Path) -> None:
    take(storage, folder)
    report = take(storage, folder, stated={"access": Access(users=["ada"]), "sets": ["port"]})
    assert told(report) == {"amended": 4}
    assert storage.knowledge.counts().documents == 0
    assert storage.knowledge.for_access(user="ada").counts(sets=["port"]).documents == 4


def test_a_file_that_cannot_be_read_is_named_and_ends_nothing(
    storage: Storage, folder: Path
) -> None:
    shutil.copy(FILES / "scan.pdf", folder / "a-scan.pdf")
    (folder / "b.txt").write_bytes(b"caf\xe9")
    (folder / "c.md").write_text("")
    report = take(storage, folder)
    assert told(report) == {"created": 4, "failed": 3}
    assert [(f.item, "scans" in (f.reason or "")) for f in report.failed] == [
        ("a-scan.pdf", True),
        ("b.txt", False),
        ("c.md", False),
    ]
    noted = storage.knowledge.ledger.list(source="harbour", failed=True)
    assert [entry.item for entry in noted] == ["a-scan.pdf", "b.txt", "c.md"]
    (folder / "b.txt").write_text("café")
    assert told(take(storage, folder)) == {"created": 1, "unchanged": 4, "failed": 2}
    assert len(storage.knowledge.ledger.list(failed=True)) == 2


def test_a_run_that_was_cut_short_is_taken_up_where_it_ended(
    storage: Storage, folder: Path
) -> None:
    def stop(_: FileResult, done: int, total: int) -> None:
        assert total == 4
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(storage, folder, watch=stop)
    [run] = storage.knowledge.runs.list()
    assert (run.status, run.counts["created"], run.cursor) == ("failed", 2, None)
    assert storage.knowledge.runs.cursor("harbour") is None
    assert told(take(storage, folder)) == {"unchanged": 2, "created": 2}
    assert storage.knowledge.runs.cursor("harbour") is not None


def test_documents_of_missing_files_go_when_asked_for(storage: Storage, folder: Path) -> None:
    take(storage, folder)
    (folder / "readme.md").unlink()
    assert told(take(storage, folder)) == {"unchanged": 3}
    only = Choice(include=["*.txt"])
    report = take(storage, folder, choice=only, remove_missing=True)
    assert told(report) == {"unchanged": 1, "removed": 1}
    assert storage.knowledge.counts().documents == 3


def test_a_deleted_document_is_taken_in_again(storage: Storage, folder: Path) -> None:
    take(storage, folder)
    storage.knowledge.delete("harbour/readme.md")
    assert told(take(storage, folder)) == {"created": 1, "unchanged": 3}
    storage.knowledge.delete_source("harbour")
    assert told(take(storage, folder)) == {"created": 4}


def test_patterns_choose_the_files(folder: Path) -> None:
    assert files_of(folder, Choice(include=["*.md"])) == ["readme.md"]
    assert files_of(folder, Choice(include=["guide/*"], exclude=["*.pdf", "*.bin"])) == [
        "guide/boats.txt",
        "guide/storm.html",
    ]
    assert files_of(folder, Choice(recursive=False)) == ["readme.md"]
    assert files_of(folder, Choice(hidden=True, include=["*.md"])) == [
        ".secret/key.md",
        "readme.md",
    ]
    assert files_of(folder, Choice(exclude=["guide/*"])) == ["readme.md"]
    with pytest.raises(NotFound):
        files_of(folder / "nowhere")


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.md").write_text("# not ours")
    (folder / "out.md").symlink_to(tmp_path / "outside.md")
    (folder / "gone.md").symlink_to(tmp_path / "nothing.md")
    (folder / "in.md").symlink_to(folder / "readme.md")
    (folder / "loop").symlink_to(folder)
    (folder / "self.md").symlink_to(folder / "self.md")
    os.mkfifo(folder / "pipe.md")
    assert files_of(folder, Choice(include=["*.md"])) == ["in.md", "readme.md"]


def test_two_folders_are_not_taken_for_one_source(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    take(storage, folder)
    other = tmp_path / "elsewhere" / "harbour"
    shutil.copytree(folder, other)
    with pytest.raises(Conflict, match="another folder"):
        take(storage, other)
    assert told(take(storage, other, moved=True)) == {"unchanged": 4}


def test_what_is_wrong_with_the_store_is_no_file_s_fault(
    storage: Storage, folder: Path, tmp_path: Path
) -> None:
    take(storage, folder)
    (folder / "new.md").write_text("new")
    with (
        holdfast.open(str(tmp_path / "agent.db"), embedder=HashEmbedder(64)) as other,
        pytest.raises(DimensionMismatch),
    ):
        take(other, folder)
    assert [run.status for run in storage.knowledge.runs.list()] == ["succeeded", "failed"]
    assert len(storage.knowledge.ledger.list(failed=True)) == 0


def test_names_that_cannot_be_kept_are_told_and_the_rest_goes_on(
    storage: Storage, folder: Path
) -> None:
    (folder / "a\nb.md").write_text("# strange name")
    (folder / f"{'x' * 200}").mkdir()
    (folder / f"{'x' * 200}" / f"{'y' * 220}.md").write_text("# long name")
    report = take(storage, folder)
    assert told(report) == {"created": 4, "failed": 2}
    assert all(result.reason for result in report.failed)
