"""Running what a page shows: its python and console blocks, in order, with the network cut.

A block is run unless its fence says `sketch` (as in "```python sketch"), so that a forgotten mark
shows as a failure and not as silence. All blocks of one page share a new folder, its python blocks
share their names as a reader would expect, and of a console block each line after `$ holdfast` is
run. Lines without `$` are output, and other commands (`$ make test`) are left to their own tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from tests.tidy.source import REPOSITORY

FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)$")
RUNNER = Path(__file__).with_name("run_blocks.py")
NETWORK_CUT = Path(__file__).with_name("network_cut")
EXAMPLES = REPOSITORY / "examples"
"""Pages import from there what they quote."""
SKETCH = "sketch"


@dataclass(frozen=True)
class Block:
    """One thing to run, and where it stands on its page."""

    kind: str
    line: int
    text: str


def runnable(text: str) -> list[Block]:
    """The blocks of a page that a reader is told to run."""
    return [step for block in _fenced(text) for step in _steps(block)]


def _fenced(text: str) -> Iterator[Block]:
    """Every fenced block, its kind being the whole word list after the fence."""
    info, started, collected = "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if fence and not started:
            info, started, collected = fence["info"].strip(), number, []
        elif fence and not fence["info"].strip():
            yield Block(info, started, "\n".join(collected))
            started = 0
        elif started:
            collected.append(line)
    if started:
        raise ValueError(f"the block that starts on line {started} never ends")


def _steps(block: Block) -> Iterator[Block]:
    kind, *marks = block.kind.split() or [""]
    if SKETCH in marks:
        return
    if kind in {"python", "py"}:
        yield Block("python", block.line, block.text)
    elif kind in {"console", "sh", "shell", "bash"}:
        for offset, command in commands(block.text):
            yield Block("console", block.line + offset, command)


def commands(text: str) -> Iterator[tuple[int, str]]:
    """The `$ holdfast ...` commands of a console block, continuation lines joined."""
    waiting, started = "", 0
    for offset, line in enumerate(text.splitlines(), 1):
        if waiting:
            waiting += "\n" + line
        elif re.match(r"\$ holdfast(\s|$)", line):
            waiting, started = line.removeprefix("$ "), offset
        if waiting and not line.endswith("\\"):
            yield started, waiting
            waiting = ""


def run(page: Path, folder: Path, timeout: float = 250) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks in a folder; the result says which block failed and why."""
    plan = folder / "plan.json"
    blocks = [asdict(block) for block in runnable(page.read_text(encoding="utf-8"))]
    plan.write_text(json.dumps({"page": page.name, "blocks": blocks}), encoding="utf-8")
    work = folder / "page"
    work.mkdir()
    command = [*namespace(), sys.executable, str(RUNNER), str(plan)]
    return subprocess.run(
        command,
        cwd=work,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def environment(folder: Path) -> dict[str, str]:
    """A bare environment: no settings of the person who runs the tests, and no network."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    source = [str(NETWORK_CUT), str(EXAMPLES), *map(os.path.abspath, inherited)]
    return {
        "HOME": str(home),
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": os.pathsep.join(source),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
    }


@cache
def namespace() -> tuple[str, ...]:
    """A command prefix that starts a process without any network, where the system allows it.

    Without it the patched socket module is the only cut, which native code could pass by.
    """
    if not shutil.which("unshare"):
        return ()
    for flags in (["-n"], ["-r", "-n"]):
        tried = subprocess.run(["unshare", *flags, "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return ("unshare", *flags)
    return ()
