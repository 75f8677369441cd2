"""The text leg: BM25 over a tenant's segments and what is in none of them, all in numpy.

One statement gives one committed state: which segments count, which of their rows are void, and
the texts that are fresh. Parts of segments never change and are held in memory by their ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy

from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.backends.postgres.schema import packed_table, terms_table
from holdfast.backends.postgres.wire import MARK, Command, Wire
from holdfast.backends.segments.bm25 import Run, Scorer
from holdfast.backends.segments.cache import Cache
from holdfast.backends.segments.parts import part
from holdfast.backends.segments.postings import Loose, Packed
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.terms import hashed
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, Filter
from holdfast.core.search import TextLeg

_SPARE: Final = 16
"""Hits looked at beyond k, because a filter lets nearly all pass as a rule."""
_SELECTIVE: Final = 2_000
"""Rather than ask the filter about more hits than this, it is asked for all that pass."""

Scored = list[tuple[int, float]]


class PartMissing(Exception):
    """A segment was replaced after its id was read; outside of a snapshot that may happen."""


class Fresh:
    """Texts that no segment holds, as the first statement gives them."""

    columns: Final = (
        "string_agg(int8send(k.stamp), ''), string_agg(int4send(k.length::int4), ''),"
        " string_agg(int4send(octet_length(k.terms)), ''), string_agg(k.terms, ''),"
        " string_agg(k.counts, '')"
    )
    """Joined by the server: a few long values are read far faster than many short ones."""

    def __init__(self, row: tuple[Any, ...]) -> None:
        stamps, lengths, sizes, self.hashes, self.counts = (value or b"" for value in row)
        self.stamps = big(stamps)
        self.lengths = numpy.frombuffer(lengths, ">u4").astype("u4")
        self.sizes = numpy.frombuffer(sizes, ">i4").astype("i8") // 8

    def texts(self) -> Loose:
        """In the form that is scored."""
        return Loose.joined(self.stamps, self.lengths, self.sizes, self.hashes, self.counts)


class TextSearch:
    """One text leg of one tenant."""

    def __init__(
        self,
        dialect: PostgresDialect,
        planner: Planner,
        tenant: str,
        collection: Collection,
        where: Filter,
        cache: Cache,
    ) -> None:
        self._dialect, self._planner, self._cache = dialect, planner, cache
        self._tenant, self._collection = tenant, collection
        self._all = where == EVERYTHING
        self._shape, self._values = planner.where(tenant, collection, where)

    def command(self) -> Command:
        """The statement whose one row `take` takes."""
        ids, voids = state(self._dialect, self._collection)
        tail = terms_table(self._dialect, self._collection)
        text = f"SELECT {ids}, {voids}, {Fresh.columns}"
        values = [self._tenant, self._tenant]
        if self._all:
            return f"{text}, NULL FROM {tail} AS k WHERE k.tenant = {MARK}", [*values, self._tenant]
        # The filter is a column and not a condition: what it leaves out still counts and weighs.
        text += (
            f", string_agg(boolsend(e.found IS NOT NULL), '') FROM {tail} AS k LEFT JOIN"
            f" (SELECT TRUE AS found, {listed(self._collection, 't0')}"
            f" FROM {self._dialect.table(self._collection)} AS t0"
            f" WHERE {self._planner.condition(self._shape)}) AS e"
            f" ON {joined(self._collection, 'e', 'k')} WHERE k.tenant = {MARK}"
        )
        return text, [*values, *self._values, self._tenant]

    def take(self, row: tuple[Any, ...], wire: Wire) -> None:
        """Read the answer of `command`, and the segments it names."""
        segments, voids = big(row[0]), big(row[1])
        fresh = Fresh(row[2:7])
        self.fresh = int(fresh.stamps.size)
        self.voids = int(voids.size)
        self._wire = wire
        self._passed = None if row[7] is None else numpy.frombuffer(row[7], "?")
        self._runs = [self._run(int(segment), voids) for segment in segments]
        self.packed = sum(run.texts.rows.size for run in self._runs)
        if self.fresh:
            self._runs.append(Run(fresh.texts(), _NONE, int(fresh.lengths.sum(dtype="i8"))))

    def _run(self, segment: int, voids: Any) -> Run:
        load = self._cached(segment)
        texts = Packed(load)
        total = self._cache.load(
            (segment, "total"), lambda: (int(texts.lengths.sum(dtype="i8")), 64)
        )
        dead = positions(texts.rows, voids)
        return Run(texts, dead, total - int(texts.lengths[dead].sum(dtype="i8")))

    def _cached(self, segment: int) -> Callable[[str], Any]:
        read = loader(self._dialect, self._wire, self._tenant, segment)

        def load(name: str) -> Any:
            def make() -> tuple[Any, int]:
                array = read(name)
                return array, array.nbytes

            return self._cache.load((segment, name), make)

        return load

    def best(self, leg: TextLeg, k: int) -> Scored:
        """Stamps and scores of the best k, and of what ties with the last."""
        terms = [hashed(term) for term in sorted(set(leg.terms))]
        scorer = Scorer(self._runs, leg, terms)
        if self._all:
            return _listed(scorer, *scorer.best(k))
        hopeful = numpy.ones(int(scorer.bases[-1]), bool)
        if self._passed is not None:
            hopeful[self.packed :] = self._passed
        count = k + _SPARE
        while self.packed and count <= _SELECTIVE:
            docs, scores = scorer.best(count, hopeful)
            rows = scorer.rows(docs)
            passed = numpy.isin(rows, self._passing(rows[docs < self.packed]))
            passed |= docs >= self.packed
            if passed.sum() >= k or docs.size < count:
                return _listed(scorer, docs[passed], scores[passed])
            share = max(float(passed.mean()), 1 / (2 * docs.size))
            count = max(2 * count, int(2 * k / share))
        if self.packed:
            hopeful[: self.packed] = scorer.places(self._passing(None))[: self.packed]
        return _listed(scorer, *scorer.best(k, hopeful))

    def _passing(self, stamps: Any) -> Any:
        """Those of these stamps of packed texts whose records pass the filter; of all with None."""
        if stamps is not None and not stamps.size:
            return _NONE
        text = (
            "SELECT string_agg(int8send(p.stamp), '') FROM"
            f" {packed_table(self._dialect, self._collection)} AS p"
            f" JOIN {self._dialect.table(self._collection)} AS t0 ON t0.tenant = p.tenant"
            f" AND {joined(self._collection, 't0', 'p')} AND {self._planner.condition(self._shape)}"
            f" WHERE p.tenant = {MARK}"
        )
        values = [*self._values, self._tenant]
        if stamps is not None:
            text += f" AND p.stamp = ANY({MARK}::bigint[])"
            values.append(stamps.tolist())
        return big(self._wire.rows(self._wire.run([(text, values)])[0])[0][0])


def state(dialect: PostgresDialect, collection: Collection) -> tuple[str, str]:
    """Two columns: the ids of a tenant's segments, and the stamps that are void in them."""
    own = f"WHERE tenant = {MARK} AND source = {literal(collection.name)}"
    ids = f"(SELECT string_agg(int8send(id), '' ORDER BY id) FROM {dialect.schema}"
    voids = f"(SELECT string_agg(int8send(stamp), '' ORDER BY stamp) FROM {dialect.schema}"
    return f"{ids}.holdfast_segments {own})", f"{voids}.holdfast_voids {own})"


def loader(dialect: PostgresDialect, wire: Wire, tenant: str, segment: int) -> Callable[[str], Any]:
    """Reads the parts of a segment from the database."""
    text = (
        f"SELECT data FROM {dialect.schema}.holdfast_segment_parts"
        f" WHERE tenant = {MARK} AND segment = {MARK} AND name = {MARK}"
    )

    def load(name: str) -> Any:
        rows = wire.rows(wire.run([(text, [tenant, segment, name])])[0])
        if not rows:
            raise PartMissing
        return part(name, rows[0][0])

    return load


def positions(rows: Any, wanted: Any) -> Any:
    """Where those of ``wanted``, rising, that are among ``rows``, rising, stand."""
    if not wanted.size or not rows.size:
        return _NONE
    first, last = numpy.searchsorted(wanted, (rows[0], rows[-1] + 1))
    wanted = wanted[first:last]
    at = numpy.searchsorted(rows, wanted)
    return at[rows[at] == wanted]


def big(data: bytes | None) -> Any:
    """Whole numbers as the server sends them."""
    return numpy.frombuffer(data or b"", ">i8").astype("i8")


def listed(collection: Collection, alias: str) -> str:
    """The fields of the key, of this alias."""
    return ", ".join(f"{alias}.{quoted(name)}" for name in collection.key)


def joined(collection: Collection, one: str, other: str) -> str:
    """Of the same key."""
    return " AND ".join(f"{one}.{quoted(n)} = {other}.{quoted(n)}" for n in collection.key)


def _listed(scorer: Scorer, docs: Any, scores: Any) -> Scored:
    return list(zip(scorer.rows(docs).tolist(), scores.tolist(), strict=True))


_NONE: Final = numpy.empty(0, "i8")
