"""Copies of the fields that filters ask for, beside the rows of a segment.

A value is kept as its place among the segment's values, two bytes a row. They say which rows a
filter may let pass, without a look at any row: all that it does let pass, and by a rare clash of
hashes one too many. The caller asks the rows themselves in the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy

from holdfast.backends.segments.parts import Loader

Hints = Mapping[str, Sequence[Any]]
"""Fields, and the values of which each must have one."""

_FEW: Final = 256
_RARE: Final = 4
"""A field is copied if its values are few, or each occurs in so many rows on average."""

_encode = msgspec.msgpack.Encoder().encode


def build(values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The parts that stand for fields, by name their values in the order of the rows."""
    parts, held = {}, []
    for name, column in values.items():
        places = {value: place for place, value in enumerate(dict.fromkeys(column))}
        if len(places) > max(_FEW, len(column) // _RARE):
            continue
        held.append(name)
        codes = map(places.__getitem__, column)
        parts[f"column:{name}"] = numpy.fromiter(codes, "<u2", len(column))
        parts[f"values:{name}"] = numpy.array([_hashed(value) for value in places], "<u8")
    parts["fields"] = numpy.frombuffer(_encode(held), "u1")
    return parts


def names(load: Loader) -> list[str]:
    """The fields that a segment holds copies of."""
    found: list[str] = msgspec.msgpack.decode(load("fields").tobytes())
    return found


def allowed(load: Loader, hints: Hints) -> Any:
    """Which rows of a segment may pass, as a mask; None if nothing is known of the fields."""
    if not hints:
        return None
    known = names(load)
    mask = None
    for name, wanted in hints.items():
        if name not in known:
            continue
        values, column = load(f"values:{name}"), load(f"column:{name}")
        codes = numpy.flatnonzero(numpy.isin(values, [_hashed(value) for value in wanted]))
        found = column == codes[0] if codes.size == 1 else numpy.isin(column, codes)
        mask = found if mask is None else mask & found
    return mask


def _hashed(value: Any) -> Any:
    encoded = _encode(int(value) if isinstance(value, bool) else value)
    return numpy.uint64(int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little"))
