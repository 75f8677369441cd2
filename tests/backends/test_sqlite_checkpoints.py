"""What checkpoints make of a file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from msgspec.structs import replace

import holdfast
from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.filter import either
from holdfast.core.query import Query
from holdfast.stores.checkpoints.records import STRETCHES


def test_n9_a_conversation_of_a_thousand_steps_is_a_file_of_less_than_3_mb(tmp_path: Path) -> None:
    rng = random.Random(2)
    lines: list[bytes] = []
    with holdfast.open(str(tmp_path / "agent.db"), durability="normal", embedder=None) as storage:
        for step in range(1_000):
            lines.append(rng.randbytes(300).hex().encode())
            storage.checkpoints.save(b"[" + b",".join(lines) + b"]", iteration=step)
        stats = storage.checkpoints.stats()
    assert stats.checkpoints == 1_000
    assert stats.state_bytes > 300_000_000
    assert (tmp_path / "agent.db").stat().st_size < 3_000_000
    with holdfast.open(str(tmp_path / "agent.db"), embedder=None) as storage:
        assert storage.checkpoints.prune(keep=10) == 990
        for found in storage.checkpoints.list():
            loaded = storage.checkpoints.load(found.id)
            assert loaded is not None
            assert loaded.state == b"[" + b",".join(lines[: found.iteration + 1]) + b"]"


def test_a_load_reads_the_stretches_of_its_own_logs(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Query] = []
    run = SqliteDriver.query

    def spy(driver: SqliteDriver, tenant: Any, query: Query) -> Any:
        asked.append(query)
        return run(driver, tenant, query)

    with holdfast.open(str(tmp_path / "agent.db"), embedder=None) as storage:
        state = random.Random(3).randbytes(9_000)
        first = storage.checkpoints.save(state, iteration=0)
        fork = storage.checkpoints.fork(first.id, session_id="fork")
        grown = storage.checkpoints.save(state + bytes(1_900), iteration=1, session_id="fork")
        assert grown.sequence == fork.sequence + 1
    with holdfast.open(str(tmp_path / "agent.db"), embedder=None) as storage:
        monkeypatch.setattr(SqliteDriver, "query", spy)
        assert storage.checkpoints.load(grown.id) is not None
        queries = [query for query in asked if query.collection == STRETCHES.name]
        assert len(queries) == 2, "one for each log"
        engine: Any = storage._driver
        while not isinstance(engine, SqliteDriver):
            engine = engine.below
        # Saboteur: both logs in one query.
        queries.append(replace(queries[0], filter=either(*(query.filter for query in queries))))
        with engine._reading() as connection:
            steps = [
                str(step[-1])
                for query in queries
                for text, values in [engine._planner.query("default", query)]
                for step in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)
            ]
    assert ["(tenant=? AND log_id=? AND start<?)" in step for step in steps] == [True, True, False]
