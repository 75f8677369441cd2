"""The canonical session: C18-C20."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from holdfast.core.errors import Conflict, Invalid
from holdfast.storage import Storage
from holdfast.stores.conversations.appending import Draft
from holdfast.testing.threads import together


class TestCanonical:
    def test_c18_made_when_first_needed_and_one_per_scope(self, storage: Storage) -> None:
        made = storage.sessions.canonical.session()
        assert storage.sessions.canonical.session() == made
        assert made.canonical is True
        mine = storage.with_agent("a").sessions.canonical.session()
        assert mine.id != made.id
        assert storage.with_agent("a").sessions.canonical.session() == mine
        storage.with_agent("a").sessions.canonical.append("mine")
        assert storage.sessions.canonical.window().messages == []
        theirs = storage.scoped(tenant="t2").sessions.canonical
        assert theirs.window().messages == []

    def test_c18_two_threads_of_fifty_appends_keep_all(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]

        def work(handle: Storage, name: str) -> None:
            for n in range(50):
                handle.sessions.canonical.append(f"{name}{n}")

        together([partial(work, handle, name) for handle, name in zip(handles, "ab", strict=True)])
        told = handles[0].sessions.canonical.window(0)
        assert sorted(m.text for m in told.messages) == sorted(
            f"{name}{n}" for name in "ab" for n in range(50)
        )
        assert [m.sequence for m in told.messages] == list(range(1, 101))
        assert len(handles[1].sessions.list()) == 1

    def test_c19_at_the_threshold_nothing_is_folded(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=str(n)) for n in range(100)])
        assert canonical.compact() == 0
        assert len(canonical.window(0).messages) == 100

    def test_c19_above_it_the_last_fifty_stay_and_the_rest_is_summarised(
        self, storage: Storage
    ) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=f"say {n}", tokens=2) for n in range(101)])
        assert canonical.compact() == 51
        told = canonical.window(0)
        assert [m.text for m in told.messages] == [f"say {n}" for n in range(51, 101)]
        assert told.summary == "\n".join(f"user: say {n}" for n in range(51))
        session = canonical.session()
        assert session.summarised_through == 51
        assert session.conversation_id is not None
        held = storage.conversations.get(session.conversation_id)
        assert held is not None
        assert (held.message_count, held.token_count, held.head) == (50, 100, 101)
        assert canonical.append("next").sequence == 102
        assert canonical.compact() == 0

    def test_c19_messages_and_summary_are_cut_at_characters(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
        canonical.append("e\u0301" * 3)
        canonical.append(family)
        canonical.append("ab")
        assert canonical.compact(threshold=0, keep=0, message_characters=3) == 3
        # Three characters would tear the second accent, and the family, apart.
        assert canonical.window().summary == "user: e\u0301\nuser: \nuser: ab"
        canonical.append("z")
        canonical.compact(threshold=0, keep=0, summary_characters=12)
        assert canonical.window().summary == "r: ab\nuser: z"[-12:]
        canonical.append("ae\u0301")
        canonical.compact(threshold=0, keep=0, summary_characters=1)
        assert canonical.window().summary == ""

    def test_c19_the_summary_is_bounded_and_the_oldest_fades(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=f"{n:03d}" + "x" * 500) for n in range(120)])
        canonical.compact()
        summary = canonical.window().summary
        assert len(summary) == 4_000
        assert summary.endswith("\nuser: 069" + "x" * 197)
        assert "user: 001" not in summary

    def test_c19_compaction_beside_appends_loses_and_doubles_nothing(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        handles[0].sessions.canonical.append_many([Draft(text=f"w{n}") for n in range(30)])

        def append(handle: Storage) -> int:
            for n in range(30, 50):
                handle.sessions.canonical.append(f"w{n}")
            return 0

        def compact(handle: Storage) -> int:
            return sum(
                handle.sessions.canonical.compact(
                    threshold=10, keep=5, summary_characters=1_000_000
                )
                for _ in range(4)
            )

        folded = together([partial(append, handles[0]), *(partial(compact, h) for h in handles)])
        told = handles[0].sessions.canonical.window(0)
        kept = [m.text for m in told.messages]
        lines = [line.removeprefix("user: ") for line in told.summary.split("\n")]
        assert lines + kept == [f"w{n}" for n in range(50)]
        assert len(lines) == sum(folded)
        conversation = handles[1].sessions.canonical.session().conversation_id
        assert conversation is not None
        held = handles[1].conversations.get(conversation)
        assert held is not None
        assert (held.message_count, held.head) == (len(kept), 50)

    def test_c20_a_summary_replaces_what_was_read(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=str(n), tokens=1) for n in range(10)])
        read = canonical.window(0)
        assert canonical.store_summary("short", expected_head=read.head, keep=3) == 7
        told = canonical.window(0)
        assert (told.summary, [m.text for m in told.messages]) == ("short", ["7", "8", "9"])
        assert canonical.store_summary("shorter", expected_head=told.head, keep=3) == 0
        assert canonical.window().summary == "shorter"

    def test_c20_an_append_since_the_read_is_a_conflict(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=str(n)) for n in range(10)])
        read = canonical.window(0)
        canonical.append("unseen")
        with pytest.raises(Conflict) as raised:
            canonical.store_summary("stale", expected_head=read.head, keep=0)
        assert raised.value.context == {"expected": 10, "head": 11}
        told = canonical.window(0)
        assert (told.summary, len(told.messages)) == ("", 11)

    def test_c20_a_concurrent_append_is_never_dropped(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]
        canonical = handles[0].sessions.canonical
        canonical.append("w0")

        def append() -> None:
            for n in range(1, 21):
                handles[1].sessions.canonical.append(f"w{n}")

        def summarise() -> None:
            for _ in range(20):
                read = canonical.window(0)
                texts = [m.text for m in read.messages]
                summary = " ".join([read.summary, *texts]).strip()
                try:
                    canonical.store_summary(summary, expected_head=read.head, keep=0)
                except Conflict:
                    continue

        together([append, summarise])
        told = canonical.window(0)
        words = told.summary.split() + [m.text for m in told.messages]
        assert words == [f"w{n}" for n in range(21)]

    def test_c18_it_begins_anew_when_its_conversation_was_deleted(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append("x")
        canonical.compact(threshold=0, keep=0)
        first = canonical.session()
        assert first.conversation_id is not None
        storage.conversations.delete(first.conversation_id)
        assert canonical.window() == canonical.window(0)
        assert canonical.window().summary == ""
        assert canonical.append("y").sequence == 1
        assert canonical.session().id == first.id

    def test_c22_deleting_it_removes_its_messages(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        sent = canonical.append("doomed")
        session = canonical.session()
        assert list(storage.sessions.delete(session.id)) == [session.id]
        assert storage.conversations.messages.get(sent.id) is None
        assert canonical.session().id != session.id

    def test_c19_bad_limits_are_refused(self, storage: Storage) -> None:
        canonical = storage.sessions.canonical
        canonical.append_many([Draft(text=str(n)) for n in range(5)])
        wrong: list[dict[str, int]] = [
            {"keep": -1},
            {"threshold": 3, "keep": 4},
            {"threshold": 3, "keep": 1, "message_characters": 0},
            {"threshold": 3, "keep": 1, "summary_characters": 0},
        ]
        for arguments in wrong:
            with pytest.raises(Invalid):
                canonical.compact(**arguments)
        with pytest.raises(Invalid):
            canonical.store_summary("a\x00", expected_head=5, keep=0)
        with pytest.raises(Invalid):
            canonical.store_summary("a", expected_head=5, keep=-1)
        with pytest.raises(Invalid):
            canonical.window(-1)
        assert len(canonical.window(0).messages) == 5
