"""Vectors that are missing, that move, that are used again: F23, F24, F29, F30."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import (
    Conflict,
    DimensionMismatch,
    Invalid,
    NotFound,
    Timeout,
    Unavailable,
)
from holdfast.storage import Storage
from holdfast.stores.memory import Memory, MemoryPolicy
from holdfast.stores.memory.records import EMBEDDING_CACHE, MEMORIES
from holdfast.testing.harness import Harness
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.threads import together


def vectorless(storage: Storage, count: int) -> tuple[Storage, AngleEmbedder, list[Memory]]:
    """Rows whose embedding failed, and the embedder, mended."""
    embedder = AngleEmbedder()
    broken = with_models(storage, embedder=embedder)
    embedder.broken = Unavailable("down")
    kept = [broken.memory.remember(f"row {n} @{n}") for n in range(count)]
    embedder.broken = None
    return broken, embedder, kept


class TestMemoryRepair:
    def test_f24_forty_rows_go_to_six_workers_once_each(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        storage, _, kept = vectorless(open_storage(), 40)
        other = with_models(open_storage(), embedder=AngleEmbedder())

        def work(handle: Storage) -> list[str]:
            taken: list[str] = []
            while True:
                jobs = handle.memory.repair.claim(limit=3)
                if not jobs:
                    return taken
                taken += [job.id for job in jobs]

        found = together([partial(work, handle) for handle in (storage, other) * 3])
        claimed = [memory_id for ids in found for memory_id in ids]
        assert sorted(claimed) == sorted(m.id for m in kept)
        assert storage.memory.repair.stats().due == 0

    @pytest.mark.needs_vectors
    def test_f24_a_lease_ends_and_the_late_worker_is_refused(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage, _, [kept] = vectorless(storage, 1)
        [first] = storage.memory.repair.claim(lease_seconds=60)
        assert storage.memory.repair.claim() == []
        clock.set(clock.now() + timedelta(seconds=60))
        [second] = storage.memory.repair.claim()
        assert (second.attempt, second.token != first.token) == (2, True)
        assert storage.memory.repair.complete(first, [1.0, 0.0]) is False
        assert storage.memory.repair.fail(first, "late") is False
        assert storage.memory.repair.complete(second, [1.0, 0.0]) is True
        done = storage.memory.get(kept.id)
        assert done is not None
        assert (done.space, done.updated_at, done.repair_at) == (
            "angles@1/2",
            kept.updated_at,
            None,
        )
        assert len(storage.memory.recall(vector=[1.0, 0.0], mode="vector")) == 1

    @pytest.mark.needs_vectors
    def test_f24_write_back_of_changed_content_is_refused(self, storage: Storage) -> None:
        storage, embedder, [kept] = vectorless(storage, 1)
        [job] = storage.memory.repair.claim()
        embedder.broken = Timeout("slow")
        storage.memory.update(kept.id, content="changed @90")
        assert storage.memory.repair.complete(job, [1.0, 0.0]) is False
        embedder.broken = None
        assert storage.memory.repair.run() == 1
        [item] = storage.memory.recall(vector=[0.0, 1.0], mode="vector")
        assert item.score == pytest.approx(1.0, abs=1e-4)

    def test_f24_forgotten_rows_are_not_repaired(self, storage: Storage) -> None:
        storage, _, [kept, other] = vectorless(storage, 2)
        jobs = storage.memory.repair.claim(limit=1)
        storage.memory.forget(jobs[0].id)
        assert storage.memory.repair.complete(jobs[0], [1.0, 0.0]) is False
        storage.memory.forget(kept.id)
        storage.memory.forget(other.id)
        assert storage.memory.repair.claim() == []

    def test_f24_failures_back_off_and_park_until_rearmed(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage, embedder, [kept] = vectorless(storage, 1)
        memory = storage.memory.configured(MemoryPolicy(repair_attempts=3))
        embedder.broken = Unavailable("down")
        for wait in (60, 120):
            assert memory.repair.run() == 0
            assert memory.repair.stats().waiting == 1
            clock.set(clock.now() + timedelta(seconds=wait - 1))
            assert memory.repair.claim() == []
            clock.set(clock.now() + timedelta(seconds=1))
        assert memory.repair.run() == 0
        stats = memory.repair.stats()
        assert (stats.due, stats.waiting, stats.parked) == (0, 0, 1)
        parked = memory.get(kept.id)
        assert parked is not None
        assert (parked.repair_error, parked.updated_at) == ("unavailable", kept.updated_at)
        clock.set(clock.now() + timedelta(days=1))
        assert memory.repair.claim() == []
        assert memory.repair.rearm(["missing"]) == 0
        assert memory.repair.rearm() == 1
        embedder.broken = None
        assert memory.repair.run() == 1
        assert memory.repair.stats().parked == 0

    @pytest.mark.needs_vectors
    def test_f24_rows_from_before_there_was_an_embedder(self, storage: Storage) -> None:
        plain = with_models(storage, embedder=None)
        plain.memory.remember("from before @45")
        with pytest.raises(Invalid):
            plain.memory.repair.run()
        assert plain.memory.repair.stats().due == 0
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        assert memory.repair.rearm(vectorless=True) == 1
        assert memory.repair.run() == 1
        assert len(memory.recall("q @45", mode="vector")) == 1

    @pytest.mark.needs_vectors
    def test_f24_long_rows_get_their_stretches(self, storage: Storage) -> None:
        embedder = AngleEmbedder()
        memory = with_models(storage, embedder=embedder).memory
        embedder.broken = Timeout("slow")
        memory.remember("word " * 400 + "@90")
        embedder.broken = None
        memory.repair.run()
        [item] = memory.recall("q @90", mode="vector")
        assert item.chunk is not None
        assert item.chunk.endswith("@90")

    def test_f24_bad_arguments(self, storage: Storage) -> None:
        for arguments in ({"limit": 0}, {"limit": 1_001}, {"lease_seconds": 0}):
            with pytest.raises(Invalid):
                storage.memory.repair.claim(**arguments)

    def test_f23_no_zero_vector_is_ever_stored(self, storage: Storage) -> None:
        class Zeros(AngleEmbedder):
            def embed(self, texts, kind="document"):  # type: ignore[no-untyped-def]
                return super().embed(texts, kind) * 0

        memory = with_models(storage, embedder=Zeros()).memory
        kept = memory.remember("all zeros")
        assert (kept.space, kept.repair_error) == (None, "invalid_vector")
        assert memory.repair.stats().due == 1

    @pytest.mark.needs_vectors
    def test_f29_new_vectors_build_beside_the_old(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        storage = open_storage()
        old, new = AngleEmbedder("old", 2), AngleEmbedder("new", 3)
        memory = with_models(storage, embedder=old).memory
        kept = memory.remember_many([f"at @{n * 10}" for n in range(9)])
        long = memory.remember("word " * 400 + "@270")
        began = memory.spaces.begin(new)
        assert (began.origin, began.target, began.done, began.left) == ("old@1/2", "new@1/3", 0, 10)
        assert memory.spaces.step(new, limit=4) == 4
        with pytest.raises(Conflict):
            memory.spaces.finish()
        late = memory.remember("late @85")
        memory.update(kept[0].id, content="rewritten @0")
        memory.forget(kept[1].id)
        assert memory.recall("q @80", mode="vector")[0].score == pytest.approx(1.0, abs=1e-4)
        taken_up = with_models(open_storage(), embedder=old).memory
        assert taken_up.spaces.begin(new).left > 0
        while taken_up.spaces.step(new, limit=4):
            pass
        assert memory.recall("q @80", mode="vector")[0].score == pytest.approx(1.0, abs=1e-4)
        assert taken_up.spaces.finish().id == "new@1/3"
        moved = with_models(open_storage(), embedder=new).memory
        found = moved.recall("q @85", mode="vector", k=3)
        assert found[0].memory.id == late.id
        assert found[0].score == pytest.approx(1.0, abs=1e-4)
        [chunk] = [i.chunk for i in moved.recall("q @270", mode="vector", k=1)]
        assert chunk is not None
        assert long.id == moved.recall("q @270", mode="vector", k=1)[0].memory.id
        spaces = {row["space"] for row in harness.peek(MEMORIES, "default")}
        assert spaces == {"new@1/3"}
        for stale in (memory, with_models(open_storage(), embedder=old).memory):
            with pytest.raises(DimensionMismatch):
                stale.recall("q @0")

    @pytest.mark.needs_vectors
    def test_f29_there_and_back_again(self, storage: Storage) -> None:
        old, new = AngleEmbedder("old"), AngleEmbedder("new")
        with_models(storage, embedder=old).memory.remember("one @0")
        for origin, target in ((old, new), (new, old), (old, new)):
            spaces = with_models(storage, embedder=origin).memory.spaces
            spaces.begin(target)
            assert spaces.step(target) == 1
            spaces.finish()
            memory = with_models(storage, embedder=target).memory
            assert memory.recall("q @0", mode="vector")[0].score == pytest.approx(1.0, abs=1e-4)
            memory.remember(f"also {target.space.id} @0")
            for extra in memory.list():
                if extra.content != "one @0":
                    memory.delete(extra.id)

    def test_f29_a_move_can_be_given_up(self, storage: Storage) -> None:
        old, new = AngleEmbedder("old"), AngleEmbedder("new")
        memory = with_models(storage, embedder=old).memory
        with pytest.raises(NotFound):
            memory.spaces.begin(new)
        memory.remember("one @0")
        with pytest.raises(Invalid):
            memory.spaces.begin(old)
        assert memory.spaces.cancel() is False
        memory.spaces.begin(new)
        with pytest.raises(Conflict):
            memory.spaces.begin(AngleEmbedder("third"))
        with pytest.raises(DimensionMismatch):
            memory.spaces.step(AngleEmbedder("third"))
        memory.spaces.step(new)
        assert memory.spaces.cancel() is True
        with pytest.raises(NotFound):
            memory.spaces.finish()
        assert memory.spaces.begin(new).left == 1
        active = memory.spaces.active()
        assert active is not None
        assert active.id == "old@1/2"

    @pytest.mark.needs_vectors
    def test_f30_a_text_is_embedded_once_also_after_a_restart(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        policy = MemoryPolicy(reuse_embeddings=True, embeddings_limit=2)
        for user in ("u", "v"):
            embedder = AngleEmbedder()
            memory = with_models(open_storage(user=user), embedder=embedder).memory
            kept = memory.configured(policy).remember("Same  words @30")
            assert kept.space == "angles@1/2"
            assert embedder.texts == (["Same  words @30"] if user == "u" else [])
            assert memory.recall(vector=[0.866, 0.5], mode="vector")[0].score > 0.999
        other = with_models(open_storage(), embedder=AngleEmbedder())
        other.memory.configured(policy).remember_many(["a @1", "b @2", "c @3"])
        assert len(harness.peek(EMBEDDING_CACHE, "default")) == 2

    @pytest.mark.needs_vectors
    def test_f30_what_is_equal_is_embedded_once_and_what_differs_is_not(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        policy = MemoryPolicy(reuse_embeddings=True)
        embedder = AngleEmbedder()
        memory = with_models(open_storage(), embedder=embedder).memory.configured(policy)
        memory.remember_many(["Tea @30", "plums @60"])
        memory.remember("TEA   @30", session="s", turn=1)
        assert embedder.texts == ["Tea @30", "plums @60"]
        for _ in range(2):
            assert memory.recall("tea @30", mode="vector", k=1)[0].score == pytest.approx(1.0)
        assert embedder.texts[2:] == ["tea @30"]  # a query is another kind of text, and once too
        again = AngleEmbedder()
        with_models(open_storage(), embedder=again).memory.configured(policy).recall("tea @30")
        assert again.texts == []
        assert len(harness.peek(EMBEDDING_CACHE, "default")) == 3
        fresh = with_models(open_storage(tenant="other"), embedder=again).memory
        fresh.configured(policy).remember("Tea @30")
        assert again.texts == ["Tea @30"]

    @pytest.mark.needs_vectors
    def test_f30_a_failure_is_not_kept(self, storage: Storage, harness: Harness) -> None:
        embedder = AngleEmbedder()
        memory = with_models(storage, embedder=embedder).memory
        memory = memory.configured(MemoryPolicy(reuse_embeddings=True))
        embedder.broken = Timeout("slow")
        memory.remember("Tea @30")
        assert harness.peek(EMBEDDING_CACHE, "default") == []
        embedder.broken = None
        assert memory.repair.run() == 1
        assert memory.recall("q @30", mode="vector")[0].score == pytest.approx(1.0, abs=1e-4)

    def test_f24_no_step_of_a_repair_counts_as_an_update(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage, embedder, [kept] = vectorless(storage, 1)
        memory = storage.memory.configured(MemoryPolicy(repair_attempts=1))

        def updated() -> object:
            clock.set(clock.now() + timedelta(hours=1))
            held = memory.get(kept.id)
            return None if held is None else held.updated_at

        [job] = memory.repair.claim(lease_seconds=7_200)
        assert updated() == kept.updated_at
        assert memory.repair.fail(job, "down") is True
        assert updated() == kept.updated_at
        assert memory.repair.stats().parked == 1
        assert memory.repair.rearm([kept.id]) == 1
        assert updated() == kept.updated_at
        assert memory.repair.run() == 1
        assert updated() == kept.updated_at
        assert embedder.texts[-1] == kept.content

    @pytest.mark.needs_vectors
    def test_f23_whatever_a_model_raises_a_hybrid_recall_goes_by_words(
        self, storage: Storage
    ) -> None:
        embedder = AngleEmbedder()
        memory = with_models(storage, embedder=embedder).memory
        memory.remember("plain words")
        for broken in (ConnectionError("down"), KeyError("data"), ZeroDivisionError()):
            embedder.broken = broken
            found = memory.recall("words")
            assert [item.memory.content for item in found] == ["plain words"]
            assert found.flags == ("query_embedding_failed",)
            kept = memory.remember(f"words of {type(broken).__name__}")
            assert (kept.space, kept.repair_error) == (None, type(broken).__name__)
            memory.delete(kept.id)
