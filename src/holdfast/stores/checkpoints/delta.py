"""What a state has in common with the one before it.

States grow at the end, change a counter here and there, and lose their oldest messages. So the
common beginning and the common end are taken first, by comparing memory, and what is between is
looked for by short stretches of the old state. That finds no stretch that has moved before
another one; what is not found is written anew, which costs space and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

ANCHOR: Final = 64
"""The shortest stretch that is worth a reference, in bytes."""
COPY_LIMIT: Final = 32
"""Most copies of one state: a bound of time and of the spans that they become."""
_STEP: Final = 65_536
"""Bytes compared at once."""


class Copy(NamedTuple):
    """``length`` bytes at ``source`` of the old state stand at ``place`` of the new one."""

    source: int
    place: int
    length: int


def copies(old: bytes, new: bytes) -> list[Copy]:
    """Stretches that both states hold, in the order of both, none overlapping another.

    >>> old = bytes(range(200))
    >>> copies(old, b"!" + old + b"?")
    [Copy(source=0, place=1, length=200)]
    """
    most = min(len(old), len(new))
    head = tail = 0
    if most >= ANCHOR and new.startswith(old[:ANCHOR]):
        head = shared_ahead(old, 0, new, 0, most)
    if most - head >= ANCHOR and new.endswith(old[-ANCHOR:]):
        tail = shared_behind(old, len(old), new, len(new), most - head)
    found = [Copy(0, 0, head)] if head else []
    found += _between(old, head, len(old) - tail, new, head, len(new) - tail)
    if tail:
        found.append(Copy(len(old) - tail, len(new) - tail, tail))
    return found


def shared_ahead(old: bytes, source: int, new: bytes, place: int, limit: int) -> int:
    """How many bytes from these places on are the same, at most ``limit``."""
    view = memoryview(old)

    def same(start: int, length: int) -> bool:
        at = source + start
        return new.startswith(view[at : at + length], place + start)

    return _longest(same, limit)


def shared_behind(old: bytes, source: int, new: bytes, place: int, limit: int) -> int:
    """How many bytes before these places are the same, at most ``limit``."""
    view = memoryview(old)

    def same(start: int, length: int) -> bool:
        at = source - start
        return new.endswith(view[at - length : at], 0, place - start)

    return _longest(same, limit)


def _longest(same: Callable[[int, int], bool], limit: int) -> int:
    """How far all is the same; ``same`` compares so many bytes from a distance on."""
    length, step = 0, _STEP
    while length + step <= limit and same(length, step):
        length += step
    while step := step // 2:
        # Ever smaller steps meet each byte once or twice, and never the whole again.
        if length + step <= limit and same(length, step):
            length += step
    return length


def _between(
    old: bytes, source: int, source_end: int, new: bytes, place: int, place_end: int
) -> Iterator[Copy]:
    """Copies in what the common beginning and end leave over, from left to right."""
    kept = _kept(old, source, source_end, new, place, place_end)
    if kept is not None:
        source_end, place_end = kept.source, kept.place
    for _ in range(COPY_LIMIT):
        anchor = _anchor(old, source, source_end, new, place, place_end)
        if anchor is None:
            break
        copy = _widened(anchor, old, source, source_end, new, place, place_end)
        yield copy
        source, place = copy.source + copy.length, copy.place + copy.length
    if kept is not None:
        yield kept


def _kept(
    old: bytes, source: int, source_end: int, new: bytes, place: int, place_end: int
) -> Copy | None:
    """What is left of a state that has lost its oldest and grown at the end, as one stretch."""
    at = source_end - 3 * ANCHOR  # before the few bytes that close a state
    found = new.rfind(old[at : at + ANCHOR], place, place_end) if at >= source else -1
    if found < 0:
        return None
    return _widened((at, found), old, source, source_end, new, place, place_end)


def _widened(
    anchor: tuple[int, int],
    old: bytes,
    source: int,
    source_end: int,
    new: bytes,
    place: int,
    place_end: int,
) -> Copy:
    """All around these places that both states hold."""
    at, found = anchor
    before = shared_behind(old, at, new, found, min(at - source, found - place))
    after = shared_ahead(old, at, new, found, min(source_end - at, place_end - found))
    return Copy(at - before, found - before, before + after)


def _anchor(
    old: bytes, source: int, source_end: int, new: bytes, place: int, place_end: int
) -> tuple[int, int] | None:
    """A stretch of the old state that the new one has too: near the left if there is one."""
    distance = 0
    while source + distance + ANCHOR <= source_end and place + ANCHOR <= place_end:
        at = source + distance
        found = new.find(old[at : at + ANCHOR], place, place_end)
        if found >= 0:
            return at, found
        distance = distance * 4 or 128
    return None
