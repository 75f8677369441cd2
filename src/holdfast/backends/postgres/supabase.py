"""Supabase: PostgreSQL behind its poolers, whose end users reach tables over HTTP with a token.

The application speaks to the database as to any other. Beside it, the project's REST interface
lets browsers and phones in as the roles ``anon`` and ``authenticated``, and a table in a schema
that the project exposes is theirs but for row-level security. So each table of ours gets a policy
that no other can widen: a signed-in user reads what is bound to their own ``auth.uid()``, in the
tenant that their token names, and writes nothing; everybody else sees nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from holdfast.backends.postgres.dialect import literal
from holdfast.core.errors import Invalid, Unavailable

SCHEME: Final = "supabase"
TRANSACTION_POOLER: Final = 6543
"""The port of Supabase's transaction pooler, behind which nothing may be prepared."""
DATABASE_URL: Final = "SUPABASE_DB_URL"
PROJECT_URL: Final = "SUPABASE_URL"
PASSWORD: Final = "SUPABASE_DB_PASSWORD"
ROLES: Final = ("anon", "authenticated")
TENANT_CLAIM: Final = "tenant"
"""What names a user's tenant in the token's ``app_metadata``, which users cannot change."""


def database_url(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """The database's URL: what ``supabase://`` names, or else what the environment does.

    No key of the project is asked for: keys are for its HTTP interface.
    """
    rest = url.removeprefix(f"{SCHEME}:").removeprefix("//")
    if rest and not rest.startswith("?"):
        return f"postgresql://{rest}"
    held = environment.get(DATABASE_URL, "")
    if held:
        scheme, separator, address = held.partition("://")
        if not separator or scheme not in ("postgresql", "postgres"):
            raise Invalid(DATABASE_URL, expected="a postgresql:// URL", got="another value")
        joint = "&" if "?" in address else "?"
        return f"postgresql://{address}{joint + rest[1:] if rest else ''}"
    project, password = environment.get(PROJECT_URL, ""), environment.get(PASSWORD, "")
    host = urlsplit(project).hostname or ""
    if not host or not password:
        raise Invalid(
            "url",
            expected=f"supabase://user:password@host/postgres, or {DATABASE_URL}, or"
            f" {PROJECT_URL} and {PASSWORD} in the environment",
            got="none of them",
            hint="The project's page shows the URL under Connect.",
        )
    return f"postgresql://postgres:{quote(password, safe='')}@db.{host}:5432/postgres{rest}"


def guard(schema: str, quoted_schema: str) -> str:
    """A script that shuts every table of the schema to end users, but for what is their own.

    It may be repeated: a table that has its policies keeps them.
    """
    tenant = f"auth.jwt() -> 'app_metadata' ->> '{TENANT_CLAIM}'"
    own = (
        "\"user\" = (SELECT nullif(auth.uid()::text, ''))"
        f" AND tenant = (SELECT coalesce({tenant}, 'default'))"
    )
    roles = ", ".join(ROLES)
    return f"""
DO $body$ DECLARE held record; own text; name text; BEGIN
    FOR held IN
        SELECT c.relname, c.relrowsecurity AS secured, EXISTS (
            SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'user'
        ) AS personal
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = {literal(schema)} AND c.relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'holdfast_end_users'
        )
    LOOP
        name := format('%I.%I', {literal(schema)}, held.relname);
        own := CASE WHEN held.personal THEN {literal(own)} ELSE 'false' END;
        IF NOT held.secured THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('CREATE POLICY holdfast_engine ON %s USING (true)', name);
        END IF;
        EXECUTE format('REVOKE ALL ON %s FROM {roles}', name);
        EXECUTE format('CREATE POLICY holdfast_end_users ON %s AS RESTRICTIVE TO {roles}'
            ' USING (%s) WITH CHECK (false)', name, own);
        IF held.personal THEN
            EXECUTE format('CREATE POLICY holdfast_own ON %s FOR SELECT TO authenticated'
                ' USING (%s)', name, own);
            EXECUTE format('GRANT SELECT ON %s TO authenticated', name);
        END IF;
    END LOOP;
END $body$;
GRANT USAGE ON SCHEMA {quoted_schema} TO authenticated;
"""


def is_guarded(schema: str) -> str:
    """An expression: every table of the schema is shut to end users."""
    return f"""NOT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = {literal(schema)} AND c.relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'holdfast_end_users'
        ))"""


IS_SUPABASE: Final = (
    "(SELECT count(*) = 2 FROM pg_roles WHERE rolname IN ('anon', 'authenticated'))"
    " AND to_regprocedure('auth.uid()') IS NOT NULL"
    " AND to_regprocedure('auth.jwt()') IS NOT NULL"
)
"""An expression: the database has what the policies name."""


def not_supabase() -> Unavailable:
    """What a database without Supabase's roles is answered with."""
    return Unavailable(
        "The database has no roles anon and authenticated with auth.uid() and auth.jwt().",
        hint="Is it one of Supabase? For any other PostgreSQL use a postgresql:// URL.",
    )
