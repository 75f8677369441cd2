"""What turns text into vectors and what reads candidates again: the two model contracts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import msgspec

from holdfast.core.values import Vector, check_vector, vector_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EmbeddingKind = Literal["document", "query"]
"""What a text is: some models embed what is searched for differently from what is found."""


class EmbeddingSpace(msgspec.Struct, frozen=True):
    """The space that vectors live in; vectors of two spaces are never compared.

    ``model`` names the model, ``version`` everything else that changes its output (weights,
    quantisation, prompt), ``width`` is the number of dimensions.
    """

    model: str
    version: str
    width: int

    @property
    def id(self) -> str:
        """``model@version/width``, as it is stored beside every vector."""
        return f"{self.model}@{self.version}/{self.width}"


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors of one space.

    The same text gives the same vector. Safe to call from several threads.
    """

    @property
    def space(self) -> EmbeddingSpace:
        """The space of every vector that ``embed`` returns."""
        ...

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> NDArray[np.float32]:
        """Return one unit vector per text, in order: float32 of shape [len(texts), width].

        Values are finite and no vector is zero. Raises ``Unavailable`` or ``Timeout`` when the
        model cannot answer now, ``Invalid`` for a text that it refuses, ``DimensionMismatch``
        when it answers in another width than ``space`` promises.
        """
        ...


def vectors_from(
    embedder: Embedder, texts: Sequence[str], kind: EmbeddingKind = "document"
) -> list[Vector]:
    """The embedder's vectors of the texts, checked; raises what it raises, and InvalidVector.

    An embedder that can do without numpy also has ``embed_packed``, which gives the vectors of
    ``embed`` as they are stored: each as bytes of little-endian float32.
    """
    space = embedder.space.id
    packed = getattr(embedder, "embed_packed", None)
    if packed is not None:
        return [check_vector("embedding", Vector(space, data)) for data in packed(texts, kind)]
    return [vector_of("embedding", space, row) for row in embedder.embed(texts, kind)]


@runtime_checkable
class LateReader(Protocol):
    """Compares a query's tokens with those of texts, which were packed when they were written.

    Its scores are evidence for the ranker, beside those of both legs, and no order of their own.
    """

    @property
    def name(self) -> str:
        """Shown in explanations of a result."""
        ...

    @property
    def form(self) -> str:
        """Names the model and how tokens are packed; what is of another form is not compared."""
        ...

    def pack(self, texts: Sequence[str]) -> list[bytes]:
        """Return each text's tokens in a compact form, in the order given."""
        ...

    def score(self, query: str, packed: Sequence[bytes]) -> list[float]:
        """Return one finite score per packed text, in the order given; higher answers better.

        Scores are comparable within one call only.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """Reads the query together with each candidate and scores how well it answers."""

    @property
    def name(self) -> str:
        """Shown in explanations of a result."""
        ...

    def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one finite score per text, in the order given; higher answers better.

        The scale is the reranker's own. Raises ``Unavailable`` or ``Timeout`` when it cannot
        answer now; callers then keep the order they had and say so.
        """
        ...
