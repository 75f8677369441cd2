"""What a recall says of itself, and floors that mean the same for every model: N8, F7."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.embedding import EmbeddingKind
from holdfast.core.errors import Invalid, NotFound
from holdfast.recall.recipe import Recipe
from holdfast.storage import Storage
from holdfast.stores.memory import Memories, Recollection
from holdfast.stores.memory.asked import Mode
from holdfast.testing.models import AngleEmbedder, WordReranker, with_models

MAY = datetime(2024, 5, 3, tzinfo=UTC)


def contents(found: Any) -> list[str]:
    return [item.memory.content for item in found]


def talk(storage: Storage) -> Recollection:
    """A recall in which every step of the recipe has something to do."""
    turns: Any = [
        {"content": "what do you make of it", "speaker": "Ann"},
        {"content": "the kayak trip was splendid", "speaker": "Bob", "said_at": MAY},
        {"content": "glad to hear so", "speaker": "Ann"},
        {"content": "kayak prices went up", "speaker": "Ann", "said_at": MAY.replace(year=2020)},
    ]
    placed: Any = [{**turn, "session": "s", "turn": n} for n, turn in enumerate(turns)]
    storage.memory.remember_many([*placed, "the kayak trip was splendid", "the kayak: trip"])
    return storage.memory.recall("How was Bob's kayak trip in May 2024?", k=2, explain=True)


def circle(storage: Storage) -> Memories:
    """Twelve memories, 15 degrees from one to the next: random pairs are 15 to 165 apart."""
    memory = with_models(storage, embedder=AngleEmbedder()).memory
    memory.remember_many([f"spoke{n} @{15 * n}" for n in range(12)])
    return memory


class TestMemoryExplain:
    def test_n8_how_the_query_was_read(self, storage: Storage) -> None:
        query = talk(storage).stages["query"]
        assert query["asked"] == "How was Bob's kayak trip in May 2024?"
        assert query["names_cut"] == query["speakers"] == ["Bob"]
        assert "Bob" not in query["text_leg"] + query["vector_leg"]
        [period] = query["periods"]
        assert (period["start"][:10], period["end"][:10]) == ("2024-05-01", "2024-06-01")

    @pytest.mark.needs_vectors
    def test_n8_what_each_leg_was_asked_and_found(self, storage: Storage) -> None:
        stages = talk(storage).stages
        assert stages["terms"] == ["kayak", "trip", "may", "2024"]
        space = with_models(storage).memory.spaces.active()
        assert space is not None
        assert stages["query_vector"]["space"] == stages["space"] == space.id
        assert stages["query_vector"]["made_by"] == "embedder"
        assert (stages["mode"], stages["width"]) == ("hybrid", 200)
        assert (stages["text"], stages["vector"], stages["neighbours"]) == (4, 6, 0)
        found = storage.memory.recall("kayak", mode="keyword", explain=True)
        assert (found.stages["query_vector"], found.stages["vector"]) == (None, 0)
        given = with_models(storage, embedder=None).memory.recall(vector=[1.0, 0.0], explain=True)
        assert given.flags == ("vector_unusable",)

    @pytest.mark.needs_vectors
    def test_n8_every_candidate_has_its_scores_and_what_each_step_gave(
        self, storage: Storage
    ) -> None:
        found = talk(storage)
        candidates = found.stages["candidates"]
        assert len(candidates) == 6
        ranked = [one for one in candidates.values() if one["rank"] is not None]
        assert [one["rank"] for one in ranked] == list(range(1, len(ranked) + 1))
        for one in ranked:
            assert sum(one["parts"].values()) == pytest.approx(one["score"])
            assert ("bm25" in one, "cosine" in one) == tuple(
                leg in one["legs"] for leg in ("text", "vector")
            )
        best = candidates[found[0].memory.id]
        assert found[0].memory.speaker == "Bob"
        gained = {"text", "vector", "speaker", "neighbours", "session", "date"}
        assert best["parts"].keys() == gained
        assert best["parts"]["speaker"] == Recipe().speaker_boost
        assert best["parts"]["date"] == pytest.approx(Recipe().date_boost)
        beside = [c for c in candidates.values() if not c["parts"].get("text")]
        assert any(c["parts"].get("neighbours") for c in beside)

    def test_n8_which_recipe_ordered_them(self, storage: Storage) -> None:
        assert talk(storage).stages["order"]["text_weight"] == Recipe().text_weight
        rrf = storage.memory.recall("kayak", ranker=Recipe(fusion="rrf", rrf_k=7), explain=True)
        assert (rrf.stages["order"]["fusion"], rrf.stages["order"]["rrf_k"]) == ("rrf", 7)
        single = storage.memory.recall("kayak", mode="keyword", explain=True)
        assert single.stages["order"] == {"ranker": "SingleLeg"}

    def test_n8_why_each_that_is_missing_was_cut(self, storage: Storage) -> None:
        found = talk(storage)
        cut, candidates = found.stages["cut"], found.stages["candidates"]
        shown = {item.memory.id for item in found}
        assert cut.keys() == candidates.keys() - shown
        assert f"same content as {found[0].memory.id}" in cut.values()
        assert "beyond k" in cut.values()

    def test_n8_neighbours_that_nothing_lifts_are_named(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=None).memory
        turns: Any = [
            {"content": text, "session": "s", "turn": n, "role": role}
            for n, (text, role) in enumerate([("kayak", "assistant"), ("yes indeed", "assistant")])
        ]
        memory.remember_many(turns)
        plain = Recipe(session_prior=0.0)
        found = memory.recall("kayak", ranker=plain, explain=True)
        assert found.stages["neighbours"] == 1
        assert list(found.stages["cut"].values()) == ["not lifted by a neighbour"]

    def test_n8_what_the_reranker_read_and_moved(self, storage: Storage) -> None:
        storage.memory.remember_many([f"apple {n}{n}" for n in range(4)])
        plain = contents(storage.memory.recall("apple"))
        chosen = WordReranker(lambda query, text: float(plain.index(text)))
        found = with_models(storage, reranker=chosen).memory.recall("apple", explain=True)
        assert found.stages["reranker"] == "words"
        assert [(one["before"], one["after"]) for one in found.stages["reranked"]] == [
            (4, 1),
            (3, 2),
            (2, 3),
            (1, 4),
        ]
        assert [one["score"] for one in found.stages["reranked"]] == [3.0, 2.0, 1.0, 0.0]
        assert "words read 4, moved 4" in str(found)
        without = storage.memory.recall("apple", explain=True)
        assert (without.stages["reranker"], without.stages["reranked"]) == (None, [])

    @pytest.mark.needs_vectors
    def test_n8_stretches_and_the_archive_are_counted(self, storage: Storage) -> None:
        cold = storage.memory.remember("kayak of old")
        storage.memory.archive.put([cold.id])
        storage.memory.remember("word " * 400 + "kayak")
        found = storage.memory.recall("kayak", include_archived=True, explain=True)
        assert (found.stages["chunks"], found.stages["archived"]) == (1, 1)

    @pytest.mark.needs_vectors
    def test_n8_a_failed_embedding_is_told(self, storage: Storage) -> None:
        class Broken(AngleEmbedder):
            def embed(self, texts: Any, kind: EmbeddingKind = "document") -> Any:
                if kind == "query":
                    raise ValueError("broken")
                return super().embed(texts, kind)

        memory = with_models(storage, embedder=Broken()).memory
        memory.remember("kayak")
        stages = memory.recall("kayak", explain=True).stages
        assert (stages["query_embedding"], stages["query_vector"]) == ("ValueError", None)

    @pytest.mark.needs_vectors
    def test_n8_as_text_and_as_a_page(self, storage: Storage) -> None:
        found = talk(storage)
        told = str(found)
        for part in (
            "words    kayak trip may 2024",
            "names    Bob",
            "dates    2024-05-01 to 2024-06-01",
            "by the embedder",
            "text 4, vector 6 (asked 200 of each)",
            "Recipe, fusion convex, text_weight 0.4",
            "beyond k: ",
            "same content: 1",
            "neighbours",
            f"{found[0].score:6.3f}",
        ):
            assert part in told, part
        assert max(map(len, told.splitlines())) <= 100
        assert "names    Bob" in found._repr_html_()
        assert json.loads(json.dumps(found.stages)) == found.stages
        assert "words    " not in str(storage.memory.recall("kayak"))

    def test_n8_what_is_stored_acts_on_no_page_and_no_terminal(self, storage: Storage) -> None:
        storage.memory.remember("kayak", speaker="<b>Bob</b>")
        found = storage.memory.recall("<b>Bob</b> kayak \x1b[2J", explain=True)
        assert "\x1b" not in str(found)
        assert "<b>" not in found._repr_html_()

    @pytest.mark.needs_vectors
    def test_f7_a_cosine_as_the_floor_of_any_recall(self, storage: Storage) -> None:
        memory = circle(storage)
        memory.remember("spoke of far away", vector=[0.0, -1.0])
        floor = math.cos(math.radians(30.001))
        modes: list[Mode] = ["vector", "hybrid"]
        for mode in modes:
            plain = contents(memory.recall("spoke @0", mode=mode, k=13))
            near = [f"spoke{n} @{15 * n}" for n in range(3)]
            found = memory.recall(
                "spoke @0", mode=mode, k=9, threshold=floor, threshold_kind="cosine", explain=True
            )
            # A floor cuts and never reorders.
            assert contents(found) == [content for content in plain if content in near]
            assert len(found) == 3
            assert found.stages["threshold"]["cosine"] == floor
            cut = set(found.stages["cut"].values())
            assert cut == (set() if mode == "vector" else {"below threshold"})

    @pytest.mark.needs_vectors
    def test_f7_a_percentile_of_random_pairs_as_the_floor(self, storage: Storage) -> None:
        memory = circle(storage)
        with pytest.raises(Invalid) as refused:
            memory.recall("spoke @0", threshold=90, threshold_kind="percentile")
        assert "calibrate" in refused.value.hint
        assert memory.spaces.calibration() is None
        made = memory.spaces.calibrate()
        assert (made.space, made.memories) == ("angles@1/2", 12)
        assert made == memory.spaces.calibration() == memory.spaces.calibrate()
        angles = [15 * (j - i) for i in range(12) for j in range(i + 1, 12)]
        cosines = sorted(math.cos(math.radians(angle)) for angle in angles)
        for percentile in (0, 10, 50, 90, 100):
            place = percentile / 100 * (len(cosines) - 1)
            low = min(int(place), len(cosines) - 2)
            exact = cosines[low] + (place - low) * (cosines[low + 1] - cosines[low])
            assert made.cosine_at(percentile) == pytest.approx(exact, abs=0.01)
        found = memory.recall(
            "spoke @0", k=12, threshold=90, threshold_kind="percentile", explain=True
        )
        floor = made.cosine_at(90)
        assert found.stages["threshold"] == {"given": 90, "kind": "percentile", "cosine": floor}
        assert contents(found) == [
            f"spoke{n} @{15 * n}" for n in range(12) if math.cos(math.radians(15 * n)) >= floor
        ]
        assert "percentile 90 = cosine" in str(found)

    @pytest.mark.needs_vectors
    def test_f7_a_calibration_is_its_spaces_own(self, storage: Storage) -> None:
        memory = circle(storage)
        memory.spaces.calibrate(sample=11)
        new = AngleEmbedder("new", 3)
        memory.spaces.reembed(new)
        moved = with_models(storage, embedder=new).memory
        assert moved.spaces.calibration() is None
        with pytest.raises(Invalid):
            moved.recall("spoke @0", threshold=90, threshold_kind="percentile")

    @pytest.mark.needs_vectors
    def test_f7_bad_floors_are_refused(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        with pytest.raises(NotFound):
            memory.spaces.calibrate()
        memory.remember_many([f"spoke @{n}" for n in range(9)])
        with pytest.raises(NotFound):
            memory.spaces.calibrate()
        wrong: list[dict[str, Any]] = [
            {"threshold": 1.1, "threshold_kind": "cosine"},
            {"threshold": 101, "threshold_kind": "percentile"},
            {"threshold": -1, "threshold_kind": "percentile"},
            {"threshold": 0.5, "threshold_kind": "fused"},
            {"threshold": 0.5, "threshold_kind": "cosine", "mode": "keyword"},
        ]
        for arguments in wrong:
            with pytest.raises(Invalid):
                memory.recall("spoke", **arguments)
        for arguments in ({"sample": 9}, {"sample": 5_001}):
            with pytest.raises(Invalid):
                memory.spaces.calibrate(**arguments)
        assert len(memory.recall("q @0", threshold=0, threshold_kind="percentile")) == 9

    def test_f7_a_floor_by_percentile_finds_nothing_where_nothing_compares(
        self, storage: Storage
    ) -> None:
        memory = with_models(storage, embedder=None).memory
        memory.remember("kayak")
        assert memory.recall("kayak", threshold=50, threshold_kind="percentile") == []
        assert len(memory.recall("kayak")) == 1
