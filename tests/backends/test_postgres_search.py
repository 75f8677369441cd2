"""Search on PostgreSQL: the suite over very small segments, and what only packing and graphs do."""

import random
from collections.abc import Iterator
from typing import Any, Final

import numpy
import pytest

from holdfast.backends.postgres import (
    PostgresDriver,
    derived,
    packing,
    planning,
    search,
    text_search,
    transactions,
    vector_search,
)
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.names import packed_table, terms_table
from holdfast.backends.postgres.vector_search import VectorSearch
from holdfast.backends.postgres.wire import Batch, Command
from holdfast.backends.segments.cache import Cache
from holdfast.core.change import Delete, Edit, Patch
from holdfast.core.clock import SystemClock
from holdfast.core.collection import Collection, Field
from holdfast.core.driver import Driver
from holdfast.core.errors import Corrupt, HoldfastError, Invalid
from holdfast.core.filter import EVERYTHING, Filter, eq, lt
from holdfast.core.ranking import exact_cosines
from holdfast.core.search import Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.testing import Harness
from holdfast.testing.postgres import PostgresHarness, set_up
from holdfast.testing.servers.databases import OWNER, Database
from holdfast.testing.shapes import NOTES, SHAPES, note, put, vector
from holdfast.testing.suite import driver_feed
from holdfast.testing.suite.driver_index import TestDriverIndex  # noqa: F401
from holdfast.testing.suite.driver_operations import TestDriverTenants  # noqa: F401
from holdfast.testing.suite.driver_search import (  # noqa: F401
    TestDriverSearchFreshness,
    TestDriverTextSearch,
    TestDriverVectorSearch,
)
from holdfast.testing.suite.memory_recall import TestMemoryRecall  # noqa: F401
from holdfast.testing.threads import at_once

SMALL = "tail_rows=4&graph_rows=40"


def small(database: Database, role: str) -> str:
    return f"{database.url(role)}?{SMALL}"


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Harness:
    new = request.node.get_closest_marker("new_store") is not None
    return PostgresHarness(new=new, through=small)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    held = Database(())
    owner = PostgresDriver(held.url(), SystemClock())
    set_up(owner, SHAPES)
    owner.close()
    yield held
    held.drop()


@pytest.fixture
def owned(database: Database) -> Iterator[PostgresDriver]:
    """A driver of the owner's, whose thread packs nothing by itself."""
    opened = PostgresDriver(database.url(OWNER), SystemClock(), options={"graph_rows": 40})
    opened.setup(SHAPES)
    yield opened
    opened.close()
    database.empty(keep=("holdfast_store", "holdfast_collections", "holdfast_migrations"))


def fill(driver: Driver, count: int, start: int = 0, *, width: int = 4) -> None:
    chance = random.Random(start)
    notes = [
        note(
            f"{n:05}",
            f"word{n % 7} common",
            day=n % 100,
            topic="even" if n % 2 else "odd",
            embedding=vector(*chance.choices((-2, -1, 0, 2), k=width - 1), 1),
        )
        for n in range(start, start + count)
    ]
    for at in range(0, count, 500):
        driver.apply("t", [put(NOTES, record) for record in notes[at : at + 500]])


def by_words(driver: Driver, where: Filter = EVERYTHING, k: int = 10) -> Hits:
    leg = TextLeg(terms=tuple(analyze("word3 common")))
    return driver.search("t", Search(collection=NOTES.name, filter=where, k=k, text=leg))


def pack(driver: PostgresDriver, tail_rows: int = 1) -> bool:
    with driver._pool.wire() as wire:
        return packing.pack(wire, driver._dialect, NOTES, "t", tail_rows)


def rows(driver: PostgresDriver, text: str) -> list[tuple[Any, ...]]:
    with driver._pool.wire() as wire:
        shown: Command = ("SELECT set_config('holdfast.every_tenant', 'on', true)", ())
        return wire.rows(wire.run([shown, (text, ())])[1])


def counted(driver: PostgresDriver, table: str) -> int:
    found: int = rows(driver, f"SELECT count(*) FROM {table}")[0][0]
    return found


# --- text


def test_packed_texts_give_what_fresh_ones_gave(owned: PostgresDriver) -> None:
    fill(owned, 60)
    before = by_words(owned), by_words(owned, eq("topic", "odd"), 5)
    assert pack(owned)
    assert counted(owned, terms_table(owned._dialect, NOTES)) == 0
    assert counted(owned, packed_table(owned._dialect, NOTES)) == 60
    assert (by_words(owned), by_words(owned, eq("topic", "odd"), 5)) == before
    assert owned.maintain("integrity").ok
    assert not pack(owned)


def test_what_changes_after_packing_counts_at_once_and_goes_with_the_next_merge(
    owned: PostgresDriver,
) -> None:
    fill(owned, 30)
    pack(owned)
    owned.apply("t", [put(NOTES, note("00003", "changed"))])
    owned.apply("t", [Patch(NOTES.name, ("00010",), Edit(set={"body": "word3 word3 word3"}))])
    owned.apply("t", [Delete(NOTES.name, ("00017",))])
    owned.apply("t", [Patch(NOTES.name, ("00024",), Edit(set={"body": "", "title": None}))])
    found = by_words(owned, k=40)
    assert found.text[0].key == ("00010",)
    keys = {hit.key[0] for hit in found.text}
    assert not keys & {"00003", "00017", "00024"}
    assert counted(owned, "holdfast.holdfast_voids") == 4
    assert owned.maintain("integrity").ok
    while pack(owned):
        assert by_words(owned, k=40) == found
    assert counted(owned, "holdfast.holdfast_voids") == 0
    assert counted(owned, "holdfast.holdfast_segments") == 2
    assert owned.maintain("integrity").ok


def test_segments_stay_few_and_leave_no_parts_behind(owned: PostgresDriver) -> None:
    for start in range(0, 200, 10):
        fill(owned, 10, start)
        assert pack(owned)
    assert counted(owned, "holdfast.holdfast_segments") <= 6
    left = (
        "SELECT count(*) FROM holdfast.holdfast_segment_parts AS p WHERE NOT EXISTS"
        " (SELECT FROM holdfast.holdfast_segments AS s WHERE s.id = p.segment)"
    )
    assert rows(owned, left) == [(0,)]
    whole = by_words(owned, k=200)
    assert len(whole.text) == 200
    for n in range(0, 200, 3):
        owned.apply("t", [Delete(NOTES.name, (f"{n:05}",))])
    kept = by_words(owned, k=200)
    while pack(owned, 1_000):  # void rows alone
        pass
    assert by_words(owned, k=200) == kept
    assert owned.maintain("integrity").ok


def test_a_text_that_changes_while_it_is_packed_is_void_in_the_segment(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(owned, 30)
    real = packing._Packing._write

    def late(self: Any, content: Any) -> None:
        real(self, content)
        owned.apply("t", [put(NOTES, note("00003", "word3 alone"))])
        owned.apply("t", [Delete(NOTES.name, ("00010",))])

    monkeypatch.setattr(packing._Packing, "_write", late)
    assert pack(owned)
    found = {hit.key[0] for hit in by_words(owned, k=30).text}
    assert len(found) == 29
    assert "00010" not in found
    assert counted(owned, "holdfast.holdfast_voids") == 2
    assert owned.maintain("integrity").ok


def test_one_process_packs_and_a_crash_leaves_nothing(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(owned, 30)
    before = by_words(owned)
    answers: list[bool] = []

    def twice(self: Any, _: Any) -> None:
        answers.append(pack(owned))
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(packing._Packing, "_write", twice)
        with pytest.raises(ZeroDivisionError):
            pack(owned)
    assert answers == [False]
    assert by_words(owned) == before
    assert counted(owned, "holdfast.holdfast_segments") == 0
    assert pack(owned)
    assert by_words(owned) == before


def test_several_handles_write_pack_and_search_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row's lock is held for as long as its writer is kept waiting by other work.
    monkeypatch.setattr(packing, "_LOCK_SECONDS", 60)
    handles = []
    for _ in range(3):
        one = PostgresDriver(database.url(OWNER), SystemClock(), options={"tail_rows": 5})
        one.setup(SHAPES)
        handles.append(one)

    def work(number: int) -> None:
        chance = random.Random(number)
        for turn in range(40):
            id = f"{chance.randrange(20):05}"
            words = " ".join(chance.choices(("apple", "plum", "pear"), k=3))
            handles[number].apply("t", [put(NOTES, note(id, f"{words} common"))])
            found = by_words(handles[turn % 3], k=50).text
            assert len({hit.key for hit in found}) == len(found) <= 20

    at_once(3, work)
    for one in handles:
        one._packer.wait()
        assert one._packer.last_error == ""
        assert one.maintain("integrity").ok
    assert len({by_words(one, k=50).text for one in handles}) == 1
    for one in handles:
        one.close()
    database.empty(keep=("holdfast_store", "holdfast_collections", "holdfast_migrations"))


_TO_FORMAT_1 = f"""
DROP TABLE holdfast.holdfast_segments, holdfast.holdfast_segment_parts, holdfast.holdfast_voids,
    holdfast.{NOTES.name}__packed;
DROP INDEX holdfast.{NOTES.name}__embedding_extreme;
ALTER TABLE holdfast.{NOTES.name}__terms DROP COLUMN stamp;
UPDATE holdfast.holdfast_store SET format = 1;
DO $body$ DECLARE held name; BEGIN FOR held IN
    SELECT tablename FROM pg_policies WHERE policyname = 'holdfast_tenant' LOOP
    EXECUTE format('ALTER POLICY holdfast_tenant ON holdfast.%I'
        ' USING (tenant = (SELECT nullif(current_setting(%L, true), %L)))'
        ' WITH CHECK (tenant = (SELECT nullif(current_setting(%L, true), %L)));'
        'ALTER POLICY holdfast_every_tenant ON holdfast.%I USING'
        ' ((SELECT nullif(current_setting(%L, true), %L)) IS NOT NULL)',
        held, 'holdfast.tenant', '', 'holdfast.tenant', '', held, 'holdfast.every_tenant', '');
END LOOP; END $body$;
"""
_POLICIES: Final = (
    "SELECT tablename::text, policyname::text, qual, with_check FROM pg_policies ORDER BY 1, 2"
)


def test_a_store_of_the_first_format_is_brought_up_with_its_texts() -> None:
    database = Database(())
    first = PostgresDriver(database.url(OWNER), SystemClock())
    first.setup([NOTES])
    fill(first, 30)
    before = by_words(first)
    with first._pool.wire() as wire:
        fresh = wire.rows(wire.run([(_POLICIES, ())])[0])
        wire.script(_TO_FORMAT_1)
        assert wire.rows(wire.run([(_POLICIES, ())])[0]) != fresh
    first.close()
    second = PostgresDriver(database.url(OWNER), SystemClock())
    with pytest.raises(HoldfastError):
        second.setup([NOTES], create=False)
    second.setup([NOTES])
    with second._pool.wire() as wire:
        assert wire.rows(wire.run([(_POLICIES, ())])[0]) == fresh
    assert by_words(second) == before
    assert pack(second)
    assert by_words(second) == before
    second.apply("t", [Delete(NOTES.name, ("00003",))])
    assert len(by_words(second, k=40).text) == 29
    assert second.maintain("integrity").ok
    second.close()
    database.drop()


def test_texts_that_are_held_in_memory_follow_what_others_write(
    owned: PostgresDriver, database: Database
) -> None:
    other = PostgresDriver(database.url(OWNER), SystemClock())
    other.setup(SHAPES)
    fill(owned, 20)
    assert len(by_words(owned, k=50).text) == 20
    for n in range(6):
        other.apply("t", [Delete(NOTES.name, (f"{2 * n:05}",))])
        other.apply("t", [put(NOTES, note(f"{2 * n + 1:05}", f"word3 turn{n}", topic="new"))])
        assert by_words(owned, k=50) == by_words(other, k=50)
        found = by_words(owned, eq("topic", "new"), 50).text
        assert {hit.key[0] for hit in found} == {f"{2 * m + 1:05}" for m in range(n + 1)}
        if n == 3:
            assert pack(other)
    other.close()


def test_a_lost_part_is_said_and_not_searched_around(owned: PostgresDriver) -> None:
    fill(owned, 30)
    pack(owned)
    with owned._pool.wire() as wire:
        gone = f"DELETE FROM holdfast.holdfast_segment_parts WHERE tenant = {MARK}"
        bound = (f"SELECT set_config('holdfast.tenant', {MARK}, true)", ["t"])
        wire.run([bound, (gone, ["t"])])
    with pytest.raises(Corrupt, match="search index"):
        by_words(owned)
    owned.apply("t", [put(NOTES, note("x", "word"))])  # the handle goes on


def test_saboteur_voids_that_nobody_reads_are_caught(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "positions", lambda rows, _: numpy.empty(0, "i8"))
    with pytest.raises(AssertionError):
        test_what_changes_after_packing_counts_at_once_and_goes_with_the_next_merge(owned)


def test_saboteur_a_write_that_voids_nothing_is_caught(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derived, "void", lambda *_: f"SELECT {MARK}, {MARK}, {MARK}")
    with pytest.raises(AssertionError):
        test_what_changes_after_packing_counts_at_once_and_goes_with_the_next_merge(owned)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("selective", [0, 60])
def test_k_is_filled_behind_any_filter_however_few_are_looked_at_first(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch, selective: int, *, packed: bool
) -> None:
    fill(owned, 150)
    if packed:
        assert pack(owned)
        owned.apply("t", [put(NOTES, note("00003", "word3 common", day=3, topic="odd"))])
    whole = by_words(owned, k=200).text
    monkeypatch.setattr(text_search, "_SPARE", 0)
    monkeypatch.setattr(text_search, "_SELECTIVE", selective)
    for share in (0, 1, 5, 40, 90):
        kept = [hit for hit in whole if int(hit.key[0]) % 100 < share]
        found = by_words(owned, lt("day", share), 10)
        assert list(found.text) == kept[:10]
        assert set(found.records) == {hit.key for hit in kept[:10]}


def test_words_are_found_by_indexes_of_the_tenant(owned: PostgresDriver) -> None:
    fill(owned, 300)
    pack(owned)
    fill(owned, 20, 400)
    owned.maintain("analyze")
    leg = TextLeg(terms=tuple(analyze("word3 common")))
    for where in (EVERYTHING, eq("topic", "odd")):
        own = (owned._dialect, owned._planner, "t", NOTES, where, leg, 10, Cache())
        text = text_search.TextSearch(*own)
        with owned._pool.wire() as wire:
            rows = wire.run([("BEGIN", ()), (owned._bind_tenant, ("t",)), text.command()])
            text.take(wire.rows(rows[-1])[0], wire)
            text.rank()
            wire.run([("ROLLBACK", ())])
        fetch = text.fetch(owned._planner.columns(NOTES.name).listed)
        assert fetch is not None
        plan = ""
        for command in (text.command(), fetch):
            plan = plan_of(owned, "t", [*planning.PLANNED, command])
            conditions = [line for line in plan.splitlines() if "Index Cond" in line]
            assert "Seq Scan" not in plan
            assert all("tenant = " in line for line in conditions)
        for name in ("terms_stamp", "packed_stamp", "key"):
            assert f"{NOTES.name}__{name}" in plan


# --- vectors

WIDTH = 8


def spread(driver: Driver, count: int, tenant: str = "t") -> Any:
    """Notes with random vectors, and these."""
    numbers = numpy.random.Generator(numpy.random.PCG64(7)).normal(size=(count, WIDTH))
    held = [
        note(f"{n:05}", "word", day=n % 100, embedding=vector(*map(float, numbers[n])))
        for n in range(count)
    ]
    for at in range(0, count, 500):
        driver.apply(tenant, [put(NOTES, record) for record in held[at : at + 500]])
    return numbers.astype("<f4")


def near(
    driver: Driver, query: Any, where: Filter = EVERYTHING, k: int = 10, tenant: str = "t"
) -> Hits:
    leg = VectorLeg(field="embedding", vector=vector(*map(float, query)))
    return driver.search(tenant, Search(collection=NOTES.name, filter=where, k=k, vector=leg))


def recall(driver: Driver, numbers: Any, kept: Any, where: Filter) -> tuple[float, bool]:
    """The share of the ten nearest that were found, over some queries; and whether k came."""
    chance = numpy.random.Generator(numpy.random.PCG64(8))
    found, filled = 0, True
    for query in chance.normal(size=(20, WIDTH)):
        scores = exact_cosines(numbers[kept], query)
        best = {f"{kept[at]:05}" for at in numpy.argsort(-scores)[:10]}
        hits = near(driver, query, where).vector
        found += len(best & {hit.key[0] for hit in hits})
        filled &= len(hits) == min(10, len(kept))
    return found / (20 * min(10, len(kept))), filled


@pytest.fixture(scope="module")
def graphed() -> Iterator[tuple[PostgresDriver, Any]]:
    """A store with a graph: tenant "t" is big and "few" small."""
    database = Database(())
    opened = PostgresDriver(database.url(OWNER), SystemClock(), options={"graph_rows": 1_000})
    opened.setup(SHAPES)
    numbers = spread(opened, 3_000)
    spread(opened, 60, "few")
    assert opened.maintain("reindex").counts["graphs_built"] == 1
    opened.maintain("analyze")
    near(opened, numbers[0])  # which learns that the tenant is big
    yield opened, numbers
    opened.close()
    database.drop()


def explained(driver: PostgresDriver, tenant: str, command: str) -> str:
    leg = VectorLeg(field="embedding", vector=vector(*map(float, range(1, WIDTH + 1))))
    ways = VectorSearch(
        driver._dialect, driver._planner, tenant, NOTES, EVERYTHING, leg, 10, driver._engine.vectors
    )
    columns = driver._planner.columns(NOTES.name).listed
    given: dict[str, list[Command]] = {
        "scan": [ways.scan(1_000, columns)],
        "scan few": [*planning.PLANNED, ways.scan_few(columns)],
        "walk": ways.walk(100),
    }
    return plan_of(driver, tenant, given[command])


def plan_of(driver: PostgresDriver, tenant: str, commands: list[Command]) -> str:
    """The plan of the last statement as it is used from the sixth time on, or at once if forced."""
    text, values = commands[-1]
    with driver._pool.wire() as wire:
        wire.run([("BEGIN", ()), (driver._bind_tenant, (tenant,)), *commands[:-1]])
        plan = wire.rows(wire.run([(f"EXPLAIN (COSTS OFF) {text}", values)])[0])
        wire.run([("ROLLBACK", ())])
    return "\n".join(line for (line,) in plan)


def test_a_big_tenant_is_searched_by_the_graph_and_a_small_one_by_its_own_rows(
    graphed: tuple[PostgresDriver, Any],
) -> None:
    driver, numbers = graphed
    by_graph = f"Scan using {NOTES.name}__embedding_graph_"
    assert by_graph in explained(driver, "t", "walk")
    for way in ("scan", "scan few"):
        few = explained(driver, "few", way)
        assert by_graph not in few
        assert "Index Cond: ((tenant = " in few or "Index Cond: (tenant = " in few
        assert "Seq Scan" not in few
    assert not near(driver, numbers[1]).exact
    assert near(driver, numbers[1], tenant="few").exact


def test_a_small_tenant_is_scanned_alike_before_and_after_its_size_is_known(
    owned: PostgresDriver,
) -> None:
    numbers = spread(owned, 200)
    for n in range(30):  # more that are as near as can be than are read beyond k
        close = [float(x) * (1 + n / 7) for x in numbers[0]]
        owned.apply("t", [put(NOTES, note(f"c{n:02}", "", day=n, embedding=vector(*close)))])
    far = [float(x) * 1e-30 for x in numbers[0]]
    owned.apply("t", [put(NOTES, note("tiny", "", day=1, embedding=vector(*far)))])
    for query in numbers[:20]:
        for where in (EVERYTHING, lt("day", 5), lt("day", 0)):
            owned._engine.hints = Cache()
            first = near(owned, query, where)
            near(owned, query)  # which tells how many there are
            assert near(owned, query, where) == first
    assert any(isinstance(known, tuple) for known, _ in owned._engine.hints._held.values())


def test_saboteur_a_small_scan_that_is_always_sure_is_caught(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VectorSearch, "is_unsure", lambda *_: False)
    with pytest.raises(AssertionError):
        test_a_small_tenant_is_scanned_alike_before_and_after_its_size_is_known(owned)


def test_saboteur_texts_ranked_once_leave_k_unfilled(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search.TextSearch, "is_enough", lambda *_: True)
    with pytest.raises(AssertionError):
        test_k_is_filled_behind_any_filter_however_few_are_looked_at_first(
            owned, monkeypatch, 60, packed=True
        )


def counted_trips(driver: PostgresDriver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What searches do, in order, once the sizes of what they search are known."""
    numbers = spread(driver, 60)
    driver.maintain("analyze")
    done: list[str] = []

    def noted(of: type, name: str) -> None:
        real = getattr(of, name)

        def call(self: Any, *given: Any, **named: Any) -> Any:
            done.append(name)
            return real(self, *given, **named)

        monkeypatch.setattr(of, name, call)

    for turn in range(4):
        if turn == 3:
            for of, name in ((Batch, "flush"), (Batch, "sync"), (text_search.TextSearch, "rank")):
                noted(of, name)
        for where in (EVERYTHING, eq("topic", "t")):
            both(driver, numbers[turn], where)
    return done


def both(driver: Driver, query: Any, where: Filter) -> Hits:
    legs = TextLeg(terms=("word",)), VectorLeg(field="embedding", vector=vector(*map(float, query)))
    return driver.search(
        "t", Search(collection=NOTES.name, filter=where, k=5, text=legs[0], vector=legs[1])
    )


def test_texts_are_ranked_while_vectors_are_looked_for_and_all_is_one_batch(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert counted_trips(owned, monkeypatch) == ["flush", "flush", "rank", "sync"] * 2


def test_saboteur_a_search_that_relies_on_nothing_takes_more_batches(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search._Attempt, "_is_relied_on", lambda *_: False)
    with pytest.raises(AssertionError):
        test_texts_are_ranked_while_vectors_are_looked_for_and_all_is_one_batch(owned, monkeypatch)


def test_a_filter_behind_which_the_first_look_is_too_short_is_remembered(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(owned, 150)
    monkeypatch.setattr(text_search, "_SPARE", 0)
    attempts: list[bool] = []
    real = search._Attempt.run

    def run(self: Any) -> Hits:
        attempts.append(self._careful)
        return real(self)

    monkeypatch.setattr(search._Attempt, "run", run)
    for _ in range(3):
        assert len(by_words(owned, lt("day", 10)).text) == 10
    assert attempts == [False, True, False, False]


def test_fields_may_be_called_like_what_a_search_works_with() -> None:
    names = ("place", "far", "stamp", "extreme", "data", "held", "found", "u", "near", "o")
    fields = tuple(Field(name, "text") for name in names)
    shape = Collection(
        "t0", fields, key=("place", "far"), full_text=("stamp",), vectors=("embedding",)
    )
    database = Database(())
    opened = PostgresDriver(database.url(OWNER), SystemClock())
    opened.setup([shape])
    record = {name: f"{name} word" for name in names} | {"embedding": vector(1, 2)}
    opened.apply("t", [put(shape, record), put(shape, record | {"far": "other"})])
    opened.maintain("analyze")
    text, leg = TextLeg(terms=("word",)), VectorLeg(field="embedding", vector=vector(1, 1))
    for where in (EVERYTHING, eq("near", "near word")):
        for _ in range(4):  # before and after its size, and that of its tables, is known
            hits = opened.search(
                "t", Search(collection="t0", filter=where, k=5, text=text, vector=leg)
            )
            assert len(hits.text) == len(hits.vector) == 2
    opened.close()
    database.drop()


def test_what_is_known_of_a_size_is_not_relied_on_for_ever(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_search, "_TRUSTED", 2)
    numbers = spread(owned, 20)
    scans: list[str] = []
    real = VectorSearch.scan

    def counted(self: VectorSearch, graph_rows: int, columns: str) -> Command:
        scans.append(columns)
        return real(self, graph_rows, columns)

    monkeypatch.setattr(VectorSearch, "scan", counted)
    for query in numbers[:9]:
        near(owned, query)
    assert len(scans) == 3


@pytest.mark.parametrize("share", [1, 10, 50, 100])
def test_k_is_filled_under_a_filter_and_recall_is_high(
    graphed: tuple[PostgresDriver, Any], share: int
) -> None:
    driver, numbers = graphed
    kept = numpy.flatnonzero(numpy.arange(len(numbers)) % 100 < share)
    where = EVERYTHING if share == 100 else lt("day", share)
    found, filled = recall(driver, numbers, kept, where)
    assert filled
    assert found >= 0.99


def test_scores_of_candidates_are_exact(graphed: tuple[PostgresDriver, Any]) -> None:
    driver, numbers = graphed
    hits = near(driver, numbers[5]).vector
    at = [int(hit.key[0]) for hit in hits]
    stored = exact_cosines(numbers[at], numbers[5])
    assert [hit.score for hit in hits] == stored.tolist()
    assert hits[0].key == ("00005",)


def test_saboteur_a_graph_asked_once_leaves_k_unfilled(
    graphed: tuple[PostgresDriver, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, numbers = graphed
    real = VectorSearch.walk
    by_graph = ", ".join(
        f"set_config('{name}', 'off', true)" for name in ("hnsw.iterative_scan", "enable_sort")
    )

    def once(self: VectorSearch, ef_search: int) -> list[Command]:
        return [(f"SELECT {by_graph}", ()), real(self, ef_search)[-1]]

    monkeypatch.setattr(VectorSearch, "walk", once)
    monkeypatch.setattr(search, "is_short", lambda *_: False)
    kept = numpy.flatnonzero(numpy.arange(len(numbers)) % 100 < 1)
    _, filled = recall(driver, numbers, kept, eq("day", 0))
    assert not filled


def test_a_graph_that_gives_up_is_not_asked_again(
    graphed: tuple[PostgresDriver, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, numbers = graphed
    monkeypatch.setattr(driver._engine, "hints", Cache())
    near(driver, numbers[2])
    with monkeypatch.context() as patched:
        patched.setattr(search, "is_short", lambda *_: True)
        assert near(driver, numbers[2]).exact
    assert near(driver, numbers[2]).exact
    assert near(driver, numbers[2], lt("day", 10)).exact


def test_a_graph_goes_with_its_space(database: Database) -> None:
    driver = PostgresDriver(database.url(OWNER), SystemClock(), options={"graph_rows": 40})
    driver.setup(SHAPES)
    held = [note(f"x{n}", "", embedding=vector(n, 1, space="other")) for n in range(50)]
    driver.apply("u", [put(NOTES, record) for record in held])
    assert driver.maintain("reindex").counts["graphs_built"] >= 1
    assert driver.maintain("reindex").counts["graphs_built"] == 0
    driver.apply("u", [Delete(NOTES.name, (f"x{n}",)) for n in range(50)])
    counts = driver.maintain("reindex").counts
    assert counts["graphs_dropped"] >= 1
    driver.close()


def test_vectors_of_any_magnitude_live_beside_a_graph(
    graphed: tuple[PostgresDriver, Any],
) -> None:
    driver, numbers = graphed
    sizes = {"huge": 1e30, "tiny": 1e-30, "large": 1e6, "small": 1e-6}
    for id, size in sizes.items():
        scaled = vector(*(float(x) * size for x in numbers[9]))
        driver.apply("t", [put(NOTES, note(id, "", day=7, embedding=scaled))])
    found = {hit.key[0] for hit in near(driver, numbers[9], k=5).vector}
    assert found == {*sizes, "00009"}
    driver.apply("t", [Delete(NOTES.name, (id,)) for id in sizes])


def test_saboteur_a_journal_that_tells_at_the_end_alone_is_caught(
    owned: PostgresDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = driver_feed.TestDriverFeed().test_b31_each_entry_holds_the_vector_that_its_change_left
    monkeypatch.setattr(transactions, "told_before_the_end", lambda *_: set())
    with pytest.raises(AssertionError):
        case(owned)


def test_options_of_search_are_checked(database: Database) -> None:
    for name in ("tail_rows", "graph_rows", "ef_search", "search_cache_bytes"):
        with pytest.raises(Invalid, match=name):
            PostgresDriver(database.url(OWNER), SystemClock(), options={name: -1})


def test_health_names_other_search_extensions(owned: PostgresDriver) -> None:
    assert owned.health().facts["search_extensions"] == "none"


def test_the_suite_has_packed_here(harness: Harness) -> None:
    opened: Any = harness.open(SystemClock())
    opened.setup([NOTES])
    fill(opened, 10)
    by_words(opened)
    opened.below._packer.wait()
    assert opened.below._packer.last_error == ""
    assert counted(opened.below, "holdfast.holdfast_segments") > 0
    opened.close()
    harness.close()
