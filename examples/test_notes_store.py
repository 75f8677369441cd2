"""The notes store on both engines that are built in, by the fixtures that holdfast ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
from notes_store import Note, NotesStore

from holdfast import Storage
from holdfast.core.errors import Conflict, InvalidText, NotFound
from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.sqlite import SqliteHarness


@pytest.fixture(params=["memory", "sqlite"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    return MemoryHarness() if request.param == "memory" else SqliteHarness(tmp_path)


@pytest.fixture
def notes(storage: Storage) -> NotesStore:
    return storage.store(NotesStore)


def test_a_topic_has_one_open_note(notes: NotesStore) -> None:
    note = notes.write("printer", "It is on fire.")
    with pytest.raises(Conflict, match="one_open_per_topic"):
        notes.write("printer", "Still on fire.")
    assert notes.close(note.id).state == "done"
    with pytest.raises(Conflict):
        notes.close(note.id)
    again = notes.write("printer", "It smells.")
    assert [found.id for found in notes.page()] == [again.id]
    assert notes.search("smelling") == [again]
    assert notes.search("fire") == []


def test_of_many_writers_one_opens_the_topic(open_storage: Callable[..., Storage]) -> None:
    handles = [open_storage().store(NotesStore) for _ in range(4)]
    opened: list[Note] = []

    def write(handle: NotesStore) -> None:
        try:
            opened.append(handle.write("printer", "It is on fire."))
        except Conflict:
            return

    threads = [Thread(target=write, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(handles[0].page()) == opened
    assert len(opened) == 1


def test_what_is_foreign_looks_missing(storage: Storage, notes: NotesStore) -> None:
    theirs = storage.with_agent("other").store(NotesStore).write("printer", "Ours is fine.")
    mine = storage.with_agent("me").store(NotesStore)
    with pytest.raises(NotFound):
        mine.close(theirs.id)
    assert mine.search("fine") == []
    assert mine.write("printer", "Mine is not.").topic == theirs.topic
    assert len(notes.page()) == 2


def test_what_is_wrong_is_refused_with_its_field(notes: NotesStore) -> None:
    with pytest.raises(InvalidText, match="topic"):
        notes.write("a\x00b", "text")
    with pytest.raises(InvalidText, match="text"):
        notes.write("topic", "\ud800")
    assert not list(notes.page())


def test_a_repeat_writes_nothing(notes: NotesStore) -> None:
    first = notes.write("printer", "It is on fire.", op_id="1")
    assert notes.write("printer", "It is on fire.", op_id="1") == first


def test_a_unit_writes_notes_and_tasks_or_neither(storage: Storage, notes: NotesStore) -> None:
    notes.write("printer", "It is on fire.")

    def report() -> None:
        with storage.unit() as unit:
            unit.tasks.post("Call the fire brigade")
            unit.store(NotesStore).write("printer", "Again.")

    with pytest.raises(Conflict):
        report()
    assert storage.tasks.counts()["total"] == 0
