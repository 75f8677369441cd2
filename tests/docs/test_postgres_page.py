"""docs/postgres.md, followed to the letter, against a real server and a real standby."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from holdfast.backends.postgres.options import ALLOWED, Options
from holdfast.testing.servers import Server, running, started
from tests.tidy.blocks import RUNNER, environment, runnable
from tests.tidy.source import REPOSITORY

PAGE = REPOSITORY / "docs" / "postgres.md"
MARK = " sketch postgres\n"
"""What the fence of a block says that needs a server."""


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with running() as primary:
        primary.psql("CREATE ROLE owner LOGIN CREATEDB CREATEROLE")
        primary.psql("CREATE EXTENSION vector", "template1")
        with started(primary.standby()) as standby:
            yield primary, standby


def followed(
    text: str, servers: tuple[Server, Server], folder: Path
) -> subprocess.CompletedProcess[str]:
    primary, standby = servers
    text = text.replace("localhost:5432", f"127.0.0.1:{primary.port}")
    text = text.replace("localhost:5433", f"127.0.0.1:{standby.port}")
    blocks = [asdict(block) for block in runnable(text.replace(MARK, "\n"))]
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"page": PAGE.name, "blocks": blocks}), encoding="utf-8")
    work = folder / "page"
    work.mkdir()
    known = environment(folder)
    # Without what cuts the network: the servers are this machine's.
    source = [str(REPOSITORY / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
    return subprocess.run(
        [sys.executable, str(RUNNER), str(plan)],
        cwd=work,
        env={**known, "PYTHONPATH": os.pathsep.join(source)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_the_page_is_true(servers: tuple[Server, Server], tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(MARK) >= 6
    done = followed(text, servers, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    assert "Ada takes her tea without sugar." in done.stdout


def test_saboteur_a_block_that_is_wrong_is_caught(
    servers: tuple[Server, Server], tmp_path: Path
) -> None:
    text = "~~~console sketch postgres\n$ holdfast doctor postgresql://app@localhost:5432/no\n~~~\n"
    assert followed(text.replace("~~~", "```"), servers, tmp_path).returncode != 0


def test_the_page_names_every_option_with_its_default() -> None:
    text, defaults = PAGE.read_text(encoding="utf-8"), Options()
    for name in ALLOWED:
        value = getattr(defaults, name)
        shown = "on" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
        cell = f"`{shown}`" if isinstance(value, str) and value else shown
        assert f"| `{name}` | {cell} |" in text, name
