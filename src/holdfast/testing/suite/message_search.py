"""Messages by words and by meaning: C12, F4-F6, F23, F24, N8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.embedding import EmbeddingKind
from holdfast.core.errors import Invalid, Timeout
from holdfast.core.filter import EVERYTHING
from holdfast.core.query import Aggregate
from holdfast.recall.recipe import PLAIN, Recipe
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.embeddings import ATTEMPTS, LEASE_SECONDS
from holdfast.stores.conversations.records import MESSAGE_VECTORS
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.threads import together


def texts(found: Any) -> list[str]:
    return [item.message.text for item in found]


def angled(storage: Storage) -> Storage:
    return with_models(storage, embedder=AngleEmbedder())


def talk(storage: Storage, *said: str, **fields: Any) -> str:
    """A conversation in which this was said, by a user unless it says otherwise."""
    made = storage.conversations.create()
    drafts = [Draft(text=text, **fields) for text in said]
    storage.conversations.append_many(made.id, drafts)
    return made.id


def vectors(storage: Storage) -> int:
    counted = Aggregate(collection=MESSAGE_VECTORS.name, filter=EVERYTHING)
    count: int = storage._driver.aggregate(storage.scope.tenant, counted)[0]["count"]
    return count


class Meanwhile(AngleEmbedder):
    """Does something while it embeds, once; refuses texts with the word "bad"."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.act: Callable[[], object] | None = act

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
        """One vector per text."""
        act, self.act = self.act, None
        if act is not None:
            act()
        if any("bad" in text for text in texts):
            raise ValueError("refused")
        return super().embed(texts, kind)


class TestMessageSearch:
    @pytest.mark.needs_vectors
    def test_c12_words_until_embedded_and_meaning_after(self, storage: Storage) -> None:
        storage = angled(storage)
        talk(storage, "tea at noon @0", "a walk outside @10", "an invoice @180")
        before = storage.conversations.search("tea @0", ranker=PLAIN)
        assert (texts(before), before.flags) == (["tea at noon @0"], ("not_embedded",))
        assert storage.conversations.search("outing @10").flags == ("not_embedded",)
        assert storage.conversations.embeddings.run() == 3
        assert storage.conversations.embeddings.run() == 0
        after = storage.conversations.search("tea @0", k=2, ranker=PLAIN)
        assert (texts(after), after.flags) == (["tea at noon @0", "a walk outside @10"], ())
        assert [item.legs for item in after] == [("text", "vector"), ("vector",)]
        talk(storage, "more tea @90")
        assert storage.conversations.search("tea @0").flags == ("not_embedded",)

    @pytest.mark.needs_vectors
    def test_c12_one_leg_alone_answers_by_its_own_scores(self, storage: Storage) -> None:
        storage = angled(storage)
        talk(storage, "tea @0", "tea tea @60", "bread @90")
        storage.conversations.embeddings.run()
        near = storage.conversations.search("tea @0", mode="vector")
        assert [round(item.score, 4) for item in near] == [1.0, 0.5, 0.0]
        words = storage.conversations.search("tea", mode="keyword", explain=True)
        assert [item.score for item in words] == [item.parts["bm25"] for item in words]
        assert len(words) == 2
        with pytest.raises(Invalid, match="mode"):
            storage.conversations.search("tea", mode="other")  # type: ignore[arg-type]

    @pytest.mark.needs_vectors
    def test_f4_fusion_is_convex_unless_ranks_are_asked_for(self, storage: Storage) -> None:
        storage = angled(storage)
        talk(storage, "tea tea @90", "tea and a biscuit @0", "bread @45")
        storage.conversations.embeddings.run()
        plain = storage.conversations.search("tea @0", ranker=PLAIN, explain=True)
        for item in plain:
            legs = [item.parts.get("text", 0.0), item.parts.get("vector", 0.0)]
            assert sum(legs) == pytest.approx(item.score)
        assert plain[0].message.text == "tea and a biscuit @0"
        ranks = Recipe(fusion="rrf", rrf_k=1, previous_turn=0, next_turn=0, session_prior=0)
        by_rank = storage.conversations.search("tea @0", ranker=ranks)
        assert by_rank[0].score == pytest.approx(2 / 2 / 2 + 2 / 2 / 3)
        without = with_models(storage, ranker=None).conversations.search("tea @0")
        assert len(without) == 3

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize("narrowed", ["conversation_id", "sender_id", "role", "start", "end"])
    def test_f5_f6_filters_hold_before_the_limit_of_both_legs(
        self, storage: Storage, clock: ManualClock, narrowed: str
    ) -> None:
        storage = angled(storage)
        at = clock.now()
        closer = {"role": "user", "sender_id": "x", "created_at": at - timedelta(hours=2)}
        if narrowed == "end":
            closer["created_at"] = at + timedelta(hours=2)
        wide = Recipe(candidates=2)
        talk(storage, *("tea tea tea @0" for _ in range(5)), **closer)
        mine = talk(
            storage, "some tea @70", "bread @60", role="assistant", sender_id="y", created_at=at
        )
        storage.conversations.embeddings.run()
        given: dict[str, Any] = {
            "conversation_id": mine,
            "sender_id": "y",
            "role": "assistant",
            "start": at,
            "end": at,
        }
        found = storage.conversations.search(
            "tea @0", k=2, ranker=wide, **{narrowed: given[narrowed]}
        )
        assert sorted(texts(found)) == ["bread @60", "some tea @70"]
        near = storage.conversations.search(
            "tea @0", k=2, mode="vector", **{narrowed: given[narrowed]}
        )
        assert texts(near) == ["bread @60", "some tea @70"]

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize("scope", [{"tenant": "t2"}, {"agent": "b"}, {"user": "v"}])
    def test_b11_meaning_stays_inside_the_bound_scope(
        self, storage: Storage, scope: dict[str, str]
    ) -> None:
        owner = angled(storage.scoped(agent="a", user="u"))
        talk(owner, "their tea @0", "their bread @5")
        owner.conversations.embeddings.run()
        stranger = owner.scoped(**scope)
        assert texts(stranger.conversations.search("tea @0")) == []
        assert stranger.conversations.embeddings.run() == 0
        stats = stranger.conversations.embeddings.stats()
        assert (stats.embedded, stats.missing) == (0, 0)
        talk(stranger, "my tea @40")
        assert stranger.conversations.embeddings.run() == 1
        found = stranger.conversations.search("tea @0", mode="vector")
        assert texts(found) == ["my tea @40"]

    def test_the_recipe_knows_speakers_turns_and_conversations(self, storage: Storage) -> None:
        storage = with_models(storage, embedder=None)
        made = storage.conversations.create()
        ada, ben = (
            storage.conversations.participants.add(made.id, name=name).id for name in ("Ada", "Ben")
        )
        for sender, text in ((ben, "What about the kayak?"), (ada, "It leaks."), (ben, "A pity.")):
            storage.conversations.append(made.id, text, sender_id=sender)
        talk(storage, "Ada Ada Ada", "Ada again")
        found = storage.conversations.search("What did Ada say of the kayak?", explain=True)
        # Her answer has no word of the question: speaker, neighbour and session bring it.
        assert texts(found)[:2] == ["It leaks.", "What about the kayak?"]
        assert found[0].legs == ()
        assert {"neighbours", "speaker", "session"} <= found[0].parts.keys()
        assert "Ada again" not in texts(found)
        assert found.stages["neighbours"] >= 1
        only = storage.conversations.search("kayak", sender_id=ada)
        assert texts(only) == []

    def test_neighbours_outside_the_filter_stay_outside(self, storage: Storage) -> None:
        storage = with_models(storage, embedder=None)
        for _ in range(40):  # more conversations than one look-up of neighbours takes
            talk(storage, "tea", "and what else?", role="user")
        made = storage.conversations.create()
        storage.conversations.append(made.id, "tea is served", role="assistant")
        storage.conversations.append(made.id, "thank you", role="user")
        found = storage.conversations.search("tea", k=200)
        assert texts(found).count("and what else?") == 40
        served = storage.conversations.search("tea", role="assistant")
        assert texts(served) == ["tea is served"]

    @pytest.mark.needs_vectors
    def test_n8_explain_tells_legs_scores_and_stages(self, storage: Storage) -> None:
        storage = angled(storage)
        talk(storage, "green tea @10", "tea @50", "bread @90")
        storage.conversations.embeddings.run()
        found = storage.conversations.search("green tea @0", explain=True)
        best = found[0]
        steps = {n: part for n, part in best.parts.items() if n not in ("bm25", "cosine")}
        assert sum(steps.values()) == pytest.approx(best.score)
        assert best.parts["cosine"] == pytest.approx(np.cos(np.radians(10)), abs=1e-4)
        assert found.stages["terms"] == ["green", "tea"]
        assert (found.stages["text"], found.stages["vector"]) == (2, 3)
        assert found.stages["space"] == "angles@1/2"
        assert "green tea" in str(found)
        bare = storage.conversations.search("green tea @0")
        assert (bare[0].parts, bare.stages) == ({}, {})

    def test_n8_results_read_well_and_act_on_nothing(self, storage: Storage) -> None:
        talk(storage, "<b>tea</b> \x1b[31m is served")
        found = storage.conversations.search("tea", mode="keyword")
        text, page = str(found), found._repr_html_()
        assert "text" in text
        assert "#1" in text
        assert "is served" in text
        assert "\x1b" not in text
        assert "<b>" not in page
        assert "<meter" in page
        assert str(storage.conversations.search("zzz", mode="keyword")) == "Nothing found."

    @pytest.mark.needs_vectors
    def test_f23_a_query_that_cannot_be_embedded_falls_back_to_words(
        self, storage: Storage
    ) -> None:
        embedder = AngleEmbedder()
        storage = with_models(storage, embedder=embedder)
        talk(storage, "tea @0")
        storage.conversations.embeddings.run()
        embedder.broken = Timeout("too slow")
        found = storage.conversations.search("tea")
        assert (texts(found), found.flags) == (["tea @0"], ("query_embedding_failed",))
        with pytest.raises(Timeout):
            storage.conversations.search("tea", mode="vector")


class TestMessageEmbeddings:
    @pytest.mark.needs_vectors
    def test_f23_vectors_go_with_their_message(self, storage: Storage) -> None:
        storage = angled(storage)
        one, two = talk(storage, "tea @0", "bread @1"), talk(storage, "milk @2")
        storage.conversations.embeddings.run()
        [first, _] = storage.conversations.messages.recent(one)
        storage.conversations.messages.remove(first.id)
        found = storage.conversations.search("@0", mode="vector")
        assert texts(found) == ["bread @1", "milk @2"]
        storage.conversations.delete(two)
        assert vectors(storage) == 1

    @pytest.mark.needs_vectors
    def test_f24_no_message_goes_to_two_workers(self, open_storage: Callable[..., Storage]) -> None:
        embedder = AngleEmbedder()
        handles = [with_models(open_storage(), embedder=embedder) for _ in range(4)]
        said = [f"message {number}" for number in range(40)]
        talk(handles[0], *said)

        def work(handle: Storage) -> int:
            total = 0
            while done := handle.conversations.embeddings.run(limit=7):
                total += done
            return total

        counts = together([partial(work, handle) for handle in handles])
        assert sum(counts) == 40
        assert sorted(embedder.texts) == sorted(said)

    @pytest.mark.needs_vectors
    def test_f24_who_lost_the_lease_writes_nothing(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        talk(storage, "tea @0")
        other = angled(storage).conversations.embeddings
        taken: list[int] = []

        def late() -> None:
            clock.set(clock.now() + timedelta(seconds=LEASE_SECONDS + 1))
            taken.append(other.run())

        slow = with_models(storage, embedder=Meanwhile(late)).conversations.embeddings
        assert slow.run() == 0
        assert taken == [1]
        assert other.stats().embedded == 1

    @pytest.mark.needs_vectors
    def test_f24_failures_wait_longer_each_time_then_park_until_rearmed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        embedder = AngleEmbedder()
        storage = with_models(storage, embedder=embedder)
        talk(storage, "tea @0")
        embeddings = storage.conversations.embeddings
        embedder.broken = Timeout("too slow")
        wait = 60.0
        for attempt in range(1, ATTEMPTS + 1):
            assert embeddings.run() == 0
            stats = embeddings.stats()
            assert (stats.waiting, stats.parked) == ((0, 1) if attempt == ATTEMPTS else (1, 0))
            asked = len(embedder.texts)
            clock.set(clock.now() + timedelta(seconds=wait - 1))
            assert embeddings.run() == 0
            assert len(embedder.texts) == asked
            clock.set(clock.now() + timedelta(seconds=1))
            wait *= 2
        embedder.broken = None
        assert embeddings.run() == 0
        assert embeddings.rearm() == 1
        assert embeddings.run() == 1
        stats = embeddings.stats()
        assert (stats.embedded, stats.missing, stats.waiting, stats.parked) == (1, 0, 0, 0)

    @pytest.mark.needs_vectors
    def test_f24_a_refused_message_holds_up_no_other(self, storage: Storage) -> None:
        storage = with_models(storage, embedder=Meanwhile())
        talk(storage, "tea @0", "a bad one", "", "bread @90")
        embeddings = storage.conversations.embeddings
        assert embeddings.run() == 2
        stats = embeddings.stats()
        assert (stats.embedded, stats.waiting, stats.missing) == (3, 1, 0)
        found = storage.conversations.search("@0", mode="vector")
        assert texts(found) == ["tea @0", "bread @90"]

    @pytest.mark.needs_vectors
    def test_f28_another_models_vectors_are_missing_and_made_anew(self, storage: Storage) -> None:
        talk(storage, "tea @0", "bread @90")
        angled(storage).conversations.embeddings.run()
        wide = with_models(storage, embedder=AngleEmbedder("wide", 3)).conversations
        assert wide.embeddings.stats().missing == 2
        found = wide.search("tea @0", ranker=PLAIN)
        assert (texts(found), found.flags) == (["tea @0"], ("not_embedded",))
        assert wide.embeddings.run() == 2
        assert texts(wide.search("@90", mode="vector")) == ["bread @90", "tea @0"]
        assert texts(angled(storage).conversations.search("@90", mode="vector")) == []

    def test_f24_bad_arguments_are_refused(self, storage: Storage) -> None:
        bare = with_models(storage, embedder=None).conversations.embeddings
        for call in (bare.run, bare.stats):
            with pytest.raises(Invalid, match="embedder"):
                call()
        with pytest.raises(Invalid, match="limit"):
            storage.conversations.embeddings.run(limit=0)
