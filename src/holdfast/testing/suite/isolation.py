"""Isolation across all stores: B1, B3, B4, B6, B11.

A stranger, of another tenant or bound to another agent, user or namespace, makes one call of
every public method. What it learns with the ids of somebody else's records must be what it
learns with ids that nobody has, and nothing of the owner's may change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, HoldfastError, Invalid
from holdfast.core.query import Query
from holdfast.storage import Storage, all_collections
from holdfast.stores.store import FACTS
from holdfast.testing.scope_calls import (
    CALLS,
    LATER,
    SECRET,
    Call,
    Ids,
    absent,
    public_methods,
    seed,
)

PARTS: Final = ("tenant", "agent", "user", "namespace")
READS: Final = {
    *("get", "entry", "get_by_key", "list_owned", "find_by_label", "find_by_prefix", "resolve"),
    *("page", "recent", "between", "actors", "list_of", "blockers", "dependents", "current"),
    *("counts", "search"),
}
"""Names of methods that only read and are given an id, a name or words."""
TENANT_WIDE: Final = {
    *(path for path in CALLS if path.startswith("memory.spaces.")),
    "memory.transfer.export_lines",
    "knowledge.vectors.reembed",
    "knowledge.vectors.stats",
}
"""What shows the embedding space, of which a tenant has one for all its scopes."""
AGENTS_SHARE: Final = "knowledge.library."
"""What belongs to a user and namespace, and to all of their agents alike."""
VECTORLESS: Final = "knowledge.vectors.rearm"
"""Also reaches the library, where its items have no vectors."""
_MINTED: Final = re.compile(r"id\d+-\d{6}|scope\d+|[0-9a-f]{64}")
"""What differs between two calls alike: ids, the stranger's own names, hashes."""


def theirs(storage: Storage) -> Storage:
    """The owner's handle."""
    return storage.scoped(agent="theirs", user="theirs", namespace="theirs")


def strangers(storage: Storage) -> Iterator[tuple[str, Iterator[Storage], Iterator[Storage]]]:
    """For each part of a scope, handles that are outside the owner's by that part alone.

    Beside them, the same in a tenant where nobody has anything. The namespace is left unbound
    where it does not differ: calls may name any namespace then.
    """
    numbers = iter(range(1_000, 9_999))
    for part in PARTS:
        shared = {name: "theirs" for name in ("agent", "user") if name != part}
        near = (storage.scoped(**{**shared, part: f"scope{n}"}) for n in numbers)
        alone = (
            storage.scoped(**{**shared, part: f"scope{n}", "tenant": f"scope{n}"}) for n in numbers
        )
        yield part, near, alone


def outcome(call: Call, stranger: Storage, ids: Ids, words: Iterable[str] = ()) -> str:
    """What the caller learns, without ``words`` and without what is minted at every call."""
    try:
        learnt = f"returns {call(stranger, ids)!r}"
    except HoldfastError as error:
        learnt = f"raises {type(error).__name__}: {error} {error.context!r}"
    for word in sorted(words, key=len, reverse=True):
        if not _MINTED.fullmatch(word):
            learnt = learnt.replace(word, "?")
    return _MINTED.sub("#", learnt)


def held_rows(driver: Driver) -> dict[tuple[Any, ...], Any]:
    """All records of the owner's tenant but the store's own facts."""
    return {
        (shape.name, *shape.key_of(record)): record
        for shape in all_collections()
        if shape.name != FACTS.name
        for record in driver.query("default", Query(collection=shape.name)).records
    }


class TestIsolation:
    def test_b1_every_public_method_is_in_the_sweep(self, storage: Storage) -> None:
        found = set(public_methods(storage))
        assert found - CALLS.keys() == set(), "add these to holdfast.testing.scope_calls"
        assert CALLS.keys() - found == set(), "these are no methods any more"

    def test_b1_the_same_calls_do_reach_the_owner_s_records(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The sweep would prove nothing by calls that meet nobody's records."""
        mine = theirs(storage)
        ids = seed(mine)
        nobody = absent(ids)
        reads = [path for path in CALLS if path.rpartition(".")[2] in READS]
        assert len(reads) > 20
        for path in reads:
            assert outcome(CALLS[path], mine, ids) != outcome(CALLS[path], mine, nobody), path
        clock.set(clock.now() + LATER)
        assert mine.tasks.upkeep.reclaim().requeued == 1
        assert mine.tasks.upkeep.prune() == 1

    def test_b1_b11_strangers_learn_nothing_and_change_nothing(
        self, storage: Storage, clock: ManualClock, driver: Driver
    ) -> None:
        driver.setup(all_collections())
        ids = seed(theirs(storage))
        nobody = absent(ids)
        clock.set(clock.now() + LATER)
        words = [word for word in (*ids.values(), *nobody.values()) if isinstance(word, str)]
        faults: list[str] = []
        shared = (AGENTS_SHARE,) if driver.capabilities.vectors else (AGENTS_SHARE, VECTORLESS)
        for part, near, alone in strangers(storage):
            before = held_rows(driver)
            for path, call in CALLS.items():
                if part == "agent" and path.startswith(shared):
                    continue
                known = outcome(call, next(near), ids, words)
                unknown = outcome(call, next(near), nobody, words)
                if known != unknown:
                    faults.append(f"{path} by another {part}: {known} != {unknown}")
                nothing = outcome(call, next(alone), ids, words)
                if known != nothing and path not in TENANT_WIDE:
                    faults.append(f"{path} by another {part}, beside nobody: {nothing} != {known}")
                if SECRET in known:
                    faults.append(f"{path} by another {part} shows: {known}")
                after = held_rows(driver)
                changed = [key for key, record in before.items() if after.get(key) != record]
                if changed:
                    faults.append(f"{path} by another {part} changed {changed}")
                before = after
        assert faults == []

    def test_b4_each_bound_part_narrows_and_unbound_sees_all(self, storage: Storage) -> None:
        for agent in ("a", "b"):
            for user in ("u", "v"):
                for namespace in ("n", "m"):
                    bound = storage.scoped(agent=agent, user=user, namespace=namespace)
                    bound.tasks.post(f"{agent}{user}{namespace}")
                    bound.kv.set("k", 1)
        wanted = {
            (): 8,
            (("agent", "a"),): 4,
            (("agent", "a"), ("user", "v")): 2,
            (("user", "u"), ("namespace", "m")): 2,
            (("agent", "b"), ("user", "v"), ("namespace", "n")): 1,
            (("agent", "nobody"),): 0,
        }
        for scope, count in wanted.items():
            handle = storage.scoped(**dict(scope))
            assert handle.tasks.counts()["total"] == count
            assert len(handle.tasks.list()) == count
            assert len(handle.kv.list()) == count

    @pytest.mark.parametrize("part", ["tenant", "agent", "user", "namespace"])
    @pytest.mark.parametrize("blank", ["", " ", "\t", " ada", 0, False, []])
    def test_b2_a_blank_identity_is_refused_and_never_unbound(
        self, storage: Storage, part: str, blank: Any
    ) -> None:
        storage.kv.set("k", 1)
        with pytest.raises(Invalid, match=part):
            storage.scoped(**{part: blank})

    def test_b3_by_id_calls_of_a_bound_handle_are_checked(self, storage: Storage) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        task = mine.tasks.post("t")
        assert mine.tasks.get(task.id) == task
        assert storage.tasks.get(task.id) == task
        assert other.tasks.get(task.id) is None

    def test_b6_a_taken_id_is_a_conflict_and_leaves_the_row(self, storage: Storage) -> None:
        mine, other = storage.with_agent("mine"), storage.with_agent("other")
        talk = mine.conversations.create(title="mine")
        with pytest.raises(Conflict):
            other.conversations.create(conversation_id=talk.id, title="other")
        room = mine.rooms.create("mine")
        with pytest.raises(Conflict):
            other.rooms.create("other", room_id=room.id)
        assert mine.conversations.get(talk.id) == talk
        assert mine.rooms.get(room.id) == room

    def test_b1_an_operation_id_belongs_to_the_scope_that_used_it(self, storage: Storage) -> None:
        handles = [storage, storage.with_agent("a"), storage.with_agent("b")]
        for _ in range(2):
            entries = [handle.kv.set("k", "v", op_id="op") for handle in handles]
            assert [(entry.agent, entry.version) for entry in entries] == [
                ("", 1),
                ("a", 1),
                ("b", 1),
            ]
        for handle in handles:
            with handle.unit(op_id="unit") as unit:
                unit.kv.set("in unit", handle.scope.agent)
        assert [handle.kv.get("in unit") for handle in handles] == [None, "a", "b"]
        for bad in ("x\x00", "x" * 257, 1):
            for handle in handles:
                with pytest.raises(Invalid):
                    handle.kv.set("k", "v", op_id=bad)  # type: ignore[arg-type]
