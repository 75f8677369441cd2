"""The recipe: each part acts on its metadata, and on nothing else."""

from datetime import UTC, datetime, timedelta
from math import isclose
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.errors import Invalid
from holdfast.core.ranker import Candidate, PreparedQuery, Ranked, Ranker
from holdfast.recall.recipe import PLAIN, Recipe, prepare_query, rank

QUERY = PreparedQuery(text="q", lexical="q", dense="q")
SCORES = st.none() | st.floats(0, 40)
SCORED = st.tuples(SCORES, SCORES)


def candidates(pairs: list[tuple[float | None, float | None]]) -> list[Candidate]:
    return [
        Candidate(key=(f"k{i:03d}",), text_score=text, vector_score=vector)
        for i, (text, vector) in enumerate(pairs)
        if text is not None or vector is not None
    ]


def convex(given: list[Candidate], text_weight: float, vector_weight: float) -> dict[Any, float]:
    """Plain convex fusion as the textbook has it, written apart from the recipe."""
    totals: dict[Any, float] = {c.key: 0.0 for c in given}
    for weight, leg in ((text_weight, "text_score"), (vector_weight, "vector_score")):
        held = {c.key: getattr(c, leg) for c in given if getattr(c, leg) is not None}
        for key, score in held.items():
            low, high = min(held.values()), max(held.values())
            share = 1.0 if high == low else (score - low) / (high - low)
            totals[key] += weight * share
    return totals


def keys(results: list[Ranked]) -> list[Any]:
    return [result.key for result in results]


@given(st.lists(SCORED, max_size=30))
def test_without_metadata_the_recipe_is_plain_convex_fusion(
    pairs: list[tuple[float | None, float | None]],
) -> None:
    given = candidates(pairs)
    expected = convex(given, 0.4, 0.6)
    results = rank(QUERY, given, Recipe(), 50)
    assert {r.key: r.score for r in results} == expected
    assert keys(results) == sorted(expected, key=lambda key: (-expected[key], key))
    assert results == rank(QUERY, given, PLAIN, 50)


@given(st.lists(SCORED, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    pairs: list[tuple[float | None, float | None]], random: Any
) -> None:
    given = [
        msgspec.structs.replace(c, session=str(i % 3), turn=i // 3)
        for i, c in enumerate(candidates(pairs))
    ]
    shuffled = list(given)
    random.shuffle(shuffled)
    for recipe in (Recipe(), Recipe(fusion="rrf")):
        assert rank(QUERY, given, recipe, 9) == rank(QUERY, shuffled, recipe, 9)


@given(st.lists(SCORED, max_size=20), st.integers(0, 25))
def test_k_means_k_and_parts_sum_to_the_score(
    pairs: list[tuple[float | None, float | None]], k: int
) -> None:
    given = [
        msgspec.structs.replace(c, session="s", turn=i, speaker="Ann")
        for i, c in enumerate(candidates(pairs))
    ]
    query = prepare_query("What did Ann say in May 2023?", ["Ann"])
    results = rank(query, given, Recipe(), k, explain=True)
    assert len(results) == min(k, len(given))
    assert all(isclose(sum(r.parts.values()), r.score) for r in results)


def test_equal_scores_are_ordered_by_key() -> None:
    given = [Candidate(key=(name,), vector_score=0.5) for name in "cab"]
    assert keys(rank(QUERY, given, Recipe(), 3)) == [("a",), ("b",), ("c",)]


def test_results_name_the_legs_that_found_them() -> None:
    given = [
        Candidate(key=1, text_score=2.0, vector_score=0.5, session="s", turn=1),
        Candidate(key=2, vector_score=0.4),
        Candidate(key=3, session="s", turn=2),
        Candidate(key=4, session="other", turn=9),
    ]
    legs = {r.key: r.legs for r in rank(QUERY, given, Recipe(), 9)}
    assert legs == {1: ("text", "vector"), 2: ("vector",), 3: ()}


def test_reciprocal_ranks_are_those_of_cormack_scaled_to_one() -> None:
    given = [
        Candidate(key=1, text_score=9.0, vector_score=0.9),
        Candidate(key=2, text_score=1.0),
    ]
    first, second = rank(QUERY, given, msgspec.structs.replace(PLAIN, fusion="rrf"), 2)
    assert first.score == 1.0
    assert isclose(second.score, (1 / 62) / (2 / 61))


def test_turns_of_the_named_speaker_gain() -> None:
    given = [
        Candidate(key=1, text_score=1.0, speaker="Bob"),
        Candidate(key=2, text_score=1.0, speaker="Ann"),
    ]
    query = prepare_query("What did Ann buy?", ["Ann", "Bob"])
    results = rank(query, given, Recipe(), 2, explain=True)
    assert keys(results) == [2, 1]
    assert results[0].parts["speaker"] == 0.3
    assert keys(rank(query, given, Recipe(speaker_boost=0), 2)) == [1, 2]


def test_between_people_a_match_lifts_the_turns_beside_it() -> None:
    given = [
        Candidate(key=1, session="s", turn=1),
        Candidate(key=2, session="s", turn=2, text_score=1.0, vector_score=1.0),
        Candidate(key=3, session="s", turn=3),
        Candidate(key=4, session="s", turn=5),
        Candidate(key=5, session="t", turn=3),
    ]
    results = rank(QUERY, given, Recipe(session_prior=0), 9)
    assert [(r.key, r.score) for r in results] == [(2, 1.0), (3, 0.3), (1, 0.2)]


def test_an_assistants_reply_lifts_only_the_question() -> None:
    given = [
        Candidate(key=1, session="s", turn=1, role="user"),
        Candidate(key=2, session="s", turn=2, role="assistant", vector_score=1.0),
        Candidate(key=3, session="s", turn=3, role="user"),
    ]
    results = rank(QUERY, given, Recipe(session_prior=0), 9, explain=True)
    assert keys(results) == [2, 1]
    assert isclose(results[1].parts["neighbours"], 0.3 * 0.6)


def test_a_session_that_does_well_lifts_its_turns() -> None:
    given = [
        Candidate(key=1, session="s", turn=1, text_score=3.0),
        Candidate(key=2, session="s", turn=5, text_score=3.0),
        Candidate(key=3, session="s", turn=9, text_score=2.0),
        Candidate(key=0, session="t", turn=1, text_score=2.0),
        Candidate(key=4, session="t", turn=9, text_score=1.0),
    ]
    assert keys(rank(QUERY, given, Recipe(), 5)) == [1, 2, 3, 0, 4]


def test_a_named_date_draws_near_turns_up_and_filters_none_out() -> None:
    said = datetime(2023, 5, 7, 9, tzinfo=UTC)
    given = [
        Candidate(key=1, text_score=1.0, time=said + timedelta(days=200)),
        Candidate(key=2, text_score=1.0, time=said + timedelta(days=1)),
        Candidate(key=3, text_score=1.0, time=said),
        Candidate(key=4, text_score=1.0),
    ]
    query = prepare_query("What happened on 7 May 2023?")
    results = rank(query, given, Recipe(), 9, explain=True)
    assert keys(results) == [3, 2, 1, 4]
    assert results[0].parts["date"] == 0.3


@pytest.mark.parametrize(
    ("query", "left", "named"),
    [
        ("What did Ann buy?", "What did buy?", ("Ann",)),
        ("Where is ANN's dog?", "Where is dog?", ("Ann",)),
        ("Did Ann Lee meet Bob?", "Did meet ?", ("Ann", "Ann Lee", "Bob")),
        ("What about Hannah?", "What about Hannah?", ()),
        ("Ann", "Ann", ("Ann",)),
        ("Who is Ann?", "Who is Ann?", ("Ann",)),
        ("What did the user (user) say?", "What did the user (user) say?", ()),
        ("", "", ()),
    ],
)
def test_names_are_cut_whole_and_never_the_last_word(
    query: str, left: str, named: tuple[str, ...]
) -> None:
    prepared = prepare_query(query, ["Ann", "Bob", "Ann Lee", "user", ""])
    assert (prepared.lexical, prepared.dense, prepared.speakers) == (left, left, named)
    assert prepared.text == query


@given(st.text(), st.lists(st.text(max_size=5), max_size=4))
def test_no_query_or_speaker_raises(query: str, speakers: list[str]) -> None:
    assert prepare_query(query, speakers).text == query


def test_parts_switch_off_for_stores_too() -> None:
    instant = datetime(2023, 5, 7, tzinfo=UTC)
    default, plain = Recipe(), PLAIN
    assert isinstance(default, Ranker)
    assert default.neighbours
    assert not plain.neighbours
    assert default.lexical_text("Hi", instant) == "Hi 7 May 2023 Sunday"
    assert default.lexical_text("Hi") == plain.lexical_text("Hi", instant) == "Hi"
    query = plain.prepare("Ann in May 2023", ["Ann"])
    assert (query.lexical, query.speakers, query.periods) == ("Ann in May 2023", (), ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_weight": -1.0},
        {"date_boost": float("nan")},
        {"text_weight": 0.0, "vector_weight": 0.0},
        {"rrf_k": 0.0},
        {"candidates": 0},
        {"date_scale_days": float("inf")},
    ],
)
def test_constants_without_an_order_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *(("fusion", value) for value in ("RRF", "nonsense", 5, None, ["rrf"])),
        *(("text_weight", value) for value in ("x", float("nan"), None, True, 11)),
        *(("late_weight", value) for value in ("x", float("nan"), 1.5)),
        *(("rrf_k", value) for value in ("x", float("inf"), 0)),
        *(("candidates", value) for value in (1.5, "200", 0, True)),
        *(("session_best", value) for value in (1.5, None, 0)),
        *(("cut_names", value) for value in ("no", 1, None)),
        *(("date_words", value) for value in ("no", 0)),
    ],
)
def test_a_recipe_by_which_nothing_can_be_ordered_is_refused(part: str, value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        Recipe(**{part: value})
    assert refused.value.field == part
