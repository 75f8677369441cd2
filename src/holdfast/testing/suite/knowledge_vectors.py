"""Vectors of what is shared, and the move of all knowledge to another model: F23, F29, N4."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, DimensionMismatch, Invalid, NotFound, Unavailable
from holdfast.storage import Storage
from holdfast.testing.models import AngleEmbedder, with_models


class Refusing(AngleEmbedder):
    """Refuses every text with the word "bad"."""

    def embed(self, texts: Any, kind: Any = "document") -> Any:
        if any("bad" in text for text in texts):
            raise Invalid("text", expected="another text", got="this one")
        return super().embed(texts, kind)


def filled(storage: Storage, model: str = "old", count: int = 5) -> Storage:
    """Documents in two scopes and an item, in one model's space."""
    old = with_models(storage, embedder=AngleEmbedder(model))
    for n in range(count):
        old.knowledge.put(f"d{n}", f"text {n} @{n * 10}")
    old.with_agent("other").knowledge.put("theirs", "text @75")
    old.knowledge.library.publish("T", "shared @80", category="c", publisher="a")
    return old


def found(storage: Storage, degrees: int) -> list[str]:
    return [h.item.id for h in storage.knowledge.search(f"@{degrees}", mode="vector", limit=1)]


class TestKnowledgeVectors:
    @pytest.mark.needs_vectors
    def test_n4_knowledge_moves_to_another_model(self, storage: Storage) -> None:
        filled(storage)
        new = with_models(storage, embedder=AngleEmbedder("new", width=4))
        with pytest.raises(DimensionMismatch):
            new.knowledge.search("@20")
        told: list[tuple[int, int]] = []
        stats = new.knowledge.vectors.reembed(
            batch=2, on_progress=lambda move: told.append((move.done, move.left))
        )
        assert (stats.space, stats.embedded, stats.due) == ("new@1/4", 7, 0)
        assert told == [(2, 5), (4, 3), (6, 1), (7, 0)]
        assert found(new, 20) == ["d2#0"]
        [hit] = new.with_agent("other").knowledge.search("@75", mode="vector")
        assert hit.item.space == "new@1/4"
        assert len(new.knowledge.library.search("@80", mode="vector")) == 1
        assert new.knowledge.put("later", "text @33").status == "created"
        assert new.knowledge.vectors.reembed() == new.knowledge.vectors.stats()

    @pytest.mark.needs_vectors
    def test_n4_searches_and_writes_go_on_while_it_moves(self, storage: Storage) -> None:
        old = filled(storage)
        new = with_models(storage, embedder=AngleEmbedder("new"))
        seen: list[list[str]] = []

        def meanwhile(_: Any) -> None:
            if not seen:
                old.knowledge.put("d1", "rewritten @55")
                old.knowledge.put("fresh", "text @66")
                old.knowledge.delete("d3")
            seen.append(found(old, 20))

        assert new.knowledge.vectors.reembed(batch=2, on_progress=meanwhile).due == 0
        assert all(each == ["d2#0"] for each in seen)
        assert found(new, 55) == ["d1#0"]
        assert found(new, 66) == ["fresh#0"]
        assert found(new, 30) != ["d3#0"]

    @pytest.mark.needs_vectors
    def test_n4_a_move_that_stopped_is_taken_up(self, storage: Storage, open_storage: Any) -> None:
        old, embedder = filled(storage), AngleEmbedder("new")
        vectors = with_models(storage, embedder=embedder).knowledge.vectors

        def stop(_: Any) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            vectors.reembed(batch=4, on_progress=stop)
        assert found(old, 20) == ["d2#0"]
        with pytest.raises(Conflict):
            with_models(storage, embedder=AngleEmbedder("third")).knowledge.vectors.reembed()
        embedder.texts.clear()
        again = with_models(open_storage(), embedder=embedder)
        assert again.knowledge.vectors.reembed().space == "new@1/2"
        assert len(embedder.texts) == 3
        assert found(again, 20) == ["d2#0"]

    @pytest.mark.needs_vectors
    def test_n4_a_model_that_is_down_leaves_all_as_it_was(self, storage: Storage) -> None:
        old, embedder = filled(storage), AngleEmbedder("new")
        embedder.broken = Unavailable("down")
        new = with_models(storage, embedder=embedder)
        with pytest.raises(Unavailable):
            new.knowledge.vectors.reembed()
        assert found(old, 20) == ["d2#0"]
        embedder.broken = None
        assert new.knowledge.vectors.reembed().embedded == 7

    @pytest.mark.needs_vectors
    def test_n4_what_the_new_model_refuses_is_found_by_words_and_queued(
        self, storage: Storage
    ) -> None:
        filled(storage)
        with_models(storage, embedder=AngleEmbedder("old")).knowledge.put("bad", "bad @20")
        new = with_models(storage, embedder=Refusing("new"))
        stats = new.knowledge.vectors.reembed(batch=3)
        assert (stats.embedded, stats.due) == (7, 1)
        assert found(new, 20) == ["d2#0"]
        assert [h.item.id for h in new.knowledge.search("bad", mode="keyword")] == ["bad#0"]

    @pytest.mark.needs_vectors
    def test_n4_and_back_again(self, storage: Storage) -> None:
        old = filled(storage)
        new = with_models(storage, embedder=AngleEmbedder("new"))
        new.knowledge.vectors.reembed()
        new.knowledge.put("d2", "another @85")
        assert old.knowledge.vectors.reembed().space == "old@1/2"
        assert found(old, 20) != ["d2#0"]
        assert found(old, 85) == ["d2#0"]

    @pytest.mark.needs_vectors
    def test_n4_without_vectors_or_model_there_is_nothing_to_move(self, storage: Storage) -> None:
        with pytest.raises(NotFound):
            storage.knowledge.vectors.reembed()
        with pytest.raises(Invalid):
            with_models(storage, embedder=None).knowledge.vectors.reembed()
        for batch in (0, 1_001, True):
            with pytest.raises(Invalid):
                storage.knowledge.vectors.reembed(batch=batch)

    @pytest.mark.needs_vectors
    def test_f23_an_item_whose_embedding_failed_is_repaired(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        embedder = AngleEmbedder()
        library = with_models(storage, embedder=embedder).knowledge.library
        embedder.broken = Unavailable("down")
        library.publish("T", "kettle @40", category="c", publisher="a")
        assert [h.legs for h in library.search("kettle", mode="keyword")] == [("text",)]
        vectors = with_models(storage, embedder=embedder).knowledge.vectors
        assert vectors.repair() == 0
        embedder.broken = None
        clock.set(clock.now() + timedelta(seconds=60))
        assert vectors.repair() == 1
        assert len(library.search("@40", mode="vector")) == 1
