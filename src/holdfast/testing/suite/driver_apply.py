"""What one apply does: B07-B13, B15, B17."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.core.change import (
    ABSENT,
    PRESENT,
    Change,
    Claim,
    Condition,
    Delete,
    DeleteWhere,
    Edit,
    Patch,
    PatchWhere,
    Put,
    Revision,
    Scale,
    When,
)
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.filter import EVERYTHING, Filter, In, among, eq, ge, lt
from holdfast.core.query import Query, asc, desc
from holdfast.core.search import Search, TextLeg
from holdfast.testing.shapes import (
    ACCOUNTS,
    CHILDREN,
    GUARDS,
    JOBS,
    LINKS,
    NODES,
    NOON,
    NOTES,
    PAIRS,
    PARENTS,
    SHAPES,
    THINGS,
    TOYS,
    account,
    job,
    note,
    put,
    thing,
    vector,
)


def _ids(driver: Driver, collection: str, where: Filter = EVERYTHING) -> list[str]:
    query = Query(collection=collection, filter=where, order=asc("id"))
    return [record["id"] for record in driver.query("t", query).records]


class TestDriverApply:
    @pytest.mark.parametrize(
        "spoiler",
        [
            Put(JOBS.name, job("a"), ABSENT),
            Put(JOBS.name, job("z"), PRESENT),
            Patch(JOBS.name, ("missing",), Edit(set={"worker": "w"})),
            Patch(JOBS.name, ("a",), Edit(set={"worker": "w"}), Revision(9)),
            Delete(JOBS.name, ("a",), When(eq("state", "done"))),
            Put(ACCOUNTS.name, account("y", email="e")),
            Put(CHILDREN.name, {"id": "c", "parent": "missing", "body": ""}),
            Delete(PARENTS.name, ("guarded",)),
        ],
    )
    def test_b07_apply_does_all_or_none(self, driver: Driver, spoiler: Change) -> None:
        driver.setup(SHAPES)
        held = [put(JOBS, job("a")), put(JOBS, job("b", 1)), put(ACCOUNTS, account("x", email="e"))]
        driver.apply("t", held)
        driver.apply("t", [put(PARENTS, {"id": k, "name": ""}) for k in ("p", "guarded")])
        driver.apply("t", [put(GUARDS, {"id": "g", "parent": "guarded"})])
        driver.apply("t", [put(CHILDREN, {"id": "k", "parent": "p", "body": "word"})])
        before = _everything(driver)
        good: list[Change] = [
            put(JOBS, job("new")),
            Patch(JOBS.name, ("a",), Edit(set={"state": "lost"})),
            Delete(JOBS.name, ("b",)),
            PatchWhere(JOBS.name, EVERYTHING, Edit(increment={"tries": 1})),
            Claim(JOBS.name, EVERYTHING, asc("priority"), 1, Edit(set={"worker": "w"})),
            DeleteWhere(JOBS.name, eq("id", "new")),
            Delete(PARENTS.name, ("p",)),
            put(JOBS, job("a")),
        ]
        with pytest.raises((Conflict, NotFound)):
            driver.apply("t", [*good, spoiler])
        with pytest.raises((Conflict, NotFound)):
            driver.apply(
                "t", [*good, Put(JOBS.name, job("late")), spoiler, Put(JOBS.name, job("q"))]
            )
        assert _everything(driver) == before
        found = driver.search("t", Search(collection=CHILDREN.name, text=TextLeg(terms=("word",))))
        assert [hit.key for hit in found.text] == [("k",)]

    def test_b07_no_changes_are_no_outcomes(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        assert driver.apply("t", []) == []

    def test_b08_later_changes_see_earlier_ones(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        outcomes = driver.apply(
            "t",
            [
                Put(JOBS.name, job("a", 1), ABSENT),
                Patch(JOBS.name, ("a",), Edit(increment={"priority": 4}), Revision(1)),
                Put(JOBS.name, job("b", 9), ABSENT),
                PatchWhere(JOBS.name, ge("priority", 5), Edit(increment={"tries": 1})),
                Claim(JOBS.name, eq("tries", 1), desc("priority"), 1, Edit(set={"worker": "w"})),
                Delete(JOBS.name, ("a",), When(eq("priority", 5))),
                Put(JOBS.name, job("a", 2), ABSENT),
                DeleteWhere(JOBS.name, lt("priority", 9)),
            ],
        )
        assert [outcome.count for outcome in outcomes] == [1, 1, 1, 2, 1, 1, 1, 1]
        assert outcomes[1].record["priority"] == 5
        assert [r["id"] for r in outcomes[4].records] == ["b"]
        assert _ids(driver, JOBS.name) == ["b"]

    def test_b08_outcomes_hold_counts_and_records_as_stored(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job(k)) for k in "abc"])
        edit = Edit(set={"worker": "w"})
        outcomes = driver.apply(
            "t",
            [
                Patch(JOBS.name, ("a",), edit),
                PatchWhere(JOBS.name, among("id", ["b", "c"]), edit),
                Claim(JOBS.name, EVERYTHING, desc("id"), 2, Edit(set={"state": "taken"})),
                Delete(JOBS.name, ("missing",)),
                Delete(JOBS.name, ("a",)),
                DeleteWhere(JOBS.name, EVERYTHING, 1, desc("id")),
                DeleteWhere(JOBS.name, EVERYTHING, 0),
                Claim(JOBS.name, EVERYTHING, asc("id"), 0, edit),
            ],
        )
        assert [o.count for o in outcomes] == [1, 2, 2, 0, 1, 1, 0, 0]
        assert [len(o.records) for o in outcomes] == [1, 0, 2, 0, 0, 0, 0, 0]
        assert outcomes[0].record == {**job("a"), "worker": "w", "revision": 2}
        taken = {"state": "taken", "worker": "w", "revision": 3}
        assert outcomes[2].records == ({**job("c"), **taken}, {**job("b"), **taken})
        assert _ids(driver, JOBS.name) == ["b"]

    def test_b09_revisions_count_from_one_by_one(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        edit = Edit(set={"worker": "w"})
        steps: list[Change] = [
            put(JOBS, {**job("a"), "revision": 40}),
            put(JOBS, job("a")),
            Patch(JOBS.name, ("a",), edit),
            Patch(JOBS.name, ("a",), edit),
            PatchWhere(JOBS.name, EVERYTHING, edit),
            Claim(JOBS.name, EVERYTHING, asc("id"), 1, edit),
        ]
        for revision, step in enumerate(steps, start=1):
            driver.apply("t", [step])
            read = driver.get("t", JOBS.name, ("a",))
            assert read is not None
            assert read["revision"] == revision
        driver.apply("t", [Delete(JOBS.name, ("a",))])
        assert driver.apply("t", [put(JOBS, job("a"))])[0].record["revision"] == 1

    @pytest.mark.parametrize(
        "when, kind",
        [
            (ABSENT, Conflict),
            (Revision(1), Conflict),
            (Revision(3), Conflict),
            (When(eq("state", "waiting")), Conflict),
            (When(~eq("worker", "w")), Conflict),
        ],
    )
    def test_b10_a_condition_that_does_not_hold_is_a_conflict(
        self, driver: Driver, when: Condition, kind: type[Exception]
    ) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a"))])
        driver.apply("t", [Patch(JOBS.name, ("a",), Edit(set={"state": "done", "worker": "w"}))])
        before = _everything(driver)
        changes: list[Change] = [Put(JOBS.name, job("a"), when), Delete(JOBS.name, ("a",), when)]
        if when is not ABSENT:
            changes.append(Patch(JOBS.name, ("a",), Edit(set={"state": "x"}), when))
        for change in changes:
            with pytest.raises(kind):
                driver.apply("t", [change])
        assert _everything(driver) == before

    def test_b10_conditions_that_hold_let_the_change_happen(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        edit = Edit(increment={"tries": 1})
        driver.apply("t", [Put(JOBS.name, job("a"), ABSENT)])
        driver.apply("t", [Patch(JOBS.name, ("a",), edit, PRESENT)])
        driver.apply("t", [Patch(JOBS.name, ("a",), edit, Revision(2))])
        driver.apply(
            "t", [Patch(JOBS.name, ("a",), edit, When(eq("tries", 2) & lt("priority", 1)))]
        )
        driver.apply("t", [Put(JOBS.name, job("a", 5), PRESENT)])
        driver.apply("t", [Delete(JOBS.name, ("missing",), ABSENT)])
        driver.apply("t", [Delete(JOBS.name, ("a",), When(eq("priority", 5)))])
        assert _ids(driver, JOBS.name) == []

    @pytest.mark.parametrize("when", [PRESENT, Revision(1), When(EVERYTHING)])
    def test_b10_a_condition_on_a_missing_record_says_not_found(
        self, driver: Driver, when: Condition
    ) -> None:
        driver.setup(SHAPES)
        changes: list[Change] = [
            Put(JOBS.name, job("a"), when),
            Patch(JOBS.name, ("a",), Edit(set={"state": "x"}), when),
            Delete(JOBS.name, ("a",), when),
        ]
        for change in changes:
            with pytest.raises(NotFound):
                driver.apply("t", [change])
        assert _ids(driver, JOBS.name) == []

    def test_b11_patching_a_missing_record_says_not_found(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(PAIRS, {"room": "r", "number": 1, "label": None})])
        for key in (("r", 2), ("R", 1), ("r1", 1)):
            with pytest.raises(NotFound):
                driver.apply("t", [Patch(PAIRS.name, key, Edit(set={"label": "x"}))])
        assert len(driver.query("t", Query(collection=PAIRS.name)).records) == 1

    def test_b12_a_second_record_with_a_unique_key_is_refused_by_name(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(ACCOUNTS, account("a", email="e"))])
        driver.apply("t", [put(ACCOUNTS, account("b", email="f"))])
        before = _everything(driver)
        changes: list[Change] = [
            put(ACCOUNTS, account("c", email="e")),
            put(ACCOUNTS, account("b", email="e")),
            Patch(ACCOUNTS.name, ("b",), Edit(set={"email": "e"})),
            PatchWhere(ACCOUNTS.name, EVERYTHING, Edit(set={"email": "same"})),
            Claim(ACCOUNTS.name, eq("id", "b"), asc("id"), 1, Edit(set={"email": "e"})),
        ]
        for change in changes:
            with pytest.raises(Conflict) as refused:
                driver.apply("t", [change])
            assert refused.value.context["unique"] == "one_email"
        with pytest.raises(Conflict) as refused:
            driver.apply("t", [Put(ACCOUNTS.name, account("a"), ABSENT)])
        assert refused.value.context["unique"] == "key"
        assert _everything(driver) == before

    def test_b12_the_same_record_nulls_and_freed_keys_collide_with_nothing(
        self, driver: Driver
    ) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(ACCOUNTS, account("a", email="e"))])
        driver.apply("t", [put(ACCOUNTS, account("a", "other", email="e"))])
        driver.apply("t", [put(ACCOUNTS, account(k)) for k in "bc"])
        driver.apply("t", [put(ACCOUNTS, account("d", email="E"))])
        driver.apply(
            "t",
            [
                Patch(ACCOUNTS.name, ("a",), Edit(set={"email": None})),
                Patch(ACCOUNTS.name, ("b",), Edit(set={"email": "e"})),
            ],
        )
        driver.apply("t", [Delete(ACCOUNTS.name, ("b",)), put(ACCOUNTS, account("f", email="e"))])
        assert _ids(driver, ACCOUNTS.name) == ["a", "c", "d", "f"]

    def test_b13_partial_unique_keys_hold_only_among_what_they_select(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(ACCOUNTS, account("a", state="live"))])
        driver.apply("t", [put(ACCOUNTS, account(k)) for k in "bc"])
        go_live = Edit(set={"state": "live"})
        changes: list[Change] = [
            put(ACCOUNTS, account("d", state="live")),
            Patch(ACCOUNTS.name, ("b",), go_live),
            PatchWhere(ACCOUNTS.name, eq("id", "c"), go_live),
        ]
        for change in changes:
            with pytest.raises(Conflict) as refused:
                driver.apply("t", [change])
            assert refused.value.context["unique"] == "one_live_per_owner"
        driver.apply("t", [put(ACCOUNTS, account("e", "other", state="live"))])
        driver.apply(
            "t",
            [
                Patch(ACCOUNTS.name, ("a",), Edit(set={"state": "closed"})),
                Patch(ACCOUNTS.name, ("b",), go_live),
            ],
        )
        assert _ids(driver, ACCOUNTS.name, eq("state", "live")) == ["b", "e"]
        assert _ids(driver, ACCOUNTS.name, eq("owner", "o")) == ["a", "b", "c"]


class TestDriverEdits:
    @pytest.mark.parametrize("edit, before, after", [
        (Edit(set={"name": "x", "note": None}), {"note": "y"}, {"name": "x", "note": None}),
        (Edit(set={"blob": b"\x00", "tags": ["b", "a"]}), {},
         {"blob": b"\x00", "tags": ["b", "a"]}),
        (Edit(set={"at": NOON + timedelta(microseconds=1)}), {},
         {"at": NOON + timedelta(microseconds=1)}),
        (Edit(set={"data": None, "maybe_data": {"a": None}}), {}, None),
        (Edit(default={"maybe_count": 3}), {}, {"maybe_count": 3}),
        (Edit(default={"maybe_count": 3}), {"maybe_count": 0}, {"maybe_count": 0}),
        (Edit(default={"maybe_tags": ["a"], "maybe_done": False, "maybe_at": NOON}), {},
         {"maybe_tags": ["a"], "maybe_done": False, "maybe_at": NOON}),
        (Edit(increment={"count": -3, "maybe_count": 4}), {"count": 1},
         {"count": -2, "maybe_count": 4}),
        (Edit(increment={"score": 0.5, "maybe_score": 1}), {"score": 0.25},
         {"score": 0.75, "maybe_score": 1.0}),
        (Edit(increment={"count": 1}), {"count": 2**62}, {"count": 2**62 + 1}),
        (Edit(maximum={"count": 3, "maybe_count": -1}), {"count": 2},
         {"count": 3, "maybe_count": -1}),
        (Edit(maximum={"count": 1, "score": 1.5}), {"count": 2, "score": 2.5},
         {"count": 2, "score": 2.5}),
        (Edit(maximum={"at": NOON, "maybe_at": NOON}), {"at": NOON + timedelta(days=1)},
         {"at": NOON + timedelta(days=1), "maybe_at": NOON}),
        (Edit(maximum={"name": "\U0001f642", "note": "a"}), {"name": "\uffff"},
         {"name": "\U0001f642", "note": "a"}),
        (Edit(minimum={"count": 3, "maybe_count": 9, "name": "A"}), {"count": 5, "name": "a"},
         {"count": 3, "maybe_count": 9, "name": "A"}),
        (Edit(minimum={"at": NOON - timedelta(days=1), "maybe_score": 2.0}), {"maybe_score": 1.0},
         {"at": NOON - timedelta(days=1), "maybe_score": 1.0}),
        (Edit(append={"tags": ["c", "a", "c", "b"]}), {"tags": ["b", "a"]},
         {"tags": ["b", "a", "c"]}),
        (Edit(append={"maybe_tags": ["x", "x"], "tags": []}), {"tags": ["q"]},
         {"maybe_tags": ["x"], "tags": ["q"]}),
        (Edit(merge={"data": {"a": {"y": 2}, "b": None, "c": [1], "gone": None}}),
         {"data": {"a": {"x": 1}, "b": 2, "d": None}},
         {"data": {"a": {"y": 2}, "c": [1], "d": None}}),
        (Edit(merge={"maybe_data": {"a": {"n": None}}}), {}, {"maybe_data": {"a": {"n": None}}}),
        (Edit(merge={"data": {"a.b": 1, "": 2, "$": 3, '"': 4}}), {"data": {"a": {"b": 0}}},
         {"data": {"a": {"b": 0}, "a.b": 1, "": 2, "$": 3, '"': 4}}),
        (Edit(merge={"data": {"a": 1}}), {"data": [1, 2]}, {"data": {"a": 1}}),
        (Edit(scale={"score": Scale(0.5, 1.0), "maybe_score": Scale(2.0)}), {"score": 3.0},
         {"score": 2.5, "maybe_score": None}),
        (Edit(scale={"score": Scale(0.5, floor=0.4), "maybe_score": Scale(9.0, ceiling=1.0)}),
         {"score": 0.5, "maybe_score": 0.5}, {"score": 0.4, "maybe_score": 1.0}),
        (Edit(set={"name": "z"}, increment={"count": 1}, append={"tags": ["t"]}), {},
         {"name": "z", "count": 1, "tags": ["t"]}),
        (Edit(), {"count": 5}, {"count": 5}),
    ])  # fmt: skip
    def test_b15_edits_change_what_they_name_and_nothing_else(
        self, driver: Driver, edit: Edit, before: dict[str, Any], after: dict[str, Any] | None
    ) -> None:
        driver.setup(SHAPES)
        if after is None:
            after = {"maybe_data": {"a": None}}
            edit = Edit(set=after)
        edits: list[Change] = [
            Patch(THINGS.name, ("a",), edit),
            PatchWhere(THINGS.name, eq("id", "a"), edit),
            Claim(THINGS.name, eq("id", "a"), asc("id"), 1, edit),
        ]
        for change in edits:
            driver.apply(
                "t", [put(THINGS, thing("a", **before)), put(THINGS, thing("b", **before))]
            )
            [outcome] = driver.apply("t", [change])
            stored = driver.get("t", THINGS.name, ("a",))
            assert stored is not None
            assert {**stored, "revision": 0} == {**thing("a", **before), **after, "revision": 0}
            for record in outcome.records:
                assert record == stored
            other = driver.get("t", THINGS.name, ("b",))
            assert other is not None
            assert {**other, "revision": 0} == {**thing("b", **before), "revision": 0}

    def test_b15_edits_of_a_vector_are_searched_at_once(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NOTES, note("a", embedding=vector(1, 0)))])
        driver.apply("t", [Patch(NOTES.name, ("a",), Edit(set={"embedding": vector(0, 1)}))])
        driver.apply("t", [Patch(NOTES.name, ("a",), Edit(set={"day": 3}))])
        read = driver.get("t", NOTES.name, ("a",), vectors=True)
        assert read is not None
        assert read["embedding"] == vector(0, 1)


class TestDriverReferences:
    def test_b17_a_reference_must_lead_somewhere_when_written(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(PARENTS, {"id": "p", "name": ""}), put(LINKS, _link("l", None))])
        for change in (
            put(CHILDREN, {"id": "c", "parent": "missing", "body": ""}),
            put(LINKS, _link("m", "missing")),
            Patch(LINKS.name, ("l",), Edit(set={"parent": "missing"})),
        ):
            with pytest.raises(Conflict) as refused:
                driver.apply("t", [change])
            assert refused.value.context["reference"] == "parent"
        with pytest.raises(Conflict):
            driver.apply("other", [put(LINKS, _link("m", "p"))])
        driver.apply("t", [put(PARENTS, {"id": "q", "name": ""}), put(LINKS, _link("n", "q"))])
        assert _ids(driver, LINKS.name) == ["l", "n"]

    @pytest.mark.parametrize(
        "delete", [Delete(PARENTS.name, ("p",)), DeleteWhere(PARENTS.name, eq("id", "p"))]
    )
    def test_b17_cascade_restrict_and_clear(self, driver: Driver, delete: Change) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(PARENTS, {"id": k, "name": ""}) for k in "pq"])
        child = {"id": "c", "parent": "p", "body": "orphan"}
        driver.apply(
            "t", [put(CHILDREN, child), put(CHILDREN, {**child, "id": "d", "parent": "q"})]
        )
        driver.apply("t", [put(TOYS, {"id": f"toy {k}", "child": k}) for k in "cd"])
        driver.apply("t", [put(LINKS, _link("l", "p")), put(LINKS, _link("m", "q"))])
        driver.apply("t", [put(GUARDS, {"id": "g", "parent": "p"})])
        before = _everything(driver)
        with pytest.raises(Conflict):
            driver.apply("t", [delete])
        assert _everything(driver) == before
        driver.apply("t", [Patch(GUARDS.name, ("g",), Edit(set={"parent": None}))])
        [outcome] = driver.apply("t", [delete])
        assert outcome.count == 1
        assert _ids(driver, PARENTS.name) == ["q"]
        assert _ids(driver, CHILDREN.name) == ["d"]
        assert _ids(driver, TOYS.name) == ["toy d"]
        assert driver.get("t", LINKS.name, ("l",)) == {**_link("l", None), "revision": 2}
        assert driver.get("t", LINKS.name, ("m",)) == {**_link("m", "q"), "revision": 1}
        if driver.capabilities.full_text:
            search = Search(collection=CHILDREN.name, text=TextLeg(terms=("orphan",)))
            assert [hit.key for hit in driver.search("t", search).text] == [("d",)]

    def test_b17_records_of_one_kind_go_once_each(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        stands = 0
        if driver.capabilities.feed:
            stands = driver.maintain("follow", follower="f").counts["position"]
        nodes = {"a": None, "b": "a", "c": "b", "d": "c", "other": None}
        driver.apply("t", [put(NODES, _link(k, v)) for k, v in nodes.items()])
        [outcome] = driver.apply("t", [DeleteWhere(NODES.name, In("id", tuple("abc")))])
        assert outcome.count == 3
        assert _ids(driver, NODES.name) == ["other"]
        if driver.capabilities.feed:
            told = driver.feed("f", after=stands, limit=99)
            gone = [entry.key[0] for entry in told if entry.record is None]
            assert sorted(gone) == ["a", "b", "c", "d"]

    def test_b17_a_ring_of_records_goes_whole(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(NODES, _link(k, None)) for k in "abc"])
        for id, parent in (("a", "c"), ("b", "a"), ("c", "b")):
            driver.apply("t", [Patch(NODES.name, (id,), Edit(set={"parent": parent}))])
        driver.apply("t", [put(NODES, _link("self", None))])
        driver.apply("t", [Patch(NODES.name, ("self",), Edit(set={"parent": "self"}))])
        assert driver.apply("t", [Delete(NODES.name, ("b",))])[0].count == 1
        assert _ids(driver, NODES.name) == ["self"]
        assert driver.apply("t", [Delete(NODES.name, ("self",))])[0].count == 1
        assert _ids(driver, NODES.name) == []

    def test_b17_replacing_a_parent_touches_no_child(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        driver.apply("t", [put(PARENTS, {"id": "p", "name": ""})])
        driver.apply("t", [put(CHILDREN, {"id": "c", "parent": "p", "body": ""})])
        driver.apply("t", [put(GUARDS, {"id": "g", "parent": "p"}), put(LINKS, _link("l", "p"))])
        driver.apply("t", [put(PARENTS, {"id": "p", "name": "renamed"})])
        assert _ids(driver, CHILDREN.name) == ["c"]
        assert driver.get("t", LINKS.name, ("l",)) == {**_link("l", "p"), "revision": 1}

    def test_b17_references_stay_within_the_tenant(self, driver: Driver) -> None:
        driver.setup(SHAPES)
        for tenant in ("t", "u"):
            driver.apply(tenant, [put(PARENTS, {"id": "p", "name": ""})])
            driver.apply(tenant, [put(CHILDREN, {"id": "c", "parent": "p", "body": ""})])
            driver.apply(tenant, [put(LINKS, _link("l", "p"))])
        driver.apply("u", [Delete(PARENTS.name, ("p",))])
        assert _ids(driver, CHILDREN.name) == ["c"]
        assert driver.get("t", LINKS.name, ("l",)) == {**_link("l", "p"), "revision": 1}


def _link(id: str, parent: str | None) -> dict[str, Any]:
    return {"id": id, "parent": parent}


def _everything(driver: Driver) -> dict[str, Any]:
    """All records of the tenant."""
    return {
        s.name: driver.query("t", Query(collection=s.name, vectors=True)).records for s in SHAPES
    }
