"""What a file says of itself, looked at before anything could be written to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from holdfast.backends.sqlite import guard, log
from holdfast.backends.sqlite.errors import mapped
from holdfast.core.errors import Corrupt, SchemaNewer, Unavailable

APPLICATION_ID: Final = 0x484F4C44
"""'HOLD' in the file's header, so that tools can tell what the file is."""
FORMAT: Final = 2
"""Version of the engine's own tables, kept in the header's user_version."""
BUSY_SECONDS: Final = 10.0
"""How long a call waits for another process's write."""
READ_ONLY: Final = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_LOGGED: Final = b"\x02\x02"
"""The versions of the format in the header of a file whose changes go to a log."""
_MAGIC: Final = b"SQLite format 3\x00"


def check_header(
    path: str, vfs: str | None = None, *, immutable: bool = False, go_on: bool = False
) -> None:
    """Refuse a newer or foreign file, and one whose log is damaged, before anything is written.

    To ``go_on`` is to take what precedes the damage of a log.
    """
    if is_empty(path):
        return
    if not guard.is_held(path):  # closing a descriptor of a held file would drop our locks on it
        if _was_left_unfinished(path):
            _roll_back(path, vfs)
        if is_empty(path):
            return
        _check_magic(path)
    try:
        with looking(path, vfs, immutable=immutable) as connection:
            # One state of the file: another process may be making it at this moment.
            connection.execute("BEGIN")
            version = connection.pragma("user_version")
            application = connection.pragma("application_id")
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
    except Exception as error:
        raise mapped(error) from error
    if application == APPLICATION_ID and version > FORMAT:
        raise SchemaNewer(
            f"The file has format {version}; this version of holdfast knows {FORMAT}.",
            hint="Upgrade holdfast. Nothing was written.",
            format=version,
        )
    if application == APPLICATION_ID and version < 1:  # both are written at once
        raise Corrupt(
            f"The file's header is damaged: there is no format {version}.",
            hint="Restore a backup: `holdfast restore`. Nothing was written.",
        )
    if application != APPLICATION_ID and (tables or application or version):
        raise Corrupt(
            "The file is a SQLite database of another program.",
            hint="Choose another path; nothing was written.",
        )
    if not guard.is_held(path):
        log.check(path, go_on=go_on)


def unchanging(path: str) -> str:
    """The name by which SQLite reads a file without a log and without locks."""
    return f"{Path(path).as_uri()}?immutable=1"


def check_whole(path: str) -> None:
    """Unavailable where a part of what was committed is not in the file itself."""
    if any(_size(f"{path}{end}") for end in ("-wal", "-journal")):
        raise Unavailable(
            "The file was not closed: a log lies beside it, which cannot be read as immutable.",
            hint="Open and close it once where it can be written.",
        )
    if not os.path.exists(path):
        raise Unavailable("There is no file to read as immutable.", hint="Check the path.")


@contextmanager
def looking(
    path: str, vfs: str | None = None, *, immutable: bool = False
) -> Iterator[apsw.Connection]:
    """A connection that reads a file and changes neither it nor its log.

    One that may not write leaves files of a log where there was none. So it may, where the file has
    its log beside it, and does not.
    """
    writes = not immutable and _is_logged(path)
    name = unchanging(path) if immutable else path
    flags = apsw.SQLITE_OPEN_READWRITE if writes else READ_ONLY
    connection = apsw.Connection(name, flags=flags, vfs=vfs)
    try:
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        connection.execute("PRAGMA query_only=ON")
        yield connection
    finally:
        leave_log(connection, path)
        connection.close()


def leave_log(connection: apsw.Connection, path: str) -> None:
    """Let the end of a connection move no log into the file; an empty one is taken away."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(_size(f"{path}-wal") > 0))


def _is_logged(path: str) -> bool:
    """Whether a writer may look: SQLite has nothing to roll back, and keeps a log of this file."""
    if guard.is_held(path) or os.path.exists(f"{path}-journal"):
        return False
    with open(path, "rb") as file:
        head = file.read(20)
    return head.startswith(_MAGIC) and head[18:] == _LOGGED


def is_empty(path: str) -> bool:
    """Whether there is no file, or one without a byte: SQLite makes a new database of either.

    Corrupt where a log lies beside it, which SQLite would delete: a file has a page before it has a
    log, so it was cut.
    """
    left = _size(f"{path}-wal")  # the log first: another process may be making the file
    if _size(path):
        return False
    if left > log.HEAD_BYTES:
        raise Corrupt(
            "The file is empty, and the log beside it is not: the file was cut off or replaced.",
            hint=f"Keep a copy of {os.path.basename(path)}-wal, which may hold the last writes, and"
            " restore a backup: `holdfast restore`. Nothing was written.",
        )
    return True


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _was_left_unfinished(path: str) -> bool:
    """Whether a crash left the journal of making this file, or of making it a log of its own.

    SQLite cannot read past such a journal without rolling it back, which takes a writer. Where
    the file was empty before, or is ours, that is ours to do.
    """
    try:
        with open(f"{path}-journal", "rb") as journal:
            head = journal.read(20)
    except OSError:
        return False
    if not head.startswith(_JOURNAL_MAGIC):
        return False
    if head[16:20] == bytes(4):  # pages before the transaction
        return True
    with open(path, "rb") as file:
        head = file.read(72)
    version, application = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    return application == APPLICATION_ID and version <= FORMAT


def _roll_back(path: str, vfs: str | None) -> None:
    """Let SQLite undo what the journal says was not finished; unless its writer is still at it."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    except Exception as error:
        raise mapped(error) from error
    try:
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except Exception as error:
        raise mapped(error) from error
    finally:
        connection.close()


def _check_magic(path: str) -> None:
    """SQLite takes a file of a few bytes for an empty database; it is somebody's file."""
    with open(path, "rb") as file:
        if not file.read(len(_MAGIC)).startswith(_MAGIC):
            raise Corrupt(
                "The file is not a SQLite database, or its first page is damaged.",
                hint="If it was a store, restore a backup: `holdfast restore`. If not, choose"
                " another path. Nothing was written.",
            )
