"""The PostgreSQL engine under the whole suite, on a database with Supabase's roles and schema.

Through a pooler in transaction mode, as most programs reach one.
"""

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.servers.supabase import Project
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    new = request.node.get_closest_marker("new_store") is not None
    return PostgresHarness(new=new, kind=Project, through=lambda at, role: at.url(role))
