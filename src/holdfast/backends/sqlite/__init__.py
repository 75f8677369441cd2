"""The embedded engine: one SQLite file through apsw."""

from holdfast.backends.sqlite.driver import SqliteDriver

__all__ = ["SqliteDriver"]
