"""What chooses the rows that a search compares, and the order in which texts are packed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy
import pytest

from holdfast.backends.segments import codes, originals, postings
from holdfast.backends.sqlite import SqliteDriver, index, vector_field
from holdfast.backends.sqlite.blobs import Blobs
from holdfast.backends.sqlite.index import Index, Source
from holdfast.backends.sqlite.merger import Merger
from holdfast.core.change import Delete
from holdfast.core.filter import EVERYTHING, Filter, eq
from holdfast.core.ranking import cosine_scores, exact_cosines
from holdfast.core.search import Search, VectorLeg
from holdfast.core.values import Vector
from holdfast.testing.shapes import NOTES, SHAPES, note, put
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.stage import Stage
from holdfast.testing.suite import driver_index

ROWS, WIDTH, STEP = 2_000, 384, 25


@pytest.fixture(scope="module")
def rows() -> Any:
    chance = numpy.random.default_rng(8)
    centres = chance.normal(size=(20, WIDTH))
    near = centres[chance.integers(0, 20, ROWS)] + 0.8 * chance.normal(size=(ROWS, WIDTH))
    return near.astype("<f4")


@pytest.fixture
def driver(tmp_path: Path, rows: Any) -> Iterator[SqliteDriver]:
    driver = SqliteDriver(str(tmp_path / "agent.db"), tail_rows=100, segment_rows=700)
    driver.setup(SHAPES)
    records = [
        note(f"{n:05}", title=str(n % 4), embedding=Vector("s", row.tobytes()))
        for n, row in enumerate(rows)
    ]
    for start in range(0, ROWS, 500):
        driver.apply("t", [put(NOTES, record) for record in records[start : start + 500]])
    driver.maintain("reindex")
    yield driver
    driver.close()


def recall(driver: SqliteDriver, rows: Any, where: Filter, eligible: Any) -> float:
    """The share of the ten best, as numpy has them, that searches find."""
    unit = rows / numpy.linalg.norm(rows, axis=1, keepdims=True)
    found = 0
    for n in range(0, ROWS, STEP):
        leg = VectorLeg(field="embedding", vector=Vector("s", rows[n].tobytes()))
        hits = driver.search("t", Search(collection=NOTES.name, filter=where, vector=leg))
        assert not hits.exact
        best = eligible[numpy.argsort(-(unit[eligible] @ unit[n]), kind="stable")[:10]]
        found += len({hit.key[0] for hit in hits.vector} & {f"{i:05}" for i in best})
    return found / (10 * len(range(0, ROWS, STEP)))


@pytest.mark.parametrize("scattered", [1, ROWS], ids=["the rest gathered", "the rest read whole"])
@pytest.mark.parametrize("held", [True, False], ids=["in memory", "by estimates"])
def test_rows_that_their_first_signs_leave_out_are_none_of_the_best(
    driver: SqliteDriver,
    rows: Any,
    monkeypatch: pytest.MonkeyPatch,
    scattered: int,
    held: bool,
) -> None:
    monkeypatch.setattr(vector_field, "_FEW_NUMBERS", 0)
    monkeypatch.setattr(vector_field, "_SCATTERED", scattered)
    monkeypatch.setattr(codes, "AT_ONCE", 0)
    if not held:
        monkeypatch.setattr(index, "_WITH_CODES_BYTES", 0)
        monkeypatch.setattr(index, "_LEAST_BYTES", 300_000)
    everything, others = numpy.arange(ROWS), numpy.flatnonzero(numpy.arange(ROWS) % 4)
    assert recall(driver, rows, EVERYTHING, everything) >= 0.99
    assert recall(driver, rows, ~eq("title", "0"), others) >= 0.99
    # Saboteur: signs that say more than they do.
    reach = codes.Query.reach
    monkeypatch.setattr(codes.Query, "reach", lambda *given: reach(*given) * 4 // 5)
    assert recall(driver, rows, EVERYTHING, everything) < 0.99


@pytest.mark.parametrize("where", [EVERYTHING, ~eq("title", "0"), eq("title", "1")], ids=str)
def test_where_many_are_wanted_all_are_compared_as_they_lie(
    driver: SqliteDriver, rows: Any, monkeypatch: pytest.MonkeyPatch, where: Filter
) -> None:
    monkeypatch.setattr(vector_field, "_FEW_NUMBERS", 0)
    k = ROWS // vector_field._FEW_PER_WANTED + 1
    live = [n for n in range(ROWS) if n % 3]
    driver.apply("t", [Delete(NOTES.name, (f"{n:05}",)) for n in range(0, ROWS, 3)])
    late = note("late", title="1", embedding=Vector("s", rows[STEP].tobytes()))
    driver.apply("t", [put(NOTES, late)])  # which no segment holds

    def found(n: int) -> tuple[list[str], bool]:
        leg = VectorLeg(field="embedding", vector=Vector("s", rows[n].tobytes()))
        hits = driver.search("t", Search(collection=NOTES.name, filter=where, k=k, vector=leg))
        return [hit.key[0] for hit in hits.vector], hits.exact

    titles = {EVERYTHING: (0, 1, 2, 3), eq("title", "1"): (1,)}.get(where, (1, 2, 3))
    keys = [f"{n:05}" for n in live if n % 4 in titles]
    given = numpy.concatenate((rows[[int(key) for key in keys]], rows[[STEP]]))
    for n in range(0, ROWS, 5 * STEP):
        order = numpy.argsort(-exact_cosines(given, rows[n]), kind="stable")[:k]
        assert found(n) == ([[*keys, "late"][at] for at in order], True)
    # Saboteur: the furthest come first. (To take what is said of a neighbour would go unseen where
    # a merge has just made the segments anew, and no neighbour of those that pass was read yet.)
    right, near = found(0), originals._near
    monkeypatch.setattr(originals, "_near", lambda *given: -near(*given))
    assert found(0) != right


@pytest.mark.parametrize("count", [10, ROWS], ids=["gathered", "in a row"])
def test_vectors_at_their_places_are_compared_as_they_were_given(rows: Any, count: int) -> None:
    given = rows.copy()
    given[:4] *= numpy.array([[1e-30], [1e30], [1e-16], [1e16]], "f4")
    numbers, held = 7 + 2 * numpy.arange(ROWS), originals.originals(ROWS, WIDTH, 1 << 30)
    asked = []

    def read(wanted: Any, into: Any) -> Any:
        asked.append(wanted.size)
        into[:] = given[(wanted - 7) // 2]
        return wanted != numbers[5]  # as if it had gone in between

    query = rows[1] / numpy.linalg.norm(rows[1])
    for places in (numpy.arange(0, count, 2), numpy.arange(count)):
        found = held.compared(places, numbers[places], query, read)
        there = places[places != 5]
        assert found.rows.tolist() == numbers[there].tolist()
        assert found.matrix.tolist() == given[there].tolist()
        assert numpy.abs(found.near - cosine_scores(given[there], query)).max() < 1e-5
        best = found.best(3)
        assert best.matrix.tolist() == given[(best.rows - 7) // 2].tolist()
    assert asked == [(count + 1) // 2, count - (count + 1) // 2]


def _asked_once(self: Index, source: Source) -> index.State | None:
    """Takes the first state of a source with a cover for that of all time."""
    key = (id(self._cache), source)
    if _FOUND.get(key) is None:
        _FOUND[key] = index._asked(self._connection, source)
    return _FOUND[key]


_FOUND: dict[tuple[int, Source], index.State | None] = {}


def test_the_suite_catches_a_state_that_is_not_asked_for_after_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = (
        driver_index.TestDriverIndex().test_b29_search_equals_a_full_scan_between_writes_and_merges
    )
    monkeypatch.setattr(Index, "_state", _asked_once)
    monkeypatch.setattr(Merger, "ask", Merger.run)  # at the same moments in every run
    with pytest.raises(AssertionError):
        Stage(SqliteHarness(tmp_path, tail_rows=4, segment_rows=24)).play(case, seed=0)


def packed(hashes: list[list[int]]) -> postings.Packed:
    """Texts by the hashes of their terms; the n-th term of a text occurs n times."""
    texts = [
        (
            row,
            len(own),
            numpy.array(own, "<u8").tobytes(),
            numpy.arange(1, len(own) + 1, dtype="<u4").tobytes(),
        )
        for row, own in enumerate(hashes)
    ]
    return postings.Packed(postings.made(texts).__getitem__)


@pytest.mark.parametrize("step", [1, 1 << 50], ids=["hashes that begin alike", "others"])
def test_each_term_leads_to_its_rows_and_counts(step: int) -> None:
    first = 1 << 61
    terms = [first + n * step for n in range(40)]
    texts = packed([[terms[(row + n) % 40] for n in (7, 3, 0)] for row in range(200)])
    for at, (docs, counts) in enumerate(texts.find(terms)):
        wanted = {row: n + 1 for n, k in enumerate((7, 3, 0)) for row in range(200)
                  if (row + k) % 40 == at}  # fmt: skip
        assert docs.tolist() == sorted(wanted)
        assert counts.tolist() == [wanted[row] for row in sorted(wanted)]
    assert [docs.size for docs, _ in texts.find([0, first - 1, (1 << 64) - 1])] == [0, 0, 0]


def test_data_is_read_where_it_belongs_and_what_is_not_there_is_told() -> None:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE held (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    held = {1: b"one!", 3: b"three", 4: b"four"}
    connection.executemany("INSERT INTO held VALUES (?, ?)", held.items())
    into = bytearray(b"." * 20)
    with Blobs(connection, "held") as blobs:
        assert [blobs.read(row, into, 4 * row, 4) for row in (2, 1, 2, 3, 4)] == [
            False, True, False, False, True,
        ]  # fmt: skip
    assert bytes(into) == b"....one!........four"
    connection.execute("DELETE FROM held")  # which an open one would not let be
    connection.close()
