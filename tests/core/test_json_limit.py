"""JSON is measured as it is written, and no sooner refused than it is too long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.core.errors import InvalidJson, TooLarge
from holdfast.core.values import JSON_DEPTH_LIMIT, JSON_SIZE_LIMIT, check_json

HALF = JSON_SIZE_LIMIT // 2


@pytest.mark.parametrize(
    ("fits", "beyond"),
    [
        ("x" * (JSON_SIZE_LIMIT - 2), "x" * (JSON_SIZE_LIMIT - 1)),
        ([0] * (HALF - 1), [0] * HALF),
        (["x" * (HALF - 4)] * 2, ["x" * (HALF - 2)] * 2),
        ({"k" * (HALF - 7): "x" * HALF}, {"k" * (HALF - 5): "x" * (HALF + 1)}),
        ([[]] * (JSON_SIZE_LIMIT // 3), [[]] * (JSON_SIZE_LIMIT // 3 + 1)),
        ([{"": 0}] * (JSON_SIZE_LIMIT // 7), [{"": 0}] * (JSON_SIZE_LIMIT // 7 + 1)),
        ("\n" * (HALF - 1), "\n" * HALF),
    ],
    ids=["text", "numbers", "texts", "keys", "empty lists", "objects", "escaped text"],
)
def test_the_limit_is_that_of_what_is_written(fits: Any, beyond: Any) -> None:
    assert len(msgspec.json.encode(fits)) <= JSON_SIZE_LIMIT < len(msgspec.json.encode(beyond))
    assert check_json("data", fits) == fits
    with pytest.raises(TooLarge):
        check_json("data", beyond)


class Word(str):
    """Text of a type of its own."""


def test_text_of_a_subclass_is_no_level_of_its_own() -> None:
    held: Any = Word("x")
    for _ in range(JSON_DEPTH_LIMIT):
        held = [held]
    check_json("data", held)
    with pytest.raises(InvalidJson):
        check_json("data", [held])
