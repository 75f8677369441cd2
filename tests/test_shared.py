"""One handle for each configuration in a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.core.errors import Closed, Invalid
from holdfast.testing.threads import at_once


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    holdfast.close_shared()


def test_a7_the_same_configuration_gives_the_same_handle(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    one = holdfast.shared(path, tenant="t", options={"tail_rows": 100, "segment_rows": 500})
    same = holdfast.shared(path, options={"segment_rows": 500, "tail_rows": 100}, tenant="t")
    assert same is one
    assert holdfast.shared(path, tenant="u") is not one
    assert holdfast.shared(str(tmp_path / "other.db"), tenant="t") is not one


def test_a7_concurrent_first_calls_open_one_handle(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    handles = at_once(8, lambda _: holdfast.shared(path))
    assert len({id(handle) for handle in handles}) == 1
    handles[0].kv.set("k", 1)
    assert handles[7].kv.get("k") == 1


def test_a7_a_relative_path_is_the_file_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = holdfast.shared("agent.db")
    assert holdfast.shared(str(tmp_path / "agent.db")) is one
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert holdfast.shared("agent.db") is not one


def test_a7_an_object_is_the_same_option_when_it_is_the_same_object(tmp_path: Path) -> None:
    class Ranker:
        def rank(self, *_: object) -> None: ...

    path, ranker = str(tmp_path / "agent.db"), Ranker()
    one = holdfast.shared(path, ranker=ranker)
    assert holdfast.shared(path, ranker=ranker) is one
    assert holdfast.shared(path, ranker=Ranker()) is not one


def test_a7_a_reset_closes_what_was_given_and_the_next_call_opens_anew(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    one = holdfast.shared(path)
    holdfast.close_shared()
    assert one.closed
    with pytest.raises(Closed):
        one.kv.get("k")
    again = holdfast.shared(path)
    assert again is not one
    again.close()
    assert holdfast.shared(path) is not again


def test_a7_a_failed_open_is_not_remembered(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    for _ in range(2):
        with pytest.raises(Invalid, match="durability"):
            holdfast.shared(path, durability="none")
    assert holdfast.shared(path).health().ok


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a7_a_forked_process_gets_a_handle_of_its_own(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    holdfast.shared(path).kv.set("k", "parent")
    child = os.fork()
    if not child:
        try:
            os._exit(0 if holdfast.shared(path).kv.get("k") == "parent" else 1)
        except BaseException:  # noqa: BLE001 - a child must not run the tests on
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
