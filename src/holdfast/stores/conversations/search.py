"""Finding messages again: by words and by meaning, ranked by the recipe of the storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal

from holdfast.core.errors import HoldfastError
from holdfast.core.filter import Filter, Record, among, both, either, eq, ge, le, ne
from holdfast.core.query import asc
from holdfast.core.ranker import Candidate, PreparedQuery, Ranked, Ranker
from holdfast.core.search import Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import (
    Vector,
    check_bool,
    check_count,
    check_keyed_text,
    check_text,
    check_time,
    vector_of,
)
from holdfast.stores.conversations.found import FoundMessage, FoundMessages
from holdfast.stores.conversations.records import (
    CONVERSATIONS,
    MESSAGE_VECTORS,
    MESSAGES,
    PARTICIPANTS,
    Message,
    Role,
)
from holdfast.stores.given import check_verbs
from holdfast.stores.memory.fusion import PlainRanker, SingleLeg
from holdfast.stores.owned import Owned
from holdfast.stores.store import builder, one_of

Mode = Literal["hybrid", "vector", "keyword"]
K_LIMIT: Final = 1_000
"""Most results of one search."""
TERM_LIMIT: Final = 128
"""Terms of a query that are looked up; a longer one is flagged "query_terms_cut"."""
SPEAKER_LIMIT: Final = 1_000
"""Participants that a query is read with; more are flagged "speakers_cut"."""
CREDITED: Final = 20
"""Best hits of each leg whose neighbours are looked up, or k if that is more."""
_RANKED_BY: Final = ("conversation_id", "sequence", "sender_id", "role")
_TIMED_BY: Final = "created_at"
"""Read as well for a query by whose words a time counts."""
_PLACES: Final = 15
"""Conversations whose turns one query looks up: a filter has at most 64 parts."""

_build = builder(Message)


class MessageSearch(Owned):
    """Searches messages by their words and, once they are embedded, by meaning."""

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        conversation_id: str | None = None,
        sender_id: str | None = None,
        role: Role | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        mode: Mode = "hybrid",
        ranker: Ranker | None = None,
        explain: bool = False,
    ) -> FoundMessages:
        """The ``k`` (0 to 1000) best messages for ``query``, ties by id.

        Nothing in the query is grammar. The filters hold before the limit; ``start`` and ``end``
        are included. An unknown conversation or sender has none. By meaning those are found that
        ``embeddings.run`` has reached, the others by their words. ``ranker`` is the storage's
        unless given; with ``mode`` one leg answers alone, by its own scores. In vector mode a
        query that cannot be embedded raises what the embedder raises; else it is flagged.
        """
        check_text("query", query)
        check_count("k", k, 0, K_LIMIT)
        check_bool("explain", explain)
        talk = conversation_id
        if talk is not None:
            talk = check_keyed_text("conversation_id", talk)
        where = (
            None if talk is None else eq("conversation_id", talk),
            None if sender_id is None else eq("sender_id", check_text("sender_id", sender_id)),
            None if role is None else eq("role", one_of("role", role, Role)),
            None if start is None else ge("created_at", check_time("start", start)),
            None if end is None else le("created_at", check_time("end", end)),
            self._through("conversation_id", CONVERSATIONS),
        )
        one_of("mode", mode, Mode)
        check_verbs("ranker", ranker, "prepare", "rank")
        if mode != "hybrid":
            ranker = SingleLeg()
        elif ranker is None:
            ranker = self._runtime.ranker or PlainRanker()
        if not k:
            return FoundMessages([])
        return _Searching(self, query, k, where, mode, ranker, explain).run()


class _Searching:
    """The steps of one search; made for it and thrown away."""

    def __init__(
        self,
        store: MessageSearch,
        query: str,
        k: int,
        where: tuple[Filter | None, ...],
        mode: Mode,
        ranker: Ranker,
        explain: bool,
    ) -> None:
        self._store = store
        self._query = query
        self._k = k
        self._where = both(*where)
        self._conversation = where[0]
        self._mode = mode
        self._ranker = ranker
        self._explain = explain
        self._flags: list[str] = []
        self._text: dict[str, float] = {}
        self._vector: dict[str, float] = {}
        self._rows: dict[str, Record] = {}
        self._space: str | None = None
        self._fields: tuple[str, ...] = _RANKED_BY

    def run(self) -> FoundMessages:
        """Ask both legs, look beside their hits, order, and read the results whole."""
        names = self._names()
        prepared = self._ranker.prepare(self._query, sorted({*names.values()}), self._store._now())
        if prepared.timed:
            self._fields += (_TIMED_BY,)
        terms = self._terms(prepared)
        width = min(max(self._k, self._ranker.candidates), K_LIMIT)
        self._ask_text(terms, width)
        self._ask_vectors(prepared, width)
        if self._ranker.neighbours:
            self._add_neighbours()
        candidates = [self._candidate(row, names) for row in self._rows.values()]
        ranked = self._ranker.rank(prepared, candidates, self._k, explain=self._explain)
        items = self._results(ranked)
        return FoundMessages(items, tuple(self._flags), self._stages(terms))

    # --- the query

    def _names(self) -> dict[str, str]:
        """Participants' names by id, for a query that may name them; of the bound scope."""
        if self._mode != "hybrid":
            return {}
        store, fields = self._store, ("id", "name")
        through = store._through("conversation_id", CONVERSATIONS)
        held = store._all(
            PARTICIPANTS,
            self._conversation,
            through,
            order=asc("id"),
            limit=SPEAKER_LIMIT,
            fields=fields,
        )
        if len(held) == SPEAKER_LIMIT:
            self._flags.append("speakers_cut")
        return {row["id"]: row["name"] for row in held if row["name"]}

    def _terms(self, prepared: PreparedQuery) -> tuple[str, ...]:
        if self._mode == "vector":
            return ()
        terms = tuple(dict.fromkeys(analyze(prepared.lexical)))
        if len(terms) > TERM_LIMIT:
            self._flags.append("query_terms_cut")
        return terms[:TERM_LIMIT]

    def _query_vector(self, prepared: PreparedQuery) -> Vector | None:
        embedder = self._store._runtime.embedder
        if self._mode == "keyword" or embedder is None or not prepared.dense.strip():
            return None
        if self._mode == "hybrid" and not self._store._driver.capabilities.vectors:
            self._flags.append("vectors_not_offered")
            return None
        try:
            [row] = embedder.embed([prepared.dense], "query")
            return vector_of("query", embedder.space.id, row)
        except (HoldfastError, ValueError):
            if self._mode == "vector":
                raise
            self._flags.append("query_embedding_failed")
            return None

    # --- finding

    def _ask_text(self, terms: tuple[str, ...], width: int) -> None:
        if not terms:
            return
        hits = self._store._driver.search(
            self._store._scope.tenant,
            Search(
                collection=MESSAGES.name,
                filter=self._where,
                k=width,
                text=TextLeg(terms=terms),
                fields=self._fields,
            ),
        )
        self._text = {hit.key[0]: hit.score for hit in hits.text}
        self._add(hits.records.values())

    def _ask_vectors(self, prepared: PreparedQuery, width: int) -> None:
        """Messages by meaning; filtered on their vectors' records, then read and filtered again."""
        vector = self._query_vector(prepared)
        if vector is None:
            return
        self._space = vector.space
        hits = self._store._driver.search(
            self._store._scope.tenant,
            Search(
                collection=MESSAGE_VECTORS.name,
                filter=self._where,
                k=width,
                vector=VectorLeg(field="embedding", vector=vector),
                fields=("message_id",),
            ),
        )
        found = {hit.key[0]: hit.score for hit in hits.vector}
        self._read(among("id", [key for key in found if key not in self._rows]))
        self._vector = {key: score for key, score in found.items() if key in self._rows}
        self._note_unembedded(vector.space)

    def _note_unembedded(self, space: str) -> None:
        """Flag that words found messages which have no vector yet, or that none has any."""
        if not self._vector:
            said = self._store._all(
                MESSAGES, self._where, ne("text", ""), limit=1, fields=("sequence",)
            )
            if said:
                self._flags.append("not_embedded")
            return
        unseen = [key for key in self._text if key not in self._vector]
        if unseen:
            made = both(among("message_id", unseen), eq("space", space))
            have = self._store._all(MESSAGE_VECTORS, made, fields=("message_id",))
            if len(have) < len(unseen):
                self._flags.append("not_embedded")

    def _add_neighbours(self) -> None:
        """The eligible messages before and after each of the best hits."""
        count = max(CREDITED, self._k)
        held = {(row["conversation_id"], row["sequence"]) for row in self._rows.values()}
        missing: dict[str, set[int]] = {}
        for leg in (self._text, self._vector):
            for key in list(leg)[:count]:  # legs come best first
                row = self._rows[key]
                for number in (row["sequence"] - 1, row["sequence"] + 1):
                    if number > 0 and (row["conversation_id"], number) not in held:
                        missing.setdefault(row["conversation_id"], set()).add(number)
        for some in _parted(missing):
            places = [
                both(eq("conversation_id", owner), among("sequence", sorted(numbers)))
                for owner, numbers in some
            ]
            self._read(either(*places))

    def _read(self, part: Filter) -> None:
        self._add(self._store._all(MESSAGES, part, self._where, fields=self._fields))

    def _add(self, rows: Iterable[Record]) -> None:
        for row in rows:
            self._rows.setdefault(row["id"], row)

    # --- ordering and answering

    def _candidate(self, row: Record, names: dict[str, str]) -> Candidate:
        sender = row["sender_id"]
        return Candidate(
            key=row["id"],
            text_score=self._text.get(row["id"]),
            vector_score=self._vector.get(row["id"]),
            speaker=None if sender is None else names.get(sender, sender),
            session=row["conversation_id"],
            turn=row["sequence"],
            time=row.get(_TIMED_BY),
            role=row["role"],
        )

    def _results(self, ranked: list[Ranked]) -> list[FoundMessage]:
        """The results read whole; what has been removed meanwhile is left out."""
        if not ranked:
            return []
        part = among("id", [one.key for one in ranked])
        whole = {row["id"]: row for row in self._store._all(MESSAGES, part, self._where)}
        return [
            FoundMessage(
                message=_build(whole[one.key]),
                score=one.score,
                legs=one.legs,
                parts=self._parts(one),
            )
            for one in ranked
            if one.key in whole
        ]

    def _parts(self, one: Ranked) -> dict[str, float]:
        if not self._explain:
            return {}
        raw = (("bm25", self._text), ("cosine", self._vector))
        scores = {name: scores[one.key] for name, scores in raw if one.key in scores}
        return {**one.parts, **scores}

    def _stages(self, terms: tuple[str, ...]) -> dict[str, Any]:
        if not self._explain:
            return {}
        legs = self._text.keys() | self._vector.keys()
        return {
            "mode": self._mode,
            "terms": list(terms),
            "space": self._space,
            "text": len(self._text),
            "vector": len(self._vector),
            "neighbours": len(self._rows.keys() - legs),
        }


def _parted(places: dict[str, set[int]]) -> Iterator[list[tuple[str, set[int]]]]:
    ordered = sorted(places.items())
    for first in range(0, len(ordered), _PLACES):
        yield ordered[first : first + _PLACES]
