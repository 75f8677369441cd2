"""Embeddings from a service that speaks the OpenAI form: OpenAI, Ollama, vLLM, LiteLLM, ..."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from holdfast.core.embedding import EmbeddingKind, EmbeddingSpace
from holdfast.core.errors import DimensionMismatch, InvalidVector, Unavailable
from holdfast.core.values import VECTOR_WIDTH_LIMIT, check_count
from holdfast.recall.gateway import Gateway, Retries, sendable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH_TEXTS: Final = 20
_BATCH_CHARACTERS: Final = 24_000
"""About 6,000 tokens of English: below the smallest window of the common services."""


class _Item(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Item]


class OpenAIEmbedder:
    """Vectors from ``POST /v1/embeddings``, in batches, checked one by one.

    ``width`` is what the model answers with. ``version`` tells apart what the model's name does
    not: raise it when the weights behind the name change. ``dimensions`` also asks the service
    for ``width``, for models that can shorten their vectors.
    """

    def __init__(
        self,
        model: str,
        *,
        width: int,
        base_url: str = "https://api.openai.com/v1",
        key_env: str | None = "OPENAI_API_KEY",
        version: str = "1",
        dimensions: bool = False,
        timeout: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        """``timeout`` is seconds per try. Raises ``Unsupported`` without the extra ``http``."""
        check_count("width", width, 1, VECTOR_WIDTH_LIMIT)
        self._space = EmbeddingSpace(model, version, width)
        self._dimensions = dimensions
        self._gateway = Gateway(base_url, key_env=key_env, timeout=timeout, retries=retries)

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._space.id!r}, {self._gateway!r})"

    @property
    def space(self) -> EmbeddingSpace:
        """The model as it was named."""
        return self._space

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text; texts over 24,000 characters travel alone, uncut.

        Raises ``Unavailable``, ``Timeout``, ``Forbidden`` or ``Invalid`` as ``Gateway.post``
        does, ``DimensionMismatch`` for another width, ``InvalidVector`` for a value that is not
        finite or a vector without direction. A failure keeps nothing of the earlier batches.
        """
        rows = [self._ask(batch) for batch in _batches(texts)]
        if not rows:
            return np.empty((0, self._space.width), dtype=np.float32)
        return np.concatenate(rows)

    def close(self) -> None:
        """Close the connections."""
        self._gateway.close()

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        body: dict[str, object] = {
            "model": self._space.model,
            "input": [sendable(text) for text in texts],
            "encoding_format": "float",
        }
        if self._dimensions:
            body["dimensions"] = self._space.width
        items = self._gateway.post("/embeddings", body, _Answer).data
        by_index = {item.index: item.embedding for item in items}
        if len(items) != len(texts) or by_index.keys() != set(range(len(texts))):
            raise Unavailable(
                f"{self._gateway.host} did not answer {len(texts)} texts with a vector each."
            )
        return _checked([by_index[i] for i in range(len(texts))], self._space.width)


def _checked(vectors: Sequence[Sequence[float]], width: int) -> NDArray[np.float32]:
    for vector in vectors:
        if len(vector) != width:
            raise DimensionMismatch(
                "embedding",
                expected=f"{width} numbers",
                got=f"{len(vector)}",
                hint="Set width to what the model answers with.",
            )
    exact = np.asarray(vectors, dtype=np.float64)
    if not np.isfinite(exact).all():
        raise InvalidVector("embedding", expected="finite numbers", got="NaN or infinity")
    largest = np.abs(exact).max(axis=1, keepdims=True)
    if not largest.all():
        raise InvalidVector("embedding", expected="a vector with a direction", got="all zeros")
    exact /= largest
    exact /= np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    unit: NDArray[np.float32] = exact.astype(np.float32)
    return unit


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == _BATCH_TEXTS or size + len(text) > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
