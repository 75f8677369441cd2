"""Two ways to run the command line: as a process, and in this process for breadth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import click
import pytest
from click.testing import CliRunner, Result

from holdfast.cli import main

COMMAND = [sys.executable, "-c", "from holdfast.cli import main; main()"]


class Run(Protocol):
    """`holdfast ...` as a process of its own, in the test's folder."""

    def __call__(
        self, *args: str, stdin: str | bytes | None = ..., env: dict[str, str] | None = ...
    ) -> subprocess.CompletedProcess[str]: ...


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
    return {**kept, "COLUMNS": "80", "PYTHONPATH": os.pathsep.join(sys.path), **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def process(
        *args: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *args],
            cwd=tmp_path,
            env=environment(**(env or {})),
            input=given if given is not None else b"",
            capture_output=True,
            check=False,
            timeout=250,
        )
        return subprocess.CompletedProcess(
            args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return process


class Shell:
    """The command line in this process, on one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = str(folder / "agent.db")

    def run(self, *args: str, stdin: str | bytes | None = None) -> Result:
        """Whatever comes of it. An exception that escapes is a failure of the test."""
        env = dict.fromkeys((k for k in os.environ if k.startswith("HOLDFAST_")), None)
        runner = CliRunner(env={**env, "HOLDFAST_STORE": self.store})
        done = runner.invoke(main, list(args), input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def ok(self, *args: str, stdin: str | bytes | None = None) -> str:
        """Its standard output, when it succeeds."""
        done = self.run(*args, stdin=stdin)
        assert done.exit_code == 0, f"{args}: {done.stderr}"
        return done.stdout

    def json(self, *args: str, stdin: str | bytes | None = None) -> Any:
        """Its answer as JSON."""
        return json.loads(self.ok(*args, "--json", stdin=stdin))

    def refused(self, status: int, *args: str, stdin: str | bytes | None = None) -> str:
        """Its standard error, when it fails with this status and prints no data."""
        done = self.run(*args, stdin=stdin)
        assert done.exit_code == status, f"{args}: {done.exit_code} {done.output}"
        assert done.stdout == ""
        return done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def leaves(group: click.Group = main, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command that does something."""
    found: list[tuple[str, ...]] = []
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            found += leaves(command, (*words, name))
        else:
            found.append((*words, name))
    return found
