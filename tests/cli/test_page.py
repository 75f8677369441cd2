"""docs/cli.md says what the commands say, and importing the package stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import environment
from tools.generate_cli_docs import MARK, PAGE, page


def test_the_page_is_fresh() -> None:
    held = PAGE.read_text(encoding="utf-8")
    assert page(held) == held, "run python tools/generate_cli_docs.py"


def test_saboteur_a_stale_page_is_caught() -> None:
    held = PAGE.read_text(encoding="utf-8")
    stale = held.replace("`holdfast kv get`", "`holdfast kv fetch`")
    assert stale != held
    assert page(stale) == held
    with pytest.raises(SystemExit, match="no mark"):
        page(held.replace(MARK, ""))


LIGHT = """
import sys
import holdfast
assert not {"click", "rich", "sqlite3"} & set(sys.modules), "import holdfast"
from holdfast.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
assert not {"rich", "asyncio"} & set(sys.modules), "holdfast " + sys.argv[1]
"""


@pytest.mark.parametrize("args", [["--help"], ["--store", "memory:", "kv", "list"]], ids=" ".join)
def test_rich_is_loaded_for_a_table_and_nothing_else(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, *args],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
