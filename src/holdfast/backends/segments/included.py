"""Copies of a collection's included fields beside a segment's texts, as a covering index has them.

They answer what filters ask and what hits are ordered by, without a look at any row. A field is
kept as its values and, two bytes a row, which of them each row has. What hardly repeats is kept row
by row: numbers, such as times, and texts that are of one length, such as keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy

from holdfast.core.filter import And, Compare, Filter, In, IsNull, Not, Or, Prefix

Listed = Mapping[str, list[Any] | int]
"""By field the values that occur; of what is kept row by row how many characters, 0 of numbers."""
Decode = Callable[[Any], Any]

_LONGEST: Final = 128
"""Characters of a text that is kept as it is."""
_NULL: Final = -(2**63)
"""Stands for null among numbers; it occurs as none."""
_VALUE_BYTES: Final = 64
"""What a value takes in memory besides its characters, about."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode


def build(values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The parts that stand for fields, by name their values in the order of the rows."""
    parts: dict[str, Any] = {}
    listed: dict[str, list[Any] | int] = {}
    for name, column in values.items():
        places = {value: place for place, value in enumerate(dict.fromkeys(column))}
        if 2 * len(places) > len(column):
            if size := _size(column):
                listed[name] = size
                parts[f"fixed:{name}"] = numpy.frombuffer("".join(column).encode("ascii"), "u1")
                continue
            if _are_numbers(places):
                listed[name] = 0
                parts[f"number:{name}"] = _numbers(column)
                continue
        listed[name] = list(places)
        if len(places) > 1:
            codes = map(places.__getitem__, column)
            parts[f"coded:{name}"] = numpy.fromiter(codes, "<u2", len(column))
    return {"included": numpy.frombuffer(_encode(listed), "u1"), **parts}


def _size(column: Sequence[Any]) -> int:
    """How long all of these texts are; 0 where they are not alike, or not to be kept as such."""
    size = len(column[0]) if isinstance(column[0], str) else 0
    alike = all(isinstance(value, str) and len(value) == size for value in column)
    plain = 0 < size <= _LONGEST and alike and all(map(str.isascii, column))
    return size if plain and "\0" not in "".join(column) else 0


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(value is None or (type(value) is int and value != _NULL) for value in values)


def _numbers(values: Sequence[Any]) -> Any:
    known = (_NULL if value is None else value for value in values)
    return numpy.fromiter(known, "<i8", len(values))


def listed(part: Any) -> Listed:
    """What a segment's part ``included`` says."""
    found: Listed = _decode(part.tobytes())
    return found


class Part(NamedTuple):
    """The copies of one segment."""

    rows: Any
    listed: Listed
    load: Callable[[str], Any]


class _Coded:
    """A field of all rows: its values, and which of them each row has; one for all with None."""

    def __init__(self, values: Sequence[Any], codes: Any) -> None:
        self._values = numpy.empty(len(values), object)
        self._values[:] = values
        self._codes = codes
        sizes = (len(value) for value in values if isinstance(value, str | bytes))
        self.nbytes = sum(sizes) + _VALUE_BYTES * len(values)
        self.nbytes += 0 if codes is None else codes.nbytes

    def take(self, at: Any) -> list[Any]:
        """The values at some places."""
        codes = numpy.zeros(at.size, "i8") if self._codes is None else self._codes.take(at)
        found: list[Any] = self._values.take(codes).tolist()
        return found

    def distinct(self, at: Any) -> tuple[list[Any], Any]:
        """The values that occur at some places, and which of them each has; None: the only one."""
        if self._codes is None:
            return self._values.tolist(), None
        codes, each = numpy.unique(self._codes.take(at), return_inverse=True)
        return self._values.take(codes).tolist(), each


class _ByRow:
    """A field that hardly repeats: characters of texts of one length, or numbers with null."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.nbytes = int(data.nbytes)

    def take(self, at: Any) -> list[Any]:
        """The values at some places."""
        found = self._data.take(at).tolist()
        if self._data.dtype.kind == "S":
            return list(map(bytes.decode, found))
        return [None if value == _NULL else value for value in found]

    def distinct(self, at: Any) -> tuple[list[Any], Any]:
        """As of a field that repeats."""
        return self.take(at), numpy.arange(at.size)


class Included:
    """The copies of all segments of a source. Immutable."""

    def __init__(self, parts: Sequence[Part], decoders: Mapping[str, Decode]) -> None:
        """``parts`` are in the order of their rows, ``decoders`` of those fields that need one."""
        self._rows = numpy.concatenate([_NO_ROWS, *(part.rows for part in parts)])
        names = set.intersection(*(set(part.listed) for part in parts)) if parts else set()
        self._fields = {name: _joined(name, parts) for name in names}
        self._decoders = decoders

    @property
    def nbytes(self) -> int:
        """What they take in memory."""
        return int(self._rows.nbytes) + sum(field.nbytes for field in self._fields.values())

    def has(self, names: Sequence[str]) -> bool:
        """Whether there are copies of all of these fields."""
        return self._fields.keys() >= set(names)

    def find(self, rows: Any, void: Any) -> tuple[Any, Any]:
        """Which of ``rows`` have copies that count, as a mask, and the places of these.

        ``void`` are the rows whose copies do not, rising.
        """
        if not self._rows.size:
            return numpy.zeros(rows.size, bool), _NO_ROWS
        at = self._rows.searchsorted(rows)
        held = self._rows.take(at, mode="clip") == rows
        if void.size:
            held &= void.take(void.searchsorted(rows), mode="clip") != rows
        return held, at[held]

    def values(self, name: str, at: Any) -> list[Any]:
        """A field's values at some places."""
        return self._decoded(name, self._fields[name].take(at))

    def passing(self, where: Filter, at: Any) -> Any:
        """Which of the rows at some places pass, as a mask; None if it asks for other fields."""
        passed = self._passing(where, at)
        return numpy.full(at.size, passed) if isinstance(passed, bool) else passed

    def _passing(self, where: Filter, at: Any) -> Any:
        """The same; or a bool, where that holds for all rows."""
        if isinstance(where, And | Or):
            return self._all_or_any(where, at)
        if isinstance(where, Not):
            passed = self._passing(where.part, at)
            if passed is None:
                return None
            return not passed if isinstance(passed, bool) else ~passed
        if not isinstance(where, Compare | In | IsNull | Prefix) or where.field not in self._fields:
            return None
        values, each = self._fields[where.field].distinct(at)
        told = [where.matches({where.field: v}) for v in self._decoded(where.field, values)]
        return told[0] if each is None else numpy.array(told, bool)[each]

    def _all_or_any(self, where: And | Or, at: Any) -> Any:
        """What all parts of an And say, or any part of an Or."""
        settles = isinstance(where, Or)
        whole: Any = not settles
        for part in where.parts:
            passed = self._passing(part, at)
            if passed is None or passed is settles:
                return passed
            if isinstance(passed, bool):
                continue
            if isinstance(whole, bool):
                whole = passed
            else:
                whole = whole | passed if settles else whole & passed
        return whole

    def _decoded(self, name: str, values: list[Any]) -> list[Any]:
        decode = self._decoders.get(name)
        if decode is None:
            return values
        return [None if value is None else decode(value) for value in values]


def _joined(name: str, parts: Sequence[Part]) -> _Coded | _ByRow:
    """A field through all segments."""
    kept = [part.listed[name] for part in parts]
    first = kept[0]
    if isinstance(first, int) and first and all(one == first for one in kept):
        return _ByRow(numpy.concatenate([_data(name, part) for part in parts]))
    if 0 in kept and all(one == 0 or (type(one) is list and _are_numbers(one)) for one in kept):
        return _ByRow(numpy.concatenate([_all_numbers(name, part) for part in parts]))
    places: dict[Any, int] = {}
    codes = numpy.empty(sum(part.rows.size for part in parts), "u4")
    last = 0
    for part in parts:
        first, last = last, last + part.rows.size
        values, own = _apart(name, part)
        known = [places.setdefault(value, len(places)) for value in values]
        codes[first:last] = known[0] if own is None else numpy.array(known, "u4")[own]
    return _Coded(list(places), codes if len(places) > 1 else None)


def _data(name: str, part: Part) -> Any:
    """A segment's values of a field that is kept row by row."""
    size = part.listed[name]
    return part.load(f"fixed:{name}").view(f"S{size}") if size else part.load(f"number:{name}")


def _all_numbers(name: str, part: Part) -> Any:
    """A segment's values of a field of numbers."""
    kept = part.listed[name]
    if not isinstance(kept, list):
        return _data(name, part)
    values = _numbers(kept)
    return values.repeat(part.rows.size) if len(kept) == 1 else values[part.load(f"coded:{name}")]


def _apart(name: str, part: Part) -> tuple[list[Any], Any]:
    """A segment's values of a field, and which of them each row has; None: the only one."""
    kept = part.listed[name]
    if not isinstance(kept, list):
        return _ByRow(_data(name, part)).distinct(numpy.arange(part.rows.size))
    return kept, part.load(f"coded:{name}") if len(kept) > 1 else None


_NO_ROWS: Final = numpy.empty(0, "i8")
