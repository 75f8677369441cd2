"""Asking models that are not ours: whatever they raise, what was given to them is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from holdfast.core.embedding import Embedder, Reranker, vectors_from
from holdfast.core.errors import DimensionMismatch, HoldfastError, Invalid, Unavailable
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


def exact_vectors(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    """One vector per text, of the width that the embedder's space has; raises what it raises."""
    vectors = vectors_from(embedder, texts)
    if len(vectors) != len(texts):
        raise Unavailable("The embedder answered with another number of vectors.")
    for vector in vectors:
        if vector.width != embedder.space.width:
            raise DimensionMismatch(
                "embedding", expected=f"{embedder.space.width} numbers", got=f"{vector.width}"
            )
    return vectors


def vectors_or_refusals(embedder: Embedder, texts: Sequence[str]) -> list[Vector | str]:
    """A vector for each text; the error's code for one that the model refuses (Invalid)."""
    try:
        return [*exact_vectors(embedder, texts)]
    except DimensionMismatch:
        raise
    except Invalid:
        pass  # by itself each, so that one that is refused holds up no other
    found: list[Vector | str] = []
    for text in texts:
        try:
            found += exact_vectors(embedder, [text])
        except DimensionMismatch:
            raise
        except Invalid as error:
            found.append(error.code)
    return found
