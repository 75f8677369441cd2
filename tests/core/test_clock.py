"""Instants are plain, whatever has been put in the place of datetime."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

import holdfast
from holdfast.core import clock, values
from holdfast.core.clock import SystemClock


class _AnyDatetime(type):
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, datetime)


class _Stopped(datetime, metaclass=_AnyDatetime):
    """What libraries that stop the clock in tests put in datetime's place, in every module."""

    @classmethod
    def now(cls, tz: Any = None) -> _Stopped:
        return cls(2020, 1, 2, tzinfo=tz)


class _Stopping:
    def now(self) -> datetime:
        return _Stopped.now(UTC)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clock, values):
        monkeypatch.setattr(module, "datetime", _Stopped)


@pytest.mark.usefixtures("stopped")
def test_a_clock_that_a_test_has_stopped_tells_plain_instants() -> None:
    now = SystemClock().now()
    assert type(now) is datetime
    assert now == datetime(2020, 1, 2, tzinfo=UTC)
    assert values.check_time("at", datetime(2021, 1, 1, tzinfo=UTC)).year == 2021


def test_a_store_with_a_clock_of_a_subclass_keeps_plain_instants() -> None:
    with holdfast.open("memory:", clock=_Stopping()) as storage:
        kept = storage.memory.remember("kept")
        assert type(kept.created_at) is datetime
        assert kept.created_at == datetime(2020, 1, 2, tzinfo=UTC)
        assert storage.memory.get(kept.id) == kept
