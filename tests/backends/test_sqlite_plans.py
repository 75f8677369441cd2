"""How SQLite finds what a recall looks up: by an index to the row, never through the tenant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import holdfast
from holdfast.backends.sql import filters, planner
from holdfast.backends.sql.filters import FilterPlanner
from holdfast.backends.sqlite import SqliteDriver, narrowing
from holdfast.backends.sqlite.connection import fetched
from holdfast.core.filter import EVERYTHING, InSelect, among, eq, is_null
from holdfast.core.query import Query, asc, desc
from holdfast.core.search import Search, TextLeg
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.records import MESSAGE_VECTORS, MESSAGES
from holdfast.stores.knowledge.records import RUNS
from holdfast.stores.memory.records import MEMORIES, SPACES
from holdfast.stores.sessions.records import SESSIONS
from holdfast.stores.tool_events import TOOL_EVENTS
from holdfast.testing.shapes import NOTES, SHAPES, note, put


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


def test_a_search_reads_the_rows_of_its_hits_by_their_numbers(
    tmp_path: Path, monkeypatch: Any
) -> None:
    driver = SqliteDriver(str(tmp_path / "agent.db"), tail_rows=4)
    driver.setup(SHAPES)
    driver.apply("t", [put(NOTES, note(str(n), "word", day=n % 2)) for n in range(50)])
    driver._merger.run(f"{NOTES.name}__terms", "t")
    asked: list[str] = []

    def spy(connection: apsw.Connection, text: str, values: Any = ()) -> list[tuple[Any, ...]]:
        asked.append(text)
        return fetched(connection, text, values)

    monkeypatch.setattr(narrowing, "fetched", spy)
    for where in (EVERYTHING, eq("day", 1)):
        leg = TextLeg(terms=("word",))
        assert driver.search("t", Search(collection=NOTES.name, filter=where, text=leg)).text
    looked_up = [text for text in asked if "carray" in text]
    assert len(looked_up) == 3, "which pass, and the records of two searches"
    # Saboteur: words that leave the planner the choice.
    looked_up.append(
        f"SELECT * FROM {NOTES.name} AS t0"
        " WHERE t0._row IN (SELECT value FROM json_each(?)) AND t0.tenant = ?"
    )
    with driver._reading() as connection:
        steps = [
            str(step[-1])
            for text in looked_up
            for step in connection.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?"))
            if " t0 " in f"{step[-1]} "
        ]
    driver.close()
    assert all("INTEGER PRIMARY KEY (rowid=?)" in step for step in steps[:-1]), steps
    assert "(tenant=?)" in steps[-1]


def prepared_again(driver: SqliteDriver, query: Query) -> int:
    """How often SQLite asks while it plans, when a query runs that ran before."""
    asked: list[Any] = []

    def authorize(*given: Any) -> int:
        asked.append(given)
        return apsw.SQLITE_OK

    text, values = driver._planner.query("default", query)
    with driver._reading() as connection:
        connection.authorizer = authorize
        for _ in range(3):
            asked.clear()
            connection.execute(text, values).fetchall()
        connection.authorizer = None
    return len(asked)


def test_a_statement_that_ran_before_is_not_planned_again(tmp_path: Path) -> None:
    where = eq("state", "active") & among("id", ["a"])
    query = Query(collection=SPACES.name, filter=where, limit=1)
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        assert prepared_again(engine(storage), query) == 0
        # Saboteur: a connection on which a plan may follow the values.
        with engine(storage)._reading() as connection:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 0)
            connection.execute("PRAGMA schema_version").fetchall()
        other = Query(collection=SPACES.name, filter=where, order=asc("state"), limit=1)
        assert prepared_again(engine(storage), other) > 0


def test_a_partial_index_serves_the_value_that_its_condition_names(tmp_path: Path) -> None:
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        scope = eq("agent", "a") & eq("user", "u") & eq("namespace", "n")
        canonical = Query(collection=SESSIONS.name, filter=scope & eq("canonical", True))
        assert "sessions__unique_canonical_session" in plan(engine(storage), canonical)
        through = eq("source", "s") & eq("status", "succeeded")
        runs = Query(collection=RUNS.name, filter=through, order=desc("cursor"))
        assert "cursor" in plan(engine(storage), runs)
        # Saboteur: another value, for which the index has nothing.
        others = Query(collection=SESSIONS.name, filter=scope & eq("canonical", False))
        assert "canonical_session" not in plan(engine(storage), others)


def correlate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break sub-selects: each names the row's tenant, and so is read anew for each row."""
    write = filters.FilterPlanner._write_in_select

    def named(planner: FilterPlanner, shape: Any, depth: int) -> str:
        own = f"t{depth + 1}.tenant = ?"
        return write(planner, shape, depth).replace(own, f"{own} AND {own[:-1]}t{depth}.tenant")

    for word in ("in_select", "found_in"):
        monkeypatch.setitem(filters._WRITERS, word, named)
    monkeypatch.setattr(filters, "one_by_one", lambda shape: shape)


@pytest.mark.parametrize("broken", [False, True])
def test_a_page_reads_once_what_a_sub_select_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    if broken:
        correlate(monkeypatch)
    mine = InSelect("session_id", SESSIONS.name, "id", eq("agent", "a"))
    page = Query(collection=TOOL_EVENTS.name, filter=mine, order=desc("created_at", "id"), limit=10)
    with holdfast.open(str(tmp_path / "agent.db")) as storage:
        text, values = engine(storage)._planner.query("default", page)
        with engine(storage)._reading() as connection:
            steps = [
                str(step[-1]) for step in connection.execute(f"EXPLAIN QUERY PLAN {text}", values)
            ]
    [step] = [step for step in steps if "LIST SUBQUERY" in step]
    assert step.startswith("CORRELATED") is broken


def steps(storage: holdfast.Storage, call: Callable[[], object]) -> int:
    """What SQLite does for a call, in tens of its steps."""
    count = 0

    def note(_: object = None) -> bool:
        nonlocal count
        count += 1
        return False

    with engine(storage)._reading() as connection:  # the one that is lent next
        connection.set_progress_handler(note, 10)
    call()
    return count


def steps_beside(path: Path, messages: int) -> tuple[int, int]:
    """What it takes to see that no message lacks its vector: no message, and a certain one."""
    with holdfast.open(str(path), durability="normal") as storage:
        chat = storage.conversations.create()
        for _ in range(messages // 100):
            drafts = [Draft(text=f"message {n}") for n in range(100)]
            storage.conversations.append_many(chat.id, drafts)
        while storage.conversations.embeddings.run(limit=1000):
            pass
        bare = ~InSelect("id", MESSAGE_VECTORS.name, "message_id", EVERYTHING)
        [last] = storage.conversations.messages.recent(chat.id, 1)
        one = Query(collection=MESSAGES.name, filter=eq("id", last.id) & bare)
        idle = steps(storage, lambda: storage.conversations.embeddings.run())
        return idle, steps(storage, lambda: engine(storage).query("default", one))


def test_what_is_in_no_sub_select_is_looked_up_one_by_one(tmp_path: Path) -> None:
    few, many = (steps_beside(tmp_path / f"{n}.db", n) for n in (200, 1_600))
    assert many[0] < 16 * few[0], "eight times the messages: a run grows with their square"
    assert many[1] < 2 * few[1], "eight times the messages: one of them reads the vectors of all"


def test_saboteur_that_reads_all_for_each_row_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    correlate(monkeypatch)
    few, many = (steps_beside(tmp_path / f"{n}.db", n) for n in (200, 1_600))
    assert many[0] > 32 * few[0]


def test_saboteur_that_reads_all_for_one_row_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "one_by_one", lambda shape: shape)
    few, many = (steps_beside(tmp_path / f"{n}.db", n) for n in (200, 1_600))
    assert many[1] > 4 * few[1]


@pytest.mark.parametrize("broken", [False, True])
def test_the_owners_of_stretches_are_looked_up_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    plans: list[str] = []

    def spy(on: Any, text: str, values: Any = ()) -> Any:
        if "carray(?)" in text and "IN (SELECT" in text:
            steps = on.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()
            plans.extend(str(step[-1]) for step in steps if " t1 " in f"{step[-1]} ")
        return fetched(on, text, values)

    monkeypatch.setattr(narrowing, "fetched", spy)
    if broken:
        monkeypatch.setattr(planner, "one_by_one", lambda shape: shape)
    path = str(tmp_path / "agent.db")
    with holdfast.open(path, options={"tail_rows": 1, "segment_rows": 64}) as storage:
        for n in range(6):
            storage.memory.remember(f"subject {n} " + "and so on " * 3_000)
        storage._driver.maintain("reindex")
        storage.memory.recall("subject 3", k=3)
    assert plans
    assert all("(tenant=? AND id=?)" in step for step in plans) is not broken
