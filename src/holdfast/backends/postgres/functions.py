"""What runs inside the database: tables of the engine's own, and functions that statements call.

``{s}`` stands for the store's schema, quoted; ``{writers}`` and ``{journal}`` for the numbers of
two advisory locks.
"""

from __future__ import annotations

import hashlib
from typing import Final

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import literal
from holdfast.backends.postgres.errors import CONFLICT, NOT_FOUND, TOO_LARGE
from holdfast.core.values import JSON_SIZE_LIMIT, LIST_LIMIT

EVERY_TENANT: Final = "SELECT set_config('holdfast.every_tenant', 'on', true)"
"""Shows the rows of all tenants until the transaction ends."""
ONE_TENANT: Final = f"SELECT set_config('holdfast.tenant', {MARK}, true)"
"""Binds the transaction to a tenant."""

FORMAT: Final = 3
"""Rises when the engine's own tables or functions change."""

INDEX_TABLES: Final = ("holdfast_segments", "holdfast_segment_parts", "holdfast_voids")
"""Packed text: segments, their parts, and the stamps whose copies in segments count no more."""
NUMBERS: Final = "holdfast_sequences"
TENANT_TABLES: Final = (NUMBERS, "holdfast_operations", "holdfast_journal")
"""The engine's own tables that hold what belongs to a tenant, beside those of packed text."""

BY_CHANCE: Final = "hashtextextended(gen_random_uuid()::text, 0)"
"""A number that was never given before. A sequence may give one twice: after a failover to a server
that lost the last commits, or a restore. Processes hold in memory what such a number stood for."""

SEGMENTS: Final = """
CREATE TABLE {s}.holdfast_segments (
    tenant text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL,
    id bigint NOT NULL DEFAULT {by_chance}, rows bigint NOT NULL, postings bigint NOT NULL,
    PRIMARY KEY (tenant, source, id)
);
CREATE TABLE {s}.holdfast_segment_parts (
    tenant text COLLATE "C" NOT NULL, segment bigint NOT NULL, name text COLLATE "C" NOT NULL,
    data bytea NOT NULL, PRIMARY KEY (tenant, segment, name)
);
ALTER TABLE {s}.holdfast_segment_parts ALTER data SET STORAGE EXTERNAL;
CREATE TABLE {s}.holdfast_voids (
    tenant text COLLATE "C" NOT NULL, source text COLLATE "C" NOT NULL, stamp bigint NOT NULL,
    PRIMARY KEY (tenant, source, stamp)
);
"""

ENGINE: Final = """
CREATE TABLE {s}.holdfast_store (format int NOT NULL, vectors text NOT NULL);
CREATE TABLE {s}.holdfast_collections (
    name text COLLATE "C" PRIMARY KEY, version int NOT NULL, shape text NOT NULL,
    analysis int NOT NULL
);
CREATE TABLE {s}.holdfast_migrations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, collection text NOT NULL,
    from_version int, to_version int NOT NULL, at timestamptz NOT NULL, description text NOT NULL
);
CREATE TABLE {s}.holdfast_sequences (
    tenant text COLLATE "C" NOT NULL, collection text COLLATE "C" NOT NULL,
    field text COLLATE "C" NOT NULL, per text COLLATE "C" NOT NULL, last bigint NOT NULL,
    PRIMARY KEY (tenant, collection, field, per)
) WITH (fillfactor = 70);
CREATE TABLE {s}.holdfast_operations (
    tenant text COLLATE "C" NOT NULL, op_id text COLLATE "C" NOT NULL, body bytea NOT NULL,
    outcomes bytea NOT NULL, at timestamptz NOT NULL, PRIMARY KEY (tenant, op_id)
);
CREATE INDEX holdfast_operations_at ON {s}.holdfast_operations (at);
CREATE TABLE {s}.holdfast_followers (name text COLLATE "C" PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE {s}.holdfast_journal (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL, key json NOT NULL, revision bigint NOT NULL,
    record json, vectors json, at timestamptz NOT NULL, op_id text
);

CREATE FUNCTION {s}.holdfast_enter(who text, op text, moment text) RETURNS void
LANGUAGE plpgsql AS $body$
BEGIN
    -- Assigned and not performed: an expression is evaluated in place, a PERFORM is a query.
    who := set_config('holdfast.tenant', who, true);
    -- Shared among writers; `follow` waits for all of them, so that none misses the new follower.
    IF pg_advisory_xact_lock_shared({writers}) IS NULL THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM {s}.holdfast_followers) THEN
        PERFORM set_config('holdfast.journal', 'on', true);
        PERFORM set_config('holdfast.op_id', op, true);
        PERFORM set_config('holdfast.now', moment, true);
    END IF;
END $body$;

CREATE FUNCTION {s}.holdfast_refuse(held bigint) RETURNS bigint LANGUAGE plpgsql AS $body$
BEGIN
    IF held IS NULL THEN
        RAISE EXCEPTION 'missing' USING ERRCODE = '{not_found}';
    END IF;
    RAISE EXCEPTION 'refused' USING ERRCODE = '{conflict}', DETAIL = held::text;
END $body$;

CREATE FUNCTION {s}.holdfast_at(held json, path text[]) RETURNS json
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $body$
DECLARE part text;
BEGIN
    FOREACH part IN ARRAY path LOOP
        held := held -> part;  -- of a text, so that it never counts into a list
    END LOOP;
    RETURN held;
END $body$;

CREATE FUNCTION {s}.holdfast_append(held text[], more text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE result text[];
BEGIN
    SELECT coalesce(array_agg(entry ORDER BY place), '{{}}') INTO result FROM (
        SELECT entry COLLATE "C" AS entry, min(place) AS place
        FROM unnest(coalesce(held, '{{}}') || more) WITH ORDINALITY AS listed (entry, place)
        GROUP BY 1
    ) AS distinct_entries;
    IF cardinality(result) > {list_limit} THEN
        RAISE EXCEPTION 'too large' USING ERRCODE = '{too_large}', DETAIL = '{list_limit} entries';
    END IF;
    RETURN result;
END $body$;

CREATE FUNCTION {s}.holdfast_merge(held json, patch json) RETURNS json
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE result text;
BEGIN
    IF held IS NULL OR json_typeof(held) <> 'object' THEN
        held := '{{}}';
    END IF;
    SELECT '{{' || coalesce(
        string_agg(to_json(name)::text || ':' || value::text, ',' ORDER BY place), ''
    ) || '}}' INTO result FROM (
        SELECT old.key AS name, coalesce(new.value, old.value) AS value, old.place
        FROM json_each(held) WITH ORDINALITY AS old (key, value, place)
        LEFT JOIN json_each(patch) AS new (key, value) ON new.key = old.key COLLATE "C"
        WHERE new.key IS NULL OR json_typeof(new.value) <> 'null'
        UNION ALL
        SELECT new.key, new.value, 1000000000 + new.place
        FROM json_each(patch) WITH ORDINALITY AS new (key, value, place)
        WHERE json_typeof(new.value) <> 'null'
        AND NOT EXISTS (
            SELECT FROM json_each(held) AS old (key, value) WHERE old.key = new.key COLLATE "C"
        )
    ) AS merged;
    IF octet_length(result) > {json_limit} THEN
        RAISE EXCEPTION 'too large' USING ERRCODE = '{too_large}',
            DETAIL = '{json_limit} bytes of JSON';
    END IF;
    RETURN result::json;
END $body$;

CREATE FUNCTION {s}.holdfast_count_up() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END $body$;
"""


def lock_number(schema: str, purpose: str) -> int:
    """The number of an advisory lock, the same in every process."""
    digest = hashlib.sha256(f"holdfast {purpose} {schema}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def engine_script(schema: str, quoted_schema: str) -> str:
    """The engine's own tables and functions, for one schema."""
    return ENGINE.format(
        s=quoted_schema,
        writers=lock_number(schema, "writers"),
        not_found=NOT_FOUND,
        conflict=CONFLICT,
        too_large=TOO_LARGE,
        list_limit=LIST_LIMIT,
        json_limit=JSON_SIZE_LIMIT,
    ) + "".join(row_security(f"{quoted_schema}.{table}") for table in TENANT_TABLES)


def segment_script(quoted_schema: str) -> str:
    """The tables of packed text; they came with format 2."""
    return SEGMENTS.format(s=quoted_schema, by_chance=BY_CHANCE) + "".join(
        row_security(f"{quoted_schema}.{table}") for table in INDEX_TABLES
    )


_SET: Final = "nullif(current_setting('holdfast.{}', true), '')"


def row_security(table: str) -> str:
    """A table shows and takes the rows of one tenant, and shows all only when told so aloud."""
    own, taken, every = _policies(table.rpartition(".")[2])
    return f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY holdfast_tenant ON {table} USING ({own}) WITH CHECK ({taken});
CREATE POLICY holdfast_every_tenant ON {table} FOR SELECT USING ({every});
"""


def reworded_row_security(quoted_schema: str, schema: str) -> str:
    """The same for all tables that are there and have it in an earlier wording."""
    own, taken, every = _policies("")
    directly, _, _ = _policies(NUMBERS)
    return f"""
DO $body$ DECLARE held name; own text; BEGIN
    FOR held IN SELECT tablename FROM pg_policies
        WHERE schemaname = {literal(schema)} AND policyname = 'holdfast_tenant' LOOP
        own := CASE held WHEN '{NUMBERS}' THEN {literal(directly)} ELSE {literal(own)} END;
        EXECUTE format('ALTER POLICY holdfast_tenant ON {quoted_schema}.%I USING (%s)'
            ' WITH CHECK (%s)', held, own, {literal(taken)});
        EXECUTE format('ALTER POLICY holdfast_every_tenant ON {quoted_schema}.%I USING (%s)',
            held, {literal(every)});
    END LOOP;
END $body$;
"""


def _policies(table: str) -> tuple[str, str, str]:
    """Which rows are the tenant's, which it may write, and whether rows of all are shown.

    Where many rows are met, the setting stands in a sub-select, so that it is read once a
    statement and not once a row. That has to be got ready for each statement, so it is left out
    where it does not pay: of what is written, of numbers, which are met one at a time, and of the
    second policy. That joins the first by OR, so that nobody reads it for a row of the tenant;
    and it asks for what the planner takes to be nearly always true, because a rare one would make
    the planner expect far fewer rows than a tenant has.
    """
    setting = _SET.format("tenant")
    taken = f"tenant = {setting}"
    own = taken if table == NUMBERS else f"tenant = (SELECT {setting})"
    return own, taken, f"{_SET.format('every_tenant')} IS NOT NULL"
