"""What the searches of one recall brought, and the little of each row that ranking needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from holdfast.core.filter import Record
from holdfast.core.ranker import Candidate, Ranked

RANKED_BY: Final = ("session", "turn", "speaker", "role", "fingerprint")
"""Fields by which candidates are ordered; hundreds are, so only results are read whole."""
TIMED_BY: Final = "said_at"
"""The same for a query by whose words a time counts."""

Turn = tuple[str, int]
"""A session, told apart from others of its name by its scope, and a number in it."""


class Found:
    """Scores and rows by id.

    ``rows`` hold at least `RANKED_BY` and the open scope, ``whole`` all fields of what was read in
    full, ``spans`` the best stretch of a long content. ``full`` says that a leg was cut at the
    number asked for, so that a wider search would bring more.
    """

    def __init__(self, scope: tuple[str, ...]) -> None:
        """``scope`` are the scope fields that the handle leaves open, in which rows can differ."""
        self.text: dict[str, float] = {}
        self.late: dict[str, float] = {}
        self.vector: dict[str, float] = {}
        self.rows: dict[str, Record] = {}
        self.whole: dict[str, Record] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.full = False
        self._place = itemgetter(*scope, "session") if scope else None
        self._names = _Names()
        self._sessions: dict[str, str | None] = {}
        self._turns: dict[tuple[str | None, int | None], str] = {}

    def add(self, rows: Iterable[Record]) -> None:
        """Take rows in; one that is there already stays as it was."""
        # There are hundreds, so each step is one call for all of them.
        held = self.rows
        fresh = {row["id"]: row for row in rows if row["id"] not in held}
        held.update(fresh)
        if self._place is None:
            sessions = list(map(itemgetter("session"), fresh.values()))
        else:
            sessions = list(map(self._names.__getitem__, map(self._place, fresh.values())))
        self._sessions.update(zip(fresh, sessions, strict=True))
        turns = zip(sessions, map(itemgetter("turn"), fresh.values()), strict=True)
        self._turns.update(zip(turns, fresh, strict=True))

    def add_neighbours(self, rows: Iterable[Record], wanted: dict[Turn, str]) -> None:
        """Take in those rows that stand at a wanted turn of their own scope's session."""
        place, name = self._place, self._names.get
        if place is None:
            self.add([row for row in rows if (row["session"], row["turn"]) in wanted])
        else:
            self.add([row for row in rows if (name(place(row)), row["turn"]) in wanted])

    def missing_turns(self, count: int) -> dict[Turn, str]:
        """The turns beside each leg's ``count`` best at which no row was found, and their names."""
        missing: dict[Turn, str] = {}
        rows, sessions, turns = self.rows, self._sessions, self._turns
        for key in {*_best(self.text, count), *_best(self.vector, count)}:
            session, row = sessions.get(key), rows[key]
            turn = row["turn"]
            if session is None or turn is None:
                continue
            for number in (turn - 1, turn + 1):
                if (session, number) not in turns:
                    missing[session, number] = f"{row['session']}#{number}"
        return missing

    def candidates(self) -> list[Candidate]:
        """Every row as the ranker sees it."""
        ids, rows = list(self.rows), list(self.rows.values())
        found = map(
            Candidate,
            ids,
            map(self.text.get, ids),
            map(self.vector.get, ids),
            map(self.late.get, ids),
            map(itemgetter("speaker"), rows),
            map(self._sessions.get, ids),
            map(itemgetter("turn"), rows),
            [row.get(TIMED_BY) for row in rows],
            map(itemgetter("role"), rows),
        )
        return list(found)

    def beside(self, one: Ranked) -> tuple[str, ...]:
        """The ids of the known turns before and after a result that is a turn."""
        session, turn = self._sessions.get(one.key), self.rows[one.key]["turn"]
        if session is None or turn is None:
            return ()
        found = (self._turns.get((session, number)) for number in (turn - 1, turn + 1))
        return tuple(key for key in found if key is not None)


class _Names(dict[tuple[str | None, ...], str | None]):
    """Sessions with their scope as one text: two users' may have one name and are still two."""

    def __missing__(self, place: tuple[Any, ...]) -> str | None:
        name = self[place] = None if place[-1] is None else "\n".join(place)
        return name


def _best(scores: dict[str, float], count: int) -> Sequence[str]:
    """The ids of the highest scores, ties by id."""
    ids = scores if len(set(scores.values())) == len(scores) else sorted(scores)
    # All but done: legs come best first.
    return sorted(ids, key=scores.__getitem__, reverse=True)[:count]
