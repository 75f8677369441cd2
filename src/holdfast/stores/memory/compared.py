"""Memories that are compared with one another: what each says, and which lie near it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from holdfast.core.filter import Record
from holdfast.core.ranking import exact_cosines
from holdfast.core.scope import SCOPE_FIELDS
from holdfast.core.scripts import plain_text
from holdfast.core.text import normalize_content, term_frequencies
from holdfast.stores.memory.policy import MemoryPolicy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NEAREST: Final = 10
"""Most memories that one is compared with."""
_ROUNDING: Final = 1e-4
"""More than a cosine is off by in single precision."""


class Said:
    """A content as it is compared: its terms, its numbers, and whether it denies."""

    def __init__(self, content: str) -> None:
        plain = plain_text(normalize_content(content))
        self.terms = frozenset(term_frequencies(content))
        self.words = frozenset(t for t in self.terms if not any(map(str.isdigit, t)))
        self.numbers = frozenset(_NUMBER.findall(plain))
        self.denies = _NEGATION.search(plain) is not None

    def overlap(self, other: Said) -> float:
        return _shared(self.words, other.words)

    def similarity(self, other: Said) -> float:
        return _shared(self.terms, other.terms)

    def contradicts(self, other: Said) -> bool:
        counted = bool(self.numbers and other.numbers) and self.numbers != other.numbers
        return counted or self.denies != other.denies


def _shared(left: frozenset[Any], right: frozenset[Any]) -> float:
    return len(left & right) / len(left | right) if left or right else 0.0


class Near(NamedTuple):
    """A memory that another is compared with, and their cosine where both have vectors."""

    record: Record
    said: Said
    cosine: float | None


def paired(
    category: str, row: Record, mine: Said, near: Near, policy: MemoryPolicy
) -> float | None:
    """How much ``row`` is of the category because of the one ``near`` it; None if it is not."""
    other, its, cosine = near
    older = (other["created_at"], other["id"]) < (row["created_at"], row["id"])
    overlap = mine.overlap(its)
    if overlap >= policy.conflict_overlap and mine.contradicts(its):
        return overlap if category == "conflicting" and not older else None
    if category == "conflicting" or not older:
        return None
    echoed = len(mine.terms & its.terms) / len(its.terms) if its.terms else 0.0
    echo = echoed >= policy.echo_overlap and _accessed_before(other, row, policy.echo_seconds)
    if category == "echo":
        return echoed if echo else None
    similarity = mine.similarity(its) if cosine is None else cosine
    return similarity if similarity >= policy.duplicate_similarity and not echo else None


def _accessed_before(other: Record, row: Record, seconds: float) -> bool:
    """Whether an access that is on record falls so shortly before the row was written.

    On record are the latest access and the first one of its day.
    """
    for instant in (other["last_accessed_at"], other["window_started_at"]):
        if instant is not None:
            waited = (row["created_at"] - instant).total_seconds()
            if 0.0 <= waited <= seconds:
                return True
    return False


class Together:
    """So many memories with vectors that what is near each is found without a search for each.

    ``rows`` are those that would be searched, of which ``slot`` holds the vectors of ``space``.
    """

    def __init__(self, rows: Iterable[Record], slot: str, space: str) -> None:
        self._scopes: dict[tuple[str, ...], _Scope] = {}
        for row in rows:
            vector = row[slot]
            if vector is not None and vector.space == space and any(vector.data):
                scope = self._scopes.setdefault(_scope_of(row), _Scope())
                scope.add(row, vector.data)

    def nearest(self, row: Record) -> Iterator[Near] | None:
        """What a search by its vector would find; None where it is not one of them."""
        scope = self._scopes.get(_scope_of(row))
        return None if scope is None or row["id"] not in scope.places else scope.nearest(row["id"])


class _Scope:
    """The memories of one scope."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._rows: list[tuple[Record, Said]] = []
        self._data: list[bytes] = []
        self._matrix: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def add(self, row: Record, data: bytes) -> None:
        """Count a memory in, before anything is asked."""
        self.places[row["id"]] = len(self._rows)
        self._rows.append((row, Said(row["content"])))
        self._data.append(data)

    def nearest(self, id: str) -> Iterator[Near]:
        """The nearest of the others, by exact cosines, ties by id."""
        import numpy as np

        vectors, units = self._matrix or self._loaded()
        place = self.places[id]
        near = np.vecdot(units, units[place])
        near[place] = -np.inf
        count = min(NEAREST, near.size - 1)
        if not count:
            return
        floor = np.partition(near, near.size - count)[near.size - count] - _ROUNDING
        best = np.flatnonzero(near >= floor)
        cosines = exact_cosines(vectors[best], vectors[place]).tolist()
        found = [(-cosine, *self._rows[at]) for cosine, at in zip(cosines, best, strict=True)]
        found.sort(key=lambda one: (one[0], one[1]["id"]))
        for away, row, said in found[:NEAREST]:
            yield Near(row, said, -away)

    def _loaded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import numpy as np

        vectors = np.frombuffer(b"".join(self._data), "<f4").reshape(len(self._rows), -1)
        wide = vectors.astype(np.float64)
        units = (wide / np.sqrt(np.vecdot(wide, wide))[:, None]).astype(np.float32)
        self._matrix = vectors, units
        return self._matrix


def _scope_of(row: Record) -> tuple[str, ...]:
    return tuple([row[part] for part in SCOPE_FIELDS])


_NUMBER: Final = re.compile(r"\d++(?:[.,:]\d++)*+")
_NEGATION: Final = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|without|cannot|nicht|kein\w{0,2}|nie|pas|jamais|sans"
    r"|nunca|sin|non|mai|не|нет|без|никогда)\b|n't\b|[不没沒无無]"
)
