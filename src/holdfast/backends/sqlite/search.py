"""Search over one tenant's rows: both legs under one filter, as committed."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import apsw

from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.index import Index, Source
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.backends.sqlite.schema import terms_source, vector_source
from holdfast.backends.sqlite.text_search import Scored, TextSearch
from holdfast.backends.sqlite.vector_search import VectorSearch
from holdfast.core.collection import Collection
from holdfast.core.search import Hit, Hits, RecordSet, Search

Key = tuple[Any, ...]


class RowSearch:
    """Runs one search on one connection, inside one read transaction."""

    def __init__(
        self,
        connection: apsw.Connection,
        planner: Planner,
        tenant: str,
        cache: Cache,
        merger: Merger,
        *,
        keep: bool,
    ) -> None:
        self._connection = connection
        self._planner = planner
        self._tenant = tenant
        self._index = Index(connection, cache, keep=keep)
        self._merger = merger

    def run(self, search: Search) -> Hits:
        """Both legs, and the records that they found."""
        collection = self._planner.collections[search.collection]
        within = Narrowing(
            self._connection, self._planner, self._tenant, collection, search.filter, search.fields
        )
        text = self._text(search, within)
        vector, exact = self._vector(search, within)
        read = within.values({row for row, _ in text} | {row for row, _ in vector})
        keys = _keys(collection, within.names, read)
        text, vector = _best(text, keys, search.k), _best(vector, keys, search.k)
        found = {keys[row]: read[row] for row, _ in (*text, *vector)}
        records = RecordSet(within.names, found)
        return Hits(_hits(text, keys), _hits(vector, keys), records, exact)

    def _text(self, search: Search, within: Narrowing) -> Scored:
        leg = search.text
        if leg is None or not leg.terms or not search.k:
            return []
        source = Source(terms_source(within.collection), self._tenant)
        text = TextSearch(self._connection, self._index, source, within)
        found = text.best(leg, search.k)
        if text.is_due(self._merger.limits):
            self._merger.ask(source.table, self._tenant)
        return found

    def _vector(self, search: Search, within: Narrowing) -> tuple[Scored, bool]:
        leg = search.vector
        if leg is None or not search.k:
            return [], True
        source = Source(
            vector_source(within.collection, leg.field),
            self._tenant,
            leg.vector.space,
            leg.vector.width,
        )
        vector = VectorSearch(self._index, source, within)
        found = vector.best(leg, search.k)
        if vector.is_due(self._merger.limits):
            self._merger.ask(source.table, self._tenant)
        scored = zip(found.rows.tolist(), found.scores.tolist(), strict=True)
        floor = search.minimum
        return [one for one in scored if floor is None or one[1] >= floor], found.exact


def _keys(
    collection: Collection, names: tuple[str, ...], read: dict[int, tuple[Any, ...]]
) -> dict[int, Key]:
    """The records' keys by row."""
    places = [names.index(name) for name in collection.key]
    if len(places) == 1:
        [place] = places
        return {row: (values[place],) for row, values in read.items()}
    return {row: tuple([values[at] for at in places]) for row, values in read.items()}


def _best(scored: Scored, keys: dict[int, Key], k: int) -> Scored:
    """The best first, ties by key; a row that went between two statements is left out."""
    found = [one for one in scored if one[0] in keys]
    if len({score for _, score in found}) < len(found):
        found.sort(key=lambda one: keys[one[0]])
    found.sort(key=itemgetter(1), reverse=True)  # which leaves ties in their order
    return found[:k]


def _hits(best: Scored, keys: dict[int, Key]) -> tuple[Hit, ...]:
    return tuple([Hit(keys[row], score) for row, score in best])
