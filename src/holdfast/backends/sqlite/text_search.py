"""The text leg: BM25 over segments and tail, or over all rows of a small tenant."""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

import apsw
import numpy

from holdfast.backends.segments import columns
from holdfast.backends.segments.bm25 import Run, Scorer, total_length
from holdfast.backends.segments.originals import greatest
from holdfast.backends.segments.postings import Loose
from holdfast.backends.sql.terms import hashed
from holdfast.backends.sqlite.connection import fetched
from holdfast.backends.sqlite.index import Index, Picture, Source, runs
from holdfast.backends.sqlite.merging import Limits
from holdfast.backends.sqlite.narrowing import Narrowing
from holdfast.core.search import TextLeg

_SPARE = 6
"""Hits looked at beyond k, because a filter lets nearly all pass as a rule."""
_WIDEN = 4
_SELECTIVE = 2_000
"""More candidates than this are not looked up one by one; the filter is asked for all its rows."""


class Scored(NamedTuple):
    """Rows, by their numbers, with their scores."""

    rows: Any
    scores: Any

    def best(self, k: int) -> Scored:
        """The best k and what ties with the last of them."""
        if self.rows.size <= k:
            return self
        kept = self.scores >= greatest(self.scores, k)
        return Scored(self.rows[kept], self.scores[kept])


NOTHING: Final = Scored(numpy.empty(0, "i8"), numpy.empty(0))


class TextSearch:
    """One text leg, in one read transaction."""

    def __init__(
        self, connection: apsw.Connection, index: Index, source: Source, within: Narrowing
    ) -> None:
        self._connection = connection
        self._source = source
        self._within = within
        self.picture: Picture | None = index.picture(source)
        self._runs = self._all() if self.picture is None else runs(index, self.picture)
        self._index = index

    def is_due(self, limits: Limits) -> bool:
        """Whether so much was read that no segment holds that a merge would do good."""
        if self.picture is not None:
            return self.picture.is_due(limits)
        return limits.are_reached(sum(run.count for run in self._runs), 0, 0)

    def best(self, leg: TextLeg, k: int) -> Scored:
        """Rows and scores of the best k, and of what ties with the last."""
        terms = [hashed(term) for term in sorted(set(leg.terms))]
        picture, runs, corpus = self.picture, self._runs, None
        if picture is not None:
            corpus = self._index.corpus(self._source, picture, runs)
        scorer = Scorer(runs, leg, terms, corpus)
        if self._within.all:
            return _numbered(scorer, *scorer.best(k))
        # Where the rows were chosen by all of the filter, none of them is refused.
        chosen_by_all = self._within.is_hinted and picture is not None and not picture.tail
        count, hinted = k if chosen_by_all else k + _SPARE, self._hinted()
        while True:
            docs, scores = scorer.best(count, hinted)
            rows = scorer.rows(docs)
            passed = self._within.passes(rows)
            if passed.sum() >= k or docs.size < count:
                return Scored(rows[passed], scores[passed]).best(k)
            count = max(count, docs.size) * _WIDEN
            if count > _SELECTIVE:
                break
        allowed = scorer.places(self._within.eligible())
        return _numbered(scorer, *scorer.best(k, allowed))

    def _hinted(self) -> Any:
        """Which rows may pass, as far as the copies in segments tell; None if they do not."""
        if self.picture is None or not self._within.hints:
            return None
        return self._index.chosen(
            self._source, self.picture, self._within.hinted, partial(self._mask, self.picture)
        )

    def _mask(self, picture: Picture) -> Any:
        masks = []
        for segment, run in zip(picture.segments, self._runs, strict=False):
            mask = columns.allowed(self._index.loader(segment.id), self._within.hints)
            masks.append(numpy.ones(run.texts.rows.size, bool) if mask is None else mask)
        if picture.tail:
            masks.append(numpy.ones(len(picture.tail), bool))
        return numpy.concatenate(masks) if masks else None

    def _all(self) -> list[Run]:
        text, values = self._source.select(self._source.columns, "TRUE")
        rows = fetched(self._connection, text, values)
        texts, none = Loose(rows), numpy.empty(0, "i8")
        return [Run(texts, none, total_length(texts, none))] if rows else []


def _numbered(scorer: Scorer, docs: Any, scores: Any) -> Scored:
    return Scored(scorer.rows(docs), scores)
