"""Dates and periods that a query names."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.ranker import Period
from holdfast.recall.dates import PERIOD_LIMIT, date_words, find_periods, nearness

NOW = datetime(2024, 3, 13, 15, tzinfo=UTC)  # a Wednesday


def spans(text: str, now: datetime | None = None) -> list[tuple[str, str]]:
    """Each period as its first and last day."""
    return [
        (p.start.date().isoformat(), (p.end - timedelta(days=1)).date().isoformat())
        for p in find_periods(text, now)
    ]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("on 7 May 2023", "2023-05-07", "2023-05-07"),
        ("on the 7th of May, 2023?", "2023-05-07", "2023-05-07"),
        ("May 7th, 2023", "2023-05-07", "2023-05-07"),
        ("since 2023-05-07", "2023-05-07", "2023-05-07"),
        ("2023/5/7", "2023-05-07", "2023-05-07"),
        ("2023-05", "2023-05-01", "2023-05-31"),
        ("in May 2023", "2023-05-01", "2023-05-31"),
        ("during February of 2024", "2024-02-01", "2024-02-29"),
        ("late August 2023", "2023-08-21", "2023-08-31"),
        ("in 2022", "2022-01-01", "2022-12-31"),
        ("the last week of June 2023", "2023-06-24", "2023-06-30"),
        ("first week of August, 2023", "2023-08-01", "2023-08-07"),
        ("in the summer of 2022", "2022-06-01", "2022-08-30"),
        ("Q2 2023", "2023-04-01", "2023-06-30"),
        ("Sept. 3, 2023", "2023-09-03", "2023-09-03"),
        ("31 June 2023", "2023-06-01", "2023-06-30"),
    ],
)
def test_absolute_dates_need_no_anchor(text: str, first: str, last: str) -> None:
    assert spans(text) == [(first, last)]
    assert spans(text, NOW) == [(first, last)]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("yesterday", "2024-03-12", "2024-03-12"),
        ("What did I say today?", "2024-03-13", "2024-03-13"),
        ("three days ago", "2024-03-10", "2024-03-10"),
        ("2 weeks ago", "2024-02-25", "2024-03-02"),
        ("last week", "2024-03-04", "2024-03-10"),
        ("this month", "2024-03-01", "2024-03-31"),
        ("last month", "2024-02-01", "2024-02-29"),
        ("last year", "2023-01-01", "2023-12-31"),
        ("last Friday", "2024-03-08", "2024-03-08"),
        ("next Wednesday", "2024-03-20", "2024-03-20"),
        ("last weekend", "2024-03-09", "2024-03-10"),
        ("in May", "2023-05-01", "2023-05-31"),
        ("on 7 May", "2023-05-07", "2023-05-07"),
        ("in February", "2024-02-01", "2024-02-29"),
    ],
)
def test_relative_dates_are_read_from_now(text: str, first: str, last: str) -> None:
    assert spans(text, NOW) == [(first, last)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "You may 2 times try",
        "May I march on?",
        "room 2023",
        "version 2023.5",
        "7 marching bands",
        "yesterday",
        "last week",
        "call 2023555123",
    ],
)
def test_what_is_not_clearly_a_date_is_left_alone(text: str) -> None:
    assert find_periods(text) == ()


def test_several_dates_are_all_found_once() -> None:
    found = spans("Between 7 May 2023 and June 2023, or 2023-05-07")
    assert sorted(found) == [("2023-05-07", "2023-05-07"), ("2023-06-01", "2023-06-30")]


def test_an_open_year_means_any_year() -> None:
    (period,) = find_periods("What happened in May?")
    assert period.yearly
    near = nearness((period,), 7)
    for year in (1999, 2023, 2040):
        assert near(datetime(year, 5, 15, tzinfo=UTC)) == 1
        assert near(datetime(year, 11, 15, tzinfo=UTC)) < 0.1


def test_nearness_is_one_inside_and_halves_at_the_scale() -> None:
    period = Period(datetime(2023, 5, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC))
    near = nearness((period,), 7)
    assert near(datetime(2023, 5, 31, 23, 59, tzinfo=UTC)) == 1
    assert near(datetime(2023, 6, 7, tzinfo=UTC)) == 0.5
    assert near(datetime(2023, 4, 24, 12, tzinfo=UTC)) == 0.5
    assert near(datetime(2023, 5, 1, 1, tzinfo=timezone(timedelta(hours=9)))) == 7 / 8
    assert nearness((), 7)(NOW) == 0


@given(st.dates(date(1900, 1, 1), date(2099, 12, 31)))
def test_the_words_of_a_day_are_read_back_as_that_day(day: date) -> None:
    words = date_words(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
    assert spans(words) == [(day.isoformat(), day.isoformat())]


@given(st.text(), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_no_text_raises_at_any_time(text: str, now: datetime | None) -> None:
    find_periods(text, now)


WORDS = ["may", "7", "2023", "last", "week", "of", "june", "ago", "999", "years", "-", "in", "1st"]


@given(st.lists(st.sampled_from(WORDS)), st.none() | st.datetimes(timezones=st.just(UTC)))
def test_no_jumble_of_date_words_raises(words: list[str], now: datetime | None) -> None:
    for period in find_periods(" ".join(words), now):
        assert period.start < period.end


def test_of_very_many_dates_the_first_count() -> None:
    days = [date(2000, 1, 1) + timedelta(days=n) for n in range(1_000)]
    found = find_periods(" ".join(day.isoformat() for day in days))
    assert [period.start.date() for period in found] == days[:PERIOD_LIMIT]


def test_a_date_that_is_said_very_often_is_one_and_leaves_none_to_other_readers() -> None:
    assert spans("in May 2023, " * 20_000) == [("2023-05-01", "2023-05-31")]
