"""Orders that need no recipe: one leg by its own scores, or two blended evenly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from holdfast.core.fusion import stretched
from holdfast.core.ranker import Candidate, PreparedQuery, Ranked


class SingleLeg:
    """The one leg's raw scores: cosine or BM25. Implements ``core.ranker.Ranker``."""

    candidates = 10
    neighbours = False

    def lexical_text(self, text: str, time: datetime | None = None) -> str:
        """Return the text itself."""
        return text

    def prepare(
        self, query: str, speakers: Sequence[str] = (), now: datetime | None = None
    ) -> PreparedQuery:
        """Return the query as typed, for both legs."""
        return PreparedQuery(text=query, lexical=query, dense=query, timed=False)

    def rank(
        self,
        query: PreparedQuery,
        candidates: Sequence[Candidate],
        k: int,
        *,
        explain: bool = False,
    ) -> list[Ranked]:
        """Return the candidates by score, ties by key."""
        scored = zip(self._scores(candidates), candidates, strict=True)
        ordered = sorted(scored, key=lambda pair: (-pair[0], pair[1].key))
        return [Ranked(key=c.key, score=score, legs=_legs(c)) for score, c in ordered[:k]]

    def _scores(self, candidates: Sequence[Candidate]) -> list[float]:
        return [
            c.text_score if c.text_score is not None else c.vector_score or 0.0 for c in candidates
        ]


class PlainRanker(SingleLeg):
    """Both legs stretched to 0..1 and averaged: what there is when no ranker was given."""

    candidates = 100

    def _scores(self, candidates: Sequence[Candidate]) -> list[float]:
        text = stretched([c.text_score for c in candidates])
        vector = stretched([c.vector_score for c in candidates])
        return [(one + other) / 2 for one, other in zip(text, vector, strict=True)]


def _legs(candidate: Candidate) -> tuple[str, ...]:
    scores = (("text", candidate.text_score), ("vector", candidate.vector_score))
    return tuple(name for name, score in scores if score is not None)
