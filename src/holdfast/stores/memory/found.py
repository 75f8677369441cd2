"""What the searches of one recall brought, and the little of each memory that ranking needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from holdfast.core.filter import Record
from holdfast.core.ranker import Candidate, Ranked
from holdfast.core.search import RecordSet

RANKED_BY: Final = ("session", "turn", "speaker", "role", "fingerprint")
"""Fields by which candidates are ordered; hundreds are, so only results are read whole."""
TIMED_BY: Final = "said_at"
"""The same for a query by whose words a time counts."""

Turn = tuple[str, int]
"""A session, told apart from others of its name by its scope, and a number in it."""


class Found:
    """Scores by id, and the fields that count of each memory.

    ``whole`` holds all fields of what was read in full, ``spans`` the best stretch of a long
    content. ``full`` says that a leg was cut at the number asked for, so that a wider search would
    bring more. There are hundreds of memories, so fields are kept as columns, and each step is one
    call for all of them.
    """

    def __init__(self, scope: tuple[str, ...], *, timed: bool) -> None:
        """``scope`` are the scope fields that the handle leaves open, in which rows can differ.

        ``timed`` says that times are read too.
        """
        self.fields: Final = (*scope, *RANKED_BY, *([TIMED_BY] if timed else []))
        """What `add` needs of each memory besides its id."""
        self.text: dict[str, float] = {}
        self.late: dict[str, float] = {}
        self.vector: dict[str, float] = {}
        self.whole: dict[str, Record] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self.full = False
        self._scope = scope
        self._names = _Names()
        self._ids: list[str] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in (*RANKED_BY, TIMED_BY)}
        self._sessions: list[str | None] = []
        """The sessions, each told apart from others of its name."""
        self._places: dict[str, int] = {}
        self._turns: dict[tuple[str | None, int | None], str] = {}

    def __contains__(self, memory_id: str) -> bool:
        return memory_id in self._places

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Sequence[str]:
        """Of all memories, in the order in which they were added."""
        return self._ids

    def fingerprint(self, memory_id: str) -> str:
        """Of the content that the search found."""
        found: str = self._columns["fingerprint"][self._places[memory_id]]
        return found

    def add(self, rows: Iterable[Record]) -> None:
        """Take memories in; one that is there already stays as it was."""
        fresh = {row["id"]: row for row in rows if row["id"] not in self._places}
        listed = list(fresh.values())
        self._extend(
            list(fresh), {name: list(map(itemgetter(name), listed)) for name in self.fields}
        )

    def add_hits(self, records: RecordSet) -> None:
        """Take in what a search brought, before anything else is there."""
        ids, *columns = records.columns("id", *self.fields)
        self._extend(ids, dict(zip(self.fields, columns, strict=True)))

    def _extend(self, ids: Sequence[str], fields: Mapping[str, Sequence[Any]]) -> None:
        start = len(self._ids)
        self._ids.extend(ids)
        self._places.update(zip(ids, range(start, len(self._ids)), strict=True))
        times = fields.get(TIMED_BY) or [None] * len(ids)
        for name, column in self._columns.items():
            column.extend(times if name == TIMED_BY else fields[name])
        sessions = self._named(fields)
        self._sessions.extend(sessions)
        self._add_turns(ids, sessions, fields["turn"])

    def _add_turns(
        self, ids: Sequence[str], sessions: Sequence[str | None], turns: Sequence[int | None]
    ) -> None:
        """Note who stands at which turn; of several, the one of the least id, as for the ranker."""
        if turns.count(None) == len(turns):
            return
        known = self._turns
        for turn, memory_id in zip(zip(sessions, turns, strict=True), ids, strict=True):
            if known.setdefault(turn, memory_id) > memory_id:
                known[turn] = memory_id

    def _named(self, fields: Mapping[str, Sequence[Any]]) -> Sequence[str | None]:
        if not self._scope:
            return fields["session"]
        columns = [fields[name] for name in self._scope]
        if all(len(set(column)) == 1 for column in columns):
            place = "\n".join([*(column[0] for column in columns), ""])
            return [None if one is None else place + one for one in fields["session"]]
        places = zip(*columns, fields["session"], strict=True)
        return list(map(self._names.__getitem__, places))

    def add_neighbours(self, rows: Iterable[Record], wanted: Mapping[Turn, str]) -> None:
        """Take in those memories that stand at a wanted turn of their own scope's session."""
        place = itemgetter(*self._scope, "session") if self._scope else itemgetter("session")
        name = self._names.__getitem__ if self._scope else lambda session: session
        self.add([row for row in rows if (name(place(row)), row["turn"]) in wanted])

    def missing_turns(self, count: int) -> dict[Turn, str]:
        """The turns beside each leg's ``count`` best at which none was found, and their names."""
        missing: dict[Turn, str] = {}
        sessions, turns = self._sessions, self._turns
        for key in {*_best(self.text, count), *_best(self.vector, count)}:
            at = self._places[key]
            session, turn = sessions[at], self._columns["turn"][at]
            if session is None or turn is None:
                continue
            for number in (turn - 1, turn + 1):
                if (session, number) not in turns:
                    missing[session, number] = f"{self._columns['session'][at]}#{number}"
        return missing

    def candidates(self) -> list[Candidate]:
        """Every memory as the ranker sees it."""
        ids, columns = self._ids, self._columns
        found = map(
            Candidate,
            ids,
            map(self.text.get, ids),
            map(self.vector.get, ids),
            map(self.late.get, ids),
            columns["speaker"],
            self._sessions,
            columns["turn"],
            columns[TIMED_BY],
            columns["role"],
        )
        return list(found)

    def beside(self, one: Ranked) -> tuple[str, ...]:
        """The ids of the known turns before and after a result that is a turn, in this order.

        Where several memories stand at one turn, that is the one of the least id.
        """
        at = self._places[one.key]
        session, turn = self._sessions[at], self._columns["turn"][at]
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
