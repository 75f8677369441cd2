"""What a store says about its methods for those who run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def halved(*whole: str) -> Callable[[Method], Method]:
    """Mark a grouped write whose last act is to return what `Store._perform` gives.

    Of many such calls that share a commit, the changes are made by one apply: `core.halves`. A call
    in which one of the keyword arguments ``whole`` is given is done by itself, from end to end.
    """

    def mark(method: Method) -> Method:
        setattr(method, HALVED, whole)
        return grouped(method)

    return mark


def is_halved(method: object, given: Mapping[str, object]) -> bool:
    """Whether `halved` marked this method, and a call with these keyword arguments is meant."""
    whole = getattr(method, HALVED, None)
    return whole is not None and all(given.get(name) is None for name in whole)


def is_grouped(method: object) -> bool:
    """Whether `grouped` marked this method."""
    return getattr(method, GROUPED, False) is True
