"""The campaigns on PostgreSQL in small counts, with their saboteurs."""

import pytest

from holdfast.testing.servers import MissingServer
from soak import pg_cuts, pg_full, pg_kills, pg_patroni, pg_pooled, pg_tenants
from tests.soak.test_campaigns import PLENTY_SECONDS, check

pytestmark = pytest.mark.slow


def test_a_killed_cluster_loses_nothing_and_its_clients_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pg_kills, "RECOVERY_SECONDS", PLENTY_SECONDS)
    result = pg_kills.run(2)
    check(result)
    assert result.counts["acknowledged"] > 2
    assert result.counts["lost"] == 0


def test_links_that_are_cut_neither_lose_nor_double_a_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pg_cuts, "CUT_SECONDS", PLENTY_SECONDS)
    result = pg_cuts.run(12)
    check(result)
    assert result.counts["cut_when_commit_was_answered"] == 4
    assert result.counts["messages_acknowledged"] > 0


def test_what_is_foreign_stays_out_of_reach() -> None:
    result = pg_tenants.run(4_000)
    check(result)
    assert result.counts["raw_select"] > 0
    assert result.counts["query"] > 0


def test_tenants_behind_a_pooler_get_their_own_rows_and_all_of_them() -> None:
    result = pg_pooled.run(200)
    check(result)
    assert result.counts == {"foreign": 0, "empty": 0}


def test_f33_a_full_disk_refuses_and_recovers_when_there_is_room() -> None:
    try:
        result = pg_full.run(2)
    except MissingServer as missing:
        pytest.skip(str(missing))
    check(result)
    assert result.counts["told_as_storage_full"] > 0


def test_what_was_lost_or_doubled_under_patroni_is_a_finding() -> None:
    findings: list[str] = []
    counts: dict[str, int] = {}
    pg_patroni.compare(["a", "b", "c"], ["c", "a", "a", "d"], findings.append, counts)
    assert findings == ["lost: b", "doubled: a"]
    assert counts == {"acknowledged": 3, "lost": 1, "doubled": 1}
