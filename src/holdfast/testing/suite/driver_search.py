"""Keyword and vector search against arithmetic of the suite's own: B26-B30."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.change import Change, Delete, DeleteWhere, Edit, Patch, PatchWhere
from holdfast.core.driver import Driver
from holdfast.core.errors import DimensionMismatch, Invalid
from holdfast.core.filter import EVERYTHING, Filter, Record, among, eq, ge, lt
from holdfast.core.search import Hit, Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import Vector
from holdfast.testing.shapes import NOTES, SHAPES, note, put, vector
from holdfast.testing.strategies import HOSTILE_QUERIES, examples
from holdfast.testing.threads import at_once

WORDS = ("apple", "plum", "pear", "fig", "kiwi", "lime", "melon", "grape", "日本語", "чай", "x1")
SHADES = ("the", "and", "of")
"""Stop words: text without terms."""
NEAR = 1e-6
"""How far two ways of adding floats may differ."""

Score = tuple[float, tuple[float, ...]]
"""A score, and its parts: records of equal parts are ties, whatever the order of addition."""


def _notes(seed: int, count: int) -> list[Record]:
    chance = random.Random(seed)
    directions = [[chance.choice((-2, -1, 0, 0.5, 1, 3)) for _ in range(5)] for _ in range(8)]
    records = []
    for n in range(count):
        words = chance.choices(
            WORDS, range(len(WORDS), 0, -1), k=chance.choice((0, 1, 2, 3, 8, 30))
        )
        title = chance.choice((None, "", "pear", "lime plum"))
        body = " ".join([*words, *chance.choices(SHADES, k=chance.randrange(3))])
        embedding = None
        if chance.random() < 0.8:
            direction = chance.choice(directions)
            scale = chance.choice((1, 1, 2, 0.25)) if any(direction) else 0
            embedding = vector(*(v * scale for v in direction)) if scale else None
        records.append(
            note(
                f"{n:03}",
                body,
                title=title,
                topic=chance.choice("abc"),
                day=chance.randrange(5),
                embedding=embedding,
            )
        )
    return records


def _counts(record: Record) -> Counter[str]:
    return Counter(term for name in NOTES.full_text for term in analyze(record[name] or ""))


def _text_scores(records: Iterable[Record], leg: TextLeg) -> dict[str, Score]:
    """BM25 of every record that has the terms, from the formula as written in the contract."""
    documents = {r["id"]: c for r in records if (c := _counts(r))}
    lengths = {id: c.total() for id, c in documents.items()}
    mean = sum(lengths.values()) / max(len(lengths), 1)
    terms = sorted(set(leg.terms))
    scores: dict[str, Score] = {}
    for id, counts in documents.items():
        held = [term for term in terms if term in counts]
        if not held or (leg.match == "all" and held != terms):
            continue
        parts = []
        for term in held:
            containing = sum(term in other for other in documents.values())
            rarity = math.log(1 + (len(documents) - containing + 0.5) / (containing + 0.5))
            damping = leg.k1 * (1 - leg.b + leg.b * lengths[id] / mean)
            parts.append(rarity * counts[term] * (leg.k1 + 1) / (counts[term] + damping))
        # Sums of the same parts in another order may differ in their last bit, and need not tie.
        scores[id] = (math.fsum(parts), tuple(parts))
    return scores


def _vector_scores(records: Iterable[Record], wanted: Vector) -> dict[str, Score]:
    """Cosines in double precision; equal directions have equal parts."""
    target = _numbers(wanted)
    scores: dict[str, Score] = {}
    for record in records:
        held = record["embedding"]
        if held is None or (held.space, held.width) != (wanted.space, wanted.width):
            continue
        own = _numbers(held)
        product = math.fsum(a * b for a, b in zip(own, target, strict=True))
        cosine = product / math.hypot(*own) / math.hypot(*target)
        scores[record["id"]] = (cosine, tuple(own))
    return scores


def _numbers(given: Vector) -> tuple[float, ...]:
    return struct.unpack(f"<{given.width}f", given.data)


def _assert_ranked(hits: tuple[Hit, ...], scores: dict[str, Score], k: int) -> None:
    """The k best, with their scores, best first, ties by key."""
    assert len(hits) == min(k, len(scores))
    ids = [hit.key[0] for hit in hits]
    assert len(set(ids)) == len(ids)
    for hit in hits:
        assert hit.score == pytest.approx(scores[hit.key[0]][0], rel=NEAR, abs=NEAR)
    for one, two in pairwise(hits):
        assert one.score >= two.score
        if scores[one.key[0]][1] == scores[two.key[0]][1]:
            assert (one.score, one.key) < (one.score, two.key)
            assert one.score == two.score
    if hits:
        worst = scores[ids[-1]]
        for id in scores.keys() - set(ids):
            assert scores[id][0] <= worst[0] + NEAR
            assert scores[id][1] != worst[1] or id > ids[-1]


def _text(driver: Driver, *terms: str, **options: Any) -> list[str]:
    search = Search(collection=NOTES.name, text=TextLeg(terms=terms), **options)
    return [hit.key[0] for hit in driver.search("t", search).text]


def _near(driver: Driver, wanted: Vector, **options: Any) -> list[str]:
    leg = VectorLeg(field="embedding", vector=wanted)
    hits = driver.search("t", Search(collection=NOTES.name, vector=leg, **options)).vector
    return [hit.key[0] for hit in hits]


_FILTERS: list[Filter] = [
    EVERYTHING, eq("topic", "a"), ge("day", 3), eq("topic", "b") & lt("day", 2), eq("id", "004"),
    eq("title", None), among("id", ["001", "nope"]), ~eq("topic", "c"), eq("topic", "none"),
]  # fmt: skip


class TestDriverTextSearch:
    def test_b26_text_scores_are_the_stated_bm25(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.full_text:
            return
        records = _notes(1, 40)
        driver.apply("t", [put(NOTES, record) for record in records])

        @examples(80)
        @given(
            st.lists(st.sampled_from((*WORDS, "unheard", "the")), max_size=4).map(" ".join),
            st.sampled_from(("any", "all")),
            st.sampled_from(((0.9, 0.75), (1.2, 0.0), (0.0, 1.0), (2.5, 1.0))),
            st.integers(0, 45),
            st.sampled_from(_FILTERS),
        )
        def check(words: str, match: Any, tuning: Any, k: int, where: Filter) -> None:
            terms = tuple(analyze(words))
            leg = TextLeg(terms=terms, match=match, k1=tuning[0], b=tuning[1])
            hits = driver.search("t", Search(collection=NOTES.name, text=leg, k=k, filter=where))
            scores = {
                id: score
                for id, score in _text_scores(records, leg).items()
                if where.matches(next(r for r in records if r["id"] == id))
            }
            _assert_ranked(hits.text, scores, k)
            _assert_whole(driver, hits)

        check()

    def test_b26_equal_scores_come_by_key(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.full_text:
            return
        for id in ("c", "a", "e", "b", "d"):
            driver.apply("t", [put(NOTES, note(id, "equal words here"))])
        driver.apply("t", [Patch(NOTES.name, ("e",), Edit(set={"day": 1}))])
        assert _text(driver, "equal", "word") == ["a", "b", "c", "d", "e"]
        assert _text(driver, "equal", "word", k=2) == ["a", "b"]
        assert _text(driver, "equal", filter=~eq("id", "a"), k=2) == ["b", "c"]

    def test_b26_no_terms_find_nothing(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.full_text:
            return
        driver.apply("t", [put(NOTES, note("a", "word")), put(NOTES, note("b", "the of"))])
        everything = Search(collection=NOTES.name)
        assert driver.search("t", everything) == Hits()
        matches: tuple[Any, ...] = ("any", "all")
        for match in matches:
            leg = TextLeg(terms=(), match=match)
            assert driver.search("t", Search(collection=NOTES.name, text=leg)).text == ()

    @pytest.mark.parametrize("typed", HOSTILE_QUERIES)
    def test_b26_user_text_is_never_grammar(self, driver: Driver, typed: str) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.full_text:
            return
        records = [note("0", "plain words"), note("1", typed), note("2", f"pre {typed} post")]
        driver.apply("t", [put(NOTES, record) for record in records])
        for terms in (tuple(analyze(typed))[:128], tuple(dict.fromkeys(typed.split()))[:128]):
            leg = TextLeg(terms=terms)
            hits = driver.search("t", Search(collection=NOTES.name, text=leg)).text
            _assert_ranked(hits, _text_scores(records, leg), 10)


class TestDriverVectorSearch:
    def test_b27_vectors_score_by_cosine(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        records = _notes(2, 60)
        driver.apply("t", [put(NOTES, record) for record in records])
        numbers = st.sampled_from((-2.0, -1.0, 0.0, 0.1, 1.0, 3.0, 1e30, 1e-30))

        @examples(80)
        @given(
            st.lists(numbers, min_size=5, max_size=5).filter(any),
            st.integers(0, 70),
            st.sampled_from(_FILTERS),
        )
        def check(wanted: list[float], k: int, where: Filter) -> None:
            leg = VectorLeg(field="embedding", vector=vector(*wanted))
            hits = driver.search("t", Search(collection=NOTES.name, vector=leg, k=k, filter=where))
            chosen = [record for record in records if where.matches(record)]
            _assert_ranked(hits.vector, _vector_scores(chosen, leg.vector), k)
            assert all(-1.0 <= hit.score <= 1.0 for hit in hits.vector)
            _assert_whole(driver, hits)

        check()

    def test_b27_equal_scores_come_by_key(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        chance = random.Random(5)
        same = vector(*(chance.random() for _ in range(37)))
        ids = [f"{n:03}" for n in range(70)]
        shuffled = chance.sample(ids, len(ids))
        driver.apply("t", [put(NOTES, note(id, embedding=same)) for id in shuffled])
        wanted = vector(*(chance.random() for _ in range(37)))
        assert _near(driver, wanted, k=100) == ids
        assert _near(driver, wanted, k=9) == ids[:9]
        assert _near(driver, wanted, k=9, filter=ge("id", "031")) == ids[31:40]

    def test_b27_the_minimum_is_an_inclusive_floor(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        rows = {"a": vector(1, 0), "b": vector(3, 1), "c": vector(0, 1), "d": vector(-1, 0)}
        driver.apply("t", [put(NOTES, note(k, embedding=v)) for k, v in rows.items()])
        wanted = vector(1, 0)
        leg = VectorLeg(field="embedding", vector=wanted)
        scores = driver.search("t", Search(collection=NOTES.name, vector=leg)).vector
        assert [hit.key[0] for hit in scores] == ["a", "b", "c", "d"]
        for n, hit in enumerate(scores):
            assert _near(driver, wanted, minimum=hit.score) == list("abcd"[: n + 1])
        assert _near(driver, wanted, minimum=2.0) == []
        assert _near(driver, wanted, minimum=-1.0) == list("abcd")

    def test_b28_k_means_k_behind_any_filter(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        count = 300
        closest = [note(f"{n:04}", "word " * 9, embedding=vector(1, n / 1e4)) for n in range(count)]
        rare = [
            note(f"rare {n}", "a rare word of many others", topic="rare", embedding=vector(-1, n))
            for n in range(3)
        ]
        driver.apply("t", [put(NOTES, record) for record in closest + rare])
        for k in (1, 2, 3, 10):
            wanted = [f"rare {n}" for n in range(3)][:k]
            where = eq("topic", "rare")
            if driver.capabilities.full_text:
                assert sorted(_text(driver, "word", filter=where, k=k)) == wanted
            if driver.capabilities.vectors:
                assert len(_near(driver, vector(1, 0), filter=where, k=k)) == len(wanted)
        if driver.capabilities.full_text:
            assert len(_text(driver, "word", k=count)) == count
        if driver.capabilities.vectors:
            assert len(_near(driver, vector(1, 0), k=count)) == count
            assert _near(driver, vector(1, 0), k=0) == []


class TestDriverSearchFreshness:
    def test_b29_search_follows_every_write(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        chance = random.Random(11)
        held: dict[str, Record] = {}
        wanted, leg = vector(1, 2, 3, 4, 5), TextLeg(terms=tuple(analyze("pear lime apple")))
        for step in range(40):
            _write_one(driver, held, chance, _notes(step + 100, 1)[0])
            search = Search(
                collection=NOTES.name,
                k=50,
                text=leg if driver.capabilities.full_text else None,
                vector=VectorLeg(field="embedding", vector=wanted)
                if driver.capabilities.vectors
                else None,
            )
            hits = driver.search("t", search)
            if search.text:
                _assert_ranked(hits.text, _text_scores(held.values(), leg), 50)
            if search.vector:
                _assert_ranked(hits.vector, _vector_scores(held.values(), wanted), 50)
            _assert_whole(driver, hits)

    @pytest.mark.parametrize("how", ["delete", "delete_where", "replace", "patch", "patch_where"])
    def test_b29_nothing_of_the_old_text_or_vector_is_left(self, driver: Driver, how: str) -> None:
        driver.setup(SHAPES)
        old = note("a", "secret", title="hidden", embedding=vector(1, 0))
        driver.apply("t", [put(NOTES, old), put(NOTES, note("b", "banana"))])
        gone = {"body": "open", "title": None, "embedding": None}
        changes: dict[str, Change] = {
            "delete": Delete(NOTES.name, ("a",)),
            "delete_where": DeleteWhere(NOTES.name, eq("id", "a")),
            "replace": put(NOTES, note("a", "open")),
            "patch": Patch(NOTES.name, ("a",), Edit(set=gone)),
            "patch_where": PatchWhere(NOTES.name, eq("id", "a"), Edit(set=gone)),
        }
        driver.apply("t", [changes[how]])
        if driver.capabilities.full_text:
            assert _text(driver, "secret") == _text(driver, *analyze("hidden")) == []
            assert _text(driver, "open") == ([] if how.startswith("delete") else ["a"])
            leg = TextLeg(terms=tuple(analyze("banana")))
            rest = [note("b", "banana")] + [note("a", "open")] * (not how.startswith("delete"))
            found = driver.search("t", Search(collection=NOTES.name, text=leg)).text
            _assert_ranked(found, _text_scores(rest, leg), 10)
        if driver.capabilities.vectors:
            assert _near(driver, vector(1, 0)) == []

    def test_b29_a_deleted_record_comes_back_by_its_new_content_only(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note("a", "first", embedding=vector(1, 0)))])
        driver.apply("t", [Delete(NOTES.name, ("a",)), put(NOTES, note("a", "second"))])
        if driver.capabilities.full_text:
            assert (_text(driver, "first"), _text(driver, "second")) == ([], ["a"])
        if driver.capabilities.vectors:
            assert _near(driver, vector(1, 0)) == []

    def test_b29_search_stays_true_while_others_write(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        steady = [note(f"s{n}", "steady", embedding=vector(1, 0)) for n in range(5)]
        driver.apply("t", [put(NOTES, record) for record in steady])

        def work(caller: int) -> None:
            for n in range(12):
                if caller == 0:
                    driver.apply("t", [put(NOTES, note("p", "steady", embedding=vector(1, 0)))])
                    driver.apply("t", [Delete(NOTES.name, ("p",))])
                    continue
                for found in (
                    _text(driver, *analyze("steady")) if driver.capabilities.full_text else None,
                    _near(driver, vector(1, 0)) if driver.capabilities.vectors else None,
                ):
                    ids = {f"s{i}" for i in range(5)}
                    assert found is None or ids <= set(found) <= ids | {"p"}, n

        at_once(3, work)

    def test_b30_spaces_and_widths_never_mix(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        rows = {
            "one": vector(1, 0, space="s1"),
            "two": vector(1, 0, space="s2"),
            "wide": vector(1, 0, 0, space="s1"),
            "case": vector(1, 0, space="S1"),
        }
        driver.apply("t", [put(NOTES, note(k, embedding=v)) for k, v in rows.items()])
        for id, held in rows.items():
            try:
                assert _near(driver, held) == [id]
            except DimensionMismatch:
                # An engine may fix one width per space; then the other was refused as well.
                assert id == "wide"
        assert _near(driver, vector(1, 0, space="s3")) == []

    def test_b30_a_record_that_moves_to_a_new_space_leaves_the_old(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        driver.apply("t", [put(NOTES, note("a", embedding=vector(1, 0, space="old")))])
        moved = Edit(set={"embedding": vector(1, 0, 0, space="new")})
        driver.apply("t", [Patch(NOTES.name, ("a",), moved)])
        assert _near(driver, vector(1, 0, space="old")) == []
        assert _near(driver, vector(1, 0, 0, space="new")) == ["a"]

    def test_b30_a_search_over_no_vector_field_is_refused(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        if not driver.capabilities.vectors:
            return
        for field in ("body", "nothing"):
            leg = VectorLeg(field=field, vector=vector(1, 0))
            with pytest.raises(Invalid):
                driver.search("t", Search(collection=NOTES.name, vector=leg))


def _write_one(driver: Driver, held: dict[str, Record], chance: random.Random, new: Record) -> None:
    """One random write of one of few records, in the store and in ``held``."""
    id = chance.choice("abcdef")
    record = {**new, "id": id}
    kind = chance.choice(("put", "put", "patch", "delete", "vector"))
    if kind == "put" or id not in held:
        driver.apply("t", [put(NOTES, record)])
        held[id] = record
    elif kind == "delete":
        driver.apply("t", [Delete(NOTES.name, (id,))])
        del held[id]
    else:
        names = ("embedding",) if kind == "vector" else ("body", "title", "day")
        new_values = {name: record[name] for name in names}
        driver.apply("t", [Patch(NOTES.name, (id,), Edit(set=new_values))])
        held[id] = {**held[id], **new_values}


def _assert_whole(driver: Driver, hits: Hits) -> None:
    """The records of all hits and of nothing else, as they are stored."""
    assert hits.exact
    assert hits.records.keys() == {hit.key for hit in (*hits.text, *hits.vector)}
    for key in list(hits.records)[:3]:
        assert hits.records[key] == driver.get("t", NOTES.name, key)
