"""What a store says about its methods for those who run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Method = TypeVar("Method", bound=Callable[..., object])

GROUPED = "__grouped__"
HALVED = "__halved__"


def grouped(method: Method) -> Method:
    """Mark a write that only makes contract calls: no embedder, no callable of the caller's.

    The async facade runs such writes of many tasks together, inside one `Driver.group`, so that
    they share a commit. A slow one would make all the others wait.
    """
    setattr(method, GROUPED, True)
    return method


def halved(method: Method) -> Method:
    """Mark a grouped write whose last act is to return what `Store._perform` gives, or its answer.

    Of many such calls that share a commit, the changes are made by one apply: `core.halves`.
    """
    setattr(method, HALVED, True)
    return grouped(method)


def is_halved(method: object) -> bool:
    """Whether `halved` marked this method."""
    return getattr(method, HALVED, False) is True


def is_grouped(method: object) -> bool:
    """Whether `grouped` marked this method."""
    return getattr(method, GROUPED, False) is True
