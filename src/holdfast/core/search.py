"""Search: a text leg and a vector leg over one filter. Engines find and score; recall fuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from holdfast.core.filter import EVERYTHING, Filter, Record
from holdfast.core.values import Vector


class TextLeg(msgspec.Struct, frozen=True, kw_only=True):
    """Analysed terms (`core.text.analyze`), scored by BM25 over the tenant's records.

    Document counts and lengths are those of all the tenant's records in the collection that
    have text, whatever the filter, so a score depends on nothing but the tenant's own data.
    ``match`` says whether one term suffices or every term must occur.
    """

    terms: tuple[str, ...]
    match: Literal["any", "all"] = "any"
    k1: float = 0.9
    b: float = 0.75


class VectorLeg(msgspec.Struct, frozen=True, kw_only=True):
    """Cosine similarity in [-1, 1] with records whose ``field`` is of the same space."""

    field: str
    vector: Vector


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """The ``k`` best matching records of each leg, filtered before the limit.

    k means k: as long as k records satisfy the filter and the leg, k come back. Ties by key.
    ``minimum`` is an inclusive floor for the vector leg's score. With ``fields``, records hold
    these and those of the key alone: what orders many hits need not read them whole.
    """

    collection: str
    filter: Filter = EVERYTHING
    k: int = 10
    text: TextLeg | None = None
    vector: VectorLeg | None = None
    minimum: float | None = None
    fields: tuple[str, ...] | None = None


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A record's key and its score in one leg."""

    key: tuple[Any, ...]
    score: float


class RecordSet(Mapping[tuple[Any, ...], Record]):
    """Records by key, all of the same fields: kept as columns, each made when it is asked for.

    There may be hundreds of which little is wanted, so whole fields can be had at once.
    """

    __slots__ = ("_columns", "_keys", "_places")

    def __init__(
        self,
        keys: Sequence[tuple[Any, ...]] = (),
        columns: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """``columns`` hold by field the values of the records, in the order of their ``keys``."""
        self._keys = keys
        self._columns = columns or {}
        self._places: dict[tuple[Any, ...], int] | None = None

    @staticmethod
    def of(records: Mapping[tuple[Any, ...], Record]) -> RecordSet:
        """The set of these records."""
        names = next(iter(records.values()), ())
        held = list(records.values())
        return RecordSet(list(records), {name: [one[name] for one in held] for name in names})

    def __getitem__(self, key: tuple[Any, ...]) -> Record:
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self._keys)}
        place = self._places[key]
        return {name: values[place] for name, values in self._columns.items()}

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"RecordSet({dict(self)!r})"

    def columns(self, *names: str) -> list[Sequence[Any]]:
        """The values of each of these fields, in the order of the keys."""
        if not self._keys:
            return [()] * len(names)
        return [self._columns[name] for name in names]


class Hits(msgspec.Struct, frozen=True):
    """Each leg's hits, best first, and the records of all of them by key.

    ``exact`` says that every eligible record was compared.
    """

    text: tuple[Hit, ...] = ()
    vector: tuple[Hit, ...] = ()
    records: RecordSet = RecordSet()
    exact: bool = True
