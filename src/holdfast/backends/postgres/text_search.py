"""The text leg: BM25 over a tenant's segments and what is in none of them, all in numpy.

One statement gives one committed state: which segments count, which of their rows are void, and
the texts that are fresh. Parts of segments never change and are held in memory by their ids.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any, Final

import numpy

from holdfast.backends.postgres.binding import MARK
from holdfast.backends.postgres.dialect import PostgresDialect, literal
from holdfast.backends.postgres.fresh import Fresh, FreshScorer, big
from holdfast.backends.postgres.names import packed_table, terms_table
from holdfast.backends.postgres.planning import UNPLANNED
from holdfast.backends.postgres.wire import Command, Wire
from holdfast.backends.segments.bm25 import Run, Scorer
from holdfast.backends.segments.cache import Cache
from holdfast.backends.segments.parts import part
from holdfast.backends.segments.postings import Packed
from holdfast.backends.sql.dialect import quoted
from holdfast.backends.sql.planner import Planner
from holdfast.backends.sql.terms import hashed
from holdfast.core.collection import Collection
from holdfast.core.filter import EVERYTHING, Filter
from holdfast.core.search import TextLeg

_SPARE: Final = 150
"""Hits looked at beyond k: asking the filter about some more costs less than asking it again."""
_SELECTIVE: Final = 2_000
"""Rather than ask the filter about more hits than this, it is asked for all that pass."""


class Moved(Exception):
    """What was listed is not there any more; outside of a snapshot that may happen."""


class NotHeld(Exception):
    """Memory does not hold all that is needed, and there is no connection to read it."""


class TextSearch:
    """One text leg of one tenant: `command`, `take`, `rank`, `fetch`; `widen` until it is enough.

    What matches is ranked before the filter is asked: the server looks at records in the order of
    their ranks, and stops as soon as k of them pass.
    """

    def __init__(
        self,
        dialect: PostgresDialect,
        planner: Planner,
        tenant: str,
        collection: Collection,
        where: Filter,
        leg: TextLeg,
        k: int,
        cache: Cache,
    ) -> None:
        self._dialect, self._planner, self._cache = dialect, planner, cache
        self._tenant, self._collection = tenant, collection
        self._leg, self._k = leg, k
        self._wire: Wire | None = None
        self._all = where == EVERYTHING
        self._shape, self._values = planner.where(tenant, collection, where)
        self._fresh_place = "fresh", collection.name, tenant
        self.place = collection.name, tenant, self._shape
        """What is searched, and behind what kind of filter."""
        self.fresh = self.voids = self.packed = 0
        """How many texts are in no segment, void in segments, and in segments."""

    def command(self) -> Command:
        """The statement whose one row `take` takes.

        Of texts that are held in memory it asks the stamps alone.
        """
        self._held: Fresh | None = self._cache.get(self._fresh_place)
        asked = Fresh.columns if self._held is None else Fresh.brief

        def write() -> str:
            ids, voids = state(self._dialect, self._collection)
            tail = terms_table(self._dialect, self._collection)
            return f"SELECT {ids}, {voids}, {asked} FROM {tail} AS k WHERE k.tenant = {MARK}"

        shape = ("pg texts", self._collection.name, asked)
        return self._planner.text(shape, write), [self._tenant] * 3

    def take(self, row: tuple[Any, ...], wire: Wire | None) -> None:
        """Read the answer of `command`, and what memory does not hold of what it names.

        Without a ``wire`` NotHeld is raised instead, here or by `rank`.
        """
        self._wire = wire
        segments, voids = big(row[0]), big(row[1])
        fresh = self._held
        if fresh is None:
            fresh = Fresh.of(row[2:7])
        elif not fresh.is_told_by(row[2] or b""):
            stamps = big(row[2])
            fresh = self._brought_forward(fresh.kept(stamps), stamps)
        if fresh is not self._held:
            self._cache.put(self._fresh_place, fresh, fresh.nbytes)
        self._fresh = fresh
        self.fresh = int(fresh.stamps.size)
        self.voids = int(voids.size)
        self._runs = [self._run(int(segment), voids) for segment in segments]
        self.packed = sum(run.texts.rows.size for run in self._runs)

    def _brought_forward(self, held: Fresh, stamps: Any) -> Fresh:
        """What is held and what has come since."""
        missing = numpy.setdiff1d(stamps, held.stamps)
        if not missing.size:
            return held
        text = (
            f"SELECT {Fresh.columns} FROM {terms_table(self._dialect, self._collection)} AS k"
            f" WHERE k.tenant = {MARK} AND k.stamp = ANY({MARK}::bigint[])"
        )
        wire = self._connection()
        rows = wire.rows(wire.run([(text, [self._tenant, missing.tolist()])])[0])
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
        def load(name: str) -> Any:
            def make() -> tuple[Any, int]:
                read = loader(self._dialect, self._connection(), self._tenant, segment)
                array = read(name)
                return array, array.nbytes

            return self._cache.load((segment, name), make)

        return load

    def _connection(self) -> Wire:
        if self._wire is None:
            raise NotHeld
        return self._wire

    def rank(self) -> None:
        """Score what `take` read; then `fetch`."""
        leg = self._leg
        terms = [hashed(term) for term in sorted(set(leg.terms))]
        self._scorer: Scorer | FreshScorer
        if self._runs:
            length = int(self._fresh.lengths.sum(dtype="i8"))
            runs = [*self._runs, Run(self._fresh.texts(), _NONE, length)]
            self._scorer = Scorer(runs if self.fresh else self._runs, leg, terms)
        else:
            self._scorer = FreshScorer(self._fresh, leg, terms)
        self._count = self._k if self._all else self._k + _SPARE
        self._best(None)

    def _best(self, allowed: Any) -> None:
        docs, scores = self._scorer.best(self._count if allowed is None else self._k, allowed)
        self.is_last = self._all or allowed is not None or docs.size < self._count
        """Whether `fetch` brings all that can be found."""
        order = numpy.argsort(-scores, kind="stable")
        self._stamps, scores = self._scorer.rows(docs)[order], scores[order]
        self._ranks = numpy.cumsum(scores != numpy.concatenate((scores[:1], scores[:-1])))
        self.scores: dict[int, float] = dict(
            zip(self._stamps.tolist(), scores.tolist(), strict=True)
        )
        """Of each stamp that is looked at."""

    def is_enough(self, found: int) -> bool:
        """Whether so many rows of the last `fetch` are all that are wanted, or all that are."""
        return found >= self._k or self.is_last

    def widen(self, found: int, wire: Wire) -> None:
        """Have the next `fetch` go further than the last one, which brought so many rows."""
        self._wire = wire
        looked = self._stamps.size
        self._count = max(2 * self._count, int(2 * self._k * looked / max(found, 1)))
        if self._count <= _SELECTIVE:
            self._best(None)
        else:
            self._best(self._scorer.places(self._passing()))

    def fetch(self, columns: str) -> Command | None:
        """The statement that reads the best k of what is ranked and passes, and all ties.

        Its rows are of these columns, and the stamp. None where nothing matches.
        """
        if not self._stamps.size:
            return None
        values: list[Any] = [int_array(self._stamps, 20), int_array(self._ranks, 23)]
        values += [self._tenant] * (self.fresh > 0) + [self._tenant] * (self.packed > 0)
        values += self._values
        count = None if self._all else self._dialect.limit(self._k, values)

        def write() -> str:
            keys = listed(self._collection, "k")
            held = " UNION ALL ".join(
                f"SELECT {keys} FROM {table} AS k WHERE k.tenant = {MARK} AND k.stamp = u.stamp"
                for table, is_used in (
                    (terms_table(self._dialect, self._collection), self.fresh),
                    (packed_table(self._dialect, self._collection), self.packed),
                )
                if is_used
            )
            ranked = f"unnest({MARK}::bigint[], {MARK}::int[]) AS u (stamp, place)"
            if count is not None:  # in order before they are looked up, and not afterwards
                ranked = f"(SELECT * FROM {ranked} ORDER BY place) AS u"
            text = (
                f"SELECT {columns}, u.stamp FROM {ranked}"
                f" CROSS JOIN LATERAL ({held}) AS p CROSS JOIN LATERAL"
                # The limit keeps this apart, so that a record is looked up by its key and not
                # a tenant read for ten of its records.
                f" (SELECT {columns} FROM {self._dialect.table(self._collection)} AS t0"
                f" WHERE {joined(self._collection, 't0', 'p')}"
                f" AND {self._planner.condition(self._shape)} LIMIT 1) AS t0"
            )
            if count is None:
                return text
            return f"{text} ORDER BY u.place FETCH FIRST ({count}) ROWS WITH TIES"

        own = (self._shape, columns, count, self.fresh > 0, self.packed > 0)
        return self._planner.text(("pg found", self._collection.name, *own), write), values

    def _passing(self) -> Any:
        """The stamps of all texts whose records pass the filter."""

        def write() -> str:
            return " UNION ALL ".join(
                "SELECT string_agg(int8send(p.stamp), '') FROM"
                f" {table} AS p JOIN {self._dialect.table(self._collection)} AS t0"
                f" ON t0.tenant = p.tenant AND {joined(self._collection, 't0', 'p')}"
                f" AND {self._planner.condition(self._shape)} WHERE p.tenant = {MARK}"
                for table in (
                    terms_table(self._dialect, self._collection),
                    packed_table(self._dialect, self._collection),
                )
            )

        text = self._planner.text(("pg passing", self._collection.name, self._shape), write)
        values = [*self._values, self._tenant] * 2
        wire = self._connection()
        rows = wire.rows(wire.run([*UNPLANNED, (text, values)])[-1])
        return big(b"".join(row[0] or b"" for row in rows))


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


def int_array(numbers: Any, oid: int) -> bytes:
    """Whole numbers as an array in the server's binary form: of 20 is bigint, of 23 is int."""
    size = 8 if oid == 20 else 4
    cells = numpy.empty(numbers.size, [("size", ">i4"), ("value", f">i{size}")])
    cells["size"], cells["value"] = size, numbers
    return pack(">5i", 1, 0, oid, numbers.size, 1) + cells.tobytes()


def listed(collection: Collection, alias: str) -> str:
    """The fields of the key, of this alias."""
    return ", ".join(f"{alias}.{quoted(name)}" for name in collection.key)


def joined(collection: Collection, one: str, other: str) -> str:
    """Of the same key."""
    return " AND ".join(f"{one}.{quoted(n)} = {other}.{quoted(n)}" for n in collection.key)


_NONE: Final = numpy.empty(0, "i8")
