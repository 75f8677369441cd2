"""Audit: J6 to J9. Tampering goes behind the store's back, to the engine or below it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from holdfast.core.change import Delete, Put
from holdfast.core.clock import ManualClock
from holdfast.core.driver import Driver
from holdfast.core.errors import (
    Corrupt,
    IdempotencyMismatch,
    Invalid,
    InvalidJson,
    InvalidText,
    NotFound,
)
from holdfast.core.filter import Record
from holdfast.storage import Storage, all_collections
from holdfast.stores.audit.audit import AuditEvent
from holdfast.stores.audit.records import AUDIT, GENESIS, HEADS, entry_hash
from holdfast.stores.audit.verify import Fault
from holdfast.testing.harness import Cannot, Harness
from holdfast.testing.processes import peers_on

KEY = b"sixteen bytes at least"


class Tamperer:
    """Somebody with the database in hand, but without the store."""

    def __init__(self, harness: Harness, driver: Driver) -> None:
        self._harness, self._driver = harness, driver
        driver.setup(all_collections())

    def row(self, seq: int) -> Record:
        """The entry as stored."""
        record = self._driver.get("default", AUDIT.name, ("", "", "", "main", seq))
        assert record is not None
        return record

    def plant(self, seq: int, row: Record, *, rehash: bool = False, **changed: Any) -> Record:
        """Write an entry at this place."""
        row = {**row, **changed, "seq": seq}
        if rehash:
            row["hash"] = entry_hash("default", row)
        self._harness.plant(AUDIT, "default", row)
        return row

    def delete(self, *seqs: int) -> None:
        """Remove entries."""
        deletes = [Delete(AUDIT.name, ("", "", "", "main", seq)) for seq in seqs]
        self._driver.apply("default", deletes)

    def head(self, **changed: Any) -> None:
        """Rewrite the head."""
        record = self._driver.get("default", HEADS.name, ("", "", "", "main"))
        assert record is not None
        record.pop("revision")
        self._driver.apply("default", [Put(HEADS.name, {**record, **changed})])

    def behead(self) -> None:
        """Remove the head."""
        self._driver.apply("default", [Delete(HEADS.name, ("", "", "", "main"))])


Drivers = Callable[[], Driver]


def tampered(harness: Harness, storage: Storage, open_driver: Drivers) -> Tamperer:
    """A tamperer, after six entries were appended."""
    storage.audit.append_many(
        [AuditEvent(action="did", subject=f"thing {n}", data={"n": n}) for n in range(1, 7)]
    )
    return Tamperer(harness, open_driver())


class TestAudit:
    def test_j6_seq_counts_from_one_in_each_stream(self, storage: Storage) -> None:
        first = storage.audit.append("a", actor="me", subject="x", data={"k": None})
        assert (first.seq, first.previous_hash, first.data) == (1, GENESIS, {"k": None})
        second = storage.audit.append("b")
        assert (second.seq, second.previous_hash) == (2, first.hash)
        assert storage.audit.append("c", stream="other").seq == 1
        assert storage.audit.append("d").seq == 3
        assert storage.audit.verify().ok
        assert storage.audit.verify("other").ok

    def test_j6_a_failed_append_leaves_no_gap(self, storage: Storage) -> None:
        storage.audit.append("a")
        for event in (AuditEvent(action="x", data={"n": float("nan")}), AuditEvent(action="")):
            with pytest.raises(Invalid):
                storage.audit.append_many([AuditEvent(action="good"), event])
        assert storage.audit.append("b").seq == 2
        found = storage.audit.verify()
        assert (found.ok, found.entries, found.last_seq) == (True, 2, 2)

    def test_j6_two_handles_append_seventy_five_each(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        handles = [open_storage(), open_storage()]

        def work(handle: Storage) -> None:
            for n in range(75):
                handle.audit.append("did", data=n)

        threads = [threading.Thread(target=work, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = handles[0].audit.verify()
        assert (found.ok, found.entries, found.first_seq, found.last_seq) == (True, 150, 1, 150)

    def test_j6_two_processes_append_seventy_five_each(
        self, harness: Harness, storage: Storage, driver: Driver
    ) -> None:
        if not driver.capabilities.multi_process:
            with pytest.raises(Cannot):
                harness.url()
            return
        with peers_on(harness.url(), 2) as peers:
            for n, peer in enumerate(peers):
                peer.start("audit", f"p{n}", 75)
            seqs = [seq for peer in peers for seq in peer.answer()]
        assert sorted(seqs) == list(range(1, 151))
        found = storage.audit.verify()
        assert (found.ok, found.entries) == (True, 150)

    def test_j6_append_commits_with_the_unit_or_not_at_all(self, storage: Storage) -> None:
        storage.audit.append("before")
        with storage.unit() as unit:
            unit.kv.set("k", 1)
            unit.audit.append("one")
            unit.audit.append("two")
        with contextlib.suppress(RuntimeError), storage.unit() as unit:
            unit.audit.append("lost")
            raise RuntimeError
        found = storage.audit.verify()
        assert (found.ok, found.last_seq) == (True, 3)

    def test_j6_append_with_an_operation_id_happens_once(self, storage: Storage) -> None:
        first = storage.audit.append("a", op_id="op")
        storage.audit.append("b")
        assert storage.audit.append("a", op_id="op") == first
        with pytest.raises(IdempotencyMismatch):
            storage.audit.append("other", op_id="op")
        assert storage.audit.verify().last_seq == 2

    def test_j7_the_hash_is_the_same_everywhere_and_for_ever(self, storage: Storage) -> None:
        entry = {
            "agent": "a",
            "user": "",
            "namespace": "n",
            "stream": "main",
            "seq": 7,
            "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            "actor": "ünï",
            "action": "did",
            "subject": "",
            "body": '{"a":[1,2.5,null]}',
            "previous_hash": GENESIS,
        }
        golden = "fa15f85a61818683bb8f9b93b16942c20585665634577e9918032367330b694e"
        assert entry_hash("tenant", entry) == golden
        stored = storage.audit.append("did", data={"b": 1.0, "a": [True, "ü\u2028"]})
        assert stored.body == '{"a":[true,"ü\u2028"],"b":1.0}'
        assert entry_hash("default", msgspec.structs.asdict(stored)) == stored.hash

    def test_j7_moving_text_between_fields_changes_the_hash(self, storage: Storage) -> None:
        entry = msgspec.structs.asdict(storage.audit.append("ab", actor="c"))
        moved = {**entry, "action": "a", "actor": "bc"}
        assert entry_hash("default", moved) != entry["hash"]
        for name in ("agent", "user", "namespace", "stream", "subject", "body", "previous_hash"):
            changed = {**entry, name: entry[name] + "x"}
            assert entry_hash("default", changed) != entry["hash"]
        later = {**entry, "at": entry["at"] + timedelta(microseconds=1)}
        assert entry_hash("default", later) != entry["hash"]
        assert entry_hash("elsewhere", entry) != entry["hash"]

    def test_j8_an_untouched_chain_is_sound_over_many_pages(self, storage: Storage) -> None:
        assert storage.audit.verify().ok
        for _ in range(2):
            storage.audit.append_many([AuditEvent(action="did")] * 600)
        found = storage.audit.verify()
        assert (found.ok, found.entries) == (True, 1200)

    def test_j8_list_filters_and_pages_newest_first(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        for n in range(5):
            storage.audit.append("odd" if n % 2 else "even", actor="me", data=n)
            clock.set(clock.now() + timedelta(seconds=n % 2))
        assert [entry.seq for entry in storage.audit.list()] == [5, 4, 3, 2, 1]
        assert [entry.seq for entry in storage.audit.list(action="even", actor="me")] == [5, 3, 1]
        first = storage.audit.list(limit=2)
        assert [e.seq for e in storage.audit.list(limit=9, cursor=first.next_cursor)] == [3, 2, 1]

    def test_b1_chains_of_scopes_do_not_meet(self, open_storage: Callable[..., Storage]) -> None:
        storage = open_storage()
        bound = storage.with_agent("a")
        storage.audit.append("secret")
        assert bound.audit.append("mine").seq == 1
        assert [entry.action for entry in bound.audit.list()] == ["mine"]
        assert [found.agent for found in bound.audit.verify_all()] == ["a"]
        assert [found.agent for found in storage.audit.verify_all()] == ["", "a"]
        assert storage.scoped(tenant="other").audit.append("theirs").seq == 1
        assert storage.scoped(tenant="other").audit.verify_all()[0].entries == 1

    def test_j6_bad_input_is_refused(self, storage: Storage) -> None:
        for call, error in (
            (lambda: storage.audit.append("a\x00"), InvalidText),
            (lambda: storage.audit.append("a", data=object()), InvalidJson),
            (lambda: storage.audit.append("a", stream=""), Invalid),
            (lambda: storage.audit.append_many([]), Invalid),
            (lambda: storage.audit.append_many(["a"]), Invalid),  # type: ignore[list-item]
            (lambda: storage.audit.trim(0), Invalid),
            (lambda: storage.audit.trim(1), NotFound),
            (lambda: storage.audit.export_anchor(), NotFound),
            (lambda: storage.audit.verify(key=KEY), Invalid),
        ):
            with pytest.raises(error):
                call()
        assert storage.audit.verify_all() == []


class TestAuditTampering:
    def test_j8_an_edited_entry_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (1, 3, 6):
            row = tamperer.row(seq)
            tamperer.plant(seq, row, actor="somebody else")
            assert storage.audit.verify().fault == Fault(seq, "edited")
            tamperer.plant(seq, row)
            assert storage.audit.verify().ok

    def test_j8_an_edited_entry_with_a_fitting_hash_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (1, 3, 5, 6):
            row = tamperer.row(seq)
            tamperer.plant(seq, row, actor="somebody else", rehash=True)
            assert storage.audit.verify().fault == Fault(seq, "edited")
            tamperer.plant(seq, row)

    def test_j8_a_removed_entry_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (1, 3):
            row = tamperer.row(seq)
            tamperer.delete(seq)
            assert storage.audit.verify().fault == Fault(seq, "removed")
            tamperer.plant(seq, row)

    def test_j8_a_removed_entry_is_named_though_the_others_moved_up(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (3, 4, 5):
            tamperer.plant(seq, tamperer.row(seq + 1))
        tamperer.delete(6)
        assert storage.audit.verify().fault == Fault(3, "removed")

    def test_j8_a_removed_tail_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        tamperer.delete(5, 6)
        assert storage.audit.verify().fault == Fault(5, "tail missing")

    def test_j8_a_removed_tail_is_named_though_the_head_was_moved(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        anchor = storage.audit.export_anchor()
        tamperer.delete(5, 6)
        tamperer.head(seq=4)
        assert storage.audit.verify().fault == Fault(4, "edited")
        tamperer.head(seq=4, hash=tamperer.row(4)["hash"])
        assert storage.audit.verify().ok
        assert storage.audit.verify(anchor=anchor).fault == Fault(5, "tail missing")

    def test_j8_removing_everything_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        anchor = storage.audit.export_anchor()
        tamperer.delete(*range(1, 7))
        assert storage.audit.verify().fault == Fault(1, "tail missing")
        tamperer.behead()
        assert storage.audit.verify(anchor=anchor).fault == Fault(1, "tail missing")

    def test_j8_a_removed_head_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        tamperer.behead()
        assert storage.audit.verify().fault == Fault(1, "head missing")
        assert [found.ok for found in storage.audit.verify_all()] == [False]

    def test_j8_an_inserted_entry_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (7, 0, -3):
            linked = tamperer.row(6)["hash"]
            tamperer.plant(seq, tamperer.row(6), previous_hash=linked, rehash=True)
            assert storage.audit.verify().fault == Fault(seq, "inserted")
            tamperer.delete(seq)
        assert storage.audit.verify().ok

    def test_j8_an_inserted_entry_is_named_though_the_others_moved_down(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for seq in (6, 5, 4, 3):
            tamperer.plant(seq + 1, tamperer.row(seq))
        for link in (tamperer.row(2)["hash"], "f" * 64):
            for rehash in (True, False):
                before = tamperer.row(2)
                tamperer.plant(3, before, actor="new", previous_hash=link, rehash=rehash)
                assert storage.audit.verify().fault == Fault(3, "inserted")

    def test_j8_reordered_entries_are_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        for one, other in ((3, 4), (2, 5), (5, 6), (1, 2), (1, 6)):
            first, second = tamperer.row(one), tamperer.row(other)
            tamperer.plant(one, second)
            tamperer.plant(other, first)
            assert storage.audit.verify().fault == Fault(one, "reordered")
            tamperer.plant(one, first)
            tamperer.plant(other, second)
        assert storage.audit.verify().ok

    def test_j8_an_entry_of_another_chain_does_not_fit(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        foreign = storage.audit.append("did", stream="other")
        tamperer.plant(1, msgspec.structs.asdict(foreign), stream="main")
        assert storage.audit.verify().fault == Fault(1, "edited")

    def test_j6_append_refuses_to_build_on_a_planted_entry(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        tamperer.plant(7, tamperer.row(6))
        with pytest.raises(Corrupt):
            storage.audit.append("next")

    def test_j9_a_rewritten_chain_is_betrayed_by_the_anchor_alone(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        anchor = storage.audit.export_anchor(key=KEY)
        storage.audit.append("later")
        assert storage.audit.verify(anchor=anchor, key=KEY).anchored_seq == 6
        previous = GENESIS
        for seq in range(1, 8):
            row = tamperer.plant(
                seq, tamperer.row(seq), actor="forged", previous_hash=previous, rehash=True
            )
            previous = row["hash"]
        tamperer.head(hash=previous)
        assert storage.audit.verify().ok
        found = storage.audit.verify(anchor=anchor, key=KEY)
        assert (found.fault, found.anchored_seq) == (Fault(6, "rewritten"), 0)

    @pytest.mark.parametrize("key", [None, KEY])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(("seq", value) for value in (float("nan"), -1, 0, "x", True, None)),
            *(("hash", value) for value in (b"x", None, "x", "0" * 63, "A" * 64)),
            *(("at", value) for value in ("x", None, datetime(2026, 1, 1))),
            *(("signature", value) for value in (None, b"00", "\x00")),
        ],
    )
    def test_j9_an_anchor_of_which_a_part_cannot_be_is_refused(
        self, storage: Storage, key: bytes | None, field: str, value: object
    ) -> None:
        storage.audit.append("a")
        anchor = storage.audit.export_anchor(key=KEY)
        torn = msgspec.structs.replace(anchor, **{field: value})
        with pytest.raises(Invalid) as refused:
            storage.audit.verify(anchor=torn, key=key)
        assert refused.value.field == f"anchor.{field}"

    def test_j9_a_forged_anchor_is_refused(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        anchor = storage.audit.export_anchor(key=KEY)
        forged = msgspec.structs.replace(anchor, hash=tamperer.row(5)["hash"], seq=5)
        for bad, key in (
            (forged, KEY),
            (anchor, KEY + b"x"),
            (storage.audit.export_anchor(), KEY),
            (msgspec.structs.replace(anchor, tenant="other"), None),
            (msgspec.structs.replace(anchor, stream="other"), None),
        ):
            with pytest.raises(Invalid):
                storage.audit.verify(anchor=bad, key=key)
        for weak in (b"", b"short", "text"):
            with pytest.raises(Invalid):
                storage.audit.export_anchor(key=weak)  # type: ignore[arg-type]

    def test_j9_trimming_leaves_a_checkpoint(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        early = storage.audit.export_anchor()
        kept = tamperer.row(4)["hash"]
        assert storage.audit.trim(3) == 3
        assert storage.audit.trim(2) == 0
        found = storage.audit.verify()
        assert (found.ok, found.first_seq, found.last_seq, found.entries) == (True, 4, 7, 4)
        assert tamperer.row(4)["hash"] == kept
        assert storage.audit.list(limit=1).items[0].data["seq"] == 3
        assert storage.audit.append("next").seq == 8
        assert storage.audit.verify(anchor=early).anchored_seq == 6
        assert storage.audit.trim(8) == 5
        assert storage.audit.verify(anchor=early).anchored_seq == 0
        assert storage.audit.verify().ok

    def test_j9_a_forged_checkpoint_is_named(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        checkpoint = tamperer.row(3)["hash"]
        tamperer.delete(1, 2, 3)
        tamperer.head(trimmed_seq=3, trimmed_hash=checkpoint)
        assert storage.audit.verify().fault == Fault(1, "removed")

    def test_j9_a_chain_with_a_fault_is_not_trimmed(
        self, storage: Storage, harness: Harness, open_driver: Drivers
    ) -> None:
        tamperer = tampered(harness, storage, open_driver)
        tamperer.plant(2, tamperer.row(2), actor="somebody else")
        with pytest.raises(Corrupt):
            storage.audit.trim(3)
        assert storage.audit.verify().fault == Fault(2, "edited")
