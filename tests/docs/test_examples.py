"""Each script of examples/ runs as its first lines say, and prints what it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.blocks import environment
from tests.tidy.source import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PRINTS = {
    "agent_loop": ["The museum opens at ten", "Ada is afraid of heights", "4 messages kept"],
    "document_library": ["a guest is told 1:", "the board is told 2:", "2 documents, 2 chunks"],
    "many_processes": ["12 of 12 completed", "1 taken up again"],
    "async_handler": ["1 answer for all", "8 users got their own tea"],
}


def test_every_script_is_run() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == PRINTS.keys()


@pytest.mark.parametrize("name", PRINTS)
def test_a_script_does_what_it_says(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path / "agent.db")]
    done = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert [line for line in PRINTS[name] if line not in done.stdout] == [], done.stdout
