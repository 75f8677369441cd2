"""Very small segments through PgBouncer in transaction mode, where no session is one's own."""

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.servers.databases import Database
from holdfast.testing.suite.driver_index import TestDriverIndex  # noqa: F401


def small(database: Database, role: str) -> str:
    return f"{database.pooled_url(role)}&tail_rows=4"


@pytest.fixture
def harness() -> Harness:
    return PostgresHarness(new=False, through=small)
