"""The one place where PostgreSQL's errors become the contract's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import psycopg

from holdfast.backends.postgres.wire import ConnectionLost, StatementFailed
from holdfast.core.errors import (
    UNANSWERED,
    Busy,
    Corrupt,
    Forbidden,
    HoldfastError,
    Invalid,
    ReadOnly,
    StorageFull,
    Timeout,
    Unavailable,
    Unsupported,
)

NOT_FOUND: Final = "ZF404"
CONFLICT: Final = "ZF409"
TOO_LARGE: Final = "ZF413"
"""What our own functions raise inside the database."""

REPEATABLE: Final = frozenset({"40001", "40P01"})
"""Serialization failures and deadlocks: rolled back, and likely to succeed when repeated."""

ENGINE_ERRORS: Final = (StatementFailed, ConnectionLost, psycopg.Error)

_NO_ANSWER: Final = {UNANSWERED: True}
_NOT_SET_UP: Final = frozenset({"42P01", "3F000", "42883", "42703"})


def mapped(error: Exception) -> HoldfastError:
    """The contract's error for an engine error; raise it ``from`` the original."""
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, ConnectionLost):
        return lost(error)
    if isinstance(error, StatementFailed):
        return _refused(error.sqlstate)
    if isinstance(error, psycopg.Error):
        return _refused(error.sqlstate) if error.sqlstate else unreachable(error)
    return Unavailable(f"PostgreSQL failed: {type(error).__name__}.")


def lost(error: ConnectionLost) -> HoldfastError:
    """What is said of a connection that ended under a read, or before a write was done."""
    if error.late:
        return Timeout("The server did not answer in time.", hint="Try again.", **_NO_ANSWER)
    return Unavailable("The connection to the server was lost.", hint="Try again.", **_NO_ANSWER)


def unreachable(error: psycopg.Error) -> HoldfastError:
    """Why no connection could be opened; libpq names hosts and users, and never a password."""
    said = " ".join(str(error).split())
    reason = re.sub(r"password\s*=\s*\S+", "password=...", said)[:300]
    if isinstance(error, psycopg.errors.ConnectionTimeout) or "timeout expired" in said:
        hint = "Check host and port."
        return Timeout("The server did not answer in time.", hint=hint, **_NO_ANSWER)
    state = error.sqlstate or ""
    if state in ("53300", "57P03") or "too many clients" in said or "starting up" in said:
        said = "The server accepts no connection now."
        return Unavailable(said, hint="Try again.", **_NO_ANSWER)
    if "authentication failed" in said or "no pg_hba.conf entry" in said:
        return Forbidden("The server refused the credentials.", hint=reason)
    return Unavailable("The server cannot be reached.", hint=reason, **_NO_ANSWER)


def _refused(sqlstate: str | None) -> HoldfastError:
    state = sqlstate or ""
    found = _STATES.get(state) or _CLASSES.get(state[:2])
    if found is not None:
        return found()
    if state in _NOT_SET_UP:
        return Unavailable(
            "The store has not been set up for this version of holdfast.",
            hint="Open it once with setup=True.",
        )
    return Unavailable(f"PostgreSQL failed with SQLSTATE {state}.")


def _forbidden() -> HoldfastError:
    return Forbidden(
        "The role of this connection may not do this.",
        hint="Set the store up as its owner, and grant the role what it needs.",
    )


def _unprepared() -> HoldfastError:
    return Unavailable(
        "Prepared statements do not survive here: a pooler hands out a connection for each"
        " transaction.",
        hint="Add prepare=off to the URL. Nothing was written.",
    )


_STATES: Final[dict[str, Callable[[], HoldfastError]]] = {
    "57014": lambda: Timeout(
        "The statement took longer than its timeout.", hint="Nothing was written."
    ),
    "55P03": lambda: Busy(
        "Another writer held the lock until the deadline.", hint="Nothing was written; try again."
    ),
    "25P03": lambda: Timeout("The transaction was idle for too long."),
    "40001": lambda: Busy("Other writers were always in the way.", hint="Try again."),
    "40P01": lambda: Busy("Other writers were always in the way.", hint="Try again."),
    "53100": lambda: StorageFull("The server's disk is full.", hint="Nothing was written."),
    "53200": lambda: Unavailable("The server has not enough memory for this."),
    "53300": lambda: Unavailable("The server accepts no connection now.", hint="Try again."),
    "25006": lambda: ReadOnly("The server can be read but not written: it is a replica."),
    "42501": _forbidden,
    "42P05": _unprepared,
    "26000": _unprepared,
    "22003": lambda: Invalid(
        "value", expected="a result that the field can hold", got="one beyond it"
    ),
    "XX001": lambda: Corrupt("The server found damaged data.", hint="Its log says where."),
    "XX002": lambda: Corrupt("The server found a damaged index.", hint="Reindex it."),
    "0A000": lambda: Unsupported("The server does not offer this."),
    "54000": lambda: Invalid("value", expected="a value that the server can hold", got="another"),
}
_CLASSES: Final[dict[str, Callable[[], HoldfastError]]] = {
    "08": lambda: Unavailable(
        "The connection to the server was lost.", hint="Try again.", **_NO_ANSWER
    ),
    "57": lambda: Unavailable("The server ended the work.", hint="Try again.", **_NO_ANSWER),
    "53": lambda: Unavailable("The server lacks resources for this.", hint="Try again."),
    "28": lambda: Forbidden("The server refused the credentials."),
    "58": lambda: Unavailable("The server's disk refused the work."),
}
