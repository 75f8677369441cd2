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

_SPARE: Final = 150
"""Hits looked at beyond k: asking the filter about some more costs less than asking it again."""
_ROW_BYTES: Final = 100
_SELECTIVE: Final = 2_000
"""Rather than ask the filter about more hits than this, it is asked for all that pass."""

Scored = list[tuple[int, float]]


class Moved(Exception):
    """What was listed is not there any more; outside of a snapshot that may happen."""


class Fresh:
    """Texts that no segment holds, in any order. A stamp stands for one text for ever."""

    brief: Final = "string_agg(int8send(k.stamp), '')"
    columns: Final = (
        f"{brief}, string_agg(int4send(k.length::int4), ''),"
        " string_agg(int4send(octet_length(k.terms)), ''), string_agg(k.terms, ''),"
        " string_agg(k.counts, '')"
    )
    """Joined by the server: a few long values are read far faster than many short ones."""

    def __init__(self, stamps: Any, lengths: Any, sizes: Any, hashes: Any, counts: Any) -> None:
        self.stamps, self.lengths, self.sizes = stamps, lengths, sizes
        self.hashes, self.counts = hashes, counts
        self.order = numpy.argsort(stamps)
        self._loose: Loose | None = None

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Fresh:
        """What `columns` gave."""
        stamps, lengths, sizes, hashes, counts = (value or b"" for value in row)
        return cls(
            big(stamps),
            numpy.frombuffer(lengths, ">u4").astype("u4"),
            numpy.frombuffer(sizes, ">i4").astype("i8") // 8,
            numpy.frombuffer(hashes, "<u8"),
            numpy.frombuffer(counts, "<u4"),
        )

    @classmethod
    def none(cls) -> Fresh:
        """No texts."""
        return cls.of((None,) * 5)

    @property
    def nbytes(self) -> int:
        """What it takes in memory, about."""
        return 2 * int(self.hashes.nbytes + self.counts.nbytes) + _ROW_BYTES * len(self.stamps)

    def texts(self) -> Loose:
        """In the form that is scored."""
        if self._loose is None:
            own = (self.lengths, self.sizes, self.hashes, self.counts)
            self._loose = Loose.joined(self.stamps, *own)
        return self._loose

    def kept(self, stamps: Any) -> Fresh:
        """Those of these stamps."""
        rows = numpy.isin(self.stamps, stamps)
        if rows.all():
            return self
        chosen = numpy.repeat(rows, self.sizes)
        return Fresh(
            self.stamps[rows], self.lengths[rows], self.sizes[rows], self.hashes[chosen],
            self.counts[chosen],
        )  # fmt: skip

    def with_more(self, other: Fresh) -> Fresh:
        """These and others."""
        names = ("stamps", "lengths", "sizes", "hashes", "counts")
        return Fresh(*(numpy.concatenate([getattr(f, n) for f in (self, other)]) for n in names))


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
        self._place = "fresh", collection.name, tenant
        self._all = where == EVERYTHING
        self._shape, self._values = planner.where(tenant, collection, where)

    def command(self) -> Command:
        """The statement whose one row `take` takes.

        Of texts that are held in memory it asks the stamps alone.
        """
        self._held: Fresh | None = self._cache.get(self._place)
        ids, voids = state(self._dialect, self._collection)
        tail = terms_table(self._dialect, self._collection)
        asked = Fresh.columns if self._held is None else Fresh.brief
        text = f"SELECT {ids}, {voids}, {asked}"
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
        self._wire = wire
        segments, voids = big(row[0]), big(row[1])
        stamps = big(row[2])
        fresh = self._held
        if fresh is None:
            fresh = Fresh.of(row[2:7])
        elif not numpy.array_equal(numpy.sort(stamps), fresh.stamps[fresh.order]):
            fresh = self._brought_forward(fresh.kept(stamps), stamps)
        if fresh is not self._held:
            self._cache.put(self._place, fresh, fresh.nbytes)
        self.fresh = int(fresh.stamps.size)
        self.voids = int(voids.size)
        self._passed = None
        if row[-1] is not None:  # in the order of `stamps`, which need not be that of `fresh`
            order = numpy.argsort(stamps)
            at = numpy.searchsorted(stamps[order], fresh.stamps)
            self._passed = numpy.frombuffer(row[-1], "?")[order[at]]
        self._runs = [self._run(int(segment), voids) for segment in segments]
        self.packed = sum(run.texts.rows.size for run in self._runs)
        if self.fresh:
            self._runs.append(Run(fresh.texts(), _NONE, int(fresh.lengths.sum(dtype="i8"))))

    def _brought_forward(self, held: Fresh, stamps: Any) -> Fresh:
        """What is held and what has come since."""
        missing = numpy.setdiff1d(stamps, held.stamps)
        if not missing.size:
            return held
        text = (
            f"SELECT {Fresh.columns} FROM {terms_table(self._dialect, self._collection)} AS k"
            f" WHERE k.tenant = {MARK} AND k.stamp = ANY({MARK}::bigint[])"
        )
        rows = self._wire.rows(self._wire.run([(text, [self._tenant, missing.tolist()])])[0])
        more = Fresh.of(rows[0])
        if more.stamps.size < missing.size:
            raise Moved
        return held.with_more(more)

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
            raise Moved
        return part(name, rows[0][0])

    return load


def positions(rows: Any, wanted: Any) -> Any:
    """Where those of ``wanted``, rising, that are among ``rows``, rising, stand."""
    if not wanted.size or not rows.size:
        return _NONE
    first = numpy.searchsorted(wanted, rows[0])
    wanted = wanted[first : numpy.searchsorted(wanted, rows[-1], "right")]
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
