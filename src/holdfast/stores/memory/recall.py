"""One recall: both legs in one search, neighbours in one look-up, then the ranker's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from holdfast.core.errors import Invalid, InvalidVector, TooLarge
from holdfast.core.filter import Filter, InSelect, Record, among, not_null
from holdfast.core.query import Order, asc
from holdfast.core.ranker import Candidate, PreparedQuery, Ranked, Ranker
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.search import Hit, Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import (
    Vector,
    vector_of,
)
from holdfast.stores.memory.archive import cold_hits
from holdfast.stores.memory.asked import K_LIMIT, Ask
from holdfast.stores.memory.base import MemoryStore, given_space
from holdfast.stores.memory.calibration import calibration_of
from holdfast.stores.memory.explained import (
    candidates_stage,
    found_stage,
    order_stage,
    query_stage,
    raw_scores,
    reranked_stage,
    threshold_stage,
    unlifted,
    vector_stage,
)
from holdfast.stores.memory.filters import present_at
from holdfast.stores.memory.found import Found
from holdfast.stores.memory.fusion import PlainRanker, SingleLeg
from holdfast.stores.memory.late import late_scores
from holdfast.stores.memory.recollection import Recalled, Recollection
from holdfast.stores.memory.records import (
    CHUNKS,
    MEMORIES,
    SPEAKERS,
    Space,
)
from holdfast.stores.models import rerank_scores

TERM_LIMIT: Final = 128
"""Terms of a query that are looked up; a longer one is flagged "query_terms_cut"."""
SPEAKER_LIMIT: Final = 1_000
"""Known speakers that a query is read with; more are flagged "speakers_cut"."""
CREDITED: Final = 20
"""Best hits of each leg whose neighbours are looked up, or k if that is more: what a weaker hit
lends lifts no turn into the results (LoCoMo's and BEAM's public parts, three embedders: R@5, R@10
and R@20 are those with all hits)."""
RERANKED: Final = 50
"""How many results a reranker or a late reader reads."""
WIDEN: Final = 4
"""Factor by which a search that came out short is repeated."""


class Recalling:
    """The steps of one recall; made for it and thrown away."""

    def __init__(self, store: MemoryStore, asked: Ask) -> None:
        self._store = store
        self._ask = asked
        self._flags: list[str] = []
        self._cut: dict[str, str] = {}
        self._stages: dict[str, Any] = {}
        self._where = store._within(MEMORIES, present_at(asked.now), asked.where)
        bound = store._scope.bound()
        self._open = tuple(part for part in SCOPE_FIELDS if part not in bound)
        self._ranker = self._ranker_of(asked)
        self._floor: float | None = None
        reranks = asked.rerank and asked.mode == "hybrid" and bool(asked.query)
        self._reranker = store._runtime.reranker if reranks else None
        self._reads_late = reranks and store._runtime.late is not None

    def run(self) -> Recollection:
        """Search as wide as it takes for k results, order them, and say how."""
        prepared = self._prepared()
        vector, space = self._query_vector(prepared)
        self._floor = self._cosine_floor(space)
        terms = self._terms(prepared)
        width = min(max(self._ranker.candidates, self._ask.k), K_LIMIT)
        while True:
            found = Found(self._open, timed=prepared.timed)
            self._search(found, terms, vector, space, width)
            self._cut.clear()
            kept = self._ranked(prepared, found)
            if len(kept) >= self._ask.k or not self._more(found) or width == K_LIMIT:
                break
            width = min(width * WIDEN, K_LIMIT)
        ordered, scores = self._reranked(prepared, kept, found)
        results = self._results(ordered, found)
        items = [self._recalled(one, found, scores.get(one.key)) for one in results]
        stages = self._explanation(prepared, found, terms, vector, width)
        return Recollection(items, tuple(self._flags), stages)

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
        if self._ask.mode == "hybrid" and not self._store._driver.capabilities.vectors:
            self._flags.append("vectors_not_offered")
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
            return self._store._query_embedding(prepared.dense), space
        except Exception as error:
            # Another's model may raise anything; the words are there to search by.
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

    def _cosine_floor(self, space: Space | None) -> float | None:
        """The cosine that a threshold of another kind than the result's score asks for."""
        asked = self._ask
        if not asked.threshold or asked.threshold_kind == "score":
            return None
        if asked.threshold_kind == "cosine":
            return asked.threshold
        if space is None:
            return 1.0  # nothing can be compared, so nothing is above it
        known = calibration_of(self._store, space)
        if known is None:
            raise Invalid(
                "threshold_kind",
                expected="a space that was calibrated",
                got="one that was not",
                hint="Once: storage.memory.spaces.calibrate(), or holdfast memory calibrate.",
            )
        return known.cosine_at(asked.threshold)

    # --- finding

    def _more(self, found: Found) -> bool:
        """Whether a wider search could bring further results."""
        if self._floor is None or not found.vector:
            return found.full
        return found.full and min(found.vector.values()) >= self._floor

    def _search(
        self,
        found: Found,
        terms: tuple[str, ...],
        vector: Vector | None,
        space: Space | None,
        width: int,
    ) -> None:
        if not terms and vector is None:
            return
        leg = None
        if vector is not None and space is not None:
            leg = VectorLeg(field=space.slot, vector=vector)
        floor = self._least()
        hits = self._store._driver.search(
            self._store._scope.tenant,
            Search(
                collection=MEMORIES.name,
                filter=self._where,
                k=width,
                text=TextLeg(terms=terms) if terms else None,
                vector=leg,
                minimum=floor,
                fields=found.fields,
            ),
        )
        found.add_hits(hits.records)
        found.text = {hit.key[0]: hit.score for hit in hits.text}
        found.vector = {hit.key[0]: hit.score for hit in hits.vector}
        found.full = len(hits.text) >= width or len(hits.vector) >= width
        if leg is not None and space is not None and space.chunked:
            self._add_chunks(found, leg, width, floor)
        if self._ask.include_archived:
            self._add_archived(found, terms, vector)

    def _add_chunks(self, found: Found, leg: VectorLeg, width: int, floor: float | None) -> None:
        """Pool the stretches of long memories: a memory scores as its best one."""
        owners = InSelect("memory_id", MEMORIES.name, "id", self._where)
        search = Search(
            collection=CHUNKS.name,
            filter=self._store._within(CHUNKS, owners),
            k=width,
            vector=leg,
            minimum=floor,
            fields=("fingerprint", "start", "end"),
        )
        hits: Hits = self._store._driver.search(self._store._scope.tenant, search)
        best: dict[str, Hit] = {}
        for hit in hits.vector:
            best.setdefault(hit.key[0], hit)
        missing = [memory_id for memory_id in best if memory_id not in found]
        if missing:
            found.add(self._narrow(found, among("id", missing)))
        found.full = found.full or len(hits.vector) >= width
        for memory_id, hit in best.items():
            chunk = hits.records[hit.key]
            # Stretches of a content that has been replaced in between say nothing of the new one.
            if memory_id not in found or found.fingerprint(memory_id) != chunk["fingerprint"]:
                continue
            found.vector[memory_id] = max(hit.score, found.vector.get(memory_id, -1.0))
            found.spans[memory_id] = (chunk["start"], chunk["end"])

    def _least(self) -> float | None:
        """The floor that the engine applies: where the cosine alone decides, it can."""
        if self._ask.mode != "vector" or not self._ask.threshold:
            return None
        return self._ask.threshold if self._floor is None else self._floor

    def _narrow(self, found: Found, *parts: Filter, order: tuple[Order, ...] = ()) -> list[Record]:
        """What ranking needs of the eligible memories that the parts select."""
        return self._store._all(MEMORIES, *parts, self._where, order=order, fields=found.fields)

    def _add_archived(self, found: Found, terms: tuple[str, ...], vector: Vector | None) -> None:
        cold = cold_hits(self._store, self._where, terms, vector)
        found.add(cold.rows.values())
        found.whole.update(cold.rows)
        found.text.update(cold.text)
        floor = self._least()
        found.vector.update({k: s for k, s in cold.vector.items() if floor is None or s >= floor})
        self._stages["archived"] = len(cold.rows)

    # --- ordering

    def _ranked(self, prepared: PreparedQuery, found: Found) -> list[Ranked]:
        """The best candidates, each content once: as many as can matter, all with ``explain``."""
        if self._ranker.neighbours:
            self._add_neighbours(found)
        candidates = self._read(prepared, found)
        enough = max(self._ask.k, RERANKED if self._reranker is not None else 0)
        count = len(candidates) if self._ask.explain else min(2 * enough, len(candidates))
        while True:
            ranked = self._ranker.rank(prepared, candidates, count, explain=self._ask.explain)
            kept = self._distinct(ranked, found)
            if self._ask.explain:
                self._stages["candidates"] = candidates_stage(ranked, found)
            if len(kept) >= enough or len(ranked) < count or count == len(candidates):
                return kept
            count = len(candidates)

    def _read(self, prepared: PreparedQuery, found: Found) -> list[Candidate]:
        """The candidates; with a late reader, what it says of the best of them."""
        candidates = found.candidates()
        if not self._reads_late:
            return candidates
        best = self._ranker.rank(prepared, candidates, RERANKED)
        prints = {one.key: found.fingerprint(one.key) for one in best}
        found.late, flag = late_scores(self._store, prepared.dense, prints, found.whole)
        if flag is not None:
            self._flags.append(flag)
        self._stages["late"] = len(found.late)
        return found.candidates() if found.late else candidates

    def _add_neighbours(self, found: Found) -> None:
        """The eligible turns before and after each of the best hits, in one look-up."""
        missing = found.missing_turns(max(CREDITED, self._ask.k))
        if missing:
            places = among("place", sorted(set(missing.values())))
            # Said in the words of the index of places, so that engines use it and no wider one.
            rows = self._narrow(found, places, not_null("session"), order=asc("place"))
            found.add_neighbours(rows, missing)

    def _distinct(self, ranked: Sequence[Ranked], found: Found) -> list[Ranked]:
        """The first of each content, at or above the threshold."""
        kept: list[Ranked] = []
        first: dict[str, str] = {}
        for one in ranked:
            content = found.fingerprint(one.key)
            if self._below(one, found):
                self._cut[one.key] = "below threshold"
            elif content in first:
                self._cut[one.key] = f"same content as {first[content]}"
            else:
                first[content] = one.key
                kept.append(one)
        return kept

    def _below(self, one: Ranked, found: Found) -> bool:
        """Whether the threshold cuts a candidate; one without a cosine is below any cosine."""
        if self._floor is not None:
            return found.vector.get(one.key, -2.0) < self._floor
        return bool(self._ask.threshold) and one.score < self._ask.threshold

    def _reranked(
        self, prepared: PreparedQuery, kept: list[Ranked], found: Found
    ) -> tuple[list[Ranked], dict[str, float]]:
        """The first ones as the reranker orders them; as they were, and flagged, if it fails."""
        if self._reranker is None or not kept:
            return kept, {}
        head, tail = self._present(kept[:RERANKED], found), kept[RERANKED:]
        texts = [self._stretch(one, found) or found.whole[one.key]["content"] for one in head]
        scores = rerank_scores(self._reranker, prepared.text, texts) if texts else []
        if scores is None:
            self._flags.append("rerank_failed")
            return kept, {}
        by_key = {one.key: score for one, score in zip(head, scores, strict=True)}
        self._stages["reranked"] = reranked_stage(head, by_key) if self._ask.explain else []
        # Stable, so equal scores keep the ranker's order.
        head = sorted(head, key=lambda one: -by_key[one.key])
        return [*head, *tail], by_key

    # --- answering

    def _results(self, ordered: list[Ranked], found: Found) -> list[Ranked]:
        """The first k that are still there as they were found, each read whole."""
        results: list[Ranked] = []
        taken = 0
        while len(results) < self._ask.k and taken < len(ordered):
            following = ordered[taken : taken + self._ask.k - len(results)]
            results += self._present(following, found)
            taken += len(following)
        for one in ordered[taken:]:
            self._cut[one.key] = "beyond k"
        return results

    def _present(self, wanted: Sequence[Ranked], found: Found) -> list[Ranked]:
        """Those that are still there as the search found them; now read whole."""
        missing = [one.key for one in wanted if one.key not in found.whole]
        if missing:
            rows = self._store._all(MEMORIES, among("id", missing), self._where)
            found.whole.update({row["id"]: row for row in rows})
        there = []
        for one in wanted:
            row = found.whole.get(one.key)
            if row is not None and row["fingerprint"] == found.fingerprint(one.key):
                there.append(one)
            else:
                self._cut[one.key] = "changed meanwhile"
        return there

    def _stretch(self, one: Ranked, found: Found) -> str | None:
        """The stretch of a long content that matched best."""
        span = found.spans.get(one.key)
        if span is None:
            return None
        content: str = found.whole[one.key]["content"]
        return content[span[0] : span[1]]

    def _recalled(self, one: Ranked, found: Found, rerank_score: float | None) -> Recalled:
        parts = {**one.parts, **raw_scores(one.key, found)} if self._ask.explain else {}
        return Recalled(
            memory=self._store._memory(found.whole[one.key]),
            score=one.score,
            legs=one.legs,
            parts=parts,
            rerank_score=rerank_score,
            chunk=self._stretch(one, found),
            neighbours=found.beside(one),
        )

    def _explanation(
        self,
        prepared: PreparedQuery,
        found: Found,
        terms: tuple[str, ...],
        vector: Vector | None,
        width: int,
    ) -> dict[str, Any]:
        """Every step as data; None or empty where it had nothing to do."""
        if not self._ask.explain:
            return {}
        return {
            "mode": self._ask.mode,
            "query": query_stage(self._ask.query, prepared),
            "terms": list(terms),
            **vector_stage(vector, given=self._ask.vector is not None),
            "width": width,
            **found_stage(found),
            "order": order_stage(self._ranker),
            "threshold": threshold_stage(self._ask, self._floor),
            "reranker": None if self._reranker is None else self._reranker.name,
            "reranked": [],
            **self._stages,
            "cut": {**self._cut, **unlifted(self._stages["candidates"])},
        }
