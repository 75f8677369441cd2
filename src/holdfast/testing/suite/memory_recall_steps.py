"""What may happen between the steps of a recall, and whom its look-ups reach: F4, F6, F9, F11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.change import DeleteWhere
from holdfast.core.filter import EVERYTHING
from holdfast.core.ranker import PreparedQuery, Ranked
from holdfast.recall.recipe import Recipe
from holdfast.storage import Storage
from holdfast.stores.memory.records import MEMORIES
from holdfast.testing.models import WordReranker, with_models


class Meddling(Recipe, frozen=True):
    """Does something to the store between finding and answering, once for each ranking."""

    meddle: Callable[[], object] = lambda: None

    def rank(self, *arguments: Any, **options: Any) -> list[Ranked]:
        """Rank as the recipe does, and meddle."""
        ranked = super().rank(*arguments, **options)
        self.meddle()
        return ranked


def _ids(found: Any) -> list[str]:
    return [item.memory.id for item in found]


class TestMemoryRecallSteps:
    @pytest.mark.parametrize("how", ["forget", "delete", "rewrite"])
    def test_f9_what_changes_while_it_is_ranked_leaves_its_place_to_the_next(
        self, storage: Storage, how: str
    ) -> None:
        texts = {"a": "tea tea tea", "b": "tea tea cake", "c": "tea with cake and bread"}
        for name, text in texts.items():
            storage.memory.remember(text, id=name)
        assert _ids(storage.memory.recall("tea", mode="keyword", k=3)) == ["a", "b", "c"]
        change = {
            "forget": lambda: storage.memory.forget("a"),
            "delete": lambda: storage.memory.forget("a") and storage.memory.delete("a"),
            "rewrite": lambda: storage.memory.update("a", content="nothing of the kind"),
        }[how]
        found = with_models(storage, embedder=None).memory.recall(
            "tea", k=2, ranker=Meddling(meddle=change), explain=True
        )
        assert _ids(found) == ["b", "c"]
        assert found.stages["cut"] == {"a": "changed meanwhile"}

    def test_f11_an_access_that_is_counted_meanwhile_takes_nothing_away(
        self, storage: Storage
    ) -> None:
        storage.memory.remember("tea", id="a")
        ranker = Meddling(meddle=lambda: storage.memory.reinforce(["a"]))
        [found] = storage.memory.recall("tea", ranker=ranker)
        assert (found.memory.id, found.memory.access_count) == ("a", 1)

    def test_f9_nothing_is_left_when_everything_goes(self, storage: Storage) -> None:
        storage.memory.remember_many([f"tea {n}" for n in range(5)])

        def clear() -> None:
            storage._driver.apply(storage.scope.tenant, [DeleteWhere(MEMORIES.name, EVERYTHING)])

        reranker = WordReranker(lambda _query, text: float(len(text)))
        with_reranker = with_models(storage, reranker=reranker)
        assert list(with_reranker.memory.recall("tea", ranker=Meddling(meddle=clear))) == []
        assert reranker.read == []

    def test_f4_a_turn_of_anothers_session_of_that_name_is_no_neighbour(
        self, storage: Storage
    ) -> None:
        mine, other = storage.scoped(user="u").memory, storage.scoped(user="v").memory
        kept = mine.remember("the kayak trip", session="s", turn=1)
        beside = mine.remember("glad to hear it", session="s", turn=2, speaker="Ann")
        for turn in (1, 2, 3):
            other.remember(f"foreign words {turn}", session="s", turn=turn, speaker="Ann")
        found = with_models(storage, embedder=None).memory.recall("kayak Ann", k=10)
        assert set(_ids(found)) == {kept.id, beside.id}
        assert {item.memory.id: item.neighbours for item in found} == {
            kept.id: (beside.id,),
            beside.id: (kept.id,),
        }

    @pytest.mark.parametrize("k", [1, 7, 60])
    def test_f6_a_crowd_of_equal_contents_is_no_reason_to_stop(
        self, storage: Storage, k: int
    ) -> None:
        for user in range(12):
            rows = [f"tea {n}" for n in range(2)]
            storage.scoped(user=f"u{user}").memory.remember_many(rows)
        storage.memory.remember_many([f"tea and {n} words more" for n in range(60)])
        found = storage.memory.recall("tea", k=k)
        texts = [item.memory.content for item in found]
        assert len(set(texts)) == len(texts) == k

    def test_e8_ranking_is_asked_for_no_more_than_can_matter(self, storage: Storage) -> None:
        asked: list[int] = []

        class Counting(Recipe, frozen=True):
            def rank(
                self, query: Any, candidates: Sequence[Any], k: int, *, explain: bool = False
            ) -> list[Ranked]:
                asked.append(k)
                return super().rank(query, candidates, k, explain=explain)

        storage.memory.remember_many([f"tea number {n}" for n in range(80)])
        plain = storage.memory.recall("tea", k=5, ranker=Counting())
        told = storage.memory.recall("tea", k=5, ranker=Counting(), explain=True)
        assert _ids(plain) == _ids(told)
        assert asked == [10, 80]

    @pytest.mark.parametrize("query", ["tea", "tea in May 2023"])
    def test_e8_a_ranker_that_may_go_by_times_is_given_them(
        self, storage: Storage, query: str
    ) -> None:
        seen: dict[Any, datetime | None] = {}

        class Dated(Recipe, frozen=True):
            def rank(
                self, query: Any, candidates: Sequence[Any], k: int, *, explain: bool = False
            ) -> list[Ranked]:
                seen.update({one.key: one.time for one in candidates})
                return super().rank(query, candidates, k, explain=explain)

        class Own(Dated, frozen=True):
            def prepare(self, query: str, *_: Any) -> PreparedQuery:
                return PreparedQuery(text=query, lexical=query, dense=query)

        class Timeless(Dated, frozen=True):
            def prepare(self, query: str, *_: Any) -> PreparedQuery:
                return PreparedQuery(text=query, lexical=query, dense=query, timed=False)

        said_at = datetime(2023, 5, 7, tzinfo=UTC)
        storage.memory.remember("tea", id="a", said_at=said_at)
        for ranker, given in ((Dated(), said_at), (Own(), said_at), (Timeless(), None)):
            seen.clear()
            storage.memory.recall(query, ranker=ranker)
            assert seen == {"a": given}
