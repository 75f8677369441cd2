"""A state machine over the driver, and a model of it in dictionaries.

The model shares no code with holdfast: a filter here is a name for a predicate written twice,
once as a Filter and once as a Python expression, and so are edits and orders.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

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
    When,
)
from holdfast.core.driver import Driver
from holdfast.core.errors import Conflict, IdempotencyMismatch, NotFound
from holdfast.core.filter import And, Compare, Contains, Filter, In, IsNull, Not, Or, Prefix
from holdfast.core.query import Aggregate, Measure, Order, Query
from holdfast.core.search import Search, TextLeg
from holdfast.testing.shapes import LEDGER

Line = dict[str, Any]
IDS: Final = ("a1", "a2", "a3", "b1", "é1")
SLOTS: Final = (None, None, None, "x", "y")
WORDS: Final = ("apple", "plum", "fig")

PREDICATES: Final[dict[str, tuple[Filter, Callable[[Line], bool]]]] = {
    "all": (And(), lambda r: True),
    "kind a": (Compare("kind", "eq", "a"), lambda r: r["kind"] == "a"),
    "not kind a": (Not(Compare("kind", "eq", "a")), lambda r: r["kind"] != "a"),
    "n null": (IsNull("n"), lambda r: r["n"] is None),
    "n small": (Compare("n", "lt", 2), lambda r: r["n"] is not None and r["n"] < 2),
    "n not 1": (Compare("n", "ne", 1), lambda r: r["n"] != 1),
    "slotted": (In("slot", ("x", "y")), lambda r: r["slot"] in ("x", "y")),
    "tagged": (Contains("tags", ("p",)), lambda r: "p" in r["tags"]),
    "ids b": (Prefix("id", "b"), lambda r: r["id"][0] == "b"),
    "fresh": (Compare("revision", "eq", 1), lambda r: r["revision"] == 1),
    "free or low": (
        Or((IsNull("slot"), And((Compare("n", "le", 0), Not(IsNull("n")))))),
        lambda r: r["slot"] is None or (r["n"] is not None and r["n"] <= 0),
    ),
}

ORDERS: Final[dict[str, tuple[tuple[Order, ...], Callable[[Line], Any], bool]]] = {
    "key": ((), lambda r: r["id"], False),
    "n up": ((Order("n"),), lambda r: (r["n"] is not None, r["n"] or 0, r["id"]), False),
    "n down": ((Order("n", True),), lambda r: (r["n"] is not None, r["n"] or 0, r["id"]), True),
    "kind, seq": ((Order("kind"), Order("seq")), lambda r: (r["kind"], r["seq"], r["id"]), False),
}


def _set(**values: Any) -> tuple[Edit, Callable[[Line], Line]]:
    return Edit(set=values), lambda r: values


EDITS: Final[dict[str, tuple[Edit, Callable[[Line], Line]]]] = {
    "n one": _set(n=1),
    "n null": _set(n=None),
    "slot x": _set(slot="x"),
    "slot free": _set(slot=None),
    "say plum": _set(body="plum plum fig"),
    "count up": (Edit(increment={"n": 2}), lambda r: {"n": (r["n"] or 0) + 2}),
    "at least 3": (
        Edit(maximum={"n": 3}),
        lambda r: {"n": r["n"] if r["n"] is not None and r["n"] > 3 else 3},
    ),
    "n or 5": (Edit(default={"n": 5}), lambda r: {"n": 5 if r["n"] is None else r["n"]}),
    "tag": (
        Edit(append={"tags": ["p", "q"]}),
        lambda r: {"tags": r["tags"] + [t for t in ("p", "q") if t not in r["tags"]]},
    ),
    "two": (Edit(set={"slot": "y"}, increment={"n": -1}),
            lambda r: {"slot": "y", "n": (r["n"] or 0) - 1}),
}  # fmt: skip


class Refused(Exception):
    """The model's word for Conflict or NotFound."""


class Model:
    """The lines of one tenant, and the highest number given in each kind."""

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.numbers: Counter[str] = Counter()

    def apply(self, steps: list[tuple[Any, ...]]) -> list[tuple[int, list[Line]]]:
        """Do all steps or none."""
        before = copy.deepcopy((self.lines, self.numbers))
        try:
            return copy.deepcopy([self._step(*step) for step in steps])
        except Refused:
            self.lines, self.numbers = before
            raise

    def chosen(self, predicate: str, order: str = "key", limit: int | None = None) -> list[Line]:
        """Lines that a predicate selects, in an order."""
        _, key, reverse = ORDERS[order]
        found = [line for line in self.lines.values() if PREDICATES[predicate][1](line)]
        return sorted(found, key=key, reverse=reverse)[:limit]

    def _step(self, verb: str, *given: Any) -> tuple[int, list[Line]]:
        if verb == "put":
            id, fields, when = given
            self._demand(id, when, missing_is="fine")
            return 1, [self._store(id, fields)]
        if verb == "patch":
            id, edit, when = given
            self._demand(id, when, missing_is="NotFound")
            return 1, [self._edit(self.lines[id], edit)]
        if verb == "delete":
            id, when = given
            self._demand(id, when, missing_is="fine")
            return (1 if self.lines.pop(id, None) else 0), []
        if verb == "patch where":
            predicate, edit = given
            chosen = self.chosen(predicate)
            for line in chosen:
                self._edit(line, edit)
            return len(chosen), []
        chosen = self.chosen(*given[:3])
        if verb == "claim":
            return len(chosen), [self._edit(line, given[3]) for line in chosen]
        for line in chosen:
            del self.lines[line["id"]]
        return len(chosen), []

    def _demand(self, id: str, when: Any, missing_is: str) -> None:
        held = self.lines.get(id)
        if held is None and missing_is == "NotFound":
            raise Refused("NotFound")
        if when is None:
            return
        if when == "absent":
            if held is not None:
                raise Refused("Conflict")
            return
        if held is None:
            raise Refused("NotFound")
        if isinstance(when, int) and held["revision"] != when:
            raise Refused("Conflict")
        if when in PREDICATES and not PREDICATES[when][1](held):
            raise Refused("Conflict")

    def _store(self, id: str, fields: Line) -> Line:
        held = self.lines.get(id)
        line = {"id": id, "kind": id[0], **fields}
        line["seq"] = line["seq"] or self.numbers[id[0]] + 1
        line["revision"] = held["revision"] + 1 if held else 1
        self.numbers[id[0]] = max(self.numbers[id[0]], line["seq"])
        return self._settle(line)

    def _edit(self, line: Line, edit: str) -> Line:
        return self._settle({**line, **EDITS[edit][1](line), "revision": line["revision"] + 1})

    def _settle(self, line: Line) -> Line:
        for other in self.lines.values():
            same = (other["kind"], other["slot"]) == (line["kind"], line["slot"])
            if same and line["slot"] is not None and other["id"] != line["id"]:
                raise Refused("Conflict")
        self.lines[line["id"]] = line
        return line


_CONDITIONS: Final = st.sampled_from((None, None, None, "absent", "present", 1, 2, 3, "n small"))
_FIELDS: Final = st.fixed_dictionaries(
    {
        "n": st.sampled_from((None, -1, 0, 1, 2, 7)),
        "slot": st.sampled_from(SLOTS),
        "tags": st.lists(st.sampled_from(("p", "q", "r")), max_size=2, unique=True),
        "body": st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join),
    }
)
_ID: Final = st.sampled_from(IDS)
_EDIT: Final = st.sampled_from(sorted(EDITS))
_PREDICATE: Final = st.sampled_from(sorted(PREDICATES))
_ORDER: Final = st.sampled_from(sorted(ORDERS))
_LIMIT: Final = st.none() | st.integers(0, 4)
_STEP: Final = st.one_of(
    st.tuples(st.just("put"), _ID, _FIELDS, _CONDITIONS),
    st.tuples(st.just("put"), _ID, _FIELDS, st.none()),
    st.tuples(st.just("patch"), _ID, _EDIT, _CONDITIONS),
    st.tuples(st.just("delete"), _ID, _CONDITIONS),
    st.tuples(st.just("patch where"), _PREDICATE, _EDIT),
    st.tuples(st.just("delete where"), _PREDICATE, _ORDER, _LIMIT),
    st.tuples(st.just("claim"), _PREDICATE, _ORDER, st.integers(0, 3), _EDIT),
)
_TENANT: Final = st.sampled_from(("one", "one", "one", "two"))


class DriverMachine(RuleBasedStateMachine):
    """Every verb in any order, on two tenants of their own; the driver and the model agree."""

    runs = 0

    def __init__(self, open_driver: Callable[[], Driver]) -> None:
        super().__init__()
        self._open = open_driver
        self._driver = open_driver()
        DriverMachine.runs += 1
        self._models = {name: Model() for name in ("one", "two")}
        self._agree = True
        self._operations: list[tuple[str, str, list[Change], Any]] = []

    @initialize()
    def begin(self) -> None:
        """Set the store up."""
        self._driver.setup([LEDGER])

    @rule(tenant=_TENANT, steps=st.lists(_STEP, min_size=1, max_size=4), keyed=st.booleans())
    def write(self, tenant: str, steps: list[tuple[Any, ...]], keyed: bool) -> None:
        """Some changes in one apply."""
        model = self._models[tenant]
        steps = [_numbered(model, step) for step in steps]
        changes = [_change(*step) for step in steps]
        op_id = f"{DriverMachine.runs}-{len(self._operations)}" if keyed else None
        told = self._told(tenant, changes, op_id)
        try:
            expected: Any = model.apply(steps)
        except Refused as refused:
            expected = str(refused)
        self._agree = told == expected
        assert told == expected
        if op_id is not None and not isinstance(told, str):
            self._operations.append((tenant, op_id, changes, told))

    @rule(tenant=_TENANT, id=_ID, fields=_FIELDS)
    def add(self, tenant: str, id: str, fields: Line) -> None:
        """One line, with nothing demanded."""
        self.write(tenant=tenant, steps=[("put", id, fields, None)], keyed=True)

    @rule(tenant=_TENANT, id=_ID, edit=_EDIT)
    def edit(self, tenant: str, id: str, edit: str) -> None:
        """One edit, with nothing demanded."""
        self.write(tenant=tenant, steps=[("patch", id, edit, None)], keyed=False)

    @rule(tenant=_TENANT, id=_ID)
    def drop(self, tenant: str, id: str) -> None:
        """One delete, with nothing demanded."""
        self.write(tenant=tenant, steps=[("delete", id, None)], keyed=False)

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """An operation again: the same answer, no second effect; another body is refused."""
        if self._operations:
            tenant, op_id, changes, told = data.draw(st.sampled_from(self._operations))
            assert self._told(tenant, changes, op_id) == told
            other = [*changes, Delete(LEDGER.name, ("a1",))]
            assert self._told(tenant, other, op_id) == "IdempotencyMismatch"

    @rule(tenant=_TENANT, predicate=_PREDICATE, order=_ORDER, limit=_LIMIT)
    def query(self, tenant: str, predicate: str, order: str, limit: int | None) -> None:
        """A page, and the figures of the same records."""
        where = PREDICATES[predicate][0]
        query = Query(collection=LEDGER.name, filter=where, order=ORDERS[order][0], limit=limit)
        chosen = self._models[tenant].chosen(predicate, order)
        assert self._driver.query(self._name(tenant), query).records == chosen[:limit]
        measures = (Measure("lines", "count"), Measure("n", "sum", "n"))
        asked = Aggregate(
            collection=LEDGER.name, filter=where, group_by=("kind",), measures=measures
        )
        expected = [
            {"kind": kind, "lines": len(lines), "n": sum(r["n"] or 0 for r in lines)}
            for kind in sorted({r["kind"] for r in chosen})
            if (lines := [r for r in chosen if r["kind"] == kind])
        ]
        assert self._driver.aggregate(self._name(tenant), asked) == expected

    @rule(tenant=_TENANT, id=_ID)
    def get(self, tenant: str, id: str) -> None:
        """One record."""
        read = self._driver.get(self._name(tenant), LEDGER.name, (id,))
        assert read == self._models[tenant].lines.get(id)

    @rule(tenant=_TENANT, predicate=_PREDICATE, word=st.sampled_from(WORDS))
    def search(self, tenant: str, predicate: str, word: str) -> None:
        """Which records have a word, whatever their scores."""
        if self._driver.capabilities.full_text:
            leg = TextLeg(terms=({"apple": "appl"}.get(word, word),))
            where = PREDICATES[predicate][0]
            search = Search(collection=LEDGER.name, filter=where, text=leg)
            hits = self._driver.search(self._name(tenant), search)
            found = {hit.key[0] for hit in hits.text}
            chosen = self._models[tenant].chosen(predicate)
            assert found == {r["id"] for r in chosen if word in r["body"].split()}

    @rule()
    def reopen(self) -> None:
        """Close the handle and go on with a new one."""
        self._driver.close()
        self._driver = self._open()
        self._driver.setup([LEDGER])

    def teardown(self) -> None:
        """The whole of both tenants, once more, unless they are known to differ."""
        for tenant, model in self._models.items() if self._agree else ():
            rows = self._driver.query(self._name(tenant), Query(collection=LEDGER.name)).records
            assert {row["id"]: row for row in rows} == model.lines
        self._driver.close()

    def _name(self, tenant: str) -> str:
        return f"{tenant} of run {DriverMachine.runs}"

    def _told(self, tenant: str, changes: list[Change], op_id: str | None) -> Any:
        try:
            outcomes = self._driver.apply(self._name(tenant), changes, op_id=op_id)
        except (Conflict, NotFound, IdempotencyMismatch) as error:
            return type(error).__name__
        return [(outcome.count, list(outcome.records)) for outcome in outcomes]


def _numbered(model: Model, step: tuple[Any, ...]) -> tuple[Any, ...]:
    """A put says the number that its record has, as stores do; a new one leaves it open."""
    if step[0] != "put":
        return step
    verb, id, fields, when = step
    held = model.lines.get(id)
    return verb, id, {**fields, "seq": held["seq"] if held else None}, when


def _change(verb: str, *given: Any) -> Change:
    if verb == "put":
        id, fields, when = given
        return Put(LEDGER.name, {"id": id, "kind": id[0], **fields}, _condition(when))
    if verb == "patch":
        return Patch(LEDGER.name, (given[0],), EDITS[given[1]][0], _condition(given[2]))
    if verb == "delete":
        return Delete(LEDGER.name, (given[0],), _condition(given[1]))
    where = PREDICATES[given[0]][0]
    if verb == "patch where":
        return PatchWhere(LEDGER.name, where, EDITS[given[1]][0])
    order = ORDERS[given[1]][0]
    if verb == "claim":
        return Claim(LEDGER.name, where, order, given[2], EDITS[given[3]][0])
    return DeleteWhere(LEDGER.name, where, given[2], order)


def _condition(when: Any) -> Condition | None:
    if when is None:
        return None
    if when in PREDICATES:
        return When(PREDICATES[when][0])
    if isinstance(when, int):
        return Revision(when)
    return ABSENT if when == "absent" else PRESENT
