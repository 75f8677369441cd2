"""What a writer may say about a document, and the check of each field before any I/O."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypedDict

from holdfast.core.errors import Invalid, InvalidText, kind_of
from holdfast.core.filter import Contains, Filter, JsonExists, JsonPath, among
from holdfast.core.values import check_json, check_text, check_texts, check_time
from holdfast.stores.knowledge.access import Access, words_of_document

NAME_LIMIT: Final = 400
"""Longest id, source and other short text, in characters."""
CONTENT_LIMIT: Final = 4_000_000
"""Longest content of a document, in characters."""
CHUNKS_LIMIT: Final = 9_000
"""Most chunks of a document; they are all written as one."""


class DocumentFields(TypedDict, total=False):
    """What `put` takes besides id and content; `records.Document` says what each means.

    What is not given stays as it is, and None takes it back to what a new document has.
    """

    title: str | None
    source: str | None
    uri: str | None
    sets: Sequence[str] | None
    collection: str | None
    """The tag of a collection that exists."""
    boost: float | None
    metadata: Mapping[str, Any] | None
    access: Access | Mapping[str, Any] | None
    """None admits all of the tenant. One that names nobody, or makes no sense, locks."""
    modified_at: datetime | None
    run_id: str | None
    by: str | None


def check_name(field: str, value: object) -> str:
    """Short printable text without outer spaces."""
    text = check_text(field, value, NAME_LIMIT)
    if not text or text.strip() != text:
        raise Invalid(field, expected="text without outer spaces", got=repr(text))
    if not text.isprintable():
        raise InvalidText(field, expected="printable characters", got="unprintable text")
    return text


def check_content(field: str, value: object) -> str:
    """Content with at least one character that is not a space."""
    text = check_text(field, value, CONTENT_LIMIT)
    if not text or text.isspace():
        raise Invalid(field, expected="text that says something", got="nothing")
    return text


def check_boost(field: str, value: object) -> float:
    """A factor: what is not finite counts as 1, what is negative as 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(field, expected="a number", got=kind_of(value))
    try:
        number = float(value)
    except OverflowError:
        return 1.0
    return max(0.0, number) if math.isfinite(number) else 1.0


def check_names(field: str, value: object) -> list[str]:
    """Names without repetition, in order."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise Invalid(field, expected="a list of names", got=kind_of(value))
    return check_texts(field, list(dict.fromkeys(check_name(field, name) for name in value)))


def check_object(field: str, value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, Mapping):
        raise Invalid(field, expected="an object", got=kind_of(value))
    checked: dict[str, Any] = check_json(field, value)
    return checked


def check_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields as a record has them, or Invalid naming the one that is wrong.

    ``collection`` is left as its tag, for the store to look up.
    """
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "access":
            words, malformed = words_of_document(value)
            checked |= {"readers": list(words), "access_malformed": malformed}
        elif name not in _CHECKS:
            raise Invalid(name, expected="a field of a document", got="an unknown name")
        elif value is None:
            checked[name] = _BLANK.get(name)
        else:
            checked[name] = _CHECKS[name](name, value)
    return checked


_CHECKS: Final[dict[str, Callable[[str, object], Any]]] = {
    "title": lambda field, value: check_text(field, value, 2_000),
    "source": check_name,
    "uri": lambda field, value: check_text(field, value, 4_000),
    "sets": check_names,
    "collection": lambda _, value: normal_tag(value),
    "boost": check_boost,
    "metadata": check_object,
    "modified_at": check_time,
    "run_id": check_name,
    "by": check_name,
}
_BLANK: Final[dict[str, Any]] = {
    "title": "",
    "source": "",
    "sets": [],
    "boost": 1.0,
    "metadata": {},
}


def hash_of(content: str, size: int, overlap: int) -> str:
    """SHA-256 of the content and the sizes it is cut by: equal when its chunks would be equal."""
    head = f"{size}/{overlap}\n".encode()
    return hashlib.sha256(head + content.encode()).hexdigest()


def named_any(field: str, name: str, values: object) -> Filter | None:
    """``field``, a list, holds any of the values; None when none are given."""
    kept = check_texts(name, values)
    return Contains(field, tuple(kept), "any") if kept else None


def one_among(field: str, name: str, values: object) -> Filter | None:
    """``field`` is one of the values; None when none are given."""
    kept = check_texts(name, values)
    return among(field, kept) if kept else None


def metadata_filters(values: object) -> list[Filter]:
    """Every path, with dots, leads to the scalar given; for None, to nothing."""
    if values is None:
        return []
    if not isinstance(values, Mapping):
        raise Invalid("metadata", expected="an object of paths and values", got=values)
    parts: list[Filter] = []
    for path, value in values.items():
        keys = tuple(check_text("metadata", path).split("."))
        if value is None:
            parts.append(~JsonExists("metadata", keys))
        elif isinstance(value, str | int | float | bool):
            parts.append(JsonPath("metadata", keys, "eq", check_json("metadata", value)))
        else:
            raise Invalid(
                "metadata", expected="text, a number, true, false or null", got=kind_of(value)
            )
    return parts


def normal_tag(value: object) -> str:
    """A collection's name in its one spelling: "  Team  Wiki" and "team-wiki" are one tag."""
    name = check_name("collection", value.strip() if isinstance(value, str) else value)
    folded = unicodedata.normalize("NFKC", name).casefold()
    return check_name("collection", "-".join(folded.split()))
