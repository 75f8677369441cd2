"""Moving to another embedding model while memories stay in use: F28, F29, N4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.embedding import EmbeddingKind
from holdfast.core.errors import Conflict, DimensionMismatch, Invalid, NotFound, Unavailable
from holdfast.storage import Storage
from holdfast.stores.memory import Memories, MemoryPolicy
from holdfast.stores.memory.records import CHUNKS, MEMORIES
from holdfast.stores.memory.spaces import MoveProgress
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.processes import peers_on
from holdfast.testing.threads import together

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OLD, NEW = AngleEmbedder("old", 2), AngleEmbedder("new", 3)


class Meddling(AngleEmbedder):
    """Does something else at its first calls, as if it came in between; then embeds."""

    def __init__(self, *meddle: Callable[[], Any], model: str = "new", width: int = 3) -> None:
        super().__init__(model, width)
        self._meddle = list(meddle)

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        if self._meddle:
            self._meddle.pop(0)()
        return super().embed(texts, kind)


def on(storage: Storage, embedder: AngleEmbedder) -> Memories:
    return with_models(storage, embedder=embedder).memory


def nearest(memory: Memories, degrees: int) -> tuple[str, float]:
    [best] = memory.recall(f"q @{degrees}", mode="vector", k=1)
    return best.memory.content, round(best.score, 3)


def held_spaces(harness: Harness) -> set[Any]:
    return {row["space"] for row in harness.peek(MEMORIES, "default")}


class TestMemorySpaces:
    @pytest.mark.needs_vectors
    def test_n4_progress_is_told_and_reads_flip_at_the_end(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        memory = on(open_storage(), OLD)
        memory.remember_many([f"at @{n * 10}" for n in range(9)])
        told: list[MoveProgress] = []
        answers: list[tuple[str, float]] = []

        def watch(progress: MoveProgress) -> None:
            told.append(progress)
            if progress.left:
                answers.append(nearest(memory, 80))

        space = memory.spaces.reembed(NEW, batch=4, on_progress=watch)
        assert (space.id, space.state) == ("new@1/3", "active")
        assert [(p.done, p.left) for p in told] == [(0, 9), (4, 5), (8, 1), (9, 0), (9, 0)]
        assert {(p.origin, p.target) for p in told} == {("old@1/2", "new@1/3")}
        assert answers == [("at @80", 1.0)] * 3
        assert nearest(on(open_storage(), NEW), 80) == ("at @80", 1.0)
        assert held_spaces(harness) == {"new@1/3"}
        assert memory.spaces.kept() is None

    @pytest.mark.needs_vectors
    def test_n4_memories_written_meanwhile_come_along(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        storage = open_storage()
        memory = on(storage, OLD)
        kept = memory.remember_many([f"at @{n * 10}" for n in range(6)])
        writer = on(open_storage(), OLD)
        moving = Meddling(
            lambda: writer.remember("late @75", id="0"),
            lambda: writer.update(kept[0].id, content="rewritten @125"),
            lambda: writer.forget(kept[1].id),
            lambda: writer.remember("later @155"),
        )
        memory.spaces.reembed(moving, batch=2)
        moved = on(open_storage(), NEW)
        for content, degrees in (("late @75", 75), ("rewritten @125", 125), ("later @155", 155)):
            assert nearest(moved, degrees) == (content, 1.0)
        assert nearest(moved, 10)[0] != "at @10"
        assert held_spaces(harness) == {"new@1/3"}
        assert moved.repair.stats().due == 0

    @pytest.mark.needs_vectors
    def test_n4_content_that_changed_keeps_no_vector_of_what_it_was(self, storage: Storage) -> None:
        memory = on(storage, OLD)
        [kept] = memory.remember_many(["at @0"])
        moving = Meddling(lambda: memory.update(kept.id, content="now @90"))
        memory.spaces.begin(moving)
        assert memory.spaces.step(moving) == 0
        assert memory.spaces.progress().left == 1
        memory.spaces.reembed(moving)
        assert nearest(on(storage, NEW), 90) == ("now @90", 1.0)

    def test_n4_no_flip_while_a_memory_lacks_its_vector(self, storage: Storage) -> None:
        memory = on(storage, OLD)
        memory.remember_many(["kiwi @0", "two @90"])
        memory.spaces.begin(NEW)
        for left in (2, 1):
            with pytest.raises(Conflict) as refused:
                memory.spaces.finish()
            assert refused.value.context["left"] == left
            memory.spaces.step(NEW, limit=1)
        active = memory.spaces.active()
        assert active is not None
        assert active.id == "old@1/2"
        assert memory.spaces.finish().id == "new@1/3"

    @pytest.mark.needs_vectors
    def test_n4_a_model_that_fails_leaves_the_move_to_be_taken_up(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        memory = on(open_storage(), OLD)
        memory.remember_many([f"at @{n}" for n in range(6)])
        failing = AngleEmbedder("new", 3)

        def fail_after_four(progress: MoveProgress) -> None:
            if progress.done == 4:
                failing.broken = Unavailable("down")

        with pytest.raises(Unavailable):
            memory.spaces.reembed(failing, batch=2, on_progress=fail_after_four)
        assert nearest(memory, 3) == ("at @3", 1.0)
        fresh = AngleEmbedder("new", 3)
        on(open_storage(), OLD).spaces.reembed(fresh)
        assert len(fresh.texts) == 2
        assert nearest(on(open_storage(), NEW), 3) == ("at @3", 1.0)

    @pytest.mark.needs_vectors
    def test_n4_a_killed_move_is_taken_up_where_it_was(
        self, open_storage: Callable[..., Storage], harness: Harness, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        memory = on(open_storage(), OLD)
        memory.remember_many([f"at @{n * 10}" for n in range(18)])
        with peers_on(harness.url(), 1) as [peer]:
            peer.start("reembed", "new", 3)
            for done in range(6):
                assert peer.answer() == [done, 18 - done]
                peer.start("go on")
            assert peer.answer() == [6, 12]
            peer.kill()
        assert nearest(memory, 80) == ("at @80", 1.0)
        progress = memory.spaces.progress()
        assert (progress.done, progress.left) == (6, 12)
        fresh = AngleEmbedder("new", 3)
        memory.spaces.reembed(fresh)
        assert len(fresh.texts) == 12
        moved = on(open_storage(), NEW)
        assert [nearest(moved, n * 10) for n in range(18)] == [
            (f"at @{n * 10}", 1.0) for n in range(18)
        ]

    @pytest.mark.needs_vectors
    def test_n4_two_workers_and_writers_at_once(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        handles = [on(open_storage(), OLD) for _ in range(4)]
        handles[0].remember_many([f"at @{n}" for n in range(60)])

        def move(memory: Memories) -> str:
            return memory.spaces.reembed(AngleEmbedder("new", 3), batch=7).id

        def write(memory: Memories, first: int) -> str:
            for n in range(first + 1, first + 20):
                memory.remember(f"written @{n}")
            return ""

        for n, handle in enumerate(handles[2:], 1):
            # Whoever begins after the move is refused; who trusts what it read before goes on.
            handle.remember(f"written @{100 * n}")
        work = [partial(move, handle) for handle in handles[:2]]
        work += [partial(write, handle, 100 * n) for n, handle in enumerate(handles[2:], 1)]
        assert together(work)[:2] == ["new@1/3", "new@1/3"]
        moved = on(open_storage(), NEW)
        moved.spaces.stragglers()
        while moved.repair.run():
            pass
        assert held_spaces(harness) == {"new@1/3"}
        found = moved.recall("q @0", mode="vector", k=200)
        assert len(found) == 100

    @pytest.mark.needs_vectors
    def test_n4_never_two_spaces_in_one_ranking(
        self, open_storage: Callable[..., Storage], clock: ManualClock
    ) -> None:
        third = AngleEmbedder("third", 2)
        stale = on(open_storage(), OLD)
        stale.remember("kiwi @0")
        stale.remember("plum @90")  # from here on it trusts what it read of the space
        on(open_storage(), OLD).spaces.reembed(NEW)
        on(open_storage(), NEW).spaces.reembed(third)
        # The slot that the stale handle writes to is the third space's now.
        stale.remember("strayed @0")
        memory = on(open_storage(), third)
        found = memory.recall("q @0", mode="vector")
        assert [i.memory.content for i in found] == ["kiwi @0", "plum @90"]
        [strayed] = memory.recall("strayed", mode="keyword")
        assert strayed.memory.space == "old@1/2"
        assert memory.spaces.stragglers() == 1
        assert memory.repair.run() == 1
        assert len(memory.recall("q @0", mode="vector")) == 3
        clock.set(clock.now() + timedelta(seconds=60))
        with pytest.raises(DimensionMismatch):
            stale.remember("too late @0")

    @pytest.mark.needs_vectors
    def test_n4_the_first_long_memory_may_come_during_a_move(self, storage: Storage) -> None:
        memory = on(storage, OLD)
        memory.remember("short @0")
        moving = Meddling(lambda: memory.remember("word " * 400 + "@90", id="0"))
        memory.spaces.reembed(moving)
        [best] = on(storage, NEW).recall("q @90", mode="vector", k=1)
        assert (best.memory.id, best.chunk is not None, round(best.score, 3)) == ("0", True, 1.0)

    @pytest.mark.needs_vectors
    def test_n4_a_text_that_the_model_refuses_holds_up_no_other(
        self, storage: Storage, harness: Harness
    ) -> None:
        class Choosy(AngleEmbedder):
            def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
                if any("refused" in text for text in texts):
                    raise Invalid("text", expected="a text that it likes", got="another")
                return super().embed(texts, kind)

        memory = on(storage, OLD)
        memory.remember_many(["kiwi @0", "refused @30", "two @90"])
        memory.spaces.reembed(Choosy("new", 3))
        moved = on(storage, NEW)
        assert len(moved.recall("q @0", mode="vector")) == 2
        assert [i.memory.repair_error for i in moved.recall("refused", mode="keyword")] == [
            "invalid"
        ]
        assert held_spaces(harness) == {"new@1/3", None}
        assert moved.repair.run() == 1
        assert nearest(moved, 30) == ("refused @30", 1.0)

    @pytest.mark.needs_vectors
    def test_f29_the_old_space_can_be_kept_and_gone_back_to(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        memory = on(open_storage(), OLD)
        memory.remember_many([f"at @{n * 10}" for n in range(6)])
        memory.remember("word " * 400 + "@270")
        memory.spaces.reembed(NEW, keep_old=True)
        moved = on(open_storage(), NEW)
        kept = moved.spaces.kept()
        assert kept is not None
        assert (kept.id, kept.state) == ("old@1/2", "kept")
        moved.remember("since @100")
        [at_ten] = [m for m in moved.list() if m.content == "at @10"]
        moved.update(at_ten.id, content="changed @140")
        back = AngleEmbedder("old", 2)
        moved.spaces.reembed(back, keep_old=True)
        assert sorted(back.texts) == ["changed @140", "since @100"]
        again = on(open_storage(), OLD)
        for content, degrees in (("since @100", 100), ("changed @140", 140), ("at @50", 50)):
            assert nearest(again, degrees) == (content, 1.0)
        assert again.recall("q @270", mode="vector", k=1)[0].chunk is not None
        assert again.spaces.drop() is True
        assert again.spaces.drop() is False
        for shape in (MEMORIES, CHUNKS):
            rows = harness.peek(shape, "default")
            assert {row["other_space"] for row in rows} == {None}
        assert nearest(again, 50) == ("at @50", 1.0)

    @pytest.mark.needs_vectors
    def test_f29_a_third_space_takes_the_place_of_the_kept_one(self, storage: Storage) -> None:
        memory = on(storage, OLD)
        memory.remember("kiwi @0")
        memory.spaces.reembed(NEW, keep_old=True)
        third = AngleEmbedder("third", 2)
        moved = on(storage, NEW)
        assert moved.spaces.begin(third).left == 1
        assert moved.spaces.kept() is None
        moved.spaces.reembed(third)
        assert nearest(on(storage, third), 0) == ("kiwi @0", 1.0)

    @pytest.mark.needs_vectors
    def test_f29_what_is_archived_comes_back_into_the_space_of_the_day(
        self, storage: Storage
    ) -> None:
        memory = on(storage, OLD)
        kept = memory.remember_many(["kiwi @0", "two @90"])
        memory.archive.put([kept[0].id])
        memory.spaces.reembed(NEW)
        on(storage, NEW).spaces.reembed(AngleEmbedder("third", 2))
        last = on(storage, AngleEmbedder("third", 2))
        last.spaces.reembed(OLD)  # into the slot that it was not in at first
        again = on(storage, OLD)
        again.archive.restore([kept[0].id])
        assert again.repair.run() == 1
        assert nearest(again, 0) == ("kiwi @0", 1.0)

    @pytest.mark.needs_vectors
    def test_f28_another_model_is_refused_with_both_named_and_what_to_do(
        self, storage: Storage
    ) -> None:
        on(storage, OLD).remember("kiwi @0")
        for other in (AngleEmbedder("new", 3), AngleEmbedder("old", 3)):
            memory = on(storage, other)
            calls: list[Callable[[], object]] = [
                lambda memory=memory: memory.recall("q @0"),  # type: ignore[misc]
                lambda memory=memory: memory.remember("two @0"),  # type: ignore[misc]
            ]
            for call in calls:
                with pytest.raises(DimensionMismatch) as refused:
                    call()
                assert "old@1/2" in str(refused.value)
                assert other.space.id in str(refused.value)
                assert "reembed" in refused.value.hint
            assert len(memory.recall("kiwi", mode="keyword")) == 1

    def test_f29_vectors_of_a_width_that_was_not_promised_are_refused(
        self, storage: Storage
    ) -> None:
        class Wide(AngleEmbedder):
            def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
                return AngleEmbedder("new", 5).embed(texts, kind)

        memory = on(storage, OLD)
        memory.remember("kiwi @0")
        with pytest.raises(DimensionMismatch):
            memory.spaces.reembed(Wide("new", 3))
        assert memory.spaces.progress().done == 0

    def test_n4_bad_arguments_and_nothing_to_move(self, storage: Storage) -> None:
        memory = on(storage, OLD)
        with pytest.raises(NotFound):
            memory.spaces.reembed(NEW)
        memory.remember("kiwi @0")
        wrong: list[dict[str, Any]] = [{"batch": 0}, {"batch": 1_001}, {"keep_old": 1}]
        for arguments in wrong:
            with pytest.raises(Invalid):
                memory.spaces.reembed(NEW, **arguments)
        assert memory.spaces.reembed(OLD).id == "old@1/2"
        with pytest.raises(NotFound):
            memory.spaces.progress()

    def test_f24_a_stale_worker_writes_nothing_into_a_space_that_is_gone(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        memory = on(open_storage(), OLD)
        memory.remember("kiwi @0")
        broken = AngleEmbedder("old", 2)
        broken.broken = Unavailable("down")
        stale = on(open_storage(), broken)
        stale.remember("two @90")
        [job] = stale.repair.claim()
        memory.spaces.reembed(NEW)
        with pytest.raises(DimensionMismatch):
            stale.repair.complete(job, [0.0, 1.0])
        moved = on(open_storage(), NEW).configured(MemoryPolicy(repair_lease_seconds=1e-3))
        assert moved.spaces.stragglers() == 0
