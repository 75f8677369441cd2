"""The servers that tests run on: real, apart from one another, and gone when a run has ended."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from holdfast.testing.servers import (
    GIVEN,
    MissingServer,
    Server,
    builds,
    find,
    running,
    secure,
    shared_url,
    started,
)
from holdfast.testing.servers.janitor import command
from holdfast.testing.servers.pids import wait_for

SECONDS = 60
"""A thing that has to come about is given so long, on a machine that does other work."""
USER = """
import sys
from holdfast.testing.servers import (
    GIVEN, MissingServer, builds, find, running, secure, shared_url, started,
)
from holdfast.testing.servers.run import folder
with running() as own:
    print(folder(), shared_url(), own.psql("SHOW data_directory"), flush=True)
    sys.stdin.readline()
    sys.exit({code!r})
"""


@pytest.mark.parametrize(
    ("build", "version", "vectors"),
    [("modern", "18.6", "0.8.6"), ("old vectors", "16.2", "0.6.2"), ("extended", "18.6", "0.8.1")],
)
def test_each_build_is_the_server_that_it_says(build: str, version: str, vectors: str) -> None:
    with running(build) as server, psycopg.connect(server.url()) as connection:
        connection.execute("CREATE EXTENSION vector")
        found = connection.execute(
            "SELECT current_setting('server_version'), extversion FROM pg_extension "
            "WHERE extname = 'vector'"
        ).fetchone()
    assert found == (version, vectors)


def test_a_killed_server_starts_again_with_what_was_committed() -> None:
    with running(durable=True) as server:
        server.psql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        with psycopg.connect(server.url()) as connection:
            server.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        server.start()
        assert server.psql("SELECT count(*) FROM kept") == "1"


def test_a_frozen_server_answers_nobody_until_it_is_thawed() -> None:
    with running() as server:
        server.freeze()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(server.url(), connect_timeout=2)
        server.thaw()
        assert server.psql("SELECT 1") == "1"


@pytest.mark.parametrize("end", ["exit", "interrupt", "kill"])
def test_nothing_is_left_of_a_run_however_it_ends(end: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTEST_XDIST_TESTRUNUID", None)
    environment.pop(GIVEN, None)
    run = subprocess.Popen(
        [sys.executable, "-c", USER.format(code=0)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with run:
        assert run.stdout is not None
        folder = Path(run.stdout.readline().split()[0])
        servers = [int(path.read_text().split()[0]) for path in folder.rglob("postmaster.pid")]
        assert len(servers) == 2
        how: dict[str, Callable[[], object]] = {
            "exit": lambda: run.stdin and run.stdin.close(),
            "interrupt": lambda: run.send_signal(signal.SIGINT),
            "kill": run.kill,
        }
        how[end]()
    wait_for(lambda: not folder.exists(), seconds=SECONDS)
    assert not any(command(pid) for pid in servers)


def test_a_given_server_is_used_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GIVEN, "postgresql://me:secret@db.example:6000/mine?sslmode=require")
    assert shared_url("other") == "postgresql://me:secret@db.example:6000/other?sslmode=require"


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "SEPARATE", Path("/nonexistent"))
    find.cache_clear()
    with pytest.raises(MissingServer, match=r"make test.*pgserver==0\.1\.4"):
        find("old vectors")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_binaries_that_the_servers_user_cannot_reach_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(builds.SEPARATE, tmp_path / "hidden", copy_function=os.link)
    (tmp_path / "hidden").chmod(0o700)
    monkeypatch.setattr(builds, "SEPARATE", tmp_path / "hidden")
    find.cache_clear()
    with running("old vectors") as server:
        assert "copy-pgserver" in server.build.program("postgres")
        assert server.psql("SELECT 1") == "1"
    find.cache_clear()


def test_a_promoted_standby_has_what_the_primary_had_and_takes_writes() -> None:
    with running(durable=True) as primary:
        primary.psql("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
        with started(primary.standby()) as standby:
            assert standby.psql("SELECT pg_is_in_recovery()") == "t"
            primary.psql("INSERT INTO kept VALUES (2)")
            wait_for(lambda: standby.psql("SELECT count(*) FROM kept") == "2", seconds=SECONDS)
            primary.kill()
            standby.promote()
            standby.psql("INSERT INTO kept VALUES (3)")
            assert standby.psql("SELECT count(*) FROM kept") == "3"


def test_a_server_with_tls_shows_a_certificate_for_its_name_only() -> None:
    server = Server.create(find("tls"), {})
    authority = secure(server, "localhost")
    with started(server):
        options = f"user=postgres port={server.port} sslmode=verify-full sslrootcert={authority}"
        with psycopg.connect(f"host=localhost {options}") as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(psycopg.OperationalError, match="does not match host name"):
            psycopg.connect(f"host=127.0.0.1 {options}")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url() + "?sslmode=disable")
