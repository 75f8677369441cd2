"""Search over data that is packed and merged between writes: B26-B30, by several handles."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.core.change import Change, Delete, DeleteWhere, Edit, Patch, PatchWhere
from holdfast.core.driver import Driver
from holdfast.core.filter import (
    EVERYTHING,
    Filter,
    Prefix,
    Record,
    among,
    eq,
    ge,
    gt,
    is_null,
    lt,
    not_null,
)
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.testing.shapes import NOTES, SHAPES, note, put, vector
from holdfast.testing.suite.driver_search import _assert_ranked, _text_scores, _vector_scores
from holdfast.testing.threads import at_once

WORDS = ("apple", "plum", "pear", "fig", "kiwi", "lime", "melon", "grape")
NUMBERS = (-2.0, -1.0, 0.0, 0.5, 1.0, 3.0)
TIMES = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
FIELDS = (None, ("topic", "day", "title", "expires_at"), ("day",), ("body",), ())

Held = dict[str, Record]


def _any_note(chance: random.Random, id: str) -> Record:
    words = chance.choices(WORDS, range(len(WORDS), 0, -1), k=chance.choice((0, 1, 2, 8, 30)))
    if chance.random() < 0.02:
        words += ["fig"] * chance.choice((254, 255, 256, 300))
    space = chance.choice(("s", "s", "s", "other"))
    embedding = vector(*chance.choices(NUMBERS, k=4), 1.0, space=space)
    return note(
        id,
        " ".join(words),
        title=chance.choice((None, "", "pear", "lime plum")),
        topic=chance.choice("abc"),
        day=chance.randrange(5),
        expires_at=chance.choice((None, None, *TIMES)),
        embedding=embedding if chance.random() < 0.8 else None,
    )


class _Writer:
    """Writes at random, and knows what is then there."""

    def __init__(self, chance: random.Random, count: int) -> None:
        self.chance = chance
        self.ids = [f"{n:03}" for n in range(count)]
        self.held: Held = {}

    def changes(self) -> list[Change]:
        """A few changes; `held` is as if they were done."""
        kinds = (
            self._put,
            self._put,
            self._many,
            self._patch,
            self._expire,
            self._embed,
            self._delete,
        )
        return self.chance.choice((*kinds, self._delete_some, self._move, self._and_back))()

    def _put(self) -> list[Change]:
        record = _any_note(self.chance, self.chance.choice(self.ids))
        self.held[record["id"]] = record
        return [put(NOTES, record)]

    def _many(self) -> list[Change]:
        records = [_any_note(self.chance, id) for id in self.chance.sample(self.ids, 12)]
        self.held |= {record["id"]: record for record in records}
        return [put(NOTES, record) for record in records]

    def _patched(self, *names: str) -> list[Change]:
        if not self.held:
            return self._put()
        id = self.chance.choice(sorted(self.held))
        new = _any_note(self.chance, id)
        values = {name: new[name] for name in names}
        self.held[id] = {**self.held[id], **values}
        return [Patch(NOTES.name, (id,), Edit(set=values))]

    def _patch(self) -> list[Change]:
        return self._patched("body", "title", "day")

    def _expire(self) -> list[Change]:
        where, expires_at = eq("topic", self.chance.choice("abc")), self.chance.choice(TIMES)
        for record in self.held.values():
            record["expires_at"] = expires_at if where.matches(record) else record["expires_at"]
        return [PatchWhere(NOTES.name, where, Edit(set={"expires_at": expires_at}))]

    def _embed(self) -> list[Change]:
        return self._patched("embedding")

    def _delete(self) -> list[Change]:
        id = self.chance.choice(self.ids)
        self.held.pop(id, None)
        return [Delete(NOTES.name, (id,))]

    def _delete_some(self) -> list[Change]:
        where = eq("day", self.chance.randrange(5)) & eq("topic", self.chance.choice("abc"))
        self.held = {id: r for id, r in self.held.items() if not where.matches(r)}
        return [DeleteWhere(NOTES.name, where)]

    def _move(self) -> list[Change]:
        where = eq("topic", self.chance.choice("abc"))
        for record in self.held.values():
            record["day"] = 1 if where.matches(record) else record["day"]
        return [PatchWhere(NOTES.name, where, Edit(set={"day": 1}))]

    def _and_back(self) -> list[Change]:
        """The last record, deleted and written again: an engine may use its place again."""
        last = _any_note(self.chance, "zzz")
        self.held["zzz"] = last
        return [
            put(NOTES, _any_note(self.chance, "zzz")),
            Delete(NOTES.name, ("zzz",)),
            put(NOTES, last),
        ]


def _filters(chance: random.Random, ids: list[str]) -> Filter:
    return chance.choice(
        (
            EVERYTHING, EVERYTHING, eq("topic", "a"), ge("day", 3), eq("day", 1),
            eq("topic", "none"), eq("title", "pear"), among("title", ["", "pear"]) & eq("day", 1),
            eq("topic", "b") & lt("day", 2), among("id", chance.sample(ids, 3)), ~eq("topic", "c"),
            is_null("expires_at") | gt("expires_at", TIMES[0]), Prefix("title", "p") | eq("day", 2),
            not_null("title") & is_null("expires_at"), ~among("id", chance.sample(ids, 30)),
        )
    )  # fmt: skip


def _compare(driver: Driver, chance: random.Random, writer: _Writer) -> None:
    """One random search beside arithmetic over everything that is there."""
    words = chance.choices((*WORDS, "unheard"), k=chance.randrange(1, 5))
    match: Any = chance.choice(("any", "any", "all"))
    k1, b = chance.choice(((0.9, 0.75), (1.2, 0.0), (0.0, 1.0)))
    text = TextLeg(terms=tuple(analyze(" ".join(words))), match=match, k1=k1, b=b)
    wanted = vector(*chance.choices(NUMBERS, k=4), 1.0, space=chance.choice(("s", "other")))
    search = Search(
        collection=NOTES.name,
        filter=_filters(chance, writer.ids),
        k=chance.choice((1, 3, 10, 200)),
        text=text if driver.capabilities.full_text else None,
        vector=VectorLeg(field="embedding", vector=wanted) if driver.capabilities.vectors else None,
        fields=chance.choice(FIELDS),
    )
    hits = driver.search("t", search)
    for (id,), record in hits.records.items():
        names = writer.held[id].keys() - {"embedding"} if search.fields is None else search.fields
        assert {name: record[name] for name in names} == {n: writer.held[id][n] for n in names}
    matching = {id for id, record in writer.held.items() if search.filter.matches(record)}
    for leg, found, scores in (
        (search.text, hits.text, _text_scores(writer.held.values(), text)),
        (search.vector, hits.vector, _vector_scores(writer.held.values(), wanted)),
    ):
        if leg is not None:
            _assert_ranked(found, {id: scores[id] for id in scores if id in matching}, search.k)


class TestDriverIndex:
    @pytest.mark.parametrize("seed", range(3))
    def test_b29_search_equals_a_full_scan_between_writes_and_merges(
        self, open_driver: Callable[[], Driver], seed: int
    ) -> None:
        chance = random.Random(seed)
        drivers = [open_driver(), open_driver()]
        for driver in drivers:
            driver.setup(SHAPES)
        writer = _Writer(chance, 60)
        for step in range(60):
            chance.choice(drivers).apply("t", writer.changes())
            for driver in drivers:
                _compare(driver, chance, writer)
            if step % 20 == 19:
                chance.choice(drivers).maintain("reindex")

    def test_b33_merges_of_one_tenant_leave_another_as_it_is(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        driver = open_driver()
        driver.setup(SHAPES)
        chance = random.Random(5)
        writer = _Writer(chance, 40)
        for n in range(30):
            driver.apply("t", writer.changes())
            other = note(f"o{n}", "apple plum", embedding=vector(1, n))
            driver.apply("other", [put(NOTES, other), Delete(NOTES.name, (f"o{n - 1}",))])
            _compare(driver, chance, writer)
        driver.maintain("reindex")
        _compare(driver, chance, writer)

    def test_b29_searches_stay_true_while_another_handle_writes_and_merges(
        self, open_driver: Callable[[], Driver]
    ) -> None:
        drivers = [open_driver(), open_driver()]
        for driver in drivers:
            driver.setup(SHAPES)
        steady = [note(f"s{n}", "steady", embedding=vector(1, 0)) for n in range(20)]
        drivers[0].apply("t", [put(NOTES, record) for record in steady])
        wanted = {record["id"] for record in steady}
        leg = TextLeg(terms=tuple(analyze("steady")))
        near = VectorLeg(field="embedding", vector=vector(1, 0))

        def work(caller: int) -> None:
            driver = drivers[caller]
            for n in range(15):
                if caller == 0:
                    passing = note("p", "steady", embedding=vector(1, 0))
                    others = [note(f"n{n}.{m}", "noise", embedding=vector(0, 1)) for m in range(5)]
                    driver.apply("t", [put(NOTES, record) for record in (passing, *others)])
                    driver.apply("t", [Delete(NOTES.name, ("p",))])
                    continue
                search = Search(
                    collection=NOTES.name,
                    k=21,
                    text=leg if driver.capabilities.full_text else None,
                    vector=near if driver.capabilities.vectors else None,
                )
                hits = driver.search("t", search)
                for part, found in ((search.text, hits.text), (search.vector, hits.vector)):
                    ids = {hit.key[0] for hit in found if hit.score > 0.5 or part is leg}
                    assert part is None or wanted <= ids <= wanted | {"p"}, n

        at_once(2, work)
