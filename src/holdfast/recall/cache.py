"""A bounded memory of vectors in front of any embedder."""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from holdfast.core.embedding import Embedder, EmbeddingKind, EmbeddingSpace
from holdfast.core.values import check_count

if TYPE_CHECKING:
    from numpy.typing import NDArray


def normalize_wording(text: str) -> str:
    """Return ``text`` composed (NFC) and with runs of whitespace folded to one space.

    Case is kept: models that tell "US" from "us" must go on doing so.
    """
    composed = text if text.isascii() else unicodedata.normalize("NFC", text)
    return " ".join(composed.split())


class CachedEmbedder:
    """Embeds each wording once per space and kind, while it is among the last used.

    The normalised wording itself is what the model is given, so an answer never depends on which
    spelling came first. Threads may miss on the same text together; both then get the same vector.
    """

    def __init__(self, embedder: Embedder, size: int = 10_000) -> None:
        """``size`` is the number of vectors kept: at width 384, 10,000 take about 16 MB."""
        self._embedder = embedder
        self._size = check_count("size", size, 1, 10_000_000)
        self._vectors: OrderedDict[tuple[str, EmbeddingKind, str], NDArray[np.float32]]
        self._vectors = OrderedDict()
        self._lock = Lock()
        self.hits = 0
        """Texts answered from memory so far."""
        self.misses = 0
        """Texts that the model was asked for so far."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the embedder behind it."""
        return self._embedder.space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text; asks the model once for all that are not remembered.

        Raises what the embedder raises; nothing is remembered of a call that failed.
        """
        space = self.space
        keys = [(space.id, kind, normalize_wording(text)) for text in texts]
        known = self._recall(keys)
        missing = list(dict.fromkeys(key for key in keys if key not in known))
        if missing:
            answered = self._embedder.embed([wording for _, _, wording in missing], kind)
            fresh = {key: np.array(row) for key, row in zip(missing, answered, strict=True)}
            known.update(fresh)
            self._remember(fresh)
        if not keys:
            return np.empty((0, space.width), dtype=np.float32)
        return np.stack([known[key] for key in keys])

    def _recall(
        self, keys: Sequence[tuple[str, EmbeddingKind, str]]
    ) -> dict[tuple[str, EmbeddingKind, str], NDArray[np.float32]]:
        known: dict[tuple[str, EmbeddingKind, str], NDArray[np.float32]] = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    known[key] = vector
            self.hits += sum(key in known for key in keys)
        return known

    def _remember(self, fresh: dict[tuple[str, EmbeddingKind, str], NDArray[np.float32]]) -> None:
        with self._lock:
            self.misses += len(fresh)
            self._vectors.update(fresh)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
