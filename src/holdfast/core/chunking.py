"""Cutting long texts into overlapping stretches at the boundaries that a reader would choose.

Pure arithmetic over code points: the same text and sizes give the same stretches everywhere, in
time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final, NamedTuple

from holdfast.core.errors import Invalid
from holdfast.core.values import check_count

CHUNK_CHARACTERS: Final = 500
CHUNK_OVERLAP: Final = 64
SIZE_LEAST: Final = 16
SIZE_LIMIT: Final = 1_000_000

_HEADING: Final = r"(?<=\n)(?=#{1,6}[ \t])"
_SENTENCE: Final = r"(?:[.!?…]['\"”’)\]]?(?=\s)|[。！？])\s?"
_SPACE: Final = r"\s(?=\S)"
_AHEAD: Final = 8
"""How far beyond a stretch the patterns look at what follows a cut."""
_GRAPHEME: Final = 32
"""How far a cut moves back so as not to part a base character from its marks."""
_JOINING: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")


@cache  # compiled at the first text: most processes never cut one
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


class Span(NamedTuple):
    """A stretch of a text: ``start`` included, ``end`` not, in code points."""

    start: int
    end: int


def check_sizes(size: object, overlap: object) -> tuple[int, int]:
    """Sizes with which chunking works, or Invalid: an overlap is at most half a chunk."""
    characters = check_count("chunk_characters", size, SIZE_LEAST, SIZE_LIMIT)
    shared = check_count("chunk_overlap", overlap, 0, SIZE_LIMIT)
    if shared * 2 > characters:
        raise Invalid("chunk_overlap", expected="at most half of chunk_characters", got="more")
    return characters, shared


def chunk_spans(
    text: str, size: int = CHUNK_CHARACTERS, overlap: int = CHUNK_OVERLAP
) -> list[Span]:
    """The stretches of ``text``, in order; together they hold all of it.

    None is longer than ``size``, and each shares at most ``overlap`` characters with the one
    before it. A stretch ends before a heading, else after a paragraph, a line, a sentence or a
    word, whichever comes first in this list within its last part; only where there is none of
    these inside a word. One that begins at a heading shares nothing. An empty text has none.

    >>> chunk_spans("One sentence. Another one.", 16, 4)
    [Span(start=0, end=14), Span(start=14, end=26)]
    """
    size, overlap = check_sizes(size, overlap)
    spans: list[Span] = []
    start = 0
    while len(text) - start > size:
        # Every stretch brings a quarter of its size in new text, behind what it shares.
        share = size // 4
        heading = _last(_HEADING, text, start + share, start + size)
        end = heading or _break(text, start + max(size // 2, overlap + share), start + size)
        spans.append(Span(start, end))
        start = heading or _resumed(text, end - overlap, end)
    if start < len(text):
        spans.append(Span(start, len(text)))
    return spans


def _break(text: str, low: int, high: int) -> int:
    """The best place to cut from ``low`` to ``high``, where no heading begins."""
    for separator in ("\n\n", "\r\n\r\n", "\n"):
        found = text.rfind(separator, low, high)
        if found >= 0:
            return found + len(separator)
    for pattern in (_SENTENCE, _SPACE):
        end = _last(pattern, text, low, high)
        if end is not None:
            return end
    return _back(text, high, low)


def _last(pattern: str, text: str, low: int, high: int) -> int | None:
    """Where the last match that lies within ``low`` and ``high`` ends."""
    ends = [found.end() for found in _compiled(pattern).finditer(text, low, high + _AHEAD)]
    return next((end for end in reversed(ends) if end <= high), None)


def _resumed(text: str, low: int, high: int) -> int:
    """Where the next stretch begins: at the first word from ``low`` on, at ``high`` at the latest.

    Where no word begins the overlap is kept whole.
    """
    if low >= high:
        return high
    if text[low - 1].isspace() and not text[low].isspace():
        return low
    found = _compiled(_SPACE).search(text, low, high + _AHEAD)
    if found is not None and found.end() <= high:
        return found.end()
    return _forward(text, low, high)


def _back(text: str, at: int, low: int) -> int:
    """The cut nearest before ``at`` that parts no character from its marks; else ``at``."""
    for place in range(at, max(low, at - _GRAPHEME) - 1, -1):
        if not _joined(text, place):
            return place
    return at


def _forward(text: str, at: int, high: int) -> int:
    """The first cut from ``at`` on that parts no character from its marks; else ``high``."""
    return next((place for place in range(at, high) if not _joined(text, place)), high)


def _joined(text: str, place: int) -> bool:
    """Whether a cut at ``place`` would part what is read as one character."""
    if not 0 < place < len(text):
        return False
    after, before = text[place], text[place - 1]
    if before == "\r" and after == "\n":
        return True
    return after in _JOINING or before == "\u200d" or unicodedata.combining(after) != 0
