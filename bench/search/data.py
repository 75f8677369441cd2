"""What every contender is given: clustered vectors, texts of a Zipf vocabulary, and the truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy

WIDTH: Final = 384
TOP: Final = 10
VOCABULARY: Final = 30_000
FILTERS: Final = {"all": "", "10 %": "tenth", "0.1 %": "thousandth"}
"""What a filter is called, and the field that it asks to be `WANTED`."""
WANTED: Final = 3
_SPREAD: Final = 1.0
"""Length of a vector's own direction beside that of its cluster's centre: a cosine of .7 to it."""
K1: Final = 1.2
B: Final = 0.75


@dataclass(frozen=True)
class Vectors:
    """Unit rows, the two fields that filters ask for, and queries of the same clusters."""

    rows: Any
    tenth: Any
    thousandth: Any
    queries: Any

    @staticmethod
    def make(count: int, queries: int) -> Vectors:
        """The same vectors in every run of this count."""
        rng = numpy.random.default_rng(5)
        centres = _unit(rng.standard_normal((max(4, int(count**0.5)), WIDTH), "f4"))
        drawn = centres[rng.integers(len(centres), size=count + queries)]
        drawn += _SPREAD * _unit(rng.standard_normal(drawn.shape, "f4"))
        rows = _unit(drawn)
        return Vectors(
            rows[:count],
            rng.integers(10, size=count),
            # Every thousandth row, so that the rarest filter selects some at any count.
            (numpy.arange(count) + WANTED) % 1_000 if count >= 1_000 else numpy.full(count, WANTED),
            rows[count:],
        )

    def selected(self, field: str) -> Any:
        """The numbers of the rows that a filter selects."""
        if not field:
            return numpy.arange(len(self.rows))
        return numpy.flatnonzero(getattr(self, field) == WANTED)

    def best(self, field: str) -> list[set[int]]:
        """The exact best rows of each query, behind a filter."""
        chosen = self.selected(field)
        scores = self.rows[chosen] @ self.queries.T
        order = numpy.argsort(-scores, axis=0)[:TOP]
        return [set(chosen[column].tolist()) for column in order.T]


@dataclass(frozen=True)
class Texts:
    """Documents of 50 to 100 words, and queries of four."""

    documents: list[str]
    queries: list[tuple[str, ...]]
    tenth: Any
    thousandth: Any
    _words: Any
    _starts: Any

    @staticmethod
    def make(count: int, queries: int) -> Texts:
        """The same texts in every run of this count."""
        rng = numpy.random.default_rng(6)
        weights = 1.0 / (numpy.arange(VOCABULARY) + 5.0)
        weights /= weights.sum()
        # Words of no language that end with a digit, so that no analysis changes them.
        names = [f"{_digest(n)}{n % 10}" for n in range(VOCABULARY)]
        lengths = rng.integers(50, 101, size=count)
        starts = numpy.concatenate(([0], numpy.cumsum(lengths)))
        words = rng.choice(VOCABULARY, size=int(starts[-1]), p=weights)
        documents = [
            " ".join([names[word] for word in words[start:end]]) for start, end in pairwise(starts)
        ]
        asked = [tuple(names[word] for word in rng.choice(VOCABULARY, size=4, p=weights))
                 for _ in range(queries)]  # fmt: skip
        numbers = {name: number for number, name in enumerate(names)}
        return Texts(
            documents,
            asked,
            rng.integers(10, size=count),
            (numpy.arange(count) + WANTED) % 1_000 if count >= 1_000 else numpy.full(count, WANTED),
            (numbers, words),
            starts,
        )

    def scores(self, query: tuple[str, ...], k1: float, b: float) -> Any:
        """The BM25 of every document, in double precision."""
        numbers, words = self._words
        lengths = numpy.diff(self._starts)
        norms = k1 * (1 - b + b * lengths / lengths.mean())
        total = numpy.zeros(len(lengths))
        for term in dict.fromkeys(query):
            at = numpy.flatnonzero(words == numbers[term])
            owners = numpy.searchsorted(self._starts, at, side="right") - 1
            held, tf = numpy.unique(owners, return_counts=True)
            idf = numpy.log(1 + (len(lengths) - len(held) + 0.5) / (len(held) + 0.5))
            total[held] += idf * tf * (k1 + 1) / (tf + norms[held])
        return total

    def agreement(self, scores: Any, field: str, answer: list[int]) -> float:
        """The share of an exact best list that an answer holds; equal scores may stand for it."""
        if field:
            scores = numpy.where(getattr(self, field) == WANTED, scores, 0.0)
        found = int(min(TOP, (scores > 0).sum()))
        if not found:
            return 1.0
        floor = numpy.partition(scores, -found)[-found] - 1e-6
        return sum(bool(scores[n] >= floor) for n in set(answer[:TOP])) / found


def _unit(rows: Any) -> Any:
    return rows / numpy.linalg.norm(rows, axis=1, keepdims=True)


def _digest(number: int) -> str:
    return hashlib.blake2b(str(number).encode(), digest_size=4).hexdigest()
