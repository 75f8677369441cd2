"""Which memories are meant: the caller's narrowing, and what is live at an instant."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict

from holdfast.core.errors import Invalid, kind_of
from holdfast.core.filter import (
    Contains,
    Filter,
    JsonExists,
    JsonPath,
    among,
    both,
    either,
    eq,
    ge,
    gt,
    is_null,
    le,
    lt,
)
from holdfast.core.values import (
    check_bool,
    check_count,
    check_float,
    check_json,
    check_json_path,
    check_text,
    check_texts,
    check_time,
)


class MemoryFilters(TypedDict, total=False):
    """Narrowing by what a memory says of itself. All that are given must hold.

    A list means any of its values, but ``tags`` means all of them. Ends named ``_from`` and
    ``_to`` are included. ``metadata`` holds keys, or paths with dots, and the scalar that each
    must equal (None: must be missing); ``metadata_not`` what it must not equal.
    """

    tags: Sequence[str]
    kinds: Sequence[str]
    types: Sequence[str]
    tiers: Sequence[str]
    levels: Sequence[int]
    sources: Sequence[str]
    roles: Sequence[str]
    speakers: Sequence[str]
    sessions: Sequence[str]
    moods: Sequence[str]
    significances: Sequence[str]
    namespaces: Sequence[str]
    ids: Sequence[str]
    exclude_ids: Sequence[str]
    metadata: Mapping[str, Any]
    metadata_not: Mapping[str, Any]
    min_confidence: float
    min_importance: float
    min_trust: int
    min_valence: float
    max_valence: float
    min_arousal: float
    max_arousal: float
    created_from: datetime
    created_to: datetime
    accessed_from: datetime
    accessed_to: datetime
    said_from: datetime
    said_to: datetime
    happened_from: datetime
    happened_to: datetime
    unique_only: bool
    pinned: bool


def filter_of(filters: Mapping[str, Any]) -> Filter | None:
    """The contract's filter for the caller's narrowing; Invalid for what is unknown or wrong."""
    parts: list[Filter] = []
    for name, value in filters.items():
        build = _BUILDERS.get(name)
        if build is None:
            raise Invalid(name, expected="a filter of memories", got="an unknown name")
        part = build(name, value)
        if part is not None:
            parts.append(part)
    return both(*parts) if parts else None


def present_at(instant: datetime) -> Filter:
    """Neither forgotten nor quarantined, and neither expired nor outside its validity then."""
    return both(
        is_null("forgotten_at"),
        is_null("quarantined_at"),
        either(is_null("expires_at"), gt("expires_at", instant), eq("pinned", True)),
        either(is_null("valid_from"), le("valid_from", instant)),
        either(is_null("valid_to"), gt("valid_to", instant)),
    )


def seen() -> Filter:
    """Neither forgotten nor quarantined, whatever the time."""
    return both(is_null("forgotten_at"), is_null("quarantined_at"))


def open_row() -> Filter:
    """Not forgotten and not closed: what may still be changed."""
    return both(is_null("forgotten_at"), is_null("superseded_by"), is_null("contradicted_by"))


Builder = Callable[[str, Any], Filter | None]


def _any_of(field: str) -> Builder:
    def build(name: str, value: Any) -> Filter:
        return among(field, check_texts(name, value))

    return build


def _levels(name: str, value: Any) -> Filter:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise Invalid(name, expected="a list of levels", got=kind_of(value))
    return among("level", [check_count(name, level, 0, 1_000) for level in value])


def _tags(name: str, value: Any) -> Filter | None:
    tags = check_texts(name, value)
    return Contains("tags", tuple(tags)) if tags else None


def _excluded(name: str, value: Any) -> Filter | None:
    ids = check_texts(name, value)
    return ~among("id", ids) if ids else None


def _metadata(equal: bool) -> Builder:
    def build(name: str, value: Any) -> Filter | None:
        if not isinstance(value, Mapping):
            raise Invalid(name, expected="an object of paths and values", got=kind_of(value))
        parts = [_path(name, check_text(name, path), held, equal) for path, held in value.items()]
        return both(*parts) if parts else None

    return build


def _path(name: str, path: str, value: Any, equal: bool) -> Filter:
    keys = check_json_path(name, path.split("."))
    if value is None:
        exists = JsonExists("metadata", keys)
        return ~exists if equal else exists
    if not isinstance(value, str | int | float | bool):
        raise Invalid(
            f"{name}.{path}", expected="text, a number, true, false or null", got=kind_of(value)
        )
    return JsonPath("metadata", keys, "eq" if equal else "ne", check_json(name, value))


def _floor(field: str) -> Builder:
    return lambda name, value: ge(field, check_float(name, value))


def _ceiling(field: str) -> Builder:
    return lambda name, value: le(field, check_float(name, value))


def _since(field: str) -> Builder:
    return lambda name, value: ge(field, check_time(name, value))


def _until(field: str) -> Builder:
    return lambda name, value: le(field, check_time(name, value))


_BUILDERS: Final[dict[str, Builder]] = {
    "tags": _tags,
    "kinds": _any_of("kind"),
    "types": _any_of("type"),
    "tiers": _any_of("tier"),
    "levels": _levels,
    "sources": _any_of("source"),
    "roles": _any_of("role"),
    "speakers": _any_of("speaker"),
    "sessions": _any_of("session"),
    "moods": _any_of("mood"),
    "significances": _any_of("significance"),
    "namespaces": _any_of("namespace"),
    "ids": _any_of("id"),
    "exclude_ids": _excluded,
    "metadata": _metadata(True),
    "metadata_not": _metadata(False),
    "min_confidence": _floor("confidence"),
    "min_importance": _floor("importance"),
    "min_trust": lambda name, value: ge("trust", check_count(name, value, 0, 3)),
    "min_valence": _floor("valence"),
    "max_valence": _ceiling("valence"),
    "min_arousal": _floor("arousal"),
    "max_arousal": _ceiling("arousal"),
    **{
        f"{stem}_from": _since(field)
        for stem, field in (
            ("created", "created_at"),
            ("accessed", "last_accessed_at"),
            ("said", "said_at"),
            ("happened", "happened_at"),
        )
    },
    **{
        f"{stem}_to": _until(field)
        for stem, field in (
            ("created", "created_at"),
            ("accessed", "last_accessed_at"),
            ("said", "said_at"),
            ("happened", "happened_at"),
        )
    },
    "unique_only": lambda name, value: eq("is_unique", True) if check_bool(name, value) else None,
    "pinned": lambda name, value: eq("pinned", check_bool(name, value)),
}


def expired_at(cutoff: datetime) -> Filter:
    """Past its expiry at the cutoff, and not pinned."""
    return both(le("expires_at", cutoff), eq("pinned", False))


def closed_before(cutoff: datetime) -> Filter:
    """Forgotten, or closed by a successor, before the cutoff."""
    superseded = both(~is_null("superseded_by"), lt("valid_to", cutoff))
    return either(lt("forgotten_at", cutoff), superseded)
