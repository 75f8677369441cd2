"""What a database's catalogue says about row-level security, held against what must be so."""

from __future__ import annotations

from typing import Any, Final

import psycopg

MEANT_FOR_ALL: Final = frozenset(
    {"holdfast_store", "holdfast_collections", "holdfast_migrations", "holdfast_followers"}
)
"""Tables that hold nothing of a tenant."""
ACROSS_TENANTS: Final = frozenset({"holdfast_operations_at", "holdfast_journal_pkey"})
"""Indexes that do not lead with the tenant, for upkeep and for followers."""
_TENANT: Final = "NULLIF(current_setting('holdfast.tenant'::text, true), ''::text)"
OWN_ROWS: Final = (f"tenant = ( SELECT {_TENANT}", f"tenant = {_TENANT}")
"""What policies say: with the setting read once a statement, or once a row."""
NOT_FOR_APPLICATIONS: Final = "TRUNCATE,REFERENCES,TRIGGER"

_TABLES: Final = """
SELECT c.oid, c.relname, c.relrowsecurity, c.relforcerowsecurity,
    EXISTS (SELECT FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped),
    pg_catalog.has_table_privilege(%(role)s, c.oid, %(forbidden)s)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p') ORDER BY c.relname
"""
_POLICIES: Final = """
SELECT tablename, policyname, permissive, roles, cmd, qual, with_check
FROM pg_catalog.pg_policies WHERE schemaname = %(schema)s ORDER BY 1, 2
"""
_INDEXES: Final = """
SELECT i.relname, t.relname, pg_catalog.pg_get_indexdef(x.indexrelid, 1, true)
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
JOIN pg_catalog.pg_am m ON m.oid = i.relam
WHERE n.nspname = %(schema)s AND m.amname <> 'hnsw' ORDER BY 1
"""
_OWNED: Final = """
SELECT 'table ' || relname FROM pg_catalog.pg_class WHERE pg_get_userbyid(relowner) = %(role)s
UNION ALL
SELECT 'function ' || proname FROM pg_catalog.pg_proc WHERE pg_get_userbyid(proowner) = %(role)s
UNION ALL
SELECT 'schema ' || nspname FROM pg_catalog.pg_namespace WHERE pg_get_userbyid(nspowner) = %(role)s
UNION ALL
SELECT 'database ' || datname FROM pg_catalog.pg_database WHERE pg_get_userbyid(datdba) = %(role)s
"""
_POWERS: Final = """
SELECT r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
    has_schema_privilege(r.rolname, %(schema)s, 'CREATE')
FROM pg_catalog.pg_roles r WHERE r.rolname = %(role)s
"""
_BEHIND: Final = """
SELECT 'view ' || c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND (c.relkind = 'm' OR c.relkind = 'v'
    AND NOT coalesce(c.reloptions, '{}') @> '{security_invoker=true}')
UNION ALL
SELECT 'function ' || p.proname FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.prosecdef
"""


def _is_own(condition: str | None) -> bool:
    return any(words in (condition or "") for words in OWN_ROWS)


def breaches(connection: psycopg.Connection[Any], *, schema: str, application: str) -> list[str]:
    """Every way in which the schema falls short of keeping tenants apart; empty when there is none.

    ``application`` is the role that programs connect as; the connection may be anyone's who may
    read the catalogue.
    """
    names = {"schema": schema, "role": application, "forbidden": NOT_FOR_APPLICATIONS}
    found = _of_tables(connection, names)
    for (thing,) in connection.execute(_OWNED, names):
        found.append(f"{application} owns the {thing}")
    powers = ("superuser", "bypassrls", "createrole", "createdb", "replication", "CREATE in schema")
    for row in connection.execute(_POWERS, names):
        held = [power for power, has in zip(powers, row, strict=True) if has]
        found.extend(f"{application} has {power}" for power in held)
    for (thing,) in connection.execute(_BEHIND, names):
        found.append(f"the {thing} reads with its owner's rights")
    return found


def _of_tables(connection: psycopg.Connection[Any], names: dict[str, str]) -> list[str]:
    found, guarded = [], set()
    for _, table, enabled, forced, tenanted, risky in connection.execute(_TABLES, names):
        if risky:
            found.append(f"{table}: {names['role']} may TRUNCATE, REFERENCE or TRIGGER")
        if not tenanted:
            if table not in MEANT_FOR_ALL:
                found.append(f"{table}: has no tenant")
            continue
        guarded.add(table)
        if not (enabled and forced):
            found.append(f"{table}: row-level security is not {'forced' if enabled else 'on'}")
    ruled = set()
    for table, policy, _, _, command, using, check in connection.execute(_POLICIES, names):
        if command == "ALL" and all(map(_is_own, (using, check))):
            ruled.add(table)
        elif command != "SELECT" or "holdfast.every_tenant" not in (using or ""):
            found.append(f"{table}: the policy {policy} is not one of ours")
    found.extend(f"{table}: no policy keeps its tenants apart" for table in guarded - ruled)
    for index, table, first in connection.execute(_INDEXES, names):
        if table in guarded and first != "tenant" and index not in ACROSS_TENANTS:
            found.append(f"{table}: the index {index} leads with {first}")
    return found
