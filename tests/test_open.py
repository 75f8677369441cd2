"""Opening by URL: every option is checked by name, and nothing is guessed."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.core.errors import Closed, Invalid, InvalidText
from holdfast.core.observe import Operation
from holdfast.recall.embedders import HashEmbedder


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("embedder", "openai", "minilm"),
        ("embedder", 5, "embed"),
        ("reranker", "best", "rerank"),
        ("ranker", object(), "rank"),
        ("clock", 0, "now"),
        ("ids", "uuid", "new"),
        ("observe", print, "operation"),
        ("setup", "no", "true or false"),
        ("durability", "none", "full"),
        ("durability", 1, "full"),
        ("busy_seconds", -1, "seconds from 0"),
        ("busy_seconds", float("nan"), "seconds from 0"),
        ("busy_seconds", "10", "seconds from 0"),
        ("busy_seconds", True, "seconds from 0"),
        ("durability", "", "full"),
        ("embed_seconds", "5", "number"),
        ("embed_seconds", 0, "seconds"),
        ("options", 5, "object"),
        ("options", [], "object"),
        ("tenant", "", "characters"),
        ("agent", 7, "text"),
    ],
)
def test_a8_a_wrong_option_is_named_with_what_is_allowed(
    tmp_path: Path, option: str, value: Any, expected: str
) -> None:
    path = str(tmp_path / "agent.db")
    with pytest.raises(Invalid) as raised:
        holdfast.open(path, **{option: value})
    assert raised.value.field == option
    assert expected in raised.value.context["expected"]
    assert not os.path.exists(path)


@pytest.mark.parametrize("url", ["", None, 5, "oracle://x", "memory:x", "redis://localhost"])
def test_a8_an_unknown_backend_is_refused_with_what_there_is(url: Any) -> None:
    with pytest.raises(Invalid, match=r"url: expected a path"):
        holdfast.open(url)


@pytest.mark.parametrize("url", ["a\x00.db", "\ud800.db"])
def test_a8_a_path_that_no_system_could_hold_is_refused(url: str) -> None:
    for opened in (holdfast.open, holdfast.shared):
        with pytest.raises(InvalidText, match=r"^url: "):
            opened(url)


def test_a8_an_object_is_asked_for_and_not_its_class(tmp_path: Path) -> None:
    """A class has the verb too: every embedding would fail, and each memory be kept without one."""
    with pytest.raises(Invalid, match=r"^embedder: .*HashEmbedder\(\)"):
        holdfast.open(str(tmp_path / "agent.db"), embedder=HashEmbedder)  # type: ignore[arg-type]


def test_a18_a_clock_without_a_zone_is_refused_where_it_is_given(tmp_path: Path) -> None:
    """Else every write said that a time was wrong which its caller never gave."""

    class Naive:
        def now(self) -> datetime:
            return datetime(2026, 5, 1)  # noqa: DTZ001

    with pytest.raises(Invalid, match=r"^clock: .*time zone"):
        holdfast.open(str(tmp_path / "agent.db"), clock=Naive())
    assert os.listdir(tmp_path) == []


def test_a_path_object_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for opened in (holdfast.open, holdfast.shared):
        with opened(Path("memory:")) as storage:  # no URL: it was said to be a path
            storage.backup(tmp_path / f"{opened.__name__}.db")
    assert sorted(os.listdir(tmp_path)) == ["memory:", "open.db", "shared.db"]
    for wrong in (Path("a\x00"), b"agent.db"):
        with pytest.raises(Invalid, match=r"^url: "):
            holdfast.open(wrong)  # type: ignore[arg-type]


def test_a8_urls_as_other_libraries_spell_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    holdfast.open("sqlite:///:memory:").close()
    with pytest.raises(Invalid, match=r"^url: .*options are arguments, got a query"):
        holdfast.open("sqlite:///agent.db?mode=ro")
    assert os.listdir(tmp_path) == []
    holdfast.open("sqlite+pysqlite:///agent.db").close()
    holdfast.open("what?.db").close()
    holdfast.open(f"{tmp_path}/at 10:30.db").close()
    assert sorted(os.listdir(tmp_path)) == ["agent.db", "at 10:30.db", "what?.db"]


def test_a8_a_folder_is_no_store(tmp_path: Path) -> None:
    for url in (str(tmp_path), "sqlite:", "sqlite:///"):
        with pytest.raises(Invalid, match=r"^url: .*got a directory"):
            holdfast.open(url)


@pytest.mark.parametrize("wrong", [None, 5, "notes", object(), str])
def test_p5_stores_followers_and_units_are_checked_where_they_are_named(wrong: Any) -> None:
    with holdfast.open("memory:") as storage:
        with pytest.raises(Invalid, match=r"^kind: "):
            storage.store(wrong)
        with pytest.raises(Invalid, match=r"^follower: "):
            storage.follow(wrong)
        targets: list[Any] = ["", "a\x00", "\ud800", 5, wrong if wrong != "notes" else None]
        for target in targets:
            with pytest.raises(Invalid, match=r"^target: "):
                storage.backup(target)
        for op_id in ("a\x00", 5, object()):
            with pytest.raises(Invalid, match=r"^op_id: "), storage.unit(op_id=op_id):  # type: ignore[arg-type]
                pytest.fail("the block of the unit ran")


def test_a8_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="durabilty"):
        holdfast.open("memory:", durabilty="full")  # type: ignore[call-arg]


@pytest.mark.parametrize("option", [{"durability": "full"}, {"busy_seconds": 1.0}])
def test_a8_what_a_backend_has_no_use_for_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=next(iter(option))):
        holdfast.open("memory:", **option)


class Notes:
    def __init__(self) -> None:
        self.told: list[Operation] = []

    def operation(self, seen: Operation) -> None:
        self.told.append(seen)


@pytest.mark.parametrize("url", ["memory:", "agent.db"])
def test_a19_open_takes_a_sink(tmp_path: Path, url: str) -> None:
    notes = Notes()
    url = url if url == "memory:" else str(tmp_path / url)
    with holdfast.open(url, observe=notes) as storage:
        storage.kv.set("k", 1)
        with storage._driver.group():
            storage.kv.set("k", 2)
        assert storage.health().ready
    with pytest.raises(Closed):
        storage.kv.get("k")
    assert {"setup", "get", "apply", "group"} <= {seen.verb for seen in notes.told}
    assert notes.told[-1].error == "closed"
    assert all(seen.seconds >= 0 for seen in notes.told)


def test_a19_without_a_sink_nothing_is_stacked() -> None:
    with holdfast.open("memory:") as plain, holdfast.open("memory:", observe=Notes()) as observed:
        assert type(plain._driver).__name__ == "Checked"
        assert type(observed._driver).__name__ == "Observed"


def test_a6_closing_keeps_what_threads_were_told(tmp_path: Path) -> None:
    path = str(tmp_path / "agent.db")
    storage = holdfast.open(path)
    begun, told = threading.Semaphore(0), []
    wrong: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for n in range(100_000):
                told.append(storage.kv.set(f"{name}-{n}", n).key)
                begun.release()
        except Closed:
            begun.release()
        except BaseException as error:  # noqa: BLE001 - shown by the assert below
            wrong.append(error)
            begun.release()

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        begun.acquire()
    storage.close()
    for thread in threads:
        thread.join()
    assert wrong == []
    with holdfast.open(path) as again:
        assert [key for key in told if again.kv.get(key) is None] == []
