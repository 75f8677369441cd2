"""The recall recipe: from the answers of two legs to one order, by arithmetic alone.

1. A query loses the names of known speakers; turns of a named speaker gain.
2. The legs' scores, each stretched to 0..1, are blended (convex) or their ranks are (RRF). Where
   a late reader has read the best ones, its scores take a share of the blend.
3. A turn gains from the turns next to it in its session,
4. from how well its session does as a whole,
5. and from lying near a date that the query names.

Each step acts only on metadata that is there: without any, the order is that of the blend alone.
The constants were measured on two sets of conversations that differ in kind; what helped on one
and harmed on the other was left out. ``bench/recall`` repeats the measurement.
"""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from holdfast.core.errors import Invalid, kind_of
from holdfast.core.fusion import stretched
from holdfast.core.ranker import Candidate, Period, PreparedQuery, Ranked
from holdfast.core.text import analyze
from holdfast.core.values import check_bool, check_count, check_float


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Every part of the recipe, each switched off by its zero or False; a ``core.ranker.Ranker``.

    Weights are in units of the blend, where the best hit of both legs has 1. The defaults are
    the measured ones; see the module's text.
    """

    fusion: Literal["convex", "rrf"] = "convex"
    text_weight: float = 0.4
    vector_weight: float = 0.6
    rrf_k: float = 60.0
    """The constant of reciprocal rank fusion; 60 is Cormack et al. (2009)."""
    late_weight: float = 0.4
    """Share of the blend that a late reader's scores take from both legs, where there is one."""
    candidates: int = 200
    """Hits asked of each leg; 100 finds up to 1.5 % fewer evidence turns, 250 no more."""
    cut_names: bool = True
    speaker_boost: float = 0.3
    previous_turn: float = 0.3
    """Share of the previous turn's score, in a session between people."""
    next_turn: float = 0.2
    """Share of the next turn's score, in a session between people."""
    answer_turn: float = 0.3
    """Share of the next turn's score that a user's turn gains when an assistant takes part."""
    session_prior: float = 0.2
    """Share of the mean of the session's best turns."""
    session_best: int = 3
    date_words: bool = True
    """Index the words of a turn's date in the text leg."""
    date_boost: float = 0.3
    date_scale_days: float = 7.0
    """Distance from a named period at which the date boost has halved."""

    def __post_init__(self) -> None:
        """Raise ``Invalid`` for a constant with which no order is defined."""
        if self.fusion not in ("convex", "rrf"):
            raise Invalid("fusion", expected="convex or rrf", got=kind_of(self.fusion))
        for name in _SHARES:
            value = check_float(name, getattr(self, name))
            if not 0.0 <= value <= 10.0:
                raise Invalid(name, expected="a number from 0 to 10", got=repr(value))
        if not 0.0 <= check_float("late_weight", self.late_weight) <= 1.0:
            raise Invalid("late_weight", expected="a share, 0 to 1", got=repr(self.late_weight))
        if not self.text_weight + self.vector_weight > 0.0:
            raise Invalid("text_weight", expected="one of the two weights above 0", got="none")
        for name in ("rrf_k", "date_scale_days"):
            value = check_float(name, getattr(self, name))
            if not 0 < value < 1_000_000:
                raise Invalid(name, expected="a positive number", got=repr(value))
        for name in ("candidates", "session_best"):
            check_count(name, getattr(self, name), 1, 999_999)
        for name in ("cut_names", "date_words"):
            check_bool(name, getattr(self, name))

    @property
    def neighbours(self) -> bool:
        """Whether the turns next to a hit should be among the candidates."""
        return any((self.previous_turn, self.next_turn, self.answer_turn))

    def lexical_text(self, text: str, time: datetime | None = None) -> str:
        """Return what the text leg indexes: the text, and the words of its date."""
        if time is None or not self.date_words:
            return text
        from holdfast.recall.dates import date_words  # imported by those who speak of dates

        return f"{text} {date_words(time)}"

    def prepare(
        self, query: str, speakers: Sequence[str] = (), now: datetime | None = None
    ) -> PreparedQuery:
        """Read a query; see ``prepare_query``."""
        return prepare_query(query, speakers, self, now)

    def rank(
        self,
        query: PreparedQuery,
        candidates: Sequence[Candidate],
        k: int,
        *,
        explain: bool = False,
    ) -> list[Ranked]:
        """Order the candidates; see ``rank``."""
        return rank(query, candidates, self, k, explain=explain)


_SHARES = (
    "text_weight",
    "vector_weight",
    "speaker_boost",
    "previous_turn",
    "next_turn",
    "answer_turn",
    "session_prior",
    "date_boost",
)

PLAIN = Recipe(
    cut_names=False,
    speaker_boost=0.0,
    previous_turn=0.0,
    next_turn=0.0,
    answer_turn=0.0,
    session_prior=0.0,
    date_words=False,
    date_boost=0.0,
)
"""Fusion alone: for documents, and as the measure of what the other parts add."""


def prepare_query(
    query: str,
    speakers: Sequence[str] = (),
    recipe: Recipe | None = None,
    now: datetime | None = None,
) -> PreparedQuery:
    """Read a query: whom it names, which dates, and what is left to search for.

    ``speakers`` are the known speakers of the scope, as records spell them. A name is cut from
    both legs, because every turn about a person carries it and few answers do; a query that is
    nothing but names keeps them.
    """
    recipe = _DEFAULT if recipe is None else recipe
    named, remaining = _cut_names(query, speakers)
    if not recipe.cut_names or not analyze(remaining):
        remaining = query
    periods = _periods(query, now) if recipe.date_boost else ()
    return PreparedQuery(
        text=query,
        lexical=remaining,
        dense=remaining,
        speakers=named if recipe.speaker_boost else (),
        periods=periods,
        # A recipe of somebody's own may order by times, whatever the query says.
        timed=bool(periods) or type(recipe) is not Recipe,
    )


def _periods(query: str, now: datetime | None) -> tuple[Period, ...]:
    from holdfast.recall.dates import find_periods

    return find_periods(query, now)


_DEFAULT = Recipe()


def _cut_names(query: str, speakers: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the speakers that the query names, and the query without their names."""
    folded = query.casefold()
    remaining, named = query, []
    for speaker in sorted(set(speakers), key=lambda name: (-len(name), name)):
        if not speaker or speaker.casefold() in _ROLES or speaker.casefold() not in folded:
            continue
        pattern = re.compile(rf"(?<!\w){re.escape(speaker)}(?:['’]s)?(?!\w)", re.IGNORECASE)
        if pattern.search(query):
            named.append(speaker)
            remaining = pattern.sub(" ", remaining)
    if not named:
        return (), query
    return tuple(sorted(named)), " ".join(remaining.split())


_ROLES = frozenset({"user", "assistant", "system", "tool", "human", "ai"})
"""Words that label a side of a chat rather than name a person."""


def rank(
    query: PreparedQuery,
    candidates: Sequence[Candidate],
    recipe: Recipe | None = None,
    k: int = 10,
    *,
    explain: bool = False,
) -> list[Ranked]:
    """Return the best ``k`` candidates, best first; equal scores by key, ascending.

    Keys must be unique. Candidates without any score are neighbours: they are returned when what
    surrounds them lifts them above zero. With ``explain`` each result carries what every stage
    added. The answer depends on the candidates' values, never on their order.
    """
    recipe = _DEFAULT if recipe is None else recipe
    if k < 1 or not candidates:
        return []
    stages, totals = _stages(query, candidates, recipe)
    best = _best(candidates, totals, k)
    return [_ranked(candidates[i], totals[i], stages if explain else {}, i) for i in best]


def _best(candidates: Sequence[Candidate], totals: Sequence[float], k: int) -> list[int]:
    """The places of the k best, in order; unscored ones only where their total is above zero."""
    floor = sorted(totals)[-k] if k < len(totals) else 0.0
    if floor > 0.0:
        order = [(-total, candidates[i].key, i) for i, total in enumerate(totals) if total >= floor]
    else:
        order = [
            (-total, c.key, i)
            for i, (total, c) in enumerate(zip(totals, candidates, strict=True))
            if total > 0.0 or c.text_score is not None or c.vector_score is not None
        ]
    return [i for _, _, i in sorted(order)[:k]]


def _stages(
    query: PreparedQuery, candidates: Sequence[Candidate], recipe: Recipe
) -> tuple[dict[str, list[float]], list[float]]:
    """Return what each stage that has something to act on adds to each candidate; and the sums."""
    if recipe.fusion == "rrf":
        text = _reciprocal_ranks([(c.text_score, c.key) for c in candidates], recipe.rrf_k)
        vector = _reciprocal_ranks([(c.vector_score, c.key) for c in candidates], recipe.rrf_k)
    else:
        text = stretched([c.text_score for c in candidates], recipe.text_weight)
        vector = stretched([c.vector_score for c in candidates], recipe.vector_weight)
    stages = {"text": text, "vector": vector}
    late = [c.late_score for c in candidates] if recipe.late_weight else []
    if late.count(None) < len(late):
        left = 1.0 - recipe.late_weight
        stages = {name: [left * share for share in shares] for name, shares in stages.items()}
        stages["late"] = stretched(late, recipe.late_weight)
    first, *further = stages.values()
    blend = first
    for shares in further:
        blend = list(map(operator.add, blend, shares))
    totals = blend

    def add(name: str, gains: list[float]) -> None:
        nonlocal totals
        stages[name] = gains
        totals = list(map(operator.add, totals, gains))

    if query.speakers:
        gain, named = recipe.speaker_boost, frozenset(query.speakers)
        add("speaker", [gain if c.speaker in named else 0.0 for c in candidates])
    sessions = [c.session for c in candidates]
    if any(session is not None for session in sessions):
        together = _together(sessions)
        credit = _neighbour_credit(candidates, together, blend, recipe)
        if any(credit):
            add("neighbours", credit)
        if recipe.session_prior:
            add("session", _session_prior(together, totals, recipe))
    if query.periods:
        from holdfast.recall.dates import nearness

        near = nearness(query.periods, recipe.date_scale_days)
        add(
            "date",
            [0.0 if c.time is None else recipe.date_boost * near(c.time) for c in candidates],
        )
    return stages, totals


def _reciprocal_ranks(scored: Sequence[tuple[float | None, Any]], constant: float) -> list[float]:
    """Return (k + 1) / 2 / (k + rank): the usual ranks' shares, scaled so that both sum to 1."""
    order = sorted((-score, key, i) for i, (score, key) in enumerate(scored) if score is not None)
    shares = [0.0] * len(scored)
    for position, (_, _, i) in enumerate(order, 1):
        shares[i] = (constant + 1.0) / 2.0 / (constant + position)
    return shares


def _together(sessions: Sequence[str | None]) -> list[list[int]]:
    """The places of each session's candidates."""
    held: defaultdict[str, list[int]] = defaultdict(list)
    for i, session in enumerate(sessions):
        if session is not None:
            held[session].append(i)
    return list(held.values())


def _neighbour_credit(
    candidates: Sequence[Candidate],
    together: Sequence[Sequence[int]],
    blend: Sequence[float],
    recipe: Recipe,
) -> list[float]:
    """Return what each turn gains from the turns before and after it in its session.

    The answer to a question repeats little of it, so the turn next to a match is often the one
    that is wanted. Where an assistant takes part, the user's turn holds the fact and the long
    reply holds its words: there only the user's turn gains, and only from the reply.
    """
    credit = [0.0] * len(candidates)
    roles = [candidate.role for candidate in candidates]
    from_next, from_previous = recipe.next_turn, recipe.previous_turn
    for mine in together:
        if len(mine) == 1:
            continue
        turns = _turns(candidates, mine)
        for turn, i in turns.items():
            after = turns.get(turn + 1)
            if after is None:
                continue
            role = roles[i]
            if role in _PEOPLE and roles[after] in _PEOPLE:
                credit[i] += from_next * blend[after]
                credit[after] += from_previous * blend[i]
            elif role == "user":
                credit[i] += recipe.answer_turn * blend[after]
    return credit


def _turns(candidates: Sequence[Candidate], mine: Sequence[int]) -> dict[int, int]:
    """The places of one session's candidates by their turns."""
    turns: dict[Any, int] = {candidates[i].turn: i for i in mine}
    if len(turns) < len(mine):
        # Two records of one turn: the one of the lesser key, in whatever order they come.
        by_key = sorted(mine, key=lambda i: candidates[i].key, reverse=True)
        turns = {candidates[i].turn: i for i in by_key}
    turns.pop(None, None)
    return turns


_PEOPLE = frozenset({None, "user"})


def _session_prior(
    together: Sequence[Sequence[int]], scores: Sequence[float], recipe: Recipe
) -> list[float]:
    prior = [0.0] * len(scores)
    count = recipe.session_best
    for mine in together:
        best = sorted([scores[i] for i in mine], reverse=True)[:count]
        gain = recipe.session_prior * sum(best) / count
        for i in mine:
            prior[i] = gain
    return prior


def _ranked(candidate: Candidate, score: float, stages: dict[str, list[float]], at: int) -> Ranked:
    legs: Iterable[str] = (
        name
        for name, found in (("text", candidate.text_score), ("vector", candidate.vector_score))
        if found is not None
    )
    parts = {name: gains[at] for name, gains in stages.items() if gains[at]}
    return Ranked(key=candidate.key, score=score, legs=tuple(legs), parts=parts)
