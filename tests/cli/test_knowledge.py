"""`holdfast knowledge` and `holdfast ingest`, as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run, Shell
from tests.ingest.test_folder import FILES, TREE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        path = tmp_path / "harbour" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(FILES / "lighthouse.pdf", tmp_path / "harbour")
    return tmp_path / "harbour"


def test_a_document_lives(shell: Shell) -> None:
    made = shell.json("knowledge", "add", "tea.md", "# Tea\n\nThe kettle is red.", "--title", "Tea")
    assert (made["status"], made["chunks"], made["title"]) == ("created", 1, "Tea")
    again = shell.json("knowledge", "add", "tea.md", "-", stdin="The kettle is blue.\n")
    assert (again["status"], again["title"]) == ("replaced", "Tea")
    assert shell.ok("knowledge", "text", "tea.md") == "The kettle is blue.\n"
    [hit] = shell.json("knowledge", "search", "kettle")["items"]
    assert (hit["item"]["id"], hit["item"]["text"]) == ("tea.md#0", "The kettle is blue.")
    assert shell.ok("-q", "knowledge", "list") == "tea.md\n"
    assert shell.json("knowledge", "show", "tea.md")["access"]["public"] is True
    assert shell.json("knowledge", "chunks", "tea.md")["items"][0]["id"] == "tea.md#0"
    assert shell.json("knowledge", "counts")["vectors"]["embedded"] == 1
    assert shell.json("knowledge", "repair") == {"repaired": 0}
    shell.refused(2, "knowledge", "delete", "tea.md")
    shell.ok("knowledge", "delete", "tea.md", "--yes")
    shell.refused(3, "knowledge", "delete", "tea.md", "--yes")
    shell.refused(3, "knowledge", "text", "tea.md")


def test_who_asks_decides_what_is_there(shell: Shell) -> None:
    shell.ok("knowledge", "add", "plan", "the plan", "--reader", "ada", "--reader-group", "board")
    shell.refused(3, "knowledge", "show", "plan")
    shell.refused(3, "knowledge", "show", "plan", "--as", "bob")
    assert shell.json("knowledge", "search", "plan")["items"] == []
    for asker in (("--as", "ada"), ("--as-group", "board"), ("--unrestricted",)):
        assert shell.json("knowledge", "show", "plan", *asker)["id"] == "plan"
        assert len(shell.json("knowledge", "search", "plan", *asker)["items"]) == 1
        assert shell.json("knowledge", "counts", *asker)["documents"] == 1
    assert shell.json("knowledge", "access", "plan", "--lock")["locked"] is True
    shell.refused(3, "knowledge", "show", "plan", "--as", "ada")
    shell.ok("knowledge", "access", "plan", "--public")
    shell.ok("knowledge", "show", "plan")
    shell.refused(2, "knowledge", "access", "plan")
    shell.refused(2, "knowledge", "access", "plan", "--lock", "--reader", "ada")
    shell.refused(2, "knowledge", "show", "plan", "--unrestricted", "--as", "ada")


def test_a_folder_is_taken_in_and_again_for_nothing(run: Run, folder: Path) -> None:
    first = run("ingest", "harbour", "--json")
    report = json.loads(first.stdout)
    assert (first.returncode, report["created"], report["failures"]) == (0, 4, [])
    assert json.loads(run("ingest", "harbour", "--json").stdout)["unchanged"] == 4
    found = run("knowledge", "search", "when was the lamp lit first?", "--limit", "1")
    assert found.stdout.startswith("harbour/lighthouse.pdf#0\t")
    assert "1844" in found.stdout
    (folder / "readme.md").unlink()
    assert json.loads(run("ingest", "harbour", "--remove-missing", "--json").stdout)["removed"] == 1
    assert len(run("knowledge", "runs", "-q").stdout.split()) == 3


def test_what_cannot_be_read_is_named_and_the_exit_status_says_so(run: Run, folder: Path) -> None:
    shutil.copy(FILES / "scan.pdf", folder)
    (folder / "guide" / "caf\u00e9.txt").write_bytes(b"caf\xe9")
    done = run("ingest", "harbour", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["created"], report["failed"]) == (4, 2)
    assert {f["item"] for f in report["failures"]} == {"guide/caf\u00e9.txt", "scan.pdf"}
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert "not read: harbour/guide/caf\u00e9.txt: " in lines[0]
    assert "scans" in lines[1]
    unread = run("knowledge", "unread", "--jsonl").stdout.splitlines()
    assert [json.loads(line)["item"] for line in unread] == ["guide/caf\u00e9.txt", "scan.pdf"]


def test_ingest_says_first_what_it_would_do(shell: Shell, folder: Path) -> None:
    done = shell.run("ingest", str(folder), "--dry-run", "--include", "*.txt")
    assert done.stdout == "guide/boats.txt\n"
    assert "Would take in 1 files" in done.stderr
    assert not Path(shell.store).exists()
    shell.refused(3, "ingest", str(folder / "nowhere"))
    assert not Path(shell.store).exists()


def test_ingest_passes_its_options_on(shell: Shell, folder: Path) -> None:
    shell.ok(
        "ingest", str(folder), "--source", "port", "--set", "s", "--boost", "2", "--reader", "ada"
    )
    held = shell.json("knowledge", "show", "port/readme.md", "--as", "ada")
    assert (held["sets"], held["boost"], held["access"]["users"]) == (["s"], 2.0, ["ada"])
    small = ("--chunk-characters", "20", "--chunk-overlap", "0")
    assert shell.json("ingest", str(folder), "--source", "port", *small)["replaced"] == 4
    assert shell.json("knowledge", "counts", "--as", "ada")["chunks"] > 8
    shell.refused(2, "ingest", str(folder), "--source", "port", "--chunk-overlap", "300")
    elsewhere = shutil.copytree(folder, folder.parent / "elsewhere")
    shell.refused(4, "ingest", str(elsewhere), "--source", "port")
    assert shell.json("knowledge", "delete", "--source", "port", "--yes")["documents"] == 4


def test_knowledge_moves_to_another_model(shell: Shell) -> None:
    shell.ok("knowledge", "add", "tea.md", "The kettle is red.", "--embedder", "none")
    assert shell.json("knowledge", "counts")["vectors"]["absent"] == 1
    shell.refused(3, "knowledge", "reembed")
    assert shell.json("knowledge", "repair", "--vectorless") == {"repaired": 1}
    assert shell.json("knowledge", "reembed")["embedded"] == 1
