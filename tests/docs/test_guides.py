"""Both guides, followed to the letter, in a package of somebody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.guides import GUIDES, held, quoted, quotes
from tests.tidy.blocks import environment

STORE_LINES = 80
CASES = ("TestKeyValue", "TestTaskLease", "TestDriverApply", "TestDriverFeed")


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_guide_quotes_files_as_they_are(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(quotes(page)) == 2
    assert quoted(text) == text, "run python -m tests.docs.guides"


def test_saboteur_stale_quote_is_caught() -> None:
    text = "one\n```python sketch examples/notes_store.py\nx = 1\n```\ntwo\n"
    assert held("examples/notes_store.py") in quoted(text)


def test_the_store_is_small() -> None:
    assert len(held("examples/notes_store.py").splitlines()) <= STORE_LINES


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the files of the guides and, as an installation leaves it, the entry point."""
    folder = tmp_path / "package"
    folder.mkdir()
    for path in [path for page in GUIDES for path in quotes(page)]:
        (folder / Path(path).name).write_text(held(path), encoding="utf-8")
    installed = folder / "scratch_backend-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: scratch-backend\nVersion: 1\n"
    )
    (installed / "entry_points.txt").write_text(_entry_points())
    return folder


def _entry_points() -> str:
    """What an installer makes of the guide's table."""
    toml = GUIDES[1].read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    head, _, line = toml.strip().partition("\n")
    assert head == '[project.entry-points."holdfast.backends"]'
    return f"[holdfast.backends]\n{line.replace(chr(34), '')}\n"


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python as the package's own author would."""
    variables = environment(package.parent)
    variables["PYTHONPATH"] += f":{package}"
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=package, env=variables, capture_output=True, text=True, check=False
    )


def suite(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plugin = ("-p", "holdfast.testing.plugin", "-p", "no:cacheprovider", "-q")
    return run(package, "-m", "pytest", *plugin, *arguments)


def test_the_store_passes_its_own_cases_on_both_engines(package: Path) -> None:
    done = suite(package, "test_notes_store.py")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "12 passed" in done.stdout


def test_the_backend_passes_shipped_cases(package: Path) -> None:
    done = suite(package, "-vv", "test_scratch_backend.py", "-k", " or ".join(CASES))
    assert done.returncode == 0, done.stdout[-4000:]
    passed = [line for line in done.stdout.splitlines() if "PASSED" in line]
    assert [name for name in CASES if not any(name in line for line in passed)] == []


def test_saboteur_a_backend_that_forgets_is_caught(package: Path) -> None:
    source = package / "scratch_backend.py"
    forgets = "_STORES.setdefault(name, MemoryDriver(clock))"
    assert forgets in source.read_text()
    source.write_text(source.read_text().replace(forgets, "MemoryDriver(clock)"))
    done = suite(package, "test_scratch_backend.py", "-k", "TestKeyValue")
    assert done.returncode == 1
    assert "test_a17" in done.stdout or "test_h2" in done.stdout


USE = """
import asyncio, holdfast, holdfast.aio
from holdfast.core.errors import Unsupported

first, second = holdfast.open("scratch:drafts"), holdfast.open("scratch:drafts")
first.memory.remember("The scratch backend was found by its entry point.")
[found] = second.memory.recall("who found the scratch backend?")
try:
    first.backup("copy")
except Unsupported as refused:
    print(refused)

async def main():
    async with holdfast.aio.open("scratch:drafts") as storage:
        return await storage.kv.set("key", "value"), await storage.memory.stats()

print(asyncio.run(main())[1].total)
"""


def test_the_backend_is_found_by_its_url(package: Path) -> None:
    done = run(package, "-c", USE)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "does not offer backup: there is no file to copy." in done.stdout
