"""The numbers by which memory works. Each is a starting value; pass another policy to change it."""

from __future__ import annotations

import msgspec

from holdfast.core.errors import Invalid
from holdfast.core.values import check_bool, check_count, check_float


class MemoryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Lifetimes in hours or days, thresholds as cosine similarity, rates per period.

    ``storage.memory.configured(MemoryPolicy(...))`` is the store with these numbers.
    """

    working_hours: float | None = 72.0
    """Life of the working tier; None for no end."""
    episodic_hours: float | None = 720.0
    semantic_hours: float | None = None
    procedural_hours: float | None = None

    confidence_start: float = 0.4
    """Of a memory whose writer gives none."""
    confidence_imported: float = 0.25
    """Of one that comes from another system and brings none."""
    confidence_growth: float = 0.1
    """Share of what is missing to 1 that a corroboration adds."""
    corroborate_hours: float = 24.0
    """A memory is corroborated once in this time."""

    decay_rate: float = 0.1
    decay_floor: float = 0.1
    decay_idle_days: float = 7.0
    decay_period_hours: float = 24.0

    duplicate_similarity: float = 0.95
    """From here on a new memory counts as a near duplicate."""
    merge_similarity: float = 0.85

    junk_terms: int = 1
    """A content with fewer distinct terms is junk; see `hygiene` for this and the next ones."""
    junk_variety: float = 0.25
    echo_overlap: float = 0.8
    echo_seconds: float = 600.0
    conflict_overlap: float = 0.7
    unrecalled_days: float = 30.0

    promote_accesses: int = 3
    promote_window_hours: float = 24.0
    demote_confidence: float = 0.35
    demote_idle_hours: float = 168.0
    short_term_limit: int = 1_000
    retention_half_life_days: float = 7.0

    chunk_characters: int = 1_000
    """Longer memories get a vector for each stretch of this length."""
    chunk_overlap: int = 100

    reuse_embeddings: bool = False
    """Keep vectors by text and use them again, those of queries too, so that a recall writes the
    ones that are new. It costs a read and a row per new text, and pays where embedding means a
    call to a service."""
    embeddings_limit: int = 10_000
    """Vectors kept for reuse; the oldest go first."""

    repair_lease_seconds: float = 60.0
    repair_backoff_seconds: float = 60.0
    """Wait after the first failure; it doubles with each further one."""
    repair_backoff_limit_seconds: float = 3_600.0
    repair_attempts: int = 5
    """After so many failures a row is parked until it is re-armed."""

    def __post_init__(self) -> None:
        """Raise Invalid for a number with which nothing would work."""
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is None and name.endswith("_hours"):
                continue
            if isinstance(low, int):
                check_count(name, value, low, int(high))
            elif not low <= check_float(name, value) <= high:
                raise Invalid(name, expected=f"a number from {low} to {high}", got=repr(value))
        check_bool("reuse_embeddings", self.reuse_embeddings)
        if not self.chunk_overlap < self.chunk_characters:
            raise Invalid("chunk_overlap", expected="less than chunk_characters", got="more")

    def life_seconds(self, tier: str) -> float | None:
        """How long a memory of the tier lives, in seconds; None for no end."""
        hours = getattr(self, f"{tier}_hours")
        return None if hours is None else hours * 3_600.0


_RANGES = (
    *((f"{tier}_hours", 1e-6, 1e6) for tier in ("working", "episodic", "semantic", "procedural")),
    *((name, 0.0, 1.0) for name in ("confidence_start", "confidence_growth", "decay_rate")),
    *((name, 0.0, 1.0) for name in ("confidence_imported", "decay_floor", "demote_confidence")),
    *((name, -1.0, 1.0) for name in ("duplicate_similarity", "merge_similarity")),
    *((name, 0.0, 1e6) for name in ("decay_idle_days", "decay_period_hours", "corroborate_hours")),
    *((name, 0.0, 1e6) for name in ("promote_window_hours", "demote_idle_hours")),
    ("retention_half_life_days", 1e-6, 1e6),
    *((name, 0.0, 1.0) for name in ("junk_variety", "echo_overlap", "conflict_overlap")),
    ("junk_terms", 0, 1_000),
    ("echo_seconds", 0.0, 1e9),
    ("unrecalled_days", 0.0, 1e6),
    ("promote_accesses", 1, 1_000_000),
    ("short_term_limit", 0, 1_000_000),
    ("chunk_characters", 50, 1_000_000),
    ("chunk_overlap", 0, 1_000_000),
    ("embeddings_limit", 1, 10_000_000),
    ("repair_lease_seconds", 1e-3, 1e6),
    ("repair_backoff_seconds", 1e-3, 1e6),
    ("repair_backoff_limit_seconds", 1e-3, 1e8),
    ("repair_attempts", 1, 1_000),
)
