"""The one place where SQLite's errors become the contract's."""

from __future__ import annotations

import errno
import re
from typing import Final

import apsw
import msgspec

from holdfast.core.collection import Collection
from holdfast.core.errors import (
    Busy,
    Closed,
    Conflict,
    Corrupt,
    HoldfastError,
    Invalid,
    ReadOnly,
    StorageFull,
    Unavailable,
)

# Compiled, and kept by `re`, at the first conflict: most processes begin without one.
_UNIQUE: Final = r"UNIQUE constraint failed: (.+)"
_BEYOND: Final = (
    r"CHECK constraint failed: (\w+)|cannot store REAL value in INTEGER column \w+\.(\w+)"
)

DAMAGE: Final = (UnicodeDecodeError, msgspec.DecodeError)
"""Text that is no UTF-8 and JSON that is none were never written by us: the pages are damaged."""
ENGINE_ERRORS: Final = (apsw.Error, OSError, *DAMAGE)
"""What an engine raises of itself, for `mapped`."""
UNREADABLE: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""What values that were never written by us raise wherever they are decoded or counted with."""
READ_ERRORS: Final = (*ENGINE_ERRORS, *UNREADABLE)
"""What reading a file can raise, for `of_reading`."""
# A statement beyond what SQLite takes, and no other mistake that it tells of in one.
_LIMITS: Final = r"too many|too (large|deep|big)|stack overflow|maximum depth"


def of_reading(error: Exception) -> HoldfastError:
    """The contract's error for what a read raised.

    Arguments were checked before, so what cannot be decoded is damage. Not for writes, where a
    mistake of ours must show as one.
    """
    is_damage = isinstance(error, UNREADABLE) and not isinstance(error, OSError)
    return _damaged() if is_damage else mapped(error)


def _damaged() -> Corrupt:
    return Corrupt("The file is damaged.", hint="`holdfast doctor` says what can be saved from it.")


def mapped(error: Exception) -> HoldfastError:
    """The contract's error for an engine error; raise it ``from`` the original."""
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Busy(
            "The file stayed locked by another writer until the deadline.",
            hint="Try again; nothing was written.",
        )
    if isinstance(error, apsw.ConnectionClosedError):
        return Closed("The store is closed.", hint="Open it again.")
    if isinstance(error, apsw.FullError):
        return StorageFull("The disk is full.", hint="Nothing was written; free some space.")
    if isinstance(error, apsw.ReadOnlyError):
        return ReadOnly("The file or its folder cannot be written.")
    if isinstance(error, apsw.NotADBError):
        return Corrupt("The file is not a SQLite database, or its first page is damaged.")
    if isinstance(error, (apsw.CorruptError, *DAMAGE)):
        return _damaged()
    if isinstance(error, apsw.SQLError) and not re.search(_LIMITS, str(error)):
        return Corrupt(
            "The tables of the file are not those that holdfast made.",
            hint="`holdfast doctor` says what can be saved from it.",
        )
    if isinstance(error, apsw.CantOpenError):
        return Unavailable(
            "The file cannot be opened.",
            hint="Check the path and permissions: a store's log lies beside it, so that its folder"
            " must be writable, also to read. The option immutable reads one on a read-only disk.",
        )
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, apsw.IOError):
        return Unavailable("The disk refused the work.", hint="Nothing was acknowledged.")
    if isinstance(error, OverflowError):  # what is given was checked, so that it was stored
        return _damaged()
    if isinstance(error, MemoryError | apsw.NoMemError):
        return Unavailable("There is not enough memory for this.")
    return Unavailable(f"SQLite failed: {type(error).__name__}.")


def _of_the_system(error: OSError) -> HoldfastError:
    """What Python's own calls on files say."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The disk is full.", hint="Nothing was written; free some space.")
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Unavailable(
            "The file, or the folder it should lie in, is not there.", hint="Check the path."
        )
    if isinstance(error, PermissionError):
        return Unavailable(
            "This user may not open the file or write in its folder.", hint="Check the permissions."
        )
    return Unavailable("The disk refused the work.", hint="Nothing was acknowledged.")


def constraint_conflict(error: apsw.ConstraintError, collection: Collection) -> HoldfastError:
    """Which of the collection's promises a constraint error broke."""
    beyond = re.search(_BEYOND, str(error))
    if beyond is not None:
        name = beyond[1] or beyond[2]
        return Invalid(name, expected="a result that the field can hold", got="one beyond it")
    found = re.search(_UNIQUE, str(error))
    if found is None:
        return Corrupt(f"A stored value of {collection.name} does not fit its column.")
    columns = tuple(name.rpartition(".")[2] for name in found[1].split(", "))
    if columns == ("tenant", *collection.key):
        return Conflict("A record with this key exists.", unique="key")
    names = [u.name for u in collection.unique if ("tenant", *u.fields) == columns]
    name = names[0] if names else ", ".join(columns[1:])
    return Conflict(f"Another record of {collection.name} has the same {name}.", unique=name)
