"""What a search of knowledge answers, and how it reads.

What is stored is shown, never interpreted: markup is escaped for a notebook, and what would act
on a terminal is written as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from holdfast.core.visible import bar, visible
from holdfast.stores.knowledge.records import Chunk, LibraryItem

LINES: Final = 3
"""Most lines of a text."""

Item = TypeVar("Item", bound=Chunk | LibraryItem)


class Found(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """A chunk, or an item of the library, that answers a query."""

    item: Item
    score: float
    """By fusion and boost; higher is better."""
    legs: tuple[str, ...]
    """Which legs found it: "text", "vector"."""
    parts: dict[str, float] = {}
    """With ``explain``: what each leg added, its raw score, and the boost."""
    rerank_score: float | None = None
    """The reranker's own score; such results stand in its order."""


class Findings(list[Found[Item]]):
    """What was found, best first.

    ``flags`` says what was not as usual: "rerank_failed", "query_embedding_failed",
    "query_terms_cut", "vectors_not_offered". ``stages`` holds, with ``explain``, the numbers of
    each stage.
    """

    flags: tuple[str, ...]
    stages: dict[str, Any]

    def __init__(
        self,
        items: Sequence[Found[Item]] = (),
        flags: tuple[str, ...] = (),
        stages: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(items)
        self.flags = flags
        self.stages = stages or {}

    def __str__(self) -> str:
        return findings_text(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return _html(self)


def findings_text(found: Findings[Any], width: int = 80) -> str:
    """All results, best first: rank, bar, score, legs and origin, and below them the text."""
    if not found:
        return "Nothing found."
    top = max(each.score for each in found)
    blocks = ["\n".join(_lines(n, each, top, width)) for n, each in enumerate(found, 1)]
    if found.flags:
        blocks.append(f"flags: {', '.join(found.flags)}")
    return "\n".join(blocks)


def text_of(item: Chunk | LibraryItem) -> str:
    """What it says."""
    return item.text if isinstance(item, Chunk) else item.content


def _lines(number: int, found: Found[Any], top: float, width: int) -> list[str]:
    share = found.score / top if top > 0 else 0.0
    head = f"{number:>3} {bar(share)} {found.score:7.4f}  {'+'.join(found.legs):<11}"
    title, room = visible(found.item.title), width - len(head) - 2
    head += f"  {title if len(title) <= room else title[: max(room - 1, 0)] + '…'}"
    wrapped = textwrap.wrap(
        visible(" ".join(text_of(found.item).split())),
        max(width - 4, 20),
        max_lines=LINES,
        placeholder=" …",
        break_on_hyphens=False,
    )
    return [head.rstrip(), *(f"    {line}" for line in wrapped), f"    {visible(found.item.id)}"]


def _html(found: Findings[Any]) -> str:
    import html  # its table of entities is large, and only notebooks come here

    top = max((each.score for each in found), default=0.0)
    rows = ""
    for number, each in enumerate(found, 1):
        share = each.score / top if top > 0 else 0.0
        meter = f"<meter min=0 max=1 value={min(1.0, max(0.0, share)):.3f}></meter>"
        told = ("+".join(each.legs), each.item.title, text_of(each.item), each.item.id)
        cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in told)
        rows += f"<tr><td>{number}</td><td>{meter} {each.score:.4f}</td>{cells}</tr>"
    heads = "".join(f"<th>{n}</th>" for n in ("", "score", "found by", "title", "text", "id"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
