"""Search over one tenant's rows: both legs under one filter, as committed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import apsw

from holdfast.backends.segments.cache import Cache
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sqlite.covers import included_fields
from holdfast.backends.sqlite.index import Index, Source
from holdfast.backends.sqlite.merger import Merger
from holdfast.backends.sqlite.narrowing import Copies, Narrowing
from holdfast.backends.sqlite.schema import terms_source, vector_source
from holdfast.backends.sqlite.text_search import Scored, TextSearch
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
        self._use_copies(within)
        text = self._text(search, within)
        vector, exact = self._vector(search, within)
        rows, values = within.values({row for row, _ in text} | {row for row, _ in vector})
        columns = dict(zip(within.names, values, strict=True))
        keys = dict(zip(rows, zip(*[columns[n] for n in collection.key], strict=True), strict=True))
        text, vector = _best(text, keys, search.k), _best(vector, keys, search.k)
        records = _records(rows, keys, columns, {row: None for row, _ in (*text, *vector)})
        return Hits(_hits(text, keys), _hits(vector, keys), records, exact)

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


def _records(
    rows: list[int],
    keys: dict[int, Key],
    columns: dict[str, Sequence[Any]],
    wanted: dict[int, None],
) -> RecordSet:
    """The records of those of the rows that are wanted."""
    if len(wanted) < len(rows):
        at = [place for place, row in enumerate(rows) if row in wanted]
        rows = [rows[place] for place in at]
        columns = {name: [values[p] for p in at] for name, values in columns.items()}
    return RecordSet([keys[row] for row in rows], columns)


def _best(scored: Scored, keys: dict[int, Key], k: int) -> Scored:
    """The best first, ties by key; a row that went between two statements is left out."""
    found = [one for one in scored if one[0] in keys]
    if len({score for _, score in found}) < len(found):
        found.sort(key=lambda one: keys[one[0]])
    found.sort(key=itemgetter(1), reverse=True)  # which leaves ties in their order
    return found[:k]


def _hits(best: Scored, keys: dict[int, Key]) -> tuple[Hit, ...]:
    return tuple([Hit(keys[row], score) for row, score in best])
