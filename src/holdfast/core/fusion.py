"""Making one order of what several legs found: reciprocal ranks, and scores on one scale."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, TypeVar

Key = TypeVar("Key", bound=Hashable)

RRF_K: Final = 60.0
"""The constant of reciprocal rank fusion; 60 is Cormack et al. (2009)."""


def reciprocal_ranks(best_first: Sequence[Key], k: float = RRF_K) -> dict[Key, float]:
    """What each gains by its place: ``1 / (k + rank + 1)``, ranks from 0.

    >>> reciprocal_ranks(["a", "b"], 1.0)
    {'a': 0.5, 'b': 0.3333333333333333}
    """
    return {key: 1.0 / (k + rank + 1.0) for rank, key in enumerate(best_first)}


def stretched(scores: Sequence[float | None], top: float = 1.0) -> list[float]:
    """The scores on a scale of 0 to ``top``; 0 for what the leg did not find.

    >>> stretched([2.0, None, 4.0, 3.0])
    [0.0, 0.0, 1.0, 0.5]
    """
    found = [score for score in scores if score is not None]
    if not found:
        return [0.0] * len(scores)
    low, high = min(found), max(found)
    if high == low:
        return [0.0 if score is None else top for score in scores]
    span = high - low
    return [0.0 if score is None else top * ((score - low) / span) for score in scores]
