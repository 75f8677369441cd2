"""Changes of all records that a filter finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.step import LOCKED, TAKEN, Step, counted
from holdfast.backends.postgres.wire import Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.edits import edit_text
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.rows import decoded
from holdfast.core.change import Claim, DeleteWhere, Outcome, PatchWhere
from holdfast.core.collection import Collection
from holdfast.core.query import Order, full_order

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult


class BulkCompiler:
    """Writes the steps of changes that name no key."""

    def __init__(self, planner: Planner, dialect: PostgresDialect) -> None:
        self._planner, self._dialect = planner, dialect

    def step(self, tenant: str, change: PatchWhere | DeleteWhere | Claim) -> Step:
        """The step of a change."""
        if isinstance(change, PatchWhere):
            return self._patch_where(tenant, change)
        if isinstance(change, Claim):
            return self._claim(tenant, change)
        text, values = self._planner.delete_where(tenant, change, "ctid")
        return Step(change, [(text, values)], counted)

    def _patch_where(self, tenant: str, patch: PatchWhere) -> Step:
        collection = self._planner.collections[patch.collection]
        values: list[Any] = []
        where, bound = self._planner.where(tenant, collection, patch.filter)
        plan, edited = self._planner.edit(patch.collection, patch.edit)
        edits = plan.shape
        values += [*bound, *edited, tenant]

        def write() -> str:
            order = self._planner.order_by(full_order((), collection.key))
            condition = self._planner.condition(where)
            keys = ", ".join(
                f"t0.{quoted(n)} AS holdfast_k{i}" for i, n in enumerate(collection.key)
            )
            # Locked in the order of keys, so that two of them wait instead of deadlocking.
            return (
                f"WITH picked AS MATERIALIZED (SELECT {keys} FROM"
                f" {self._dialect.table(collection)} AS t0 WHERE {condition}"
                f" ORDER BY {order}{LOCKED})"
                f" {self._update_picked(collection, edits)}"
            )

        text = self._planner.text(("pg patch_where", patch.collection, edits, where), write)
        return Step(patch, [(text, values)], counted)

    def _update_picked(self, collection: Collection, edits: Any) -> str:
        same = " AND ".join(
            f"t0.{quoted(n)} = p.holdfast_k{i}" for i, n in enumerate(collection.key)
        )
        return (
            f"UPDATE {self._dialect.table(collection)} AS t0"
            f" SET {edit_text(self._dialect, edits)} FROM picked AS p"
            f" WHERE t0.tenant = {MARK} AND {same}"
        )

    def _claim(self, tenant: str, claim: Claim) -> Step:
        collection = self._planner.collections[claim.collection]
        columns = self._planner.columns(claim.collection)
        where, values = self._planner.where(tenant, collection, claim.filter)
        order = full_order(claim.order, collection.key)
        count = self._dialect.limit(claim.limit, values)
        plan, edited = self._planner.edit(claim.collection, claim.edit)
        edits = plan.shape
        values += edited
        values.append(tenant)
        one = claim.limit == 1  # which needs no place in an order

        def write() -> str:
            picked = self._taken(collection, order, where, count)
            returned = ", ".join(f"t0.{quoted(name)}" for name in columns.names)
            place = "" if one else ", p.holdfast_place"
            return f"{picked} {self._update_picked(collection, edits)} RETURNING {returned}{place}"

        def finish(wire: Wire, results: Sequence[PGresult]) -> Outcome:
            rows = wire.rows(results[0])
            if not one:
                rows.sort(key=lambda row: int(row[-1]))
            found = tuple([decoded(collection, columns.decode, row) for row in rows])
            return Outcome(len(found), found)

        shape = ("pg claim", claim.collection, where, order, edits, count)
        return Step(claim, [(self._planner.text(shape, write), values)], finish)

    def _taken(
        self, collection: Collection, order: tuple[Order, ...], where: Any, count: str
    ) -> str:
        """What a claim locks, as "picked": the keys, and of several also their places."""
        one = count == "1"
        listed = self._planner.order_by(order)
        keys = ", ".join(f"t0.{quoted(n)} AS holdfast_k{i}" for i, n in enumerate(collection.key))
        names = keys if one else ", ".join(f"t0.{quoted(term.field)}" for term in order)
        locked = (
            f"MATERIALIZED (SELECT {names} FROM {self._dialect.table(collection)} AS t0"
            f" WHERE {self._planner.condition(where)} ORDER BY {listed} LIMIT {count}{TAKEN})"
        )
        if one:
            return f"WITH picked AS {locked}"
        return (
            f"WITH taken AS {locked}, picked AS (SELECT {keys},"
            f" row_number() OVER (ORDER BY {listed}) AS holdfast_place FROM taken AS t0)"
        )
