"""Values that stores hand to the recall recipe, and the protocol by which they call it.

Stores know these values only. Which recipe stands behind ``Ranker`` is decided where a storage is
opened, so a store never imports a ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import msgspec


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A record that a leg found, or the neighbour in its session of one.

    Scores are the raw ones of each leg, None where that leg did not return the record. Everything
    else is metadata and may be missing; without it the record is ranked by its scores alone.
    """

    key: Any
    """Unique among the candidates, and orderable: ties break by it."""
    text_score: float | None = None
    """BM25, not negative."""
    vector_score: float | None = None
    """Cosine similarity, in [-1, 1]."""
    late_score: float | None = None
    """What a late reader gave it; None where it was not read. A ranker need not use it."""
    speaker: str | None = None
    session: str | None = None
    turn: int | None = None
    """Position within the session; neighbours differ by one."""
    time: datetime | None = None
    """When it was said; aware."""
    role: str | None = None
    """``user``, ``assistant``, ``system``, ``tool``; None between people."""


class Period(msgspec.Struct, frozen=True):
    """A stretch of time named by a query: ``start`` included, ``end`` not, both aware.

    ``yearly`` says that the query left the year open ("in May"): any year's will do.
    """

    start: datetime
    end: datetime
    yearly: bool = False


class PreparedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A query as each stage needs it. Data only: nothing in it is query grammar."""

    text: str
    """As the caller typed it; what a reranker reads."""
    lexical: str
    """To be analysed for the text leg."""
    dense: str
    """To be embedded, as kind "query", for the vector leg."""
    speakers: tuple[str, ...] = ()
    """Known speakers whom the query names, as they are spelled on the records."""
    periods: tuple[Period, ...] = ()
    """Dates and periods that the query names."""
    timed: bool = True
    """Whether the order may depend on the candidates' times; if not, they need not be read."""


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """One result. ``parts`` sums to ``score`` when it was asked for, else it is empty."""

    key: Any
    score: float
    legs: tuple[str, ...] = ()
    """Which legs found it: "text", "vector"; empty for one that only its neighbours brought."""
    parts: dict[str, float] = {}
    """What each stage added: text, vector, late, speaker, neighbours, session, date."""


@runtime_checkable
class Ranker(Protocol):
    """A recall recipe: what to ask the legs, how many, and how their answers become one order."""

    @property
    def candidates(self) -> int:
        """How many hits to ask of each leg."""
        ...

    @property
    def neighbours(self) -> bool:
        """Whether the turns next to a hit in its session are to be given as candidates too."""
        ...

    def lexical_text(self, text: str, time: datetime | None = None) -> str:
        """Return what the text leg is to index for a record said at ``time``."""
        ...

    def prepare(
        self, query: str, speakers: Sequence[str] = (), now: datetime | None = None
    ) -> PreparedQuery:
        """Read a query. ``speakers`` are those of the scope; ``now`` anchors "last week"."""
        ...

    def rank(
        self,
        query: PreparedQuery,
        candidates: Sequence[Candidate],
        k: int,
        *,
        explain: bool = False,
    ) -> list[Ranked]:
        """Return the best ``k`` candidates, best first, ties by key; deterministic."""
        ...
