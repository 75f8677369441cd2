"""Text as people see it: what would act on a terminal is written as an escape."""

from __future__ import annotations

import unicodedata
from typing import Final

BAR: Final = 8
"""Characters of a full bar."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_JOINERS: Final = frozenset("\u200c\u200d")
"""Zero-width joiners: scripts and emoji need them, and they move nothing."""


_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of characters that act: controls, formats, surrogates, separators of lines."""


def visible(text: str, *, lines: bool = False) -> str:
    """The text with what acts on a terminal, instead of being read, as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _harmless(c, lines) else _escape(c) for c in text)


def bar(share: float, width: int = BAR) -> str:
    """A bar of ``width`` characters for a share from 0 to 1, to an eighth of a character."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def _harmless(character: str, lines: bool) -> bool:
    if character == "\n":
        return lines
    return character in _JOINERS or unicodedata.category(character) not in _ACTING


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
