"""A disk that can lose its power: a VFS that records what SQLite does, and what may be left of it.

Everything goes to ordinary files at once, so the program under test notices nothing; only syncs
are not passed on. The record is one list of events in the order in which they happened, with the
acknowledgements among them. `Disk` replays it to any event and makes an image of what a power cut
there could leave: what was synced, a random part of what was not, torn at 512 bytes, with zeros or
garbage where a file grew and its data did not arrive.

Names are durable only after a sync of their folder. SQLite's own file system layer syncs it with
the first sync of a new journal or log, and when it deletes with that wish; so does this one.
Shared memory (-shm) is rebuilt by recovery and is never part of an image.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import apsw

SECTOR: Final = 512
JOURNALS: Final = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
BASE: Final = "unix"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``name`` is a file's name, or what was acknowledged."""

    kind: Literal["open", "write", "truncate", "sync", "sync_folder", "delete", "acknowledge"]
    name: str
    place: int = 0
    data: bytes = b""


class Recorder(apsw.VFS):
    """The VFS of one recording. Unregistered when its block ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        super().__init__(name, BASE)

    def acknowledge(self, name: str) -> None:
        """Note that from here on a write is promised."""
        self.events.append(Event("acknowledge", name))

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is None:
            return apsw.VFSFile(BASE, name, flags)
        opened = _RecordedFile(self.events, name, flags)
        self.events.append(Event("open", opened.name))
        return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, False)
        self.events.append(Event("delete", Path(filename).name))
        if syncdir:
            self.events.append(Event("sync_folder", ""))


class _RecordedFile(apsw.VFSFile):
    def __init__(self, events: list[Event], name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self.name = Path(path).name
        self._events = events
        self._read_only = bool(flags[0] & apsw.SQLITE_OPEN_READONLY)
        self._syncs_folder = bool(flags[0] & JOURNALS and flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__(BASE, name, flags)

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError as error:
            # A reader's close tries the exclusive lock and shrugs; through Python it would raise.
            if self._read_only:
                raise apsw.BusyError("a read-only file cannot be locked for writing") from error
            raise

    def xWrite(self, data: Any, offset: int) -> None:
        super().xWrite(data, offset)
        self._events.append(Event("write", self.name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._events.append(Event("truncate", self.name, newsize))

    def xSync(self, flags: int) -> None:
        self._events.append(Event("sync", self.name))
        if self._syncs_folder:
            self._syncs_folder = False
            self._events.append(Event("sync_folder", ""))


@contextmanager
def recording(name: str) -> Iterator[Recorder]:
    """A registered recorder, for `SqliteDriver(..., vfs=name)`."""
    recorder = Recorder(name)
    try:
        yield recorder
    finally:
        recorder.unregister()


@dataclass
class _Inode:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Storm:
    """How a cut treats what was not synced."""

    kept: float
    """Share of unsynced operations that arrive whole."""
    torn: float
    """Share of the rest that arrive in part."""
    garbage: bool
    """Whether a hole in a grown file holds garbage instead of zeros."""

    @staticmethod
    def drawn(chance: random.Random) -> Storm:
        """A storm of any severity."""
        return Storm(
            chance.choice((0.0, 0.1, 0.5, 0.9, 1.0)),
            chance.choice((0.0, 0.5, 1.0)),
            chance.random() < 0.5,
        )


class Disk:
    """A folder as the disk knows it: what is durable, and what is on its way."""

    def __init__(self, image: dict[str, bytes]) -> None:
        self._names = {name: _Inode(bytearray(data)) for name, data in image.items()}
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[str, _Inode | None]] = []
        self.acknowledged: list[str] = []

    def replay(self, event: Event) -> None:
        """Let one event happen."""
        match event.kind:
            case "acknowledge":
                self.acknowledged.append(event.name)
            case "open":
                if event.name not in self._names:
                    self._rename(event.name, _Inode())
            case "delete":
                self._rename(event.name, None)
            case "sync_folder":
                self._durable_names = dict(self._names)
                self._pending_names.clear()
            case "sync":
                inode = self._names.get(event.name)
                if inode is not None:
                    for pending in inode.pending:
                        _perform(inode.durable, pending)
                    inode.pending.clear()
            case _:
                self._names[event.name].pending.append(event)

    def cut(self, storm: Storm, chance: random.Random) -> dict[str, bytes]:
        """An image of what may be found when the power is back."""
        names = dict(self._durable_names)
        for name, inode in self._pending_names:
            if chance.random() < storm.kept:
                names[name] = inode if inode is not None else names[name]
                if inode is None:
                    del names[name]
        return {
            name: _survivor(inode, storm, chance)
            for name, inode in names.items()
            if not name.endswith("-shm")
        }

    def _rename(self, name: str, inode: _Inode | None) -> None:
        self._pending_names.append((name, inode))
        if inode is None:
            self._names.pop(name, None)
        else:
            self._names[name] = inode


def _perform(data: bytearray, event: Event, fill: bytes = b"\0") -> None:
    if event.kind == "truncate":
        if event.place < len(data):
            del data[event.place :]
        else:
            _grow(data, event.place, fill)
        return
    _grow(data, event.place, fill)
    data[event.place : event.place + len(event.data)] = event.data


def _grow(data: bytearray, size: int, fill: bytes) -> None:
    missing = size - len(data)
    if missing > 0:
        data.extend((fill * (missing // len(fill) + 1))[:missing])


def _survivor(inode: _Inode, storm: Storm, chance: random.Random) -> bytes:
    data = bytearray(inode.durable)
    fill = chance.randbytes(4096) if storm.garbage else b"\0"
    for event in inode.pending:
        if chance.random() < storm.kept:
            _perform(data, event, fill)
        elif event.kind == "write" and chance.random() < storm.torn:
            for piece in _sectors(event):
                if chance.random() < 0.5:
                    _perform(data, piece, fill)
    return bytes(data)


def _sectors(event: Event) -> Iterator[Event]:
    """The write, cut at the disk's sector boundaries."""
    start, end = event.place, event.place + len(event.data)
    while start < end:
        stop = min(end, start - start % SECTOR + SECTOR)
        piece = event.data[start - event.place : stop - event.place]
        yield Event("write", event.name, start, piece)
        start = stop


def load(place: Path) -> dict[str, bytes]:
    """The image that a folder holds."""
    return {p.name: p.read_bytes() for p in place.iterdir() if not p.name.endswith("-shm")}


def store(image: dict[str, bytes], place: Path) -> None:
    """Write an image into an empty folder."""
    place.mkdir(parents=True)
    for name, data in image.items():
        (place / name).write_bytes(data)
