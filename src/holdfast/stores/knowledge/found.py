"""What a search of knowledge answers."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from holdfast.stores.answer import Answer, Shown
from holdfast.stores.knowledge.records import Chunk, LibraryItem

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


class Findings(Answer[Found[Item]]):
    """What was found, best first.

    ``flags`` says what was not as usual: "rerank_failed", "query_embedding_failed",
    "query_terms_cut", "vectors_not_offered". ``stages`` holds, with ``explain``, the numbers of
    each stage.
    """

    digits = 4

    def shown(self, item: Found[Item]) -> Shown:
        held = item.item
        return Shown(held.id, item.score, item.legs, held.title, text_of(held))


def text_of(item: Chunk | LibraryItem) -> str:
    """What it says."""
    return item.text if isinstance(item, Chunk) else item.content
