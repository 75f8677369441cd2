"""PgBouncer before a server. In transaction mode connections change hands at every commit."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from holdfast.testing.servers.builds import MissingServer
from holdfast.testing.servers.pids import kill, wait_for
from holdfast.testing.servers.postgres import free_port
from holdfast.testing.servers.run import AS_NOBODY, new_folder

Mode = Literal["transaction", "session"]

START_SECONDS: Final = 120.0
CONFIGURATION: Final = """
[databases]
* = host={host} port={target}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {place}/users
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 1000
server_idle_timeout = 10
server_tls_sslmode = prefer
query_wait_timeout = 30
ignore_startup_parameters = extra_float_digits
pidfile = {place}/pgbouncer.pid
logfile = {place}/log
"""


class Pooler:
    """A PgBouncer of one's own before the server at ``url``.

    ``size`` is how many server connections the clients of one role and database share: in session
    mode, how many of them are served at once. ``users`` are the roles that may connect beside the
    one in the URL, and their passwords.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int,
        users: Mapping[str, str] | None = None,
        mode: Mode = "transaction",
    ) -> None:
        self._parts = urlsplit(url)
        self.port = free_port()
        place = new_folder("pgbouncer")
        configuration = CONFIGURATION.format(
            host=self._parts.hostname,
            target=self._parts.port or 5432,
            port=self.port,
            size=size,
            place=place,
            mode=mode,
        )
        (place / "pgbouncer.ini").write_text(configuration)
        own = {unquote(self._parts.username or ""): unquote(self._parts.password or "")}
        listed = (f'"{user}" "{word}"\n' for user, word in {**own, **(users or {})}.items())
        (place / "users").write_text("".join(listed))
        self._process = subprocess.Popen(
            [_program(), "--quiet", str(place / "pgbouncer.ini")],
            cwd="/",
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **AS_NOBODY,
        )
        wait_for(self._started, seconds=START_SECONDS)

    def url(self, database: str, *, user: str | None = None) -> str:
        """A database of the server through the pooler."""
        name = user or self._parts.username or ""
        address = f"{name}@127.0.0.1:{self.port}"
        return urlunsplit(("postgresql", address, f"/{database}", "", ""))

    def abandon(self) -> None:
        """Leave it running when this process ends; the run's janitor stops it."""
        self._process.returncode = 0

    def kill(self) -> None:
        """End it without warning."""
        self._process.kill()
        self._process.wait()
        kill([self._process.pid])

    def _started(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("PgBouncer did not start.")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def pooled(url: str, *, size: int, users: Mapping[str, str] | None = None) -> Iterator[Pooler]:
    """A pooler for the block."""
    pooler = Pooler(url, size=size, users=users)
    try:
        yield pooler
    finally:
        pooler.kill()


def _program() -> str:
    found = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise MissingServer(
            "The tests through a transaction pooler need PgBouncer. `make test` installs it where "
            "it is run by root on Debian or Ubuntu; elsewhere install the package pgbouncer."
        )
    return found
