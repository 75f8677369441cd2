"""Conversations and sessions when another writer comes between a read and its write."""

from __future__ import annotations

import pytest

from holdfast.core.errors import Conflict, NotFound
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.testing.races import Between


def _raced(storage: Storage) -> tuple[Storage, Between]:
    between = Between(storage._driver)
    return Storage(between, storage.scope, storage._runtime), between


class TestTalkRaces:
    def test_c1_a_create_overtaken_by_its_twin_returns_the_twin(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        twins = []
        between.happens = lambda: twins.append(storage.conversations.create(key="k"))
        assert handle.conversations.create(key="k") == twins[0]
        assert len(storage.conversations.list()) == 1

    def test_c6_an_add_overtaken_by_its_twin_returns_the_twin(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        made = storage.conversations.create().id
        twins = []
        people = storage.conversations.participants
        between.happens = lambda: twins.append(people.add(made, external_id="e"))
        assert handle.conversations.participants.add(made, external_id="e") == twins[0]
        assert len(people.list(made)) == 1

    def test_c11_a_batch_overtaken_in_part_stores_the_rest(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        made = storage.conversations.create().id
        between.happens = lambda: storage.conversations.append(made, "theirs", external_id="2")
        drafts = [Draft(text=f"mine {n}", external_id=str(n)) for n in (1, 2, 3)]
        answers = handle.conversations.append_many(made, drafts)
        assert [m.text for m in answers] == ["mine 1", "theirs", "mine 3"]
        held = storage.conversations.get(made)
        assert held is not None
        assert (held.message_count, held.head) == (3, 3)
        assert [m.sequence for m in answers] == [2, 1, 3]

    def test_c10_an_append_to_what_was_just_deleted_is_not_found(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        made = storage.conversations.create().id
        between.happens = lambda: storage.conversations.delete(made)
        with pytest.raises(NotFound):
            handle.conversations.append(made, "x", external_id="e")
        assert storage.conversations.search("x") == []

    def test_c10_a_message_removed_twice_is_counted_out_once(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        made = storage.conversations.create().id
        storage.conversations.append(made, "stays")
        sent = storage.conversations.append(made, "x", tokens=3).id
        between.happens = lambda: storage.conversations.messages.remove(sent)
        assert handle.conversations.messages.remove(sent) is False
        held = storage.conversations.get(made)
        assert held is not None
        assert (held.message_count, held.token_count) == (1, 0)

    def test_c19_compaction_folds_again_what_changed_under_it(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        canonical = storage.sessions.canonical
        sent = canonical.append_many([Draft(text=f"w{n}") for n in range(6)])
        between.happens = lambda: storage.conversations.messages.remove(sent[0].id)
        assert handle.sessions.canonical.compact(threshold=2, keep=1) == 4
        told = canonical.window(0)
        assert told.summary == "\n".join(f"user: w{n}" for n in range(1, 5))
        assert [m.text for m in told.messages] == ["w5"]

    def test_c19_two_compactions_fold_once(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=f"w{n}") for n in range(6)])
        between.happens = lambda: canonical.compact(threshold=2, keep=1)
        assert handle.sessions.canonical.compact(threshold=2, keep=1) == 0
        told = canonical.window(0)
        assert told.summary == "\n".join(f"user: w{n}" for n in range(5))
        assert len(told.messages) == 1

    def test_c19_compaction_keeps_a_summary_stored_under_it(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        canonical = storage.sessions.canonical
        head = canonical.append_many([Draft(text=f"w{n}") for n in range(3)])[-1].sequence
        between.happens = lambda: canonical.store_summary("told", expected_head=head, keep=3)
        assert handle.sessions.canonical.compact(threshold=2, keep=1) == 2
        assert canonical.window().summary == "told\nuser: w0\nuser: w1"

    def test_c20_an_append_just_before_the_write_is_a_conflict(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        canonical = storage.sessions.canonical
        canonical.append("w0")
        head = canonical.window().head
        between.happens = lambda: canonical.append("unseen")
        with pytest.raises(Conflict) as raised:
            handle.sessions.canonical.store_summary("stale", expected_head=head, keep=0)
        assert raised.value.context == {"expected": 1, "head": 2}
        told = canonical.window(0)
        assert (told.summary, [m.text for m in told.messages]) == ("", ["w0", "unseen"])

    def test_c18_two_first_callers_get_one_session(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        twins = []
        between.happens = lambda: twins.append(storage.sessions.canonical.session())
        assert handle.sessions.canonical.session() == twins[0]
        assert len(storage.sessions.list()) == 1
        assert len(storage.conversations.list()) == 1

    def test_c22_a_child_born_before_the_delete_is_reported(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        root = storage.sessions.create().id
        leaf = storage.sessions.create(parent_id=root).id
        born = []
        between.happens = lambda: born.append(storage.sessions.create(parent_id=leaf).id)
        assert list(handle.sessions.delete(root)) == [root, leaf, *born]
        assert list(storage.sessions.list()) == []

    def test_c22_a_delete_overtaken_by_its_twin_reports_nothing(self, storage: Storage) -> None:
        handle, between = _raced(storage)
        root = storage.sessions.create().id
        between.happens = lambda: storage.sessions.delete(root)
        assert list(handle.sessions.delete(root)) == []
