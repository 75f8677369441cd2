"""How SQLite finds what a recall looks up: by an index to the row, never through the tenant."""

from pathlib import Path
from typing import Any

import holdfast
from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.filter import among, is_null
from holdfast.core.query import Query
from holdfast.stores.memory.records import MEMORIES


def engine(storage: holdfast.Storage) -> SqliteDriver:
    """The engine below the layers."""
    driver: Any = storage._driver
    while not isinstance(driver, SqliteDriver):
        driver = driver.below
    return driver


def plan(driver: SqliteDriver, query: Query) -> str:
    """The first step by which the table itself is read."""
    text, values = driver._planner.query("default", query)
    with driver._reading() as connection:
        steps = connection.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
    [step] = [str(step[-1]) for step in steps if " t0 " in f"{step[-1]} "]
    return step


def test_the_look_ups_of_a_recall_go_by_index_to_the_rows(tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Query] = []
    run = SqliteDriver.query

    def spy(driver: SqliteDriver, tenant: Any, query: Query) -> Any:
        asked.append(query)
        return run(driver, tenant, query)

    monkeypatch.setattr(SqliteDriver, "query", spy)
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        turns: Any = [
            {"content": f"kayak {n}" if n % 3 else "tea", "session": "s", "turn": n}
            for n in range(30)
        ]
        storage.memory.remember_many(turns)
        asked.clear()
        assert len(storage.memory.recall("kayak", k=10)) == 10
        found = [
            plan(engine(storage), query) for query in asked if query.collection == MEMORIES.name
        ]
        assert len(found) == 2
        assert "(tenant=? AND place=?)" in found[0], "the turns beside the hits"
        assert "(tenant=? AND id=?)" in found[1], "the results"


def test_saboteur_the_same_look_up_in_other_words_reads_the_whole_tenant(tmp_path: Path) -> None:
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        where = among("place", ["s#1", "s#2"]) & is_null("forgotten_at")
        assert "(tenant=?)" in plan(engine(storage), Query(collection=MEMORIES.name, filter=where))
