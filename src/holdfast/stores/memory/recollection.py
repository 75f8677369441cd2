"""What recall answers, and how it reads: score bars and which leg found what.

What is stored is shown, never interpreted: markup is escaped for a notebook, and what would act
on a terminal is written as an escape.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.core.visible import bar, visible
from holdfast.stores.memory.explained import explained_text
from holdfast.stores.memory.records import Memory

LINES: Final = 3
"""Most lines of a content."""


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """A memory that answers a query."""

    memory: Memory
    score: float
    """Cosine in vector mode, BM25 in keyword mode, the ranker's blend in hybrid mode."""
    legs: tuple[str, ...] = ()
    """Which legs found it: "text", "vector"; empty when only its neighbours brought it."""
    parts: dict[str, float] = {}
    """With ``explain``: what each stage added, and the raw score of each leg."""
    rerank_score: float | None = None
    """The reranker's own score, where one read it; such results come first, best first."""
    chunk: str | None = None
    """The stretch of a long memory that matched best."""
    neighbours: tuple[str, ...] = ()
    """Ids of the turns before and after it in its session, as far as they are eligible."""


class Recollection(list[Recalled]):
    """What was recalled, best first.

    ``flags`` says what was not as usual: "rerank_failed", "query_embedding_failed",
    "query_terms_cut", "speakers_cut", "vector_unusable", "vectors_not_offered" (the engine has
    none, so that words alone found), "late_unpacked" (too many had no packed tokens),
    "late_failed". ``stages`` holds, with ``explain``, what
    each step did and why candidates were cut: ``query`` (how it was read), ``terms``,
    ``query_vector``, ``width`` (hits asked of each leg) and how many each found, ``order`` (the
    recipe), ``candidates`` by id with all their scores, ``reranked``, ``threshold``, ``cut``.
    """

    flags: tuple[str, ...] = ()
    stages: dict[str, Any]

    def __init__(
        self,
        items: list[Recalled],
        flags: tuple[str, ...] = (),
        stages: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(items)
        self.flags = flags
        self.stages = stages or {}

    def __str__(self) -> str:
        told = recollection_text(self, self.flags)
        return f"{told}\n\n{explained_text(self, self.stages)}" if self.stages else told

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return recollection_html(self, self.stages)


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


def recollection_html(items: Sequence[Recalled], stages: Mapping[str, Any] | None = None) -> str:
    """All results as a table for a notebook, and below it what each step did."""
    import html  # its table of entities is large, and only notebooks come here

    top = max((item.score for item in items), default=0.0)
    rows = "".join(_html_row(number, item, top) for number, item in enumerate(items, 1))
    heads = "".join(f"<th>{name}</th>" for name in ("", "score", "found by", "memory", "origin"))
    shown = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    if not stages:
        return shown
    return f"{shown}<pre>{html.escape(explained_text(items, stages))}</pre>"


def _html_row(number: int, item: Recalled, top: float) -> str:
    import html  # its table of entities is large, and only notebooks come here

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
