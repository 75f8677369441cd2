"""Late interaction: packed tokens beside memories, and what they add to a recall: E8, N8."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.core.errors import Invalid
from holdfast.core.filter import EVERYTHING, Record
from holdfast.core.query import Query
from holdfast.recall.recipe import Recipe
from holdfast.storage import Storage
from holdfast.stores.memory.late import UNPACKED_LIMIT
from holdfast.stores.memory.records import TOKENS
from holdfast.testing.models import AngleEmbedder, WordLateReader, with_models


def packed(storage: Storage) -> dict[str, Record]:
    """What is kept of each memory's tokens, whatever the scope."""
    query = Query(collection=TOKENS.name, filter=EVERYTHING)
    rows = storage._driver.query(storage.scope.tenant, query).records
    return {row["memory_id"]: row for row in rows}


def ids(found: Any) -> list[str]:
    return [item.memory.id for item in found]


class TestMemoryLate:
    @pytest.mark.needs_vectors
    def test_e8_evidence_of_tokens_takes_its_share_of_the_blend(self, storage: Storage) -> None:
        read = with_models(storage, embedder=AngleEmbedder(), late=WordLateReader()).memory
        read.remember("tea @0", id="near")
        read.remember("tea at noon with ada @20", id="far")
        query = "who had tea at noon @0"
        without = read.recall(query, ranker=Recipe(text_weight=0, late_weight=0.0))
        assert ids(without) == ["near", "far"]
        found = read.recall(query, ranker=Recipe(text_weight=0, late_weight=0.7), explain=True)
        assert ids(found) == ["far", "near"]
        assert found[0].parts["late"] == pytest.approx(0.7)
        assert found.stages["late"] == 2
        for item in found:
            steps = {n: part for n, part in item.parts.items() if n not in ("bm25", "cosine")}
            assert sum(steps.values()) == pytest.approx(item.score)
        off = read.recall(query, ranker=Recipe(text_weight=0), rerank=False, explain=True)
        assert ids(off) == ["near", "far"]
        assert "late" not in off.stages

    def test_e8_packed_tokens_come_and_go_with_their_memory(self, storage: Storage) -> None:
        reader = WordLateReader()
        memory = with_models(storage, late=reader).memory
        memory.remember("green tea", id="a")
        memory.remember_many(["black tea", "white bread"])
        held = packed(storage)
        assert sorted(row["tokens"] for row in held.values()) == [
            b"black tea",
            b"green tea",
            b"white bread",
        ]
        assert held["a"]["fingerprint"] == memory.get("a").fingerprint  # type: ignore[union-attr]
        memory.update("a", content="cold milk")
        assert packed(storage)["a"]["tokens"] == b"cold milk"
        assert packed(storage)["a"]["fingerprint"] != held["a"]["fingerprint"]
        reader.packed.clear()
        assert ids(memory.recall("cold milk", k=1)) == ["a"]
        assert reader.packed == []
        memory.forget("a")
        memory.delete("a")
        assert "a" not in packed(storage)

    def test_e8_tokens_of_an_earlier_content_are_not_believed(self, storage: Storage) -> None:
        reader = WordLateReader()
        read = with_models(storage, embedder=None, late=reader).memory
        read.remember("tea tea tea milk", id="a")
        read.remember("tea and sugar for ada", id="b")
        plain = with_models(storage, embedder=None).memory
        plain.update("b", content="tea tea coffee for ben")
        found = read.recall("tea sugar ada", ranker=Recipe(late_weight=1.0), explain=True)
        assert {item.memory.id: item.parts.get("late", 0.0) for item in found} == {"a": 1, "b": 1}
        assert reader.packed[-1] == "tea tea coffee for ben"

    @pytest.mark.needs_vectors
    def test_e8_what_was_written_without_a_reader_is_read_anew_up_to_a_bound(
        self, storage: Storage
    ) -> None:
        plain, reader = with_models(storage, embedder=None).memory, WordLateReader()
        read = with_models(storage, embedder=None, late=reader).memory
        for number in range(UNPACKED_LIMIT):
            plain.remember(f"tea number {number}")
        found = read.recall("tea", k=5, explain=True)
        assert (found.flags, found.stages["late"]) == ((), UNPACKED_LIMIT)
        plain.remember("tea once more")
        found = read.recall("tea", k=5, explain=True)
        assert (len(found), found.flags, found.stages["late"]) == (5, ("late_unpacked",), 0)
        assert read.late.missing() == UNPACKED_LIMIT + 1
        assert [read.late.fill(limit=10), read.late.fill(), read.late.fill()] == [10, 7, 0]
        assert read.late.missing() == 0
        assert read.recall("tea").flags == ()

    def test_e8_another_form_of_tokens_is_not_compared(self, storage: Storage) -> None:
        other = with_models(storage, late=WordLateReader("words 2")).memory
        other.remember("tea with milk")
        read = with_models(storage, late=WordLateReader()).memory
        assert read.late.missing() == 1
        read.late.fill()
        assert read.late.missing() == 0
        assert other.late.missing() == 1

    @pytest.mark.needs_vectors
    def test_e8_a_failing_reader_costs_neither_memory_nor_recall(self, storage: Storage) -> None:
        reader = WordLateReader()
        memory = with_models(storage, late=reader).memory
        memory.remember("tea with sugar", id="before")
        reader.broken = RuntimeError("the model is gone")
        memory.remember("tea with milk", id="during")
        found = memory.recall("tea with milk")
        assert (ids(found)[0], found.flags) == ("during", ("late_failed",))
        assert "during" not in packed(storage)
        reader.broken = None
        assert memory.late.fill() == 1
        assert memory.recall("tea with milk").flags == ()

    def test_e8_filling_without_a_reader_is_refused(self, storage: Storage) -> None:
        with pytest.raises(Invalid, match="reranker"):
            storage.memory.late.fill()
        with pytest.raises(Invalid, match="limit"):
            with_models(storage, late=WordLateReader()).memory.late.fill(limit=0)

    def test_e8_only_the_bound_scope_is_filled_and_read(self, storage: Storage) -> None:
        storage.scoped(user="theirs").memory.remember("tea of theirs")
        mine = with_models(storage.scoped(user="mine"), late=WordLateReader())
        mine.memory.remember("tea of mine", id="mine")
        assert mine.memory.late.missing() == 0
        assert mine.memory.late.fill() == 0
        assert list(packed(storage)) == ["mine"]
        assert ids(mine.memory.recall("tea of theirs")) == ["mine"]
