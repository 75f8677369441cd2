"""What PostgreSQL and the network do to a handle that stays open: A13, A15 and F19 to F39."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import psycopg
import pytest

import holdfast
import holdfast.aio
from holdfast.core.change import Edit, Patch
from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    Busy,
    HoldfastError,
    ReadOnly,
    Timeout,
    Unavailable,
    UnknownOutcome,
)
from holdfast.layers.check import Checked
from holdfast.open import open_driver
from holdfast.storage import Storage
from holdfast.testing.processes import peers_on
from holdfast.testing.servers import Proxy, Server, proxied, running
from holdfast.testing.servers.pids import wait_for
from holdfast.testing.servers.proxy import Moment
from holdfast.testing.shapes import JOBS, PARENTS, SHAPES, job, put
from holdfast.testing.threads import at_once

WRITERS = 4
MESSAGES = 25
SECONDS = 60.0
"""A thing that has to come about is given so long, on a machine that does other work."""
IMPATIENT = {"statement_timeout_seconds": 0.5, "connect_timeout_seconds": 1}

T = TypeVar("T")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def store(server: Server) -> str:
    """The URL of an empty database."""
    name = f"store_{next(_numbers)}"
    server.psql(f"CREATE DATABASE {name}")
    return server.url(name)


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.port) as started:
        yield started


def through(proxy: Proxy, store: str) -> str:
    """The store by way of the proxy."""
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{store.rpartition('/')[2]}"


def opened(url: str, **options: Any) -> Storage:
    """A handle that asks the server however often it has failed, unless told otherwise."""
    return holdfast.open(url, embedder=None, options={"breaker_failures": 0, **options})


def answered(call: Callable[[], T]) -> T:
    """What a call gives in the end, where a busy machine may take longer than the caller has."""
    deadline = monotonic() + SECONDS
    while True:
        try:
            return call()
        except HoldfastError:
            if monotonic() > deadline:
                raise


def backends(server: Server, store: str, state: str = "%") -> int:
    """How many connections the store's handles have."""
    return int(
        server.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast' AND"
            f" datname = '{store.rpartition('/')[2]}' AND state LIKE '{state}'"
        )
    )


def end_backends(server: Server, store: str) -> int:
    """Terminate every connection of the store's handles, whatever it does."""
    return int(
        server.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE"
            f" application_name = 'holdfast' AND datname = '{store.rpartition('/')[2]}'"
        )
    )


def test_idle_connections_that_were_closed_are_not_noticed_by_a_caller(
    server: Server, store: str
) -> None:
    with opened(store) as storage:
        storage.kv.set("k", 1)
        uses: tuple[Callable[[], object], ...] = (
            lambda: storage.kv.get("k"),
            lambda: storage.kv.set("k", 1).value,
        )
        for use in uses:
            assert end_backends(server, store) >= 1
            wait_for(lambda: backends(server, store) == 0, seconds=SECONDS)
            assert use() == 1


def test_every_connection_ended_again_and_again_loses_and_doubles_nothing(
    server: Server, store: str
) -> None:
    with opened(store) as storage:
        talk = storage.conversations.create().id
        struck, told = threading.Event(), list[str]()

        def write(number: int) -> list[str]:
            names = [f"{number}.{n}" for n in range(MESSAGES)]
            for name in names:
                if name == names[-1]:  # however fast they write, some come after an end
                    assert struck.wait(SECONDS)
                _until_done(storage, talk, name)
                told.append(name)
            return names

        def is_over() -> bool:
            return all(future.done() for future in working)

        def got_on(before: int) -> bool:
            return is_over() or len(told) > before

        with ThreadPoolExecutor(WRITERS) as crew:
            working = [crew.submit(write, n) for n in range(WRITERS)]
            while not is_over():
                before = len(told)
                if end_backends(server, store):
                    struck.set()
                    # However slow they write, they get on between two ends.
                    wait_for(partial(got_on, before), seconds=SECONDS)
        names = [name for future in working for name in future.result()]
        texts = [message.text for message in storage.conversations.messages.recent(talk, 0)]
    assert struck.is_set()
    assert sorted(texts) == sorted(names)


def _until_done(storage: Storage, talk: str, name: str) -> None:
    """Append with an operation id, again for as long as the error says that it may be repeated."""
    while True:
        try:
            storage.conversations.append(talk, name, op_id=name)
            return
        except HoldfastError as error:
            if not error.retryable:
                raise


@pytest.mark.parametrize("moment", ["commit asked", "commit answered"])
def test_a_write_cut_at_its_commit_is_done_once_when_it_has_an_operation_id(
    store: str, proxy: Proxy, moment: Moment
) -> None:
    with opened(store) as direct, opened(through(proxy, store)) as storage:
        talk = direct.conversations.create().id
        proxy.cut_next_commit(moment)
        _until_done(storage, talk, "said")
        assert proxy.commits_cut == 1
        assert [m.text for m in direct.conversations.messages.recent(talk, 0)] == ["said"]


def test_without_an_operation_id_the_outcome_is_told_as_unknown(store: str, proxy: Proxy) -> None:
    with opened(store) as direct, opened(through(proxy, store)) as storage:
        storage.kv.set("k", 1)
        proxy.cut_next_commit("commit answered")
        with pytest.raises(UnknownOutcome):
            storage.kv.set("k", 2)
        assert direct.kv.get("k") == 2
        assert storage.kv.get("k") == 2


def test_a_link_that_swallows_everything_ends_in_a_timeout(store: str, proxy: Proxy) -> None:
    opened(store).close()
    with answered(lambda: opened(through(proxy, store), **IMPATIENT)) as storage:
        answered(lambda: storage.kv.set("k", 1))
        proxy.freeze()
        with pytest.raises(Timeout):
            storage.kv.get("k")
        assert not storage.health().ok
        proxy.thaw()
        assert answered(lambda: storage.kv.get("k")) == 1


def test_a15_a_killed_server_is_told_as_such_and_met_again_when_it_is_back() -> None:
    with running(durable=True) as server, opened(server.url()) as storage:
        storage.kv.set("k", 1)
        server.kill()
        for call in (lambda: storage.kv.get("k"), lambda: storage.kv.set("k", 2)):
            with pytest.raises(Unavailable):
                call()
        assert not storage.health().ok
        server.start()
        assert storage.kv.set("k", 3).value == 3
        assert storage.health(timeout_seconds=SECONDS).ok


def test_a14_a_server_that_is_gone_is_not_asked_for_a_while_and_then_met_again(
    store: str, proxy: Proxy
) -> None:
    options = {"breaker_failures": 5, "breaker_seconds": 86_400.0}
    with opened(through(proxy, store), **options) as storage:
        storage.kv.set("k", 1)
        proxy.refuse()
        proxy.cut()
        for _ in range(5):
            with pytest.raises(Unavailable):
                storage.kv.get("k")
        proxy.allow()
        made = proxy.links_made
        for call in (lambda: storage.kv.get("k"), lambda: storage.kv.set("k", 2)):
            with pytest.raises(Unavailable, match="not asked for a while"):
                call()
        assert proxy.links_made == made
        assert storage.health(timeout_seconds=SECONDS).facts["circuit"] == "open"
    with opened(through(proxy, store), breaker_failures=1, breaker_seconds=0.05) as storage:
        proxy.refuse()
        proxy.cut()
        with pytest.raises(Unavailable):
            storage.kv.get("k")
        proxy.allow()
        wait_for(lambda: storage.health().facts.get("circuit") == "half-open", seconds=60)
        assert storage.kv.get("k") == 1
        assert "circuit" not in storage.health(timeout_seconds=SECONDS).facts


def test_a_page_can_be_continued_on_a_server_that_was_restarted() -> None:
    with running(durable=True) as server, opened(server.url()) as storage:
        for n in range(4):
            storage.kv.set(f"k{n}", n)
        page = storage.kv.list(limit=2)
        server.kill()
        server.start()
        rest = storage.kv.list(limit=2, cursor=page.next_cursor)
        assert [entry.key for entry in (*page, *rest)] == ["k0", "k1", "k2", "k3"]


def test_a15_an_exhausted_pool_is_a_timeout_and_never_more_connections(
    server: Server, store: str
) -> None:
    driver = Checked(
        open_driver(store, SystemClock(), options={"pool_size": 2, "pool_timeout_seconds": 0.2})
    )
    with closing(driver):
        driver.setup(SHAPES)
        release, holding = threading.Event(), threading.Barrier(3)

        def hold(number: int) -> None:
            with driver.group():
                driver.apply("t", [put(PARENTS, {"id": str(number), "name": ""})])
                holding.wait()
                release.wait()

        with ThreadPoolExecutor(2) as crew:
            held = [crew.submit(hold, n) for n in range(2)]
            holding.wait()
            for _ in range(3):
                with pytest.raises(Timeout):
                    driver.get("t", PARENTS.name, ("0",))
            # Setting up had one of its own, which the server may just be ending.
            wait_for(lambda: backends(server, store) == 2, seconds=SECONDS)
            release.set()
            assert [future.result() for future in held] == [None, None]
        assert driver.get("t", PARENTS.name, ("0",)) is not None


def test_cancelled_calls_leave_no_connection_in_a_transaction(server: Server, store: str) -> None:
    chance = random.Random(26)

    async def cancel_many() -> int:
        cancelled = 0
        async with await holdfast.aio.open(store, embedder=None) as storage:
            await storage.kv.set("count", 0)
            for n in range(60):
                task = asyncio.ensure_future(storage.kv.set(f"k{n}", n))
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
                (outcome,) = await asyncio.gather(task, return_exceptions=True)
                cancelled += isinstance(outcome, asyncio.CancelledError)
            assert await storage.kv.get("count") == 0
            # What was cancelled while a worker was at it is ended by that one.
            idle = "idle in transaction%"
            wait_for(lambda: backends(server, store, idle) == 0, seconds=SECONDS)
        return cancelled

    assert asyncio.run(cancel_many()) > 0
    wait_for(lambda: backends(server, store) == 0, seconds=SECONDS)


def test_writers_in_opposite_order_all_count(store: str) -> None:
    driver = Checked(open_driver(store, SystemClock()))
    with closing(driver):
        driver.setup(SHAPES)
        driver.apply("t", [put(JOBS, job("a")), put(JOBS, job("b"))])
        up = Edit(increment={"priority": 1})

        def work(number: int) -> None:
            keys = ("a", "b") if number % 2 else ("b", "a")
            for _ in range(20):
                driver.apply("t", [Patch(JOBS.name, (key,), up) for key in keys])

        at_once(6, work)
        for key in "ab":
            record = driver.get("t", JOBS.name, (key,))
            assert record is not None
            assert record["priority"] == job("a")["priority"] + 120


@pytest.mark.parametrize(
    ("option", "error"),
    [("lock_timeout_seconds", Busy), ("statement_timeout_seconds", Timeout)],
)
def test_a_lock_that_another_program_holds_ends_the_wait_and_not_the_handle(
    store: str, option: str, error: type[HoldfastError]
) -> None:
    opened(store).close()
    # With the patience to hear of it: an answer that is late leaves the outcome unknown.
    options = {option: 0.2, "connect_timeout_seconds": SECONDS}
    with (
        answered(lambda: opened(store, **options)) as storage,
        psycopg.connect(store) as other,
    ):
        answered(lambda: storage.kv.set("k", 1))
        other.execute("UPDATE holdfast.entries SET revision = revision")
        with pytest.raises(error):
            storage.kv.set("k", 2)
        assert answered(lambda: storage.kv.get("k")) == 1
        other.rollback()
        assert answered(lambda: storage.kv.set("k", 3)).value == 3


def test_a_server_that_only_reads_says_so_and_is_read(server: Server, store: str) -> None:
    with opened(store) as storage:
        storage.kv.set("k", 1)
    server.psql(f"ALTER DATABASE {store.rpartition('/')[2]} SET default_transaction_read_only = on")
    with opened(store) as storage:
        with pytest.raises(ReadOnly):
            storage.kv.set("k", 2)
        assert storage.kv.get("k") == 1


def test_an_old_pgvector_means_no_vectors_and_nothing_worse() -> None:
    with running("old vectors") as server, opened(server.url()) as storage:
        told = storage.memory.remember("Ada takes her tea without sugar.")
        assert [hit.memory.id for hit in storage.memory.recall("tea")] == [told.id]
        assert storage.health(timeout_seconds=SECONDS).facts["pgvector"] == "0.6.2"


def test_what_stands_first_on_the_search_path_is_not_taken_for_the_servers_own(
    server: Server, store: str
) -> None:
    name = store.rpartition("/")[2]
    with opened(store) as storage:
        storage.kv.set("k", 1)
    server.psql(
        "CREATE SCHEMA hijack; CREATE TABLE hijack.entries (tenant text);"
        "CREATE FUNCTION hijack.set_config(text, text, boolean) RETURNS text LANGUAGE sql"
        " AS $$ SELECT 'stolen' $$;"
        "CREATE FUNCTION hijack.current_setting(text, boolean) RETURNS text LANGUAGE sql"
        " AS $$ SELECT 'default' $$;"
        f"ALTER DATABASE {name} SET search_path = hijack, pg_catalog",
        name,
    )
    with opened(store) as storage:
        assert storage.kv.set("k", 2).value == 2
        assert storage.scoped(tenant="other").kv.get("k") is None
        talk = storage.conversations.create()
        storage.conversations.append(talk.id, "said")
        storage.memory.remember("Ada takes her tea without sugar.")
        assert len(storage.memory.recall("tea")) == 1


def test_eight_processes_open_an_empty_database_at_once(server: Server, store: str) -> None:
    with peers_on(store, 8) as peers:
        for peer in peers:
            peer.start("setup")
        assert [peer.answer() for peer in peers] == ["ready"] * 8
    count = "SELECT count(*), count(DISTINCT collection) FROM holdfast.holdfast_migrations"
    assert server.psql(count, store.rpartition("/")[2]) == f"{len(SHAPES)}|{len(SHAPES)}"


def test_a_frozen_server_is_unhealthy_and_well_again_when_it_thaws() -> None:
    with running() as server:
        opened(server.url()).close()
        with answered(lambda: opened(server.url(), **IMPATIENT)) as storage:
            answered(lambda: storage.kv.set("k", 1))
            server.freeze()
            try:
                assert not storage.health().ok
                with pytest.raises(Timeout):
                    storage.kv.get("k")
            finally:
                server.thaw()
            assert answered(lambda: storage.kv.get("k")) == 1
            wait_for(lambda: storage.health().ok, seconds=SECONDS)
