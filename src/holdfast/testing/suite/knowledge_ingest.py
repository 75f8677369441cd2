"""Taking documents in, and out again: E1, E2, E9, E10, B6, F23."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from holdfast.core.clock import ManualClock
from holdfast.core.errors import (
    Conflict,
    DimensionMismatch,
    Invalid,
    InvalidText,
    NotFound,
    TooLarge,
    Unavailable,
)
from holdfast.storage import Storage
from holdfast.stores.knowledge import KnowledgePolicy
from holdfast.stores.knowledge.records import CHUNKS, DOCUMENTS, Chunk
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.races import Between, Counting
from holdfast.testing.threads import together

SMALL = KnowledgePolicy(chunk_characters=40, chunk_overlap=8)


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{n}" for n in range(count))


def chunks(storage: Storage, document_id: str) -> list[Chunk]:
    return storage.knowledge.unrestricted().chunks(document_id, limit=1_000).items


class TestKnowledgeIngest:
    def test_e1_a_document_is_put_by_its_id_and_read_back(self, storage: Storage) -> None:
        content = f"# Tea\n\n{words(200)}\n\nThe last line.\n"
        made = storage.knowledge.put("wiki/tea", content, title="Tea", source="wiki")
        assert made.status == "created"
        held = storage.knowledge.get("wiki/tea")
        assert held == made.document
        assert (held.title, held.source, held.boost, held.sets) == ("Tea", "wiki", 1.0, [])
        assert held.characters == len(content)
        assert held.chunks == len(chunks(storage, "wiki/tea")) > 2
        assert storage.knowledge.text("wiki/tea") == content

    def test_e1_the_same_content_is_not_written_again_also_after_a_restart(
        self, storage: Storage, open_storage: Any, clock: ManualClock
    ) -> None:
        first = storage.knowledge.put("d", words(300), title="T", access={"users": ["ada"]})
        clock.set(clock.now() + timedelta(days=1))
        later = open_storage()
        counting = Counting(later._driver)
        knowledge = Storage(counting, later.scope, later._runtime).knowledge
        for again in (
            knowledge.put("d", words(300)),
            knowledge.put("d", words(300), title="T", access={"users": ["ada"]}, by="sync"),
        ):
            assert again.status == "unchanged"
            assert again.document == first.document
        assert "apply" not in counting.calls

    def test_e1_another_content_replaces_all_chunks(self, storage: Storage) -> None:
        knowledge = storage.knowledge.configured(SMALL)
        knowledge.put("d", words(40, "old"))
        done = knowledge.put("d", words(40, "new"))
        assert done.status == "replaced"
        assert all("old" not in chunk.text for chunk in chunks(storage, "d"))
        assert knowledge.search("old3", mode="keyword") == []
        assert knowledge.text("d") == words(40, "new")

    def test_e1_what_is_said_of_it_changes_without_cutting_or_embedding_anew(
        self, storage: Storage
    ) -> None:
        storage = with_models(storage, embedder=AngleEmbedder())
        storage.knowledge.put("d", words(300), title="Old", source="s", metadata={"a": 1})
        before, asked = chunks(storage, "d"), len(storage._runtime.embedder.texts)  # type: ignore[union-attr]
        done = storage.knowledge.put("d", words(300), title="New", boost=2.0)
        assert (done.status, done.document.title, done.document.source) == ("amended", "New", "s")
        assert done.document.metadata == {"a": 1}
        assert [(c.text, c.space) for c in chunks(storage, "d")] == [
            (c.text, c.space) for c in before
        ]
        assert {(c.title, c.boost) for c in chunks(storage, "d")} == {("New", 2.0)}
        assert len(storage._runtime.embedder.texts) == asked  # type: ignore[union-attr]
        back = storage.knowledge.put("d", words(300), title=None, metadata=None, boost=None)
        assert (back.document.title, back.document.metadata, back.document.boost) == ("", {}, 1.0)

    @pytest.mark.needs_vectors
    def test_e1_an_edit_embeds_only_what_it_edits(self, storage: Storage) -> None:
        embedder = AngleEmbedder()
        knowledge = with_models(storage, embedder=embedder).knowledge.configured(SMALL)
        knowledge.put("d", words(60))
        embedder.texts.clear()
        knowledge.put("d", words(60) + " and more")
        assert 0 < len(embedder.texts) < 4
        assert all(chunk.space is not None for chunk in chunks(storage, "d"))

    def test_e1_an_ingest_that_fails_leaves_the_old_document_whole(self, storage: Storage) -> None:
        storage.knowledge.put("d", words(200, "old"))
        before = chunks(storage, "d")
        with pytest.raises(ZeroDivisionError), storage.unit() as unit:
            unit.knowledge.put("d", words(100, "new"))
            raise ZeroDivisionError
        assert chunks(storage, "d") == before
        assert storage.knowledge.text("d") == words(200, "old")

    def test_e1_a_unit_takes_in_several_documents_or_none(self, storage: Storage) -> None:
        with storage.unit() as unit:
            unit.knowledge.put("a", words(100))
            unit.knowledge.put("b", words(100))
        assert [d.id for d in storage.knowledge.list()] == ["a", "b"]

    def test_e1_two_ingests_at_once_end_as_one_of_them(self, open_storage: Any) -> None:
        handles = [open_storage() for _ in range(4)]
        contents = [words(30 * (n + 1), f"v{n}x") for n in range(4)]
        for _ in range(3):
            together(
                [
                    partial(h.knowledge.configured(SMALL).put, "d", c)
                    for h, c in zip(handles, contents, strict=True)
                ]
            )
            assert handles[0].knowledge.text("d") in contents
            held = handles[0].knowledge.get("d")
            assert held.chunks == len(chunks(handles[0], "d"))
            assert held.characters == len(handles[0].knowledge.text("d"))

    def test_e1_a_reader_meets_one_content_or_the_other(self, open_storage: Any) -> None:
        writer, reader = open_storage(), open_storage()
        contents = [words(60, "old"), words(25, "new")]
        put = writer.knowledge.configured(SMALL).put
        put("d", contents[0])

        def write() -> list[str]:
            return [put("d", contents[n % 2]).status for n in range(1, 12)]

        def read() -> list[str]:
            return [reader.knowledge.text("d") for _ in range(30)]

        statuses, seen = together([write, read])
        assert set(statuses) == {"replaced"}
        assert set(seen) <= set(contents)

    def test_e1_one_that_is_overtaken_looks_again(self, storage: Storage) -> None:
        between = Between(storage._driver)
        handle = Storage(between, storage.scope, storage._runtime)
        between.happens = lambda: storage.knowledge.put("d", "theirs", title="kept")
        done = handle.knowledge.put("d", "mine")
        assert (done.status, done.document.title) == ("replaced", "kept")
        between.happens = lambda: storage.knowledge.delete("d")
        assert handle.knowledge.put("d", "mine too").status == "created"
        assert storage.knowledge.text("d") == "mine too"

    def test_b6_an_id_of_another_scope_is_a_conflict_and_its_document_untouched(
        self, storage: Storage
    ) -> None:
        theirs = storage.with_agent("theirs").knowledge.put("d", "theirs").document
        with pytest.raises(Conflict):
            storage.with_agent("mine").knowledge.put("d", "mine")
        assert storage.with_agent("theirs").knowledge.get("d") == theirs
        assert storage.scoped(tenant="other").knowledge.put("d", "mine").status == "created"
        whole = storage.knowledge.put("d", "by the owner of all")
        assert (whole.status, whole.document.agent) == ("replaced", "theirs")

    @pytest.mark.parametrize(
        ("given", "kept"),
        [(math.nan, 1.0), (math.inf, 1.0), (-math.inf, 1.0), (-2, 0.0), (0, 0.0), (10**400, 1.0)],
    )
    def test_e7_a_senseless_boost_counts_as_none(
        self, storage: Storage, given: Any, kept: float
    ) -> None:
        assert storage.knowledge.put("d", "text", boost=given).document.boost == kept

    @pytest.mark.parametrize(
        ("document_id", "content", "fields", "field"),
        [
            ("", "x", {}, "document_id"),
            (" d", "x", {}, "document_id"),
            ("a\nb", "x", {}, "document_id"),
            ("d" * 401, "x", {}, "document_id"),
            (1, "x", {}, "document_id"),
            ("d", "", {}, "content"),
            ("d", " \n", {}, "content"),
            ("d", b"x", {}, "content"),
            ("d", "x\x00", {}, "content"),
            ("d", "\ud800", {}, "content"),
            ("d", "x", {"title": 1}, "title"),
            ("d", "x", {"source": ""}, "source"),
            ("d", "x", {"sets": "abc"}, "sets"),
            ("d", "x", {"sets": [1]}, "sets"),
            ("d", "x", {"boost": "2"}, "boost"),
            ("d", "x", {"boost": True}, "boost"),
            ("d", "x", {"metadata": [1]}, "metadata"),
            ("d", "x", {"metadata": {"a": math.nan}}, "metadata"),
            ("d", "x", {"access": 5}, "access"),
            ("d", "x", {"access": "everybody"}, "access"),
            ("d", "x", {"modified_at": "2026-01-01"}, "modified_at"),
            ("d", "x", {"colour": "red"}, "colour"),
        ],
    )
    def test_e1_bad_input_is_refused_and_nothing_is_written(
        self, storage: Storage, document_id: Any, content: Any, fields: Any, field: str
    ) -> None:
        with pytest.raises(Invalid) as refused:
            storage.knowledge.put(document_id, content, **fields)
        assert refused.value.field.startswith(field)
        assert storage.knowledge.counts().documents == 0

    def test_e1_hostile_text_that_can_be_kept_is_kept(self, storage: Storage) -> None:
        turned, flag = "\u202eevil", "\U0001f469\u200d\U0001f680" * 400
        for n, text in enumerate(["'; DROP TABLE x; --", '"%_*?', turned, flag, "\r\n#"]):
            storage.knowledge.put(f"d{n}", text, title=text)
            assert storage.knowledge.text(f"d{n}") == text
        with pytest.raises((TooLarge, InvalidText)):
            storage.knowledge.put("d", "x" * 4_000_001)

    def test_e1_a_document_of_too_many_chunks_is_refused(self, storage: Storage) -> None:
        tiny = KnowledgePolicy(chunk_characters=16, chunk_overlap=0)
        with pytest.raises(TooLarge, match="content"):
            storage.knowledge.configured(tiny).put("d", "x" * (16 * 9_001))
        assert storage.knowledge.counts().documents == 0


class TestKnowledgeChunks:
    def test_e2_chunks_are_500_with_64_shared_and_have_stable_ids(self, storage: Storage) -> None:
        storage.knowledge.put("d", "x" * 1_000)
        held = chunks(storage, "d")
        assert [(c.id, c.start, c.end) for c in held] == [
            ("d#0", 0, 500),
            ("d#1", 436, 936),
            ("d#2", 872, 1_000),
        ]
        storage.knowledge.put("d", "x" * 990 + "y" * 10)
        assert [c.id for c in chunks(storage, "d")] == [c.id for c in held]

    def test_e2_sizes_are_settable_and_changing_them_cuts_anew(self, storage: Storage) -> None:
        storage.knowledge.put("d", words(100))
        done = storage.knowledge.configured(SMALL).put("d", words(100))
        assert done.status == "replaced"
        assert all(len(chunk.text) <= 40 for chunk in chunks(storage, "d"))
        for sizes in ({"chunk_characters": 8}, {"chunk_overlap": 251}, {"chunk_characters": 4.5}):
            with pytest.raises(Invalid):
                KnowledgePolicy(**sizes)

    def test_e2_shrinking_a_document_removes_its_surplus_chunks(self, storage: Storage) -> None:
        storage.knowledge.put("d", words(500, "many"))
        storage.knowledge.put("other", words(500, "other"))
        assert len(chunks(storage, "d")) > 5
        storage.knowledge.put("d", "now it is short")
        assert [c.text for c in chunks(storage, "d")] == ["now it is short"]
        assert storage.knowledge.search("many7", mode="keyword") == []
        assert storage.knowledge.counts().chunks == 1 + len(chunks(storage, "other"))

    @pytest.mark.needs_vectors
    def test_f23_a_failed_embedding_keeps_the_chunks_for_their_words(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        embedder = AngleEmbedder()
        storage = with_models(storage, embedder=embedder)
        embedder.broken = Unavailable("down")
        storage.knowledge.put("d", "the kettle @30")
        [hit] = storage.knowledge.search("kettle", mode="keyword")
        assert (hit.item.space, hit.item.repair_error) == (None, "unavailable")
        assert storage.knowledge.vectors.stats().due == 1
        for wait in (60, 120, 240, 480):
            assert storage.knowledge.vectors.repair() == 0
            assert storage.knowledge.vectors.stats().waiting == 1
            clock.set(clock.now() + timedelta(seconds=wait))
        assert storage.knowledge.vectors.repair() == 0
        assert storage.knowledge.vectors.stats().parked == 1
        embedder.broken = None
        assert storage.knowledge.vectors.repair() == 0
        assert storage.knowledge.vectors.rearm() == 1
        assert storage.knowledge.vectors.repair() == 1
        [hit] = storage.knowledge.search("@30", mode="vector")
        assert hit.item.repair_attempts == 0
        assert storage.knowledge.vectors.stats().embedded == 1

    @pytest.mark.needs_vectors
    def test_f23_what_is_replaced_while_it_is_repaired_stays_as_it_became(
        self, storage: Storage
    ) -> None:
        embedder = AngleEmbedder()
        storage = with_models(storage, embedder=embedder)
        embedder.broken = Unavailable("down")
        storage.knowledge.put("d", "old @10")
        embedder.broken = None
        between = Between(storage._driver)
        worker = Storage(between, storage.scope, storage._runtime)

        def meanwhile() -> None:
            between.happens = lambda: storage.knowledge.put("d", "new @90")

        between.happens = meanwhile
        assert worker.knowledge.vectors.repair() == 0
        [hit] = storage.knowledge.search("@90", mode="vector", explain=True)
        assert hit.item.text == "new @90"
        assert hit.parts["cosine"] == pytest.approx(1.0, abs=1e-5)

    @pytest.mark.needs_vectors
    def test_f23_without_an_embedder_words_are_found_and_vectors_come_later(
        self, storage: Storage
    ) -> None:
        bare = with_models(storage, embedder=None)
        bare.knowledge.put("d", "the kettle @30")
        assert [hit.legs for hit in bare.knowledge.search("kettle")] == [("text",)]
        assert bare.knowledge.vectors.stats().absent == 1
        with pytest.raises(Invalid):
            bare.knowledge.vectors.repair()
        knowledge = with_models(storage, embedder=AngleEmbedder()).knowledge
        assert knowledge.vectors.rearm(vectorless=True) == 1
        assert knowledge.vectors.repair() == 1
        assert len(knowledge.search("@30", mode="vector")) == 1

    @pytest.mark.needs_vectors
    def test_e1_knowledge_lives_in_one_embedding_space(self, storage: Storage) -> None:
        with_models(storage, embedder=AngleEmbedder("one")).knowledge.put("d", "text @1")
        other = with_models(storage, embedder=AngleEmbedder("two")).knowledge
        with pytest.raises(DimensionMismatch):
            other.put("e", "text @2")
        with pytest.raises(DimensionMismatch):
            other.search("text")
        assert len(other.search("text", mode="keyword")) == 1


class TestKnowledgeDocuments:
    def test_e9_lists_by_scope_set_and_source_page(self, storage: Storage) -> None:
        for n in range(6):
            sets = ["even"] if n % 2 == 0 else []
            storage.knowledge.put(f"d{n}", f"text {n}", source=f"s{n // 3}", sets=sets)
        storage.scoped(tenant="other").knowledge.put("foreign", "text", source="s0", sets=["even"])
        knowledge = storage.knowledge
        first = knowledge.list(limit=4)
        second = knowledge.list(limit=4, cursor=first.next_cursor)
        assert [d.id for d in (*first, *second)] == [f"d{n}" for n in range(6)]
        assert second.next_cursor is None
        assert [d.id for d in knowledge.list(sources=["s1"])] == ["d3", "d4", "d5"]
        assert [d.id for d in knowledge.list(sets=["even"], sources=["s1"])] == ["d4"]
        assert [d.id for d in knowledge.list(sets=["none"])] == []
        assert knowledge.counts(sets=["even"]).documents == 3
        with pytest.raises(Invalid):
            knowledge.list(limit=0)
        with pytest.raises(Invalid):
            knowledge.list(sources="s1")

    def test_e9_deleting_a_document_removes_all_of_it_and_counts(self, storage: Storage) -> None:
        storage.knowledge.put("d", words(300, "gone"), source="s")
        storage.knowledge.put("kept", words(300, "kept"), source="s")
        storage.knowledge.ledger.note("s", "d.md", "f", document_id="d")
        count = len(chunks(storage, "d"))
        gone = storage.knowledge.delete("d")
        assert (gone.documents, gone.chunks) == (1, count)
        assert storage.knowledge.get("d") is None
        assert all(
            h.item.document_id == "kept" for h in storage.knowledge.search("gone3", limit=50)
        )
        assert storage.knowledge.ledger.get("s", "d.md") is None
        again = storage.knowledge.delete("d")
        assert (again.documents, again.chunks) == (0, 0)
        with pytest.raises(NotFound):
            storage.knowledge.text("d")

    def test_e9_deleting_a_source_removes_all_of_its_documents(self, storage: Storage) -> None:
        for name, source in (("a", "s"), ("b", "s"), ("c", "t")):
            storage.knowledge.put(name, words(150, name), source=source)
        storage.knowledge.put("locked", "text", source="s", access={})
        gone = storage.knowledge.delete_source("s")
        assert gone.documents == 3
        assert [d.id for d in storage.knowledge.unrestricted().list()] == ["c"]
        assert {h.item.document_id for h in storage.knowledge.search("a1 b1 c1")} == {"c"}

    def test_e9_nothing_is_left_behind_in_any_table(self, storage: Storage, harness: Any) -> None:
        storage.knowledge.put("d", words(300))
        storage.knowledge.delete("d")
        assert harness.peek(DOCUMENTS, "default") == []
        assert harness.peek(CHUNKS, "default") == []


class TestKnowledgeRuns:
    def test_e10_a_run_is_put_by_its_id_and_outlives_the_handle(
        self, storage: Storage, open_storage: Any, clock: ManualClock
    ) -> None:
        begun = storage.knowledge.runs.put("wiki", run_id="r1")
        assert (begun.status, begun.finished_at) == ("running", None)
        clock.set(clock.now() + timedelta(minutes=5))
        runs = open_storage().knowledge.runs
        done = runs.put("wiki", run_id="r1", status="succeeded", cursor="c1", counts={"new": 3})
        assert (done.started_at, done.finished_at) == (begun.started_at, clock.now())
        assert storage.knowledge.runs.get("r1") == done
        assert len(storage.knowledge.runs.list()) == 1
        assert storage.knowledge.runs.put("wiki").id != "r1"

    def test_e10_the_cursor_is_the_greatest_of_succeeded_runs(self, storage: Storage) -> None:
        runs = storage.knowledge.runs
        assert runs.cursor("wiki") is None
        runs.put("wiki", run_id="a", status="succeeded", cursor="2026-03-01")
        runs.put("wiki", run_id="b", status="succeeded", cursor="2026-02-01")
        runs.put("wiki", run_id="c", status="failed", cursor="2026-09-01", error="down")
        runs.put("wiki", run_id="d", cursor="2026-08-01")
        runs.put("wiki", run_id="e", status="succeeded")
        runs.put("mail", run_id="f", status="succeeded", cursor="2026-12-01")
        assert runs.cursor("wiki") == "2026-03-01"
        runs.put("wiki", run_id="d", status="succeeded", cursor="2026-08-01")
        assert runs.cursor("wiki") == "2026-08-01"
        assert storage.with_agent("other").knowledge.runs.cursor("wiki") is None

    def test_e10_runs_are_listed_oldest_first_in_pages(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        for n in range(5):
            storage.knowledge.runs.put("wiki", run_id=f"r{9 - n}", status="failed")
            clock.set(clock.now() + timedelta(seconds=n % 2))
        runs = storage.knowledge.runs
        first = runs.list(source="wiki", limit=3)
        rest = runs.list(source="wiki", limit=3, cursor=first.next_cursor)
        assert [r.id for r in (*first, *rest)] == ["r8", "r9", "r6", "r7", "r5"]
        assert len(runs.list(status="succeeded")) == 0
        assert runs.delete("r5")
        assert not runs.delete("r5")

    def test_b6_a_run_of_another_scope_or_source_is_a_conflict(self, storage: Storage) -> None:
        theirs = storage.with_agent("theirs").knowledge.runs.put("wiki", run_id="r")
        with pytest.raises(Conflict):
            storage.with_agent("mine").knowledge.runs.put("wiki", run_id="r")
        with pytest.raises(Conflict):
            storage.with_agent("theirs").knowledge.runs.put("mail", run_id="r")
        assert storage.with_agent("theirs").knowledge.runs.get("r") == theirs
        assert storage.with_agent("mine").knowledge.runs.get("r") is None

    def test_e10_the_ledger_keeps_what_was_last_seen(
        self, storage: Storage, open_storage: Any
    ) -> None:
        ledger = storage.knowledge.ledger
        ledger.note("s", "b.md", "1", document_id="b")
        ledger.note("s", "a.pdf", "1", error="encrypted")
        ledger.note("t", "b.md", "9")
        ledger.note("s", "b.md", "2", document_id="b", run_id="r")
        later = open_storage().knowledge.ledger
        held = later.get("s", "b.md")
        assert (held.fingerprint, held.run_id, held.error) == ("2", "r", None)
        assert [(e.source, e.item) for e in later.list()] == [
            ("s", "a.pdf"),
            ("s", "b.md"),
            ("t", "b.md"),
        ]
        assert [e.item for e in later.list(source="s", failed=True)] == ["a.pdf"]
        assert later.forget("s", ["a.pdf", "never"]) == 1
        assert storage.with_agent("other").knowledge.ledger.get("s", "b.md") is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"status": "done"},
            {"cursor": ""},
            {"counts": {"a": -1}},
            {"counts": {"a": "1"}},
            {"counts": [1]},
            {"error": "\x00"},
            {"run_id": 5},
        ],
    )
    def test_e10_bad_runs_are_refused(self, storage: Storage, wrong: dict[str, Any]) -> None:
        with pytest.raises(Invalid):
            storage.knowledge.runs.put("wiki", **wrong)
        with pytest.raises(Invalid):
            storage.knowledge.ledger.note("s", "i", "")
        assert len(storage.knowledge.runs.list()) == 0
