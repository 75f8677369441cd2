"""The transcript mirror: every message also as a line of a JSON Lines file.

The file is its own memory: each line carries the journal's position, so the last whole line says
how far the mirror has come. A line torn by a crash is cut off and written again. One file mirrors
one tenant of one store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from holdfast.core.driver import FeedEntry
from holdfast.core.errors import Corrupt
from holdfast.core.files import owned
from holdfast.core.scope import check_name

TRANSCRIPT: Final = ("messages",)
"""The collections that make up a transcript."""
_BLOCK: Final = 64 * 1024


class _Line(msgspec.Struct):
    """What the mirror reads back of a line."""

    position: int


class TranscriptMirror:
    """Appends what changes in a tenant's messages to ``path``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        tenant: str = "default",
        collections: Sequence[str] = TRANSCRIPT,
    ) -> None:
        self._path = Path(path)
        self._tenant = check_name("tenant", tenant)
        self._collections = frozenset(collections)

    @property
    def name(self) -> str:
        """One follower per tenant and file; stop following before the file is moved."""
        return f"transcript:{self._tenant}:{self._path.resolve()}"

    def position(self) -> int:
        """The position of the last whole line; 0 for an empty or missing file.

        Raises Corrupt when that line is not one of the mirror's.
        """
        try:
            with self._path.open("rb") as file:
                return self._last(file)[0]
        except FileNotFoundError:
            return 0

    def take(self, entries: Sequence[FeedEntry]) -> None:
        """Write a line for each message that changed since the file's last line, durably."""
        wanted = [e for e in entries if self._is_mine(e)]
        if not wanted:
            return
        created = not self._path.exists()
        with open(self._path, "a+b", opener=owned) as file, _locked(file):
            position, end = self._last(file)
            lines = b"".join(_line(e) for e in wanted if e.position > position)
            file.truncate(end)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        if created:
            _sync_folder(self._path.parent)

    def _is_mine(self, entry: FeedEntry) -> bool:
        return entry.tenant == self._tenant and entry.collection in self._collections

    def _last(self, file: BinaryIO) -> tuple[int, int]:
        """The position that the last whole line carries, and where that line ends."""
        end = _end_of_lines(file, file.seek(0, os.SEEK_END))
        if end == 0:
            return 0, 0
        start = _end_of_lines(file, end - 1)
        file.seek(start)
        try:
            return msgspec.json.decode(file.read(end - start), type=_Line).position, end
        except msgspec.DecodeError as error:
            raise Corrupt(
                f"The last line of {self._path.name} is not one of the mirror's.",
                hint="Move the file away; the mirror goes on in a new one.",
                at=start,
            ) from error


def _line(entry: FeedEntry) -> bytes:
    line: dict[str, Any] = {
        "position": entry.position,
        "change": "delete" if entry.record is None else "put",
        "collection": entry.collection,
        "key": entry.key,
        "revision": entry.revision,
        "at": entry.at,
    }
    if entry.record is not None:
        line["record"] = entry.record
    return msgspec.json.encode(line) + b"\n"


def _end_of_lines(file: BinaryIO, before: int) -> int:
    """Where the last line that ends before ``before`` ends; 0 when none does."""
    while before > 0:
        start = max(0, before - _BLOCK)
        file.seek(start)
        found = file.read(before - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        before = start
    return 0


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Hold the file against the mirrors of other processes, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows: one mirroring process per file
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, where folders can be synced."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
