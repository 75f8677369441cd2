"""The memory engine under the whole suite."""

from typing import Any

import pytest

import holdfast
from holdfast.backends import memory
from holdfast.core.filter import Compare
from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.suite import *  # noqa: F403


@pytest.fixture
def harness() -> Harness:
    return MemoryHarness()


@pytest.mark.parametrize("broken", [False, True])
def test_what_has_a_key_is_found_by_it(monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:
    if broken:
        every: Any = lambda table, *_: table.records.values()  # noqa: E731
        monkeypatch.setattr(memory._Table, "narrowed", every)
    asked = 0
    matches = Compare.matches

    def counted(part: Compare, *given: Any) -> bool:
        nonlocal asked
        asked += 1
        return matches(part, *given)

    monkeypatch.setattr(Compare, "matches", counted)
    with holdfast.open("memory:", embedder=None) as storage:
        for n in range(200):
            storage.conversations.create(key=f"key {n}")
            storage.tasks.post("sail", idempotency_key=f"key {n}")
            storage.memory.remember(f"kayak trip {n}")
    assert (asked > 200 * 100) is broken
