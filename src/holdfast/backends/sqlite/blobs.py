"""Data of rows, read straight into memory that is to hold it: bytes on the way are a copy more."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import apsw


class Blobs:
    """The ``data`` of a table's rows, one after the other, within a read transaction."""

    def __init__(self, connection: apsw.Connection, table: str) -> None:
        self._connection = connection
        self._table = table
        self._blob: apsw.Blob | None = None

    def __enter__(self) -> Blobs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def read(self, row: int, into: Any, start: int, size: int) -> bool:
        """Put a row's data there; False if there is no such row, or not as much in it."""
        try:
            if self._blob is None:
                self._blob = self._connection.blob_open("main", self._table, "data", row, False)
            else:  # which takes a third of the time
                self._blob.reopen(row)
        except apsw.SQLError:  # there is no such row
            self._close()
            return False
        if self._blob.length() != size:
            return False
        self._blob.read_into(into, start, size)
        return True

    def _close(self) -> None:
        if self._blob is not None:
            self._blob.close(True)
            self._blob = None
