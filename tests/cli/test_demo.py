"""The demo does what it says, without a network, and each of its claims can fail."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import holdfast
from holdfast.cli.demo.crash import ENOUGH, Crash, lost, whole
from holdfast.cli.demo.play import PASSAGE_LINES, Speech, play_text, scenes
from holdfast.cli.demo.steps import QUESTIONS
from tests.cli.conftest import COMMAND, Run, Shell, environment
from tests.tidy.blocks import NETWORK_CUT, namespace


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, subprocess.CompletedProcess[str]]:
    """One run with the network cut: where its store is, and what it said."""
    store = str(tmp_path_factory.mktemp("demo") / "kept here.db")
    env = environment(PYTHONPATH=os.pathsep.join([str(NETWORK_CUT), *sys.path]))
    done = subprocess.run(
        [*namespace(), *COMMAND, "--store", store, "demo"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    return store, done


def test_it_succeeds_and_reads_well(told: tuple[str, subprocess.CompletedProcess[str]]) -> None:
    store, done = told
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if store not in line]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    counts = re.search(r"acknowledged (\d+), stored (\d+), lost 0;", done.stdout)
    assert counts is not None
    assert int(counts[2]) >= int(counts[1]) >= ENOUGH


def test_what_it_claims_is_in_the_store(
    told: tuple[str, subprocess.CompletedProcess[str]],
) -> None:
    store, done = told
    with holdfast.open(store) as storage:
        known = 0
        for question in QUESTIONS:
            found = storage.memory.recall(question.text, k=10)
            texts = [" ".join(item.memory.content.split()) for item in found]
            ranks = [rank for rank, text in enumerate(texts, 1) if question.gold in text]
            if ranks:
                known += 1
                item = found[ranks[0] - 1]
                _, _, after = done.stdout.partition(f"   {question.text}\n")
                said = re.match(r" +rank (\d+)  score ([\d.]+)  by (\S+)  (.+)", after)
                assert said is not None
                assert int(said[1]) == ranks[0]
                # What the demo noted afterwards has moved the weights of words a little.
                assert float(said[2]) == pytest.approx(item.score, abs=0.05)
                assert said[3] == "+".join(item.legs)
                assert said[4] == f"{question.speaker.title()}, {question.scene}"
                assert f"row {item.memory.id}" in after.partition("\n\n")[0]
            else:
                assert f'NOT within 10: "{question.gold}"' in done.stdout
        assert f"Of {len(QUESTIONS)} known answers:" in done.stdout
        assert known >= 6
        notes = storage.with_agent("reader")
        [first] = notes.memory.recall("Where does Rosalind live?", k=1)
        assert first.memory.content.startswith("Rosalind lives in the Forest")
        assert notes.memory.recall("password of the orchard", mode="keyword") == []


def test_what_to_type_next_can_be_typed(
    told: tuple[str, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    _, done = told
    _, _, after = done.stdout.partition("What to type next:\n")
    commands = after.strip().splitlines()
    assert len(commands) == 5
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "holdfast"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{COMMAND[2]}" "$@"\n')
    program.chmod(0o755)
    env = environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}")
    script = "set -e\n" + "\n".join(command.strip() for command in commands)
    ran = subprocess.run(
        ["sh", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=250
    )
    assert ran.returncode == 0, ran.stderr
    assert "I think he be transform'd into a beast" in ran.stdout
    assert "DUKE SENIOR" in ran.stdout
    assert "Nothing is wrong." in ran.stdout


def test_its_json_says_the_same(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--json", env={"HOLDFAST_STORE": "somebody's.db", "TMPDIR": str(tmp_path)})
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["ok"] is True
    assert not (tmp_path / "somebody's.db").exists()
    assert Path(found["store"]).is_relative_to(tmp_path)
    assert found["ingested"]["scenes"] == 23
    assert found["found"]["at_10"] >= 6
    assert found["crash"]["lost"] == 0
    assert found["crash"]["exit_status"] == -9
    assert found["crash"]["stored"] >= found["crash"]["acknowledged"] >= ENOUGH


def test_it_writes_over_nothing(shell: Shell) -> None:
    Path(shell.store).write_text("mine")
    assert "Choose a new path" in shell.refused(4, "demo", "--store", shell.store)
    assert Path(shell.store).read_text() == "mine"
    shell.refused(2, "--store", "memory:", "demo")


def test_saboteur_a_lost_message_is_caught() -> None:
    said = whole(["line 0\n", "line 1\n", "line 2"])
    assert said == ["line 0", "line 1"]
    assert lost(said, ["line 0"]) == {"line 1"}
    assert lost(said, ["line 0", "line 1", "line 2"]) == set()
    fine = Crash(acknowledged=ENOUGH, stored=ENOUGH, lost=0, exit_status=-9, integrity=True)
    assert fine.ok
    for broken in (
        Crash(acknowledged=ENOUGH, stored=ENOUGH - 1, lost=1, exit_status=-9, integrity=True),
        Crash(acknowledged=ENOUGH, stored=ENOUGH, lost=0, exit_status=-9, integrity=False),
        Crash(acknowledged=0, stored=0, lost=0, exit_status=1, integrity=True),
    ):
        assert not broken.ok


def test_the_text_is_the_one_whose_origin_is_told() -> None:
    digest = hashlib.sha256(play_text().encode("ascii")).hexdigest()
    readme = Path(holdfast.__file__).parent / "cli" / "demo" / "README.md"
    assert digest in readme.read_text(encoding="utf-8")


def test_the_play_is_read_whole() -> None:
    play = scenes(play_text())
    assert len(play) == 23
    assert [len([s for s in play if s.name.startswith(act)]) for act in "12345"] == [3, 7, 5, 3, 4]
    speakers = {speech.speaker for scene in play for speech in scene.speeches}
    assert len(speakers) == 27
    for question in QUESTIONS:
        [scene] = [scene for scene in play if scene.name == question.scene]
        said = [s for s in scene.speeches if question.gold in " ".join(s.text.split())]
        assert [speech.speaker for speech in said] == [question.speaker]
    assert not any("Enter" in s.text and "[" in s.text for scene in play for s in scene.speeches)


def test_passages_are_the_speech_in_pieces() -> None:
    for scene in scenes(play_text()):
        for speech in scene.speeches:
            pieces = speech.passages()
            assert "\n".join(pieces) == speech.text
            assert all(len(piece.splitlines()) <= PASSAGE_LINES for piece in pieces)
    assert Speech("A", "one.\ntwo,\nthree,\nfour.\nfive.").passages() == [
        "one.\ntwo,\nthree,\nfour.",
        "five.",
    ]
