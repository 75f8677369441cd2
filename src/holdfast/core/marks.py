"""What a store says about its methods for those who run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Method = TypeVar("Method", bound=Callable[..., object])

GROUPED = "__grouped__"


def grouped(method: Method) -> Method:
    """Mark a write that only makes contract calls: no embedder, no callable of the caller's.

    The async facade runs such writes of many tasks together, inside one `Driver.group`, so that
    they share a commit. A slow one would make all the others wait.
    """
    setattr(method, GROUPED, True)
    return method


def is_grouped(method: object) -> bool:
    """Whether `grouped` marked this method."""
    return getattr(method, GROUPED, False) is True
