"""Records are checked at one look where that is enough, to the same end as value by value."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, Final

import pytest

from holdfast.core.collection import Collection, Field, Index, Sequence
from holdfast.core.errors import HoldfastError
from holdfast.core.values import KEYED_TEXT_LIMIT, Vector

SHAPE: Final = Collection(
    "things",
    (
        Field("id", "text"),
        Field("number", "int"),
        Field("kind", "text"),
        Field("body", "text", nullable=True),
        Field("count", "int", default=0),
        Field("score", "float", nullable=True),
        Field("done", "bool", nullable=True),
        Field("at", "time"),
        Field("data", "json", nullable=True),
        Field("blob", "bytes", nullable=True),
        Field("tags", "texts"),
    ),
    indexes=(Index(("kind",), serves="by kind"),),
    sequences=(Sequence("number"),),
    vectors=("meaning",),
)


class Word(str):
    """Text of a type of its own, which becomes plain."""


NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
SOUND: Final[dict[str, Any]] = {
    "id": "a",
    "number": None,
    "kind": "note",
    "body": "what is said",
    "count": 3,
    "score": 0.5,
    "done": True,
    "at": NOW,
    "data": {},
    "blob": b"\x00",
    "tags": ["x"],
    "meaning": Vector("space", b"\x00\x00\x80\x3f"),
}
ODD: Final[tuple[Any, ...]] = (
    *(None, True, 0, 7, 2**63 - 1, 2**63, -(2**63) - 1, 0.5, float("nan"), float("inf")),
    *("", "plain", "grün 🌱", "\x00", "a\ud800", "\ud83d", "\ude00", Word("word")),
    *("k" * KEYED_TEXT_LIMIT, "k" * (KEYED_TEXT_LIMIT + 1), "ü" * (KEYED_TEXT_LIMIT + 1)),
    *(NOW, NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=2)))),
    *({}, {"a": [1, None]}, {1: 2}, [], ["x"], ["\x00"], ("x",), b"x", object()),
    *(Vector("space", b"\x00\x00\x80\x3f"), Vector("", b"")),
)


def _outcome(check: Any, record: Any) -> Any:
    try:
        checked = check(record)
    except HoldfastError as error:
        return type(error), str(error), error.context
    return [(name, type(value), value) for name, value in checked.items()]


@pytest.mark.parametrize("seed", range(20))
def test_one_look_gives_what_looking_at_each_value_gives(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        record = dict(SOUND)
        for name in chance.sample([*SOUND], chance.randint(0, 3)):
            record[name] = chance.choice(ODD)
        for name in chance.sample([*SOUND], chance.choice((0, 0, 1, 2))):
            del record[name]
        if chance.random() < 0.1:
            record["unknown"] = 1
        if chance.random() < 0.3:
            names = chance.sample([*record], len(record))
            record = {name: record[name] for name in names}
        given = MappingProxyType(record) if chance.random() < 0.1 else record
        assert _outcome(SHAPE.check_record, given) == _outcome(SHAPE._check_each, given)


def test_what_is_given_stays_its_givers_own() -> None:
    given = {**SOUND, "data": {"a": [1]}}
    checked = SHAPE.check_record(given)
    checked["data"]["a"].append(2)
    checked["tags"].append("y")
    checked["kind"] = "other"
    assert given == {**SOUND, "data": {"a": [1]}}


def test_a_revision_is_the_engines_own() -> None:
    assert "revision" not in SHAPE.check_record({**SOUND, "revision": 4})


def test_shapes_without_end_are_not_kept_without_end() -> None:
    for number in range(3_000):
        kind = type(f"Word{number}", (str,), {})
        assert SHAPE.check_record({**SOUND, "body": kind("word")})["body"] == "word"
    assert len(SHAPE._alike) <= 1_024
