"""The contract on a database like Supabase's, through the pooler that gives whole sessions.

The stores run through the other pooler: what differs here is only what lasts as long as a session,
which is prepared statements, and all of the contract prepares some.
"""

from typing import cast

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.servers.databases import Database
from holdfast.testing.servers.supabase import Project
from holdfast.testing.suite.driver_apply import *  # noqa: F403
from holdfast.testing.suite.driver_feed import *  # noqa: F403
from holdfast.testing.suite.driver_fields import *  # noqa: F403
from holdfast.testing.suite.driver_query import *  # noqa: F403
from holdfast.testing.suite.driver_search import *  # noqa: F403
from holdfast.testing.suite.driver_setup import *  # noqa: F403
from holdfast.testing.suite.driver_shared import *  # noqa: F403
from holdfast.testing.suite.isolation import *  # noqa: F403


def by_session(database: Database, role: str) -> str:
    return cast("Project", database).session_url(role)


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    new = request.node.get_closest_marker("new_store") is not None
    return PostgresHarness(new=new, kind=Project, through=by_session)
