"""Writes of many tasks as one apply: every caller sees what a call of its own would have given."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from holdfast import aio
from holdfast.calls.calls import Calls, run_alone
from holdfast.core.change import ABSENT, Change, Outcome, Put
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, HoldfastError, Invalid, NotFound, Unavailable
from holdfast.core.halves import Applies, Write, begin
from holdfast.core.marks import halved, is_halved
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.layer import Layer
from holdfast.storage import Storage, all_collections
from holdfast.stores import STORES
from holdfast.stores.conversations.appending import Draft
from holdfast.stores.conversations.records import MESSAGES
from holdfast.testing import Harness
from holdfast.testing.memory import MemoryHarness
from holdfast.testing.postgres import PostgresHarness
from holdfast.testing.sqlite import SqliteHarness

PATIENCE = 60.0


class Counted(Layer):
    """Remembers how many changes each apply had, and may fail the end of a group."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        self.sizes: list[int] = []
        self.fails = False

    def apply(
        self,
        tenant: str,
        changes: Sequence[Change],
        *,
        op_id: str | None = None,
        op_body: bytes | None = None,
    ) -> list[Outcome]:
        self.sizes.append(len(changes))
        return super().apply(tenant, changes, op_id=op_id, op_body=op_body)

    @contextmanager
    def group(self) -> Iterator[None]:
        with super().group():
            yield
            if self.fails:
                raise Unavailable("The disk went away.")


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    if request.param == "postgres":
        return PostgresHarness(new=False)
    return MemoryHarness() if request.param == "memory" else SqliteHarness(tmp_path)


@pytest.fixture
def counted(driver: Driver) -> Counted:
    counted = Counted(driver)
    counted.setup(all_collections())
    return counted


@pytest.fixture
def plain(counted: Counted) -> Storage:
    return Storage(counted, Scope(), Runtime())


def together(plain: Storage, make: Callable[[aio.Storage], list[Awaitable[Any]]]) -> list[Any]:
    """The answers of calls that all wait while the writer is busy with another."""

    async def through() -> list[Any]:
        storage, entered, gate = aio.Storage(plain), threading.Event(), threading.Event()

        def stand() -> None:
            entered.set()
            assert gate.wait(PATIENCE)

        first = storage._calls.write(stand)
        assert await run_alone(entered.wait, PATIENCE)
        calls = [asyncio.ensure_future(call) for call in make(storage)]
        await asyncio.sleep(0)
        gate.set()
        await first
        answers = await asyncio.gather(*calls, return_exceptions=True)
        storage._calls.stop()
        return answers

    return asyncio.run(through())


def conversations(plain: Storage, count: int) -> list[str]:
    return [plain.conversations.create().id for _ in range(count)]


def texts(plain: Storage, conversation: str) -> list[tuple[int, str]]:
    listed = plain.conversations.messages.page(conversation, limit=100).items
    return sorted((message.sequence, message.text) for message in listed)


class TestAnswers:
    def test_appends_of_many_tasks_are_one_apply_and_answer_as_each_alone(
        self, plain: Storage, counted: Counted
    ) -> None:
        held = conversations(plain, 4)
        counted.sizes.clear()
        answers = together(
            plain,
            lambda storage: [
                storage.conversations.append(held[n % 4], f"text {n}", metadata={"n": n})
                for n in range(20)
            ],
        )
        assert counted.sizes == [40]
        for n, message in enumerate(answers):
            assert (message.text, message.metadata) == (f"text {n}", {"n": n})
            assert (message.conversation_id, message.sequence) == (held[n % 4], n // 4 + 1)
            assert plain.conversations.messages.get(message.id) == message
        for conversation in held:
            stored = plain.conversations.get(conversation)
            assert stored is not None
            assert (stored.head, stored.message_count) == (5, 5)

    def test_who_is_refused_is_refused_alone(self, plain: Storage, counted: Counted) -> None:
        mine, other = conversations(plain, 2)
        used = plain.conversations.append(other, "before").id
        strange = plain.scoped(agent="b").conversations.create().id
        bound = plain.scoped(agent="a")
        answers = together(
            plain,
            lambda storage: [
                storage.conversations.append(mine, "first"),
                storage.conversations.append("nobody", "lost"),
                storage.conversations.append(mine, "second"),
                storage.conversations.append(mine, "again", message_id=used),
                storage.conversations.append(mine, "never", role="nobody"),  # type: ignore[arg-type]
                aio.Storage(bound, storage._calls).conversations.append(strange, "foreign"),
                storage.conversations.append(other, "third"),
            ],
        )
        kinds = [type(answer) for answer in answers]
        message = kinds[0]
        assert kinds == [message, NotFound, message, Conflict, Invalid, NotFound, message]
        assert texts(plain, mine) == [(1, "first"), (2, "second")]
        assert texts(plain, other) == [(1, "before"), (2, "third")]
        assert texts(plain, strange) == []
        assert answers[3].context["unique"] == "key"

    def test_each_tenant_has_an_apply_of_its_own(self, plain: Storage, counted: Counted) -> None:
        tenants = [Storage(counted, Scope(tenant=name), Runtime()) for name in "ab"]
        held = [conversations(tenant, 1)[0] for tenant in tenants]
        counted.sizes.clear()
        together(
            plain,
            lambda storage: [
                aio.Storage(tenants[n % 2], storage._calls).conversations.append(
                    held[n % 2], f"{n}"
                )
                for n in range(6)
            ],
        )
        assert counted.sizes == [6, 6]
        assert texts(tenants[1], held[1]) == [(1, "1"), (2, "3"), (3, "5")]
        assert plain.conversations.get(held[0]) is None

    def test_what_may_have_happened_before_is_asked_call_by_call(self, plain: Storage) -> None:
        [held] = conversations(plain, 1)
        answers = together(
            plain,
            lambda storage: [
                storage.conversations.append(held, "zero"),
                storage.conversations.append(held, "one", external_id="e"),
                storage.conversations.append(held, "two", external_id="e"),
                storage.conversations.append(held, "three", op_id="o"),
                storage.conversations.append(held, "three", op_id="o"),
                storage.conversations.append(held, "four", expected_head=3),
                storage.conversations.append(held, "five", expected_head=3),
                storage.conversations.append(held, "six"),
            ],
        )
        assert answers[1] == answers[2]
        assert answers[3] == answers[4]
        assert isinstance(answers[6], Conflict)
        names = [(1, "zero"), (2, "one"), (3, "three"), (4, "four"), (5, "six")]
        assert texts(plain, held) == names

    def test_a_group_that_fails_fails_all_of_it(self, plain: Storage, counted: Counted) -> None:
        [held] = conversations(plain, 1)
        counted.fails = True
        answers = together(
            plain,
            lambda storage: [storage.conversations.append(held, f"{n}") for n in range(3)],
        )
        assert [type(answer) for answer in answers] == [Unavailable] * 3

    def test_a_cancelled_call_is_not_begun(self, plain: Storage, counted: Counted) -> None:
        [held] = conversations(plain, 1)

        def make(storage: aio.Storage) -> list[Awaitable[Any]]:
            calls = [
                asyncio.ensure_future(storage.conversations.append(held, f"{n}")) for n in range(3)
            ]
            asyncio.get_running_loop().call_soon(calls[1].cancel)
            return [*calls]

        answers = together(plain, make)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert texts(plain, held) == [(1, "0"), (2, "2")]


class TestStores:
    def test_values_are_set_by_one_apply(self, plain: Storage, counted: Counted) -> None:
        plain.kv.set("key 0", "before")
        counted.sizes.clear()
        answers = together(
            plain,
            lambda storage: [
                *(storage.kv.set(f"key {n % 3}", n) for n in range(6)),
                storage.kv.set("key 1", 7, expected_version=2),
                storage.kv.set("key 1", 8, expected_version=2),
                storage.kv.set("key 1", 9, op_id="o"),
                *(storage.kv.set("key 2", n) for n in range(2)),
                storage.kv.set("key 2", 2, expected_version=0),
            ],
        )
        assert counted.sizes == [6, 1, 1, 1, 2, 1]
        assert [entry.version for entry in answers[:6]] == [2, 1, 1, 3, 2, 2]
        assert [entry.value for entry in answers[:6]] == [0, 1, 2, 3, 4, 5]
        assert [type(answers[n]) for n in (7, 11)] == [Conflict, Conflict]
        assert [answers[n].version for n in (6, 8, 9, 10)] == [3, 4, 3, 4]
        assert [plain.kv.get(f"key {n}") for n in range(3)] == [3, 9, 1]
        created = plain.kv.entry("key 0")
        assert created is not None
        assert created.created_at < created.updated_at

    def test_tool_events_are_one_apply_and_refused_alone(
        self, plain: Storage, counted: Counted
    ) -> None:
        mine, other = plain.sessions.create().id, plain.sessions.create().id
        counted.sizes.clear()
        first = together(
            plain,
            lambda storage: [
                storage.tool_events.append(mine, "grep", input="a"),
                storage.tool_events.append(other, "find", input="b"),
                storage.tool_events.append(mine, "grep", input="c"),
            ],
        )
        assert counted.sizes == [6]
        second = together(
            plain,
            lambda storage: [
                storage.tool_events.append("nobody", "grep"),
                storage.tool_events.append(mine, "grep", input="d"),
            ],
        )
        assert isinstance(second[0], NotFound)
        kept = plain.tool_events.list(session_id=mine).items
        assert kept == [first[0], first[2], second[1]]
        assert [event.sequence for event in kept] == [1, 2, 3]


class TestRefusals:
    def test_after_a_refusal_each_write_is_done_by_itself_for_some_rounds(
        self, plain: Storage, counted: Counted
    ) -> None:
        [held] = conversations(plain, 1)
        applies, append = Applies(), plain.conversations.append

        def together(*targets: str) -> list[bool]:
            writes = [begin(append, target, "text") for target in targets]
            assert all(isinstance(write, Write) for write in writes)
            return [made is not None for made in applies.outcomes(writes)]  # type: ignore[arg-type]

        done, left = [True, True], [False, False]
        assert together(held, held) == done
        assert together(held, "nobody") == left
        assert together(held) == [False]  # which there was nothing to share for
        assert [together(held, held) for _ in range(2)] == [left, done]
        assert together(held, "nobody") == left
        assert together(held, held) == left
        assert together("nobody", held) == left
        assert [together(held, held) for _ in range(4)] == [left, left, left, done]
        assert texts(plain, held) == [(n, "text") for n in range(1, 7)]


class TestOrder:
    @pytest.mark.parametrize("seed", range(8))
    def test_what_is_asked_at_once_is_answered_as_if_asked_in_turn(
        self, open_storage: Callable[..., Storage], seed: int
    ) -> None:
        chance = random.Random(seed)
        here, there = (open_storage(tenant=name) for name in ("here", "there"))
        held = [(conversations(here, 1)[0], conversations(there, 1)[0]) for _ in range(3)]
        sessions = (here.sessions.create().id, there.sessions.create().id)
        asked = [_some_call(chance, number, held, sessions) for number in range(60)]
        at_once = together(here, lambda storage: [call(storage, 0) for call in asked])
        for call, answer in zip(asked, at_once, strict=True):
            try:
                expected = call(there, 1)
            except HoldfastError as error:
                expected = error
            assert _shown(answer) == _shown(expected)


def _some_call(
    chance: random.Random,
    number: int,
    held: list[tuple[str, str]],
    sessions: tuple[str, str],
) -> Callable[[Any, int], Any]:
    """A call of a storage, of which there are two; now and then one that is refused."""
    kind, chosen = chance.randrange(11), chance.choice(held)
    key, text = f"key {chance.randrange(3)}", f"text {number}"
    if kind < 3:
        return lambda storage, side: storage.conversations.append(chosen[side], text)
    if kind < 5:
        return lambda storage, side: storage.kv.set(key, number)
    if kind == 5:
        return lambda storage, side: storage.tool_events.append(sessions[side], "grep", input=text)
    if kind == 6:
        version = chance.randrange(3)
        return lambda storage, side: storage.kv.set(key, number, expected_version=version)
    if kind == 7:
        return lambda storage, side: storage.sessions.count(sessions[side], turns=number)
    if kind == 8:
        label = chance.choice(["", "label"])
        return lambda storage, side: storage.sessions.set_label(sessions[side], label)
    if kind == 9:
        named = chance.choice(["e", "f", None])
        return lambda storage, side: storage.conversations.append(
            chosen[side], text, external_id=named, op_id=None if named else f"o{number}"
        )
    missing, head = chance.random() < 0.3, chance.choice([None, 2])
    return lambda storage, side: storage.conversations.append(
        "nobody" if missing else chosen[side], text, expected_head=head
    )


def _shown(answer: Any) -> tuple[Any, ...]:
    """What two storages have in common: neither ids nor times."""
    if isinstance(answer, HoldfastError):
        return type(answer), answer.context.get("unique")
    names = ("sequence", "text", "version", "value", "input", "turns", "label")
    return type(answer), *(getattr(answer, name, None) for name in names)


class Verbs:
    """Halved verbs that say where they run."""

    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    def __init__(self, storage: Storage) -> None:
        self._messages = storage.conversations

    @halved()
    def say(self, conversation: str, *, fails: bool = False) -> str:
        began = self.who.get()
        if fails:
            raise KeyError(began)
        record = self._messages._message(conversation, Draft(text=began), self._messages._now())

        def answer(outcomes: list[Outcome]) -> str:
            return f"{began} {self.who.get()} {outcomes[0].record['text']}"

        put: list[Change] = [Put(MESSAGES.name, record, ABSENT)]
        return self._messages._perform(put, answer, lambda _: None)


class TestHalves:
    def test_both_see_the_context_of_their_task(self, plain: Storage, counted: Counted) -> None:
        [held] = conversations(plain, 1)
        verbs = Verbs(plain)

        async def say(storage: aio.Storage, name: str) -> str:
            Verbs.who.set(name)
            return await storage._calls.write(verbs.say, held)

        counted.sizes.clear()
        answers = together(plain, lambda storage: [say(storage, name) for name in "ab"])
        assert answers == ["a a a", "b b b"]
        assert counted.sizes == [2]

    def test_a_thread_that_began_one_does_the_next_whole(self, plain: Storage) -> None:
        [held] = conversations(plain, 1)
        append = plain.conversations.append
        left = begin(append, held, "left")
        assert isinstance(left, Write)
        assert texts(plain, held) == []
        assert append(held, "whole").sequence == 1
        with pytest.raises(Invalid):
            begin(append, held, 7)  # type: ignore[arg-type]
        assert append(held, "whole too").sequence == 2
        assert begin(append, held, "named", external_id="e").sequence == 3  # type: ignore[union-attr]
        assert append(held, "whole again").sequence == 4
        assert left.finish().sequence == 5

    def test_another_thread_is_not_meant(self, plain: Storage) -> None:
        [held] = conversations(plain, 1)
        append, seen = plain.conversations.append, []

        @halved()
        def verb() -> object:
            run = threading.Thread(target=lambda: seen.append(append(held, "elsewhere").sequence))
            run.start()
            run.join()
            return append(held, "here")

        assert isinstance(begin(verb), Write)
        assert seen == [1]

    def test_where_no_commit_is_shared_each_call_is_done_whole(
        self, plain: Storage, counted: Counted
    ) -> None:
        [held] = conversations(plain, 1)
        counted.sizes.clear()

        async def through() -> None:
            calls = Calls(nullcontext)
            append = plain.conversations.append
            await asyncio.gather(*(calls.write(append, held, f"{n}") for n in range(4)))
            calls.stop()

        asyncio.run(through())
        assert counted.sizes == [2] * 4

    def test_every_verb_that_says_so_leaves_its_write(self, plain: Storage) -> None:
        [held] = conversations(plain, 1)
        session = plain.sessions.create().id
        given: dict[str, tuple[Any, ...]] = {
            "Conversations.append": (held, "text"),
            "KeyValue.set": ("key", "value"),
            "ToolEvents.append": (session, "grep"),
            "Sessions.count": (session,),
            "Sessions.merge_metadata": (session, {"a": 1}),
            "Sessions.replace_metadata": (session, {"a": 1}),
            "Sessions.set_label": (session, "label"),
            "Sessions.set_status": (session, "idle"),
        }
        marked = {
            f"{store.__name__}.{name}": getattr(plain.store(store), name)
            for store in STORES.values()
            for name in dir(store)
            if is_halved(getattr(store, name), {})
        }
        assert marked.keys() == given.keys()
        for name, verb in marked.items():
            assert isinstance(begin(verb, *given[name]), Write), name
