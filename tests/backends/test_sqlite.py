"""The SQLite engine under the whole suite."""

from pathlib import Path

import pytest

from holdfast.testing import Harness
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return SqliteHarness(tmp_path)
