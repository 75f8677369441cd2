"""`.ci/run` is green only when tests ran and passed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tidy.source import REPOSITORY


def run(folder: Path, output: str, status: int) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script where `make` only prints an ending and exits."""
    (folder / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "run", folder / ".ci" / "run")
    make = folder / "bin" / "make"
    make.parent.mkdir()
    make.write_text(f"#!/bin/sh\nprintf '%s\\n' '{output}'\nexit {status}\n")
    make.chmod(0o755)
    environment = {"PATH": f"{make.parent}:{os.environ['PATH']}"}
    command = [str(folder / ".ci" / "run")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_prints_the_closing_line(tmp_path: Path) -> None:
    done = run(tmp_path, "===== 147 passed, 2 xfailed in 2.92s =====", 0)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "OK: ===== 147 passed, 2 xfailed in 2.92s ====="


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ("== 1 failed, 9 passed in 2.92s ==", 2),
        ("== 9 passed in 2.92s ==", 1),
        ("== no tests ran in 0.01s ==", 0),
        ("== 12 skipped in 0.01s ==", 0),
        ("== 10 skipped, 0 passed in 0.01s ==", 0),
        ("", 0),
    ],
)
def test_saboteur_suite_that_did_not_pass_is_caught(
    output: str, status: int, tmp_path: Path
) -> None:
    assert run(tmp_path, output, status).returncode == 1
