"""Servers that prove who they are, several hosts in one URL, and a standby that takes over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import holdfast
from holdfast.core.errors import HoldfastError, ReadOnly, Unavailable
from holdfast.storage import Storage
from holdfast.testing.servers import Server, find, running, secure, started
from holdfast.testing.servers.pids import wait_for
from holdfast.testing.servers.postgres import free_port

WRITERS = 3
BEFORE, AFTER = 40, 40
"""Messages acknowledged before the primary is killed, and after the standby took over."""
SECONDS = 60.0


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Server, Path]]:
    """A server that takes TLS alone, as localhost, and its authority's certificate."""
    server = Server.create(find("tls"), {})
    authority = secure(server, "localhost")
    with started(server):
        yield server, authority


def opened(url: str) -> Storage:
    return holdfast.open(url, embedder=None)


def test_a25_verify_full_takes_the_right_host_name_and_no_other(
    guarded: tuple[Server, Path],
) -> None:
    server, authority = guarded
    options = f"sslmode=verify-full&sslrootcert={authority}"
    with opened(f"postgresql://postgres@localhost:{server.port}/postgres?{options}") as storage:
        assert storage.kv.set("k", 1).value == 1
    with pytest.raises(Unavailable, match="does not match host name"):
        opened(f"postgresql://postgres@127.0.0.1:{server.port}/postgres?{options}")


def test_a25_an_unknown_authority_and_a_plain_link_are_refused(
    guarded: tuple[Server, Path], tmp_path: Path
) -> None:
    server, authority = guarded
    stranger = tmp_path / "stranger.crt"
    with running("tls") as other:
        other.stop()
        stranger.write_bytes(secure(other, "localhost").read_bytes())
    address = f"postgresql://postgres@localhost:{server.port}/postgres"
    with pytest.raises(Unavailable, match="certificate verify failed"):
        opened(f"{address}?sslmode=verify-full&sslrootcert={stranger}")
    with pytest.raises(HoldfastError):
        opened(f"{address}?sslmode=disable")
    assert authority.exists()


def test_a25_of_several_hosts_the_first_that_answers_is_used() -> None:
    with running() as server:
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{server.port}"
        with opened(f"postgresql://postgres@{hosts}/postgres") as storage:
            assert storage.kv.set("k", 1).value == 1
        with opened(server.url()) as storage:
            assert storage.kv.get("k") == 1


def test_a_standby_is_read_and_not_written() -> None:
    with running(durable=True) as primary, opened(primary.url()) as storage:
        storage.kv.set("k", 1)
        with started(primary.standby()) as standby, opened_without_setup(standby) as reader:
            wait_for(lambda: reader.kv.get("k") == 1, seconds=SECONDS)
            with pytest.raises(ReadOnly):
                reader.kv.set("k", 2)
            assert reader.health(timeout_seconds=SECONDS).facts["replica"]


def opened_without_setup(server: Server) -> Storage:
    return holdfast.open(server.url(), embedder=None, setup=False)


def test_m9_a_standby_that_is_promoted_under_load_is_found_by_the_same_handle() -> None:
    """The standby is synchronous, so that what was acknowledged is on both machines."""
    with running(durable=True) as primary, started(primary.standby()) as standby:
        primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.psql("SELECT pg_reload_conf()")
        in_step = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_for(lambda: primary.psql(in_step) == "1", seconds=SECONDS)
        # Alone after the promotion, it must not wait for a standby of its own.
        standby.psql("ALTER SYSTEM SET synchronous_standby_names = ''")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        # A breaker would wait a minute, which is all that the test has.
        url = (
            f"postgresql://postgres@{hosts}/postgres"
            "?target_session_attrs=read-write&breaker_failures=0"
        )
        with opened(url) as storage:
            talk = storage.conversations.create().id
            told: list[str] = []
            stop = threading.Event()
            with ThreadPoolExecutor(WRITERS) as crew:
                working = [
                    crew.submit(_write, storage, talk, n, told, stop) for n in range(WRITERS)
                ]
                try:
                    wait_for(lambda: len(told) >= BEFORE, seconds=SECONDS)
                    primary.kill()
                    standby.promote()
                    before = len(told)
                    wait_for(lambda: len(told) >= before + AFTER, seconds=SECONDS)
                finally:
                    stop.set()
                assert [future.result() for future in working] == [None] * WRITERS
            texts = [message.text for message in storage.conversations.messages.recent(talk, 0)]
        assert sorted(texts) == sorted(told)


def _write(
    storage: Storage, talk: str, number: int, told: list[str], stop: threading.Event
) -> None:
    """Append one message after the other, each until it is acknowledged."""
    count = 0
    while not stop.is_set():
        count += 1
        name = f"{number}.{count}"
        while not _appended(storage, talk, name):
            pass
        told.append(name)


def _appended(storage: Storage, talk: str, name: str) -> bool:
    try:
        storage.conversations.append(talk, name, op_id=name)
    except HoldfastError as error:
        # For a moment there is no server that takes writes, which is no reason to give up.
        if not error.retryable and not isinstance(error, ReadOnly):
            raise
        return False
    return True
