"""Search over one tenant's rows: both legs under one filter, as committed."""

from __future__ import annotations

from functools import partial
from typing import Any

import apsw
import numpy

from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.covers import included_fields
from holdfast.backends.sqlite.index import Index, Source
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.narrowing import Copies, Narrowing
from holdfast.backends.sqlite.schema import terms_source, vector_source
from holdfast.backends.sqlite.text_search import NOTHING, Scored, TextSearch
from holdfast.backends.sqlite.vector_search import VectorSearch
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
        if search.fields is not None:
            self._use_copies(within)
        text = self._text(search, within)
        vector, exact = self._vector(search, within)
        rows, values = within.values(numpy.union1d(text.rows, vector.rows))
        columns = dict(zip(within.names, values, strict=True))
        keys = list(zip(*[columns[name] for name in collection.key], strict=True))
        places = {row: place for place, row in enumerate(rows)}
        by_text, by_vector = (_best(one, places, keys, search.k) for one in (text, vector))
        found = sorted({place for place, _ in (*by_text, *by_vector)})
        if len(found) < len(keys):
            columns = {n: [values[place] for place in found] for n, values in columns.items()}
        records = RecordSet([keys[place] for place in found], columns)
        return Hits(_hits(by_text, keys), _hits(by_vector, keys), records, exact)

    def _use_copies(self, within: Narrowing) -> None:
        """Let copies of fields answer for rows, where the collection has any and they are known."""
        collection = within.collection
        if not included_fields(collection):
            return
        source = Source(terms_source(collection), self._tenant)
        picture = self._index.picture(source)
        if picture is None:
            return
        decoders = partial(self._planner.decoders, collection)
        included = self._index.included(source, picture, decoders)
        if included is not None:
            within.use(Copies(included, picture.noted))

    def _text(self, search: Search, within: Narrowing) -> Scored:
        leg = search.text
        if leg is None or not leg.terms or not search.k:
            return NOTHING
        source = Source(terms_source(within.collection), self._tenant)
        text = TextSearch(self._connection, self._index, source, within)
        found = text.best(leg, search.k)
        if text.is_due(self._merger.limits):
            self._merger.ask(source.table, self._tenant)
        return found

    def _vector(self, search: Search, within: Narrowing) -> tuple[Scored, bool]:
        leg = search.vector
        if leg is None or not search.k:
            return NOTHING, True
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
        scored = Scored(found.rows, found.scores)
        if search.minimum is not None:
            enough = scored.scores >= search.minimum
            scored = Scored(scored.rows[enough], scored.scores[enough])
        return scored, found.exact


def _best(
    scored: Scored, places: dict[int, int], keys: list[Key], k: int
) -> list[tuple[int, float]]:
    """Places with scores, the best first, ties by key.

    A row that went between two statements is left out.
    """
    order = (-scored.scores).argsort(kind="stable")
    scores = scored.scores[order]
    every = zip(map(places.get, scored.rows[order].tolist()), scores.tolist(), strict=True)
    found = [(place, score) for place, score in every if place is not None]
    if (scores[1:] == scores[:-1]).any():
        found.sort(key=lambda one: (-one[1], keys[one[0]]))
    return found[:k]


def _hits(best: list[tuple[int, float]], keys: list[Key]) -> tuple[Hit, ...]:
    return tuple([Hit(keys[place], score) for place, score in best])
