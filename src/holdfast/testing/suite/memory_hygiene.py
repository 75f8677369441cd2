"""What does a memory no good: N5."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Invalid, InvalidCursor
from holdfast.storage import Storage
from holdfast.stores.memory import Memories, MemoryPolicy, hygiene
from holdfast.stores.memory.hygiene import CATEGORIES, PAIRS, Category
from holdfast.testing.models import AngleEmbedder, with_models


def by_words(storage: Storage) -> Memories:
    return with_models(storage, embedder=None).memory


def listed(memory: Memories, category: str) -> list[tuple[str, str | None]]:
    contents = {m.id: m.content for m in memory.list(limit=1_000)}
    return [
        (found.memory.content, None if found.other is None else contents[found.other])
        for found in memory.hygiene.list(cast("Category", category))
    ]


class TestMemoryHygiene:
    def test_n5_junk_says_nothing_or_the_same_over_and_over(self, storage: Storage) -> None:
        memory = by_words(storage)
        for junk in ("ok thanks", "?!", "lol " * 12, "hi there!"):
            memory.remember(junk)
        for sound in ("vegetarian", "row row row your boat", "他喝咖啡不加糖。"):
            memory.remember(sound)
        assert {content for content, _ in listed(memory, "junk")} == {
            "ok thanks",
            "?!",
            "lol " * 12,
            "hi there!",
        }
        strict = memory.configured(MemoryPolicy(junk_terms=2))
        assert ("vegetarian", None) in listed(strict, "junk")
        lax = memory.configured(MemoryPolicy(junk_variety=0.0))
        assert ("lol " * 12, None) not in listed(lax, "junk")

    @pytest.mark.needs_vectors
    def test_n5_near_duplicates_are_the_newer_of_a_pair(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        for content in ("apples @0", "pears @10", "plums @90"):
            memory.remember(content)
            clock.set(clock.now() + timedelta(days=1))
        assert listed(memory, "near_duplicate") == [("pears @10", "apples @0")]
        [found] = memory.hygiene.list("near_duplicate").items
        assert found.score == pytest.approx(0.9848, abs=1e-3)
        strict = memory.configured(MemoryPolicy(duplicate_similarity=0.99))
        assert listed(strict, "near_duplicate") == []
        other = with_models(storage.scoped(user="u"), embedder=AngleEmbedder()).memory
        other.remember("figs @0")
        assert listed(other, "near_duplicate") == []

    def test_n5_without_vectors_words_tell_near_duplicates(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = by_words(storage)
        memory.remember("Ada drinks green tea")
        clock.set(clock.now() + timedelta(days=1))
        memory.remember("Green tea: Ada drinks it")
        memory.remember("Ada drinks green tea daily")
        assert listed(memory, "near_duplicate") == [
            ("Green tea: Ada drinks it", "Ada drinks green tea")
        ]

    def test_n5_turns_of_a_conversation_may_repeat(self, storage: Storage) -> None:
        memory = by_words(storage)
        for turn in range(3):
            memory.remember("Ada drinks green tea", session="s", turn=turn)
        for category in PAIRS:
            assert listed(memory, category) == []

    def test_n5_an_echo_was_recalled_just_before_it_was_written(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = by_words(storage)
        memory.remember("the harbour office opens at dawn")
        memory.remember("the bakery closes at noon")
        clock.set(clock.now() + timedelta(days=2))
        assert len(memory.recall("harbour", reinforce=True)) == 1
        clock.set(clock.now() + timedelta(minutes=5))
        echo = memory.remember("I recall that the harbour office opens at dawn")
        memory.remember("I know that the bakery closes at noon")
        [found] = memory.hygiene.list("echo").items
        assert (found.memory.id, found.score) == (echo.id, 1.0)
        assert echo.content not in {content for content, _ in listed(memory, "near_duplicate")}
        impatient = memory.configured(MemoryPolicy(echo_seconds=60))
        assert listed(impatient, "echo") == []
        # On record are the latest access and the first of its day, so this one passes out of it.
        clock.set(clock.now() + timedelta(days=3))
        memory.recall("harbour", reinforce=True)
        assert listed(memory, "echo") == []

    def test_n5_never_recalled(self, storage: Storage, clock: ManualClock) -> None:
        memory = by_words(storage)
        memory.remember_many(["seen apples", "unseen pears"])
        memory.recall("apples", reinforce=True)
        clock.set(clock.now() + timedelta(days=30) - timedelta(seconds=1))
        assert listed(memory, "never_recalled") == []
        clock.set(clock.now() + timedelta(seconds=1))
        memory.remember("just written")
        assert listed(memory, "never_recalled") == [("unseen pears", None)]
        [found] = memory.hygiene.list("never_recalled").items
        assert found.score == 30.0
        hasty = memory.configured(MemoryPolicy(unrecalled_days=0))
        assert len(listed(hasty, "never_recalled")) == 2

    @pytest.mark.parametrize(
        ("older", "newer", "conflicts"),
        [
            ("The rent is 900 euros a month", "The rent is 950 euros a month", True),
            ("Ada likes green tea", "Ada doesn't like green tea", True),
            ("Das Café hat sonntags geöffnet", "Das Café hat sonntags nicht geöffnet", True),
            ("他喝咖啡加糖", "他喝咖啡不加糖", True),
            ("عام ٢٠٢٣ سافرت إلى باريس", "عام ٢٠٢٤ سافرت إلى باريس", True),
            ("The rent is 900 euros a month", "Monthly: the rent is 900 euros", False),
            ("Ada likes green tea", "Ada likes black coffee", False),
            ("The rent is ٩٠٠ euros a month", "The rent is 900 euros, monthly", False),
        ],
    )
    def test_n5_conflicting_ones_differ_in_a_number_or_a_negation(
        self, storage: Storage, clock: ManualClock, older: str, newer: str, conflicts: bool
    ) -> None:
        memory = by_words(storage)
        memory.remember(older)
        clock.set(clock.now() + timedelta(days=1))
        memory.remember(newer)
        assert listed(memory, "conflicting") == ([(older, newer)] if conflicts else [])
        if conflicts:
            assert listed(memory, "near_duplicate") == []

    def test_n5_measured_as_counts_and_shares(self, storage: Storage, clock: ManualClock) -> None:
        memory = by_words(storage)
        assert memory.hygiene.measure().live == 0
        memory.remember_many(["ok thanks", "Ada drinks green tea", "plums", "figs"])
        memory.pin(memory.recall("plums")[0].memory.id)
        clock.set(clock.now() + timedelta(days=40))
        memory.remember("Green tea: Ada drinks it")
        report = memory.hygiene.measure()
        assert report.live == 5
        assert report.categories.keys() == set(CATEGORIES)
        told = {name: (one.count, one.share, one.pinned) for name, one in report.categories.items()}
        assert told == {
            "junk": (1, 0.2, 0),
            "near_duplicate": (1, 0.2, 0),
            "echo": (0, 0.0, 0),
            "never_recalled": (4, 0.8, 1),
            "conflicting": (0, 0.0, 0),
        }
        assert memory.hygiene.measure(["junk"]).categories.keys() == {"junk"}

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize("together", [hygiene.TOGETHER, 3])
    def test_n5_measured_as_listed(
        self,
        storage: Storage,
        clock: ManualClock,
        monkeypatch: pytest.MonkeyPatch,
        together: int,
    ) -> None:
        monkeypatch.setattr(hygiene, "TOGETHER", together)
        fruits = ("plums", "figs", "pears", "quinces")
        for user in ("u", "v"):
            scoped = with_models(storage.scoped(user=user), embedder=AngleEmbedder()).memory
            for n in range(24):
                most = f"{'no ' * (n % 5 == 3)}{fruits[n % 4]}"
                scoped.remember(f"{most} of Ada, green and sour @{3 * n + len(user)}")
                clock.set(clock.now() + timedelta(minutes=4))
            scoped.remember("plums of Bob @0", session="s", turn=1)
            scoped.remember("the harbour office opens at dawn @200")
            by_words(storage.scoped(user=user)).recall("harbour", reinforce=True)
            clock.set(clock.now() + timedelta(minutes=4))
            scoped.remember("I recall that the harbour office opens at dawn @200")
        by_words(storage.scoped(user="v")).remember("plums of Ada, green and sour")
        for each in (storage, storage.scoped(user="v"), storage.scoped(user="nobody")):
            memory = with_models(each, embedder=AngleEmbedder()).memory
            report = memory.hygiene.measure([*PAIRS, *PAIRS])
            told = {name: one.count for name, one in report.categories.items()}
            assert told == {name: len(listed(memory, name)) for name in PAIRS}
            assert each.scope.user == "nobody" or all(told.values())

    def test_n5_listed_page_by_page(self, open_storage: Callable[..., Storage]) -> None:
        memory = by_words(open_storage())
        kept = memory.remember_many([f"{'! ' * n}ok" for n in range(1, 8)] + ["plums", "figs"])
        junk = sorted(m.id for m in kept if m.content.endswith("ok"))
        seen: list[str] = []
        cursor = None
        while True:
            page = memory.hygiene.list("junk", limit=3, cursor=cursor)
            seen += [found.memory.id for found in page]
            cursor = page.next_cursor
            if cursor is None:
                break
            memory.remember(f"{len(seen)} plums more")
        assert seen == junk
        first = memory.hygiene.list("junk", limit=3).next_cursor
        elsewhere: list[tuple[Memories, Category]] = [
            (memory, "echo"),
            (by_words(open_storage(user="u")), "junk"),
            (by_words(open_storage(tenant="other")), "junk"),
        ]
        for handle, category in elsewhere:
            with pytest.raises(InvalidCursor):
                handle.hygiene.list(category, cursor=first)

    def test_n5_cleaned_on_request_and_brought_back(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        memory = by_words(storage)
        junk = memory.remember_many(["ok thanks", "yes!", "hey ho"])
        memory.remember("plums")
        memory.pin(junk[0].id)
        tried = memory.hygiene.clean("junk")
        assert (tried.count, tried.spared, tried.dry_run) == (1, 1, True)
        assert memory.stats().live == 4
        done = memory.hygiene.clean("junk", dry_run=False)
        assert (done.count, done.spared, done.dry_run) == (1, 1, False)
        assert memory.stats().live == 3
        assert memory.hygiene.clean("junk", dry_run=False).count == 0
        [event] = memory.history.events(junk[1].id).items
        assert (event.action, event.detail) == ("cleaned", {"category": "junk", "other": None})
        assert memory.history.restore(junk[1].id).content == "yes!"
        clock.set(clock.now() + timedelta(days=31))
        assert memory.hygiene.clean("never_recalled", dry_run=False, limit=2).count == 2

    @pytest.mark.needs_vectors
    def test_n5_of_a_pair_one_always_stays(self, storage: Storage, clock: ManualClock) -> None:
        memory = with_models(storage, embedder=AngleEmbedder()).memory
        for n in range(5):
            memory.remember(f"apples {n} @{n}", id=str(9 - n))
            clock.set(clock.now() + timedelta(seconds=1))
        memory = memory.configured(MemoryPolicy(conflict_overlap=1.0, duplicate_similarity=0.999))
        while memory.hygiene.clean("near_duplicate", dry_run=False).count:
            pass
        assert memory.stats().live >= 1
        assert memory.get("9") is not None

    def test_n5_what_changed_since_it_was_judged_stays(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        memory, other = by_words(open_storage()), by_words(open_storage())
        [kept] = memory.remember_many(["ok thanks"])
        [found] = memory.hygiene.list("junk").items
        other.update(kept.id, content="ok, plums then")
        assert memory.hygiene._forget(found) is False
        assert memory.get(kept.id) is not None
        assert list(memory.history.events(kept.id)) == []

    def test_n5_bad_arguments(self, storage: Storage) -> None:
        hygiene: Any = storage.memory.hygiene
        for call in (
            lambda: hygiene.list("dust"),
            lambda: hygiene.list("junk", limit=0),
            lambda: hygiene.list("junk", limit=1_001),
            lambda: hygiene.clean("dust"),
            lambda: hygiene.clean("junk", dry_run=0),
            lambda: hygiene.clean("junk", limit=10_001),
            lambda: hygiene.measure(["dust"]),
            lambda: MemoryPolicy(echo_overlap=1.1),
            lambda: MemoryPolicy(junk_terms=-1),
        ):
            with pytest.raises(Invalid):
                call()
