"""Asking models that are not ours: whatever they raise, what was given to them is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from holdfast.core.embedding import Embedder, Reranker, vectors_from
from holdfast.core.errors import DimensionMismatch, HoldfastError
from holdfast.core.values import Vector

EMBED_BATCH: Final = 256
"""Most texts of one embed call."""


def document_vectors(embedder: Embedder, texts: Sequence[str]) -> tuple[list[Vector], str | None]:
    """One vector per text, or none and the code of what went wrong.

    DimensionMismatch when the model answers in another width than its space promises: that is no
    failure that passes.
    """
    space, found = embedder.space, []
    try:
        for first in range(0, len(texts), EMBED_BATCH):
            batch = texts[first : first + EMBED_BATCH]
            made = vectors_from(embedder, batch)
            found += made
            if len(made) != len(batch):
                return [], "embedding_count"
    except DimensionMismatch:
        raise
    except HoldfastError as error:
        return [], error.code
    except Exception as error:  # noqa: BLE001
        # Another's model may raise anything; the text must be kept all the same.
        return [], type(error).__name__
    for vector in found:
        if vector.width != space.width:
            raise DimensionMismatch(
                "embedding", expected=f"{space.width} numbers", got=f"{vector.width}"
            )
    return found, None


def rerank_scores(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float] | None:
    """One finite score per text, or None when the reranker failed in any way."""
    try:
        scores = [float(score) for score in reranker.rerank(query, texts)]
    except Exception:  # noqa: BLE001
        # Another's model may raise anything; an order is there without it.
        return None
    if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
        return None
    return scores
