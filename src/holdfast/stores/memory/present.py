"""How results read: score bars, which leg found what, on a terminal and in a notebook.

Pure text; the command line prints the same. What is stored is shown, never interpreted: markup is
escaped for a notebook, and what would act on a terminal is written as an escape.
"""

from __future__ import annotations

import html
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.stores.memory.records import Memory, Recalled

BAR: Final = 8
"""Characters of a full bar."""
LINES: Final = 3
"""Most lines of a content."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_JOINERS: Final = frozenset("\u200c\u200d")
"""Zero-width joiners: scripts and emoji need them, and they move nothing."""


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


def legs_text(item: Recalled) -> str:
    """Which legs found it, in words."""
    return "+".join(item.legs) or "neighbour"


def origin_of(memory: Memory) -> str:
    """Who said it and where, as far as it says."""
    place = memory.session or ""
    if memory.turn is not None:
        place += f" #{memory.turn}"
    said = memory.said_at or memory.happened_at
    parts = (memory.speaker or "", place, "" if said is None else said.strftime("%Y-%m-%d"))
    return " · ".join(visible(part) for part in parts if part)


def recalled_lines(number: int, item: Recalled, top: float, width: int = 80) -> list[str]:
    """One result: its rank, bar, score, legs and origin, and below them what it says."""
    share = item.score / top if top > 0 else 0.0
    head = f"{number:>3} {bar(share)} {item.score:6.3f}  {legs_text(item):<11}"
    origin = origin_of(item.memory)
    room = width - len(head) - 2
    if origin:
        head += f"  {origin if len(origin) <= room else origin[: max(room - 1, 0)] + '…'}"
    content = visible(" ".join(item.memory.content.split()))
    wrapped = textwrap.wrap(
        content, max(width - 4, 20), max_lines=LINES, placeholder=" …", break_on_hyphens=False
    )
    return [head.rstrip(), *(f"    {line}" for line in wrapped), f"    {visible(item.memory.id)}"]


def recollection_text(items: Sequence[Recalled], flags: Sequence[str] = (), width: int = 80) -> str:
    """All results, best first."""
    if not items:
        return "Nothing recalled."
    top = max(item.score for item in items)
    blocks = [
        "\n".join(recalled_lines(number, item, top, width)) for number, item in enumerate(items, 1)
    ]
    if flags:
        blocks.append(f"flags: {', '.join(flags)}")
    return "\n".join(blocks)


def recollection_html(items: Sequence[Recalled]) -> str:
    """All results as a table for a notebook."""
    top = max((item.score for item in items), default=0.0)
    rows = "".join(_html_row(number, item, top) for number, item in enumerate(items, 1))
    heads = "".join(f"<th>{name}</th>" for name in ("", "score", "found by", "memory", "origin"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _html_row(number: int, item: Recalled, top: float) -> str:
    share = item.score / top if top > 0 else 0.0
    score = f"<meter min=0 max=1 value={min(1.0, max(0.0, share)):.3f}></meter> {item.score:.3f}"
    cells = (
        str(number),
        score,
        html.escape(legs_text(item)),
        html.escape(item.memory.content),
        html.escape(origin_of(item.memory)),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _harmless(character: str, lines: bool) -> bool:
    if character == "\n":
        return lines
    return character in _JOINERS or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl")


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
