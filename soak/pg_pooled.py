"""Many tenants through a transaction pooler: nobody sees a foreign row or misses one of their own.

Eight tenants share two server connections, each of which changes hands at every commit. The
saboteurs set the tenant for the session, as if the connection were theirs: one in the engine, which
still names the tenant in its SQL, one by raw SQL that leaves it all to row-level security.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import psycopg

from holdfast.backends.postgres import PostgresDriver
from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.wire import Wire
from holdfast.core.errors import Conflict, NotFound
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.testing.postgres import SCHEMA, set_up
from holdfast.testing.servers import pooled, shared_url
from holdfast.testing.servers.databases import APPLICATION, PASSWORD, Database
from holdfast.testing.threads import at_once
from soak.campaign import Result, Saboteur, Tick, chances, ignore, timed

TENANTS: Final = 8
SERVER_CONNECTIONS: Final = 2
CLIENTS: Final = 8
OWN: Final = 5
"""Entries, messages and memories of each tenant."""
TICKS: Final = 100

Ask = Callable[[str, random.Random], tuple[set[str], int]]
"""Ask something as a tenant: whose rows came, and how many of one's own were missing."""


def run(queries: int, *, seed: int = 1, tick: Tick = ignore) -> Result:
    """So many queries; each saboteur gets a twentieth of that, at least 100."""
    result = Result(
        campaign="pg-pooled", trial="queries of 8 tenants by PgBouncer", trials=queries, seed=seed
    )
    few = max(100, queries // 20)
    with timed(result), _pooled() as url:
        with closing(_Through(url, PostgresDriver)) as sound:
            sound.fill()
            _campaign(sound.ask, queries, seed, result.note, result.counts, tick)
        broken = Saboteur(name="the engine sets the tenant for the session", trials=few)
        with closing(_Through(url, SetsTenantForTheSession)) as engine:
            _campaign(engine.ask, few, seed, broken.note, broken.counts, ignore)
        raw = Saboteur(name="raw SQL sets the tenant for the session", trials=few)
        with _raw(url) as ask:
            _campaign(ask, few, seed, raw.note, raw.counts, ignore)
    result.saboteurs.extend([broken, raw])
    return result


def _campaign(
    ask: Ask,
    queries: int,
    seed: int,
    note: Callable[[str], None],
    counts: dict[str, int],
    tick: Tick,
) -> None:
    """Let every client ask as one tenant after the other."""
    lock, done = threading.Lock(), 0

    def client(number: int) -> None:
        nonlocal done
        chance = chances(seed, "client", number)
        for n in range(number, queries, CLIENTS):
            tenant = f"tenant-{chance.randrange(TENANTS)}"
            whose, missing = ask(tenant, chance)
            with lock:
                done += 1
                if whose - {tenant}:
                    counts["foreign"] = counts.get("foreign", 0) + 1
                    note(f"query {n}: a row of another tenant")
                if missing:
                    counts["empty"] = counts.get("empty", 0) + 1
                    note(f"query {n}: a row of the tenant's own was not found")
                if done % TICKS == 0 or done == queries:
                    tick(done)

    counts.update(foreign=0, empty=0)
    at_once(CLIENTS, client)


class _Through:
    """The stores through the pooler, as the application's role."""

    def __init__(self, url: str, engine: type[PostgresDriver]) -> None:
        self._driver = Checked(engine(url))
        self._driver.setup(all_collections(), create=False)
        self._kinds = (self._get, self._list, self._messages, self._recall, self._write, self._fail)

    def close(self) -> None:
        self._driver.close()

    def fill(self) -> None:
        """Give every tenant the same names and contents that say whose they are."""
        for tenant in map("tenant-{}".format, range(TENANTS)):
            storage = self._storage(tenant)
            talk = storage.conversations.create(key="talk")
            for n in range(OWN):
                storage.kv.set(f"key-{n}", tenant)
                storage.conversations.append(talk.id, tenant)
                storage.memory.remember(f"{tenant} knows fact {n}")

    def ask(self, tenant: str, chance: random.Random) -> tuple[set[str], int]:
        """One call of a random kind; to be told that there is no such thing is a row missed."""
        try:
            return chance.choice(self._kinds)(self._storage(tenant), tenant)
        except NotFound:
            return set(), 1

    def _storage(self, tenant: str) -> Storage:
        return Storage(self._driver, Scope(tenant=tenant), Runtime(embedder=None))

    def _get(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        found = storage.kv.get("key-0")
        return ({found}, 0) if found else (set(), 1)

    def _list(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        values = [e.value for e in storage.kv.list(prefix="key-", limit=100)]
        return set(values), OWN - len(values)

    def _messages(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        talk = storage.conversations.get_by_key("talk")
        if talk is None:
            return set(), 1
        texts = [message.text for message in storage.conversations.messages.recent(talk.id, 0)]
        return set(texts), OWN - len(texts)

    def _recall(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        hits = [hit.memory.content.split()[0] for hit in storage.memory.recall("fact knows", k=OWN)]
        return set(hits), OWN - len(hits)

    def _write(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        storage.kv.set("written", tenant)
        return self._get(storage, tenant)

    def _fail(self, storage: Storage, tenant: str) -> tuple[set[str], int]:
        """An error inside a transaction leaves nothing of the tenant behind."""
        try:
            storage.kv.set("key-0", "?", expected_version=10**6)
        except Conflict:
            return self._list(storage, tenant)
        return {"?"}, 1


class SetsTenantForTheSession(PostgresDriver):
    """Saboteur: binds a connection to a tenant once, as if nobody else had it meanwhile."""

    def _asked(self, work: Callable[[Wire], Any], *, fresh: bool = False) -> Any:
        through = lambda wire: work(_SessionWire(wire))  # type: ignore[arg-type]  # noqa: E731
        return super()._asked(through, fresh=fresh)


class _SessionWire:
    """Sends what binds the tenant by itself, for the session, and only when the tenant changes."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def run(self, commands: Any, **options: Any) -> Any:
        first, *rest = commands
        if not first[0].startswith("SELECT set_config('holdfast.tenant'"):
            return self._wire.run(commands, **options)
        bind = (f"SELECT set_config('holdfast.tenant', {MARK}, false)", first[1])
        bound = self._wire.run([bind])
        return [*bound, *self._wire.run(rest, **options)]


@contextmanager
def _raw(url: str) -> Iterator[Ask]:
    """Saboteur: a client of its own for each thread and tenant, bound once."""
    with ExitStack() as stack:
        clients: dict[tuple[int, str], psycopg.Connection[Any]] = {}

        def ask(tenant: str, _: random.Random) -> tuple[set[str], int]:
            place = (threading.get_ident(), tenant)
            if place not in clients:
                connection = psycopg.connect(
                    url.partition("?")[0], autocommit=True, prepare_threshold=None
                )
                clients[place] = stack.enter_context(closing(connection))
                bind = "SELECT set_config('holdfast.tenant', %s, false)"
                connection.execute(bind, (tenant,))
            text = f"SELECT tenant FROM {SCHEMA}.entries WHERE key = 'key-0'"
            found = clients[place].execute(text).fetchall()
            return {row[0] for row in found}, not any(row[0] == tenant for row in found)

        yield ask


@contextmanager
def _pooled() -> Iterator[str]:
    """A store that was set up by its owner, and the application's URL to it by a pooler."""
    database = Database()
    try:
        with closing(PostgresDriver(database.url())) as owner:
            set_up(owner, all_collections())
        roles = {APPLICATION: PASSWORD}
        with pooled(shared_url(), size=SERVER_CONNECTIONS, users=roles) as pooler:
            yield pooler.url(database.name, user=APPLICATION) + "?prepare=off"
    finally:
        database.drop()
