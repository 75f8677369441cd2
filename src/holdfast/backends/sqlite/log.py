"""Whether a log that was left behind ends where its last commit did, or where it was damaged.

SQLite takes the first frame that does not fit its checksum for the end of the log, and is right
after a crash: the frames of the commit under way may be torn. What was committed before was synced,
at durability "full", before that commit began. So behind the end there may be one commit that was
whole once, and never two, one upon the other.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, Final

from holdfast.backends.sqlite import guard
from holdfast.core.errors import Corrupt
from holdfast.core.files import owned

HEAD_BYTES: Final = 32
_FRAME_HEAD_BYTES: Final = 24
_LITTLE, _BIG = 0x377F0682, 0x377F0683
"""The first word of a log, by the order of bytes in which its checksums are counted."""
_LEAST_BYTES: Final = HEAD_BYTES + _FRAME_HEAD_BYTES + 512
"""Of a log with a frame."""
COMMITS: Final = 2
"""So many, one upon the other, are not left behind the end of a log by a crash."""
_STRETCH: Final = 512
"""Frames that are counted through at once."""
_WORD: Final = 0xFFFFFFFF


def check(path: str, *, go_on: bool) -> None:
    """Corrupt where the log of a file that nobody has open was damaged.

    To ``go_on`` is to take what precedes the damage; the log is copied aside first.
    """
    log = f"{path}-wal"
    try:
        left = os.stat(log)
        if left.st_size < _LEAST_BYTES or _is_in_use(path) or not is_damaged(log):
            return
        if os.stat(log).st_mtime_ns != left.st_mtime_ns or _is_in_use(path):
            return  # somebody has begun to write meanwhile
    except FileNotFoundError:
        return
    name = os.path.basename(log)
    if go_on:
        _keep(log)
        return
    raise Corrupt(
        "The log of the file is damaged, and commits follow on the damage: the last writes cannot"
        " be read.",
        hint=f"Keep a copy of the file and of {name}. Restore a backup; or open the file with"
        f' durability="normal", which goes on with what precedes the damage and leaves a copy,'
        f" {name}.damaged. Nothing was written.",
        log=name,
    )


def _keep(log: str) -> None:
    """Copy a log aside, readable by its owner alone and synced: it is written over next."""
    import shutil  # which few processes need
    from uuid import uuid4

    partial = f"{log}.{uuid4().hex}.partial"
    with open(log, "rb") as source, open(partial, "xb", opener=owned) as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())
    os.replace(partial, f"{log}.damaged")


def is_damaged(log: str) -> bool:
    """Whether a log holds commits that were whole once, and that reading it would not reach."""
    with open(log, "rb") as file:
        head = file.read(HEAD_BYTES)
        magic, _, page_bytes = struct.unpack(">3I", head[:12])
        if magic not in (_LITTLE, _BIG) or _counted(head[:24], magic) != head[24:]:
            return True  # it is synced before the first frame is written
        reached, commits = True, 0
        for fits, follows, is_commit in _frames(file, head, magic, page_bytes):
            reached = reached and fits and follows
            if not reached:
                commits = is_commit + (commits if follows else 0) if fits else 0
            if commits >= COMMITS:
                return True
    return False


def _frames(
    file: Any, head: bytes, magic: int, page_bytes: int
) -> Iterator[tuple[bool, bool, bool]]:
    """Of each frame: is it of this log's time, does it follow on the one before, does it commit."""
    import numpy

    size, order = _FRAME_HEAD_BYTES + page_bytes, "<u4" if magic == _LITTLE else ">u4"
    weights, onward = _weights((8 + page_bytes) // 8)
    before = numpy.frombuffer(head[24:], ">u4").astype("u4")[None]
    while data := file.read(_STRETCH * size):
        frames = numpy.frombuffer(data, "u1", len(data) // size * size).reshape(-1, size)
        if not len(frames):
            return
        words = numpy.concatenate((frames[:, :8], frames[:, _FRAME_HEAD_BYTES:]), axis=1)
        told = numpy.ascontiguousarray(frames[:, 16:24]).view(">u4").astype("u4")
        sums = numpy.concatenate((before, told[:-1])) @ onward
        sums += words.view(order).astype("u4") @ weights
        fits = frames[:, 8:16] == numpy.frombuffer(head[16:24], "u1")
        answers: list[Any] = [fits.all(axis=1), (sums == told).all(axis=1), frames[:, 4:8].any(1)]
        yield from zip(*(answer.tolist() for answer in answers), strict=True)
        before = told[-1:]


def _weights(pairs: int) -> tuple[Any, Any]:
    """What each word of a frame adds to its checksum, and what the checksum before it does.

    A checksum is two sums: of each pair of words, the first is added with the second sum to the
    first, and the second with the new first to the second. That is linear, so frames are counted
    side by side.
    """
    import numpy

    one, other = (1, 1), (0, 1)  # what the words of the last pair add to both sums
    rows: list[tuple[int, int]] = []
    for _ in range(pairs):
        rows += [other, one]
        one, other = _on(one), _on(other)
    sums = [(1, 0), (0, 1)]
    for _ in range(pairs):
        sums = [_on(each) for each in sums]
    return numpy.array(rows[::-1], "u4"), numpy.array(sums, "u4")


def _on(sums: tuple[int, int]) -> tuple[int, int]:
    one = (sums[0] + sums[1]) & _WORD
    return one, (sums[1] + one) & _WORD


def _counted(data: bytes, magic: int) -> bytes:
    """The checksum of a log's header."""
    words = struct.unpack(f"{'<' if magic == _LITTLE else '>'}{len(data) // 4}I", data)
    one = other = 0
    for at in range(0, len(words), 2):
        one = (one + words[at] + other) & _WORD
        other = (other + words[at + 1] + one) & _WORD
    return struct.pack(">2I", one, other)


def _is_in_use(path: str) -> bool:
    """Whether another process has the file open, and so knows itself where the log ends."""
    # A lock taken to know it would be met by one that opens the file meanwhile.
    return guard.TELLS_LOCKS and guard.is_log_in_use(path)
