"""Supabase's end users, by its own client over its own HTTP interface, beside an application."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from postgrest import APIError, SyncPostgrestClient
from supabase import Client, ClientOptions, create_client

import holdfast
from holdfast.backends.postgres import supabase as engine
from holdfast.core.errors import Invalid, Unavailable
from holdfast.testing.servers import Server, running
from holdfast.testing.servers.supabase import PUBLISHABLE_KEY, ROLES, SECRET_KEY, Lite, lite

# What Supabase's client warns of is its own.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated")

PASSWORD = "correct horse battery staple 1!"


@dataclass(frozen=True)
class User:
    """One who has signed up: their id, and a client that acts as them."""

    id: str
    client: Client


@dataclass(frozen=True)
class Project:
    """A project of Supabase with holdfast's tables in it."""

    server: Server
    api: Lite
    closing: ExitStack

    def sign_up(self, name: str) -> User:
        """A new user, signed in; by HTTP, because the client takes this interface's answer ill."""
        account = {"email": f"{name}@example.com", "password": PASSWORD}
        self._ask("/auth/v1/signup", account)
        session = self._ask("/auth/v1/token?grant_type=password", account)
        return User(session["user"]["id"], self.client(token=session["access_token"]))

    def client(self, key: str = PUBLISHABLE_KEY, *, token: str = "") -> Client:
        """What a browser or a server has: the project's key, and a token of who signed in."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = create_client(self.api.url, key, ClientOptions(schema="holdfast", headers=headers))
        self.closing.callback(client.postgrest.session.close)
        return client

    def _ask(self, path: str, body: dict[str, str]) -> Any:
        headers = {"apikey": PUBLISHABLE_KEY, "content-type": "application/json"}
        asked = urllib.request.Request(self.api.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked) as answer:
            return json.load(answer)

    def open(self, **bound: str) -> holdfast.Storage:
        """What the application has."""
        url = self.server.url().replace("postgresql:", "supabase:")
        return holdfast.open(f"{url}?sslmode=disable", embedder=None, **bound)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    with running() as server:
        server.psql(ROLES)
        with lite(server.url()) as api, ExitStack() as closing:  # lite makes the schema auth
            yield Project(server, api, closing)


@pytest.fixture(scope="module")
def people(project: Project) -> tuple[User, User]:
    """A and B, who each have a memory, a task and a setting; and one memory is nobody's."""
    people = project.sign_up("a"), project.sign_up("b")
    for name, person in zip("ab", people, strict=True):
        with project.open(user=person.id) as storage:
            storage.memory.remember(f"The secret of {name}.")
            storage.tasks.post(f"The task of {name}")
            storage.kv.set("name", name)
    with project.open() as storage:
        storage.memory.remember("Nobody's in particular.")
    return people


def rows(client: Client | SyncPostgrestClient, table: str, column: str) -> list[str]:
    found = client.table(table).select(column).execute().data
    return [row[column] for row in found]  # type: ignore[index, call-overload, misc]


def answer(asked: Any) -> Any:
    """The rows that come back; none where all is forbidden."""
    try:
        return asked.execute().data
    except APIError as refused:
        if refused.code != "42501":
            raise
        return []


def tables(server: Server) -> list[str]:
    return server.psql(
        "SELECT relname FROM pg_class WHERE relnamespace = 'holdfast'::regnamespace"
        " AND relkind = 'r' ORDER BY relname"
    ).splitlines()


def test_k18_a_signed_in_user_reads_their_own(project: Project, people: tuple[User, User]) -> None:
    for name, person in zip("ab", people, strict=True):
        assert rows(person.client, "memories", "content") == [f"The secret of {name}."]
        assert rows(person.client, "tasks", "title") == [f"The task of {name}"]


def test_k18_another_user_and_anon_see_nothing_of_a_in_any_table(
    project: Project, people: tuple[User, User]
) -> None:
    a, b = people
    nobody = project.client()
    for table in tables(project.server):
        for client, kept in ((b.client, b.id), (nobody, None)):
            found = answer(client.table(table).select("*"))
            assert a.id not in json.dumps(found)
            assert all(isinstance(row, dict) and row["user"] == kept for row in found)


def test_k18_the_projects_own_server_sees_all(project: Project, people: tuple[User, User]) -> None:
    found = rows(project.client(SECRET_KEY), "memories", "content")
    assert {"The secret of a.", "The secret of b.", "Nobody's in particular."} <= set(found)


def test_k18_end_users_write_nothing(project: Project, people: tuple[User, User]) -> None:
    a, b = people
    with project.open(user=a.id) as storage:
        before = [memory.content for memory in storage.memory.list().items]
    for client in (a.client, b.client, project.client()):
        memories = client.table("memories")
        with pytest.raises(APIError):
            memories.insert({"tenant": "default", "id": "x", "user": a.id}).execute()
        for attempt in (memories.update({"content": "changed"}), memories.delete()):
            assert answer(attempt.eq("user", a.id)) == []
    with project.open(user=a.id) as storage:
        assert [memory.content for memory in storage.memory.list().items] == before


def test_k18_a_user_of_another_tenant_sees_nothing(
    project: Project, people: tuple[User, User]
) -> None:
    a, _ = people
    with project.open(tenant="elsewhere", user=a.id) as storage:
        storage.memory.remember("The same person, as another tenant's user.")
    assert rows(a.client, "memories", "content") == ["The secret of a."]


def test_k18_a_table_that_was_not_shut_shows_everything_to_everybody(
    project: Project, people: tuple[User, User]
) -> None:
    """The saboteur: without our policies, the project's default grants leave the door open."""
    server = project.server
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("DROP POLICY holdfast_end_users ON holdfast.memories")
        admin.execute("CREATE POLICY careless ON holdfast.memories USING (true)")
        assert len(rows(people[1].client, "memories", "content")) > 1
        admin.execute("DROP POLICY holdfast_own ON holdfast.memories")
        with project.open() as storage:  # which notices, and shuts it again
            assert storage.health(timeout_seconds=60).ok
        assert rows(people[1].client, "memories", "content") == ["The secret of b."]
        admin.execute("DROP POLICY careless ON holdfast.memories")
    assert rows(people[1].client, "memories", "content") == ["The secret of b."]


def test_k18_a_database_that_is_not_supabases_is_refused() -> None:
    with running() as server:
        url = server.url().replace("postgresql:", "supabase:")
        with pytest.raises(Unavailable, match="no roles anon and authenticated"):
            holdfast.open(f"{url}?sslmode=disable", embedder=None)
        assert server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'holdfast'") == "0"


def test_k18_the_environment_may_name_the_project() -> None:
    project = {"SUPABASE_URL": "https://abc.supabase.co", "SUPABASE_DB_PASSWORD": "p@ss word"}
    named = "postgresql://postgres:p%40ss%20word@db.abc.supabase.co:5432/postgres"
    assert engine.database_url("supabase:", project) == named
    given = {"SUPABASE_DB_URL": "postgresql://u:p@pooler:6543/postgres?sslmode=verify-full"}
    whole = f"{given['SUPABASE_DB_URL']}&schema=mine"
    assert engine.database_url("supabase://?schema=mine", given) == whole
    with pytest.raises(Invalid, match="SUPABASE_DB_URL"):
        engine.database_url("supabase:", {"SUPABASE_URL": "https://abc.supabase.co"})


def test_k18_a_pooler_is_known_by_its_port_and_tls_is_asked_for() -> None:
    from holdfast.backends.postgres.options import parse

    transaction = parse("supabase://postgres.abc:secret@pooler.example:6543/postgres")
    assert not transaction.options.prepare
    assert "sslmode=require" in transaction.conninfo
    session = parse("supabase://postgres.abc:secret@pooler.example:5432/postgres?sslmode=disable")
    assert session.options.prepare
    assert "sslmode=disable" in session.conninfo
    assert "secret" not in repr(transaction)
