"""One hybrid search: both legs over one filter, fused, weighed, and read again if wanted."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeVar

import msgspec

from holdfast.core.collection import Collection
from holdfast.core.errors import Unavailable, Unsupported
from holdfast.core.filter import Filter
from holdfast.core.fusion import reciprocal_ranks, stretched
from holdfast.core.search import Hits, Search, TextLeg, VectorLeg
from holdfast.core.text import analyze
from holdfast.core.values import check_bool, check_count, check_text
from holdfast.stores.knowledge.base import KnowledgeStore
from holdfast.stores.knowledge.found import Findings, Found, text_of
from holdfast.stores.knowledge.policy import KnowledgePolicy
from holdfast.stores.knowledge.records import Chunk, LibraryItem
from holdfast.stores.models import rerank_scores
from holdfast.stores.store import builder, one_of

Mode = Literal["hybrid", "vector", "keyword"]
Fusion = Literal["rrf", "convex"]
LIMIT: Final = 250
"""Most results of a search."""
POOL_LIMIT: Final = 1_000
"""Most hits that are asked of a leg."""
TERM_LIMIT: Final = 128
"""Terms of a query that are looked up; a longer one is flagged "query_terms_cut"."""

Item = TypeVar("Item", bound=Chunk | LibraryItem)
Key = tuple[Any, ...]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A search's arguments, checked."""

    query: str
    limit: int
    mode: str
    fusion: str
    rerank: bool
    explain: bool


def wish(query: object, limit: object, mode: object, fusion: object, **switches: object) -> Wish:
    """The arguments in canonical form, or Invalid naming the one that is wrong."""
    return Wish(
        query=check_text("query", query),
        limit=check_count("limit", limit, 0, LIMIT),
        mode=one_of("mode", mode, Mode),
        fusion=one_of("fusion", fusion, Fusion),
        rerank=check_bool("rerank", switches["rerank"]),
        explain=check_bool("explain", switches["explain"]),
    )


class Searching(KnowledgeStore):
    """Searches a collection whose records have text, a title and vectors."""

    def _find(
        self, shape: Collection, kind: type[Item], where: Filter, asked: Wish
    ) -> Findings[Item]:
        """The best records that satisfy ``where``, which holds before any limit of either leg."""
        flags: list[str] = []
        text = self._text_leg(asked, flags)
        vector = self._vector_leg(asked, flags)
        if not asked.limit or (text is None and vector is None):
            return Findings([], tuple(flags))
        policy = self._policy
        pool = max(policy.pool_factor * asked.limit, policy.pool_floor)
        search = Search(
            collection=shape.name,
            filter=where,
            k=min(pool, POOL_LIMIT),
            text=text,
            vector=vector,
        )
        hits = self._driver.search(self._scope.tenant, search)
        build = builder(kind)
        items = {key: build(record) for key, record in hits.records.items()}
        boosts = {k: i.boost if isinstance(i, Chunk) else 1.0 for k, i in items.items()}
        parts = fused(hits, asked.fusion, policy)
        scores = {key: sum(parts[key].values()) * boosts[key] for key in parts}
        order = sorted(scores, key=lambda key: (-scores[key], key))
        head = order[: policy.pool_factor * asked.limit]
        read = self._read_again(asked, head, {key: text_of(items[key]) for key in head}, flags)
        if read:
            # Stable, so what the reranker holds equal keeps its order.
            order = sorted(head, key=lambda key: -read[key])
        explained = _explained(hits, parts, boosts) if asked.explain else {}
        legs = _legs(hits)
        found = [
            Found(
                item=items[key],
                score=scores[key],
                legs=legs[key],
                parts=explained.get(key, {}),
                rerank_score=read.get(key),
            )
            for key in order[: asked.limit]
        ]
        return Findings(found, tuple(flags), self._stages(asked, search, hits, len(order)))

    def _text_leg(self, asked: Wish, flags: list[str]) -> TextLeg | None:
        if asked.mode == "vector":
            return None
        terms = tuple(dict.fromkeys(analyze(asked.query)))
        if len(terms) > TERM_LIMIT:
            flags.append("query_terms_cut")
        return TextLeg(terms=terms[:TERM_LIMIT]) if terms else None

    def _vector_leg(self, asked: Wish, flags: list[str]) -> VectorLeg | None:
        if asked.mode == "keyword" or not asked.limit:
            return None
        offered = self._driver.capabilities.vectors
        if not offered and asked.mode == "vector":
            raise Unsupported(f"This engine has no vectors: {offered.reason}.")
        if not offered and self._runtime.embedder is not None:
            flags.append("vectors_not_offered")
        leg, error = self._query_leg(asked.query)
        if error is not None:
            if asked.mode == "vector":
                raise Unavailable("The query could not be embedded.", cause=error)
            flags.append("query_embedding_failed")
        return leg

    def _read_again(
        self, asked: Wish, head: list[Key], texts: dict[Key, str], flags: list[str]
    ) -> dict[Key, float]:
        """What the reranker makes of the first ones; nothing, and flagged, if it fails."""
        reranker = self._runtime.reranker
        if reranker is None or not asked.rerank or not head:
            return {}
        scores = rerank_scores(reranker, asked.query, [texts[key] for key in head])
        if scores is None:
            flags.append("rerank_failed")
            return {}
        return dict(zip(head, scores, strict=True))

    def _stages(self, asked: Wish, search: Search, hits: Hits, ordered: int) -> dict[str, Any]:
        if not asked.explain:
            return {}
        reranker = self._runtime.reranker
        return {
            "mode": asked.mode,
            "fusion": asked.fusion,
            "terms": [] if search.text is None else list(search.text.terms),
            "space": None if search.vector is None else search.vector.vector.space,
            "pool": search.k,
            "text": len(hits.text),
            "vector": len(hits.vector),
            "candidates": ordered,
            "reranker": None if reranker is None or not asked.rerank else reranker.name,
        }


def fused(hits: Hits, fusion: str, policy: KnowledgePolicy) -> dict[Key, dict[str, float]]:
    """What each leg adds to each record's score."""
    legs = {"text": hits.text, "vector": hits.vector}
    parts: dict[Key, dict[str, float]] = {key: {} for key in hits.records}
    if fusion == "rrf":
        for name, leg in legs.items():
            gains = reciprocal_ranks([hit.key for hit in leg], policy.rrf_k)
            for key, gain in gains.items():
                parts[key][name] = gain
        return parts
    weights = {"text": policy.text_weight, "vector": 1.0 - policy.text_weight}
    for name, leg in legs.items():
        shares = stretched([hit.score for hit in leg])
        for hit, share in zip(leg, shares, strict=True):
            parts[hit.key][name] = weights[name] * share
    return parts


def _legs(hits: Hits) -> dict[Key, tuple[str, ...]]:
    text, vector = ({hit.key for hit in leg} for leg in (hits.text, hits.vector))
    return {
        key: tuple(name for name, keys in (("text", text), ("vector", vector)) if key in keys)
        for key in hits.records
    }


def _explained(
    hits: Hits, parts: dict[Key, dict[str, float]], boosts: dict[Key, float]
) -> dict[Key, dict[str, float]]:
    """The parts of each score, with what the legs themselves measured."""
    told = {key: {**parts[key], "boost": boosts[key]} for key in parts}
    for name, leg in (("bm25", hits.text), ("cosine", hits.vector)):
        for hit in leg:
            told[hit.key][name] = hit.score
    return told
