"""What a segment consists of, as it is kept: named arrays, of bytes in one order everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy

Loader = Callable[[str], Any]
"""Reads a part of a segment by name: an array, immutable, held by whoever reads."""

_TYPES: Final = {
    "rows": "<i8", "lengths": "<u4", "terms": "<u8", "starts": "<u4", "places": "<u4",
    "large": "<u4", "signs": "<u8", "levels": "u1", "scales": "<f4", "column": "<u2",
    "values": "<u8", "coded": "<u2", "number": "<i8",
}  # fmt: skip


def part(name: str, data: Any) -> Any:
    """The array that a part of this name holds; blocks of postings are bytes."""
    return numpy.frombuffer(data, _TYPES.get(name.partition(":")[0], "u1"))
