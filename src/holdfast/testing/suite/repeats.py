"""Repeated operations: what a caller who never heard the answer may send again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.storage import Storage


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
