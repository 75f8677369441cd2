"""Recall: F2-F7, F12, F16, F25, N8."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.change import Put
from holdfast.core.clock import ManualClock
from holdfast.core.errors import Invalid, Timeout
from holdfast.core.ranker import PreparedQuery
from holdfast.recall.recipe import Recipe
from holdfast.storage import Storage
from holdfast.stores.memory.records import MEMORIES
from holdfast.testing.models import AngleEmbedder, WordReranker, with_models
from holdfast.testing.races import Counting


def contents(found: Any) -> list[str]:
    return [item.memory.content for item in found]


class TestMemoryRecall:
    @pytest.mark.needs_vectors
    def test_f2_vector_scores_are_cosines(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        angles = (0, 30, 60, 90, 150, 180)
        memory.remember_many([f"at @{angle}" for angle in angles])
        found = memory.recall("q @0", mode="vector")
        assert contents(found) == [f"at @{angle}" for angle in angles]
        expected = [math.cos(math.radians(angle)) for angle in angles]
        assert [item.score for item in found] == pytest.approx(expected, abs=1e-4)
        assert {item.legs for item in found} == {("vector",)}

    @pytest.mark.needs_vectors
    def test_f2_ties_are_ordered_by_id(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        for name in ("c", "a", "b"):
            memory.remember(f"{name} @45", id=name)
        assert [item.memory.id for item in memory.recall("q @0", mode="vector")] == ["a", "b", "c"]

    @pytest.mark.needs_vectors
    def test_f2_callers_vectors_need_no_embedder(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=None).memory
        memory.remember("left", vector=[1.0, 0.0])
        memory.remember("up", vector=[0.0, 2.0])
        memory.remember("no vector")
        found = memory.recall(vector=[0.0, 1.0], mode="vector")
        assert [(i.memory.content, round(i.score, 4)) for i in found] == [
            ("up", 1.0),
            ("left", 0.0),
        ]
        assert contents(memory.recall("left")) == ["left"]

    def test_f3_keyword_is_an_or_of_words_in_any_script(self, storage: Storage) -> None:
        texts = ("green tea", "black coffee", "東京タワーは高い", "привет мир", "x")
        storage.memory.remember_many(list(texts))
        assert set(contents(storage.memory.recall("tea or coffee", mode="keyword"))) == {
            "green tea",
            "black coffee",
        }
        assert contents(storage.memory.recall("タワー", mode="keyword")) == ["東京タワーは高い"]
        assert contents(storage.memory.recall("ПРИВЕТ", mode="keyword")) == ["привет мир"]
        for nothing in ("", "   ", "x", "!?", "the of and"):
            assert contents(storage.memory.recall(nothing, mode="keyword")) == []

    def test_f3_hostile_queries_never_raise(self, storage: Storage) -> None:
        storage.memory.remember("an ordinary text about tables")
        grammar = ['"', "'", "(", ")", "*", ":", "-", "^", "%", "_", "\\", ";--", " OR ", " AND "]
        grammar += [" NOT ", "NEAR(", "content:", "{", "}", "&", "|", "!", "<->", "\n", "日", "é"]
        rng = random.Random(7)
        for _ in range(1_000):
            parts = rng.choices([*grammar, *string.ascii_letters, "tables"], k=rng.randint(1, 12))
            found = storage.memory.recall("".join(parts), mode="keyword")
            assert len(found) <= 1
        assert contents(storage.memory.recall('tables") OR 1=1 --', mode="keyword")) == [
            "an ordinary text about tables"
        ]

    def test_f3_a_very_long_query_says_that_it_was_cut(self, storage: Storage) -> None:
        storage.memory.remember("word7 here")
        found = storage.memory.recall(" ".join(f"word{n}" for n in range(500)), mode="keyword")
        assert contents(found) == ["word7 here"]
        assert found.flags == ("query_terms_cut",)

    def test_f3_a_query_that_names_very_many_dates_is_answered(self, storage: Storage) -> None:
        kept = storage.memory.remember("I went to Oslo on 2024-05-12.")
        days = [f"{year}-{month:02}-11" for year in range(1950, 2050) for month in range(1, 13)]
        for query in ("on 2024-05-12 " * 20_000, " ".join(days * 20)):
            assert [m.memory.id for m in storage.memory.recall(f"Oslo {query}")] == [kept.id]

    @pytest.mark.needs_vectors
    def test_f4_hybrid_finds_what_either_leg_finds(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember("zebra stripes @180")
        memory.remember("unrelated words @0")
        memory.remember("zebra crossing @1")
        found = memory.recall("zebra @0")
        assert contents(found)[0] == "zebra crossing @1"
        assert len(found) == 3
        legs = {item.memory.content: item.legs for item in found}
        assert legs["zebra crossing @1"] == ("text", "vector")
        scores = [item.score for item in found]
        assert scores == sorted(scores, reverse=True)

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize("rrf_k", [60.0, 2.0])
    def test_f4_reciprocal_rank_with_a_settable_constant(
        self, storage: Storage, rrf_k: float
    ) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember("zebra @0", id="both")
        memory.remember("horse @10", id="vector")
        ranker = Recipe(fusion="rrf", rrf_k=rrf_k)
        found = memory.recall("zebra @0", ranker=ranker, explain=True)
        assert [item.memory.id for item in found] == ["both", "vector"]
        first, second = (item.parts["vector"] for item in found)
        assert first / second == pytest.approx((rrf_k + 2) / (rrf_k + 1))

    @pytest.mark.needs_vectors
    def test_f4_equal_content_comes_once(self, storage: Storage) -> None:
        for user in ("u", "v", "w"):
            storage.scoped(user=user).memory.remember("the same thought")
        storage.memory.remember("another thought")
        for mode in ("hybrid", "vector", "keyword"):
            found = storage.memory.recall("thought same", mode=mode, explain=True)
            assert sorted(contents(found)) == ["another thought", "the same thought"]
            assert sum("same content" in why for why in found.stages["cut"].values()) == 2

    def test_f4_without_a_ranker_both_legs_still_count(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder(), ranker=None).memory
        memory.remember_many(["zebra @0", "zebra @180", "horse @0.5"])
        assert contents(memory.recall("zebra @0"))[0] == "zebra @0"
        plain = with_models(storage, embedder=None, ranker=None).memory
        assert contents(plain.recall("horse")) == ["horse @0.5"]

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize(
        ("narrowing", "expected"),
        [
            ({"tags": ["x"]}, {"a", "b"}),
            ({"tags": ["x", "y"]}, {"b"}),
            ({"tags": []}, {"a", "b", "c"}),
            ({"kinds": ["goal"]}, {"b"}),
            ({"kinds": []}, set()),
            ({"types": ["t1"]}, {"a"}),
            ({"tiers": ["procedural", "episodic"]}, {"b", "c"}),
            ({"levels": [2, 3]}, {"c"}),
            ({"sources": ["web"]}, {"c"}),
            ({"roles": ["user"]}, {"a"}),
            ({"speakers": ["Bob"]}, {"b"}),
            ({"sessions": ["s1"]}, {"a"}),
            ({"min_confidence": 0.8}, {"b", "c"}),
            ({"min_importance": 0.9}, {"c"}),
            ({"min_trust": 2}, {"a", "b"}),
            ({"metadata": {"colour": "red"}}, {"a"}),
            ({"metadata": {"deep.er": 1}}, {"b"}),
            ({"metadata": {"colour": None}}, {"b", "c"}),
            ({"metadata_not": {"colour": "red"}}, {"b", "c"}),
            ({"metadata_not": {"colour": None}}, {"a"}),
            ({"metadata": {"deep.er": "1"}}, set()),
            ({"exclude_ids": ["a"]}, {"b", "c"}),
            ({"ids": ["a", "zz"]}, {"a"}),
            ({"namespaces": [""]}, {"a", "b", "c"}),
            ({"pinned": True}, {"c"}),
            ({"tags": ["x"], "kinds": ["goal"]}, {"b"}),
        ],
    )
    def test_f5_every_filter_in_every_mode(
        self, storage: Storage, narrowing: Any, expected: set[str]
    ) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember(
            "thing one @0",
            id="a",
            tags=["x"],
            type="t1",
            role="user",
            session="s1",
            metadata={"colour": "red"},
        )
        memory.remember(
            "thing two @5",
            id="b",
            tags=["y", "x"],
            kind="goal",
            tier="procedural",
            speaker="Bob",
            confidence=0.8,
            metadata={"deep": {"er": 1}},
        )
        memory.remember(
            "thing three @9",
            id="c",
            tier="episodic",
            level=2,
            source="web",
            trust=0,
            confidence=0.9,
            importance=0.9,
            pinned=True,
        )
        for mode in ("hybrid", "vector", "keyword"):
            found = memory.recall("thing @0", mode=mode, **narrowing)
            assert {item.memory.id for item in found} == expected, mode
        assert {m.id for m in memory.list(**narrowing)} == expected

    def test_f5_windows_of_creation_and_access(self, storage: Storage, clock: ManualClock) -> None:
        start = clock.now()
        old = storage.memory.remember("thing old", created_at=start - timedelta(days=3))
        new = storage.memory.remember("thing new")
        storage.memory.reinforce([old.id])
        later = start + timedelta(seconds=1)
        cases: list[tuple[Any, set[str]]] = [
            ({"created_from": start}, {new.id}),
            ({"created_to": start - timedelta(days=3)}, {old.id}),
            ({"accessed_from": start}, {old.id}),
            ({"accessed_to": start}, {old.id}),
            ({"accessed_from": later}, set()),
        ]
        for narrowing, expected in cases:
            found = storage.memory.recall("thing", **narrowing)
            assert {item.memory.id for item in found} == expected, narrowing

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize(
        "arguments",
        [
            {"query": None},
            {"query": None, "vector": [1.0], "mode": "keyword"},
            {"k": 0},
            {"k": 1001},
            {"k": True},
            {"mode": "best"},
            {"threshold": float("nan")},
            {"as_of": "yesterday"},
            {"tags": "x"},
            {"levels": [-1]},
            {"metadata": [1]},
            {"metadata": {"a": [1]}},
            {"metadata": {"a b;": 1}},
            {"min_confidence": "high"},
            {"created_from": 5},
            {"unheard_of": 1},
            {"explain": 1},
            {"query": "nul \x00"},
        ],
    )
    def test_f5_bad_arguments_are_refused(self, storage: Storage, arguments: Any) -> None:
        storage.memory.remember("x y z")
        with pytest.raises(Invalid):
            storage.memory.recall(**{"query": "x", **arguments})

    @pytest.mark.needs_vectors
    def test_f6_k_means_k_among_the_eligible(self, storage: Storage) -> None:
        memory = with_models(storage.scoped(user="other"), embedder=AngleEmbedder()).memory
        memory.remember_many([f"near foreign {n} @0.{n:04d}" for n in range(1_200)])
        mine = with_models(storage.scoped(user="me"), embedder=AngleEmbedder()).memory
        mine.remember_many([f"mine foreign {n} @{60 + n}" for n in range(12)])
        for mode in ("hybrid", "vector", "keyword"):
            found = mine.recall("near foreign @0", mode=mode, k=12)
            assert len(found) == 12
            assert all(item.memory.user == "me" for item in found)

    @pytest.mark.needs_vectors
    def test_f6_ten_thousand_closer_foreign_rows_take_no_place(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        mine = with_models(storage.scoped(user="me"), embedder=AngleEmbedder()).memory
        mine.remember_many([f"close mine {n} @{60 + n}" for n in range(12)])
        foreign = with_models(storage.scoped(user="other"), embedder=AngleEmbedder()).memory
        first = foreign.remember("close @0.5", valid_to=clock.now() + timedelta(days=9)).id
        row = storage._driver.get("default", MEMORIES.name, (first,), vectors=True)
        assert row is not None
        del row["revision"]
        for start in range(0, 10_000, 2_500):
            rows = [{**row, "id": f"far {n}"} for n in range(start, start + 2_500)]
            storage._driver.apply("default", [Put(MEMORIES.name, copied) for copied in rows])
        for mode in ("vector", "keyword"):
            found = mine.recall("close @0", mode=mode, k=12)
            assert len(found) == 12
            assert all(item.memory.user == "me" for item in found)

    @pytest.mark.needs_vectors
    def test_f6_duplicates_do_not_eat_the_results(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        same: Any = [{"content": "echo @0", "session": f"s{n}", "turn": 1} for n in range(250)]
        memory.remember_many(same)
        memory.remember_many([f"voice {n} @{n}" for n in range(1, 6)])
        found = memory.recall("echo @0", mode="vector", k=6)
        assert contents(found) == ["echo @0", *(f"voice {n} @{n}" for n in range(1, 6))]

    @pytest.mark.needs_vectors
    def test_f7_threshold_is_inclusive_and_zero_is_none(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember_many(["at @0", "at @60", "at @120"])
        assert len(memory.recall("q @0", mode="vector")) == 3
        assert len(memory.recall("q @0", mode="vector", threshold=0)) == 3
        half = memory.recall("q @0", mode="vector")[1].score
        found = memory.recall("q @0", mode="vector", threshold=half)
        assert contents(found) == ["at @0", "at @60"]
        top = memory.recall("at @0")[0].score
        assert len(memory.recall("at @0", threshold=top)) == 1

    @pytest.mark.parametrize(
        "vector", [[0.0, 0.0], [float("nan"), 1.0], [1.0], [1.0, 2.0, 3.0], "text", []]
    )
    def test_f7_incomparable_query_vectors_match_nothing(
        self, storage: Storage, vector: Any
    ) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember("words @0")
        found = memory.recall(vector=vector, mode="vector")
        assert (list(found), found.flags) == ([], ("vector_unusable",))
        both_legs = memory.recall("words", vector=vector)
        assert contents(both_legs) == ["words @0"]

    def test_f12_reinforce_counts_and_slides_only_what_expires(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        fixed = storage.memory.remember("fixed thing")
        short = storage.memory.remember("short thing", tier="working")
        own = storage.memory.remember("own thing", ttl_seconds=100)
        clock.set(clock.now() + timedelta(seconds=50))
        assert storage.memory.reinforce([fixed.id, short.id, own.id, "missing"]) == 3
        for kept, expiry in (
            (fixed, None),
            (short, clock.now() + timedelta(hours=72)),
            (own, clock.now() + timedelta(seconds=100)),
        ):
            now = storage.memory.get(kept.id)
            assert now is not None
            assert (now.access_count, now.last_accessed_at) == (1, clock.now())
            assert now.expires_at == expiry
            assert now.updated_at == kept.updated_at

    def test_f12_an_access_of_many_is_one_write(self, storage: Storage) -> None:
        counting = Counting(storage._driver)
        memory = Storage(counting, storage.scope, storage._runtime).memory
        costs = []
        for count in (1, 50):
            ids = [storage.memory.remember(f"{count} thing {n}").id for n in range(count)]
            counting.calls.clear()
            assert memory.reinforce(ids) == count
            costs.append(list(counting.calls))
        assert costs[0] == costs[1]
        assert costs[0].count("apply") == 1

    def test_f12_recall_writes_only_when_asked(self, storage: Storage) -> None:
        kept = storage.memory.remember("count me")
        storage.memory.recall("count")
        untouched = storage.memory.get(kept.id)
        assert untouched == kept
        storage.memory.recall("count", reinforce=True)
        counted = storage.memory.get(kept.id)
        assert counted is not None
        assert counted.access_count == 1

    def test_f16_as_of_answers_with_what_held_then(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        start = clock.now()
        rome = storage.memory.remember("home is Rome", valid_from=start)
        storage.memory.remember("home phone 123", ttl_seconds=3_600)
        clock.set(start + timedelta(days=10))
        oslo = storage.memory.remember("home is Oslo")
        storage.memory.history.supersede(rome.id, oslo.id)

        def at(moment: timedelta) -> list[str]:
            return sorted(
                contents(storage.memory.recall("home", mode="keyword", as_of=start + moment))
            )

        assert at(timedelta(seconds=-1)) == ["home phone 123"]
        assert at(timedelta(0)) == ["home is Rome", "home phone 123"]
        assert at(timedelta(hours=1)) == ["home is Rome"]
        assert at(timedelta(days=10)) == ["home is Oslo"]
        listed = storage.memory.history.as_of(start + timedelta(hours=1))
        assert [m.id for m in listed] == [rome.id]
        storage.memory.forget(rome.id)
        assert at(timedelta(hours=1)) == []

    @pytest.mark.needs_vectors
    def test_f25_long_memories_come_once_with_their_best_stretch(self, storage: Storage) -> None:
        filler = " ".join(f"filler{n} words{n}" for n in range(150))
        long = storage.memory.remember(f"{filler} the violet submarine surfaced {filler}")
        storage.memory.remember("short note")
        found = storage.memory.recall("violet submarine surfaced", mode="vector", k=5)
        assert [item.memory.id for item in found].count(long.id) == 1
        best = next(item for item in found if item.memory.id == long.id)
        assert best.chunk is not None
        assert "violet submarine" in best.chunk
        assert len(best.chunk) < len(long.content)
        storage.memory.update(long.id, content=f"{filler} the yellow airship landed {filler}")
        again = storage.memory.recall("yellow airship landed", mode="vector", k=1)[0]
        assert again.chunk is not None
        assert "yellow airship" in again.chunk
        stale = storage.memory.recall("violet submarine surfaced", mode="vector", k=1)[0]
        assert "violet" not in (stale.chunk or "")
        storage.memory.update(long.id, content="now it is short")
        assert all(i.chunk is None for i in storage.memory.recall("violet submarine"))

    @pytest.mark.needs_vectors
    def test_f25_a_crowd_of_stretches_leaves_room_for_others(self, storage: Storage) -> None:
        text = " ".join(f"whale song number {n}" for n in range(2_000))
        storage.memory.remember(text)
        for n in range(4):
            storage.memory.remember(f"whale watcher {n}")
        assert len(storage.memory.recall("whale song number", mode="vector", k=5)) == 5

    def test_of_several_memories_of_one_turn_the_least_id_is_the_neighbour(
        self, storage: Storage
    ) -> None:
        """Whichever of them scores best, so that every engine names the same."""
        for session, ids in (("s1", "abc"), ("s2", "cab"), ("s3", "bca")):
            storage.memory.remember(f"ask {session} harbour", session=session, turn=1)
            for number, name in enumerate(ids):
                content = f"harbour {session} {'water ' * number}{name}"
                storage.memory.remember(content, session=session, turn=2, id=f"{session}-{name}")
        found = storage.memory.recall("harbour", k=12)
        first = [item for item in found if item.memory.turn == 1]
        assert {item.memory.session: item.neighbours for item in first} == {
            session: (f"{session}-a",) for session in ("s1", "s2", "s3")
        }

    def test_neighbours_of_a_hit_are_named_and_credited(self, storage: Storage) -> None:
        turns: Any = [
            {"content": "what do you think of it", "speaker": "Ann"},
            {"content": "the kayak trip was wonderful", "speaker": "Bob"},
            {"content": "glad to hear that", "speaker": "Ann"},
            {"content": "other business entirely", "speaker": "Bob"},
        ]
        placed: Any = [{**turn, "session": "s", "turn": n} for n, turn in enumerate(turns)]
        kept = storage.memory.remember_many(placed)
        foreign = storage.scoped(user="u").memory
        foreign.remember("foreign words", session="s", turn=2)
        mine = storage.memory.recall("kayak trip", k=3)
        assert mine[0].memory.id == kept[1].id
        assert mine[0].neighbours[0] == kept[0].id
        filtered = storage.memory.recall("kayak trip", speakers=["Bob"])
        assert {item.memory.speaker for item in filtered} == {"Bob"}
        assert filtered[0].neighbours == ()

    def test_speakers_named_in_a_query_reach_the_ranker(self, storage: Storage) -> None:
        heard: list[str] = []

        class Listening(Recipe, frozen=True):
            def prepare(self, query: Any, speakers: Any = (), now: Any = None) -> PreparedQuery:
                heard.extend(speakers)
                return super().prepare(query, speakers, now)

        storage.memory.remember("tea", speaker="Ann")
        storage.scoped(user="u").memory.remember("coffee", speaker="Bob")
        storage.scoped(user="u").memory.recall("what does Bob like", ranker=Listening())
        assert heard == ["Bob"]

    @pytest.mark.needs_vectors
    def test_e8_reranker_orders_and_its_failure_is_flagged(self, storage: Storage) -> None:
        storage.memory.remember_many([f"apple {n}" for n in range(5)])
        best = WordReranker(lambda query, text: float(text[-1]))
        found = with_models(storage, reranker=best).memory.recall("apple")
        assert contents(found) == [f"apple {n}" for n in (4, 3, 2, 1, 0)]
        assert [item.rerank_score for item in found] == [4.0, 3.0, 2.0, 1.0, 0.0]
        plain = contents(storage.memory.recall("apple"))

        def late(query: str, text: str) -> float:
            raise Timeout("too slow")

        for broken in (late, lambda query, text: float("nan")):
            failed = with_models(storage, reranker=WordReranker(broken)).memory.recall("apple")
            assert contents(failed) == plain
            assert failed.flags == ("rerank_failed",)
        skipped = with_models(storage, reranker=best).memory.recall("apple", rerank=False)
        assert contents(skipped) == plain

    def test_e8_a_reranker_reads_beyond_k(self, storage: Storage) -> None:
        storage.memory.remember_many([f"apple {n}" for n in range(40)])
        plain = contents(storage.memory.recall("apple", k=40))
        chosen = WordReranker(lambda query, text: float(text == plain[39]))
        found = with_models(storage, reranker=chosen).memory.recall("apple", k=10)
        assert len(found) == 10
        assert contents(found)[0] == plain[39]

    @pytest.mark.needs_vectors
    def test_f23_a_query_that_cannot_be_embedded_falls_back_to_words(
        self, storage: Storage
    ) -> None:
        embedder = AngleEmbedder()
        memory = with_models(storage, embedder=embedder).memory
        memory.remember("plain words")
        embedder.broken = Timeout("slow")
        found = memory.recall("words")
        assert contents(found) == ["plain words"]
        assert found.flags == ("query_embedding_failed",)
        with pytest.raises(Timeout):
            memory.recall("words", mode="vector")

    @pytest.mark.needs_vectors
    def test_n7_quarantine_and_trust_floor(self, open_storage: Callable[..., Storage]) -> None:
        storage, other = open_storage(), open_storage()
        bad = storage.memory.remember("the door code is 1234", trust=0, source="web")
        good = storage.memory.remember("the door is green", trust=3)
        assert contents(storage.memory.recall("door", min_trust=2)) == [good.content]
        assert storage.memory.lifecycle.quarantine([bad.id, "missing"]) == 1
        for handle in (storage, other):
            for mode in ("hybrid", "vector", "keyword"):
                found = handle.memory.recall("door code", mode=mode)
                assert contents(found) == [good.content]
            assert handle.memory.get(bad.id) is None
            assert [m.id for m in handle.memory.list(include_closed=True)] == [good.id]
        assert [m.id for m in storage.memory.lifecycle.quarantined()] == [bad.id]
        assert storage.memory.lifecycle.release([bad.id]) == 1
        assert len(other.memory.recall("door")) == 2

    @pytest.mark.needs_vectors
    def test_n8_explain_tells_legs_scores_and_cuts(self, storage: Storage) -> None:
        storage.memory.remember_many([f"pear tree {n}" for n in range(3)])
        found = storage.memory.recall("pear", k=2, explain=True)
        assert found.stages["text"] == 3
        assert found.stages["terms"] == ["pear"]
        assert list(found.stages["cut"].values()) == ["beyond k"]
        for item in found:
            assert {"text", "vector", "bm25", "cosine"} <= item.parts.keys()
        assert storage.memory.recall("pear").stages == {}

    @pytest.mark.needs_vectors
    def test_n8_results_can_be_looked_at(self, storage: Storage) -> None:
        storage.memory.remember("pear <b>tree</b>\nof the garden")
        shown = storage.memory.recall("pear")
        for part in ("text+vector", "█", "pear <b>tree</b> of the garden"):
            assert part in str(shown)
        page = shown._repr_html_()
        assert "&lt;b&gt;tree" in page
        assert "<b>" not in page
