"""Namespaces, links, export and import, archive: B5, F31, F35, F36."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import (
    Conflict,
    Corrupt,
    DimensionMismatch,
    Forbidden,
    Invalid,
    NotFound,
)
from holdfast.storage import Storage
from holdfast.stores.memory.archive import pack
from holdfast.stores.memory.records import ARCHIVE, CHUNKS, EVENTS, MEMORIES, SPACES
from holdfast.testing.harness import Harness
from holdfast.testing.models import AngleEmbedder, with_models


def names(storage: Storage) -> list[tuple[str, int]]:
    return [(found.name, found.count) for found in storage.memory.namespaces.list()]


class TestMemoryNamespaces:
    def test_b5_list_is_sorted_and_distinct(self, storage: Storage) -> None:
        for namespace, text in (("work", "a"), ("home", "b"), ("work", "c")):
            storage.scoped(namespace=namespace).memory.remember(text)
        storage.memory.remember("of all")
        assert names(storage) == [("", 1), ("home", 1), ("work", 2)]
        assert names(storage.scoped(namespace="home")) == [("home", 1)]
        assert names(storage.scoped(tenant="other")) == []

    def test_b5_delete_counts_and_spares_the_others(
        self, storage: Storage, harness: Harness
    ) -> None:
        work = storage.scoped(namespace="work").memory
        kept = [work.remember(text) for text in ("a", "b", "long words " * 200)]
        work.correct(kept[0].id, "better")
        work.archive.put([kept[1].id])
        storage.memory.remember("stays")
        assert storage.memory.namespaces.delete("work") == 4
        assert storage.memory.namespaces.delete("work") == 0
        assert names(storage) == [("", 1)]
        for collection in (CHUNKS, EVENTS, ARCHIVE):
            assert harness.peek(collection, "default") == []

    def test_b5_move_by_id_and_split_by_filter(self, storage: Storage) -> None:
        work = storage.scoped(namespace="work").memory
        kept = [
            work.remember(f"item {n}", tags=["odd"] if n % 2 else [], speaker="Ann")
            for n in range(4)
        ]
        assert storage.memory.namespaces.move([kept[0].id, "missing"], "home") == 1
        assert storage.memory.namespaces.split("work", "odd ones", tags=["odd"]) == 2
        assert names(storage) == [("home", 1), ("odd ones", 2), ("work", 1)]
        moved = storage.scoped(namespace="home").memory
        assert [i.memory.id for i in moved.recall("item")] == [kept[0].id]
        assert work.get(kept[0].id) is None
        with pytest.raises(Invalid):
            storage.memory.namespaces.split("work", "x")

    def test_b5_a_clash_moves_nothing(self, storage: Storage) -> None:
        work, home = storage.scoped(namespace="work"), storage.scoped(namespace="home")
        ids = [work.memory.remember(text).id for text in ("one", "two")]
        home.memory.remember("two")
        with pytest.raises(Conflict):
            storage.memory.namespaces.move(ids, "home")
        assert names(storage) == [("home", 1), ("work", 2)]

    @pytest.mark.needs_vectors
    def test_b5_rename_takes_everything_along(self, storage: Storage) -> None:
        work = storage.scoped(namespace="work").memory
        kept = work.remember("long words " * 200, speaker="Ann")
        cold = work.remember("cold one")
        work.archive.put([cold.id])
        fixed = work.correct(work.remember("wrong").id, "right", by="ann")
        assert storage.memory.namespaces.rename("work", "job") == 4
        job = storage.scoped(namespace="job").memory
        assert {m.id for m in job.list()} == {kept.id, fixed.id}
        assert job.recall("long words", mode="vector", k=1)[0].chunk is not None
        assert job.archive.restore([cold.id]) == 1
        restored = job.get(cold.id)
        assert restored is not None
        assert restored.namespace == "job"
        assert len(job.history.events().items) == 1

    def test_b5_bad_names_and_foreign_ones(self, storage: Storage) -> None:
        for bad in (" x", "x" * 257, "a\nb"):
            with pytest.raises(Invalid):
                storage.memory.namespaces.move(["i"], bad)
        bound = storage.scoped(namespace="mine").memory
        kept = bound.remember("mine")
        for verb in (
            lambda: bound.namespaces.delete("theirs"),
            lambda: bound.namespaces.move([kept.id], "theirs"),
            lambda: bound.namespaces.rename("mine", "theirs"),
            lambda: bound.namespaces.link("theirs", "mine"),
        ):
            with pytest.raises(Forbidden):
                verb()

    def test_f31_links_between_namespaces(self, storage: Storage, clock: ManualClock) -> None:
        spaces = storage.memory.namespaces
        made = spaces.link("a", "b", "uses", note="one")
        clock.set(clock.now() + timedelta(hours=1))
        again = spaces.link("a", "b", "uses", note="two")
        assert (again.note, again.created_at, again.updated_at) == (
            "two",
            made.created_at,
            clock.now(),
        )
        spaces.link("c", "a")
        assert [(e.origin, e.target, e.relation) for e in spaces.links()] == [
            ("a", "b", "uses"),
            ("c", "a", ""),
        ]
        assert len(spaces.links("b")) == 1
        assert len(spaces.links("a")) == 2
        assert spaces.unlink("c", "a") is True
        assert spaces.unlink("c", "a") is False
        with pytest.raises(Invalid):
            spaces.link("a", "a")
        assert storage.scoped(tenant="other").memory.namespaces.links() == []

    def test_f31_rename_keeps_the_link_that_is_there(self, storage: Storage) -> None:
        spaces = storage.memory.namespaces
        spaces.link("old", "b", "uses", note="from old")
        spaces.link("new", "b", "uses", note="from new")
        spaces.link("c", "old", note="moves")
        spaces.link("old", "new", note="would be a loop")
        storage.memory.namespaces.rename("old", "new")
        assert [(e.origin, e.target, e.note) for e in spaces.links()] == [
            ("c", "new", "moves"),
            ("new", "b", "from new"),
        ]


class TestMemoryTransfer:
    def _filled(self, storage: Storage) -> Storage:
        memory = storage.memory
        kept = memory.remember_many([f"fact number {n}" for n in range(20)])
        memory.remember("long words here " * 100, speaker="Ann", session="s", turn=1)
        memory.correct(kept[0].id, "fact corrected", by="ann")
        memory.forget(kept[1].id)
        memory.archive.put([kept[2].id])
        storage.scoped(namespace="n").memory.remember("named", metadata={"deep": {"x": [1, None]}})
        memory.namespaces.link("n", "m")
        return storage

    @pytest.mark.needs_vectors
    def test_f35_export_and_import_give_equal_stores(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        source = self._filled(open_storage())
        lines = list(source.memory.transfer.export_lines())
        assert json.loads(lines[0])["format"] == "holdfast.memory"
        target = open_storage(tenant="target")
        seen: list[int] = []
        report = target.memory.transfer.import_lines(lines, progress=seen.append)
        assert (report.written, report.unchanged, report.refused) == (len(lines) - 1, 0, 0)
        assert seen[-1] == len(lines) - 1
        assert list(target.memory.transfer.export_lines()) == lines
        for mode in ("hybrid", "vector", "keyword"):
            before = source.memory.recall("fact number 7", mode=mode, k=5)
            after = target.memory.recall("fact number 7", mode=mode, k=5)
            assert [i.memory.id for i in after] == [i.memory.id for i in before]
            scores = [i.score for i in before]
            assert [i.score for i in after] == pytest.approx(scores, abs=1e-6)

    def test_f35_import_is_idempotent_and_resumable(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        lines = list(self._filled(open_storage()).memory.transfer.export_lines())
        memory = open_storage(tenant="target").memory
        memory.transfer.import_lines(lines[:10])
        rest = memory.transfer.import_lines(lines)
        assert (rest.written, rest.unchanged, rest.refused) == (len(lines) - 10, 9, 0)
        again = memory.transfer.import_lines(lines)
        assert (again.written, again.unchanged) == (0, len(lines) - 1)
        skipped = memory.transfer.import_lines(lines, skip=len(lines) - 3)
        assert skipped.written == 0
        assert list(memory.transfer.export_lines()) == lines

    def test_f35_what_is_there_is_not_overwritten(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        source = open_storage()
        kept = source.memory.remember("theirs", id="x")
        lines = list(source.memory.transfer.export_lines())
        target = open_storage(tenant="target")
        target.memory.remember("ours", id="x")
        report = target.memory.transfer.import_lines(lines)
        assert (report.refused, report.refused_ids) == (1, [kept.id])
        found = target.memory.get("x")
        assert found is not None
        assert found.content == "ours"

    def test_f35_bad_lines_and_other_spaces_are_refused(
        self, open_storage: Callable[..., Storage]
    ) -> None:
        storage = open_storage()
        storage.memory.remember("fine")
        lines = list(storage.memory.transfer.export_lines())
        target = open_storage(tenant="target")
        good = json.loads(lines[-1])
        bad: list[Any] = [
            "not json",
            "[]",
            "{}",
            json.dumps({"kind": "kv", "record": {}}),
            json.dumps({"kind": "memories", "record": {"id": "x"}}),
            json.dumps({**good, "record": {**good["record"], "created_at": "soon"}}),
            json.dumps({**good, "record": {**good["record"], "unknown": 1}}),
        ]
        for line in bad:
            with pytest.raises(Invalid):
                target.memory.transfer.import_lines([lines[0], line])
        with pytest.raises(Invalid):
            target.memory.transfer.import_lines(
                [json.dumps({"format": "holdfast.memory", "version": 99})]
            )
        bound = target.scoped(agent="a")
        with pytest.raises(Invalid):
            bound.memory.transfer.import_lines(lines)
        assert target.memory.stats().total == 0
        other = with_models(open_storage(tenant="third"), embedder=AngleEmbedder())
        other.memory.remember("here")
        with pytest.raises(DimensionMismatch):
            other.memory.transfer.import_lines(lines)
        assert other.memory.stats().total == 1

    @pytest.mark.parametrize(
        ("kind", "change", "named"),
        [
            ("memories", {"metadata": 5}, "metadata"),
            ("memories", {"session": "s" * 600}, "session"),
            ("memories", {"content": ""}, "content"),
            ("memories", {"created_at": "soon"}, ""),
            ("memories", {"trust": None}, "trust"),
            ("memory_spaces", {"slot": "x"}, "slot"),
            ("memory_spaces", {"state": "x"}, "state"),
            ("memory_events", {"detail": []}, "detail"),
            ("memory_archive", {"body": "AAAA"}, "body"),
            ("memory_archive", {"id": "of-another"}, "body"),
        ],
    )
    @pytest.mark.needs_vectors
    def test_f35_a_record_that_no_store_could_build_is_refused_by_line_and_field(
        self,
        open_storage: Callable[..., Storage],
        kind: str,
        change: dict[str, Any],
        named: str,
    ) -> None:
        storage, target = open_storage(), open_storage(tenant="target")
        kept = [storage.memory.remember(text).id for text in ("tea", "cocoa", "cold water")]
        storage.memory.history.supersede(kept[0], kept[1])
        storage.memory.archive.put([kept[2]])
        lines = [json.loads(line) for line in storage.memory.transfer.export_lines()]
        number = next(n for n, line in enumerate(lines, 1) if line.get("kind") == kind)
        lines[number - 1]["record"] |= change
        with pytest.raises(Invalid) as refused:
            target.memory.transfer.import_lines(map(json.dumps, lines))
        assert refused.value.field == (f"line {number}.{named}" if named else f"line {number}")
        assert not target.memory.list(include_closed=True).items

    def test_c24_what_no_store_can_build_is_found_and_named_by_its_id(
        self, storage: Storage, harness: Harness
    ) -> None:
        made = storage.memory.remember("fine")
        assert storage._driver.maintain("integrity").ok
        row = {name: getattr(made, name) for name in MEMORIES.by_name}
        bad = {**row, "id": "bad", "fingerprint": "other", "metadata": 5, "revision": 1}
        harness.plant(MEMORIES, "default", bad)
        with pytest.raises(Corrupt, match=r"metadata: bad\.") as raised:
            storage.memory.list()
        assert raised.value.context["id"] == "bad"
        report = storage._driver.maintain("integrity")
        assert not report.ok
        [found] = [each for each in report.findings if "metadata" in each]
        assert "memories" in found
        assert "bad" in found

    @pytest.mark.needs_vectors
    def test_c24_a_space_that_means_nothing_is_corrupt(
        self, open_storage: Callable[..., Storage], harness: Harness
    ) -> None:
        storage, other = open_storage(), open_storage(tenant="other")
        storage.memory.remember("tea")
        held = storage.memory.spaces.active()
        assert held is not None
        row = {name: getattr(held, name) for name in SPACES.by_name}
        harness.plant(SPACES, "other", {**row, "id": "bad", "slot": "x", "revision": 1})
        for call in (lambda: other.memory.recall("tea"), lambda: other.memory.remember("tea")):
            with pytest.raises(Corrupt, match=r"slot: bad\."):
                call()

    @pytest.mark.parametrize("body", [b"", b"no archive", pack({}), pack([1]), pack({"id": 1})])  # type: ignore[arg-type]
    def test_c24_an_archived_memory_that_cannot_be_read_is_corrupt(
        self, storage: Storage, harness: Harness, body: bytes
    ) -> None:
        kept = storage.memory.remember("fine")
        packed = {name: getattr(kept, name) for name in ("agent", "user", "namespace")}
        times = {"archived_at": kept.created_at, "created_at": kept.created_at}
        harness.plant(
            ARCHIVE, "default", {"id": "bad", **packed, "body": body, **times, "revision": 1}
        )
        for call in (storage.memory.archive.get, lambda it: storage.memory.archive.restore([it])):
            with pytest.raises(Corrupt) as raised:
                call("bad")
            assert raised.value.context["id"] == "bad"
        [found] = storage._driver.maintain("integrity").findings
        assert "does not decode at body" in found
        assert "bad" in found
        assert storage.memory.archive.discard("bad")


class TestMemoryArchive:
    @pytest.mark.needs_vectors
    def test_f36_there_and_back_without_another_id(
        self, storage: Storage, clock: ManualClock, harness: Harness
    ) -> None:
        kept = storage.memory.remember("cold harbour " * 20, tags=["t"], metadata={"a": 1})
        assert storage.memory.archive.put([kept.id, "missing"]) == 1
        assert harness.peek(MEMORIES, "default") == []
        [packed] = harness.peek(ARCHIVE, "default")
        assert packed["id"] == kept.id
        cold = storage.memory.get(kept.id)
        assert cold is not None
        assert (cold.content, cold.archived_at) == (kept.content, clock.now())
        for mode in ("hybrid", "vector", "keyword"):
            assert not storage.memory.recall("cold harbour", mode=mode)
            [found] = storage.memory.recall("cold harbour", mode=mode, include_archived=True)
            assert found.memory.id == kept.id
        assert storage.memory.archive.put([kept.id]) == 0
        assert storage.memory.archive.restore([kept.id, "missing"]) == 1
        back = storage.memory.get(kept.id)
        assert back is not None
        assert (back.id, back.tags, back.metadata, back.archived_at, back.created_at) == (
            kept.id,
            ["t"],
            {"a": 1},
            None,
            kept.created_at,
        )
        assert storage.memory.recall("cold harbour", mode="vector")[0].score > 0.99

    def test_f36_archive_takes_the_untouched_oldest_first(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        old = [storage.memory.remember(f"old {n}") for n in range(3)]
        storage.memory.pin(old[0].id)
        clock.set(clock.now() + timedelta(days=1))
        storage.memory.reinforce([old[1].id])
        new = storage.memory.remember("new")
        cutoff = clock.now() - timedelta(hours=1)
        assert storage.memory.archive.put_untouched(before=cutoff) == 1
        [entry] = storage.memory.archive.list().items
        assert (entry.id, entry.packed_bytes > 0) == (old[2].id, True)
        assert {m.id for m in storage.memory.list()} == {old[0].id, old[1].id, new.id}

    def test_f36_archived_rows_obey_filters_and_scopes(self, storage: Storage) -> None:
        mine = storage.scoped(user="u").memory
        ids = [mine.remember(f"cold {n}", tags=[f"t{n}"]).id for n in range(3)]
        mine.archive.put(ids)
        found = mine.recall("cold", include_archived=True, tags=["t1"])
        assert [i.memory.id for i in found] == [ids[1]]
        for foreign in (storage.scoped(user="v"), storage.scoped(tenant="other")):
            assert not foreign.memory.recall("cold", include_archived=True)
            assert foreign.memory.get(ids[0]) is None
            assert foreign.memory.archive.restore(ids) == 0
            assert not foreign.memory.archive.list().items
        assert mine.forget(ids[0]) is True
        assert mine.get(ids[0]) is None
        mine.delete(ids[1])
        with pytest.raises(NotFound):
            mine.delete(ids[1])

    def test_f36_restore_is_refused_while_another_holds_the_content(self, storage: Storage) -> None:
        kept = storage.memory.remember("said")
        storage.memory.archive.put([kept.id])
        storage.memory.remember("said")
        with pytest.raises(Conflict):
            storage.memory.archive.restore([kept.id])
        assert storage.memory.get(kept.id) is not None
