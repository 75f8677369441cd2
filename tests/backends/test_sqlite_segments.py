"""Segments: the suite's searches over very small ones, and what only merges can get wrong."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy
import pytest

import holdfast.backends.sqlite.search  # noqa: F401 - or it loads what a test has just broken
from holdfast.backends.segments import codes
from holdfast.backends.segments.cache import Cache
from holdfast.backends.segments.included import Included
from holdfast.backends.sqlite import (
    SqliteDriver,
    covers,
    index,
    merging,
    schema,
    vector_field,
    vector_search,
)
from holdfast.backends.sqlite.index import Index, Picture, Source
from holdfast.backends.sqlite.merger import Merger
from holdfast.core.change import Delete
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Corrupt, Invalid
from holdfast.core.filter import Filter, eq, gt, is_null
from holdfast.core.search import Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import Vector
from holdfast.testing import Harness
from holdfast.testing.shapes import NOTES, SHAPES, note, put, vector
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.stage import Stage
from holdfast.testing.suite.driver_index import TestDriverIndex
from holdfast.testing.suite.driver_operations import TestDriverTenants  # noqa: F401
from holdfast.testing.suite.driver_search import (  # noqa: F401
    TestDriverSearchFreshness,
    TestDriverTextSearch,
    TestDriverVectorSearch,
)
from holdfast.testing.suite.memory_recall import TestMemoryRecall  # noqa: F401

SMALL: dict[str, Any] = {"tail_rows": 4, "segment_rows": 24}
TERMS, VECTORS = f"{NOTES.name}__terms", f"{NOTES.name}__embedding"


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    return SqliteHarness(tmp_path, **SMALL)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., SqliteDriver]]:
    """Opens drivers on one file, with small segments unless told otherwise."""
    made: list[SqliteDriver] = []

    def open_one(**options: Any) -> SqliteDriver:
        driver = SqliteDriver(str(tmp_path / "agent.db"), **{**SMALL, **options})
        driver.setup(SHAPES)
        made.append(driver)
        return driver

    yield open_one
    for driver in made:
        driver.close()


def fill(driver: Driver, count: int, start: int = 0) -> None:
    chance = random.Random(start)
    notes = [
        note(
            f"{n:04}",
            f"word{n % 7} common",
            day=n % 3,
            embedding=vector(*chance.choices((-1, 0, 2), k=3), 1),
        )
        for n in range(start, start + count)
    ]
    driver.apply("t", [put(NOTES, record) for record in notes])


def both(driver: Driver, k: int = 10) -> Hits:
    text = TextLeg(terms=tuple(analyze("word3 common")))
    near = VectorLeg(field="embedding", vector=vector(1, 1, 1, 1))
    return driver.search("t", Search(collection=NOTES.name, k=k, text=text, vector=near))


def merge(driver: SqliteDriver) -> None:
    """Merge in this thread, rather than wait for the driver's."""
    for source in (TERMS, VECTORS):
        driver._merger.run(source, "t")


def segments(driver: SqliteDriver) -> int:
    count = driver.health().facts["segments"]
    assert isinstance(count, int)
    return count


def scanned(tmp_path: Path) -> Hits:
    """What a driver that never merges, on a copy without segments, says."""
    copy = str(tmp_path / f"copy{len(list(tmp_path.iterdir()))}.db")
    source = apsw.Connection(str(tmp_path / "agent.db"))
    source.execute("VACUUM INTO ?", (copy,))
    source.close()
    connection = apsw.Connection(copy)
    for table in ("holdfast_covers", "holdfast_segments", "holdfast_notes"):
        connection.execute(f"DELETE FROM {table}")
    connection.close()
    driver = SqliteDriver(copy, tail_rows=65_536)
    driver.setup(SHAPES)
    try:
        return both(driver)
    finally:
        driver.close()


def test_a_search_that_finds_a_long_tail_has_it_merged(
    opened: Callable[..., SqliteDriver],
) -> None:
    driver = opened()
    fill(driver, 3)
    both(driver)
    driver._merger.wait()
    assert segments(driver) == 0
    fill(driver, 40, 3)
    before = both(driver)
    driver._merger.wait()
    connection = driver.native()
    tables = {t for (t,) in connection.execute("SELECT source FROM holdfast_covers WHERE high > 0")}
    connection.close()
    assert tables == {TERMS, VECTORS}
    assert driver._merger.last_error == ""
    assert both(driver) == before
    assert driver.maintain("integrity").ok


def test_a_process_that_never_searches_loads_no_numpy(tmp_path: Path) -> None:
    code = """
import sys
from holdfast.backends.sqlite import SqliteDriver
from holdfast.testing.shapes import NOTES, SHAPES, note, put
driver = SqliteDriver(sys.argv[1], tail_rows=1)
driver.setup(SHAPES)
driver.apply("t", [put(NOTES, note(str(n), "word")) for n in range(50)])
driver.close()
print("numpy" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "agent.db")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_merges_keep_segments_few_and_drop_what_they_replace(
    opened: Callable[..., SqliteDriver],
) -> None:
    driver = opened(segment_rows=1_000)
    for start in range(0, 200, 10):
        fill(driver, 10, start)
        merge(driver)
    assert segments(driver) <= 12
    connection = driver.native()
    states = connection.execute("SELECT DISTINCT state FROM holdfast_segments").fetchall()
    orphans = connection.execute(
        "SELECT count(*) FROM holdfast_segment_parts WHERE segment NOT IN"
        " (SELECT id FROM holdfast_segments)"
    ).get
    connection.close()
    assert (states, orphans) == ([("live",)], 0)


def test_a_merge_that_another_overtook_counts_for_nothing(
    opened: Callable[..., SqliteDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = opened(), opened()
    fill(slow, 20)
    write = merging.Merging._write

    def overtaken(self: merging.Merging, plan: Any, segment: Any) -> None:
        write(self, plan, segment)
        monkeypatch.setattr(merging.Merging, "_write", write)
        # The claim has run out: another process takes the work over.
        free = "UPDATE holdfast_covers SET claimed_until = 0"
        quick._writer.run(lambda c: c.execute(free).fetchall())
        quick._merger.run(TERMS, "t")

    monkeypatch.setattr(merging.Merging, "_write", overtaken)
    assert slow._merger.run(TERMS, "t") == 0
    fill(slow, 1, 20)
    merge(slow)
    assert slow.maintain("integrity").ok
    assert len(both(slow, 30).text) == 21


def test_only_one_process_merges_a_source_at_a_time(
    opened: Callable[..., SqliteDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(), opened()
    fill(first, 20)
    write = merging.Merging._write
    beside: list[int] = []

    def watched(self: merging.Merging, plan: Any, segment: Any) -> None:
        if not beside:
            beside.append(second._merger.run(TERMS, "t"))
        write(self, plan, segment)

    monkeypatch.setattr(merging.Merging, "_write", watched)
    assert first._merger.run(TERMS, "t") == 1
    assert beside == [0]


def test_what_is_written_while_a_merge_reads_is_not_lost(
    opened: Callable[..., SqliteDriver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = opened(), opened()
    fill(driver, 20)
    write = merging.Merging._write

    def meanwhile(self: merging.Merging, plan: Any, segment: Any) -> None:
        monkeypatch.setattr(merging.Merging, "_write", write)
        other.apply("t", [put(NOTES, note("0003", "word3 word3", embedding=vector(1, 1, 1, 1)))])
        other.apply("t", [Delete(NOTES.name, ("0019",)), Delete(NOTES.name, ("0010",))])
        other.apply("t", [put(NOTES, note("late", "common", embedding=vector(1, 1, 1, 2)))])
        write(self, plan, segment)

    for source in (TERMS, VECTORS):
        monkeypatch.setattr(merging.Merging, "_write", meanwhile)
        assert driver._merger.run(source, "t") >= 1
    assert both(driver) == both(other) == scanned(tmp_path)
    assert driver.maintain("integrity").ok


WRITE_AND_MERGE = """
import random, sys
from holdfast.backends.sqlite import SqliteDriver
from holdfast.core.change import Delete
from holdfast.testing.shapes import NOTES, SHAPES, note, put, vector
driver = SqliteDriver(sys.argv[1], tail_rows=4, segment_rows=24)
driver.setup(SHAPES)
chance = random.Random(int(sys.argv[2]))
while True:
    n = chance.randrange(80)
    body = f"word{chance.randrange(7)} common"
    made = note(f"{n:04}", body, embedding=vector(*chance.choices((-1, 0, 2), k=3), 1))
    gone = Delete(NOTES.name, (f"{chance.randrange(80):04}",))
    driver.apply("t", [put(NOTES, made), gone])
    for source in ("terms", "embedding"):
        driver._merger.run(f"{NOTES.name}__{source}", "t")
    print(n, flush=True)
"""


def test_kill_9_during_merges_leaves_search_equal_to_a_full_scan(
    opened: Callable[..., SqliteDriver], tmp_path: Path
) -> None:
    path = str(tmp_path / "agent.db")
    for kill in range(4):
        command = [sys.executable, "-c", WRITE_AND_MERGE, path, str(kill)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(15 + 7 * kill):
                assert child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
        driver = opened()
        report = driver.maintain("integrity")
        assert report.ok, report.findings
        assert both(driver) == scanned(tmp_path)


def test_what_a_dead_merge_left_is_removed_by_the_next(
    opened: Callable[..., SqliteDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened()
    fill(driver, 20)

    def dies(connection: apsw.Connection, plan: Any) -> bool:
        raise Conflict("no more")

    publish = merging._publish
    monkeypatch.setattr(merging, "_publish", dies)
    with pytest.raises(Conflict):
        driver._merger.run(TERMS, "t")
    monkeypatch.setattr(merging, "_publish", publish)
    assert segments(driver) == 0
    merge(driver)
    connection = driver.native()
    states = connection.execute("SELECT DISTINCT state FROM holdfast_segments").fetchall()
    connection.close()
    assert states == [("live",)]


def test_the_cache_stays_within_its_limit(opened: Callable[..., SqliteDriver]) -> None:
    driver = opened(search_cache_bytes=2_000)
    fill(driver, 60)
    expected = both(driver)
    merge(driver)
    for _ in range(3):
        assert both(driver) == expected
        facts = driver.health().facts
        assert facts["search_cache_bytes"] <= facts["search_cache_limit_bytes"] == 2_000
    uncached = opened(search_cache_bytes=0)
    assert both(uncached) == expected
    assert uncached.health().facts["search_cache_bytes"] == 0


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(10)
    cache.put("a", 1, 4)
    cache.put("b", 2, 4)
    assert cache.get("a") == 1
    cache.put("c", 3, 4)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    cache.put("large", 4, 11)
    assert cache.get("large") is None
    assert cache.used_bytes == 8


@pytest.mark.parametrize("value", [-1, 1.5, "1", True])
def test_a_limit_that_is_no_number_of_bytes_is_refused(value: Any) -> None:
    with pytest.raises(Invalid, match="search_cache_bytes"):
        Cache(value)


@pytest.mark.parametrize("name", ["tail_rows", "segment_rows"])
@pytest.mark.parametrize("value", [0, 65_537, True, "9"])
def test_limits_of_merges_are_checked(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=name):
        SqliteDriver(str(tmp_path / "agent.db"), **{name: value})


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE holdfast_segment_parts SET data = zeroblob(length(data)) WHERE name = 'signs'",
        "UPDATE holdfast_segment_parts SET data = zeroblob(length(data)) WHERE name = 'lengths'",
        "UPDATE holdfast_segment_parts SET data = zeroblob(length(data)) WHERE name = 'column:day'",
        "UPDATE holdfast_segment_parts SET data = zeroblob(length(data)) WHERE name = 'coded:day'",
        "DELETE FROM holdfast_segment_parts WHERE name = 'terms'",
        "DELETE FROM holdfast_notes",
        "DELETE FROM holdfast_segments WHERE width > 0",
        f'UPDATE "{TERMS}" SET length = length + 1 WHERE _row = 5',
    ],
)
def test_drift_is_reported_and_reindex_mends_it(
    opened: Callable[..., SqliteDriver], tmp_path: Path, damage: str
) -> None:
    driver = opened()
    fill(driver, 40)
    merge(driver)
    driver.apply("t", [Delete(NOTES.name, ("0007",))])
    assert driver.maintain("integrity").ok
    connection = apsw.Connection(str(tmp_path / "agent.db"))
    connection.execute(damage)
    connection.close()
    report = driver.maintain("integrity")
    assert not report.ok
    assert report.findings
    assert driver.maintain("reindex").ok
    assert driver.maintain("integrity").ok
    assert both(driver) == scanned(tmp_path)


def test_rows_that_another_program_deletes_are_found_no_more(
    opened: Callable[..., SqliteDriver], tmp_path: Path
) -> None:
    driver = opened()
    fill(driver, 30)
    merge(driver)
    both(driver)
    connection = apsw.Connection(str(tmp_path / "agent.db"))
    connection.execute(f"DELETE FROM {NOTES.name} WHERE id < '0020'")
    connection.close()
    assert {hit.key[0] for hit in both(driver, 30).text} == {f"{n:04}" for n in range(20, 30)}
    assert both(driver) == scanned(tmp_path)


def test_what_a_group_has_not_committed_is_not_kept(
    opened: Callable[..., SqliteDriver],
) -> None:
    driver, other = opened(), opened()
    fill(driver, 20)
    merge(driver)
    before = both(driver, 30)

    def write_and_fail() -> None:
        with driver.group():
            fill(driver, 1, 90)
            assert len(both(driver, 30).text) == 21
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert both(driver, 30) == both(other, 30) == before


@pytest.fixture(params=["held", "read"])
def sieved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are sieved by their codes too: as of a field that memory holds, or does not."""
    monkeypatch.setattr(vector_field, "_FEW_NUMBERS", 0)
    if request.param == "read":
        monkeypatch.setattr(index, "_WITH_CODES_BYTES", 0)
        monkeypatch.setattr(index, "_LEAST_BYTES", 300_000)


@pytest.mark.usefixtures("sieved")
def test_vectors_of_many_rows_are_found_by_their_codes(
    opened: Callable[..., SqliteDriver],
) -> None:
    """Recall@10 of at least .99 where codes choose what is compared."""
    driver = opened(tail_rows=100, segment_rows=2_000)
    chance = numpy.random.default_rng(3)
    centres = chance.normal(size=(40, 128))
    near = centres[chance.integers(0, 40, 4_000)] + 0.8 * chance.normal(size=(4_000, 128))
    rows = near.astype("<f4")
    records = [note(f"{n:05}", embedding=Vector("s", row.tobytes())) for n, row in enumerate(rows)]
    for start in range(0, 4_000, 500):
        driver.apply("t", [put(NOTES, record) for record in records[start : start + 500]])
    merge(driver)
    unit = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    found = 0
    for n in range(0, 4_000, 80):
        leg = VectorLeg(field="embedding", vector=Vector("s", rows[n].tobytes()))
        hits = driver.search("t", Search(collection=NOTES.name, vector=leg))
        assert not hits.exact
        best = numpy.argsort(-(unit @ unit[n]), kind="stable")[:10]
        found += len({hit.key[0] for hit in hits.vector} & {f"{i:05}" for i in best})
    assert found >= 0.99 * 10 * 50


def recall_at_ten(driver: SqliteDriver, rows: Any) -> float:
    """The share of the ten best, as numpy has them, that searches behind a filter find."""
    unit = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    eligible = numpy.flatnonzero(numpy.arange(len(rows)) % 4)
    found = 0
    for n in range(0, len(rows), 40):
        leg = VectorLeg(field="embedding", vector=Vector("s", rows[n].tobytes()))
        where = ~eq("title", "0")  # which nothing in a segment says
        search = Search(collection=NOTES.name, filter=where, vector=leg)
        hits = driver.search("t", search)
        assert driver.search("t", search) == hits, "from what is held in memory"
        best = eligible[numpy.argsort(-(unit[eligible] @ unit[n]), kind="stable")[:10]]
        found += len({hit.key[0] for hit in hits.vector} & {f"{i:05}" for i in best})
    return found / (10 * len(range(0, len(rows), 40)))


def test_of_wide_vectors_only_what_may_be_best_is_compared(
    opened: Callable[..., SqliteDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = opened(tail_rows=100, segment_rows=2_000)
    chance = numpy.random.default_rng(4)
    centres = chance.normal(size=(20, 256))
    near = centres[chance.integers(0, 20, 2_000)] + 0.8 * chance.normal(size=(2_000, 256))
    rows = near.astype("<f4")
    records = [
        note(f"{n:05}", title=str(n % 4), embedding=Vector("s", row.tobytes()))
        for n, row in enumerate(rows)
    ]
    for start in range(0, 2_000, 500):
        driver.apply("t", [put(NOTES, record) for record in records[start : start + 500]])
    merge(driver)
    monkeypatch.setattr(vector_field, "_FEW_NUMBERS", 0)
    assert recall_at_ten(driver, rows) >= 0.99
    monkeypatch.setattr(index, "_WITH_CODES_BYTES", 0)
    monkeypatch.setattr(index, "_LEAST_BYTES", 300_000)
    driver.close()
    driver = opened(tail_rows=100, segment_rows=2_000)
    assert recall_at_ten(driver, rows) >= 0.99
    # Saboteur: estimates taken at their word.
    monkeypatch.setattr(codes.Query, "doubt", lambda *_: 0.0)
    assert recall_at_ten(driver, rows) < 0.99


def _never_void(self: Picture, segment: Any, rows: Any) -> Any:
    return numpy.empty(0, "i8")


def _stale(self: Index, source: Source) -> Picture | None:
    held = self._cache.get(source)
    return held if held is not None else _picture(self, source)


_picture = Index.picture
_publish = merging._publish


def _forgetful(connection: apsw.Connection, plan: Any) -> bool:
    """Takes what was written meanwhile for packed."""
    plan.last_note = 1 << 60
    last = f"SELECT max(_row) FROM {TERMS}"
    plan.high = max(plan.high, connection.execute(last).get or 0)
    return _publish(connection, plan)


@pytest.fixture
def merged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search merges what it finds to be due, so that saboteurs meet the same in every run."""
    monkeypatch.setattr(Merger, "ask", Merger.run)


@pytest.mark.usefixtures("merged_at_once")
@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [(Picture, "dead", _never_void), (Index, "picture", _stale)],
    ids=["a segment that ignores what was deleted", "a stale cache"],
)
def test_the_suite_catches_a_broken_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, broken: Any
) -> None:
    case = TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    monkeypatch.setattr(owner, name, broken)
    # A stale picture may also lead to segments that are gone.
    with pytest.raises((AssertionError, Corrupt)):
        Stage(SqliteHarness(tmp_path, **SMALL)).play(case, seed=0)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of rows is sieved, asked and listed as many thousands are."""
    for name in ("_FEW", "_FEW_NUMBERS"):
        monkeypatch.setattr(vector_field, name, 0)
    few = {"_COMPARED": 2, "_COMPARED_PER_HIT": 1.0, "_SPARE": 0, "_LISTED": 8}
    for name, value in few.items():
        monkeypatch.setattr(vector_search, name, value)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("seed", range(3))
def test_b29_search_equals_a_full_scan_where_few_rows_are_sieved(tmp_path: Path, seed: int) -> None:
    case = TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    Stage(SqliteHarness(tmp_path, **SMALL)).play(case, seed=seed)


def _believing(self: Any, every: Any, k: int, first: int) -> tuple[Any, int]:
    return every, 0


def _first_alone(self: Any, every: Any, k: int, first: int) -> tuple[Any, int]:
    """Takes the first that pass, whatever ties with them."""
    near = numpy.argsort(-every.near, kind="stable")
    passing = near[self._within.passes(every.rows[near])]
    return every.where(passing[:k]), 0


@pytest.mark.usefixtures("strict", "merged_at_once")
@pytest.mark.parametrize("broken", [_believing, _first_alone])
def test_the_suite_catches_a_filter_that_is_not_asked_as_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    monkeypatch.setattr(vector_search.VectorSearch, "_asked", broken)
    case = TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    with pytest.raises((AssertionError, KeyError)):
        _play(case, tmp_path)


def _play(case: Callable[..., None], tmp_path: Path) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        Stage(SqliteHarness(folder, **SMALL)).play(case, seed=seed)


@pytest.mark.usefixtures("merged_at_once")
def test_the_suite_catches_copies_of_fields_that_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwatched(connection: apsw.Connection, *_: Any) -> None:
        """No trigger."""

    monkeypatch.setattr(schema, "watch_updates", unwatched)
    case = TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    with pytest.raises(AssertionError):
        _play(case, tmp_path)


def _included_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covers, "included_fields", lambda collection: ())


def _never_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    find = Included.find
    monkeypatch.setattr(Included, "find", lambda self, rows, void: find(self, rows, void[:0]))


def _passing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    passing = Included.passing

    def broken(self: Included, where: Filter, at: Any) -> Any:
        mask = passing(self, where, at)
        return None if mask is None else numpy.ones_like(mask)

    monkeypatch.setattr(Included, "passing", broken)


def _one_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    values = Included.values
    monkeypatch.setattr(Included, "values", lambda self, name, at: values(self, name, at[::-1]))


@pytest.mark.usefixtures("merged_at_once")
@pytest.mark.parametrize(
    "broken", [_included_unwatched, _never_asked_anew, _passing_all, _one_aside]
)
def test_the_suite_catches_included_fields_that_are_not_the_rows_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None]
) -> None:
    broken(monkeypatch)
    case = TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    with pytest.raises((AssertionError, KeyError)):
        _play(case, tmp_path)


def test_copies_that_cannot_be_decoded_leave_the_answer_to_the_rows(
    opened: Callable[..., SqliteDriver], tmp_path: Path
) -> None:
    driver = opened()
    fill(driver, 40)
    connection = apsw.Connection(str(tmp_path / "agent.db"))
    connection.execute(f"UPDATE {NOTES.name} SET expires_at = {10**18 * 9} WHERE id = '0003'")
    connection.close()
    merge(driver)
    leg = TextLeg(terms=tuple(analyze("common")))
    for _ in range(3):
        where = is_null("expires_at") | gt("expires_at", datetime(2026, 1, 1, tzinfo=UTC))
        asked = Search(collection=NOTES.name, k=60, text=leg, filter=where, fields=())
        assert len(driver.search("t", asked).text) == 40
        with pytest.raises(Corrupt, match="0003"):
            driver.search("t", msgspec.structs.replace(asked, fields=("expires_at",)))


def test_a_merge_that_drops_what_was_written_meanwhile_is_caught(
    opened: Callable[..., SqliteDriver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_publish", _forgetful)
    with pytest.raises(AssertionError):
        test_what_is_written_while_a_merge_reads_is_not_lost(opened, tmp_path, monkeypatch)


def test_a_file_of_the_first_format_is_brought_up(
    opened: Callable[..., SqliteDriver], tmp_path: Path
) -> None:
    driver = opened()
    fill(driver, 30)
    expected = both(driver)
    driver.close()
    connection = apsw.Connection(str(tmp_path / "agent.db"))
    found = connection.execute(
        "SELECT type, name FROM sqlite_schema WHERE name GLOB 'holdfast_segment*'"
        " OR name IN ('holdfast_covers', 'holdfast_notes')"
        " OR (type = 'trigger' AND name GLOB '*_noted') ORDER BY type DESC"
    ).fetchall()
    for kind, name in found:
        if kind != "index":
            connection.execute(f'DROP {kind} "{name}"')
    connection.execute("PRAGMA user_version=1")
    connection.close()
    again = opened()
    merge(again)
    assert segments(again) > 0
    again.apply("t", [Delete(NOTES.name, ("0029",)), put(NOTES, note("0029", "other"))])
    other = [put(NOTES, note("0029", "word1 common", day=2, embedding=vector(-1, -1, -1, 1)))]
    again.apply("t", other)
    assert both(again) == scanned(tmp_path)
    assert len(both(again).text) == len(expected.text)
    assert again.maintain("integrity").ok


def test_a_cover_made_within_a_shared_commit_counts_for_the_units_after_it(
    opened: Callable[..., SqliteDriver],
) -> None:
    driver = opened()
    notes = [note("mute", ""), note("spoken", "word")]
    driver.apply("t", [put(NOTES, record) for record in notes])
    merging_ = driver._merger._merging
    with driver.group():
        driver.apply("t", [put(NOTES, note("later", "word"))])
        driver._writer.run(lambda c: merging_._claim(c, TERMS, "t", b"token"))
        # A row below others gets its first terms: whoever keeps a picture must be told.
        driver.apply("t", [put(NOTES, note("mute", "word"))])
    with driver._pool.reading() as connection:
        noted = connection.execute("SELECT _row FROM holdfast_notes").fetchall()
    assert noted == [(1,)]
