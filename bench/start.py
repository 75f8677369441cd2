"""How soon a process can work: import, the first help page, the first memory in a new file."""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.measure import Contender, Figures, Goal, Sheet

CPU: Final = "CPU ms"
_SOURCE: Final = Path(__file__).resolve().parent.parent / "src"
# As installed: compiled once, which the first round does; then nothing is compiled any more.
_COMPILED: Final = {
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONPYCACHEPREFIX": str(_SOURCE.parent / ".cache" / "bytecode"),
}
_IMPORT: Final = """
import time
before = time.process_time()
import {module}
print((time.process_time() - before) * 1e3)
"""
_FIRST: Final = """
import sys, time
import holdfast
before, started = time.process_time(), time.perf_counter()
with holdfast.open(sys.argv[1]{option}) as storage:
    storage.memory.remember("Alice prefers tea")
    print((time.process_time() - before) * 1e3, (time.perf_counter() - started) * 1e3)
"""
_HELP: Final = """
import sys
from holdfast.cli import main
sys.argv = ["holdfast", "--help"]
main()
"""


def sheet(rounds: int) -> Sheet:
    """Each row is a process of its own; the figure is its processor time, in user and system."""
    soon = (Goal(50, sense="at most"),)
    no_cli = "" if importlib.util.find_spec("holdfast.cli") else "not built yet"
    return Sheet(
        name="start",
        title="Start of a process",
        figure=CPU,
        base="import sqlite3",
        rounds=rounds,
        contenders=(
            Contender("import sqlite3", lambda _: _imported("sqlite3")),
            Contender("import apsw", lambda _: _imported("apsw")),
            Contender(
                "import holdfast",
                lambda _: _imported("holdfast"),
                (Goal(60, sense="at most"),),
            ),
            Contender("import holdfast.aio", lambda _: _imported("holdfast.aio")),
            Contender("new file, first memory", lambda f: _first(f, ""), soon),
            Contender(
                "new file, first memory, embedder=None",
                lambda f: _first(f, ", embedder=None"),
                soon,
            ),
            Contender("holdfast --help", _help, (Goal(200, sense="at most"),), no_cli),
        ),
    )


def _imported(module: str) -> Figures:
    return {CPU: float(_run("-c", _IMPORT.format(module=module)))}


def _first(folder: Path, option: str) -> Figures:
    script = _FIRST.format(option=option)
    cpu, elapsed = _run("-c", script, str(folder / "new.db")).split()
    return {CPU: float(cpu), "elapsed ms": float(elapsed)}


def _help(_: Path) -> Figures:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run(
        "-c", "import sys; from holdfast.cli import main; sys.argv = ['holdfast', '--help']; main()"
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {CPU: spent * 1e3}


def _run(*arguments: str) -> str:
    path = os.pathsep.join((str(_SOURCE), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **_COMPILED},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
