"""Generated data: pools that collide, filters over them, and values that nobody should accept."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from holdfast.core.filter import (
    And,
    Compare,
    Contains,
    Filter,
    In,
    InSelect,
    IsNull,
    JsonExists,
    JsonPath,
    Not,
    Or,
    Prefix,
    Record,
)
from holdfast.testing.shapes import NOON, PAIRS, THINGS, thing

FACTOR: Final = int(os.environ.get("HOLDFAST_EXAMPLES", "1"))
"""How many times as many examples as a plain run: raise it to soak."""


_phases: tuple[Phase, ...] = (Phase.explicit, Phase.generate, Phase.shrink)


@contextmanager
def unshrunk() -> Iterator[None]:
    """Inside, a failing example is as good as any: saboteurs need no small one."""
    global _phases
    before, _phases = _phases, (Phase.explicit, Phase.generate)
    try:
        yield
    finally:
        _phases = before


def examples(count: int) -> settings:
    """Settings for so many examples; the same ones each run, unless it is a soak."""
    return settings(
        max_examples=count * FACTOR,
        deadline=None,
        database=None,
        derandomize=FACTOR == 1,
        phases=_phases,
        suppress_health_check=list(HealthCheck),
    )


TEXTS: Final = (
    "", "a", "A", "ab", "abc", "a%", "a_", "a*", "a?", "[a]", "b", "%", "_", "'", '"', "\\", "--",
    "null", "1", "é", "e\u0301", "ß", "\u202eab", "\uffff", "\U0001f642", "\U0001f642a", " a", "a ",
)  # fmt: skip
INTS: Final = (-(2**63), -1, 0, 1, 2, 3, 10, 2**53, 2**53 + 1, 2**63 - 1)
SMALL_INTS: Final = (-2, -1, 0, 1, 2, 3)
FLOATS: Final = (-1e308, -1.5, -0.0, 0.0, 5e-324, 0.1, 0.3, 1.0, 1.5, 2.0**53, 1e308)
SMALL_FLOATS: Final = (-1.5, 0.0, 0.25, 1.0, 8.0)
TIMES: Final = (
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    NOON,
    NOON + timedelta(microseconds=1),
    NOON + timedelta(hours=1),
    NOON + timedelta(days=40),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
)
BLOBS: Final = (b"", b"\x00", b"a", b"\xff", b"\x00\xff")
TAGS: Final = ("", "a", "A", "b", "a,b", '"', "[", "é", "\U0001f642", "%")
KEYS: Final = ("a", "b", "a.b", "k 1", "0", "A", "é")
JSONS: Final[tuple[Any, ...]] = (
    True, False, 0, 1, 1.0, 1.5, -1, 2**53 + 1, "", "1", "a", "b", "true", [], [1], {},
    {"a": None}, {"a": True}, {"a": False}, {"a": 0}, {"a": 1}, {"a": 1.0}, {"a": 1.5}, {"a": "1"},
    {"a": "a"}, {"a": ""}, {"a": []}, {"a": [1]}, {"a": {}},
    {"a": {"b": 1}}, {"a": {"b": "x"}}, {"a": {"b": None}}, {"a.b": 1}, {"a": {"a": {"a": 2}}},
    {"0": 1}, {"k 1": "a", "é": 2**53 + 1}, {"A": 1, "b": 2},
)  # fmt: skip

POOLS: Final[dict[str, tuple[Any, ...]]] = {
    "text": TEXTS,
    "int": INTS,
    "float": FLOATS,
    "bool": (False, True),
    "time": TIMES,
    "bytes": BLOBS,
}


def populated(seed: int, count: int, *, small: bool = False) -> list[Record]:
    """Records of THINGS from the pools, so that values meet again and again."""
    chance = random.Random(seed)
    pools = dict(POOLS)
    if small:
        pools.update(int=SMALL_INTS, float=SMALL_FLOATS)

    def value(kind: str) -> Any:
        if kind == "texts":
            return chance.sample(TAGS, chance.choice((0, 0, 1, 1, 2, 3)))
        return chance.choice(JSONS if kind == "json" else pools[kind])

    records = []
    for n in range(count):
        fields = {
            f.name: None if f.nullable and chance.random() < 0.4 else value(f.kind)
            for f in THINGS.fields[1:]
        }
        records.append(thing(f"{n:03}", **fields))
    return records


def paired(seed: int, count: int) -> list[Record]:
    """Records of PAIRS from the same pools."""
    chance = random.Random(seed)
    keys = {(chance.choice(TEXTS), chance.choice(INTS)) for _ in range(count)}
    return [
        {"room": room, "number": n, "label": chance.choice((None, *TEXTS))}
        for room, n in sorted(keys)
    ]


OPS: Final = ("eq", "ne", "lt", "le", "gt", "ge")
_BY_KIND: Final = {
    kind: [f.name for f in THINGS.fields if f.kind == kind] for kind in (*POOLS, "json", "texts")
}


@st.composite
def comparisons(draw: st.DrawFn) -> Filter:
    """A field of any scalar kind against a value of its kind."""
    kind = draw(st.sampled_from(sorted(POOLS)))
    op: Any = draw(st.sampled_from(OPS if kind != "bytes" else OPS[:2]))
    return Compare(draw(st.sampled_from(_BY_KIND[kind])), op, draw(_scalars(kind)))


@st.composite
def memberships(draw: st.DrawFn) -> Filter:
    """A field among some values of its kind."""
    kind = draw(st.sampled_from(sorted(POOLS)))
    values = draw(st.lists(_scalars(kind), max_size=4))
    return In(draw(st.sampled_from(_BY_KIND[kind])), tuple(values))


def _scalars(kind: str) -> st.SearchStrategy[Any]:
    pool: st.SearchStrategy[Any] = st.sampled_from(POOLS[kind])
    if kind == "text":
        return pool | texts(8)
    return pool | st.integers(-(2**63), 2**63 - 1) if kind == "int" else pool


def texts(longest: int) -> st.SearchStrategy[str]:
    """Any text that the contract accepts."""
    allowed = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
    return st.text(allowed, max_size=longest)


_PATHS: Final = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(tuple)


@st.composite
def json_comparisons(draw: st.DrawFn) -> Filter:
    """A path into a json field against a text, number or bool."""
    field, path = draw(st.sampled_from(_BY_KIND["json"])), draw(_PATHS)
    values = ("", "a", "1", "x", 0, 1, -1, 1.0, 1.5, 2, 2**53 + 1, 1e300, True, False)
    value: Any = draw(st.sampled_from(values))
    op: Any = draw(st.sampled_from(OPS[:2] if isinstance(value, bool) else OPS))
    return JsonPath(field, path, op, value)


def inner_filters() -> st.SearchStrategy[Filter]:
    """Filters over PAIRS, for subselects."""
    ops: st.SearchStrategy[Any] = st.sampled_from(OPS)
    return st.one_of(
        st.just(And()),
        st.just(IsNull("label")),
        st.builds(Compare, st.just("room"), ops, st.sampled_from(TEXTS)),
        st.builds(Compare, st.just("number"), ops, st.sampled_from(INTS)),
        st.builds(lambda text: Not(Compare("label", "eq", text)), st.sampled_from(TEXTS)),
    )


def leaves() -> st.SearchStrategy[Filter]:
    """One node of each kind that asks something of a record of THINGS."""
    names = [f.name for f in THINGS.fields]
    modes: st.SearchStrategy[Any] = st.sampled_from(("all", "any"))
    tags = st.lists(st.sampled_from(TAGS), max_size=3).map(tuple)
    text_field, select = st.sampled_from(_BY_KIND["text"]), st.sampled_from(("room", "label"))
    return st.one_of(
        comparisons(),
        memberships(),
        st.builds(IsNull, st.sampled_from(names)),
        st.builds(Prefix, text_field, st.sampled_from(TEXTS) | texts(3)),
        st.builds(Contains, st.sampled_from(_BY_KIND["texts"]), tags, modes),
        json_comparisons(),
        st.builds(JsonExists, st.sampled_from(_BY_KIND["json"]), _PATHS),
        st.builds(InSelect, text_field, st.just(PAIRS.name), select, inner_filters()),
        st.builds(
            InSelect,
            st.sampled_from(_BY_KIND["int"]),
            st.just(PAIRS.name),
            st.just("number"),
            inner_filters(),
        ),
        st.builds(Compare, st.just("revision"), st.just("le"), st.integers(0, 3)),
    )


def filters() -> st.SearchStrategy[Filter]:
    """Trees of every kind of node."""
    return st.recursive(leaves(), _branches, max_leaves=8)


def _branches(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(parts, max_size=3).map(tuple)
    return st.one_of(st.builds(And, several), st.builds(Or, several), st.builds(Not, parts))


Build = Callable[[], Any]
"""A value made when needed: deep ones must not be built, printed or compared on the way."""


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


HOSTILE_TEXTS: Final[dict[str, Build]] = {
    "NUL": lambda: "a\x00b",
    "lone high surrogate": lambda: "a\ud800",
    "lone low surrogate": lambda: "\udfff",
    "surrogates the wrong way round": lambda: "\ude42\ud83d",
    "a surrogate pair in two characters": lambda: "\ud83d\ude42",
    "bytes": lambda: b"text",
    "a number": lambda: 1,
    "a list": lambda: ["a"],
    "beyond the limit": lambda: "a" * (16 * 1024 * 1024 + 1),
}


def _doubled() -> Any:
    """Few lists, and more than any memory when each is written out where it stands."""
    held: list[Any] = []
    for _ in range(60):
        held = [held, held]
    return held


HOSTILE_JSON: Final[dict[str, Build]] = {
    "65 levels": lambda: _nested(66),
    "100,000 levels": lambda: _nested(100_000),
    "a cycle": _cycle,
    "a cycle of many": lambda: _cycle() * 1_000,
    "two of two of two": _doubled,
    "one text a million times": lambda: [["x" * 1_000] * 1_000] * 1_000,
    "one object a million times": lambda: [[{"k" * 500: None}] * 1_000] * 1_000,
    "NaN": lambda: {"a": [float("nan")]},
    "infinity": lambda: {"a": 1e400},
    "minus infinity": lambda: [-1e400],
    "2**70": lambda: {"a": 2**70},
    "2**63": lambda: 2**63,
    "a number as key": lambda: {1: "a"},
    "null as key": lambda: {None: "a"},
    "NUL in a key": lambda: {"a\x00": 1},
    "NUL in a text": lambda: {"a": ["\x00"]},
    "lone surrogate": lambda: {"a": "\ud800"},
    "lone surrogate in a key": lambda: {"\udc00": 1},
    "bytes": lambda: {"a": b"x"},
    "a set": lambda: {"a": {1}},
    "an instant": lambda: {"a": NOON},
    "an object": lambda: {"a": object()},
    "beyond the limit": lambda: {"a": "x" * (1024 * 1024)},
}
HOSTILE_INTS: Final[dict[str, Build]] = {
    "2**63": lambda: 2**63,
    "below -2**63": lambda: -(2**63) - 1,
    "2**70": lambda: 2**70,
    "a float": lambda: 1.0,
    "a bool": lambda: True,
    "text": lambda: "1",
}
HOSTILE_FLOATS: Final[dict[str, Build]] = {
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "1e400": lambda: 1e400,
    "an integer beyond floats": lambda: 10**400,
    "a bool": lambda: True,
    "text": lambda: "1.0",
}
HOSTILE_TIMES: Final[dict[str, Build]] = {
    "naive": lambda: datetime(2026, 1, 1),
    "text": lambda: "2026-01-01T00:00:00Z",
    "seconds": lambda: 1_700_000_000,
    "a date": lambda: NOON.date(),
}
HOSTILE_VECTORS: Final[dict[str, Build]] = {
    "NaN": lambda: [1.0, float("nan")],
    "infinity": lambda: [1.0, float("inf")],
    "all zeros": lambda: [0.0, 0.0],
    "float64 beyond float32": lambda: [1e300, 1.0],
    "bools": lambda: [True, False],
    "texts": lambda: ["1", "2"],
    "nothing": list,
    "two rows": lambda: [[1.0], [2.0]],
    "ragged": lambda: [[1.0], [2.0, 3.0]],
    "text": lambda: "12",
    "null": lambda: None,
    "too wide": lambda: [1.0] * 16_385,
}
FRIENDLY_TEXTS: Final = (
    "\u202e\u2066mirrored\u2069",
    "é",
    "e\u0301",
    "a" + "\u0301" * 2_000,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "\ufdd0\uffff\U0010ffff",
    "\x01\x1b[31m\x7f\x85",
    "'; DROP TABLE suite_things; --",
    '" OR 1=1 --',
    "$.a') OR ('1'='1",
    "\\u0000 \\x00 %00",
    "\u2028\u2029\ufeff",
)
"""Looks hostile, is plain text, and must come back as it was."""

HOSTILE_QUERIES: Final = (
    '"', '""', "'", "*", "a*", "^a", "a:b", "title:a", "{title body}:a", "a AND", "AND", "OR",
    "NOT", "NEAR(a b)", "a NEAR/2 b", "(", ")", "((a", "-a", "+a", "a - b", "pre-edit", "don't",
    'say "hi',
    "foo AND bar", "\\", "%", "_", ";", "--", "/*", "a&b", "a|b", "!a", "a<->b", "a:*", "@a:{b}",
    "", " ", "\t", "the of and", "\U0001f642", "\u202e", "é" * 500, "a " * 3_000, "\uffff",
    "rowid:1", "suite_notes", "rank MATCH 'x'", "a^2", "a~", "[a TO b]", "?", "$$", "${x}", "\x01",
)  # fmt: skip
"""What users type. None of it is grammar."""
