"""The one server that all workers and test modules of a run share."""

from __future__ import annotations

import os
from functools import cache
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from holdfast.testing.servers.builds import find
from holdfast.testing.servers.postgres import FAST, Server
from holdfast.testing.servers.run import folder, locked

GIVEN: Final = "HOLDFAST_TEST_POSTGRES"
"""The URL of a server to use instead, by a role that may create databases and roles."""

UNWATCHED: Final = {"autovacuum": "off"}
"""Statistics of a table that was just emptied would plan the next test's ten thousand rows."""


def shared_url(database: str = "postgres") -> str:
    """A database of the run's server, as a role that may do everything there."""
    parts = urlsplit(os.environ.get(GIVEN) or _started())
    return urlunsplit(parts._replace(path=f"/{database}"))


@cache
def _started() -> str:
    """The first process of the run that asks starts it; the janitor stops it."""
    note, build = folder() / "shared", find()  # before the lock, which copying a build also takes
    with locked(folder()):
        if not note.exists():
            server = Server.create(build, {**FAST, **UNWATCHED})
            server.start()
            server.abandon()
            note.write_text(server.url())
        return note.read_text()
