"""A BERT encoder's forward pass in numpy: 32-bit weights in, one vector per token out.

The equations are those of Devlin et al. (2018), as all-MiniLM-L6-v2 was trained with them. Texts of
one call are laid end to end rather than padded to one length, so no text sees another and nothing
is computed for padding: only attention is done text by text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

_TOKENS: Final = 1024
"""Laid end to end at a time: with more, what lies between two products leaves the cache."""

# Abramowitz and Stegun, 7.1.26: the error function within 1.5e-7, by one exponential.
_ERF: Final = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
_ERF_STEP: Final = np.float32(0.3275911)
_ROOT_HALF: Final = np.float32(0.7071067811865476)


class _Norm(NamedTuple):
    weight: Any
    bias: Any
    epsilon: float

    def __call__(self, rows: Array) -> Array:
        centred: Array = rows - rows.mean(axis=1, keepdims=True)
        variance = np.einsum("ij,ij->i", centred, centred) / rows.shape[1]
        centred *= (1.0 / np.sqrt(variance + self.epsilon))[:, None]
        centred *= self.weight
        centred += self.bias
        return centred


class _Dense(NamedTuple):
    weight: Any
    bias: Any

    def __call__(self, rows: Array) -> Array:
        product: Array = rows @ self.weight
        product += self.bias
        return product


class _Layer(NamedTuple):
    attend: _Dense
    """Query, key and value side by side, the query scaled."""
    merge: _Dense
    after_attention: _Norm
    widen: _Dense
    narrow: _Dense
    after: _Norm


class Bert:
    """An encoder made from a checkpoint's weights by their names in it."""

    def __init__(
        self, weights: Mapping[str, NDArray[Any]], heads: int, epsilon: float = 1e-12
    ) -> None:
        """``heads`` and ``epsilon`` are the checkpoint's; all other sizes are the weights' own.

        Raises KeyError when a weight is missing.
        """
        held = {name: np.asarray(values, np.float32) for name, values in weights.items()}
        self._heads = heads
        self._words = held["embeddings.word_embeddings.weight"]
        # Every token is of the first segment, so its vector can ride along with the places.
        segment = held["embeddings.token_type_embeddings.weight"][0]
        self._places = held["embeddings.position_embeddings.weight"] + segment
        self._first = _norm(held, "embeddings.LayerNorm", epsilon)
        count = sum(name.endswith("intermediate.dense.weight") for name in held)
        self._layers = [
            _layer(held, f"encoder.layer.{number}.", heads, epsilon) for number in range(count)
        ]

    @property
    def width(self) -> int:
        """How many numbers a token's vector has."""
        return int(self._words.shape[1])

    def __call__(self, texts: Sequence[Sequence[int]]) -> Iterator[Array]:
        """Yield each text's token vectors, float32 [tokens, width]; a text is its token ids."""
        batch: list[Sequence[int]] = []
        size = 0
        for ids in texts:
            if batch and size + len(ids) > _TOKENS:
                yield from self._run(batch)
                batch, size = [], 0
            batch.append(ids)
            size += len(ids)
        if batch:
            yield from self._run(batch)

    def _run(self, texts: Sequence[Sequence[int]]) -> Iterator[Array]:
        ids = np.concatenate([np.asarray(text, np.intp) for text in texts])
        places = np.concatenate([np.arange(len(text)) for text in texts])
        cuts = np.cumsum([0, *(len(text) for text in texts)])
        rows = self._first(self._words[ids] + self._places[places])
        for layer in self._layers:
            mixed = layer.merge(self._attention(layer.attend(rows), cuts))
            mixed += rows
            rows = layer.after_attention(mixed)
            mixed = layer.narrow(_gelu(layer.widen(rows)))
            mixed += rows
            rows = layer.after(mixed)
        return (rows[start:end].copy() for start, end in pairwise(cuts))

    def _attention(self, projected: Array, cuts: NDArray[np.intp]) -> Array:
        width, heads = projected.shape[1] // 3, self._heads
        answer = np.empty((len(projected), width), np.float32)
        for start, end in pairwise(cuts):
            parts = projected[start:end].reshape(end - start, 3, heads, width // heads)
            query, key, value = parts.transpose(1, 2, 0, 3)
            weights = query @ key.transpose(0, 2, 1)
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
            answer[start:end] = (weights @ value).transpose(1, 0, 2).reshape(end - start, width)
        return answer


def _layer(held: Mapping[str, Array], prefix: str, heads: int, epsilon: float) -> _Layer:
    attention = f"{prefix}attention.self."
    query = held[f"{attention}query.weight"]
    scale = np.float32((query.shape[0] / heads) ** -0.5)
    parts = [(scale, "query"), (np.float32(1), "key"), (np.float32(1), "value")]
    attend = _Dense(
        np.concatenate([s * held[f"{attention}{part}.weight"] for s, part in parts]).T.copy(),
        np.concatenate([s * held[f"{attention}{part}.bias"] for s, part in parts]),
    )
    return _Layer(
        attend,
        _dense(held, f"{prefix}attention.output.dense"),
        _norm(held, f"{prefix}attention.output.LayerNorm", epsilon),
        _dense(held, f"{prefix}intermediate.dense"),
        _dense(held, f"{prefix}output.dense"),
        _norm(held, f"{prefix}output.LayerNorm", epsilon),
    )


def _dense(held: Mapping[str, Array], name: str) -> _Dense:
    # Checkpoints keep weights by output; a product of rows wants them by input, in one piece.
    return _Dense(held[f"{name}.weight"].T.copy(), held[f"{name}.bias"])


def _norm(held: Mapping[str, Array], name: str, epsilon: float) -> _Norm:
    return _Norm(held[f"{name}.weight"], held[f"{name}.bias"], epsilon)


def _gelu(rows: Array) -> Array:
    """Each number times the normal distribution's share below it, through the error function."""
    size = np.abs(rows)
    scaled = size * _ROOT_HALF
    step = 1.0 / (1.0 + _ERF_STEP * scaled)
    beyond = np.full_like(step, _ERF[0])
    for coefficient in _ERF[1:]:
        beyond *= step
        beyond += np.float32(coefficient)
    beyond *= step
    scaled *= scaled
    np.negative(scaled, out=scaled)
    beyond *= np.exp(scaled, out=scaled)
    beyond *= 0.5  # the share beyond |x|
    beyond *= size
    answer: Array = np.maximum(rows, 0.0) - beyond
    return answer
