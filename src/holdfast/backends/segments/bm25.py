"""BM25 over segments and a tail: exact, without scoring what cannot be among the best.

Terms are taken from the one that can add most to the one that can add least. As soon as all the
terms that are left cannot lift a new row above the k-th best, only rows found so far are looked up
in their lists (Turtle and Flood's MaxScore, by whole arrays). What survives is scored once more in
the order of the reference, so that scores are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy

from holdfast.core.ranking import idf
from holdfast.core.search import TextLeg

_LOOK_UPS: Final = 8
"""Where the allowed rows are fewer than one in so many postings, each is looked up."""
_SLACK: Final = 1e-9
"""How far sums in another order may differ, relative to what a score can reach."""


class Texts(Protocol):
    """Rows with their lengths, and the posting list of a term."""

    rows: Any
    lengths: Any

    def find(self, term: int) -> tuple[Any, Any]:
        """The numbers of the rows with the term, rising, and its counts in them."""
        ...


class Run:
    """One of the parts that a search goes over, and which of its rows are no more."""

    def __init__(self, texts: Texts, dead: Any, total: int) -> None:
        self.texts = texts
        self.dead = dead
        """Numbers of rows that count no more, rising."""
        self.count = texts.rows.size - dead.size
        self.total = total
        """The sum of the lengths of those that count."""


def total_length(texts: Texts, dead: Any) -> int:
    """The sum of the lengths of the rows that are not dead."""
    return int(texts.lengths.sum(dtype="i8")) - int(texts.lengths[dead].sum(dtype="i8"))


class _Term:
    """A term's lists in all runs; rows are numbered through them."""

    def __init__(self, runs: Sequence[Run], bases: Any, term: int) -> None:
        self._lists = [_alive(run, *run.texts.find(term)) for run in runs]
        self._bases = bases
        self.df = sum(docs.size for docs, _ in self._lists)

    def most(self) -> int:
        """The greatest count."""
        return max(int(counts.max()) for _, counts in self._lists if counts.size)

    def postings(self) -> tuple[Any, Any]:
        """All rows with the term, and its counts in them."""
        found = [(d + b, c) for (d, c), b in zip(self._lists, self._bases[:-1], strict=True)]
        if len(found) == 1:
            return found[0][0], found[0][1].astype("f8")
        docs = numpy.concatenate([docs for docs, _ in found])
        return docs, numpy.concatenate([counts.astype("f8") for _, counts in found])

    def counts(self, wanted: Any) -> Any:
        """How often each of these rows, rising, has the term; 0 where it has not."""
        counted = numpy.zeros(wanted.size)
        cuts = numpy.searchsorted(wanted, self._bases)
        for n, (docs, counts) in enumerate(self._lists):
            first, last = cuts[n], cuts[n + 1]
            if first == last or not docs.size:
                continue
            own = (wanted[first:last] - self._bases[n]).astype(docs.dtype)
            at = numpy.searchsorted(docs, own)
            at[at == docs.size] = 0
            counted[first:last] = numpy.where(docs[at] == own, counts[at], 0)
        return counted


class Scorer:
    """One text leg over the runs of a tenant."""

    def __init__(self, runs: Sequence[Run], leg: TextLeg, terms: Sequence[int]) -> None:
        self._runs, self._leg = runs, leg
        self.bases = numpy.cumsum([0, *(run.texts.rows.size for run in runs)])
        self.count = sum(run.count for run in runs)
        mean = sum(run.total for run in runs) / self.count if self.count else 0.0
        self._mean = mean
        found = [_Term(runs, self.bases, term) for term in terms]
        self._complete = all(term.df for term in found)
        # In the order of the reference: that of the sorted terms.
        self._terms = [(term, idf(term.df, self.count)) for term in found if term.df]
        self._lengths = numpy.concatenate([_NONE, *(run.texts.lengths for run in runs)])
        self._least = int(self._lengths.min()) if self._lengths.size else 0

    def rows(self, docs: Any) -> Any:
        """The row numbers of what `best` gives."""
        found = numpy.empty(docs.size, "i8")
        cuts = numpy.searchsorted(docs, self.bases)
        for n, run in enumerate(self._runs):
            chosen = slice(cuts[n], cuts[n + 1])
            found[chosen] = run.texts.rows[docs[chosen] - self.bases[n]]
        return found

    def places(self, rows: Any) -> Any:
        """Which of the runs' rows, numbered through, these are, and are there still."""
        allowed = numpy.zeros(int(self.bases[-1]), bool)
        for n, run in enumerate(self._runs):
            inside = allowed[self.bases[n] : self.bases[n + 1]]
            inside[:] = numpy.isin(run.texts.rows, rows)
        return allowed

    def best(self, k: int, allowed: Any = None) -> tuple[Any, Any]:
        """The k best rows that are allowed, and all that tie with the last; and their scores."""
        if not self._terms or (self._leg.match == "all" and not self._complete):
            return _NONE.astype("i8"), numpy.empty(0)
        docs = self._every(allowed) if self._leg.match == "all" else self._either(k, allowed)
        scores = self._scored(docs)
        if docs.size > k:
            kept = scores >= numpy.partition(scores, docs.size - k)[docs.size - k]
            docs, scores = docs[kept], scores[kept]
        return docs, scores

    def _every(self, allowed: Any) -> Any:
        """Rows with all terms, from the rarest on."""
        first, *rest = sorted((term for term, _ in self._terms), key=lambda term: term.df)
        docs = first.postings()[0].astype("i8")
        if allowed is not None:
            docs = docs[allowed[docs]]
        for term in rest:
            docs = docs[term.counts(docs) > 0]
        return docs

    def _either(self, k: int, allowed: Any) -> Any:
        """Rows of which the best k are among them, with any of the terms."""
        if allowed is not None:
            few = numpy.flatnonzero(allowed)
            if few.size * _LOOK_UPS < sum(term.df for term, _ in self._terms):
                has = [term.counts(few) > 0 for term, _ in self._terms]
                return few[numpy.logical_or.reduce(has)]
        return self._any(k, allowed)

    def _any(self, k: int, allowed: Any) -> Any:
        """Rows of which the best k are among them, from the heaviest term on."""
        bounded = sorted(
            ((self._bound(term, weight), term, weight) for term, weight in self._terms),
            key=lambda one: -one[0],
        )
        rest = sum(bound for bound, _, _ in bounded)
        slack = rest * _SLACK
        sums = numpy.zeros(int(self.bases[-1]))
        docs: Any = None
        scores: Any = None
        for number, (bound, term, weight) in enumerate(bounded):
            rest -= bound
            if docs is None:
                found, counts = term.postings()
                sums[found] += self._added(weight, counts, found)
                last = number == len(bounded) - 1
                docs, scores = self._cut(sums, k, rest + slack, allowed, last=last)
            else:
                self._add(scores, term, weight, docs)
                kept = _within(scores, k, rest + slack)
                docs, scores = docs[kept], scores[kept]
        return docs

    def _cut(self, sums: Any, k: int, rest: float, allowed: Any, *, last: bool) -> tuple[Any, Any]:
        """The rows that may be among the best, once no others can; None before."""
        docs = numpy.flatnonzero(sums)
        if allowed is not None:
            docs = docs[allowed[docs]]
        scores = sums[docs]
        few = docs.size < k
        if not last and (few or numpy.partition(scores, docs.size - k)[docs.size - k] <= rest):
            return None, None
        kept = _within(scores, k, rest)
        return docs[kept], scores[kept]

    def _bound(self, term: _Term, weight: float) -> float:
        """The most that a term adds to any score."""
        least = self._norms(numpy.array([self._least]))[0]
        most = term.most()
        return float(weight * most * (self._leg.k1 + 1.0) / (most + least))

    def _norms(self, lengths: Any) -> Any:
        leg = self._leg
        return leg.k1 * (1.0 - leg.b + leg.b * lengths.astype("f8") / self._mean)

    def _added(self, weight: float, counts: Any, docs: Any) -> Any:
        return weight * counts * (self._leg.k1 + 1.0) / (counts + self._norms(self._lengths[docs]))

    def _scored(self, docs: Any) -> Any:
        """The scores as the reference sums them."""
        scores = numpy.zeros(docs.size)
        for term, weight in self._terms:
            self._add(scores, term, weight, docs)
        return scores

    def _add(self, scores: Any, term: _Term, weight: float, docs: Any) -> None:
        """Add what a term gives to those of ``docs`` that have it."""
        counts = term.counts(docs)
        has = numpy.flatnonzero(counts)
        scores[has] += self._added(weight, counts[has], docs[has])


def _within(scores: Any, k: int, rest: float) -> Any:
    """Which can still be among the k best when each may gain ``rest``."""
    if scores.size <= k:
        return slice(None)
    return scores >= numpy.partition(scores, scores.size - k)[scores.size - k] - rest


def _alive(run: Run, docs: Any, counts: Any) -> tuple[Any, Any]:
    if not run.dead.size or not docs.size:
        return docs, counts
    at = numpy.searchsorted(docs, run.dead.astype(docs.dtype))
    at[at == docs.size] = 0
    at = at[docs[at] == run.dead]
    return (numpy.delete(docs, at), numpy.delete(counts, at)) if at.size else (docs, counts)


_NONE: Final = numpy.empty(0, "u4")
