"""What the searches of one recall brought, and the little of each row that ranking needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Final

import msgspec

from holdfast.core.filter import Record
from holdfast.core.ranker import Candidate, Ranked

RANKED_BY: Final = ("session", "turn", "speaker", "said_at", "role", "fingerprint")
"""Fields by which candidates are ordered; hundreds are, so only results are read whole."""

Place = tuple[str | int, ...]
"""A turn's open scope fields, its session and its number."""


class Found(msgspec.Struct):
    """Scores and rows by id.

    ``rows`` hold at least `RANKED_BY` and the ``scope`` fields, ``whole`` all of what was read in
    full, ``spans`` the best stretch of a long content.
    """

    scope: tuple[str, ...]
    """The scope fields that the handle leaves open, in which rows can differ."""
    text: dict[str, float] = {}
    vector: dict[str, float] = {}
    rows: dict[str, Record] = {}
    whole: dict[str, Record] = {}
    spans: dict[str, tuple[int, int]] = {}
    full: bool = False
    """Whether a leg was cut at the number asked for, so that a wider search would bring more."""

    def candidates(self) -> list[Candidate]:
        """Every row as the ranker sees it."""
        text, vector, scope = self.text.get, self.vector.get, self.scope
        sessions: dict[tuple[str, ...], str] = {}
        made = []
        for key, row in self.rows.items():
            session = row["session"]
            if session is not None and scope:
                parts = (*[row[part] for part in scope], session)
                session = sessions.get(parts)
                if session is None:
                    # Sessions of two users may have one name and are still two.
                    session = sessions[parts] = "\n".join(parts)
            made.append(
                Candidate(
                    key=key,
                    text_score=text(key),
                    vector_score=vector(key),
                    speaker=row["speaker"],
                    session=session,
                    turn=row["turn"],
                    time=row["said_at"],
                    role=row["role"],
                )
            )
        return made

    def best(self, count: int) -> set[str]:
        """The ids of each leg's highest scores."""
        return {i for leg in (self.text, self.vector) for i in _highest(leg, count)}

    def missing_places(self, ids: Iterable[str]) -> set[Place]:
        """The places before and after these rows at which no row was found."""
        rows = self.rows
        beside = {
            place
            for i in ids
            if (row := rows[i])["session"] is not None and row["turn"] is not None
            for place in (self.place(row, -1), self.place(row, 1))
        }
        return beside.difference(self.place(row) for row in rows.values()) if beside else beside

    def place(self, row: Record, step: int = 0) -> Place:
        """Where a row stands, or the turn so many steps on; None for what it does not have."""
        turn = row["turn"]
        return (
            *[row[part] for part in self.scope],
            row["session"],
            turn if turn is None or not step else turn + step,
        )

    def beside(self, results: Sequence[Ranked]) -> dict[str, tuple[str, ...]]:
        """The ids of the known turns before and after each result that is a turn."""
        turns = [
            row
            for one in results
            if (row := self.rows[one.key])["session"] is not None and row["turn"] is not None
        ]
        sessions = {row["session"] for row in turns}
        known = {self.place(row): i for i, row in self.rows.items() if row["session"] in sessions}
        places = {row["id"]: (self.place(row, -1), self.place(row, 1)) for row in turns}
        return {i: tuple(known[p] for p in pair if p in known) for i, pair in places.items()}


def _highest(scores: dict[str, float], count: int) -> list[str]:
    """The ids of the highest scores, ties by id."""
    if len(scores) <= count:
        return list(scores)
    return nsmallest(count, scores, key=lambda memory_id: (-scores[memory_id], memory_id))
