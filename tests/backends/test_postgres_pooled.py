"""The PostgreSQL engine under the whole suite, through PgBouncer in transaction mode."""

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.servers.databases import Database
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    new = request.node.get_closest_marker("new_store") is not None
    return PostgresHarness(new=new, through=Database.pooled_url)
