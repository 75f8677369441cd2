"""What other roles may do with a store that its owner has set up: as little as they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from holdfast.backends.postgres.errors import ENGINE_ERRORS, mapped
from holdfast.backends.postgres.functions import lock_number
from holdfast.backends.sql.dialect import quoted
from holdfast.core.errors import Invalid, NotFound

if TYPE_CHECKING:
    from holdfast.backends.postgres.maintenance import Desk

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


def grant(desk: Desk, role: str, access: Access) -> None:
    """Give a role its access to the store; the connection is the owner's.

    Raises Forbidden for another connection, NotFound where there is no such role, and Invalid for
    a role that row-level security would not bind: a superuser, or one with BYPASSRLS.
    """
    with desk.pool.wire() as wire:
        try:
            asked = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = $?"
            rows = wire.rows(wire.run([(asked, [role])])[0])
            if not rows:
                raise NotFound("There is no such role.", hint="Create it first, with LOGIN.")
            if rows[0][0]:
                raise Invalid("role", expected="one that row-level security binds", got="another")
            schema = desk.pool.target.options.schema
            # One at a time, also beside a setup: a catalogue row that two change is an error.
            alone = f"SELECT pg_advisory_xact_lock({lock_number(schema, 'setup')})"
            texts = ("BEGIN", alone, *statements(schema, role, access), "COMMIT")
            wire.run([(text, ()) for text in texts])
        except ENGINE_ERRORS as error:
            raise mapped(error) from error
