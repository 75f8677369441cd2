"""One rule each for text, JSON, numbers, instants and vectors, the same on every backend.

Each check returns the value in its canonical form or raises before any I/O.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NoReturn

import msgspec

from holdfast.core.errors import (
    DimensionMismatch,
    Invalid,
    InvalidJson,
    InvalidText,
    InvalidVector,
    TooLarge,
    kind_of,
)

Kind = Literal["text", "int", "float", "bool", "time", "json", "bytes", "texts"]

TEXT_LIMIT: Final = 16 * 1024 * 1024
"""Longest text or bytes value, in characters or bytes."""
KEYED_TEXT_LIMIT: Final = 512
"""Longest text in a key, unique key or index, in characters: four bytes each still fit a
PostgreSQL b-tree entry (2,704 bytes)."""
JSON_DEPTH_LIMIT: Final = 64
JSON_KEY_LIMIT: Final = 128
"""Longest key of a path into JSON, in characters."""
JSON_SIZE_LIMIT: Final = 1024 * 1024
"""Largest JSON value, in bytes of UTF-8."""
_SHORT_JSON: Final = JSON_SIZE_LIMIT // 8
"""Text of so many characters is within the limit however it is escaped."""
LIST_LIMIT: Final = 1024
"""Most entries of a text list."""
INT_LIMIT: Final = 2**63
VECTOR_WIDTH_LIMIT: Final = 16_000
"""That of pgvector, so that every engine takes the same vectors."""

_ORDER: Final = "" if sys.byteorder == "little" else "<"
"""Little-endian numbers; where that is the machine's own order, half as long to read as such."""
EPOCH: Final[datetime] = msgspec.msgpack.decode(b"\xd6\xff\x00\x00\x00\x00")
"""1970. Decoded, because tests that stop the clock put a class of their own in datetime's place."""
_MICROSECOND: Final = timedelta(microseconds=1)


def check_text(field: str, value: object, limit: int = TEXT_LIMIT) -> str:
    """Unicode scalar values without NUL, at most ``limit`` characters."""
    if type(value) is not str:
        if not isinstance(value, str):
            raise Invalid(field, expected="text", got=kind_of(value))
        value = str.__str__(value)
    if len(value) > limit:
        raise TooLarge(field, expected=f"at most {limit} characters", got=f"{len(value)}")
    if "\x00" in value:
        raise InvalidText(field, expected="text without NUL", got="a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidText(
                field,
                expected="Unicode text",
                got=f"a lone surrogate at position {error.start}",
                hint="Decode the source as UTF-8 with errors='replace'.",
            ) from None
    return value


def check_keyed_text(field: str, value: object) -> str:
    """Text short enough for a key or an index."""
    return check_text(field, value, KEYED_TEXT_LIMIT)


def check_int(field: str, value: object) -> int:
    """A 64-bit signed integer; bool is not one."""
    if type(value) is not int:
        raise Invalid(field, expected="an integer", got=kind_of(value))
    if not -INT_LIMIT <= value < INT_LIMIT:
        raise Invalid(field, expected="an integer of 64 bits", got="a larger one")
    return value


def check_float(field: str, value: object) -> float:
    """A finite number; integers are accepted and stored as floats, bool is not."""
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid(field, expected="a number", got=kind_of(value))
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if not math.isfinite(value):
        raise Invalid(field, expected="a finite number", got=repr(value))
    return value


def check_bool(field: str, value: object) -> bool:
    """True or False, nothing that merely behaves like it."""
    if type(value) is not bool:
        raise Invalid(field, expected="true or false", got=kind_of(value))
    return value


def check_time(field: str, value: object) -> datetime:
    """An aware instant, returned as a plain datetime in UTC."""
    if not isinstance(value, datetime):
        raise Invalid(field, expected="a datetime", got=kind_of(value))
    if value.tzinfo is UTC and type(value) is type(EPOCH):
        return value
    if value.tzinfo is None or value.utcoffset() is None:
        raise Invalid(
            field,
            expected="a datetime with a time zone",
            got="a naive datetime",
            hint="Add tzinfo, for example datetime.now(timezone.utc).",
        )
    try:
        # Of a subclass, such as pendulum and pandas make, what is said is the instant alone.
        return EPOCH + type(EPOCH).__sub__(value, EPOCH)
    except OverflowError:
        raise Invalid(field, expected="an instant of years 1 to 9999", got="another") from None


def check_bytes(field: str, value: object) -> bytes:
    """Bytes up to the limit."""
    if type(value) is not bytes:
        if not isinstance(value, bytes):
            raise Invalid(field, expected="bytes", got=kind_of(value))
        value = memoryview(value).tobytes()
    if len(value) > TEXT_LIMIT:
        raise TooLarge(field, expected=f"at most {TEXT_LIMIT} bytes", got=f"{len(value)}")
    return value


def check_texts(field: str, value: object) -> list[str]:
    """A list of texts, each short enough to be filtered by."""
    if type(value) is list and not value:
        return []
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise Invalid(field, expected="a list of texts", got=kind_of(value))
    if len(value) > LIST_LIMIT:
        raise TooLarge(field, expected=f"at most {LIST_LIMIT} entries", got=f"{len(value)}")
    return [check_keyed_text(f"{field}[{i}]", entry) for i, entry in enumerate(value)]


def check_json(field: str, value: object) -> Any:
    """JSON: objects with text keys, lists, text, finite numbers, 64-bit integers, bool, null.

    What one list holds many times counts as often as it would be written.
    """
    if value is None:
        return None
    if type(value) is dict and not value:  # whatever else it is may have no truth, as an array has
        return {}
    if type(value) is str and len(value) <= _SHORT_JSON:
        return check_text(field, value)
    checked = _json(field, value, JSON_DEPTH_LIMIT, [JSON_SIZE_LIMIT])
    size = len(msgspec.json.encode(checked))
    if size > JSON_SIZE_LIMIT:
        _too_much_json(field, f"{size}")
    return checked


def _json(field: str, value: Any, depth: int, left: list[int]) -> Any:
    """A plain copy. ``left`` is how many bytes it may still take, of which none is counted twice.

    Counted as it is copied: a few lists that hold each other are more than any memory written out.
    """
    kind = type(value)
    if kind is str:
        left[0] -= len(value)
        return check_text(field, value) if left[0] >= 0 else _too_much_json(field)
    if value is None or kind is bool:
        return value
    if kind is int:
        return _json_number(field, check_int, value)
    if kind is float:
        return _json_number(field, check_float, value)
    if kind is dict or kind is list or isinstance(value, Mapping | list | tuple):
        left[0] -= len(value) + 1
        if left[0] < 0:
            _too_much_json(field)
        if depth == 0:
            raise InvalidJson(field, expected=f"at most {JSON_DEPTH_LIMIT} levels", got="more")
        if kind is list or (kind is not dict and isinstance(value, list | tuple)):
            return [_json(field, held, depth - 1, left) for held in value]
        for key in value:
            if not isinstance(key, str):
                raise InvalidJson(field, expected="text keys", got=key)
            left[0] -= len(key)
        named = f"{field} key"
        return {
            check_text(named, key): _json(field, held, depth - 1, left)
            for key, held in value.items()
        }
    return _json_scalar(field, value, left)


def _json_scalar(field: str, value: object, left: list[int]) -> Any:
    """A value of a subclass, as the members of an enumeration are and the numbers of numpy."""
    if isinstance(value, str):
        return _json(field, str.__str__(value), 0, left)
    if isinstance(value, int):
        return _json_number(field, check_int, int.__int__(value))
    if isinstance(value, float):
        return _json_number(field, check_float, value)
    raise InvalidJson(field, expected="JSON", got=kind_of(value))


def _too_much_json(field: str, size: str = "more") -> NoReturn:
    raise TooLarge(field, expected=f"at most {JSON_SIZE_LIMIT} bytes of JSON", got=size)


def _json_number(field: str, check: Callable[[str, object], Any], value: object) -> Any:
    try:
        return check(field, value)
    except Invalid as error:
        raise InvalidJson(
            field, expected=error.context["expected"], got=error.context["got"]
        ) from None


def check_json_path(field: str, path: object) -> tuple[str, ...]:
    """The keys that lead to a value inside JSON objects."""
    if not isinstance(path, list | tuple):
        raise Invalid(f"{field} path", expected="a list", got=kind_of(path))
    if not 1 <= len(path) <= 16:
        raise Invalid(field, expected="a path of 1 to 16 keys", got=f"{len(path)} keys")
    keys = tuple(check_text(f"{field} path", key, JSON_KEY_LIMIT) for key in path)
    for key in keys:
        if not key or not all(c.isalnum() or c in "_-. " for c in key):
            raise Invalid(
                f"{field} path", expected="keys of letters, digits, '_', '-', '.'", got="others"
            )
    return keys


CHECKS: Final[dict[Kind, Callable[[str, object], Any]]] = {
    "text": check_text,
    "int": check_int,
    "float": check_float,
    "bool": check_bool,
    "time": check_time,
    "json": check_json,
    "bytes": check_bytes,
    "texts": check_texts,
}


def plain(value: object) -> Any:
    """What a value says that a check accepts and msgspec does not encode: its ``enc_hook``."""
    for kind, read in _PLAIN:
        if isinstance(value, kind):
            return read(value)
    raise TypeError(f"no plain form of {kind_of(value)}")


_PLAIN: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (type(EPOCH), lambda value: check_time("time", value)),
    (str, str.__str__),
    (bytes, lambda value: memoryview(value).tobytes()),
    (float, float),
    (int, int.__int__),
    (Mapping, dict),
    (Sequence, list),
)


class Vector(msgspec.Struct, frozen=True):
    """A direction in a named embedding space: ``data`` is little-endian float32."""

    space: str
    data: bytes

    @property
    def width(self) -> int:
        """How many numbers it has."""
        return len(self.data) // 4


def vector_of(field: str, space: str, values: object) -> Vector:
    """A checked vector from numbers or a numpy array.

    Raises InvalidVector for what is not finite or has no direction, TooLarge beyond
    VECTOR_WIDTH_LIMIT numbers.
    """
    import numpy

    if isinstance(values, str | bytes) or values is None:
        raise InvalidVector(field, expected="a list of numbers", got=kind_of(values))
    if isinstance(values, list | tuple) and [v for v in values if v is True or v is False]:
        raise InvalidVector(field, expected="numbers", got="bool")
    try:
        array = numpy.asarray(values)
        if array.dtype.kind not in "fiu":
            raise InvalidVector(field, expected="numbers", got=f"an array of {array.dtype}")
        if array.dtype != "<f4":
            with numpy.errstate(over="ignore"):
                array = array.astype("<f4")
        if not array.ndim:
            array = array.reshape(1)
    except (ValueError, TypeError):
        raise InvalidVector(field, expected="a list of numbers", got=kind_of(values)) from None
    if array.ndim != 1 or not array.size:
        raise InvalidVector(field, expected="one row of numbers", got=f"shape {array.shape}")
    if array.size > VECTOR_WIDTH_LIMIT:
        raise TooLarge(field, expected=f"at most {VECTOR_WIDTH_LIMIT} numbers", got=f"{array.size}")
    vector = Vector(space, array.tobytes())
    _check_numbers(field, vector)
    return vector


def check_vector(field: str, value: object, width: int | None = None) -> Vector:
    """A Vector that is finite, has a direction and, where given, the wanted width."""
    if not isinstance(value, Vector):
        raise InvalidVector(field, expected="a Vector", got=kind_of(value))
    check_keyed_text(f"{field} space", value.space)
    if not isinstance(value.data, bytes):
        raise InvalidVector(field, expected="bytes of float32 numbers", got=kind_of(value.data))
    if width is not None and value.width != width:
        raise DimensionMismatch(field, expected=f"{width} numbers", got=f"{value.width}")
    if len(value.data) % 4 or not value.data:
        raise InvalidVector(field, expected="whole float32 numbers", got="a torn vector")
    if value.width > VECTOR_WIDTH_LIMIT:
        raise TooLarge(
            field, expected=f"at most {VECTOR_WIDTH_LIMIT} numbers", got=f"{value.width}"
        )
    _check_numbers(field, value)
    return value


def _check_numbers(field: str, value: Vector) -> None:
    """That all are finite, and one is not 0.

    Without numpy, whose import would be most of the time to a first memory.
    """
    # Numbers that are not finite begin so, and those that are 0; hardly any other does.
    beginnings = value.data[3::4]
    if not (0x7F in beginnings or 0xFF in beginnings) and beginnings.strip(b"\x00\x80"):
        return
    numbers = struct.unpack(f"{_ORDER}{value.width}f", value.data)
    # A sum of float32 numbers cannot pass what a float holds.
    if not math.isfinite(sum(numbers)):
        raise InvalidVector(field, expected="finite numbers", got="NaN or infinity")
    if not any(numbers):
        raise InvalidVector(field, expected="a vector with a direction", got="all zeros")


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly."""
    delta = instant - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(micros: int) -> datetime:
    """The instant so many microseconds after 1970, exactly.

    Raises OverflowError outside years 1 to 9999.
    """
    return EPOCH + _MICROSECOND * micros  # half as long as making a timedelta of them


def check_count(field: str, value: object, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, both included: limits, k, batch sizes."""
    if type(value) is int and low <= value <= high:
        return value
    number = check_int(field, value)
    raise Invalid(field, expected=f"an integer from {low} to {high}", got=str(number))


def check_seconds(field: str, value: object, low: float, high: float) -> float:
    """A duration from ``low`` to ``high`` seconds, both included."""
    number = check_float(field, value)
    if not low <= number <= high:
        raise Invalid(field, expected=f"{low:g} to {high:g} seconds", got=f"{number:g}")
    return number
