"""What stands between a client and a server: the fault proxy and the pooler."""

import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from holdfast.testing.servers import Proxy, Server, pooled, proxied, running

STALL_SECONDS = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        started.psql("CREATE TABLE kept (id int)")
        yield started


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    server.psql("TRUNCATE kept")
    with proxied(server.port) as started:
        yield started


def through(proxy: Proxy) -> psycopg.Connection[Any]:
    return psycopg.connect(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")


def test_what_goes_through_the_proxy_arrives(proxy: Proxy) -> None:
    with through(proxy) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.commit()
        wide = connection.execute("SELECT repeat('x', 1000000)").fetchone()
    assert wide == ("x" * 1_000_000,)
    assert proxy.links_made == 1


@pytest.mark.parametrize(("moment", "stored"), [("commit asked", "0"), ("commit answered", "1")])
def test_a_commit_is_cut_before_or_after_the_server_did_it(
    server: Server, proxy: Proxy, moment: str, stored: str
) -> None:
    with through(proxy) as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        proxy.cut_next_commit("commit asked" if moment == "commit asked" else "commit answered")
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert connection.broken
    assert proxy.commits_cut == 1
    assert server.psql("SELECT count(*) FROM kept") == stored
    with through(proxy) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")


def test_a_batch_is_cut_before_the_server_sees_its_end(server: Server, proxy: Proxy) -> None:
    with through(proxy) as connection:
        connection.autocommit = True
        proxy.cut_next_commit("batch asked")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("INSERT INTO kept VALUES (%s)", (1,))
    assert proxy.commits_cut == 1
    assert server.psql("SELECT count(*) FROM kept") == "0"


def test_a_cut_link_is_broken_and_a_new_one_works(proxy: Proxy) -> None:
    with through(proxy) as connection:
        connection.execute("SELECT 1")
        assert proxy.cut() == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        through(proxy)
    proxy.allow()
    through(proxy).close()


def test_a_frozen_link_says_nothing_until_it_is_thawed(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.settimeout(STALL_SECONDS)
        proxy.freeze()
        client.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # asks whether the server speaks TLS
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.thaw()
        client.settimeout(None)
        assert client.recv(1) == b"N"


def test_clients_of_the_pooler_share_server_connections(server: Server) -> None:
    with pooled(server.url(), size=1) as pooler:
        clients = [psycopg.connect(pooler.url("postgres"), autocommit=True) for _ in range(5)]
        backends = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}
        for client in clients:
            client.close()
    assert len(backends) == 1


def test_a_session_setting_reaches_the_next_client_of_the_pooler(server: Server) -> None:
    """Why nothing of ours may be set for a session."""
    with pooled(server.url(), size=1) as pooler:
        with psycopg.connect(pooler.url("postgres"), autocommit=True) as client:
            client.execute("SET search_path = left_behind")
        with psycopg.connect(pooler.url("postgres"), autocommit=True) as client:
            assert client.execute("SHOW search_path").fetchone() == ("left_behind",)
