"""What is right and what is wrong with a store on PostgreSQL, for a person to act upon.

Everything is read. What the connecting role may not see is left out and named under ``unseen``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.backends.postgres import roles
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import literal
from holdfast.backends.postgres.errors import ENGINE_ERRORS, mapped
from holdfast.backends.postgres.names import index_names
from holdfast.backends.postgres.plans import planned
from holdfast.backends.postgres.schema import PGVECTOR, usable
from holdfast.backends.postgres.wire import StatementFailed, Wire
from holdfast.backends.sql.dialect import quoted

if TYPE_CHECKING:
    from holdfast.backends.postgres.internals import Internals
    from holdfast.core.collection import Collection

EVERY_TENANT: Final = "SELECT set_config('holdfast.every_tenant', 'on', true)"
OURS: Final = frozenset({"holdfast_tenant", "holdfast_every_tenant", "holdfast_own"})
"""The policies that let rows be seen: of one tenant, of all for reading, of Supabase's users."""
MANY_ROWS: Final = 10_000
"""Fewer rows than this are not worth a remark on their bloat."""
DEAD_SHARE: Final = 0.2
SLOW_QUERIES: Final = 5
LAG_BYTES: Final = 64 << 20


class Diagnosis(msgspec.Struct, frozen=True):
    """Facts by topic; ``problems`` are what is wrong and ``advice`` what could be better."""

    facts: dict[str, Any]
    problems: list[str]
    advice: list[str]


class Examination:
    """One look at a store, on one connection."""

    def __init__(self, internals: Internals, wire: Wire, role: str | None) -> None:
        self._internals = internals
        self._wire = wire
        self._role = role
        self._schema = internals.pool.target.options.schema
        self._collections: Sequence[Collection] = list(internals.planner.collections.values())
        self.problems: list[str] = []
        self.advice: list[str] = []

    def run(self) -> Diagnosis:
        """Look at everything."""
        topics: dict[str, Callable[[], Any]] = {
            "server": self._server,
            "pgvector": self._pgvector,
            "role": self._roles,
            "row_security": self._row_security,
            "indexes": self._indexes,
            "plans": self._plans,
            "tables": self._tables,
            "orphans": self._orphans,
            "journal": self._journal,
            "replication": self._replication,
            "slow_queries": self._slow,
        }
        facts: dict[str, Any] = {}
        unseen: list[str] = []
        for name, look in topics.items():
            try:
                facts[name] = look()
            except StatementFailed as error:
                self._wire.run([("ROLLBACK", ())] if self._wire.is_in_transaction() else [])
                unseen.append(f"{name}: {mapped(error).message}")
        if unseen:
            facts["unseen"] = unseen
        return Diagnosis(facts, self.problems, self.advice)

    def _ask(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        results = self._wire.run([(EVERY_TENANT, ()), (text, values)])
        return self._wire.rows(results[1])

    # --- the connection

    def _server(self) -> dict[str, Any]:
        text = (
            "SELECT current_setting('server_version'), current_database()::text,"
            " current_user::text, pg_backend_pid(), current_setting('fsync'),"
            " current_setting('full_page_writes'), current_setting('synchronous_commit'),"
            " pg_is_in_recovery(), current_setting('max_connections')::int,"
            " current_setting('server_version_num')::int"
        )
        [row] = self._ask(text)
        version, database, user, pid, fsync, pages, synchronous, standby, most, number = row
        link, target = self._wire.connection.pgconn, self._internals.pool.target
        # A server tells its clients its own process; a pooler tells them a number of its own.
        pooled = link.backend_pid != pid
        options = target.options
        facts = {
            "at": target.described(),
            "schema": options.schema,
            "postgresql": version,
            "database": database,
            "user": user,
            "tls": bool(link.ssl_in_use),
            "pooled": pooled,
            "prepare": options.prepare,
            "standby": standby,
            "max_connections": most,
            "pool_size": options.pool_size,
            "synchronous_commit": synchronous,
        }
        if "off" in (fsync, pages):
            facts["fsync"], facts["full_page_writes"] = fsync, pages
            self.advice.append(
                "fsync or full_page_writes is off: a power cut may damage everything. Turn both on."
            )
        if number < 150_000:
            self.problems.append(f"PostgreSQL {version} is too old; 15 or later is needed.")
        if pooled and options.prepare:
            self.advice.append(
                "A pooler stands between. If it hands out a connection for each transaction and"
                " keeps no prepared statements, add prepare=off to the URL."
            )
        if not link.ssl_in_use and not _is_near(target.described()):
            self.advice.append(
                "The connection is not encrypted. Add sslmode=verify-full and sslrootcert to the"
                " URL."
            )
        if options.pool_size > most // 2:
            self.advice.append(
                f"pool_size {options.pool_size} is more than half of the server's {most}"
                " connections: a few processes use them up."
            )
        return facts

    def _pgvector(self) -> dict[str, Any]:
        text = (
            "SELECT (SELECT n.nspname || ' ' || e.extversion FROM pg_extension AS e"
            " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),"
            " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),"
            f" (SELECT vectors FROM {self._internals.table('holdfast_store')})"
        )
        [(installed, available, used)] = self._ask(text)
        fit, needed = bool(usable(installed)), ".".join(map(str, PGVECTOR))
        if not used:
            self.advice.append(
                f"The store keeps vectors without pgvector, so recall goes by words: it needs"
                f" {needed} or later when a store is set up."
            )
        elif not fit:
            self.problems.append(f"The store's vectors need pgvector {needed} or later.")
        return {
            "installed": (installed or " none").rpartition(" ")[2],
            "available": available or "none",
            "usable": fit and bool(used),
        }

    # --- who may do what

    def _roles(self) -> dict[str, Any]:
        who = self._role or self._ask("SELECT current_user::text")[0][0]
        held = roles.read(self._wire, self._schema, who)
        if held is None:
            self.problems.append(f"There is no role {who}. `holdfast setup postgres` makes it.")
            return {"name": who, "found": False}
        access: roles.Access = "application" if held["writable_tables"] else "read-only"
        found = roles.faults(held, access)
        for each in found:
            self.problems.append(
                f"The role {who} {each}. Make a role for the application by"
                " `holdfast setup postgres URL --app-role NAME`, and connect as that one."
            )
        return {"name": who, "bound_by_row_security": not roles.unbound(held), "access": access}

    def _row_security(self) -> dict[str, Any]:
        text = f"""
            SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity,
                coalesce(bool_or(p.polname = 'holdfast_tenant' AND p.polcmd = '*'
                    AND p.polpermissive
                    AND pg_get_expr(p.polqual, p.polrelid) LIKE '%''holdfast.tenant''%'
                    AND pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%''holdfast.tenant''%'),
                    FALSE),
                coalesce(string_agg(p.polname::text, ', ') FILTER (WHERE p.polpermissive
                    AND p.polname <> ALL ({MARK}::text[])), '')
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            LEFT JOIN pg_policy AS p ON p.polrelid = c.oid
            WHERE n.nspname = {MARK} AND c.relkind IN ('r', 'p') AND EXISTS (
                SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant')
            GROUP BY c.oid, c.relname ORDER BY 1"""
        rows = self._ask(text, [sorted(OURS), self._schema])
        bare = 0
        for name, enabled, forced, policy, others in rows:
            wrong = []
            if not enabled or not forced:
                wrong.append("does not force row-level security")
            if not policy:
                wrong.append("lacks the policy holdfast_tenant as setup makes it")
            if others:
                wrong.append(f"has policies that let more be seen ({others})")
            bare += bool(wrong)
            self.problems.extend(
                f"The table {name} {each}. Compare it with docs/decisions/0021." for each in wrong
            )
        return {"tables": len(rows), "guarded": len(rows) - bare}

    # --- how things are found

    def _indexes(self) -> dict[str, Any]:
        text = (
            "SELECT i.relname::text, x.indisvalid AND x.indisready FROM pg_index AS x"
            " JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_namespace AS n"
            f" ON n.oid = i.relnamespace WHERE n.nspname = {MARK}"
        )
        held = dict(self._ask(text, [self._schema]))
        declared = [name for c in self._collections for name in index_names(c)]
        missing = [name for name in declared if name not in held]
        invalid = sorted(name for name, valid in held.items() if not valid)
        self.problems.extend(
            f"The index {name} is missing; whoever dropped it knows how it was." for name in missing
        )
        self.problems.extend(
            f"The index {name} is not valid; a build was cut short. Drop it if its name ends in"
            " _ccnew, else `holdfast maintain reindex`."
            for name in invalid
        )
        return {"declared": len(declared), "missing": missing, "invalid": invalid}

    def _plans(self) -> dict[str, Any]:
        served = planned(self._internals, self._wire, self._collections)
        lost = sorted(name for name, index in served.items() if not index)
        self.problems.extend(f"No index serves {name}." for name in lost)
        return {"shapes": len(served), "by_index": len(served) - len(lost), "used": served}

    def _tables(self) -> dict[str, Any]:
        text = (
            "SELECT relname::text, pg_total_relation_size(relid), n_live_tup, n_dead_tup,"
            " last_autoanalyze IS NULL AND last_analyze IS NULL"
            f" FROM pg_stat_all_tables WHERE schemaname = {MARK} ORDER BY 2 DESC, 1"
        )
        tables = {}
        for name, size, live, dead, unknown in self._ask(text, [self._schema]):
            tables[name] = {"bytes": size, "rows": live, "dead_rows": dead}
            if live + dead >= MANY_ROWS and dead > DEAD_SHARE * (live + dead):
                self.advice.append(f"{dead} rows of {name} are dead: `holdfast maintain vacuum`.")
            if live >= MANY_ROWS and unknown:
                self.advice.append(f"{name} was never analyzed: `holdfast maintain analyze`.")
        return tables

    def _orphans(self) -> dict[str, int]:
        found = orphans(self._internals, self._wire)
        self.problems.extend(
            f"{count} rows of {name} belong to no record." for name, count in found.items() if count
        )
        return found

    # --- what follows

    def _journal(self) -> dict[str, Any]:
        journal = self._internals.table("holdfast_journal")
        text = (
            "SELECT f.name, f.position, (SELECT count(*) FROM"
            f" {journal} AS j WHERE j.position > f.position)"
            f" FROM {self._internals.table('holdfast_followers')} AS f ORDER BY 1"
        )
        return {name: {"position": at, "behind": behind} for name, at, behind in self._ask(text)}

    def _replication(self) -> list[dict[str, Any]]:
        text = (
            "SELECT coalesce(application_name, ''), coalesce(state, ''),"
            " CASE WHEN pg_is_in_recovery() THEN 0 ELSE"
            " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint END"
            " FROM pg_stat_replication ORDER BY 1"
        )
        rows = self._ask(text)
        for name, _, behind in rows:
            if behind > LAG_BYTES:
                self.advice.append(f"The standby {name} is {behind} bytes behind.")
        return [{"name": n, "state": state, "behind_bytes": b} for n, state, b in rows]

    def _slow(self) -> list[dict[str, Any]] | str:
        text = (
            "SELECT quote_ident(n.nspname) FROM pg_extension AS e JOIN pg_namespace AS n"
            " ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"
        )
        home = self._ask(text)
        if not home:
            return "pg_stat_statements is not installed"
        text = (
            "SELECT calls, round(mean_exec_time::numeric, 2)::float8, left(query, 200)"
            f" FROM {home[0][0]}.pg_stat_statements WHERE query LIKE {MARK}"
            " AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            f" ORDER BY mean_exec_time DESC LIMIT {SLOW_QUERIES}"
        )
        rows = self._ask(text, [f"%{self._internals.dialect.schema}.%"])
        return [{"calls": calls, "mean_ms": mean, "query": said} for calls, mean, said in rows]


def diagnose(internals: Internals, role: str | None = None) -> Diagnosis:
    """A look at the store, and at ``role`` instead of the role of the connection."""
    wire = internals.pool.connect()
    try:
        return Examination(internals, wire, role).run()
    except ENGINE_ERRORS as error:
        raise mapped(error) from error
    finally:
        wire.close()


def orphans(internals: Internals, wire: Wire) -> dict[str, int]:
    """By derived table: how many of its rows belong to no record."""
    schema = internals.pool.target.options.schema
    text = (
        "SELECT c.relname::text, array_agg(a.attname::text) FROM pg_class AS c"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0"
        f" WHERE n.nspname = {literal(schema)} AND c.relkind = 'r' GROUP BY 1 ORDER BY 1"
    )
    held = {name: set(columns) for name, columns in wire.rows(wire.run([(text, ())])[0])}
    names, parts = [], []
    for collection in internals.planner.collections.values():
        key = ("tenant", *collection.key)
        same = " AND ".join(f"t.{quoted(n)} = k.{quoted(n)}" for n in key)
        for name, columns in held.items():
            if not name.startswith(f"{collection.name}__") or not columns.issuperset(key):
                continue
            names.append(name)
            parts.append(
                f"SELECT count(*) FROM {internals.table(quoted(name))} AS k WHERE NOT EXISTS"
                f" (SELECT FROM {internals.dialect.table(collection)} AS t WHERE {same})"
            )
    results = wire.run([(EVERY_TENANT, ()), *((part, ()) for part in parts)])[1:]
    counts = (wire.rows(result)[0][0] for result in results)
    return dict(zip(names, counts, strict=True))


def _is_near(described: str) -> bool:
    """Whether the server is on this machine."""
    host = described.rpartition("/")[0].rpartition(":")[0]
    return host.startswith("/") or host in ("", "localhost", "127.0.0.1", "::1", "[::1]")
