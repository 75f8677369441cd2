"""What the writer keeps from one transaction to the next, and what must make it forget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

from holdfast.backends.sqlite import SqliteDriver
from holdfast.backends.sqlite.known import Known
from holdfast.core.change import ABSENT, Change, Put
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict
from holdfast.core.search import Search, TextLeg
from holdfast.testing.shapes import EVENTS, NOTES, SHAPES, event, note, put

Opener = Callable[[], SqliteDriver]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Opens drivers on one file, as processes would."""
    made: list[SqliteDriver] = []

    def open_one() -> SqliteDriver:
        driver = SqliteDriver(str(tmp_path / "agent.db"), tail_rows=4, segment_rows=24)
        driver.setup(SHAPES)
        made.append(driver)
        return driver

    yield open_one
    for driver in made:
        driver.close()


def new(name: str) -> Change:
    return Put(EVENTS.name, event(name), ABSENT)


def number_of(driver: Driver, name: str) -> int:
    [outcome] = driver.apply("ada", [new(name)])
    number: int = outcome.record["number"]
    return number


def numbers_of_two_writers_follow_each_other(opened: Opener) -> None:
    one, two = opened(), opened()
    writers = [one, one, two, two, one, two, one]
    numbers = [number_of(writer, f"e{at}") for at, writer in enumerate(writers)]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]


def a_group_that_is_taken_back_uses_up_no_number(opened: Opener) -> None:
    driver = opened()
    assert number_of(driver, "first") == 1
    with suppress(RuntimeError), driver.group():
        assert number_of(driver, "gone") == 2
        raise RuntimeError
    assert number_of(driver, "second") == 2


def units_that_are_repeated_draw_the_same_numbers(opened: Opener) -> None:
    driver = opened()
    with driver.group():
        told = [number_of(driver, "first"), number_of(driver, "second")]
        with pytest.raises(Conflict):
            driver.apply("ada", [new("third"), new("first")])
        told.append(number_of(driver, "fourth"))
    stored = [driver.get("ada", EVENTS.name, (name,)) for name in ("first", "second", "fourth")]
    assert told == [1, 2, 3] == [record["number"] for record in stored if record is not None]


def who_begins_to_follow_elsewhere_is_told_of_the_next_write(opened: Opener) -> None:
    one, two = opened(), opened()
    number_of(one, "unseen")
    two.maintain("follow", follower="mirror")
    number_of(one, "seen")
    assert [entry.key for entry in two.feed("mirror", after=0, limit=10)] == [("seen",)]


def who_begins_to_follow_here_is_told_of_the_next_write(opened: Opener) -> None:
    driver = opened()
    number_of(driver, "unseen")
    driver.maintain("follow", follower="mirror")
    number_of(driver, "seen")
    assert [entry.key for entry in driver.feed("mirror", after=0, limit=10)] == [("seen",)]


def a_row_that_comes_in_below_a_cover_of_another_is_found(opened: Opener) -> None:
    one, two = opened(), opened()
    bodies = ["" if at == 3 else "common" for at in range(12)]
    one.apply("ada", [put(NOTES, note(f"n{at}", body)) for at, body in enumerate(bodies)])
    assert two.maintain("reindex").ok
    one.apply("ada", [put(NOTES, note("n3", "rare"))])  # its first words, where nothing was
    search = Search(collection=NOTES.name, k=5, text=TextLeg(terms=("rare",)))
    assert [hit.key for hit in two.search("ada", search).text] == [("n3",)]


CASES = [
    numbers_of_two_writers_follow_each_other,
    a_group_that_is_taken_back_uses_up_no_number,
    units_that_are_repeated_draw_the_same_numbers,
    who_begins_to_follow_elsewhere_is_told_of_the_next_write,
    who_begins_to_follow_here_is_told_of_the_next_write,
    a_row_that_comes_in_below_a_cover_of_another_is_found,
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_known_is_true(case: Callable[[Opener], None], opened: Opener) -> None:
    case(opened)


def _unaware(self: Known, connection: apsw.Connection) -> None:
    """Trusts what it knows, whoever has written meanwhile."""


def _stubborn(self: Known) -> None:
    """Keeps what it knows, whatever was rolled back or changed by other ways."""


@pytest.mark.parametrize(
    ("broken", "spoiled", "case"),
    [
        ("begin", _unaware, numbers_of_two_writers_follow_each_other),
        ("begin", _unaware, who_begins_to_follow_elsewhere_is_told_of_the_next_write),
        ("begin", _unaware, a_row_that_comes_in_below_a_cover_of_another_is_found),
        ("forget", _stubborn, a_group_that_is_taken_back_uses_up_no_number),
        ("forget", _stubborn, units_that_are_repeated_draw_the_same_numbers),
        ("forget", _stubborn, who_begins_to_follow_here_is_told_of_the_next_write),
    ],
)
def test_a_writer_that_does_not_forget_is_caught(
    broken: str, spoiled: Any, case: Callable[[Opener], None], opened: Opener, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Known, broken, spoiled)
    with pytest.raises((Exception, pytest.fail.Exception)):
        case(opened)


def test_connections_that_are_given_away_serve_several_threads(opened: Opener) -> None:
    driver = opened()
    given = driver.native()
    assert not given.open_flags & apsw.SQLITE_OPEN_NOMUTEX
    given.close()
    with driver._reading() as own:
        assert own.open_flags & apsw.SQLITE_OPEN_NOMUTEX
