"""What a search of messages answers, and how it reads."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.core.visible import bar, visible
from holdfast.stores.conversations.records import Message


class FoundMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that a search found."""

    message: Message
    score: float
    """Cosine in vector mode, BM25 in keyword mode, the ranker's blend in hybrid mode."""
    legs: tuple[str, ...] = ()
    """Which legs found it: "text", "vector"; empty when only its neighbours brought it."""
    parts: dict[str, float] = {}
    """With ``explain``: what each stage added, and as "bm25" and "cosine" the legs' raw scores."""


class FoundMessages(list[FoundMessage]):
    """What was found, best first.

    ``flags`` says what was not as usual: "not_embedded" (messages whose words matched have no
    vector yet, or none has), "query_embedding_failed", "query_terms_cut", "speakers_cut",
    "vectors_not_offered" (the engine has none). ``stages`` holds, with ``explain``, the numbers of
    each stage.
    """

    flags: tuple[str, ...] = ()
    stages: dict[str, Any]

    def __init__(
        self,
        items: list[FoundMessage],
        flags: tuple[str, ...] = (),
        stages: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(items)
        self.flags = flags
        self.stages = stages or {}

    def __str__(self) -> str:
        if not self:
            return "Nothing found."
        top = max(item.score for item in self)
        lines = []
        for number, item in enumerate(self, 1):
            share = item.score / top if top > 0 else 0.0
            legs = "+".join(item.legs) or "neighbour"
            text = visible(" ".join(item.message.text.split()))
            lines.append(f"{number:>3} {bar(share)} {item.score:6.3f}  {legs:<11}  {text}")
        if self.flags:
            lines.append(f"flags: {', '.join(self.flags)}")
        return "\n".join(lines)
