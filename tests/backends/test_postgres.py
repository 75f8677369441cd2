"""The PostgreSQL engine under the whole suite, used by a role that owns nothing."""

import pytest

from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    return PostgresHarness(new=request.node.get_closest_marker("new_store") is not None)
