"""Late interaction: every word of a question finds its best match in a text (ColBERT's MaxSim).

One vector for a text says what it is about as a whole. Its tokens' vectors say more, and the
model has computed them anyway. Of each only the signs are kept: 384 bits, to which the question's
full vectors are compared. On two sets of conversations that lost nothing against 32-bit numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from holdfast.recall.local import MiniLM, MiniLMEmbedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDS: Final = 1 << 16
_BLOCK: Final = 2048
"""Tokens unpacked at a time: 3 MB of 32-bit numbers, which a processor's cache holds."""


class LateInteraction:
    """MaxSim over a local model's token vectors, each word of the question weighed by rarity.

    A ``core.embedding.LateReader``, and as a ``Reranker`` it reads texts that nobody has packed.
    How rare a token is (IDF) is counted among the texts that are compared, so a score needs nothing
    but them; common words weigh little by themselves and are not cut.
    """

    name = "late interaction"

    def __init__(self, model: MiniLM | None = None) -> None:
        """``model`` defaults to `MiniLMEmbedder`; with the storage's own, both share its work."""
        self._model = model or MiniLMEmbedder()
        self._model.remember_tokens()
        space = self._model.space
        self._token = np.dtype([("id", "<u2"), ("signs", "u1", ((space.width + 7) // 8,))])
        self._form = f"{space.id} signs-1"

    @property
    def form(self) -> str:
        """The model, and how its tokens are packed."""
        return self._form

    def pack(self, texts: Sequence[str]) -> list[bytes]:
        """Return each text's tokens as id and signs: 50 bytes a token, at most 254 tokens."""
        packed = []
        for ids, vectors in self._model.tokens(texts):
            tokens = np.empty(len(ids) - 2, self._token)  # without the two end marks
            tokens["id"] = np.asarray(ids[1:-1]) % _IDS
            tokens["signs"] = np.packbits(vectors[1:-1] >= 0.0, axis=1)
            packed.append(tokens.tobytes())
        return packed

    def score(self, query: str, packed: Sequence[bytes]) -> list[float]:
        """Return one score per packed text, about -1 to 1; -1 for one without a token.

        Raises ValueError for bytes that `pack` did not make.
        """
        if any(len(one) % self._token.itemsize for one in packed):
            raise ValueError("These are not packed tokens of this model.")
        scores = np.full(len(packed), -1.0)
        [(ids, vectors)] = self._model.tokens([query])
        wanted, asked = vectors[1:-1], np.asarray(ids[1:-1]) % _IDS
        lengths = np.array([len(one) // self._token.itemsize for one in packed], np.intp)
        if not len(asked) or not lengths.any():
            return scores.tolist()
        tokens = np.frombuffer(b"".join(packed), self._token)
        weights = _rarity(asked, tokens["id"], lengths)
        wanted = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
        filled = lengths > 0
        starts = (np.cumsum(lengths) - lengths)[filled]
        best = np.maximum.reduceat(_cosines(tokens["signs"], wanted), starts, axis=0)
        scores[filled] = best @ weights / weights.sum()
        return scores.tolist()

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one score per text, read here and now."""
        return self.score(query, self.pack(texts))


def _cosines(signs: NDArray[Any], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of every vector of signs with every wanted unit vector."""
    width = wanted.shape[1]
    columns = np.ascontiguousarray(wanted.T)
    products = np.empty((len(signs), len(wanted)), np.float32)
    for start in range(0, len(signs), _BLOCK):
        some = signs[start : start + _BLOCK]
        bits = np.unpackbits(some, axis=1, count=width).astype(np.float32)
        np.matmul(bits, columns, out=products[start : start + _BLOCK])
    # A bit is 0 or 1 where a sign is -1 or 1; a vector of signs is as long as width's root.
    cosines: NDArray[np.float32] = (2.0 * products - columns.sum(axis=0)) / np.sqrt(width)
    return cosines


def _rarity(
    asked: NDArray[Any], ids: NDArray[Any], lengths: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the IDF of each asked token among the texts, as BM25 counts it."""
    owners = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    present = np.unique(owners * _IDS + ids)
    having = np.bincount(present % _IDS, minlength=_IDS)[asked]
    rarity: NDArray[np.float64] = np.log1p((len(lengths) - having + 0.5) / (having + 0.5))
    return rarity
