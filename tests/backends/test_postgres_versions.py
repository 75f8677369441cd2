"""A part of the suite on PostgreSQL 15 and 16, which have no usable pgvector; soak runs it all."""

import pytest

from holdfast.testing.servers import MissingServer, find, running
from soak import pg_matrix

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PART = "TestWithoutVectors or TestKeyValue or TestMemoryHygiene"


@pytest.mark.parametrize(("build", "release"), [("oldest", "15."), ("old vectors", "16.")])
def test_an_older_release_passes_and_says_what_it_lacks(build: str, release: str) -> None:
    try:
        find(build)
    except MissingServer as missing:  # PostgreSQL 15 is in one release of Debian alone
        pytest.skip(str(missing))
    findings: list[str] = []
    with running(build, settings=pg_matrix.QUIET) as server:
        assert server.psql("SHOW server_version").startswith(release)
        told = pg_matrix.suite_on(server, PART, workers="0")
    pg_matrix.judge(told, build, vectors=False, note=findings.append)
    assert findings == []
    assert told.passed > 20


def test_what_is_skipped_without_a_right_to_is_a_finding() -> None:
    findings: list[str] = []
    told = pg_matrix.Told(passed=1, skipped={"no vectors: there is no pgvector": 2, "a whim": 1})
    pg_matrix.judge(told, "modern", vectors=True, note=findings.append)
    assert len(findings) == 2
    pg_matrix.judge(told, "oldest", vectors=False, note=findings.append)
    assert len(findings) == 3
    pg_matrix.judge(pg_matrix.Told(), "oldest", vectors=False, note=findings.append)
    assert len(findings) == 4
