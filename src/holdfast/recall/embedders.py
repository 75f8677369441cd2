"""The embedder that needs no model, no network and no download: hashed terms.

It computes without numpy, whose import would be most of the time to a first memory.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import mul
from typing import TYPE_CHECKING, Final

from holdfast.core.digests import blake2b
from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.core.text import ANALYSIS_VERSION, STRETCH, normalize_content, term_parts
from holdfast.core.values import VECTOR_WIDTH_LIMIT, check_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Features = tuple["array[int]", "array[int]"]
"""Buckets, and what is added to each."""

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
        """``width`` is 8 to 16,000; narrower vectors collide more (384 finds 2 % less)."""
        check_count("width", width, 8, VECTOR_WIDTH_LIMIT)
        self._space = EmbeddingSpace("hashed-terms", f"1.{ANALYSIS_VERSION}", width)
        self._terms = _TermFeatures(width)

    @property
    def space(self) -> EmbeddingSpace:
        """``hashed-terms``; the version covers the hashing and the text analysis."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text: float32 of shape [len(texts), width]."""
        import numpy as np

        joined = b"".join(self.embed_packed(texts, kind))
        return np.frombuffer(joined, "<f4").reshape(len(texts), self._space.width).copy()

    def embed_packed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> list[bytes]:
        """The same vectors, each as the bytes that are stored."""
        return [self._packed(text) for text in texts]

    def _packed(self, text: str) -> bytes:
        names: dict[str, None] = {}
        for part in term_parts(text):
            names |= dict.fromkeys(part)
        features = [self._terms[name] for name in names] or [*self._of_characters(text)]
        # Without a direction there was nothing to hash, or buckets cancelled one another.
        direction = self._direction(features) or self._direction([self._terms[f"\x00\x00{text}"]])
        assert direction is not None
        return direction

    def _of_characters(self, text: str) -> Iterator[_Features]:
        """Each of a text's characters, as often as it occurs."""
        for character, count in Counter(normalize_content(text)).items():
            places, weights = self._terms[f"\x00{character}"]
            yield places, array("q", [count * weight for weight in weights])

    def _direction(self, features: Sequence[_Features]) -> bytes | None:
        """The features, summed and scaled to length 1; None where the sum is zero."""
        # Twice as fast for long texts, where it is there anyway. The sums are of whole numbers and
        # each is divided and rounded once, so both ways give the same bits.
        add = self._added_by_numpy if "numpy" in sys.modules else self._added
        return add(features)

    def _added(self, features: Sequence[_Features]) -> bytes | None:
        summed: dict[int, int] = {}
        held = summed.get
        for places, weights in features:
            for place, weight in zip(places, weights, strict=True):
                summed[place] = held(place, 0) + weight
        length = float(sum(map(mul, summed.values(), summed.values()))) ** 0.5
        if length == 0.0:
            return None
        row = array("f", bytes(4 * self._space.width))
        for place, weight in summed.items():
            row[place] = weight / length
        if sys.byteorder == "big":
            row.byteswap()
        return row.tobytes()

    def _added_by_numpy(self, features: Sequence[_Features]) -> bytes | None:
        import numpy as np

        summed = np.zeros(self._space.width)
        for start in range(0, len(features), STRETCH):
            some = features[start : start + STRETCH]
            places = np.frombuffer(b"".join([places for places, _ in some]), "=i8")
            weights = np.frombuffer(b"".join([weights for _, weights in some]), "=i8")
            summed += np.bincount(places, weights, minlength=self._space.width)
        length = float(summed @ summed) ** 0.5
        return None if length == 0.0 else (summed / length).astype("<f4").tobytes()


class _TermFeatures(dict[str, _Features]):
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
        features = array("q", weights.keys()), array("q", weights.values())
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
