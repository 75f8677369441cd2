"""Repeated operations: what a caller who never heard the answer may send again."""

from __future__ import annotations

from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.storage import Storage
from holdfast.stores.audit.audit import AuditEvent
from holdfast.stores.conversations.appending import Draft
from holdfast.testing.shapes import NOON
from holdfast.testing.suite.subclasses import STAMP, Number, Word


def _begun(storage: Storage) -> Callable[[str], Any]:
    return lambda title: storage.sessions.begin(title=title, op_id="op")


def _added(storage: Storage) -> Callable[[str], Any]:
    conversation = storage.conversations.create().id
    add = storage.conversations.participants.add
    return lambda name: add(conversation, name=name, op_id="op")


def _completed(storage: Storage) -> Callable[[str], Any]:
    task, token = _claimed(storage)
    return lambda result: storage.tasks.complete(task, token, result=result, op_id="op")


def _failed(storage: Storage) -> Callable[[str], Any]:
    task, token = _claimed(storage)
    return lambda error: storage.tasks.fail(task, token, error, op_id="op")


def _failed_for_good(storage: Storage) -> Callable[[str], Any]:
    task, token = _claimed(storage)
    return lambda error: storage.tasks.fail(task, token, error, retry=False, op_id="op")


def _deleted(storage: Storage) -> Callable[[str], Any]:
    for key in ("a", "b"):
        storage.kv.set(key, 1)
    return lambda key: storage.kv.delete(key, op_id="op")


def _forgotten(storage: Storage) -> Callable[[str], Any]:
    ids = {name: storage.memory.remember(name).id for name in ("a", "b")}
    return lambda name: storage.memory.forget(ids[name], op_id="op")


def _forgotten_in_the_archive(storage: Storage) -> Callable[[str], Any]:
    ids = {name: storage.memory.remember(name).id for name in ("a", "b")}
    for memory in ids.values():
        storage.memory.archive.put([memory])
    return lambda name: storage.memory.forget(ids[name], op_id="op")


Said = tuple[Callable[[Storage, Any], object], Any, Any]
"""A call, what it is given, and the same in plain values."""

IN_OTHER_CLASSES: Final[dict[str, Said]] = {
    "text": (lambda s, v: s.memory.remember(v, op_id="op"), Word("x"), "x"),
    "an instant": (
        lambda s, v: s.memory.remember("x", said_at=v, op_id="op"),
        STAMP,
        NOON,
    ),
    "a number": (
        lambda s, v: s.kv.set("k", 1, ttl_seconds=v, op_id="op"),
        Number(60.0),
        60.0,
    ),
    "a lease": (
        lambda s, v: s.tasks.claim("w", lease_seconds=v, op_id="op"),
        Number(60.0),
        60.0,
    ),
    "a whole number": (lambda s, v: s.kv.set("k", 1, ttl_seconds=v, op_id="op"), 60, 60.0),
    "a whole lease": (lambda s, v: s.tasks.claim("w", lease_seconds=v, op_id="op"), 60, 60.0),
    "a mapping": (
        lambda s, v: s.sessions.create(metadata=v, op_id="op"),
        MappingProxyType({"a": UserDict(b=1)}),
        {"a": {"b": 1}},
    ),
    "a mapping of mappings": (
        lambda s, v: s.kv.set("k", v, op_id="op"),
        ChainMap({"a": 1}, {"b": 2}),
        {"b": 2, "a": 1},
    ),
    "a list": (
        lambda s, v: s.memory.remember("x", tags=v, op_id="op"),
        UserList(["a"]),
        ["a"],
    ),
    "a queue": (
        lambda s, v: s.memory.remember("x", tags=v, op_id="op"),
        deque([Word("a")]),
        ["a"],
    ),
    "an event": (
        lambda s, v: s.audit.append_many([AuditEvent(action="a", data=v)], op_id="op"),
        MappingProxyType({"a": 1}),
        {"a": 1},
    ),
    "a checkpoint": (
        lambda s, v: s.checkpoints.save(b"x", iteration=1, metadata=v, op_id="op"),
        MappingProxyType({"a": 1}),
        {"a": 1},
    ),
    "an operation's id": (lambda s, v: s.kv.set("k", 1, op_id=v), Word("op"), "op"),
}


def _claimed(storage: Storage) -> tuple[str, str]:
    storage.tasks.post("work")
    [task] = storage.tasks.claim("w")
    assert task.lease_token is not None
    return task.id, task.lease_token


class TestRepeatedOperations:
    """B18: a repeat answers as the first call did and changes nothing."""

    @pytest.mark.parametrize(
        "prepare",
        [
            _begun,
            _added,
            _completed,
            _failed,
            _failed_for_good,
            _deleted,
            _forgotten,
            _forgotten_in_the_archive,
        ],
        ids=lambda prepare: prepare.__name__.strip("_"),
    )
    def test_b18_a_repeat_answers_as_the_first_call_and_another_body_is_refused(
        self, storage: Storage, clock: ManualClock, prepare: Callable[[Storage], Any]
    ) -> None:
        call = prepare(storage)
        first = call("a")
        assert first is not False
        clock.set(clock.now() + timedelta(seconds=1))
        assert call("a") == first
        with pytest.raises(IdempotencyMismatch):
            call("b")

    def test_b18_a_first_call_that_was_refused_may_be_repeated(self, storage: Storage) -> None:
        task, token = _claimed(storage)
        with pytest.raises(Conflict):
            storage.tasks.complete(task, "another's", op_id="late")
        with pytest.raises(Conflict):
            storage.tasks.fail(task, "another's", "no", op_id="late")
        with pytest.raises(NotFound):
            storage.tasks.complete("missing", token, op_id="late")
        assert storage.tasks.complete(task, token, op_id="late").state == "completed"

    def test_b18_a_key_that_was_not_there_is_told_so_again(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        storage.kv.set("expired", 1, ttl_seconds=1)
        clock.set(clock.now() + timedelta(seconds=2))
        assert not storage.kv.delete("expired", op_id="op")
        storage.kv.set("expired", 2)
        assert not storage.kv.delete("expired", op_id="op")
        assert storage.kv.get("expired") == 2

    def test_b18_neighbouring_scopes_keep_their_own_answers(self, storage: Storage) -> None:
        one, two = (storage.with_agent(name) for name in ("one", "two"))
        task, token = _claimed(one)
        with pytest.raises(NotFound):
            two.tasks.complete(task, token, op_id="op")
        assert one.tasks.complete(task, token, op_id="op").state == "completed"


class TestRepeatsInOtherClasses:
    """B18: what is compared is what was accepted, and not the class that it came in."""

    @pytest.mark.parametrize("agent", [None, Word("ada")])
    @pytest.mark.parametrize("name", IN_OTHER_CLASSES)
    def test_b18_a_repeat_says_the_same_in_whatever_class_it_is_said(
        self, storage: Storage, name: str, agent: str | None
    ) -> None:
        handle = storage if agent is None else storage.with_agent(agent)
        call, given, plain = IN_OTHER_CLASSES[name]
        first = call(handle, given)
        assert call(handle, given) == first
        same = storage if agent is None else storage.with_agent(str(agent))
        assert call(same, plain) == first

    def test_b18_a_message_of_them_is_kept_once(self, storage: Storage) -> None:
        conversation = storage.conversations.create().id
        metadata: Any = UserDict(a=1)
        given = Draft(text=Word("x"), metadata=metadata)
        first = storage.conversations.append_many(conversation, [given], op_id="op")
        assert storage.conversations.append_many(conversation, [given], op_id="op") == first
        plain = Draft(text="x", metadata={"a": 1})
        assert storage.conversations.append_many(conversation, [plain], op_id="op") == first
