"""What is measured: stores opened through the whole stack, and the same work by hand."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any, Final, Literal

import apsw

import holdfast

Durability = Literal["full", "normal"]

TEXT: Final = "Alice prefers green tea in the morning and a short summary of the news at noon"
ROW: Final = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)"
TABLE: Final = (
    "CREATE TABLE messages (id TEXT PRIMARY KEY, conversation TEXT NOT NULL, sequence INTEGER"
    " NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, created_at INTEGER NOT NULL)"
)


def store(folder: Path, durability: Durability) -> holdfast.Storage:
    """A store as users open it, without an embedder: its cost is the systems sheet's subject."""
    return holdfast.open(str(folder / "holdfast.db"), durability=durability, embedder=None)


def raw_row(number: int) -> tuple[Any, ...]:
    """One small row."""
    return (f"message-{number:012d}", "conversation", number, "user", TEXT, number)


def raw_sqlite3(folder: Path, durability: Durability) -> sqlite3.Connection:
    """A new database of the standard library, as a careful user sets it up."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    for pragma in ("journal_mode=WAL", f"synchronous={durability}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(TABLE)
    return connection


def raw_apsw(folder: Path, durability: Durability) -> apsw.Connection:
    """The same database through apsw."""
    connection = apsw.Connection(str(folder / "raw.db"))
    for pragma in ("journal_mode=WAL", f"synchronous={durability}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(TABLE)
    return connection


def shuffled(values: list[str], count: int) -> list[str]:
    """``count`` of the values in an order that is the same in every run."""
    return random.Random(7).choices(values, k=count)
