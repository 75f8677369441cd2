"""Dates and periods that an English query names: "7 May 2023", "in 2022", "last week of June".

A careful reader rather than a clever one: what is not clearly a date is left alone ("may" without
a day or year, "march", four digits without a preposition), because a wrong date costs more than a
missed one. Days are days in UTC.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final

from holdfast.core.ranker import Period

PERIOD_LIMIT: Final = 128
"""Most periods of one text, as many as a query has terms: each is compared with every turn."""

_MONTHS: Final = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_WEEKDAYS: Final = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_SEASONS: Final = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_COUNTS: Final = {
    word: number
    for number, word in enumerate(
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 1
    )
} | {"a": 1, "an": 1, "last": -1, "first": 1, "second": 2, "third": 3, "fourth": 4}

_MONTH: Final = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_YEAR: Final = r"(?P<year>(?:19|20)\d\d)(?!\d)"
_DAY: Final = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_IN: Final = r"\b(?:in|during|of|since|until|till|before|after|by|from|around|year|throughout)\s+"


def date_words(instant: datetime) -> str:
    """Return the words by which people name the day of ``instant``: "7 May 2023 Sunday".

    Added to the lexical text of a turn, they let a question's date words find it. English
    whatever the locale.
    """
    month = _MONTHS[instant.month - 1].capitalize()
    return f"{instant.day} {month} {instant.year} {_WEEKDAYS[instant.weekday()].capitalize()}"


def find_periods(text: str, now: datetime | None = None) -> tuple[Period, ...]:
    """Return the periods that ``text`` names, in the order they are read, without repetitions.

    Relative ones ("yesterday", "three weeks ago") need ``now``, an aware instant, and are passed
    over without it. A month or day without a year is the latest one that began before ``now``;
    without ``now`` it is yearly. Takes linear time and never raises on any text; of more than
    PERIOD_LIMIT periods the first ones that are read count.
    """
    found: dict[Period, None] = {}
    taken = bytearray(len(text))
    today = None if now is None else now.astimezone(UTC).date()
    for pattern, read in _readers():
        for match in pattern.finditer(text):
            start, end = match.span()
            if 1 in taken[start:end]:
                continue
            try:
                period = read(match, today)
            except (ValueError, OverflowError):  # 31 June, or a century beyond the calendar
                continue
            if period is not None:
                taken[start:end] = b"\x01" * (end - start)
                found[period] = None
                if len(found) == PERIOD_LIMIT:
                    return tuple(found)
    return tuple(found)


def nearness(periods: tuple[Period, ...], scale_days: float) -> Callable[[datetime], float]:
    """Return a function that says how near an aware instant is to the nearest of the periods.

    1 on a day inside it, falling to 0 outside and halved at ``scale_days``:
    ``1 / (1 + days / scale_days)``. 0 when there are no periods.
    """
    spans = [
        (period.start.toordinal(), (period.end - _TICK).toordinal(), period.yearly)
        for period in periods
    ]
    known: dict[int, float] = {}  # turns of one day are many

    def near(instant: datetime) -> float:
        utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
        day = utc.toordinal()
        if day not in known:
            gap = min((_gap(day, *span) for span in spans), default=None)
            known[day] = 0.0 if gap is None else 1.0 / (1.0 + gap / scale_days)
        return known[day]

    return near


_TICK: Final = timedelta(microseconds=1)
_YEAR_DAYS: Final = 365.2425


def _gap(day: int, first: int, last: int, yearly: bool) -> float:
    """Days between a day and a period, both ends included; 0 inside."""
    if yearly:
        # The same days of the nearest year: its middle is at most half a year away.
        years = round((day - (first + last) / 2) / _YEAR_DAYS)
        shift = round(years * _YEAR_DAYS)
        first, last = first + shift, last + shift
    return max(first - day, day - last, 0)


def _period(first: date, days: int, *, yearly: bool = False) -> Period:
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    return Period(start, start + timedelta(days=days), yearly)


def _month_number(name: str) -> int:
    return next(i for i, month in enumerate(_MONTHS, 1) if month.startswith(name[:3].lower()))


def _dated(
    match: re.Match[str], today: date | None, build: Callable[[int], tuple[date, int]]
) -> Period:
    """Build for the year that was named, else for the latest that began, else for any."""
    year = match.groupdict().get("year")
    if year:
        return _period(*build(int(year)))
    if today is None:
        return _period(*build(2024), yearly=True)  # a leap year, so that 29 February is one
    first, days = build(today.year)
    if first > today:
        first, days = build(today.year - 1)
    return _period(first, days)


def _day(match: re.Match[str], today: date | None) -> Period | None:
    if match["month"] in ("may", "march") and not match["year"]:
        return None  # "you may 2 times": a verb, unless a year or a capital says otherwise
    month = _month_number(match["month"])
    return _dated(match, today, lambda year: (date(year, month, int(match["day"])), 1))


def _month(match: re.Match[str], today: date | None) -> Period:
    month = _month_number(match["month"])
    part = (match.groupdict().get("part") or "").lower()

    def build(year: int) -> tuple[date, int]:
        length = monthrange(year, month)[1]
        start, stop = {
            "early": (1, 10),
            "beginning of": (1, 10),
            "start of": (1, 10),
            "mid": (11, 20),
            "middle of": (11, 20),
            "late": (21, length),
            "end of": (21, length),
        }.get(part, (1, length))
        return date(year, month, start), stop - start + 1

    return _dated(match, today, build)


def _week_of_month(match: re.Match[str], today: date | None) -> Period:
    month, count = _month_number(match["month"]), _COUNTS[match["count"].lower()]

    def build(year: int) -> tuple[date, int]:
        length = monthrange(year, month)[1]
        start = length - 6 if count < 0 else 7 * count - 6
        return date(year, month, start), 7

    return _dated(match, today, build)


def _iso(match: re.Match[str], _today: date | None) -> Period:
    year, month = int(match["year"]), int(match["iso_month"])
    if match["day"]:
        return _period(date(year, month, int(match["day"])), 1)
    return _period(date(year, month, 1), monthrange(year, month)[1])


def _year(match: re.Match[str], _today: date | None) -> Period:
    first = date(int(match["year"]), 1, 1)
    return _period(first, (date(first.year, 12, 31) - first).days + 1)


def _season(match: re.Match[str], today: date | None) -> Period:
    # Northern, as English texts without a place mostly mean; the boost is soft.
    month = _SEASONS[match["season"].lower()]
    return _dated(match, today, lambda year: (date(year, month, 1), 91))


def _quarter(match: re.Match[str], today: date | None) -> Period:
    month = 3 * int(match["quarter"]) - 2
    return _dated(match, today, lambda year: (date(year, month, 1), 91))


def _named_day(match: re.Match[str], today: date | None) -> Period | None:
    if today is None:
        return None
    step = {"today": 0, "tonight": 0, "yesterday": -1, "tomorrow": 1}[match[0].lower()]
    return _period(today + timedelta(days=step), 1)


def _ago(match: re.Match[str], today: date | None) -> Period | None:
    if today is None:
        return None
    word = match["count"].lower()
    count = int(word) if word.isdecimal() else _COUNTS[word]
    unit = match["unit"].lower()
    days = {"day": 1, "week": 7, "month": 30.44, "year": 365.2425}[unit] * count
    # "Two weeks ago" is loose: give or take half the unit.
    slack = {"day": 0, "week": 3, "month": 15, "year": 182}[unit]
    return _period(today - timedelta(days=round(days) + slack), 2 * slack + 1)


def _relative(match: re.Match[str], today: date | None) -> Period | None:
    if today is None:
        return None
    step = {"last": -1, "past": -1, "previous": -1, "this": 0, "next": 1}[match["which"].lower()]
    unit = match["unit"].lower()
    if unit == "week":
        return _period(today - timedelta(days=today.weekday() - 7 * step), 7)
    if unit == "month":
        year, month = divmod(today.year * 12 + today.month - 1 + step, 12)
        return _period(date(year, month + 1, 1), monthrange(year, month + 1)[1])
    if unit == "year":
        first = date(today.year + step, 1, 1)
        return _period(first, (date(first.year, 12, 31) - first).days + 1)
    if unit == "weekend":
        return _period(today + timedelta(days=5 - today.weekday() + 7 * step), 2)
    return _weekday(unit, step, today)


def _weekday(unit: str, step: int, today: date) -> Period:
    ahead = (_WEEKDAYS.index(unit) - today.weekday()) % 7
    if step < 0:
        ahead -= 7
    elif step > 0 and ahead == 0:
        ahead = 7
    return _period(today + timedelta(days=ahead), 1)


_Reader = Callable[[re.Match[str], date | None], Period | None]


@cache
def _readers() -> tuple[tuple[re.Pattern[str], _Reader], ...]:
    """Longest forms first: what one reader took, the next ones pass over."""
    comma_year = rf"(?:(?:\s*,\s*|\s+(?:of\s+|in\s+)?){_YEAR})?"
    part = r"(?:(?P<part>early|mid|late|beginning of|middle of|start of|end of)[\s-]+)?"
    count = r"(?P<count>first|second|third|fourth|last)"
    units = rf"week|month|year|weekend|{'|'.join(_WEEKDAYS)}"
    numbers = rf"\d{{1,3}}|an?|{'|'.join(list(_COUNTS)[:10])}"
    seasons = "|".join(_SEASONS)
    forms: list[tuple[str, _Reader]] = [
        (rf"(?<!\d){_YEAR}[-/](?P<iso_month>[01]?\d)(?:[-/](?P<day>[0-3]?\d))?(?!\d)", _iso),
        (rf"(?<!\d){_DAY}\s+(?:of\s+)?{_MONTH}{comma_year}", _day),
        (rf"\b{_MONTH}\s+(?:the\s+)?{_DAY}(?!\d){comma_year}", _day),
        (rf"\b{count}\s+week\s+(?:of|in)\s+{_MONTH}{comma_year}", _week_of_month),
        (rf"\b{part}{_MONTH}(?:\s*,\s*|\s+(?:of\s+|in\s+)?){_YEAR}", _month),
        (rf"\bQ(?P<quarter>[1-4])\s*(?:of\s+)?{_YEAR}", _quarter),
        (rf"\b(?P<season>{seasons})\s+(?:of\s+)?{_YEAR}", _season),
        (rf"{_IN}{_YEAR}", _year),
        (rf"{_IN}(?:the\s+)?{part}{_MONTH}", _month),
        (r"\b(?:today|tonight|yesterday|tomorrow)\b", _named_day),
        (rf"\b(?P<count>{numbers})\s+(?P<unit>day|week|month|year)s?\s+ago\b", _ago),
        (rf"\b(?P<which>last|past|previous|this|next)\s+(?P<unit>{units})\b", _relative),
    ]
    return tuple((re.compile(pattern, re.IGNORECASE), read) for pattern, read in forms)
