"""Whom documents admit, and collections with grants: E5, E6, E11, B11."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import pytest

from holdfast.core.capabilities import no
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unsupported
from holdfast.layers.check import Checked
from holdfast.layers.layer import Layer
from holdfast.storage import Storage, all_collections
from holdfast.stores.knowledge import Access, KnowledgeReader
from holdfast.stores.knowledge.records import CHUNKS, DOCUMENTS
from holdfast.testing.models import AngleEmbedder, with_models
from holdfast.testing.threads import together

EVERYBODY: Mapping[str, Any] = {}
ADA: Mapping[str, Any] = {"user": "ada"}
BOARD: Mapping[str, Any] = {"user": "bob", "groups": ["board", "staff"]}
NOBODY: Mapping[str, Any] = {"user": "eve", "groups": ["visitors"]}


class NoText(Layer):
    """An engine that searches nothing."""

    def __init__(self, below: Driver) -> None:
        super().__init__(below)
        why = no("it was taken away")
        self.capabilities = msgspec.structs.replace(below.capabilities, full_text=why, vectors=why)


def seen(reader: KnowledgeReader, query: str = "plan") -> set[str]:
    """What the reader finds, by each way of finding it; the ways must agree."""
    ways: list[set[str]] = [
        {hit.item.document_id for hit in reader.search(query, limit=250, mode=mode)}
        for mode in ("hybrid", "keyword", "vector")
    ]
    ways.append({document.id for document in reader.list(limit=1_000)})
    every = set().union(*ways)
    ways.append({document_id for document_id in every if reader.get(document_id) is not None})
    ways.append({document_id for document_id in every if reader.chunks(document_id).items})
    assert all(way == ways[0] for way in ways), ways
    assert reader.counts().documents == len(ways[0])
    return ways[0]


class TestKnowledgeAccess:
    @pytest.mark.needs_vectors
    @pytest.mark.parametrize(
        ("access", "admitted"),
        [
            (None, [EVERYBODY, ADA, BOARD, NOBODY]),
            (Access(public=True), [EVERYBODY, ADA, BOARD, NOBODY]),
            (Access(public=True, users=["ada"]), [EVERYBODY, ADA, BOARD, NOBODY]),
            (Access(users=["ada"]), [ADA]),
            (Access(users=["ada", "bob"]), [ADA, BOARD]),
            (Access(groups=["board"]), [BOARD]),
            ({"groups": ["other", "staff"], "users": ["ada"]}, [ADA, BOARD]),
            ({"users": ("ada",), "public": False}, [ADA]),
            (Access(), []),
            ({}, []),
            ({"users": [], "groups": []}, []),
        ],
    )
    def test_e5_a_document_admits_whom_it_names(
        self, storage: Storage, access: Any, admitted: list[Any]
    ) -> None:
        made = storage.knowledge.put("d", "the plan", access=access).document
        assert not made.access_malformed
        assert made.locked == (not admitted)
        for who in (EVERYBODY, ADA, BOARD, NOBODY):
            expected = {"d"} if who in admitted else set()
            assert seen(storage.knowledge.for_access(**who)) == expected, who
        assert seen(storage.knowledge) == ({"d"} if EVERYBODY in admitted else set())
        assert seen(storage.knowledge.unrestricted()) == {"d"}

    @pytest.mark.needs_vectors
    @pytest.mark.parametrize(
        "access",
        [
            {"users": "ada"},
            {"users": ["ada", 5]},
            {"users": ["ada", None]},
            {"users": ["ada", " "]},
            {"users": ["*"]},
            {"users": {"name": "ada"}},
            {"user": ["ada"]},
            {"users": ["ada"], "everyone": True},
            {"public": "yes"},
            {"public": 1, "users": ["ada"]},
            {"users": ["ada\x00"]},
            {"users": ["\ud800"]},
            {"groups": None},
            {5: ["ada"]},
            Access(users="ada"),  # type: ignore[arg-type]
            Access(public="true"),  # type: ignore[arg-type]
        ],
    )
    def test_e5_a_malformed_list_locks_and_says_so(self, storage: Storage, access: Any) -> None:
        made = storage.knowledge.put("d", "the plan", access=access).document
        assert (made.locked, made.access_malformed) == (True, True)
        for who in (EVERYBODY, ADA, BOARD):
            assert seen(storage.knowledge.for_access(**who)) == set()
        repaired = storage.knowledge.set_access("d", {"users": ["ada"]})
        assert (repaired.locked, repaired.access_malformed) == (False, False)
        assert repaired.access == Access(users=["ada"])

    def test_e5_a_row_without_any_words_is_locked(self, storage: Storage, harness: Any) -> None:
        storage.knowledge.put("d", "the plan")
        planted = {**_bare(storage), "id": "planted", "readers": []}
        harness.plant(DOCUMENTS, "default", {**planted, "revision": 1})
        assert storage.knowledge.get("planted") is None
        assert storage.knowledge.unrestricted().get("planted") is not None
        assert DOCUMENTS.by_name["readers"].default == CHUNKS.by_name["readers"].default == []

    @pytest.mark.needs_vectors
    def test_e5_names_compare_trimmed_and_addresses_without_case(self, storage: Storage) -> None:
        storage.knowledge.put("d", "the plan", access={"users": [" Ada@Example.ORG ", "Bob"]})
        reads = storage.knowledge.for_access
        assert seen(reads(user="ada@example.org")) == {"d"}
        assert seen(reads(user="\tADA@EXAMPLE.ORG")) == {"d"}
        assert seen(reads(user="Bob")) == {"d"}
        assert seen(reads(user="bob")) == set()
        assert seen(reads(groups=["Bob"])) == set()
        assert seen(reads(user="group:Bob")) == set()

    @pytest.mark.needs_vectors
    def test_e5_the_best_that_admit_are_found_behind_any_that_do_not(
        self, storage: Storage
    ) -> None:
        """Both legs: what is locked is nearer by words and by vector."""
        storage = with_models(storage, embedder=AngleEmbedder())
        for n in range(120):
            storage.knowledge.put(f"locked{n}", "plan plan @0", access={"users": ["bob"]})
        for n in range(10):
            text = f"a plan among quite a few other words @{40 + n}"
            storage.knowledge.put(f"open{n}", text, access={"groups": ["staff"]})
        reader = storage.knowledge.for_access(user="ada", groups=["staff"])
        for mode in ("hybrid", "keyword", "vector"):
            found = reader.search("plan @0", limit=10, mode=mode)
            assert {hit.item.document_id for hit in found} == {f"open{n}" for n in range(10)}

    @pytest.mark.needs_vectors
    def test_e5_neither_leg_shows_what_does_not_admit(self, storage: Storage) -> None:
        storage = with_models(storage, embedder=AngleEmbedder())
        storage.knowledge.put("by_words", "plan plan @180", access={})
        storage.knowledge.put("by_vector", "nothing of it @0", access={})
        storage.knowledge.put("open", "a plan @90")
        for who in (EVERYBODY, ADA, BOARD):
            found = storage.knowledge.for_access(**who).search("plan @0", explain=True)
            assert [hit.item.document_id for hit in found] == ["open"]
            assert (found.stages["text"], found.stages["vector"]) == (1, 1)

    @pytest.mark.needs_vectors
    def test_e5_the_list_changes_at_once_for_document_and_chunks(self, storage: Storage) -> None:
        storage.knowledge.put("d", "the plan " * 200)
        storage.knowledge.set_access("d", {"users": ["ada"]})
        assert seen(storage.knowledge) == set()
        assert seen(storage.knowledge.for_access(user="ada")) == {"d"}
        storage.knowledge.put("d", "the plan " * 200 + "b", access={"users": ["bob"]})
        assert seen(storage.knowledge.for_access(user="ada")) == set()
        assert seen(storage.knowledge.for_access(user="bob")) == {"d"}
        # A content that comes without a list changes nothing about whom it admits.
        storage.knowledge.put("d", "the plan " * 210)
        assert seen(storage.knowledge) == set()
        storage.knowledge.set_access("d", None)
        assert seen(storage.knowledge) == {"d"}

    def test_e5_curation_narrows_what_admits_and_never_widens(self, storage: Storage) -> None:
        for name, access in (("mine", {"users": ["ada"]}), ("theirs", {"users": ["bob"]})):
            storage.knowledge.put(name, "plan", access=access, sets=["s"], metadata={"a": 1})
        ada = storage.knowledge.for_access(user="ada")
        narrowings: list[Any] = [
            {"sets": ["s"]},
            {"metadata": {"a": 1}},
            {"documents": ["theirs", "mine"]},
        ]
        for narrowing in narrowings:
            found = ada.search("plan", **narrowing)
            assert {hit.item.document_id for hit in found} == {"mine"}
        assert ada.counts(sets=["s"]).documents == 1
        assert [d.id for d in ada.list(metadata={"a": 1})] == ["mine"]

    def test_b11_what_does_not_admit_looks_missing(self, storage: Storage) -> None:
        storage.knowledge.put("locked", "the plan", access={"users": ["bob"]})
        reader = storage.knowledge.for_access(user="ada")

        def told(call: Callable[[str], object], name: str) -> str:
            try:
                return repr(call(name)).replace(name, "?")
            except NotFound as error:
                return f"{error} {error.context}".replace(name, "?")

        for call in (
            reader.get,
            reader.text,
            reader.chunks,
            lambda name: list(reader.search("plan", documents=[name])),
        ):
            assert told(call, "locked") == told(call, "absent")

    def test_e5_a_cursor_of_one_reader_is_no_other_readers(self, storage: Storage) -> None:
        for n in range(4):
            storage.knowledge.put(f"d{n}", "plan", access={"users": ["ada"]})
        page = storage.knowledge.for_access(user="ada").list(limit=2)
        with pytest.raises(Invalid):
            storage.knowledge.for_access(user="bob").list(limit=2, cursor=page.next_cursor)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"user": ""},
            {"user": "*"},
            {"user": 5},
            {"user": "a\nb"},
            {"user": "\ud800"},
            {"groups": "board"},
            {"groups": [None]},
            {"groups": ["*"]},
            {"groups": None},
        ],
    )
    def test_e5_a_reader_without_a_name_is_refused(self, storage: Storage, wrong: Any) -> None:
        with pytest.raises(Invalid):
            storage.knowledge.for_access(**wrong)

    @pytest.mark.needs_vectors
    def test_e5_too_many_names_are_refused_and_none_is_dropped(self, storage: Storage) -> None:
        names = [f"group{n}" for n in range(1_100)]
        with pytest.raises(TooLarge):
            storage.knowledge.for_access(groups=names)
        with pytest.raises(TooLarge):
            storage.knowledge.put("d", "plan", access={"groups": names})
        storage.knowledge.put("d", "plan", access={"groups": names[:1_000]})
        assert seen(storage.knowledge.for_access(groups=names[990:1_010])) == {"d"}

    def test_e6_a_reader_can_only_read(self, storage: Storage) -> None:
        reader = storage.knowledge.for_access(user="ada")
        verbs = {name for name in dir(reader) if not name.startswith("_")} - {"collections"}
        assert verbs == {"chunks", "counts", "get", "list", "search", "text"}

    def test_e6_an_engine_that_cannot_search_so_refuses(self, storage: Storage) -> None:
        storage.knowledge.put("locked", "the plan", access={"users": ["bob"]})
        shapes = {shape.name: shape for shape in all_collections()}
        poor = Storage(Checked(NoText(storage._driver), shapes), storage.scope, storage._runtime)
        for reader in (poor.knowledge.for_access(user="bob"), poor.knowledge):
            for mode in ("hybrid", "keyword", "vector"):
                with pytest.raises(Unsupported):
                    reader.search("plan", mode=mode)


class TestKnowledgeCollections:
    def test_e11_a_tag_has_one_spelling_and_one_owner(self, storage: Storage) -> None:
        grants = storage.knowledge.grants
        made = grants.create("  Team  Wiki ", by="ada")
        assert (made.tag, made.created_by) == ("team-wiki", "ada")
        for tag in ("team-wiki", "TEAM wiki", "ＴＥＡＭ wiki"):
            with pytest.raises(Conflict):
                grants.create(tag, by="bob")
        assert grants.get("Team Wiki", user="ada") == made
        assert grants.right("team wiki", "ada") == "owner"
        assert grants.get("team-wiki", user="bob") is None
        assert storage.with_agent("a").knowledge.grants.create("team-wiki", by="bob").tag

    def test_e11_of_many_at_once_one_makes_it(self, open_storage: Any) -> None:
        handles = [open_storage() for _ in range(4)]

        def create(handle: Storage, name: str) -> str:
            try:
                return handle.knowledge.grants.create("wiki", by=name).created_by
            except Conflict:
                return ""

        calls = [partial(create, h, f"user{n}") for n, h in enumerate(handles)]
        [owner] = [name for name in together(calls) if name]
        assert handles[0].knowledge.grants.right("wiki", owner) == "owner"

    def test_e11_each_right_includes_those_before_it(self, storage: Storage) -> None:
        grants = storage.knowledge.grants
        grants.create("wiki", by="ada")
        grants.grant("wiki", "writer", "write", by="ada")
        grants.grant("wiki", "reader", "read", by="ada")
        allowed = {"ada": 3, "writer": 2, "reader": 1, "eve": 0}
        for user, count in allowed.items():
            for place, right in enumerate(("read", "write", "owner"), 1):
                if place <= count:
                    assert grants.require("wiki", user, right).tag == "wiki"  # type: ignore[arg-type]
                    continue
                with pytest.raises(Forbidden if count else NotFound):
                    grants.require("wiki", user, right)  # type: ignore[arg-type]

    def test_e11_only_an_owner_grants(self, storage: Storage) -> None:
        grants = storage.knowledge.grants
        grants.create("wiki", by="ada")
        grants.grant("wiki", "bob", "write", by="ada")
        for call in (
            lambda by: grants.grant("wiki", "eve", "read", by=by),
            lambda by: grants.revoke("wiki", "ada", by=by),
            lambda by: grants.grants("wiki", by=by),
            lambda by: grants.delete("wiki", by=by),
        ):
            with pytest.raises(Forbidden):
                call("bob")
            with pytest.raises(NotFound):
                call("eve")
        assert [(g.grantee, g.right) for g in grants.grants("wiki", by="ada")] == [
            ("ada", "owner"),
            ("bob", "write"),
        ]

    def test_e11_a_collection_keeps_an_owner(self, storage: Storage, open_storage: Any) -> None:
        grants = storage.knowledge.grants
        grants.create("wiki", by="ada")
        for call in (
            lambda: grants.revoke("wiki", "ada", by="ada"),
            lambda: grants.grant("wiki", "ada", "write", by="ada"),
        ):
            with pytest.raises(Conflict):
                call()
        grants.grant("wiki", "bob", "owner", by="ada")

        def leave(handle: Storage, name: str, by: str) -> bool:
            try:
                return handle.knowledge.grants.revoke("wiki", name, by=by)
            except (Conflict, NotFound, Forbidden):
                return False

        two = [open_storage(), open_storage()]
        left = together([lambda: leave(two[0], "ada", "bob"), lambda: leave(two[1], "bob", "ada")])
        assert sorted(left) == [False, True]
        assert [grants.right("wiki", name) for name in ("ada", "bob")].count("owner") == 1

    @pytest.mark.needs_vectors
    def test_e11_documents_of_a_collection_need_a_grant_to_be_read(self, storage: Storage) -> None:
        knowledge = storage.knowledge
        knowledge.grants.create("wiki", by="ada")
        knowledge.put("d", "the plan", collection="Wiki")
        knowledge.put("free", "the plan")
        reads = knowledge.for_access
        assert seen(reads(user="ada")) == {"d", "free"}
        assert seen(reads(user="bob")) == seen(knowledge) == {"free"}
        knowledge.grants.grant("wiki", "bob", "read", by="ada")
        assert seen(reads(user="bob")) == {"d", "free"}
        knowledge.grants.revoke("wiki", "bob", by="ada")
        assert seen(reads(user="bob")) == {"free"}
        knowledge.grants.grant("wiki", "*", "read", by="ada")
        assert seen(reads(user="bob")) == seen(knowledge) == {"d", "free"}
        # A grant opens no document whose own list does not admit.
        knowledge.set_access("d", {"users": ["ada"]})
        assert seen(reads(user="bob")) == {"free"}
        assert [h.item.id for h in reads(user="ada").search("plan", collection="wiki")] == ["d#0"]
        assert reads(user="ada").search("plan", collection="nowhere") == []

    @pytest.mark.needs_vectors
    def test_e11_without_its_grants_a_collection_is_closed(
        self, storage: Storage, driver: Any
    ) -> None:
        from holdfast.core.change import DeleteWhere
        from holdfast.core.filter import EVERYTHING

        storage.knowledge.grants.create("wiki", by="ada")
        storage.knowledge.put("d", "the plan", collection="wiki")
        driver.setup(all_collections())
        driver.apply("default", [DeleteWhere("knowledge_grants", EVERYTHING)])
        for who in (EVERYBODY, ADA, BOARD):
            assert seen(storage.knowledge.for_access(**who)) == set()
        with pytest.raises(NotFound):
            storage.knowledge.grants.require("wiki", "ada", "read")

    def test_e11_writing_by_somebody_needs_their_right(self, storage: Storage) -> None:
        knowledge = storage.knowledge
        knowledge.grants.create("wiki", by="ada")
        knowledge.grants.grant("wiki", "reader", "read", by="ada")
        knowledge.grants.grant("wiki", "writer", "write", by="ada")
        for name, error in (("reader", Forbidden), ("eve", NotFound)):
            with pytest.raises(error):
                knowledge.put("d", "the plan", collection="wiki", by=name)
        assert knowledge.counts().documents == 0
        made = knowledge.put("d", "the plan", collection="wiki", by="writer")
        assert made.document.by == "writer"
        for name, error in (("reader", Forbidden), ("eve", NotFound)):
            for moved in ({}, {"collection": None}):
                with pytest.raises(error):
                    knowledge.put("d", "another plan", by=name, **moved)
        assert knowledge.put("d", "the plan", by="writer").status == "unchanged"
        with pytest.raises(NotFound):
            knowledge.put("e", "the plan", collection="nowhere")

    @pytest.mark.needs_vectors
    def test_e11_deleting_a_collection_takes_its_documents(self, storage: Storage) -> None:
        knowledge = storage.knowledge
        knowledge.grants.create("wiki", by="ada")
        knowledge.put("d", "the plan " * 100, collection="wiki")
        knowledge.put("free", "the plan")
        knowledge.ledger.note("s", "d.md", "1", document_id="d")
        assert knowledge.grants.delete("wiki", by="ada") == 1
        assert seen(knowledge.unrestricted()) == {"free"}
        assert knowledge.ledger.get("s", "d.md") is None
        assert knowledge.grants.get("wiki", user="ada") is None
        assert knowledge.grants.create("wiki", by="bob").created_by == "bob"
        assert seen(knowledge.for_access(user="bob")) == {"free"}

    def test_e11_collections_are_listed_by_tag_for_whom_they_admit(self, storage: Storage) -> None:
        grants = storage.knowledge.grants
        for tag in ("c", "a", "b"):
            grants.create(tag, by="ada")
        grants.grant("b", "*", "read", by="ada")
        first = grants.list(user="ada", limit=2)
        rest = grants.list(user="ada", limit=2, cursor=first.next_cursor)
        assert [c.tag for c in (*first, *rest)] == ["a", "b", "c"]
        assert [c.tag for c in grants.list(user="eve")] == ["b"]

    @pytest.mark.parametrize("bad", ["", "  ", 5, "a\x00", "\ud800", "x" * 500])
    def test_e11_bad_names_are_refused(self, storage: Storage, bad: Any) -> None:
        grants = storage.knowledge.grants
        with pytest.raises(Invalid):
            grants.create(bad, by="ada")
        with pytest.raises(Invalid):
            grants.create("wiki", by=bad)
        grants.create("wiki", by="ada")
        with pytest.raises(Invalid):
            grants.grant("wiki", bad, "read", by="ada")
        with pytest.raises(Invalid):
            grants.grant("wiki", "bob", "admin", by="ada")  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            grants.grant("wiki", "*", "owner", by="ada")


def _bare(storage: Storage) -> dict[str, Any]:
    held = storage.knowledge.get("d")
    assert held is not None
    return msgspec.structs.asdict(held)
