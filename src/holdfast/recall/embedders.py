"""The embedder that needs no model, no network and no download: hashed terms."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import numpy as np

from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.core.text import ANALYSIS_VERSION, analyze, normalize_content
from holdfast.core.values import VECTOR_WIDTH_LIMIT, check_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Features = tuple[NDArray[np.intp], NDArray[np.float64]]

_CACHED_TERMS: Final = 1 << 15
"""Remembered terms, about 0.6 kB each; dropped all at once at the bound."""

# Whole numbers, so that sums are exact and vectors are the same on every machine.
_TERM_WEIGHT: Final = 1000
_TRIGRAM_WEIGHT: Final = 500
"""Of all a term's trigrams together, shared by 1/sqrt(n). They are here to forgive misspelling.
Half of a term's weight cost nothing on two sets of conversations (R@10 +.013 on both, which is
within the interval)."""


class HashEmbedder:
    """Hashes a text's terms, and their character trigrams, into a vector of signed buckets.

    Deterministic across machines, processes and Python versions; knows no meaning beyond shared
    words and spellings. Repetitions count once. A text without terms (empty, or stop words only)
    is hashed by its characters, so every text has a direction.
    """

    def __init__(self, width: int = 1024) -> None:
        """``width`` is 8 to 16,384; narrower vectors collide more (384 finds 2 % less)."""
        check_count("width", width, 8, VECTOR_WIDTH_LIMIT)
        self._space = EmbeddingSpace("hashed-terms", f"1.{ANALYSIS_VERSION}", width)
        self._terms = _TermFeatures(width)

    @property
    def space(self) -> EmbeddingSpace:
        """``hashed-terms``; the version covers the hashing and the text analysis."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text: float32 of shape [len(texts), width]."""
        width = self._space.width
        vectors = np.empty((len(texts), width), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            names = dict.fromkeys(analyze(text)) or [f"\x00{c}" for c in normalize_content(text)]
            summed = self._sum(names)
            length = float(summed @ summed) ** 0.5
            if length == 0.0:  # nothing to hash, or buckets that cancelled one another
                summed = self._sum([f"\x00\x00{text}"])
                length = float(summed @ summed) ** 0.5
            row[:] = summed / length
        return vectors

    def _sum(self, names: Sequence[str] | dict[str, None]) -> NDArray[np.float64]:
        features = [self._terms[name] for name in names]
        if not features:
            return np.zeros(self._space.width)
        places = np.concatenate([places for places, _ in features])
        weights = np.concatenate([weights for _, weights in features])
        return np.bincount(places, weights, minlength=self._space.width).astype(np.float64)


class _TermFeatures(dict[str, "_Features"]):
    """Term -> its buckets and signed weights; a bounded memory."""

    def __init__(self, width: int) -> None:
        self._width = width

    def __missing__(self, term: str) -> _Features:
        weights: dict[int, int] = {}
        # A term lights two buckets: one collision then spoils half of it.
        share = round(_TERM_WEIGHT / 2**0.5)
        self._add(weights, f"term:{term}", share)
        self._add(weights, f"again:{term}", share)
        if not term.startswith("\x00"):
            framed = f"^{term}$"
            trigrams = [framed[i : i + 3] for i in range(len(framed) - 2)]
            share = round(_TRIGRAM_WEIGHT / len(trigrams) ** 0.5)
            for trigram in trigrams:
                self._add(weights, f"gram:{trigram}", share)
        if not any(weights.values()):  # its own buckets cancelled: keep one
            weights[next(iter(weights))] = _TERM_WEIGHT
        features = (
            np.fromiter(weights.keys(), dtype=np.intp),
            np.fromiter(weights.values(), dtype=np.float64),
        )
        if len(self) >= _CACHED_TERMS:
            self.clear()
        if len(term) <= 64:
            self[term] = features
        return features

    def _add(self, weights: dict[int, int], name: str, weight: int) -> None:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        place = (number & (2**63 - 1)) % self._width
        weights[place] = weights.get(place, 0) + (weight if number >> 63 else -weight)
