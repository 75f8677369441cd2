"""What recall answers."""

from __future__ import annotations

import msgspec

from holdfast.stores.answer import Answer, Shown
from holdfast.stores.memory.explained import explained_text
from holdfast.stores.memory.records import Memory


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
    """Ids of the turns before and after it in its session, as far as they are eligible.

    Of several memories of one turn that the searches brought, the one of the least id.
    """


class Recollection(Answer[Recalled]):
    """What was recalled, best first.

    ``flags`` says what was not as usual: "rerank_failed", "query_embedding_failed",
    "query_terms_cut", "speakers_cut", "vector_unusable", "vectors_not_offered" (the engine has
    none, so that words alone found), "late_unpacked" (too many had no packed tokens),
    "late_failed". ``stages`` holds, with ``explain``, what
    each step did and why candidates were cut: ``query`` (how it was read), ``terms``,
    ``query_vector``, ``width`` (hits asked of each leg) and how many each found, ``order`` (the
    recipe), ``candidates`` by id with all their scores, ``reranked``, ``threshold``, ``cut``.
    """

    nothing = "Nothing recalled."

    def shown(self, item: Recalled) -> Shown:
        memory = item.memory
        return Shown(memory.id, item.score, item.legs, origin_of(memory), memory.content)

    def __str__(self) -> str:
        told = self.text()
        return f"{told}\n\n{explained_text(self, self.stages)}" if self.stages else told

    def _repr_html_(self) -> str:
        shown = super()._repr_html_()
        if not self.stages:
            return shown
        import html  # its table of entities is large, and only notebooks come here

        return f"{shown}<pre>{html.escape(explained_text(self, self.stages))}</pre>"


def origin_of(memory: Memory) -> str:
    """Who said it and where, as far as it says."""
    place = memory.session or ""
    if memory.turn is not None:
        place += f" #{memory.turn}"
    said = memory.said_at or memory.happened_at
    parts = (memory.speaker or "", place, "" if said is None else said.strftime("%Y-%m-%d"))
    return " · ".join(part for part in parts if part)
