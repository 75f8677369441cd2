"""`holdfast maintain` on a file; test_postgres_upkeep.py does the same on a server."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from holdfast.cli.maintain import TASKS
from tests.cli.conftest import Shell


@pytest.mark.parametrize("task", TASKS)
def test_a29_every_task_runs_on_a_file_and_says_what_it_did(shell: Shell, task: str) -> None:
    shell.ok("remember", "Ada takes her tea without sugar.")
    report = shell.json("maintain", task)
    assert (report["task"], report["ok"], report["findings"]) == (task, True, [])
    if task == "integrity":
        assert report["counts"]["memories"] == 1
    assert "Ada" in shell.ok("recall", "tea")


def test_a29_saboteur_what_integrity_finds_is_told_and_fails(shell: Shell) -> None:
    shell.ok("kv", "set", "k", "1")
    with apsw.Connection(shell.store) as connection:
        connection.execute("UPDATE entries SET value = '{'")
    connection.close()
    done = shell.run("maintain", "integrity")
    assert done.exit_code == 1
    assert "entries" in done.stdout


def test_a29_there_is_nothing_to_maintain_where_no_store_is(shell: Shell) -> None:
    shell.refused(3, "maintain", "vacuum")
    assert not Path(shell.store).exists()
    assert shell.run("maintain", "unknown").exit_code == 2
