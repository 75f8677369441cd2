"""Remembering: F1, F8, F9, F11, F21, F22, F26, F28, F32, F33, F37, F38, and the scopes B1, B11."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Ambiguous,
    Conflict,
    DimensionMismatch,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    InvalidVector,
    NotFound,
    Timeout,
)
from holdfast.core.filter import Record
from holdfast.layers.layer import Layer
from holdfast.storage import Storage
from holdfast.stores.memory import MemoryPolicy
from holdfast.stores.memory.records import KINDS, MEMORIES, SPACES
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.threads import together


class _Interrupted(Layer):
    """Lets another writer in behind the next read of the embedding space."""

    def __init__(self, below: Driver, interruption: Callable[[], object]) -> None:
        super().__init__(below)
        self._interruption: Callable[[], object] | None = interruption

    def get(
        self, tenant: str, collection: str, key: tuple[Any, ...], *, vectors: bool = False
    ) -> Record | None:
        found = self.below.get(tenant, collection, key, vectors=vectors)
        if collection == SPACES.name and self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            interruption()
        return found


def contents(found: Any) -> list[str]:
    return [item.memory.content for item in found]


class TestMemoryRemember:
    def test_f1_id_and_creation_time_are_kept(self, storage: Storage) -> None:
        at = datetime(2020, 2, 3, 4, 5, 6, 789, tzinfo=UTC)
        given = storage.memory.remember("mine", id="my-id", created_at=at)
        minted = storage.memory.remember("minted")
        assert (given.id, given.created_at) == ("my-id", at)
        assert storage.memory.get("my-id") == given
        assert storage.memory.get(minted.id) == minted
        assert storage.memory.get("other") is None
        assert [m.id for m in storage.memory.list()] == [minted.id, "my-id"]

    def test_f1_an_id_in_use_is_refused_and_a_repeat_is_not(self, storage: Storage) -> None:
        first = storage.memory.remember("one", id="x")
        assert storage.memory.remember("one", id="x").id == first.id
        with pytest.raises(Conflict):
            storage.memory.remember("another", id="x")
        kept = storage.memory.get("x")
        assert kept is not None
        assert kept.content == "one"

    def test_f1_operation_id_makes_a_repeat_harmless(self, storage: Storage) -> None:
        first = storage.memory.remember("said once", op_id="op")
        storage.memory.forget(first.id)
        again = storage.memory.remember("said once", op_id="op")
        assert again.id == first.id
        assert storage.memory.get(first.id) is None
        with pytest.raises(IdempotencyMismatch):
            storage.memory.remember("said twice", op_id="op")

    def test_f1_many_are_kept_in_order_and_checked_first(self, storage: Storage) -> None:
        entries: Any = ["a one", {"content": "b two", "kind": "note", "tags": ["t"]}, "a ONE"]
        kept = storage.memory.remember_many(entries)
        assert [m.content for m in kept] == ["a one", "b two", "a one"]
        assert kept[0].id == kept[2].id
        assert (kept[1].kind, kept[1].tags) == ("note", ["t"])
        with pytest.raises(Invalid):
            storage.memory.remember_many(["c three", {"content": " "}])
        with pytest.raises(Invalid):
            storage.memory.remember_many("text")
        assert len(storage.memory.list()) == 2

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            (5, "content"),
            ({"text": "fig"}, "content"),
            ({"content": "fig", "colour": "red"}, "colour"),
            ({"content": "fig", "vector": [float("nan")]}, "vector"),
            ({"content": "fig", "tier": "attic"}, "tier"),
        ],
    )
    def test_f1_of_many_the_one_that_is_wrong_is_named(
        self, storage: Storage, wrong: Any, field: str
    ) -> None:
        with pytest.raises(Invalid) as told:
            storage.memory.remember_many(["apple", "pear", wrong])
        assert told.value.field == f"entries[2].{field}"
        assert len(storage.memory.list()) == 0

    def test_f1_many_beyond_one_batch(self, storage: Storage) -> None:
        kept = storage.memory.remember_many([f"number {n}" for n in range(300)])
        assert len({m.id for m in kept}) == 300
        assert storage.memory.stats().total == 300

    def test_f1_many_of_which_some_are_held(self, storage: Storage) -> None:
        memory = storage.memory
        old = memory.remember("a one", kind="note")
        kept = memory.remember_many(["b two", "A one", "c three", "B two"])
        assert [m.content for m in kept] == ["b two", "a one", "c three", "b two"]
        assert kept[1] == old
        assert kept[0] == kept[3]
        assert memory.remember_many(["c three", "a one"]) == [kept[2], old]
        assert memory.stats().total == 3

    def test_f1_many_of_which_some_have_ended(self, storage: Storage, clock: ManualClock) -> None:
        memory = storage.memory
        old = memory.remember("a one", ttl_seconds=10.0)
        kept: Any = memory.remember_many([{"content": "b two", "ttl_seconds": 20.0}, "a one"])
        assert kept[1] == old
        clock.set(clock.now() + timedelta(seconds=10))
        again = memory.remember_many(["a one", "b two"])
        assert again[0].id != old.id
        assert again[1] == kept[0]
        closed: Any = [{"content": "c three", "valid_to": clock.now()}, "c three"]
        assert len({m.id for m in memory.remember_many(closed)}) == 2
        memory.forget(again[0].id)
        assert memory.remember_many(["a one"])[0].id not in {old.id, again[0].id}

    def test_f1_many_with_an_id_in_use_are_refused(self, storage: Storage) -> None:
        memory = storage.memory
        memory.remember("a one", id="x")
        memory.remember("b two")
        entries: Any
        for entries in (
            [{"content": "c three", "id": "x"}],
            [{"content": "b two", "id": "x"}],
            [{"content": "d four", "id": "y"}, {"content": "e five", "id": "y"}],
        ):
            with pytest.raises(Conflict):
                memory.remember_many(entries)
        held = [memory.get(memory_id) for memory_id in ("x", "y")]
        assert [one and one.content for one in held] == ["a one", "d four"]

    @pytest.mark.needs_vectors
    def test_f1_a_unit_keeps_the_first_memory_of_a_tenant(self, storage: Storage) -> None:
        with storage.unit() as unit:
            unit.memory.remember("first of all")
            unit.memory.remember("second of all")
            assert storage.memory.stats().total == 0
        assert storage.memory.stats().total == 2
        assert contents(storage.memory.recall("second", mode="vector", k=1)) == ["second of all"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"content": ""},
            {"content": "  \n"},
            {"content": "nul \x00"},
            {"content": "surrogate \ud800"},
            {"content": 7},
            {"id": ""},
            {"id": " x"},
            {"kind": ""},
            {"kind": "Fact"},
            {"tier": "long"},
            {"level": -1},
            {"tags": "text"},
            {"trust": 4},
            {"turn": 1},
            {"confidence": 1.01},
            {"confidence": float("nan")},
            {"importance": True},
            {"significance": "huge"},
            {"valence": -2.0},
            {"arousal": 1.5},
            {"said_at": datetime(2026, 1, 1)},
            {"ttl_seconds": 0},
            {"metadata": []},
            {"metadata": {"x": float("inf")}},
            {"pinned": 1},
            {"unknown": 1},
            {"near_duplicate": "maybe"},
            {
                "valid_from": datetime(2026, 1, 2, tzinfo=UTC),
                "valid_to": datetime(2026, 1, 2, tzinfo=UTC),
            },
        ],
    )
    def test_f1_bad_input_is_refused_and_leaves_nothing(
        self, storage: Storage, fields: dict[str, Any]
    ) -> None:
        given = {"content": "fine", **fields}
        with pytest.raises(Invalid):
            storage.memory.remember(given.pop("content"), **given)
        assert storage.memory.stats().total == 0

    @pytest.mark.parametrize(
        "vector",
        [[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0], [], "ab", [True, False], [[1.0]]],
    )
    def test_f8_incomparable_vectors_are_refused(self, storage: Storage, vector: Any) -> None:
        storage = with_models(storage, embedder=AngleEmbedder())
        with pytest.raises(InvalidVector):
            storage.memory.remember("x", vector=vector)
        kept = storage.memory.remember("y")
        with pytest.raises(InvalidVector):
            storage.memory.update(kept.id, vector=vector)
        assert storage.memory.stats().total == 1

    def test_f8_wrong_width_is_a_dimension_mismatch(self, storage: Storage) -> None:
        storage = with_models(storage, embedder=AngleEmbedder())
        for vector in ([1.0], [1.0, 2.0, 3.0], np.ones(3)):
            with pytest.raises(DimensionMismatch):
                storage.memory.remember("x", vector=vector)
        assert storage.memory.stats().total == 0

    @pytest.mark.needs_vectors
    def test_f9_forgotten_leaves_every_read_at_once(self, storage: Storage) -> None:
        kept = storage.memory.remember("the harbour is cold", session="s", turn=1)
        assert storage.memory.forget(kept.id) is True
        assert storage.memory.forget(kept.id) is False
        assert storage.memory.forget("missing") is False
        for mode in ("hybrid", "vector", "keyword"):
            assert not storage.memory.recall("harbour cold", mode=mode)
        assert storage.memory.get(kept.id) is None
        assert not storage.memory.list(include_closed=True).items
        assert storage.memory.find_by_prefix(kept.id) is None
        with pytest.raises(NotFound):
            storage.memory.update(kept.id, content="back?")
        again = storage.memory.remember("the harbour is cold", session="s", turn=1)
        assert again.id != kept.id

    def test_f9_an_expired_memory_is_not_a_live_one(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        kept = storage.memory.remember("soon gone", ttl_seconds=5)
        clock.set(clock.now() + timedelta(seconds=5))
        assert storage.memory.forget(kept.id) is False
        assert storage.memory.get(kept.id) is None

    @pytest.mark.needs_vectors
    def test_f9_delete_is_for_good(self, storage: Storage) -> None:
        kept = storage.memory.remember("a long story " * 200)
        storage.memory.delete(kept.id)
        with pytest.raises(NotFound):
            storage.memory.delete(kept.id)
        with pytest.raises(NotFound):
            storage.memory.delete("missing")
        assert not storage.memory.recall("story", mode="vector")
        assert storage.memory.stats().total == 0

    @pytest.mark.needs_vectors
    def test_f11_each_update_changes_only_itself(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        kept = memory.remember("cats @10", metadata={"a": 1}, tags=["t"], kind="note")
        clock.set(clock.now() + timedelta(hours=1))
        moved = memory.update(kept.id, vector=[0.0, 1.0])
        assert (moved.content, moved.metadata, moved.updated_at) == (
            kept.content,
            {"a": 1},
            kept.updated_at,
        )
        assert memory.recall(vector=[0.0, 1.0], mode="vector")[0].score == pytest.approx(
            1, abs=1e-4
        )
        told = memory.update(kept.id, metadata={"b": 2})
        assert (told.content, told.metadata, told.updated_at) == (
            "cats @10",
            {"b": 2},
            clock.now(),
        )
        assert memory.recall(vector=[0.0, 1.0], mode="vector")[0].score == pytest.approx(
            1, abs=1e-4
        )
        new = memory.update(kept.id, content="dogs @90")
        assert (new.id, new.metadata, new.tags, new.kind) == (kept.id, {"b": 2}, ["t"], "note")
        assert new.fingerprint != kept.fingerprint
        assert contents(memory.recall("dogs", mode="keyword")) == ["dogs @90"]
        assert not memory.recall("cats", mode="keyword")
        with pytest.raises(Invalid):
            memory.update(kept.id)
        with pytest.raises(NotFound):
            memory.update("missing", metadata={})

    @pytest.mark.needs_vectors
    def test_f11_vector_of_stale_content_is_refused(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        old = memory.remember("cats @10")
        memory.update(old.id, content="dogs @90")
        with pytest.raises(Conflict):
            memory.update(old.id, vector=[1.0, 0.0], fingerprint=old.fingerprint)
        assert memory.recall(vector=[0.0, 1.0], mode="vector")[0].score == pytest.approx(
            1, abs=1e-4
        )

    def test_f11_content_of_another_memory_is_refused(self, storage: Storage) -> None:
        storage.memory.remember("one")
        other = storage.memory.remember("two")
        with pytest.raises(Conflict):
            storage.memory.update(other.id, content="ONE")
        kept = storage.memory.get(other.id)
        assert kept is not None
        assert kept.content == "two"

    def test_f21_equal_content_is_one_memory(self, storage: Storage) -> None:
        first = storage.memory.remember("Ann likes  tea")
        assert storage.memory.remember("ann LIKES tea").id == first.id
        other_place = storage.memory.remember("Ann likes tea", session="s", turn=1)
        assert other_place.id != first.id
        other_user = storage.scoped(user="u").memory.remember("Ann likes tea")
        assert other_user.id != first.id

    def test_f21_twenty_writers_leave_one_live_row(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage() for _ in range(2)]
        calls = [
            lambda handle=handles[n % 2]: handle.memory.remember("the same text").id
            for n in range(20)
        ]
        ids = together(calls)
        assert len(set(ids)) == 1
        assert handles[0].memory.stats().total == 1

    def test_f21_expired_content_may_be_said_again(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        first = storage.memory.remember("for now", ttl_seconds=10)
        clock.set(clock.now() + timedelta(seconds=10))
        second = storage.memory.remember("for now")
        assert second.id != first.id
        assert contents(storage.memory.recall("now", mode="keyword")) == []
        assert [m.id for m in storage.memory.list()] == [second.id]

    @pytest.mark.needs_vectors
    def test_f22_near_duplicates_by_policy(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        first = memory.remember("red @0")
        assert first.is_unique is True
        assert memory.remember("crimson @10").is_unique is True  # off: nobody looks
        hinted = memory.remember("scarlet @1", near_duplicate="hint")
        assert (hinted.is_unique, hinted.similar_to) == (False, first.id)
        far = memory.remember("blue @90", near_duplicate="hint")
        assert (far.is_unique, far.similar_to) == (True, None)
        joined = memory.remember("azure @91", near_duplicate="coalesce")
        assert joined.id == far.id
        newer = memory.remember("navy @89", near_duplicate="supersede")
        closed = memory.get(far.id)
        assert closed is not None
        assert closed.superseded_by == newer.id
        found = memory.recall(vector=[1.0, 0.0], mode="vector", unique_only=True)
        assert set(contents(found)) == {"red @0", "crimson @10", "navy @89"}

    @pytest.mark.needs_vectors
    def test_f22_threshold_is_settable(self, storage: Storage) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        memory.remember("red @0")
        assert memory.remember("far @30", near_duplicate="hint").is_unique is True
        loose = memory.configured(MemoryPolicy(duplicate_similarity=0.8))
        assert loose.remember("off @-30", near_duplicate="hint").is_unique is False
        wrong: list[dict[str, Any]] = [
            {"duplicate_similarity": 1.5},
            {"duplicate_similarity": "1"},
            {"promote_accesses": 1.5},
            {"embeddings_limit": True},
            {"reuse_embeddings": "no"},
            {"reuse_embeddings": 1},
        ]
        for given in wrong:
            with pytest.raises(Invalid) as refused:
                MemoryPolicy(**given)
            assert refused.value.field in given

    def test_f26_prefix_is_literal_and_ambiguity_is_told(self, storage: Storage) -> None:
        for name in ("ab%1", "ab_2", "abx3"):
            storage.memory.remember(name, id=name)
        found = storage.memory.find_by_prefix("ab%")
        assert found is not None
        assert found.id == "ab%1"
        under = storage.memory.find_by_prefix("ab_")
        assert under is not None
        assert under.id == "ab_2"
        assert storage.memory.find_by_prefix("") is None
        assert storage.memory.find_by_prefix("%") is None
        with pytest.raises(Ambiguous):
            storage.memory.find_by_prefix("ab")

    @pytest.mark.needs_vectors
    def test_f28_another_space_is_refused_with_both_named(self, storage: Storage) -> None:
        with_models(storage, embedder=AngleEmbedder("old", 2)).memory.remember("x")
        for other in (AngleEmbedder("new", 2), AngleEmbedder("old", 3)):
            memory = with_models(storage, embedder=other).memory
            for verb in ("remember", "recall"):
                with pytest.raises(DimensionMismatch) as told:
                    getattr(memory, verb)("y")
                assert "old@1/2" in str(told.value)
                assert other.space.id in str(told.value)
        assert storage.memory.stats().total == 1
        other_tenant = with_models(storage.scoped(tenant="t"), embedder=AngleEmbedder("new", 2))
        assert other_tenant.memory.remember("y").space == "new@1/2"

    def test_f28_first_vectors_of_two_models_never_both_win(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        def first(name: str) -> str:
            storage = with_models(open_storage(), embedder=AngleEmbedder(name))
            try:
                return str(storage.memory.remember(f"by {name}").space)
            except DimensionMismatch:
                return "refused"

        answers = together([lambda: first("one"), lambda: first("two")])
        assert answers.count("refused") == 1

    def test_f32_pin_keeps_its_provenance(self, storage: Storage, clock: ManualClock) -> None:
        kept = storage.memory.remember("keep me", tier="working")
        pinned = storage.memory.pin(kept.id, by="ann")
        assert (pinned.pinned, pinned.pinned_by, pinned.pinned_at) == (True, "ann", clock.now())
        clock.set(clock.now() + timedelta(days=400))
        assert contents(storage.memory.recall("keep", mode="keyword")) == ["keep me"]
        assert [m.id for m in storage.memory.list(pinned=True)] == [kept.id]
        unpinned = storage.memory.unpin(kept.id)
        assert (unpinned.pinned, unpinned.pinned_by) == (False, "ann")
        assert not storage.memory.list().items
        with pytest.raises(NotFound):
            storage.memory.pin("missing")

    def test_f33_list_sorts_by_a_whitelist_and_pages_by_key(self, storage: Storage) -> None:
        for n in range(7):
            storage.memory.remember(f"m{n}", importance=n % 2 / 2, id=f"i{n}")
        seen: list[str] = []
        cursor = None
        while True:
            page = storage.memory.list(sort="importance", limit=3, cursor=cursor)
            seen += [m.id for m in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == ["i5", "i3", "i1", "i6", "i4", "i2", "i0"]
        first = storage.memory.list(sort="importance", limit=3)
        with pytest.raises(InvalidCursor):
            storage.memory.list(sort="confidence", limit=3, cursor=first.next_cursor)
        bad_sort: Any = "content"
        with pytest.raises(Invalid):
            storage.memory.list(sort=bad_sort)
        for limit in (0, 1001):
            with pytest.raises(Invalid):
                storage.memory.list(limit=limit)

    def test_f33_correct_supersedes_on_the_record(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        old = storage.memory.remember("lives in Rome", tags=["home"], metadata={"a": 1})
        clock.set(clock.now() + timedelta(hours=1))
        new = storage.memory.correct(old.id, "lives in Oslo", by="ann")
        assert (new.tags, new.metadata, new.content) == (["home"], {"a": 1}, "lives in Oslo")
        closed = storage.memory.get(old.id)
        assert closed is not None
        assert (closed.superseded_by, closed.valid_to) == (new.id, clock.now())
        events = storage.memory.history.events(old.id).items
        assert [(e.action, e.by, e.detail["successor"]) for e in events] == [
            ("corrected", "ann", new.id)
        ]
        assert contents(storage.memory.recall("lives", mode="keyword")) == ["lives in Oslo"]
        with pytest.raises(Conflict):
            storage.memory.correct(old.id, "lives in Bern")
        storage.memory.remember("lives in Bonn")
        with pytest.raises(Conflict):
            storage.memory.correct(new.id, "lives in Bonn")
        assert storage.memory.history.current(old.id).content == "lives in Oslo"

    def test_f33_one_of_two_correctors_wins(self, open_storage: Callable[..., Storage]) -> None:
        storage, other = open_storage(), open_storage()
        old = storage.memory.remember("wrong")

        def correct(handle: Storage, text: str) -> bool:
            try:
                handle.memory.correct(old.id, text)
            except Conflict:
                return False
            return True

        won = together([lambda: correct(storage, "this"), lambda: correct(other, "that")])
        assert sorted(won) == [False, True]
        assert len(storage.memory.list()) == 1

    def test_f37_kinds_are_open_and_well_known_ones_exact(self, storage: Storage) -> None:
        for kind in [*sorted(KINDS), "my own Kind", "идея"]:
            kept = storage.memory.remember(f"of kind {kind}", kind=kind)
            assert storage.memory.get(kept.id) == kept
            assert kept.kind == kind
        with pytest.raises(Invalid):
            storage.memory.remember("x", kind="FACT")
        assert [m.kind for m in storage.memory.list(kinds=["идея", "goal"])] == ["идея", "goal"]

    def test_f38_emotion_and_significance_round_trip(self, storage: Storage) -> None:
        told = storage.memory.remember(
            "the launch",
            valence=-0.5,
            arousal=0.9,
            mood="tense",
            significance="core",
            reflection="why so late",
            lesson="start early",
            happened_at=datetime(2025, 3, 1, tzinfo=UTC),
        )
        storage.memory.remember("nothing much")
        assert storage.memory.get(told.id) == told
        for narrowing in (
            {"max_valence": -0.1},
            {"min_arousal": 0.9},
            {"moods": ["tense"]},
            {"significances": ["core"]},
            {"happened_from": datetime(2025, 3, 1, tzinfo=UTC)},
            {"happened_to": datetime(2025, 3, 1, tzinfo=UTC)},
        ):
            chosen: Any = narrowing
            found = storage.memory.list(**chosen)
            assert [m.id for m in found] == [told.id], narrowing

    def test_b1_scopes_never_meet(self, open_storage: Callable[..., Storage]) -> None:
        storage = open_storage()
        mine = storage.scoped(agent="a", user="u").memory
        kept = mine.remember("secret garden", session="s", turn=1)
        for foreign in (
            storage.scoped(tenant="other"),
            storage.scoped(agent="b"),
            storage.scoped(user="v"),
            storage.scoped(agent="a", user="u", namespace="n"),
        ):
            memory = foreign.memory
            assert memory.get(kept.id) is None
            assert not memory.recall("secret garden")
            assert memory.forget(kept.id) is False
            assert memory.reinforce([kept.id]) == 0
            assert memory.find_by_prefix(kept.id[:3]) is None
            assert not memory.list(include_closed=True).items
            assert memory.stats().total == 0
            assert memory.archive.put([kept.id]) == 0
            assert memory.lifecycle.quarantine([kept.id]) == 0
            assert not memory.history.events(kept.id).items
        assert mine.get(kept.id) == kept

    def test_b11_foreign_and_missing_ids_look_the_same(self, storage: Storage) -> None:
        kept = storage.scoped(agent="a").memory.remember("secret")
        memory = storage.scoped(agent="b").memory
        mine = memory.remember("own")
        for verb in (
            lambda i: memory.delete(i),
            lambda i: memory.update(i, metadata={}),
            lambda i: memory.update(i, content="own"),
            lambda i: memory.correct(i, "x"),
            lambda i: memory.pin(i),
            lambda i: memory.unpin(i),
            lambda i: memory.history.supersede(i, mine.id),
            lambda i: memory.history.supersede(mine.id, i),
            lambda i: memory.history.restore(i),
            lambda i: memory.history.contradict(i, by="x"),
            lambda i: memory.history.set_confidence(i, 0.5),
            lambda i: memory.history.corroborate(i),
            lambda i: memory.history.predecessors(i),
            lambda i: memory.lifecycle.retier(i, "working"),
        ):
            told = []
            for memory_id in (kept.id, "missing"):
                with pytest.raises(NotFound) as error:
                    verb(memory_id)
                told.append(str(error.value))
            assert told[0] == told[1]

    def test_f23_two_first_writers_agree_on_the_space(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        embedder = AngleEmbedder()
        mine, other = (with_models(open_storage(), embedder=embedder) for _ in range(2))
        late = _Interrupted(mine._driver, lambda: other.memory.remember("theirs"))
        kept = Storage(late, mine.scope, mine._runtime).memory.remember("mine")
        assert kept.space == embedder.space.id
        assert {m.content for m in mine.memory.list()} == {"mine", "theirs"}

    def test_f23_embedding_failure_keeps_the_words(self, storage: Storage, harness: Any) -> None:
        embedder = AngleEmbedder()
        memory = with_models(storage, embedder=embedder).memory
        for number, error in enumerate((Timeout("slow"), RuntimeError("bug"))):
            embedder.broken = error
            kept = memory.remember(f"kept by words {number}")
            assert (kept.space, kept.repair_at is not None) == (None, True)
        embedder.broken = None
        assert len(memory.recall("words", mode="keyword")) == 2
        assert len(memory.recall("words")) == 2
        assert not memory.recall("words", mode="vector")
        assert [row["space"] for row in harness.peek(MEMORIES, "default")] == [None, None]
