"""What a driver is made of, for those that look after its store."""

from __future__ import annotations

import msgspec

from holdfast.backends.postgres.dialect import PostgresDialect
from holdfast.backends.postgres.pool import Pool
from holdfast.backends.postgres.search import Engine
from holdfast.backends.postgres.transactions import Transactions
from holdfast.backends.sql.planner import Planner
from holdfast.core.clock import Clock


class Internals(msgspec.Struct, frozen=True, eq=False):
    """Its connections, its statements, its clock and its search."""

    pool: Pool
    transactions: Transactions
    planner: Planner
    dialect: PostgresDialect
    clock: Clock
    engine: Engine

    def table(self, name: str) -> str:
        """One of the engine's own tables."""
        return f"{self.dialect.schema}.{name}"
