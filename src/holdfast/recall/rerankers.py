"""Second readings of the best candidates: none, by words, or by a service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite

import msgspec

from holdfast.core.errors import Unavailable
from holdfast.core.ranking import bm25
from holdfast.core.text import analyze, term_frequencies
from holdfast.recall.gateway import Gateway, Retries, sendable


class NoReranker:
    """Keeps the order it is given; the switch for "off" that still is a reranker."""

    name = "none"

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return falling scores from 1 to above 0, so that the order stays."""
        return [1.0 - i / len(texts) for i in range(len(texts))]


class LexicalReranker:
    """BM25 among the candidates themselves, whose words are rarer or commoner than the store's.

    ``k1`` 1.2 and ``b`` .75 are the usual values; candidates are alike enough that a second
    occurrence of a word should count for more than in the whole store.
    """

    name = "lexical"

    def __init__(self, *, k1: float = 1.2, b: float = 0.75) -> None:
        self._k1 = k1
        self._b = b

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one BM25 score per text, 0 where no term of the query occurs."""
        terms = sorted(set(analyze(query)))
        documents = [term_frequencies(text) for text in texts]
        lengths = [sum(document.values()) for document in documents]
        mean = sum(lengths) / len(lengths) if lengths else 0.0
        found = Counter(term for document in documents for term in terms if term in document)
        return [
            sum(
                bm25(document[term], found[term], len(texts), length, mean, self._k1, self._b)
                for term in terms
                if term in document
            )
            for document, length in zip(documents, lengths, strict=True)
        ]


class _Score(msgspec.Struct):
    index: int
    relevance_score: float


class _Answer(msgspec.Struct):
    results: list[_Score]


class GatewayReranker:
    """Scores from ``POST /v1/rerank`` in the form that Cohere, Jina, Voyage and vLLM share."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        key_env: str | None = None,
        timeout: float = 10.0,
        retries: Retries | None = None,
    ) -> None:
        """``timeout`` is seconds per try. Raises ``Unsupported`` without the extra ``http``."""
        self._model = model
        self._gateway = Gateway(base_url, key_env=key_env, timeout=timeout, retries=retries)

    def __repr__(self) -> str:
        return f"GatewayReranker({self._model!r}, {self._gateway!r})"

    @property
    def name(self) -> str:
        """The model as it was named."""
        return self._model

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the service's score of each text, in the order given.

        Raises as ``Gateway.post`` does, and ``Unavailable`` when a text has no finite score.
        """
        if not texts:
            return []
        body = {
            "model": self._model,
            "query": sendable(query),
            "documents": [sendable(text) for text in texts],
            "top_n": len(texts),
        }
        results = self._gateway.post("/rerank", body, _Answer).results
        scores = {result.index: result.relevance_score for result in results}
        complete = len(results) == len(texts) and scores.keys() == set(range(len(texts)))
        if not complete or not all(map(isfinite, scores.values())):
            raise Unavailable(
                f"{self._gateway.host} did not answer {len(texts)} texts with a score each."
            )
        return [scores[i] for i in range(len(texts))]

    def close(self) -> None:
        """Close the connections."""
        self._gateway.close()
