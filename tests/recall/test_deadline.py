"""A limit to how long a caller waits for a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import holdfast
from holdfast.core.embedding import Embedder, EmbeddingKind
from holdfast.core.errors import Invalid, Timeout
from holdfast.recall import deadline
from holdfast.recall.deadline import LATE_LIMIT, TimedEmbedder
from holdfast.recall.embedders import HashEmbedder

PLENTY = 60.0
AT_ONCE = 1e-9


class Held(HashEmbedder):
    """Answers when it is let to."""

    def __init__(self) -> None:
        super().__init__(16)
        self.free = threading.Event()

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
        self.free.wait()
        return super().embed(texts, kind)


def test_an_answer_in_time_is_the_embedders() -> None:
    plain = HashEmbedder(16)
    timed = TimedEmbedder(plain, PLENTY)
    assert isinstance(timed, Embedder)
    assert timed.space == plain.space
    assert (timed.embed(["tea"]) == plain.embed(["tea"])).all()
    assert not hasattr(timed, "embed_packed")


def test_errors_are_the_embedders() -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
            raise KeyError("data")

    with pytest.raises(KeyError):
        TimedEmbedder(Broken(16), PLENTY).embed(["tea"])


def test_a_late_answer_is_a_timeout_and_too_many_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadline, "IDLE_SECONDS", 0.01)
    before = set(threading.enumerate())
    held = Held()
    timed = TimedEmbedder(held, AT_ONCE)
    for _ in range(LATE_LIMIT):
        with pytest.raises(Timeout, match="in time"):
            timed.embed(["tea"])
    with pytest.raises(Timeout, match="earlier"):
        timed.embed(["tea"])
    running = set(threading.enumerate()) - before
    held.free.set()
    for thread in running:
        thread.join()
    patient = TimedEmbedder(held, PLENTY)
    assert len(patient.embed(["tea"])) == 1
    held.free.clear()
    with pytest.raises(Timeout, match="in time"):  # those that were late have ended
        timed.embed(["tea"])
    held.free.set()


def test_calls_one_after_the_other_share_a_thread_which_ends_when_no_more_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Named(HashEmbedder):
        def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Any:
            used.append(threading.current_thread())
            if texts == ["milk"]:  # while the thread is at work: when it waits, it has looked
                monkeypatch.setattr(deadline, "IDLE_SECONDS", 0.0)
            return super().embed(texts, kind)

    monkeypatch.setattr(deadline, "IDLE_SECONDS", PLENTY)
    used: list[threading.Thread] = []
    timed = TimedEmbedder(Named(16), PLENTY)
    timed.embed(["tea"])
    timed.embed(["milk"])
    assert used[0] is used[1]
    used[0].join()
    assert len(timed.embed(["sugar"])) == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 100_000])
def test_seconds_are_checked(seconds: float) -> None:
    with pytest.raises(Invalid):
        TimedEmbedder(HashEmbedder(16), seconds)
    with pytest.raises(Invalid):
        holdfast.open("memory:", embedder=HashEmbedder(16), embed_seconds=seconds)


def test_f23_a_memory_whose_model_is_late_is_kept_and_queued() -> None:
    held = Held()
    with holdfast.open("memory:", embedder=held, embed_seconds=AT_ONCE) as storage:
        kept = storage.memory.remember("a kettle of tea")
        assert (kept.space, kept.repair_error) == (None, "timeout")
        assert storage.memory.repair.stats().due == 1
        found = storage.memory.recall("kettle")
        assert [item.memory.id for item in found] == [kept.id]
    held.free.set()
    unlimited: list[Callable[[], Any]] = [
        lambda: holdfast.open("memory:", embedder=HashEmbedder(16), embed_seconds=None),
        lambda: holdfast.open("memory:", embedder=HashEmbedder(16)),
    ]
    for opened in unlimited:
        with opened() as storage:
            assert storage.memory.remember("tea").space is not None
