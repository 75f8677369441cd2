"""One collection in two editions, so that a file of the first can be brought up to the second."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.core.collection import Collection, Index


class OldNote(msgspec.Struct, frozen=True, kw_only=True):
    """The first edition."""

    id: str
    text: str
    revision: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """The second: two fields, an index and full text were added."""

    id: str
    text: str
    weight: int = 1
    label: str | None = None
    revision: int = 0


OLD: Final = (Collection.of(OldNote, "notes"),)
NEW: Final = (
    Collection.of(
        Note,
        "notes",
        version=2,
        indexes=(Index(("weight",), serves="the heaviest first"),),
        full_text=("text",),
    ),
)
