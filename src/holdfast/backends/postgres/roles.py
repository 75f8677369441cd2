"""What other roles may do with a store that its owner has set up: as little as they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import literal
from holdfast.backends.postgres.errors import ENGINE_ERRORS, mapped
from holdfast.backends.postgres.functions import lock_number
from holdfast.backends.postgres.wire import Wire
from holdfast.backends.sql.dialect import quoted
from holdfast.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from holdfast.backends.postgres.internals import Internals

Access = Literal["application", "read-only"]

RECORDS: Final = ("holdfast_store", "holdfast_collections", "holdfast_migrations")
"""What the store says of itself: for every role to read, and for its owner alone to write."""


def statements(schema: str, role: str, access: Access) -> list[str]:
    """The GRANTs that give a role its access, to what is there and to what later editions add."""
    if access not in ("application", "read-only"):
        raise Invalid("access", expected='"application" or "read-only"', got=repr(access))
    s, who = quoted(schema), quoted(role)
    rights = "SELECT" if access == "read-only" else "SELECT, INSERT, UPDATE, DELETE"
    kept = ", ".join(f"{s}.{name}" for name in RECORDS)
    defaults = f"ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT"
    texts = [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA {s} FROM {who}",
        f"REVOKE CREATE ON SCHEMA {s} FROM {who}",
        f"GRANT USAGE ON SCHEMA {s} TO {who}",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA {s} TO {who}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA {s} TO {who}",
        f"{defaults} {rights} ON TABLES TO {who}",
        f"{defaults} SELECT ON SEQUENCES TO {who}",
    ]
    if access == "application":
        texts.append(f"REVOKE INSERT, UPDATE, DELETE ON {kept} FROM {who}")
    return texts


def grant(internals: Internals, role: str, access: Access) -> None:
    """Give a role its access to the store; the connection is the owner's.

    Raises Forbidden for another connection, NotFound where there is no such role, and Invalid for
    a role that row-level security would not bind: a superuser, one with BYPASSRLS, or a member of
    such a role or of the tables' owner.
    """
    schema = internals.pool.target.options.schema
    with internals.pool.wire() as wire:
        try:
            held = read(wire, schema, role)
            if held is None:
                raise NotFound("There is no such role.", hint="Create it first, with LOGIN.")
            if unbound(held):
                raise Invalid("role", expected="one that row-level security binds", got="another")
            # One at a time, also beside a setup: a catalogue row that two change is an error.
            alone = f"SELECT pg_advisory_xact_lock({lock_number(schema, 'setup')})"
            texts = ("BEGIN", alone, *statements(schema, role, access), "COMMIT")
            wire.run([(text, ()) for text in texts])
        except ENGINE_ERRORS as error:
            raise mapped(error) from error


# --- what a role may do


def read(wire: Wire, schema: str, role: str) -> dict[str, Any] | None:
    """What a role is and what it may do with the store's tables; None for a role that is not."""
    text = f"""
        WITH r AS (SELECT * FROM pg_roles WHERE rolname = {MARK}), t AS (
            SELECT c.oid, c.relname, c.relowner FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = {literal(schema)} AND c.relkind IN ('r', 'p'))
        SELECT r.rolsuper, r.rolbypassrls,
            EXISTS (SELECT FROM pg_roles AS o WHERE (o.rolsuper OR o.rolbypassrls)
                AND o.oid <> r.oid AND pg_has_role(r.oid, o.oid, 'MEMBER')),
            (SELECT count(*) FROM t WHERE pg_has_role(r.oid, t.relowner, 'MEMBER')),
            coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'CREATE') FROM pg_namespace AS n
                WHERE n.nspname = {literal(schema)}), FALSE),
            (SELECT count(*) FROM t
                WHERE has_table_privilege(r.oid, t.oid, 'TRUNCATE, TRIGGER, REFERENCES')),
            (SELECT count(*) FROM t WHERE t.relname IN ({", ".join(map(literal, RECORDS))})
                AND has_table_privilege(r.oid, t.oid, 'INSERT, UPDATE, DELETE')),
            (SELECT count(*) FROM t WHERE NOT has_table_privilege(r.oid, t.oid, 'SELECT')),
            (SELECT count(*) FROM t
                WHERE has_table_privilege(r.oid, t.oid, 'INSERT, UPDATE, DELETE')),
            (SELECT count(*) FROM t), r.rolcanlogin
        FROM r"""
    rows = wire.rows(wire.run([(text, [role])])[0])
    names = (
        "superuser", "bypasses_row_security", "member_of_such", "owned_tables", "may_create",
        "beyond_rows", "writes_records", "unreadable_tables", "writable_tables", "tables", "login",
    )  # fmt: skip
    return dict(zip(names, rows[0], strict=True)) if rows else None


def unbound(held: dict[str, Any]) -> list[str]:
    """Why row-level security does not bind a role; nothing where it does."""
    found = []
    if held["superuser"]:
        return ["is a superuser, whom no row-level security binds"]
    if held["bypasses_row_security"]:
        found.append("has BYPASSRLS, so that no row-level security binds it")
    if held["member_of_such"]:
        found.append("is a member of a role that row-level security does not bind")
    if held["owned_tables"]:
        count = held["owned_tables"]
        found.append(f"owns {count} tables of the store, and can switch their row security off")
    return found


def faults(held: dict[str, Any], access: Access) -> list[str]:
    """What a role may that it must not, and must but may not; nothing where it is as granted."""
    found = unbound(held)
    if found:
        return found
    if held["may_create"]:
        found.append("may create objects in the store's schema")
    if held["beyond_rows"]:
        found.append("may TRUNCATE, REFERENCE or add triggers, which row security does not see")
    if held["writes_records"]:
        found.append("may write what the store says of itself")
    if held["unreadable_tables"]:
        found.append(f"may not read {held['unreadable_tables']} tables of the store")
    writable, wanted = held["writable_tables"], 0 if access == "read-only" else held["tables"]
    if access == "read-only" and writable:
        found.append(f"may write {writable} tables, and should only read")
    if access == "application" and writable < wanted - len(RECORDS):
        found.append(f"may not write {wanted - len(RECORDS) - writable} tables of the store")
    return found
