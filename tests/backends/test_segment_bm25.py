"""BM25 over segments and a tail, against the formula applied to one text after the other."""

import random
from typing import Any

import numpy
import pytest

from holdfast.backends.segments import bm25, postings
from holdfast.core import ranking
from holdfast.core.search import TextLeg

Text = dict[int, int]
"""How often a text has each term, by the terms' hashes."""


def drawn(chance: random.Random, vocabulary: list[int]) -> Text:
    chosen = chance.sample(vocabulary, chance.randint(0, min(len(vocabulary), 8)))
    return {term: chance.choice((1, 1, 1, 2, 3, 300)) for term in chosen}


def run_of(chance: random.Random, texts: list[Text], base: int) -> bm25.Run:
    """The texts as a segment or as a tail, some of them void; these become None in the list."""
    rows = [
        (
            base + n,
            sum(text.values()),
            numpy.array([*text], "<u8").tobytes(),
            numpy.array([*text.values()], "<u4").tobytes(),
        )
        for n, text in enumerate(texts)
    ]
    packed: Any = postings.Loose(rows)
    if chance.random() < 0.7:
        packed = postings.Packed(postings.made(rows).__getitem__)
    dead = sorted(chance.sample(range(len(texts)), chance.choice((0, len(texts) // 4))))
    gone = numpy.array(dead, "i8")
    return bm25.Run(packed, gone, bm25.total_length(packed, gone))


def expected(
    texts: dict[int, Text], terms: list[int], leg: TextLeg, allowed: set[int]
) -> dict[int, float]:
    """Every text's score, by the reference, in its order."""
    mean = sum(sum(text.values()) for text in texts.values()) / max(len(texts), 1)
    df = {term: sum(term in text for text in texts.values()) for term in terms}
    scores = {}
    for n in allowed & texts.keys():
        found = [term for term in terms if term in texts[n]]
        if found and (leg.match == "any" or len(found) == len(terms)):
            size = sum(texts[n].values())
            scores[n] = 0.0
            for term in found:
                given = (texts[n][term], df[term], len(texts), size, mean, leg.k1, leg.b)
                scores[n] += ranking.bm25(*given)
    return scores


@pytest.mark.parametrize("seed", range(60))
def test_the_best_are_those_of_the_formula_bit_by_bit(seed: int) -> None:
    chance = random.Random(seed)
    vocabulary = [chance.randrange(1, 1 << 63) for _ in range(chance.choice((3, 10, 60)))]
    runs: list[bm25.Run] = []
    texts: dict[int, Text] = {}
    count = 0
    for _ in range(chance.choice((1, 2, 4))):
        own = [drawn(chance, vocabulary) for _ in range(chance.choice((1, 60, 300)))]
        runs.append(run_of(chance, own, count))
        gone = set(runs[-1].dead.tolist())
        texts |= {count + n: text for n, text in enumerate(own) if n not in gone}
        count += len(own)
    terms = sorted(chance.sample([*vocabulary, 1, 2], 3))
    k1, b = chance.choice(((0.9, 0.75), (0.0, 0.75), (1.2, 1.0), (2.0, 0.0)))
    match = chance.choice(("any", "any", "all"))
    leg = TextLeg(terms=("a", "b", "c"), match=match, k1=k1, b=b)  # type: ignore[arg-type]
    scorer = bm25.Scorer(runs, leg, terms)
    for share in (1.0, 0.5, 0.01):
        mask = numpy.array([chance.random() < share for _ in range(count)])
        wanted = expected(texts, terms, leg, set(numpy.flatnonzero(mask).tolist()))
        for k in (1, 3, 10, 1_000):
            docs, scores = scorer.best(k, None if share == 1.0 else mask)
            limit = sorted(wanted.values(), reverse=True)[:k][-1:]
            best = {n: score for n, score in wanted.items() if score >= limit[0]}
            assert dict(zip(docs.tolist(), scores.tolist(), strict=True)) == best
