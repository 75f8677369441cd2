"""Reads from a real streaming standby: never before it shows what the same handle wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

import holdfast
from holdfast.backends.postgres import PostgresDriver
from holdfast.backends.postgres.options import parse
from holdfast.backends.postgres.replicas import Replicas
from holdfast.core.clock import SystemClock, Uuid7Ids
from holdfast.core.errors import Conflict, Invalid, Unavailable
from holdfast.core.runtime import Runtime
from holdfast.core.scope import Scope
from holdfast.layers.check import Checked
from holdfast.storage import Storage, all_collections
from holdfast.testing.servers import Server, running, started
from holdfast.testing.servers.pids import wait_for

SECONDS = 60.0


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with running() as server:
        with holdfast.open(server.url(), embedder=None) as storage:
            storage.kv.set("k", 0)
        yield server


@pytest.fixture(scope="module")
def standby(primary: Server) -> Iterator[Server]:
    with started(primary.standby()) as server:
        yield server


@contextmanager
def opened(
    primary: Server,
    standby: Server,
    *,
    engine: type[PostgresDriver] = PostgresDriver,
    **options: Any,
) -> Iterator[Storage]:
    """A handle that reads from the standby."""
    named = {"replica": f"127.0.0.1:{standby.port}", **options}
    driver = Checked(engine(primary.url(), SystemClock(), options=named))
    driver.setup(all_collections(), create=False)
    with Storage(driver, Scope(), Runtime(clock=SystemClock(), ids=Uuid7Ids())) as storage:
        yield storage


@contextmanager
def paused(primary: Server, standby: Server) -> Iterator[None]:
    """The standby shows what is there now, and nothing later, until the block ends."""
    caught_up(primary, standby)
    standby.psql("SELECT pg_wal_replay_pause()")
    state = "SELECT pg_get_wal_replay_pause_state()"
    wait_for(lambda: standby.psql(state) == "paused", seconds=SECONDS)
    try:
        yield
    finally:
        standby.psql("SELECT pg_wal_replay_resume()")


def caught_up(primary: Server, standby: Server) -> None:
    written = primary.psql("SELECT pg_current_wal_insert_lsn()")
    text = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
    wait_for(lambda: standby.psql(text) == "t", seconds=SECONDS)


def reads_of(server: Server) -> int:
    """How many transactions of ours a server has ended in its database."""
    return int(
        server.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holdfast'"
            " AND query_start IS NOT NULL"
        )
    )


def replica_reads(storage: Storage) -> dict[str, Any]:
    """What health says of the standby."""
    told: dict[str, Any] = storage.health(timeout_seconds=SECONDS).facts["replica_reads"]
    return told


def test_a32_reads_are_answered_by_the_standby(primary: Server, standby: Server) -> None:
    """What another handle wrote while replay stands still is not seen: so it was the standby."""
    with opened(primary, standby) as storage, opened(primary, standby) as other:
        other.kv.set("k", "before")
        with paused(primary, standby):
            other.kv.set("k", "after")
            assert storage.kv.get("k") == "before"
            assert [entry.value for entry in storage.kv.list().items if entry.key == "k"] == [
                "before"
            ]
            assert reads_of(standby) >= 1
        caught_up(primary, standby)
        assert storage.kv.get("k") == "after"


def sees_its_own_writes(
    primary: Server, standby: Server, engine: type[PostgresDriver] = PostgresDriver
) -> bool:
    """Write and read on one handle while the standby stands still: each kind of read."""
    with opened(primary, standby, engine=engine) as storage, paused(primary, standby):
        seen = []
        for number in range(3):
            storage.kv.set("own", number)
            seen.append(storage.kv.get("own") == number)
            seen.append(storage.kv.get("own") == number)  # also when the position is known by now
        task = storage.tasks.post("A task of its own.")
        seen.append(task.id in [held.id for held in storage.tasks.list().items])
        kept = storage.memory.remember("Ada takes her tea without sugar.")
        found = storage.memory.recall("tea", mode="keyword")
        seen.append(kept.id in [each.memory.id for each in found])
        storage.memory.forget(kept.id)
        return all(seen)


def test_a32_a_handle_sees_what_it_wrote(primary: Server, standby: Server) -> None:
    assert sees_its_own_writes(primary, standby)


class ReadsWhatIsThere(PostgresDriver):
    """Broken: asks a standby without looking how far it has come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self._replicas is not None
        self._replicas._shows = lambda wire, needed: True  # type: ignore[method-assign]


class ForgetsThatItWrote(PostgresDriver):
    """Broken: a write leaves no note for the reads that follow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self._replicas is not None
        self._replicas.note_write = lambda *, failed: None  # type: ignore[method-assign]


@pytest.mark.parametrize("broken", [ReadsWhatIsThere, ForgetsThatItWrote])
def test_a32_saboteur_reads_that_ignore_the_position_are_caught(
    primary: Server, standby: Server, broken: type[PostgresDriver]
) -> None:
    assert not sees_its_own_writes(primary, standby, broken)


def test_a32_asked_for_always_every_read_goes_to_the_primary(
    primary: Server, standby: Server
) -> None:
    with (
        opened(primary, standby, read_your_writes="always") as storage,
        opened(primary, standby) as other,
        paused(primary, standby),
    ):
        other.kv.set("k", "of another handle")
        assert storage.kv.get("k") == "of another handle"


def test_a32_switched_off_a_handle_may_read_the_past(primary: Server, standby: Server) -> None:
    with opened(primary, standby, read_your_writes="never") as storage:
        storage.kv.set("k", "before")
        with paused(primary, standby):
            storage.kv.set("k", "after")
            assert storage.kv.get("k") == "before"


def test_a32_what_a_unit_reads_is_never_of_the_past(primary: Server, standby: Server) -> None:
    with opened(primary, standby) as storage, opened(primary, standby) as other:
        other.kv.set("k", "before")
        with paused(primary, standby):
            other.kv.set("k", "after")
            assert storage.kv.get("k") == "before"
            with storage.unit() as unit:
                assert unit.kv.get("k") == "after"
                assert "after" in [entry.value for entry in unit.kv.list().items]
            assert storage.kv.get("k") == "before"


def test_a32_who_lost_to_another_writer_sees_what_that_one_wrote(
    primary: Server, standby: Server
) -> None:
    """Else a loop of reading and writing would read the same past until it gives up."""
    with (
        opened(primary, standby, read_your_writes="never") as storage,
        opened(primary, standby) as other,
    ):
        other.kv.set("counter", 1)
        with paused(primary, standby):
            other.kv.set("counter", 2)
            held = storage.kv.entry("counter")
            assert held is not None
            with pytest.raises(Conflict):
                storage.kv.set("counter", 9, expected_version=held.version)
            assert storage.kv.get("counter") == 2


def test_a32_a_lost_standby_is_replaced_by_the_primary(primary: Server) -> None:
    with started(primary.standby()) as doomed, opened(primary, doomed) as storage:
        caught_up(primary, doomed)
        storage.kv.set("k", "kept")
        caught_up(primary, doomed)
        assert storage.kv.get("k") == "kept"
        doomed.kill()
        assert [storage.kv.get("k") for _ in range(5)] == ["kept"] * 5
        health = storage.health(timeout_seconds=SECONDS)
        assert (health.ok, health.facts["replica_reads"]["ok"]) == (True, False)
        assert health.facts["replica_reads"]["reason"]
        doomed.start()
        wait_for(lambda: bool(replica_reads(storage)["ok"]), seconds=SECONDS)
    slot = f"standby_{doomed.port}"
    wait_for(
        lambda: (
            primary.psql(f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{slot}'")
            == "t"
        ),
        seconds=SECONDS,
    )
    primary.psql(f"SELECT pg_drop_replication_slot('{slot}')")


def test_a32_a_standby_that_never_was_costs_no_read(primary: Server) -> None:
    with running() as stranger, opened(primary, stranger) as storage:  # which is no standby
        assert storage.kv.set("k", 1).value == 1
        assert storage.kv.get("k") == 1
        assert not replica_reads(storage)["ok"]
    with opened(primary, stranger) as storage:  # and is gone by now
        assert storage.kv.get("k") == 1


def test_a32_a_standby_that_lags_is_seen_in_health(primary: Server, standby: Server) -> None:
    with opened(primary, standby) as storage:
        caught_up(primary, standby)
        with paused(primary, standby):
            storage.kv.set("k", "late")
            told = replica_reads(storage)
            assert (told["ok"], told["paused"]) == (True, True)
            assert told["behind_bytes"] > 0
        caught_up(primary, standby)
        told = replica_reads(storage)
        assert (told["ok"], told["paused"]) == (True, False)


def test_a32_reads_go_on_while_the_primary_is_gone() -> None:
    with running(durable=True) as primary:
        with holdfast.open(primary.url(), embedder=None) as storage:
            storage.kv.set("k", "kept")
        with started(primary.standby()) as standby, opened(primary, standby) as storage:
            caught_up(primary, standby)
            assert storage.kv.get("k") == "kept"
            primary.kill()
            assert storage.kv.get("k") == "kept"
            with pytest.raises(Unavailable):
                storage.kv.set("k", "lost")
            with pytest.raises(Unavailable):  # whether that came through, only the primary knows
                storage.kv.get("k")


@pytest.mark.parametrize(("given", "hosts", "ports"), [
    ("one", "one", "5432"),
    ("one:5433,two:5434", "one,two", "5433,5434"),
    ("10.0.0.1:1,[::1]:2", "10.0.0.1,::1", "1,2"),
    ("", "", ""),
])  # fmt: skip
def test_a32_standbys_are_named_by_host_and_port(given: str, hosts: str, ports: str) -> None:
    target = parse(f"postgresql://u@h/db?replica={given}" if given else "postgresql://u@h/db")
    assert target.options.replica_addresses() == (hosts, ports)
    assert "replica" not in target.conninfo
    if given:
        with closing(Replicas(target, None)) as replicas:  # type: ignore[arg-type]
            assert f"host={hosts}" in replicas._pool.target.conninfo


@pytest.mark.parametrize(
    "given", ["replica=a:b", "replica=,", "replica=a%20b", "read_your_writes=x"]
)
def test_a32_what_names_no_standby_is_refused(given: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse(f"postgresql://u:secret@h/db?{given}")
    assert refused.value.field == given.partition("=")[0]
    assert "secret" not in str(refused.value)
