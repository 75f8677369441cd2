"""Every store case once more, each call through the async facade on a loop of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import aio
from holdfast.storage import Storage
from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.sqlite import SqliteHarness
from holdfast.testing.suite import *  # noqa: F403
from tests.aio.plain import LoopThread, Plain


@pytest.fixture(params=["memory", "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    return MemoryHarness() if request.param == "memory" else SqliteHarness(tmp_path)


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture
def open_storage(
    open_storage: Callable[..., Storage], loop: LoopThread
) -> Iterator[Callable[..., Any]]:
    opened: list[aio.Storage] = []

    def open_one(**scope: str) -> Plain:
        opened.append(aio.Storage(open_storage(**scope)))
        return Plain(opened[-1], loop)

    yield open_one
    for storage in opened:
        loop.run(storage.close())


def test_the_cases_hold_a_facade(storage: Any) -> None:
    assert isinstance(storage, Plain)
    assert isinstance(storage.kv, Plain)
    assert storage.kv.set("k", 1).version == 1
