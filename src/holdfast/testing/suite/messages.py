"""Messages: C10-C14."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Conflict,
    IdempotencyMismatch,
    Invalid,
    InvalidCursor,
    InvalidText,
    NotFound,
    TooLarge,
)
from holdfast.core.scope import Scope
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.messages import PageDirection, Party
from holdfast.stores.conversations.records import Message
from holdfast.testing.plugin import runtime
from holdfast.testing.races import Counting
from holdfast.testing.threads import together


def _tick(clock: ManualClock, seconds: float = 1) -> None:
    clock.set(clock.now() + timedelta(seconds=seconds))


class TestMessages:
    def test_c10_sequence_and_updated_at_move_together(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create()
        _tick(clock)
        sent = storage.conversations.append(
            made.id, "hi", content={"parts": [1]}, metadata={"a": 1}, tokens=3
        )
        assert (sent.sequence, sent.role, sent.direction) == (1, "user", "inbound")
        assert (sent.content, sent.metadata, sent.tokens) == ({"parts": [1]}, {"a": 1}, 3)
        reply = storage.conversations.append(made.id, "ho", role="assistant", tokens=4)
        assert (reply.sequence, reply.direction) == (2, "outbound")
        held = storage.conversations.get(made.id)
        assert held is not None
        assert (held.message_count, held.token_count, held.head) == (2, 7, 2)
        assert held.updated_at == clock.now()
        assert storage.conversations.messages.get(sent.id) == sent

    def test_c10_updated_at_never_goes_back(self, storage: Storage, clock: ManualClock) -> None:
        made = storage.conversations.create()
        _tick(clock, -3600)
        storage.conversations.append(made.id, "late writer")
        held = storage.conversations.get(made.id)
        assert held is not None
        assert held.updated_at == made.updated_at

    def test_c10_concurrent_appends_are_numbered_without_gap(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        made = [handles[0].conversations.create().id for _ in range(2)]

        def work(handle: Storage) -> list[Message]:
            return [handle.conversations.append(c, "x") for _ in range(10) for c in made]

        together([partial(work, h) for h in handles for _ in range(2)])
        for conversation in made:
            told = handles[1].conversations.messages.recent(conversation, 0)
            assert [m.sequence for m in told] == list(range(1, 41))
            held = handles[0].conversations.get(conversation)
            assert held is not None
            assert (held.head, held.message_count) == (40, 40)

    def test_c10_append_is_one_write_and_no_read(self, driver: Driver, storage: Storage) -> None:
        made = storage.conversations.create()
        counting = Counting(storage._driver)
        handle = Storage(counting, Scope(agent="a"), runtime(ManualClock(made.created_at), "n"))
        own = handle.conversations.create()
        counting.calls.clear()
        handle.conversations.append(own.id, "x")
        handle.conversations.append_many(own.id, [Draft(text="y"), Draft(text="z")])
        assert counting.calls == ["apply", "apply"]

    def test_c10_one_of_several_writers_with_the_same_head_wins(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        made = handles[0].conversations.create().id

        def work(handle: Storage) -> int:
            try:
                handle.conversations.append(made, "x", expected_head=0)
            except Conflict as error:
                assert error.context == {"expected": 0, "head": 1}
                return 0
            return 1

        assert sum(together([partial(work, h) for h in handles for _ in range(4)])) == 1
        assert len(handles[0].conversations.messages.page(made)) == 1

    def test_c10_missing_conversation_and_used_id_are_refused(self, storage: Storage) -> None:
        made = storage.conversations.create().id
        with pytest.raises(NotFound):
            storage.conversations.append("no such", "x")
        storage.conversations.append(made, "x", message_id="m")
        with pytest.raises(Conflict):
            storage.conversations.append(made, "y", message_id="m")
        held = storage.conversations.get(made)
        assert held is not None
        assert (held.message_count, held.head) == (1, 1)

    def test_c10_bad_input_is_refused_and_nothing_written(self, storage: Storage) -> None:
        made = storage.conversations.create()
        bad: list[tuple[dict[str, object], type[Invalid]]] = [
            ({"text": "a\x00"}, InvalidText),
            ({"text": "\ud800"}, InvalidText),
            ({"text": "x" * (16 * 1024 * 1024 + 1)}, TooLarge),
            ({"text": None}, Invalid),
            ({"role": "robot"}, Invalid),
            ({"direction": "sideways"}, Invalid),
            ({"external_id": ""}, Invalid),
            ({"metadata": [1]}, Invalid),
            ({"content": {"x": float("inf")}}, Invalid),
            ({"tokens": -1}, Invalid),
            ({"tokens": True}, Invalid),
            ({"created_at": "yesterday"}, Invalid),
            ({"expected_head": "1"}, Invalid),
        ]
        for arguments, expected in bad:
            with pytest.raises(expected):
                storage.conversations.append(made.id, **arguments)  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            storage.conversations.append_many(made.id, [Draft(text="good"), Draft(tokens=-1)])
        with pytest.raises(Invalid):
            storage.conversations.append_many(made.id, [Draft()] * 1_001)
        assert storage.conversations.get(made.id) == made
        assert storage.conversations.messages.recent(made.id, 0) == []

    def test_c11_a_repeated_external_id_returns_the_stored_message(self, storage: Storage) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        sent = storage.conversations.append(one, "first", external_id="e")
        assert storage.conversations.append(one, "changed", external_id="e") == sent
        elsewhere = storage.conversations.append(two, "other", external_id="e")
        assert elsewhere.id != sent.id
        held = storage.conversations.get(one)
        assert held is not None
        assert (held.message_count, held.head) == (1, 1)

    def test_c11_a_repeated_operation_returns_the_stored_messages(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create().id
        drafts = [Draft(text="a"), Draft(text="b", external_id="e")]
        sent = storage.conversations.append_many(made, drafts[:1], expected_head=0, op_id="1")
        _tick(clock)
        again = storage.conversations.append_many(made, drafts[:1], expected_head=0, op_id="1")
        assert again == sent
        with pytest.raises(IdempotencyMismatch):
            storage.conversations.append(made, "other", op_id="1")
        storage.conversations.append_many(made, drafts, op_id="2")
        assert [m.text for m in storage.conversations.messages.page(made)] == ["a", "a", "b"]

    def test_c11_concurrent_repeats_store_one(self, open_storage: Callable[..., Storage]) -> None:
        handles = [open_storage(), open_storage()]
        made = handles[0].conversations.create().id

        def work(handle: Storage) -> list[str]:
            return [handle.conversations.append(made, "x", external_id=str(n)).id for n in range(5)]

        answers = together([partial(work, h) for h in handles for _ in range(3)])
        assert answers.count(answers[0]) == len(answers)
        told = handles[1].conversations.messages.recent(made, 0)
        assert [m.external_id for m in told] == ["0", "1", "2", "3", "4"]

    def test_c11_append_many_stores_what_is_new_and_answers_for_all(self, storage: Storage) -> None:
        made = storage.conversations.create().id
        known = storage.conversations.append(made, "known", external_id="1")
        answers = storage.conversations.append_many(
            made,
            [
                Draft(text="a", external_id="2"),
                Draft(text="again", external_id="1"),
                Draft(text="b"),
                Draft(text="twice", external_id="2"),
                Draft(text="b"),
            ],
        )
        assert [m.text for m in answers] == ["a", "known", "b", "a", "b"]
        assert answers[1] == known
        assert answers[0] == answers[3]
        assert [m.sequence for m in storage.conversations.messages.page(made)] == [1, 2, 3, 4]
        again = storage.conversations.append_many(made, [Draft(text="x", external_id="1")])
        assert again == [known]

    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_c12_pages_meet_every_message_once_also_at_one_instant(
        self, storage: Storage, direction: PageDirection
    ) -> None:
        made = storage.conversations.create().id
        sent = storage.conversations.append_many(made, [Draft(text=str(n)) for n in range(7)])
        expected = sent if direction == "forward" else sent[::-1]
        for limit in (1, 2, 7, 8):
            met: list[Message] = []
            cursor = None
            while True:
                page = storage.conversations.messages.page(
                    made,
                    direction=direction,
                    limit=limit,
                    cursor=cursor,
                )
                met += page
                cursor = page.next_cursor
                if cursor is None:
                    break
                assert len(page) == limit
            assert met == expected

    def test_c12_a_foreign_cursor_and_a_wild_limit_are_refused(self, storage: Storage) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        for made in (one, two):
            storage.conversations.append_many(made, [Draft(text=str(n)) for n in range(3)])
        messages = storage.conversations.messages
        cursor = messages.page(one, limit=1).next_cursor
        assert cursor is not None
        with pytest.raises(InvalidCursor):
            messages.page(two, cursor=cursor)
        with pytest.raises(InvalidCursor):
            messages.page(one, direction="backward", cursor=cursor)
        for wrong in ("", "x", cursor[:-2], cursor + "AA", 5):
            with pytest.raises(InvalidCursor):
                messages.page(one, cursor=wrong)  # type: ignore[arg-type]
        for limit in (0, -1, 1_001, None):
            with pytest.raises(Invalid):
                messages.page(one, limit=limit)  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            messages.page(one, direction="up")  # type: ignore[arg-type]

    def test_c13_recent_gives_the_last_oldest_first_and_zero_gives_all(
        self, storage: Storage
    ) -> None:
        made = storage.conversations.create().id
        sent = storage.conversations.append_many(made, [Draft(text=str(n)) for n in range(5)])
        messages = storage.conversations.messages
        assert messages.recent(made, 2) == sent[-2:]
        assert messages.recent(made, 9) == sent
        assert messages.recent(made, 0) == sent
        with pytest.raises(Invalid):
            messages.recent(made, -1)
        with pytest.raises(NotFound):
            messages.recent("no such")

    def test_c13_a_time_range_includes_both_ends(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create().id
        sent = []
        for n in range(5):
            sent.append(storage.conversations.append(made, str(n)))
            _tick(clock, 0.000001)
        between = storage.conversations.messages.between
        assert list(between(made, sent[1].created_at, sent[3].created_at)) == sent[1:4]
        assert list(between(made, start=sent[4].created_at)) == sent[4:]
        assert list(between(made, end=sent[0].created_at)) == sent[:1]
        assert list(between(made)) == sent
        with pytest.raises(Invalid):
            between(made, sent[0].created_at.replace(tzinfo=None))

    def test_c13_a_given_time_is_kept_and_the_sequence_still_rises(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        made = storage.conversations.create().id
        long_ago = clock.now() - timedelta(days=400)
        now = storage.conversations.append(made, "now")
        old = storage.conversations.append(made, "imported", created_at=long_ago)
        assert old.created_at == long_ago
        assert storage.conversations.messages.page(made).items == [now, old]

    def test_c14_names_are_joined_in_one_read_and_the_gone_keep_their_id(
        self, storage: Storage
    ) -> None:
        made = storage.conversations.create().id
        people = storage.conversations.participants
        ada, bot, gone = (
            people.add(made, name="Ada"),
            people.add(made, type="agent", name="Bot"),
            people.add(made, name="Gone"),
        )
        for n in range(10):
            storage.conversations.append(made, str(n), sender_id=ada.id, recipient_id=bot.id)
        storage.conversations.append(made, "last", sender_id=gone.id)
        assert people.remove(gone.id) is True
        counting = Counting(storage._driver)
        handle = Storage(counting, storage.scope, runtime(ManualClock(ada.created_at), "n"))
        told = handle.conversations.messages.named(handle.conversations.messages.recent(made, 0))
        assert counting.calls == ["query", "query"]
        assert told[0].sender == Party(ada.id, "user", "Ada")
        assert told[0].recipient == Party(bot.id, "agent", "Bot")
        assert told[10].sender == Party(gone.id, "", "")
        assert told[10].recipient is None

    def test_c14_a_participant_of_another_conversation_lends_no_name(
        self, storage: Storage
    ) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        other = storage.conversations.participants.add(two, name="Elsewhere")
        sent = storage.conversations.append(one, "x", sender_id=other.id)
        assert storage.conversations.messages.named([sent])[0].sender == Party(other.id)

    def test_c10_remove_counts_the_message_out(self, storage: Storage) -> None:
        made = storage.conversations.create().id
        sent = storage.conversations.append(made, "x", tokens=5)
        storage.conversations.append(made, "y", tokens=2)
        assert storage.conversations.messages.remove(sent.id) is True
        assert storage.conversations.messages.remove(sent.id) is False
        held = storage.conversations.get(made)
        assert held is not None
        assert (held.message_count, held.token_count, held.head) == (1, 2, 2)
        assert storage.conversations.append(made, "z").sequence == 3

    def test_c12_search_finds_words_filters_first_and_k_means_k(self, storage: Storage) -> None:
        one, two = (storage.conversations.create().id for _ in range(2))
        for _ in range(30):
            storage.conversations.append(two, "zebra zebra zebra")
        mine = [storage.conversations.append(one, f"a zebra among {n}").id for n in range(3)]
        found = storage.conversations.search("Zebras?", k=3, conversation_id=one)
        assert sorted(f.message.id for f in found) == sorted(mine)
        assert len(storage.conversations.search("zebra", k=20)) == 20
        assert storage.conversations.search("zebra", k=0) == []
        assert storage.conversations.search("zebra", role="tool") == []
        for hostile in ('"', "* OR NOT (", "a:b^2 ~", "   ", "", "%_\\"):
            assert storage.conversations.search(hostile) == []
        for k in (-1, 1_001, True):
            with pytest.raises(Invalid):
                storage.conversations.search("zebra", k=k)
        explained = storage.conversations.search("zebra", k=1, explain=True)[0]
        steps = {n: part for n, part in explained.parts.items() if n not in ("bm25", "cosine")}
        assert sum(steps.values()) == pytest.approx(explained.score)
