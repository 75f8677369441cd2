"""`holdfast setup postgres` and `holdfast doctor URL`, on a server of their own."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

import holdfast
from holdfast.cli import main
from holdfast.core.errors import Forbidden
from holdfast.testing.servers import Server, running

PASSWORD = "a-password-that-nobody-sees"
OWNER, APP, READER = "store_owner", "store_app", "store_reader"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(settings={"log_statement": "all"}) as started:
        started.psql(f"CREATE ROLE {OWNER} LOGIN CREATEDB CREATEROLE")
        # As managed servers do it, so that an owner who is no superuser has vectors.
        started.psql("CREATE EXTENSION vector", "template1")
        yield started


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    cleared = dict.fromkeys((k for k in os.environ if k.startswith("HOLDFAST_")), None)
    done = CliRunner(env={**cleared, **(env or {})}).invoke(main, list(args))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def url(server: Server, database: str, role: str = OWNER) -> str:
    return server.url(database, user=role)


@pytest.fixture
def database(server: Server) -> str:
    """The name of a database that is not there yet."""
    return f"agents_{next(NUMBERS)}"


@pytest.fixture(scope="module")
def store(server: Server) -> str:
    """A database that was set up, with its three roles."""
    name = "agents"
    server.psql(f"CREATE DATABASE {name} OWNER {OWNER}")
    server.psql("CREATE EXTENSION IF NOT EXISTS vector", name)
    done = run("setup", "postgres", url(server, name), "--app-role", APP, "--read-role", READER)
    assert done.exit_code == 0, done.output
    return name


def databases(server: Server) -> set[str]:
    return set(server.psql("SELECT datname FROM pg_database").splitlines())


def test_m1_a_new_database_is_made_with_all_that_is_in_it_and_a_repeat_does_nothing(
    server: Server, database: str
) -> None:
    asked = ("setup", "postgres", url(server, database), "--app-role", "m1_app")
    first = run(*asked, "--json")
    assert first.exit_code == 0, first.output
    done = json.loads(first.stdout)["done"]
    assert [each.split()[0] for each in done] == ["made", "set", "made", "granted"]
    again = run(*asked, "--json")
    assert (again.exit_code, json.loads(again.stdout)["done"]) == (0, [])
    assert "Everything was there already." in run(*asked).stdout
    with holdfast.open(url(server, database, "m1_app"), setup=False) as storage:
        storage.memory.remember("Ada takes her tea without sugar.")
        assert storage.memory.recall("tea", mode="vector")
    assert run("doctor", url(server, database, "m1_app")).exit_code == 0


def test_m1_a_dry_run_changes_nothing_and_prints_what_would_run(
    server: Server, database: str
) -> None:
    asked = ("setup", "postgres", url(server, database), "--app-role", "dry_app")
    held = databases(server)
    told = run(*asked, "--dry-run")
    assert told.exit_code == 0, told.output
    assert databases(server) == held
    assert server.psql("SELECT count(*) FROM pg_roles WHERE rolname = 'dry_app'") == "0"
    first, _, rest = told.stdout.partition(";\n")
    assert first.startswith("CREATE DATABASE")
    server.psql(first, user=OWNER)
    # As a superuser because of the extension; whoever runs the script owns what it makes.
    with psycopg.connect(server.url(database), autocommit=True) as connection:
        connection.execute(rest.encode())
    assert run("setup", "postgres", server.url(database), "--app-role", "dry_app", "--json").stdout
    with holdfast.open(url(server, database, "dry_app"), setup=False) as storage:
        assert storage.memory.remember("Ada likes tea.").content == "Ada likes tea."


def test_m1_a_dry_run_on_a_database_that_is_there_says_what_is_missing(
    server: Server, database: str
) -> None:
    server.psql(f"CREATE DATABASE {database} OWNER {OWNER}")
    asked = ("setup", "postgres", url(server, database), "--app-role", APP)
    told = run(*asked, "--dry-run")
    assert told.exit_code == 0, told.output
    assert "CREATE DATABASE" not in told.stdout
    assert 'CREATE TABLE "holdfast"."memories"' in told.stdout
    assert server.psql("SELECT to_regnamespace('holdfast') IS NULL", database) == "t"
    assert run(*asked).exit_code == 0
    assert run(*asked, "--dry-run").stdout == ""


def test_m1_a_store_does_not_begin_without_vectors_by_accident(
    server: Server, database: str
) -> None:
    server.psql(f"CREATE DATABASE {database} OWNER {OWNER} TEMPLATE template0")
    done = run("setup", "postgres", url(server, database))
    assert done.exit_code == 1
    assert "CREATE EXTENSION vector" in done.stderr
    assert server.psql("SELECT to_regnamespace('holdfast') IS NULL", database) == "t"
    server.psql("CREATE EXTENSION vector", database)
    assert run("setup", "postgres", url(server, database)).exit_code == 0


def test_m2_the_applications_role_owns_nothing_and_has_no_more_than_it_needs(
    server: Server, store: str
) -> None:
    text = (
        f"SELECT count(*) FROM pg_class WHERE pg_has_role('{APP}', relowner, 'MEMBER')"
        " AND relnamespace = 'holdfast'::regnamespace"
    )
    assert server.psql(text, store) == "0"
    with psycopg.connect(url(server, store, APP), autocommit=True) as connection:
        for text in (
            "TRUNCATE holdfast.memories",
            "ALTER TABLE holdfast.memories NO FORCE ROW LEVEL SECURITY",
            "DROP POLICY holdfast_tenant ON holdfast.memories",
            "CREATE TABLE holdfast.mine (x int)",
            "UPDATE holdfast.holdfast_store SET format = 0",
            "DELETE FROM holdfast.holdfast_migrations",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(text.encode())


def test_m2_the_reading_role_reads_and_does_not_write(server: Server, store: str) -> None:
    with holdfast.open(url(server, store, APP), setup=False) as storage:
        storage.kv.set("seen", "by all")
    with holdfast.open(url(server, store, READER), setup=False) as storage:
        assert storage.kv.get("seen") == "by all"
        with pytest.raises(Forbidden):
            storage.kv.set("seen", "changed")
    assert run("doctor", url(server, store, READER)).exit_code == 0


@pytest.mark.parametrize(("attribute", "reason"), [
    ("SUPERUSER", "is a superuser"),
    ("BYPASSRLS", "has BYPASSRLS"),
    (f"IN ROLE {OWNER}", "owns"),
    ("IN ROLE bypasser", "is a member of a role"),
])  # fmt: skip
def test_m2_doctor_fails_for_a_role_that_row_security_does_not_bind(
    server: Server, store: str, attribute: str, reason: str
) -> None:
    server.psql("DROP ROLE IF EXISTS suspect; DROP ROLE IF EXISTS bypasser")
    server.psql(f"CREATE ROLE bypasser BYPASSRLS; CREATE ROLE suspect LOGIN {attribute}")
    server.psql("GRANT USAGE ON SCHEMA holdfast TO suspect", store)
    server.psql("GRANT SELECT ON ALL TABLES IN SCHEMA holdfast TO suspect", store)
    for asked in ((url(server, store, "suspect"),), (url(server, store), "--role", "suspect")):
        done = run("doctor", *asked)
        assert done.exit_code == 1
        assert f"The role suspect {reason}" in done.stdout
        assert "holdfast setup postgres URL --app-role NAME" in done.stdout
    refused = run("setup", "postgres", url(server, store), "--app-role", "suspect")
    assert refused.exit_code == 1
    assert f"The role suspect {reason}" in refused.stderr
    server.psql("DROP OWNED BY suspect", store)


def test_m2_doctor_fails_for_the_owner_and_not_for_the_application(
    server: Server, store: str
) -> None:
    assert f"The role {OWNER} owns" in run("doctor", url(server, store)).stdout
    assert run("doctor", url(server, store, APP)).exit_code == 0
    assert run("doctor", url(server, store), "--role", APP).exit_code == 0


@contextmanager
def harmed(server: Server, database: str, harm: str, cure: str) -> Iterator[None]:
    server.psql(harm, database)
    try:
        yield
    finally:
        server.psql(cure, database)


POLICY = "ALTER POLICY holdfast_tenant ON holdfast.memories USING"
OWN = "(tenant = (SELECT nullif(current_setting('holdfast.tenant', true), '')))"
INDEX = "UPDATE pg_index"
HARMS: dict[str, tuple[str, str, str]] = {
    "not forced": (
        "ALTER TABLE holdfast.memories NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE holdfast.memories FORCE ROW LEVEL SECURITY",
        "The table memories does not force",
    ),
    "switched off": (
        "ALTER TABLE holdfast.tasks DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE holdfast.tasks ENABLE ROW LEVEL SECURITY",
        "The table tasks does not force",
    ),
    "policy renamed away": (
        "ALTER POLICY holdfast_tenant ON holdfast.entries RENAME TO gone",
        "ALTER POLICY gone ON holdfast.entries RENAME TO holdfast_tenant",
        "The table entries lacks the policy",
    ),
    "policy widened": (
        f"{POLICY} (true)", f"{POLICY} {OWN}", "The table memories lacks the policy",
    ),
    "policy added": (
        "CREATE POLICY all_of_it ON holdfast.memories USING (true)",
        "DROP POLICY all_of_it ON holdfast.memories",
        "The table memories has policies that let more be seen (all_of_it)",
    ),
    "index invalid": (
        f"{INDEX} SET indisvalid = false WHERE indexrelid = 'holdfast.memories__key'::regclass",
        f"{INDEX} SET indisvalid = true WHERE indexrelid = 'holdfast.memories__key'::regclass",
        "The index memories__key is not valid",
    ),
    "index missing": (
        "ALTER INDEX holdfast.tasks__key RENAME TO elsewhere",
        "ALTER INDEX holdfast.elsewhere RENAME TO tasks__key",
        "The index tasks__key is missing",
    ),
    "orphan": (
        "INSERT INTO holdfast.tasks__terms VALUES ('t', 'nobody', 0, '', '')",
        "DELETE FROM holdfast.tasks__terms WHERE id = 'nobody'",
        "1 rows of tasks__terms belong to no record",
    ),
    "truncate granted": (
        f"GRANT TRUNCATE ON holdfast.memories TO {APP}",
        f"REVOKE TRUNCATE ON holdfast.memories FROM {APP}",
        f"The role {APP} may TRUNCATE",
    ),
    "right taken": (
        f"REVOKE INSERT, UPDATE, DELETE ON holdfast.memories FROM {APP}",
        f"GRANT INSERT, UPDATE, DELETE ON holdfast.memories TO {APP}",
        f"The role {APP} may not write 1 tables",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMS)
def test_m5_saboteur_what_is_wrong_with_a_store_is_found_and_named(
    server: Server, store: str, name: str
) -> None:
    harm, cure, said = HARMS[name]
    asked = ("doctor", url(server, store, APP), "--json")
    with harmed(server, store, harm, cure):
        done = run(*asked)
        assert done.exit_code == 1
        assert any(said in problem for problem in json.loads(done.stdout)["problems"]), done.stdout
    assert run(*asked).exit_code == 0


def test_m5_a_shape_without_its_index_is_found(server: Server, store: str) -> None:
    [name, *_] = server.psql(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'holdfast'"
        " AND indexname LIKE 'message\\_vectors\\_\\_index%due%'",
        store,
    ).splitlines()
    definition = server.psql(f"SELECT pg_get_indexdef('holdfast.{name}'::regclass)", store)
    with harmed(server, store, f"DROP INDEX holdfast.{name}", definition):
        problems = json.loads(run("doctor", url(server, store, APP), "--json").stdout)["problems"]
        assert f"The index {name} is missing; whoever dropped it knows how it was." in problems
        assert "No index serves message_vectors by due_at." in problems


def test_m5_doctor_tells_what_there_is_to_know(server: Server, store: str) -> None:
    with holdfast.open(url(server, store, APP), setup=False) as storage:
        storage.memory.remember("Ada takes her tea without sugar.")
    report = json.loads(run("doctor", url(server, store, APP), "--json").stdout)
    told: dict[str, Any] = report["server"]
    assert told["postgresql"].startswith("18")
    assert (told["user"], told["database"], told["pooled"], told["tls"]) == (
        APP,
        store,
        False,
        False,
    )
    assert report["pgvector"]["usable"] is True
    assert report["role"] == {"name": APP, "bound_by_row_security": True, "access": "application"}
    assert report["row_security"]["tables"] == report["row_security"]["guarded"] > 20
    plans = report["plans"]
    assert plans["shapes"] == plans["by_index"] == len(plans["used"]) > 20
    assert report["indexes"]["declared"] > 40
    assert report["tables"]["memories"]["bytes"] > 0
    assert set(report["orphans"].values()) == {0}
    assert report["journal"] == {}
    assert report["slow_queries"] == "pg_stat_statements is not installed"
    assert "slow queries" in run("doctor", url(server, store, APP)).stdout


@pytest.mark.parametrize(("place", "status"), [
    ("postgresql://nobody@127.0.0.1:1/x", 5),
    ("postgresql://nobody@127.0.0.1:1/x?bogus=1", 2),
    ("mysql://nobody@127.0.0.1/x", 2),
])  # fmt: skip
def test_m1_what_cannot_be_reached_or_understood_has_its_exit_status(
    place: str, status: int
) -> None:
    for command in (("setup", "postgres", place), ("setup", "postgres", place, "--dry-run")):
        assert run(*command).exit_code == status
    if status == 5:
        assert run("doctor", place).exit_code == status


def test_m1_a_store_that_was_never_set_up_is_not_ready(server: Server, database: str) -> None:
    server.psql(f"CREATE DATABASE {database}")
    assert run("doctor", url(server, database)).exit_code == 5


def test_a20_a_password_is_taken_from_the_environment_and_shown_nowhere(
    server: Server, store: str
) -> None:
    given = ("--app-role", "secretive", "--app-password-env", "STORE_PASSWORD")
    asked = ("setup", "postgres", url(server, store), *given)
    assert run(*asked).exit_code == 2
    shown = [run(*asked, *more, env={"STORE_PASSWORD": PASSWORD}) for more in (("--dry-run",), ())]
    assert [done.exit_code for done in shown] == [0, 0]
    assert all(PASSWORD not in done.output for done in shown)
    assert "CREATE ROLE" in server.log()
    assert PASSWORD not in server.log()
    kept = server.psql("SELECT rolpassword FROM pg_authid WHERE rolname = 'secretive'")
    assert kept.startswith("SCRAM-SHA-256$")


def test_m1_postgresql_15_without_pgvector_keeps_everything_but_vectors() -> None:
    with running("oldest") as old:
        place = old.url("agents")
        assert run("setup", "postgres", place, "--app-role", APP).exit_code == 0
        report = json.loads(run("doctor", url(old, "agents", APP), "--json").stdout)
        assert (report["ok"], report["pgvector"]["usable"]) == (True, False)
        assert report["server"]["postgresql"].startswith("15")
        assert any("recall goes by words" in advice for advice in report["advice"])
        with holdfast.open(url(old, "agents", APP), setup=False) as storage:
            kept = storage.memory.remember("Ada takes her tea without sugar.")
            again = storage.memory.remember(kept.content, near_duplicate="coalesce")
            assert again.id == kept.id
            found = storage.memory.recall("tea")
            assert [each.memory.id for each in found] == [kept.id]
            assert found.flags == ("vectors_not_offered",)
            storage.knowledge.put("d", "The front desk books trains.")
            assert storage.knowledge.search("trains")
            talk = storage.conversations.create().id
            storage.conversations.append(talk, "My printer is on fire.")
            assert storage.conversations.search("printer")
            storage.tasks.post("Call the fire brigade")
            assert len(storage.tasks.claim("worker", lease_seconds=60)) == 1
            storage.audit.append("ticket.opened")
            assert storage.audit.verify().ok
