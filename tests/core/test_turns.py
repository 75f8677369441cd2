"""Work that lets other threads run in between."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from holdfast.backends.sql import terms
from holdfast.core import turns
from holdfast.core.text import analyze
from holdfast.core.turns import MANY, RUN_SECONDS, giving_way, in_turns


@pytest.fixture
def another_thread() -> Iterator[None]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause; the clock goes on by half a run whenever it is read."""
    made: list[float] = []
    now = iter(n * RUN_SECONDS / 2 for n in range(1_000_000))
    monkeypatch.setattr(turns, "monotonic", lambda: next(now))
    monkeypatch.setattr(turns, "pause", made.append)
    return made


@pytest.mark.usefixtures("another_thread")
class TestTurns:
    def test_much_work_lets_other_threads_run_in_between(self, pauses: list[float]) -> None:
        assert [*in_turns(range(3 * MANY))] == [*range(3 * MANY)]
        assert len(pauses) == MANY
        assert 0 < max(pauses) < RUN_SECONDS

    def test_little_work_does_not(self, pauses: list[float]) -> None:
        few = range(MANY - 1)
        assert in_turns(few) is few
        assert not pauses

    def test_an_error_of_the_work_is_its_own(self, pauses: list[float]) -> None:
        def items() -> Iterator[int]:
            yield 1
            raise KeyError("of the items")

        with pytest.raises(KeyError, match="of the items"):
            [*giving_way(items())]

    def test_a_long_text_is_analysed_in_turns(self, pauses: list[float]) -> None:
        text = "the harbour pilot wrote it down. " * 10_000
        whole = terms._pack_long(text)
        assert len(pauses) > 3
        assert whole is not None
        assert whole[0] == len(analyze(text))


def test_nobody_waits_where_nobody_is(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    much: Iterable[Any] = range(3 * MANY)
    assert giving_way(much) is much
    assert not pauses
