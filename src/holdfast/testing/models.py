"""Models for cases: an embedder whose angles a text names, one that fails, a reranker."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.storage import Storage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANGLE = re.compile(r"@(-?\d+(?:\.\d+)?)")


class AngleEmbedder:
    """``@30`` in a text points it 30 degrees up; other texts point somewhere of their own.

    So a case states every similarity: two texts' cosine is that of the angle between them.
    ``broken`` is raised instead of an answer while it is set; ``texts`` counts what was asked.
    """

    def __init__(self, model: str = "angles", width: int = 2) -> None:
        self._space = EmbeddingSpace(model, "1", width)
        self.broken: Exception | None = None
        self.texts: list[str] = []

    @property
    def space(self) -> EmbeddingSpace:
        """Named by the model; the angle lies in the first two dimensions."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """One vector per text."""
        self.texts += texts
        if self.broken is not None:
            raise self.broken
        rows = np.zeros((len(texts), self._space.width), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            found = _ANGLE.search(text)
            degrees = float(found[1]) if found else zlib.crc32(text.encode()) % 360
            row[0], row[1] = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return rows


class WordReranker:
    """Scores a text by ``score``; whatever that raises or answers goes through."""

    name = "words"

    def __init__(self, score: Callable[[str, str], float]) -> None:
        self._score = score
        self.read: list[str] = []

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score per text."""
        self.read += texts
        return [self._score(query, text) for text in texts]


class WordLateReader:
    """Packs a text as its words; ``score`` counts those that a query has too.

    ``broken`` is raised instead of an answer while it is set; ``packed`` counts what was read.
    """

    name = "words in common"

    def __init__(self, form: str = "words 1") -> None:
        self.form = form
        self.broken: Exception | None = None
        self.packed: list[str] = []

    def pack(self, texts: Sequence[str]) -> list[bytes]:
        """The words themselves, in UTF-8."""
        if self.broken is not None:
            raise self.broken
        self.packed += texts
        return [text.lower().encode() for text in texts]

    def score(self, query: str, packed: Sequence[bytes]) -> list[float]:
        """How many of the query's words a text has."""
        if self.broken is not None:
            raise self.broken
        words = set(query.lower().split())
        return [float(len(words & set(one.decode().split()))) for one in packed]


def with_models(storage: Storage, **models: Any) -> Storage:
    """The storage with another embedder, reranker or ranker; None for none."""
    return Storage(
        storage._driver, storage.scope, msgspec.structs.replace(storage._runtime, **models)
    )
