"""One recall: both legs in one search, neighbours in one look-up, then the ranker's order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import nsmallest
from typing import Any, Final, Literal

import msgspec

from holdfast.core.embedding import Reranker
from holdfast.core.errors import HoldfastError, Invalid, InvalidVector, TooLarge
from holdfast.core.filter import Filter, InSelect, Record, among
from holdfast.core.query import asc
from holdfast.core.ranker import Candidate, PreparedQuery, Ranked, Ranker
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.search import Hit, Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import (
    Vector,
    check_bool,
    check_count,
    check_float,
    check_text,
    check_time,
    vector_of,
)
from holdfast.stores.memory.archive import cold_hits
from holdfast.stores.memory.base import MemoryStore, given_space
from holdfast.stores.memory.fields import check_one_of, place_of
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.fusion import PlainRanker, SingleLeg
from holdfast.stores.memory.recollection import Recalled, Recollection
from holdfast.stores.memory.records import (
    CHUNKS,
    MEMORIES,
    SPEAKERS,
    Space,
)

Mode = Literal["hybrid", "vector", "keyword"]
MODES: Final = ("hybrid", "vector", "keyword")
K_LIMIT: Final = 1_000
"""Most results of a recall and most hits of a leg."""
TERM_LIMIT: Final = 128
"""Terms of a query that are looked up; a longer one is flagged "query_terms_cut"."""
SPEAKER_LIMIT: Final = 1_000
"""Known speakers that a query is read with; more are flagged "speakers_cut"."""
CREDITED: Final = 50
"""Best hits of each leg whose neighbours are looked up, or k if that is more: what a weaker hit
lends lifts no turn into the results (LoCoMo's public part: the same R@10 as with all hits)."""
RERANKED: Final = 50
"""How many results a reranker reads."""
WIDEN: Final = 4
"""Factor by which a search that came out short is repeated."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A recall's arguments, checked."""

    query: str | None
    vector: Any
    k: int
    mode: str
    threshold: float
    where: Filter | None
    now: datetime
    include_archived: bool
    rerank: bool
    ranker: Any
    explain: bool


def ask(**given: Any) -> Ask:
    """The arguments in canonical form, or Invalid naming the one that is wrong."""
    query, vector, threshold = given["query"], given["vector"], given["threshold"]
    checked = Ask(
        query=None if query is None else check_text("query", query),
        vector=vector,
        k=check_count("k", given["k"], 1, K_LIMIT),
        mode=check_one_of("mode", given["mode"], MODES),
        threshold=0.0 if threshold is None else check_float("threshold", threshold),
        where=given["where"],
        now=check_time("as_of", given["now"]),
        include_archived=check_bool("include_archived", given["include_archived"]),
        rerank=check_bool("rerank", given["rerank"]),
        ranker=given["ranker"],
        explain=check_bool("explain", given["explain"]),
    )
    if query is None and vector is None:
        raise Invalid("query", expected="a query, a vector, or both", got="neither")
    if query is None and checked.mode == "keyword":
        raise Invalid("query", expected="a query for keyword recall", got="none")
    return checked


class _Found(msgspec.Struct):
    """What one search brought: scores by id, records by id, the best stretch by id."""

    text: dict[str, float]
    vector: dict[str, float]
    rows: dict[str, Record]
    chunks: dict[str, str]
    full: bool
    """Whether a leg was cut at the number asked for, so that a wider search would bring more."""


class Recalling:
    """The steps of one recall; made for it and thrown away."""

    def __init__(self, store: MemoryStore, asked: Ask) -> None:
        self._store = store
        self._ask = asked
        self._flags: list[str] = []
        self._cut: dict[str, str] = {}
        self._stages: dict[str, Any] = {}
        self._where = store._within(MEMORIES, present_at(asked.now), asked.where)
        self._ranker = self._ranker_of(asked)

    def run(self) -> Recollection:
        """Search as wide as it takes for k results, order them, and say how."""
        prepared = self._prepared()
        vector, space = self._query_vector(prepared)
        terms = self._terms(prepared)
        width = min(max(self._ranker.candidates, self._ask.k), K_LIMIT)
        while True:
            found = self._search(terms, vector, space, width)
            ranked, neighbours = self._ranked(prepared, found)
            kept = self._distinct(ranked, found.rows)
            if len(kept) >= self._ask.k or not found.full or width == K_LIMIT:
                break
            width = min(width * WIDEN, K_LIMIT)
        ordered, scores = self._reranked(prepared, kept, found)
        items = [
            self._recalled(one, found, scores.get(one.key), neighbours)
            for one in ordered[: self._ask.k]
        ]
        for one in ordered[self._ask.k :]:
            self._cut[one.key] = "beyond k"
        return Recollection(items, tuple(self._flags), self._explanation(found, terms, space))

    # --- the query

    def _ranker_of(self, asked: Ask) -> Ranker:
        """Single legs keep their own scores; only a hybrid recall is blended."""
        if asked.mode != "hybrid":
            return SingleLeg()
        return asked.ranker if asked.ranker is not None else PlainRanker()

    def _prepared(self) -> PreparedQuery:
        query = self._ask.query or ""
        speakers: list[str] = []
        if self._ask.mode == "hybrid" and self._ask.ranker is not None and query:
            rows = self._store._all(SPEAKERS, order=asc("name"), limit=SPEAKER_LIMIT)
            speakers = [row["name"] for row in rows]
            if len(rows) == SPEAKER_LIMIT:
                self._flags.append("speakers_cut")
        return self._ranker.prepare(query, speakers, self._ask.now)

    def _terms(self, prepared: PreparedQuery) -> tuple[str, ...]:
        if self._ask.mode == "vector":
            return ()
        terms = tuple(dict.fromkeys(analyze(prepared.lexical)))
        if len(terms) > TERM_LIMIT:
            self._flags.append("query_terms_cut")
        return terms[:TERM_LIMIT]

    def _query_vector(self, prepared: PreparedQuery) -> tuple[Vector | None, Space | None]:
        """The vector to search with and the space it is of; None where there is none to use."""
        if self._ask.mode == "keyword":
            return None, None
        embedder = self._store._runtime.embedder
        if self._ask.vector is not None:
            return self._callers_vector()
        if embedder is None or not prepared.dense.strip():
            return None, None
        space = self._store._space(embedder.space.id)
        if space is None:
            return None, None
        try:
            [row] = embedder.embed([prepared.dense], "query")
            return vector_of("query", space.id, row), space
        except (HoldfastError, ValueError) as error:
            if self._ask.mode == "vector":
                raise
            self._flags.append("query_embedding_failed")
            self._stages["query_embedding"] = getattr(error, "code", type(error).__name__)
            return None, None

    def _callers_vector(self) -> tuple[Vector | None, Space | None]:
        """A vector that cannot be compared matches nothing; it is flagged and raises nothing."""
        embedder = self._store._runtime.embedder
        try:
            vector = vector_of("vector", "", self._ask.vector)
        except (InvalidVector, TooLarge):
            self._flags.append("vector_unusable")
            return None, None
        space_id = given_space(vector.width) if embedder is None else embedder.space.id
        active = self._store._active_space()
        width = vector.width if embedder is None else embedder.space.width
        if width != vector.width or (active is not None and active.id != space_id):
            self._flags.append("vector_unusable")
            return None, None
        return (None, None) if active is None else (Vector(space_id, vector.data), active)

    # --- finding

    def _search(
        self, terms: tuple[str, ...], vector: Vector | None, space: Space | None, width: int
    ) -> _Found:
        if not terms and vector is None:
            return _Found({}, {}, {}, {}, False)
        leg = None
        if vector is not None and space is not None:
            leg = VectorLeg(field=space.slot, vector=vector)
        floor = self._ask.threshold if self._ask.mode == "vector" and self._ask.threshold else None
        hits = self._store._driver.search(
            self._store._scope.tenant,
            Search(
                collection=MEMORIES.name,
                filter=self._where,
                k=width,
                text=TextLeg(terms=terms) if terms else None,
                vector=leg,
                minimum=floor,
            ),
        )
        rows = {key[0]: record for key, record in hits.records.items()}
        found = _Found(
            text={hit.key[0]: hit.score for hit in hits.text},
            vector={hit.key[0]: hit.score for hit in hits.vector},
            rows=rows,
            chunks={},
            full=len(hits.text) >= width or len(hits.vector) >= width,
        )
        if leg is not None and space is not None and space.chunked:
            self._add_chunks(found, leg, width, floor)
        if self._ask.include_archived:
            self._add_archived(found, terms, vector)
        return found

    def _add_chunks(self, found: _Found, leg: VectorLeg, width: int, floor: float | None) -> None:
        """Pool the stretches of long memories: a memory scores as its best one."""
        owners = InSelect("memory_id", MEMORIES.name, "id", self._where)
        search = Search(
            collection=CHUNKS.name,
            filter=self._store._within(CHUNKS, owners),
            k=width,
            vector=leg,
            minimum=floor,
        )
        hits: Hits = self._store._driver.search(self._store._scope.tenant, search)
        best: dict[str, Hit] = {}
        for hit in hits.vector:
            best.setdefault(hit.key[0], hit)
        missing = [memory_id for memory_id in best if memory_id not in found.rows]
        if missing:
            rows = self._store._all(MEMORIES, among("id", missing), self._where)
            found.rows.update({row["id"]: row for row in rows})
        found.full = found.full or len(hits.vector) >= width
        for memory_id, hit in best.items():
            row, chunk = found.rows.get(memory_id), hits.records[hit.key]
            # Stretches of a content that has been replaced in between say nothing of the new one.
            if row is None or row["fingerprint"] != chunk["fingerprint"]:
                continue
            found.vector[memory_id] = max(hit.score, found.vector.get(memory_id, -1.0))
            found.chunks[memory_id] = row["content"][chunk["start"] : chunk["end"]]

    def _add_archived(self, found: _Found, terms: tuple[str, ...], vector: Vector | None) -> None:
        cold = cold_hits(self._store, self._where, terms, vector)
        found.rows.update(cold.rows)
        found.text.update(cold.text)
        floor = self._ask.threshold if self._ask.mode == "vector" else 0.0
        found.vector.update({k: s for k, s in cold.vector.items() if not floor or s >= floor})
        self._stages["archived"] = len(cold.rows)

    # --- ordering

    def _ranked(
        self, prepared: PreparedQuery, found: _Found
    ) -> tuple[list[Ranked], dict[str, str]]:
        """All candidates in order, and the ids of known turns by scoped place."""
        if self._ranker.neighbours:
            count = max(CREDITED, self._ask.k)
            best = {*_best(found.text, count), *_best(found.vector, count)}
            self._add_neighbours(found, best)
        candidates = [_candidate(row, found) for row in found.rows.values()]
        ranked = self._ranker.rank(prepared, candidates, len(candidates), explain=self._ask.explain)
        places = {_scoped_place(row, 0): i for i, row in found.rows.items() if row["place"]}
        return ranked, places

    def _add_neighbours(self, found: _Found, scored: Iterable[str]) -> None:
        """The eligible turns before and after each hit, in one look-up."""
        held = {row["place"] for row in found.rows.values() if row["place"]}
        wanted = set()
        for memory_id in scored:
            row = found.rows[memory_id]
            if row["place"]:
                wanted |= {place_of(row["session"], row["turn"] + step) for step in (-1, 1)}
        wanted -= held if self._store._scope.bound().keys() >= set(SCOPE_FIELDS) else set()
        if wanted:
            rows = self._store._all(MEMORIES, among("place", sorted(wanted)), self._where)
            for row in rows:
                found.rows.setdefault(row["id"], row)

    def _distinct(self, ranked: Sequence[Ranked], rows: dict[str, Record]) -> list[Ranked]:
        """The first of each content, at or above the threshold."""
        kept: list[Ranked] = []
        first: dict[str, str] = {}
        for one in ranked:
            row = rows[one.key]
            if self._ask.threshold and one.score < self._ask.threshold:
                self._cut[one.key] = "below threshold"
            elif row["fingerprint"] in first:
                self._cut[one.key] = f"same content as {first[row['fingerprint']]}"
            else:
                first[row["fingerprint"]] = one.key
                kept.append(one)
        return kept

    def _reranked(
        self, prepared: PreparedQuery, kept: list[Ranked], found: _Found
    ) -> tuple[list[Ranked], dict[str, float]]:
        """The first ones as the reranker orders them; as they were, and flagged, if it fails."""
        reranker = self._store._runtime.reranker
        wanted = self._ask.rerank and self._ask.mode == "hybrid" and bool(self._ask.query)
        if reranker is None or not wanted or not kept:
            return kept, {}
        head = kept[:RERANKED]
        texts = [found.chunks.get(one.key) or found.rows[one.key]["content"] for one in head]
        scores = _rerank(reranker, prepared.text, texts)
        if scores is None:
            self._flags.append("rerank_failed")
            return kept, {}
        by_key = {one.key: score for one, score in zip(head, scores, strict=True)}
        # Stable, so equal scores keep the ranker's order.
        head = sorted(head, key=lambda one: -by_key[one.key])
        return [*head, *kept[RERANKED:]], by_key

    # --- answering

    def _recalled(
        self, one: Ranked, found: _Found, rerank_score: float | None, places: dict[str, str]
    ) -> Recalled:
        row, parts = found.rows[one.key], dict(one.parts) if self._ask.explain else {}
        if self._ask.explain:
            for name, scores in (("bm25", found.text), ("cosine", found.vector)):
                if one.key in scores:
                    parts[name] = scores[one.key]
        beside: tuple[str, ...] = ()
        if row["place"]:
            found_beside = (places.get(_scoped_place(row, step)) for step in (-1, 1))
            beside = tuple(i for i in found_beside if i is not None)
        return Recalled(
            memory=self._store._memory(row),
            score=one.score,
            legs=one.legs,
            parts=parts,
            rerank_score=rerank_score,
            chunk=found.chunks.get(one.key),
            neighbours=beside,
        )

    def _explanation(
        self, found: _Found, terms: tuple[str, ...], space: Space | None
    ) -> dict[str, Any]:
        if not self._ask.explain:
            return {}
        reranker = self._store._runtime.reranker
        return {
            **self._stages,
            "mode": self._ask.mode,
            "terms": list(terms),
            "space": None if space is None else space.id,
            "text": len(found.text),
            "vector": len(found.vector),
            "chunks": len(found.chunks),
            "neighbours": sum(i not in found.text and i not in found.vector for i in found.rows),
            "reranker": None if reranker is None else reranker.name,
            "cut": dict(self._cut),
        }


def _rerank(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float] | None:
    """One finite score per text, or None when the reranker failed in any way."""
    try:
        scores = [float(score) for score in reranker.rerank(query, texts)]
    except Exception:  # noqa: BLE001
        # Another's model may raise anything; an order by the ranker is there without it.
        return None
    if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
        return None
    return scores


def _best(scores: dict[str, float], count: int) -> list[str]:
    """The ids of the highest scores, ties by id."""
    return nsmallest(count, scores, key=lambda memory_id: (-scores[memory_id], memory_id))


def _candidate(row: Record, found: _Found) -> Candidate:
    session = None
    if row["session"] is not None:
        session = "\n".join((*(row[part] for part in SCOPE_FIELDS), row["session"]))
    return Candidate(
        key=row["id"],
        text_score=found.text.get(row["id"]),
        vector_score=found.vector.get(row["id"]),
        speaker=row["speaker"],
        session=session,
        turn=row["turn"],
        time=row["said_at"],
        role=row["role"],
    )


def _scoped_place(row: Record, step: int) -> str:
    """A turn's place with its scope, so that sessions of two users never meet."""
    scope = (row[part] for part in SCOPE_FIELDS)
    return "\n".join((*scope, place_of(row["session"], row["turn"] + step)))
