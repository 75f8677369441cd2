"""What a writer may say about a memory, and the check of each field before any I/O."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict

from holdfast.core.digests import sha256
from holdfast.core.errors import Invalid, InvalidText, kind_of
from holdfast.core.text import normalize_content
from holdfast.core.values import (
    check_bool,
    check_count,
    check_float,
    check_json,
    check_text,
    check_texts,
    check_time,
)
from holdfast.stores.memory.records import KINDS, SIGNIFICANCES, TIERS

NAME_LIMIT: Final = 256
"""Longest id, kind, speaker, session and other short text, in characters."""
CONTENT_LIMIT: Final = 1_000_000
"""Longest content, in characters."""


class MemoryFields(TypedDict, total=False):
    """What `remember` takes besides the content; `records.Memory` says what each means."""

    id: str
    """Minted when not given."""
    kind: str
    type: str
    tier: str
    level: int
    tags: Sequence[str]
    source: str | None
    trust: int
    role: str | None
    speaker: str | None
    session: str | None
    turn: int | None
    said_at: datetime | None
    confidence: float
    importance: float
    significance: str
    valence: float | None
    arousal: float | None
    mood: str | None
    reflection: str | None
    lesson: str | None
    happened_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    expires_at: datetime | None
    """An instant; else ``ttl_seconds``, else the tier's life."""
    ttl_seconds: float | None
    pinned: bool
    metadata: Mapping[str, Any]
    created_at: datetime


class NewMemory(MemoryFields, total=False):
    """An entry of `remember_many`: ``content``, required, with the other fields."""

    content: str
    vector: Any


def check_content(value: object) -> str:
    """Content with at least one character that is not a space."""
    text = check_text("content", value, CONTENT_LIMIT)
    if not text or text.isspace():
        raise Invalid("content", expected="text that says something", got="nothing")
    return text


def fingerprint_of(content: str) -> str:
    """SHA-256 of the normalised content: equal for texts that a reader would call the same."""
    return sha256(normalize_content(content).encode()).hexdigest()


def place_of(session: str | None, turn: int | None) -> str:
    """Where a turn stands, as one text; "" when it is no turn."""
    return "" if session is None or turn is None else f"{session}#{turn}"


def check_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields in canonical form, or Invalid naming the one that is wrong."""
    checked = {}
    for name, value in fields.items():
        check = _CHECKS.get(name)
        if check is None:
            raise Invalid(name, expected="a field of a memory", got="an unknown name")
        checked[name] = check(name, value)
    start, end = checked.get("valid_from"), checked.get("valid_to")
    if start is not None and end is not None and end <= start:
        raise Invalid("valid_to", expected="an instant after valid_from", got="an earlier one")
    if checked.get("turn") is not None and checked.get("session") is None:
        raise Invalid("turn", expected="a session along with it", got="no session")
    return checked


def check_stored(row: Mapping[str, Any]) -> None:
    """What `check_fields` says of each field by itself, and of the content of a whole record."""
    check_content(row["content"])
    for name, check in _CHECKS.items():
        check(name, row[name])


def check_kind(field: str, value: object) -> str:
    """A well-known kind as it is spelled, or any other short text."""
    kind = check_name(field, value)
    if kind not in KINDS and kind.casefold() in KINDS:
        raise Invalid(field, expected=f"the well-known kind {kind.casefold()!r}", got=repr(kind))
    return kind


def check_name(field: str, value: object) -> str:
    """Short printable text without outer spaces."""
    text = check_text(field, value, NAME_LIMIT)
    if not text or text.strip() != text:
        raise Invalid(field, expected="text without outer spaces", got=repr(text))
    if not text.isprintable():
        raise InvalidText(field, expected="printable characters", got="unprintable text")
    return text


def check_tier(field: str, value: object) -> str:
    """One of TIERS."""
    return check_one_of(field, value, TIERS)


def check_fraction(field: str, value: object) -> float:
    """A number from 0 to 1."""
    return check_between(field, value, 0.0, 1.0)


def check_seconds(field: str, value: object) -> float:
    """A stretch of time above 0."""
    return check_between(field, value, 1e-6, 1e10)


def check_metadata(field: str, value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, Mapping):
        raise Invalid(field, expected="an object", got=kind_of(value))
    checked: dict[str, Any] = check_json(field, value)
    return checked


def check_one_of(field: str, value: object, allowed: Sequence[str]) -> str:
    """One of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        got = value if not isinstance(value, str) else repr(value)
        raise Invalid(field, expected=f"one of {', '.join(allowed)}", got=got)
    return value


def check_between(field: str, value: object, low: float, high: float) -> float:
    """A number from ``low`` to ``high``."""
    number = check_float(field, value)
    if not low <= number <= high:
        raise Invalid(field, expected=f"a number from {low:g} to {high:g}", got=repr(number))
    return number


def _optional(check: Callable[[str, object], Any]) -> Callable[[str, object], Any]:
    return lambda field, value: None if value is None else check(field, value)


_CHECKS: Final[dict[str, Callable[[str, object], Any]]] = {
    "id": check_name,
    "kind": check_kind,
    "type": lambda field, value: check_text(field, value, NAME_LIMIT),
    "tier": check_tier,
    "level": lambda field, value: check_count(field, value, 0, 1_000),
    "tags": check_texts,
    "trust": lambda field, value: check_count(field, value, 0, 3),
    "turn": _optional(lambda field, value: check_count(field, value, -(2**53), 2**53)),
    "confidence": check_fraction,
    "importance": check_fraction,
    "significance": lambda field, value: check_one_of(field, value, tuple(SIGNIFICANCES)),
    "valence": _optional(lambda field, value: check_between(field, value, -1.0, 1.0)),
    "arousal": _optional(check_fraction),
    "reflection": _optional(check_text),
    "lesson": _optional(check_text),
    "ttl_seconds": _optional(check_seconds),
    "pinned": check_bool,
    "metadata": check_metadata,
    "created_at": check_time,
    **{name: _optional(check_name) for name in ("source", "role", "speaker", "session", "mood")},
    **{
        name: _optional(check_time)
        for name in ("said_at", "happened_at", "valid_from", "valid_to", "expires_at")
    },
}
