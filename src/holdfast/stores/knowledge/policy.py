"""The numbers by which knowledge works. Each is a starting value."""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.core.chunking import CHUNK_CHARACTERS, CHUNK_OVERLAP, check_sizes
from holdfast.core.errors import Invalid
from holdfast.core.fusion import RRF_K
from holdfast.core.values import check_count, check_float


class KnowledgePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``storage.knowledge.configured(KnowledgePolicy(...))`` is the store with these numbers."""

    chunk_characters: int = CHUNK_CHARACTERS
    """Longest stretch of a document that is found as one, in characters."""
    chunk_overlap: int = CHUNK_OVERLAP
    """Most characters that a chunk shares with the one before it; at most half of its size."""

    rrf_k: float = RRF_K
    pool_factor: int = 4
    """Hits asked of each leg, as a multiple of the results asked for; what a reranker reads too."""
    pool_floor: int = 20
    text_weight: float = 0.4
    """Share of the text leg in a convex fusion; the vector leg has the rest."""

    repair_lease_seconds: float = 60.0
    repair_backoff_seconds: float = 60.0
    """Wait after the first failure; it doubles with each further one."""
    repair_backoff_limit_seconds: float = 3_600.0
    repair_attempts: int = 5
    """After so many failures a chunk is parked until it is re-armed."""

    def __post_init__(self) -> None:
        """Raise Invalid for a number with which nothing would work."""
        check_sizes(self.chunk_characters, self.chunk_overlap)
        for name, low, high in _RANGES:
            value: Any = getattr(self, name)
            if not low <= check_float(name, value) <= high:
                raise Invalid(name, expected=f"a number from {low:g} to {high:g}", got=repr(value))
        check_count("pool_factor", self.pool_factor, 1, 1_000)
        check_count("pool_floor", self.pool_floor, 1, 1_000)
        check_count("repair_attempts", self.repair_attempts, 1, 1_000)


_RANGES = (
    ("rrf_k", 0.0, 1e6),
    ("text_weight", 0.0, 1.0),
    ("repair_lease_seconds", 1e-3, 1e6),
    ("repair_backoff_seconds", 1e-3, 1e6),
    ("repair_backoff_limit_seconds", 1e-3, 1e8),
)
