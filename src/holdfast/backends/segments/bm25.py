"""BM25 over segments and a tail: exact, without scoring what cannot be among the best.

Terms are taken from the one that can add most to the one that can add least. As soon as all the
terms that are left cannot lift a new row above the k-th best, only rows found so far are looked up
in their lists (Turtle and Flood's MaxScore, by whole arrays). Until then sums are in single
precision, and each comparison allows for that. What survives is scored in the order of the
reference, so that scores are equal bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy

from holdfast.backends.segments.postings import Posted
from holdfast.core.ranking import idf
from holdfast.core.search import TextLeg

_LOOK_UPS: Final = 64
"""Where the allowed rows are fewer than one in so many postings, each is looked up."""
_SLACK: Final = 1e-5
"""How far sums in single precision may be off, relative to what a score can reach."""
_TINY: Final = numpy.float32(1e-30)
"""Where a term does not occur and lengths count for nothing, 0 is divided by this and not by 0."""


class Texts(Protocol):
    """Rows with their lengths, and the posting lists of terms."""

    rows: Any
    lengths: Any

    def find(self, terms: Sequence[int]) -> list[Posted]:
        """Of each term the numbers of the rows with it, rising, and its counts in them."""
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


class Corpus:
    """What searches over the same runs have in common."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.bases = numpy.cumsum([0, *(run.texts.rows.size for run in runs)])
        self.count = sum(run.count for run in runs)
        self.lengths = numpy.concatenate([_NONE, *(run.texts.lengths for run in runs)])
        self.least = int(self.lengths.min(initial=_LONGEST))
        self.mean = sum(run.total for run in runs) / self.count if self.count else 0.0
        self._norms: tuple[float, float, Any] = (0.0, 0.0, None)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return 2 * int(self.lengths.nbytes)

    def norms(self, leg: TextLeg) -> Any:
        """What is added to the count of each row's term below the line, in single precision."""
        k1, b, norms = self._norms
        if norms is None or (k1, b) != (leg.k1, leg.b):
            norms = self.lengths.astype("f4")
            norms *= numpy.float32(leg.k1 * leg.b / self.mean)
            norms += numpy.float32(leg.k1 * (1.0 - leg.b))
            self._norms = leg.k1, leg.b, norms
        return norms


class _Term:
    """A term's lists in all runs; rows are numbered through them."""

    def __init__(self, lists: Sequence[Posted], bases: Any, count: int) -> None:
        self._lists, self._bases = lists, bases
        self.df = sum(docs.size for docs, _ in lists)
        self.weight = idf(self.df, count)
        self._allowed: Any = None
        self._whole: Posted | None = None

    def most(self) -> int:
        """The greatest count."""
        return max(int(counts.max()) for _, counts in self._lists if counts.size)

    def narrow(self, allowed: Any) -> None:
        """Speak of no rows but these from now on, by a mask; of all with None."""
        if allowed is not self._allowed:
            self._allowed, self._whole = allowed, None

    def postings(self) -> Posted:
        """The rows with the term, and its counts in them."""
        if self._whole is None:
            lists = list(zip(self._lists, self._bases, strict=False))
            if self._allowed is not None:
                lists = [(_within(own, self._allowed[base:]), base) for own, base in lists]
            size = sum(own.size for (own, _), _ in lists)
            docs, counts = numpy.empty(size, "i8"), numpy.empty(size, "f4")
            first = 0
            for (own, counted), base in lists:
                last = first + own.size
                numpy.add(own, base, out=docs[first:last], casting="unsafe")
                counts[first:last] = counted
                first = last
            self._whole = docs, counts
        return self._whole

    def counts(self, wanted: Any) -> Any:
        """How often each of these rows, rising, has the term; 0 where it has not."""
        if self._whole is not None:
            return _looked_up(*self._whole, wanted)
        counted = numpy.zeros(wanted.size, "f4")
        cuts = wanted.searchsorted(self._bases).tolist()
        for n, (docs, counts) in enumerate(self._lists):
            own = wanted[cuts[n] : cuts[n + 1]]
            if own.size:
                own = (own - self._bases[n]).astype(docs.dtype)
                counted[cuts[n] : cuts[n + 1]] = _looked_up(docs, counts, own)
        return counted


class Scorer:
    """One text leg over the runs of a tenant."""

    def __init__(
        self,
        runs: Sequence[Run],
        leg: TextLeg,
        terms: Sequence[int],
        corpus: Corpus | None = None,
    ) -> None:
        self._runs, self._leg = runs, leg
        self._corpus = corpus or Corpus(runs)
        self.bases, self.count = self._corpus.bases, self._corpus.count
        found = [[_alive(run, *own) for own in run.texts.find(terms)] for run in runs]
        # In the order of the reference: that of the sorted terms.
        every = [_Term(lists, self.bases, self.count) for lists in zip(*found, strict=True)]
        self._terms = [term for term in every if term.df]
        self._complete = len(self._terms) == len(terms)

    def rows(self, docs: Any) -> Any:
        """The row numbers of what `best` gives."""
        found = numpy.empty(docs.size, "i8")
        cuts = docs.searchsorted(self.bases).tolist()
        for n, run in enumerate(self._runs):
            if cuts[n] < cuts[n + 1]:
                chosen = slice(cuts[n], cuts[n + 1])
                found[chosen] = run.texts.rows.take(docs[chosen] - self.bases[n])
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
        for term in self._terms:
            term.narrow(allowed)
        found = self._every() if self._leg.match == "all" else self._either(k, allowed)
        scores = self._scored(found)
        docs = found.docs
        if docs.size > k:
            kept = scores >= numpy.partition(scores, docs.size - k)[docs.size - k]
            docs, scores = docs[kept], scores[kept]
        return docs, scores

    def _every(self) -> _Found:
        """Rows with all terms, from the rarest on."""
        first, *rest = sorted(self._terms, key=lambda term: term.df)
        found = _Found(first.postings()[0])
        for term in rest:
            found.keep(found.counts(term) > 0)
        return found

    def _either(self, k: int, allowed: Any) -> _Found:
        """Rows of which the best k are among them, with any of the terms."""
        if allowed is not None:
            most = sum(term.df for term in self._terms)
            if numpy.count_nonzero(allowed) * _LOOK_UPS < most:
                found = _Found(allowed.nonzero()[0])
                found.keep(sum(found.counts(term) for term in self._terms) > 0)
                return found
        return self._any(k)

    def _any(self, k: int) -> _Found:
        """Rows of which the best k are among them, from the heaviest term on."""
        bounds = {term: self._bound(term) for term in self._terms}
        heavy = sorted(self._terms, key=bounds.__getitem__, reverse=True)
        rest = sum(bounds.values())
        slack = rest * _SLACK
        sums = numpy.zeros(int(self.bases[-1]), "f4")
        floor = 0.0
        while heavy and floor <= rest + slack:
            term = heavy.pop(0)
            rest -= bounds[term]
            floor = max(floor, self._add(sums, term, k))
        found = _Found((sums > max(floor - rest - slack, 0.0)).nonzero()[0])
        scores = sums[found.docs]
        for term in heavy:
            rest -= bounds[term]
            scores += self._added(term, found.counts(term), found.docs)
            if scores.size > k:
                floor = numpy.partition(scores, scores.size - k)[scores.size - k]
                kept = scores >= floor - rest - slack
                found.keep(kept)
                scores = scores[kept]
        return found

    def _add(self, sums: Any, term: _Term, k: int) -> float:
        """Add a term to the sums; what the k-th best of its rows has then, 0 if they are fewer."""
        docs, counts = term.postings()
        summed = sums.take(docs)
        summed += self._added(term, counts, docs)
        sums[docs] = summed
        size = summed.size
        return float(numpy.partition(summed, size - k)[size - k]) if size >= k > 0 else 0.0

    def _added(self, term: _Term, counts: Any, docs: Any) -> Any:
        """What a term adds to scores, in single precision."""
        leg = self._leg
        norms = self._corpus.norms(leg).take(docs)
        norms += counts
        added = counts * numpy.float32(term.weight * (leg.k1 + 1.0))
        added /= numpy.maximum(norms, _TINY, out=norms)
        return added

    def _bound(self, term: _Term) -> float:
        """The most that a term adds to any score."""
        leg, most, corpus = self._leg, term.most(), self._corpus
        norm = leg.k1 * (1.0 - leg.b + leg.b * corpus.least / corpus.mean)
        return term.weight * most * (leg.k1 + 1.0) / (most + norm)

    def _scored(self, found: _Found) -> Any:
        """The scores as the reference sums them."""
        leg, docs = self._leg, found.docs
        scores = numpy.zeros(docs.size)
        lengths = self._corpus.lengths.take(docs).astype("f8")
        norms = leg.k1 * (1.0 - leg.b + leg.b * lengths / self._corpus.mean)
        for term in self._terms:
            counts = found.counts(term).astype("f8")
            scores += term.weight * counts * (leg.k1 + 1.0) / numpy.maximum(counts + norms, _TINY)
        return scores


class _Found:
    """Rows that may be among the best, and how often they have the terms that were looked up."""

    def __init__(self, docs: Any) -> None:
        self.docs = docs
        self._counts: dict[_Term, Any] = {}

    def counts(self, term: _Term) -> Any:
        """How often each row has a term."""
        if term not in self._counts:
            self._counts[term] = term.counts(self.docs)
        return self._counts[term]

    def keep(self, kept: Any) -> None:
        """Only some of the rows: by a mask."""
        self.docs = self.docs[kept]
        self._counts = {term: counts[kept] for term, counts in self._counts.items()}


def _looked_up(docs: Any, counts: Any, wanted: Any) -> Any:
    """The counts of the wanted rows, 0 of those that are not in a list."""
    if not docs.size:
        return numpy.zeros(wanted.size, "f4")
    at = docs.searchsorted(wanted)
    return counts.take(at, mode="clip") * (docs.take(at, mode="clip") == wanted)


def _within(posted: Posted, allowed: Any) -> Posted:
    """Of a list what is allowed, by a mask from its first row on."""
    docs, counts = posted
    kept = allowed.take(docs).nonzero()[0]
    return docs.take(kept), counts.take(kept)


def _alive(run: Run, docs: Any, counts: Any) -> Posted:
    if not run.dead.size or not docs.size:
        return docs, counts
    at = numpy.searchsorted(docs, run.dead.astype(docs.dtype))
    at[at == docs.size] = 0
    at = at[docs[at] == run.dead]
    return (numpy.delete(docs, at), numpy.delete(counts, at)) if at.size else (docs, counts)


_NONE: Final = numpy.empty(0, "u4")
_LONGEST: Final = numpy.iinfo("u4").max
